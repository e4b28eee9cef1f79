"""Two studies side by side: the cells that both have, what lies between them, and how the two were designed differently.

Both are drawn as one study: test items that both scored are resampled once for both, so that their difficulty cancels; others are
independent. Seeds are paired by rank, since the n-th run of one study has nothing more in common with the n-th of the other than
with any other run unless their seeds are the same numbers, in which case they share the order of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from xstilts.analysis.transfer import BASELINE, Sample, Weights, draw, language_mean, minus
from xstilts.canon import plain
from xstilts.errors import StudyError
from xstilts.plan import Cell, Plan
from xstilts.scores import Find, Results, TaskOf, load
from xstilts.stats import RESAMPLES, Interval
from xstilts.store import flat

What = Literal["score", "gain"]
SIDES = ("A", "B")


@dataclass(frozen=True, slots=True)
class Difference:
    """Score, or gain over the baseline, in study B minus that in A, in points; `language` is "" for the mean over those of both."""

    what: What
    model: str
    intermediate: str
    target: str
    language: str
    metric: str
    values: tuple[float, float]  # in A, in B
    difference: Interval
    same_rows: bool  # the same test rows in both
    same_data: bool  # in either, more of the target's training material was read than by the baseline


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two studies have in common, and what not."""

    differences: tuple[Difference, ...]
    design: tuple[tuple[str, str, str], ...]  # what, in A, in B
    left_out: tuple[str, ...]  # what was not compared, and why


def compare(one: Plan, other: Plan, find: Find, task_of: TaskOf, rng: np.random.Generator, resamples: int = RESAMPLES) -> Comparison:
    """Every score and gain that both studies have, means first. Raises StudyError where they share no cell, ScoreError as `scores.load`."""
    places = [{(c.model, c.intermediate, c.target, c.language) for c in plan.cells} for plan in (one, other)]
    both = places[0] & places[1]
    if not both:
        raise StudyError(
            f"{one.study.name} and {other.study.name} share no cell: model, intermediate choice, target and language of the same names"
        )
    loaded = [load(_side(plan, side, both), find, task_of) for side, plan in zip(SIDES, (one, other), strict=True)]
    results = Results(tuple(r for each in loaded for r in each.results), tuple(c for each in loaded for c in each.missing))
    rows = [{(c.model, c.target, c.language): c.predict.rows for c in plan.cells} for plan in (one, other)]
    found: list[Difference] = []
    left_out: list[str] = []
    for sample in draw(results, task_of, rng, resamples):
        name = sample.task.name
        first = sample.task.train_language
        for model, step in dict.fromkeys((c.model, c.intermediate) for c in one.cells if c.target == name):
            shared = {step_: {code for m, i, t, code in both if (m, i, t) == (model, step_, name)} for step_ in (step, BASELINE)}
            codes = sorted(shared[step], key=lambda code: (code != first, code))
            every = [("", tuple(codes)), *((code, (code,)) for code in codes)] if codes else []
            for language, own in every:
                made: list[tuple[What, Callable[[str], Weights]]] = [("score", partial(_score, model, step, own))]
                if step != BASELINE and set(own) <= shared[BASELINE]:
                    made.append(("gain", partial(_gain, model, step, own)))
                for what, weights in made:
                    here, there = weights("A"), weights("B")
                    if why := _lacking(sample, here, there):
                        left_out.append(f"{what} of {name} after {step} ({model}), {language or 'mean'}: {why}")
                        continue
                    values = (float(sample.scores(here).mean()), float(sample.scores(there).mean()))
                    apart = sample.interval(minus(there, here))
                    same_rows = all(rows[0][model, name, code] == rows[1][model, name, code] for code in own)
                    same = any(sample.same_data(f"{side} {model}", step) for side in SIDES)
                    found.append(Difference(what, model, step, name, language, sample.metric, values, apart, same_rows, same))
    return Comparison(tuple(found), tuple(_design(one, other)), tuple(left_out))


def _score(model: str, step: str, codes: Sequence[str], side: str) -> Weights:
    return language_mean(f"{side} {model}", step, codes)


def _gain(model: str, step: str, codes: Sequence[str], side: str) -> Weights:
    return minus(_score(model, step, codes, side), _score(model, BASELINE, codes, side))


def _side(plan: Plan, side: str, both: set[tuple[str, str, str, str]]) -> list[Cell]:
    """The cells of one study that the other has too, its models under a name of their own, its seeds by rank."""
    rank = {seed: place for place, seed in enumerate(sorted({cell.seed for cell in plan.cells}))}
    kept = (cell for cell in plan.cells if (cell.model, cell.intermediate, cell.target, cell.language) in both)
    return [replace(cell, model=f"{side} {cell.model}", seed=rank[cell.seed]) for cell in kept]


def _lacking(sample: Sample, here: Weights, there: Weights) -> str:
    if sample.seeds(here) != sample.seeds(there):
        return f"{len(sample.seeds(here))} seeds in A, {len(sample.seeds(there))} in B"
    missing = [side for side, weights in zip(SIDES, (here, there), strict=True) if not sample.has(weights)]
    return f"cells are missing in {' and '.join(missing)}" if missing else ""


def _design(one: Plan, other: Plan) -> Iterable[tuple[str, str, str]]:
    """What the two studies and the rows that they read do not share; names, questions and notes are left out."""
    said = ("name", "question", "notes", "type")
    left, right = (
        {path: value for path, value in flat(plain(plan.study)).items() if path.partition(".")[0] not in said} for plan in (one, other)
    )
    for path in dict.fromkeys((*left, *right)):
        if left.get(path) != right.get(path):
            yield path, left.get(path, "–"), right.get(path, "–")
    lines = [set(plan.data_lines) for plan in (one, other)]
    yield from (("rows", line, "–") for line in one.data_lines if line not in lines[1])
    yield from (("rows", "–", line) for line in other.data_lines if line not in lines[0])
