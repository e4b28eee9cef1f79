"""Scores and gains against what is known of the languages: means by family, genus and script, and slopes over distances and texts.

The training language is left out throughout: it was trained on, the others were not. A mean over a group of languages is a contrast
like any other (`transfer`). A slope is a statement about languages: they are random effects, as the seeds are (`stats.mixed`), so that an
interval of few languages is wide, and it holds for languages like these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from xstilts.analysis.transfer import BASELINE, Sample, Weights, language_mean, minus, same_languages
from xstilts.languages import LANGUAGES
from xstilts.stats import Interval, Mixed, mixed

What = Literal["score", "gain"]
GROUPS = ("family", "genus", "script")
MIN_LANGUAGES = 4  # a slope has two degrees of freedom less


@dataclass(frozen=True, slots=True)
class Covariate:
    """Something known of languages: a number for each."""

    name: str
    about: str  # unit and source
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Group:
    """Mean score or gain over the languages of one family, genus or script."""

    model: str
    intermediate: str
    target: str
    what: What
    kind: str
    name: str
    languages: tuple[str, ...]
    value: Interval
    same_data: bool


@dataclass(frozen=True, slots=True)
class Slope:
    """Points for each unit of a covariate, over the languages that have one."""

    model: str
    intermediate: str
    target: str
    what: What
    covariate: str
    fit: Mixed
    languages: tuple[str, ...]
    same_data: bool


@dataclass(frozen=True, slots=True)
class Languages:
    """What scores and gains have to do with languages."""

    groups: tuple[Group, ...] = ()
    slopes: tuple[Slope, ...] = ()
    covariates: tuple[Covariate, ...] = ()  # those that were looked at, once each; values are not those of one model


Known = Callable[[str, str, Sequence[str]], Iterable[Covariate]]  # model, target, its languages


def by_language(samples: Iterable[Sample], known: Known, baseline: str = BASELINE) -> Languages:
    """Every group with at least one language and every slope with enough of them, in the samples' order."""
    groups: list[Group] = []
    slopes: list[Slope] = []
    seen: dict[str, Covariate] = {}
    for sample in samples:
        first = sample.task.train_language
        for model, step in sample.pairs:
            codes = [code for code in sample.languages(model, step) if code and code != first]
            covariates = list(known(model, sample.task.name, codes))
            same = sample.same_data(model, step)
            quantities: list[tuple[What, Callable[[Sequence[str]], Weights]]] = [("score", partial(language_mean, model, step))]
            if step != baseline and same_languages(sample, model, step, baseline):
                quantities.append(("gain", partial(_gain, model, step, baseline)))
            for what, weights in quantities:
                there = [code for code in codes if sample.has(weights([code]))]
                for kind in GROUPS:
                    for name, own in grouped(kind, codes).items():
                        if set(own) <= set(there):
                            interval = sample.interval(weights(own))
                            groups.append(Group(model, step, sample.task.name, what, kind, name, own, interval, same))
                for covariate in covariates:
                    own = tuple(code for code in there if code in covariate.values)
                    fit = _fit(sample, [weights([code]) for code in own], np.array([covariate.values[code] for code in own]))
                    if fit is not None:
                        slopes.append(Slope(model, step, sample.task.name, what, covariate.name, fit, own, same))
                        seen.setdefault(covariate.name, covariate)
    return Languages(tuple(groups), tuple(slopes), tuple(seen.values()))


def _gain(model: str, step: str, baseline: str, codes: Sequence[str]) -> Weights:
    return minus(language_mean(model, step, codes), language_mean(model, baseline, codes))


def grouped(kind: str, codes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Languages by their family, genus or script, in alphabetical order; those without a row in the table are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for code in codes:
        if code in LANGUAGES:
            name = str(getattr(LANGUAGES[code], kind))
            found[name] = (*found.get(name, ()), code)
    return dict(sorted(found.items()))


def _fit(sample: Sample, contrasts: Sequence[Weights], x: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Mixed | None:
    """The slope over languages; None with too few of them, with one value for all, or where their seeds are not the same."""
    if len(contrasts) < MIN_LANGUAGES or float(np.ptp(x)) == 0.0:
        return None
    if len({sample.seeds(weights) for weights in contrasts}) > 1:
        return None
    return mixed(np.stack([sample.scores(weights) for weights in contrasts]), x, any(map(sample.trained, contrasts)))
