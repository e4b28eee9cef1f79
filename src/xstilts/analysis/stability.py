"""How alike runs come out that differ in their seed alone: runs that failed, and answers on which seeds, and languages, agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import exp, lgamma, log

import numpy as np

from xstilts.scores import Result, TaskOf
from xstilts.stages import Pretrain, Pretrained

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Stability:
    """The runs of one choice and target, by their accuracy in the training language; and how far their answers agree."""

    model: str
    intermediate: str
    target: str
    runs: int  # seeds; 0 where nothing was trained, or accuracy is not what is measured
    failed: tuple[int, ...]  # seeds not better than always giving the most frequent label: failed runs in Mosbach et al. 2021
    unclear: tuple[int, ...]  # these, and seeds not better by more than chance allows (exact binomial test, one-sided, at 5 %)
    majority: float | None  # share of the most frequent label, 0-100
    between_seeds: float | None  # share of items (0-100) with one answer in two runs, mean over pairs of seeds and languages
    between_languages: float | None  # the same of a language and the training language in one run, mean over languages and seeds


def stability(results: Iterable[Result], task_of: TaskOf) -> tuple[Stability, ...]:
    """One row for each choice and target with something to say, in the order of the results."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if result.alone is None:
            cell = result.cell
            found.setdefault((cell.model, cell.intermediate, cell.target), []).append(result)
    rows = []
    for (model, step, target), own in found.items():
        task = task_of(target)
        failed, unclear, runs, majority = [], [], 0, None
        for result in own:
            trained = not isinstance(result.cell.predict.model, Pretrained | Pretrain)
            accuracy = next((items for items in result.items if items.metric == "accuracy"), None)
            if result.cell.language != task.train_language or result.majority is None or accuracy is None or not trained:
                continue
            runs, majority = runs + 1, result.majority
            if accuracy.value <= result.majority:
                failed.append(result.cell.seed)
            single = bool((accuracy.den == 1).all())  # tags of one sentence are not independent
            if accuracy.value <= result.majority or (
                single and at_least(round(float(accuracy.num.sum())), len(accuracy), result.majority / 100) > LEVEL
            ):
                unclear.append(result.cell.seed)
        seeds, languages = _between_seeds(own), _between_languages(own, task.train_language) if task.parallel else None
        if runs or seeds is not None or languages is not None:
            rows.append(Stability(model, step, target, runs, tuple(failed), tuple(unclear), majority, seeds, languages))
    return tuple(rows)


def at_least(right: int, items: int, rate: float) -> float:
    """P(X >= right) of a binomial distribution of `items` trials: the exact test that accuracy exceeds a rate."""
    if right <= 0 or rate >= 1.0:
        return 1.0
    if rate <= 0.0:
        return 0.0
    whole = lgamma(items + 1)
    ways = (whole - lgamma(k + 1) - lgamma(items - k + 1) + k * log(rate) + (items - k) * log(1 - rate) for k in range(right, items + 1))
    return min(1.0, sum(map(exp, ways)))


def _between_seeds(own: Iterable[Result]) -> float | None:
    by_language: dict[str, list[Result]] = {}
    for result in own:
        by_language.setdefault(result.cell.language, []).append(result)
    shares = []
    for runs in by_language.values():
        trained = {run.cell.predict.key: run for run in runs}  # an untrained model has one answer for all seeds
        for one, other in combinations(trained.values(), 2):
            if one.answers is not None and other.answers is not None:
                shares.append(float((one.answers == other.answers).mean()))
    return 100 * float(np.mean(shares)) if shares else None


def _between_languages(own: Iterable[Result], first: str) -> float | None:
    by_seed: dict[int, dict[str, Result]] = {}
    for result in own:
        by_seed.setdefault(result.cell.seed, {})[result.cell.language] = result
    shares = []
    for runs in by_seed.values():
        here = _labels(runs.get(first))
        for code, run in runs.items():
            there = _labels(run) if code != first else None
            # Labels are one set for all languages; with another order of the items nothing is compared.
            if here is not None and there is not None and run.ids == runs[first].ids:
                shares.append(float((here == there).mean()))
    return 100 * float(np.mean(shares)) if shares else None


def _labels(run: Result | None) -> np.ndarray[tuple[int], np.dtype[np.object_]] | None:
    if run is None or run.answers is None or run.majority is None:
        return None
    return np.array(run.names, dtype=object)[run.answers]


def counted(rows: Iterable[Stability]) -> Mapping[str, int]:
    """Runs, failed ones and unclear ones of a whole study."""
    every = list(rows)
    return {"runs": sum(r.runs for r in every), "failed": sum(len(r.failed) for r in every), "unclear": sum(len(r.unclear) for r in every)}
