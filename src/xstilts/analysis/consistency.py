"""How far a model ranks the answers of the same item alike in two languages: RankC of each language with the training language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from xstilts.metrics.ranks import score_consistency
from xstilts.scores import CellLike, Ranking, Result, Results, TaskOf, ranked
from xstilts.stages import Pretrain, Pretrained
from xstilts.stats import Floats, Interval, bootstrap, by_group, combine
from xstilts.task import Task

METRIC = "rankc"


@dataclass(frozen=True, slots=True)
class Consistency:
    """RankC (0-100) of a language with the training language, mean over seeds; `language` is "" for the mean over languages."""

    model: str
    intermediate: str
    target: str
    language: str
    rankc: Interval
    same_data: bool


def consistency(
    cells: Iterable[CellLike], results: Results, task_of: TaskOf, rng: np.random.Generator, resamples: int
) -> tuple[tuple[Consistency, ...], tuple[str, ...]]:
    """RankC for classifying and choosing targets whose test items are parallel, and what was left out, with why; in the cells' order."""
    done = {_place(result.cell): result for result in results.results}
    by_target: dict[str, dict[tuple[str, str], dict[str, dict[int, Result | None]]]] = {}
    for cell in cells:
        if ranked(task_of(cell.target)):
            own = by_target.setdefault(cell.target, {}).setdefault((cell.model, cell.intermediate), {})
            own.setdefault(cell.language, {})[cell.seed] = done.get(_place(cell))
    found: list[Consistency] = []
    left_out: list[str] = []
    for (target, choices), stream in zip(sorted(by_target.items()), rng.spawn(len(by_target)), strict=True):
        for (model, intermediate), languages in choices.items():
            first = task_of(target).train_language
            if first not in languages or len(languages) < 2:
                continue
            try:
                found += _of_choice(task_of(target), languages, stream, resamples)
            except _LeftOut as why:
                left_out.append(f"consistency of {target} with {first} after {intermediate} ({model}): {why}")
    return tuple(found), tuple(left_out)


def _place(cell: CellLike) -> tuple[str, str, str, str, int]:
    return (cell.target, cell.model, cell.intermediate, cell.language, cell.seed)


class _LeftOut(Exception):
    """Why a choice has no RankC."""


def _of_choice(
    task: Task, languages: Mapping[str, Mapping[int, Result | None]], rng: np.random.Generator, resamples: int
) -> list[Consistency]:
    """Every language of one choice but the first, then their mean; items are resampled for all of them at once."""
    first = task.train_language
    others = sorted(set(languages) - {first})
    seeds = sorted(languages[first])
    if any(sorted(languages[code]) != seeds for code in others):
        raise _LeftOut("its languages have not the same seeds")
    english = [_read(languages[first][seed]) for seed in seeds]
    group_of, groups = english[0][0].group_of, len(english[0][0].groups)
    columns: list[Floats] = []
    for code in others:
        for seed, (_, one) in zip(seeds, english, strict=True):
            there, other = _read(languages[code][seed])
            if there.ids != english[0][0].ids or not np.array_equal(other.offsets, one.offsets):
                raise _LeftOut(f"its items in {code} are not those in {first}")
            columns.append(by_group(score_consistency(one.scores, other.scores, one.offsets), group_of, groups)[0])
    num = np.stack(columns, axis=1)
    den = np.repeat(np.bincount(group_of, minlength=groups).astype(np.float64)[:, None], num.shape[1], axis=1)
    values = (100 * num.sum(axis=0) / den.sum(axis=0)).reshape(len(others), len(seeds))
    sampled = bootstrap(num, den, resamples, rng).reshape(resamples, len(others), len(seeds))
    cell = english[0][0].cell
    trained = not isinstance(cell.predict.model, Pretrained | Pretrain)
    same = any(each.cell.same_data for own in languages.values() for each in own.values() if each is not None)

    def row(code: str, per_seed: Floats, samples: Floats) -> Consistency:
        return Consistency(cell.model, cell.intermediate, task.name, code, combine(per_seed, samples, groups, trained), same)

    single = [row(code, values[i], sampled[:, i]) for i, code in enumerate(others)]
    return [*single, row("", values.mean(axis=0), sampled.mean(axis=1))]


def _read(result: Result | None) -> tuple[Result, Ranking]:
    if result is None:
        raise _LeftOut("cells are missing")
    if result.ranking is None or int(np.diff(result.ranking.offsets).min()) < 2:
        raise _LeftOut("its predictions hold no score of every answer")
    return result, result.ranking
