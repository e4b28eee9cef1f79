"""How far a model ranks the answers of the same item alike in two languages: RankC of each language with the training language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xstilts.metrics.ranks import score_consistency
from xstilts.scores import PREDICTIONS, CellLike, Find, Ranking, TaskOf, read_ranking
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
    cells: Iterable[CellLike], find: Find, task_of: TaskOf, rng: np.random.Generator, resamples: int
) -> tuple[tuple[Consistency, ...], tuple[str, ...]]:
    """RankC for classifying and choosing targets whose test items are parallel, and what was left out, with why.

    `find(key)` gives the folder of a finished Predict entry, or None. Raises ScoreError for a file that is no prediction file.
    """
    by_target: dict[str, dict[tuple[str, str], dict[str, dict[int, CellLike]]]] = {}
    for cell in cells:
        task = task_of(cell.target)
        if task.parallel and task.kind in ("classify", "choose"):
            own = by_target.setdefault(cell.target, {}).setdefault((cell.model, cell.intermediate), {})
            own.setdefault(cell.language, {})[cell.seed] = cell
    found: list[Consistency] = []
    left_out: list[str] = []
    for (target, choices), stream in zip(sorted(by_target.items()), rng.spawn(len(by_target)), strict=True):
        for (model, intermediate), languages in choices.items():
            first = task_of(target).train_language
            if first not in languages or len(languages) < 2:
                continue
            try:
                found += _of_choice(task_of(target), languages, find, stream, resamples)
            except _LeftOut as why:
                left_out.append(f"consistency of {target} with {first} after {intermediate} ({model}): {why}")
    return tuple(found), tuple(left_out)


class _LeftOut(Exception):
    """Why a choice has no RankC."""


def _of_choice(
    task: Task, languages: Mapping[str, Mapping[int, CellLike]], find: Find, rng: np.random.Generator, resamples: int
) -> list[Consistency]:
    """Every language of one choice but the first, then their mean; items are resampled for all of them at once."""
    first = task.train_language
    others = sorted(set(languages) - {first})
    seeds = sorted(languages[first])
    if any(sorted(languages[code]) != seeds for code in others):
        raise _LeftOut("its languages have not the same seeds")
    read: dict[Path, Ranking] = {}
    english = [_ranking(languages[first][seed], find, read) for seed in seeds]
    group_of, groups = _groups(english[0])
    columns: list[Floats] = []
    for code in others:
        for seed, one in zip(seeds, english, strict=True):
            other = _ranking(languages[code][seed], find, read)
            if other.ids != english[0].ids or not np.array_equal(other.offsets, one.offsets):
                raise _LeftOut(f"its items in {code} are not those in {first}")
            columns.append(by_group(score_consistency(one.scores, other.scores, one.offsets), group_of, groups)[0])
    num = np.stack(columns, axis=1)
    den = np.repeat(np.bincount(group_of, minlength=groups).astype(np.float64)[:, None], num.shape[1], axis=1)
    values = (100 * num.sum(axis=0) / den.sum(axis=0)).reshape(len(others), len(seeds))
    sampled = bootstrap(num, den, resamples, rng).reshape(resamples, len(others), len(seeds))
    cell = languages[first][seeds[0]]
    trained = not isinstance(cell.predict.model, Pretrained | Pretrain)
    same = any(each.same_data for own in languages.values() for each in own.values())

    def row(code: str, per_seed: Floats, samples: Floats) -> Consistency:
        return Consistency(cell.model, cell.intermediate, task.name, code, combine(per_seed, samples, groups, trained), same)

    single = [row(code, values[i], sampled[:, i]) for i, code in enumerate(others)]
    return [*single, row("", values.mean(axis=0), sampled.mean(axis=1))]


def _ranking(cell: CellLike, find: Find, read: dict[Path, Ranking]) -> Ranking:
    folder = find(cell.predict.key)
    if folder is None:
        raise _LeftOut("cells are missing")
    if folder not in read:
        read[folder] = read_ranking(folder / PREDICTIONS)
    found = read[folder]
    if int(np.diff(found.offsets).min()) < 2:
        raise _LeftOut("its predictions hold no score of every answer")
    return found


def _groups(ranking: Ranking) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    names, group_of = np.unique(np.array(ranking.groups, dtype=np.str_), return_inverse=True)
    return group_of.astype(np.int64), len(names)
