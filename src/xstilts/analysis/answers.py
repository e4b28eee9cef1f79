"""What a study's question comes to: differences between two models or two choices, with their intervals.

A difference is a contrast like any other (`transfer`): seeds with one index are paired, the items of a target are resampled once for both
sides. Two models are two single pretrainings: what differs between them beside their size is in the difference and not in the interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xstilts.analysis.languages import grouped
from xstilts.analysis.transfer import BASELINE, Sample, Weights, gap_of, language_mean, mean_of, minus
from xstilts.stats import Interval
from xstilts.study import UNTUNED, Asked


@dataclass(frozen=True, slots=True)
class Answer:
    """One difference that a study asks for, in points; `target` is "" for the mean over `targets`.

    `place` is the choice after which two models are compared, or the model in which two choices are. `group` is the family or script
    whose languages it is over; "" for all. `alike` is False for two models of which nothing says that they differ in size alone.
    """

    asked: Asked
    place: str
    target: str
    group: str
    metric: str
    difference: Interval
    targets: tuple[str, ...]
    same_data: bool
    of_models: bool
    alike: bool


Choice = tuple[str, str]  # model, intermediate


def answers(
    samples: Sequence[Sample], asked: Iterable[Asked], series: Mapping[str, str], order: Sequence[str], baseline: str = BASELINE
) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
    """Every difference that the cells give, and what was not computed and why. Targets on the same data have a mean of their own.

    `order`: every model and every choice, as they are to be named.
    """
    found: list[Answer] = []
    left_out: list[str] = []
    pairs = dict.fromkeys(pair for sample in samples for pair in sample.pairs)
    for one in asked:
        of_models = any(model == one.first for model, _ in pairs)
        alike = not of_models or (one.first in series and series[one.first] == series.get(one.second))
        for place in sorted({step if of_models else model for model, step in pairs}, key=order.index):
            if one.what == "gain" and place in (baseline, UNTUNED):
                continue
            left, right = ((one.first, place), (one.second, place)) if of_models else ((place, one.first), (place, one.second))
            for same in (False, True):
                own = [s for s in samples if {left, right} <= s.pairs.keys() and _same(s, left, right) == same and _has(s, one, left)]
                parts = [(s, weights) for s in own if (weights := _difference(s, one, left, right, baseline)) is not None]
                for lacking in (s for s in own if not any(s is there for there, _ in parts)):
                    why = "cells, languages or seeds are missing on one side"
                    left_out.append(f"{one.what} of {one.first} minus {one.second} on {lacking.task.name} ({place}): {why}")
                for sample, weights in parts:
                    name = sample.task.name
                    found.append(
                        Answer(one, place, name, "", sample.metric, sample.interval(weights), (name,), same, of_models, alike)
                    )
                    for group, part in _grouped(sample, one, left, right, baseline):
                        found.append(
                            Answer(one, place, name, group, sample.metric, sample.interval(part), (name,), same, of_models, alike)
                        )
                if parts and len(parts) == len(own) and len({s.seeds(weights) for s, weights in parts}) == 1:
                    known = all(s.known(weights) for s, weights in parts)
                    mean = mean_of([s.contrast(weights) for s, weights in parts], min(s.groups for s, _ in parts), known)
                    names = tuple(s.task.name for s, _ in parts)
                    found.append(Answer(one, place, "", "", "headline", mean, names, same, of_models, alike))
    return tuple(found), tuple(left_out)


def _has(sample: Sample, asked: Asked, choice: Choice) -> bool:
    """False for a gap of a target that is not scored in its training language, or in no other: there is none to be missing."""
    return asked.what != "gap" or gap_of(sample, *choice) is not None


def _same(sample: Sample, left: Choice, right: Choice) -> bool:
    return sample.same_data(*left) or sample.same_data(*right)


def _difference(sample: Sample, asked: Asked, left: Choice, right: Choice, baseline: str) -> Weights | None:
    """None where the two sides were not scored alike, or the sample has no gap."""
    codes = sample.languages(*left)
    if sample.languages(*right) != codes or not sample.whole(*left):
        return None
    if asked.what == "gap":
        one, other = gap_of(sample, *left), gap_of(sample, *right)
        return None if one is None or other is None else _there(sample, one, other)
    return _there(sample, *(_quantity(asked, choice, baseline, codes) for choice in (left, right)))


def _grouped(sample: Sample, asked: Asked, left: Choice, right: Choice, baseline: str) -> Iterator[tuple[str, Weights]]:
    codes = [code for code in sample.languages(*left) if code and code != sample.task.train_language]
    for name, own in grouped(asked.by, codes).items() if asked.by else ():
        part = _there(sample, *(_quantity(asked, choice, baseline, own) for choice in (left, right)))
        if part is not None:
            yield name, part


def _quantity(asked: Asked, choice: Choice, baseline: str, codes: Sequence[str]) -> Weights:
    model, step = choice
    score = language_mean(model, step, codes)
    return score if asked.what == "score" else minus(score, language_mean(model, baseline, codes))


def _there(sample: Sample, one: Weights, other: Weights) -> Weights | None:
    weights = minus(one, other)
    return weights if sample.seeds(one) == sample.seeds(other) and sample.has(weights) else None
