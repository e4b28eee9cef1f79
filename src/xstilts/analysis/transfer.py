"""Scores, gains of intermediate tasks over the baseline, English-vs-others gaps and trends over model size.

Every quantity is a contrast: a weighted sum of cell scores, one for each seed. Runs with one seed index are paired
(the target stage of the baseline and of an intermediate share data order and head), the items of a target are
resampled once for all its cells, and a contrast with a missing cell is not computed but named.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import log2
from pathlib import Path

import numpy as np

from xstilts.analysis.consistency import METRIC, Consistency
from xstilts.scores import CellLike, Result, Results, TaskOf
from xstilts.stages import Pretrain, Pretrained
from xstilts.stats import RESAMPLES, Floats, Interval, Pool, bootstrap, by_group, combine, predicted, slope_weights
from xstilts.study import UNTUNED
from xstilts.task import Task

BASELINE = "none"
MIN_SIZES = 3  # to draw a trend out: with two, nothing says how far models lie from their line
DOUBLINGS = (1, 2)  # beyond the largest model; a trend is drawn out no further
Place = tuple[str, str, str, int]  # model, intermediate, language, seed
Weights = Mapping[tuple[str, str, str], float]  # model, intermediate, language -> weight in a contrast


@dataclass(frozen=True, slots=True)
class Runs:
    """A weighted sum over languages of one target, after every trained choice of a model that has the scores for it."""

    names: tuple[str, ...]  # of the choices
    values: Floats  # [K, S]
    variance: float  # over seeds, mean over the choices; 0 for one seed

    @classmethod
    def of(cls, names: tuple[str, ...], values: Floats) -> Runs:
        return cls(names, values, float(values.var(axis=1, ddof=1).mean()) if values.shape[1] > 1 else 0.0)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A weighted sum of cell scores, for each seed.

    `alike`: for each model and choice that is trained, its part of the sum as weight * `Runs`: what it would be after each other choice.
    """

    values: Floats  # [S]
    sampled: Floats  # [R, S], on each sample of the items
    trained: bool  # is any cell
    alike: Mapping[tuple[str, str], tuple[float, Runs]] = field(default_factory=dict)

    def scaled(self, scale: float) -> Contrast:
        """The contrast times a number."""
        alike = {place: (scale * weight, runs) for place, (weight, runs) in self.alike.items()}
        return Contrast(scale * self.values, scale * self.sampled, self.trained, alike)

    def pool(self) -> Pool | None:
        """The variance over seeds that the contrast has if the choices scatter alike, each run on its own."""
        if not self.alike:
            return None
        variance = sum(weight**2 * runs.variance for weight, runs in self.alike.values())
        return Pool(variance, min(len(runs.names) for _, runs in self.alike.values()))


@dataclass(frozen=True, slots=True)
class Level:
    """Score of a target in one language, or the mean over its languages (`language` is ""), on its headline metric."""

    model: str
    intermediate: str
    target: str
    language: str
    metric: str
    score: Interval
    same_data: bool


@dataclass(frozen=True, slots=True)
class Gain:
    """Score after an intermediate task minus the baseline's, in points; "" for the mean over languages or targets.

    A model that was not tuned at all is after no task: it has scores and gaps, and no gain.
    `targets` are those that the overall mean is over; it holds the one target else.
    """

    model: str
    intermediate: str
    target: str
    language: str
    metric: str
    baseline: float
    score: float
    gain: Interval
    same_data: bool
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """English score minus the mean of the other languages, in points; `change`: minus the baseline's gap."""

    model: str
    intermediate: str
    target: str
    metric: str
    english: float
    others: float
    gap: Interval
    change: Interval | None
    same_data: bool


@dataclass(frozen=True, slots=True)
class Trend:
    """Points per doubling of the parameters, of the mean score, of its gain or of the gap (`what`)."""

    what: str
    intermediate: str
    target: str
    metric: str
    slope: Interval
    models: tuple[str, ...]
    same_data: bool


@dataclass(frozen=True, slots=True)
class Beyond:
    """A trend drawn out: what a model of `parameters`, `doublings` beyond the largest, would reach if the line went on.

    Nothing was measured there; see `stats.predicted`.
    """

    what: str
    intermediate: str
    target: str
    metric: str
    models: tuple[str, ...]
    doublings: int
    parameters: int
    value: Interval
    same_data: bool


@dataclass(frozen=True, slots=True)
class Transfer:
    """All that the scores of a study say about transfer."""

    levels: tuple[Level, ...]
    gains: tuple[Gain, ...]
    gaps: tuple[Gap, ...]
    trends: tuple[Trend, ...]
    left_out: tuple[str, ...]  # what was not computed, and why
    beyond: tuple[Beyond, ...] = ()


@dataclass(frozen=True, slots=True)
class Sums:
    """Cells whose items are resampled together, with what they count in each group of items."""

    places: tuple[Place, ...]
    owned: tuple[tuple[str, ...], ...]  # the groups of each cell
    names: tuple[str, ...]  # of all groups, sorted
    num: Floats  # [G, K]
    den: Floats  # [G, K]
    values: Floats  # [K] scores on all items

    @classmethod
    def of(cls, results: Sequence[Result]) -> Sums:
        """Parallel languages share their groups; where some lack a group it counts nothing for them."""
        names = tuple(sorted({name for own in {r.groups for r in results} for name in own}))
        number = {name: i for i, name in enumerate(names)}
        moved = {own: np.array([number[name] for name in own], dtype=np.int64) for own in {r.groups for r in results}}
        sums = [by_group(r.headline, moved[r.groups][r.group_of], len(names)) for r in results]
        num, den = (np.stack([pair[side] for pair in sums], axis=1) for side in (0, 1))
        values = np.array([r.headline.value for r in results])
        return cls(tuple(_place(r.cell) for r in results), tuple(r.groups for r in results), names, num, den, values)

    def part(self, kept: Collection[str]) -> Sums | None:
        """The same on some of the groups, of the cells that have any of them; None where there is none."""
        some = {own: any(name in kept for name in own) for own in set(self.owned)}
        columns = [column for column, own in enumerate(self.owned) if some[own]]
        if not columns:
            return None
        rows = [row for row, name in enumerate(self.names) if name in kept]
        num, den = (side[np.ix_(rows, columns)] for side in (self.num, self.den))
        above, below = num.sum(axis=0), den.sum(axis=0)
        values = 100.0 * np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        return Sums(
            tuple(self.places[column] for column in columns),
            tuple(self.owned[column] for column in columns),
            tuple(self.names[row] for row in rows),
            num, den, values,
        )  # fmt: skip


def _place(cell: CellLike) -> Place:
    return cell.model, cell.intermediate, cell.language, cell.seed


@dataclass(frozen=True)
class Sample:
    """The cells of one target with their bootstrap samples."""

    task: Task
    metric: str
    places: Mapping[Place, int]  # -> column
    cells: Mapping[Place, CellLike]  # planned cells, finished or not
    values: Floats  # [K] scores on all items
    sampled: Floats  # [R, K] scores on each sample of the items; columns lie together in memory
    groups: int
    alone: frozenset[Place] = frozenset()  # cells of which the score is known, but not its items
    sums: tuple[Sums, ...] = ()  # what was resampled

    @cached_property
    def _seeds(self) -> Mapping[tuple[str, str, str], tuple[int, ...]]:
        seeds: dict[tuple[str, str, str], set[int]] = {}
        for *place, seed in self.cells:
            seeds.setdefault((place[0], place[1], place[2]), set()).add(seed)
        return {place: tuple(sorted(own)) for place, own in seeds.items()}

    def seeds(self, weights: Weights) -> tuple[int, ...]:
        """The planned seeds of the cells of a contrast, ascending: imported cells may have others than the study's own."""
        every = {self._seeds.get(place, ()) for place in weights}
        return every.pop() if len(every) == 1 else tuple(sorted(set[int]().union(*every)))

    @cached_property
    def pairs(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """(model, intermediate) in the order in which the plan names them, each with its planned languages as in `languages`."""
        found: dict[tuple[str, str], set[str]] = {}
        for model, intermediate, language, _ in self.cells:
            found.setdefault((model, intermediate), set()).add(language)
        first = self.task.train_language
        return {pair: tuple(sorted(own, key=lambda code: (code != first, code))) for pair, own in found.items()}

    @cached_property
    def absent(self) -> Mapping[tuple[str, str], list[tuple[str, int]]]:
        """(model, intermediate) of the planned cells that are not there, each with their languages and seeds in the cells' order."""
        found: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for model, intermediate, language, seed in self.cells:
            if (model, intermediate, language, seed) not in self.places:
                found.setdefault((model, intermediate), []).append((language, seed))
        return found

    @cached_property
    def _every(self) -> frozenset[str]:
        return frozenset(language for own in self.pairs.values() for language in own if language)

    @cached_property
    def _same_data(self) -> frozenset[tuple[str, str]]:
        return frozenset((model, intermediate) for (model, intermediate, _, _), cell in self.cells.items() if cell.same_data)

    def languages(self, model: str, intermediate: str) -> tuple[str, ...]:
        """The planned languages of one choice, the training language first, then by code; ("",) for a mean from elsewhere."""
        return self.pairs.get((model, intermediate), ())

    def whole(self, model: str, intermediate: str) -> bool:
        """True when a choice has every language of the target, or a mean over them from elsewhere: no smaller mean is made."""
        return set(self.languages(model, intermediate)) in ({""}, self._every)

    def has(self, weights: Weights) -> bool:
        """True when every cell of the contrast is there for every seed."""
        seeds = self.seeds(weights)
        return bool(weights) and all((*place, seed) in self.places for place in weights for seed in seeds)

    def _columns(self, weights: Weights) -> tuple[Floats, list[int]]:
        """The weights that are not 0, [P], and the columns of their cells, seed by seed for each, P * S."""
        seeds = self.seeds(weights)
        columns = [self.places[*place, seed] for place, weight in weights.items() if weight for seed in seeds]
        return np.array([weight for weight in weights.values() if weight]), columns

    def scores(self, weights: Weights) -> Floats:
        """The contrast's value for each seed on all items, [S]; `has(weights)` must be true."""
        by_place, columns = self._columns(weights)
        return np.asarray(by_place @ self.values[columns].reshape(len(by_place), -1))

    def contrast(self, weights: Weights) -> Contrast:
        """The contrast's values; `has(weights)` must be true."""
        by_place, columns = self._columns(weights)
        seeds = self.seeds(weights)
        values = by_place @ self.values[columns].reshape(len(by_place), -1)
        drawn = self.sampled.T[columns].reshape(len(by_place), -1)  # columns lie together: whole rows of the transpose are copied
        parts: dict[tuple[str, str], dict[str, float]] = {}
        for (model, intermediate, language), weight in weights.items():
            if weight:
                parts.setdefault((model, intermediate), {})[language] = weight
        alike = {}
        for (model, intermediate), part in parts.items():
            if (model, intermediate) in self._trained:
                weight = next(iter(part.values()))
                by_language = tuple((language, each / weight) for language, each in part.items())
                alike[model, intermediate] = (weight, self._runs(model, by_language, seeds))
        return Contrast(values, (by_place @ drawn).reshape(len(seeds), -1).T, bool(alike), alike)

    def trained(self, weights: Weights) -> bool:
        """True when any cell of the contrast is."""
        return any((model, intermediate) in self._trained for (model, intermediate, _), weight in weights.items() if weight)

    @cached_property
    def _trained(self) -> frozenset[tuple[str, str]]:
        trained = ((pl, cell) for pl, cell in self.cells.items() if not isinstance(cell.predict.model, Pretrained | Pretrain))
        return frozenset((model, intermediate) for (model, intermediate, _, _), _ in trained)

    @cached_property
    def _runs_of(self) -> dict[tuple[str, tuple[tuple[str, float], ...], tuple[int, ...]], Runs]:
        return {}

    def _runs(self, model: str, by_language: tuple[tuple[str, float], ...], seeds: tuple[int, ...]) -> Runs:
        """The runs of a model that have these languages and seeds; kept, as most contrasts share theirs."""
        key = model, by_language, seeds
        if key not in self._runs_of:
            names = [step for own, step in self.pairs if own == model and (own, step) in self._trained]
            places = {step: [(model, step, code, seed) for code, _ in by_language for seed in seeds] for step in names}
            there = {step: own for step, own in places.items() if all(place in self.places for place in own)}
            columns = [self.places[place] for own in there.values() for place in own]
            scores = self.values[columns].reshape(len(there), len(by_language), len(seeds))
            self._runs_of[key] = Runs.of(tuple(there), np.array([weight for _, weight in by_language]) @ scores)
        return self._runs_of[key]

    def interval(self, weights: Weights) -> Interval:
        """The contrast's interval; `has(weights)` must be true."""
        key = tuple(weights.items())
        if key not in self._intervals:
            found = self.contrast(weights)
            interval = combine(found.values, found.sampled, self.groups, found.trained, pool=found.pool())
            self._intervals[key] = interval if self.known(weights) else replace(interval, kind="seeds only")
        return self._intervals[key]

    @cached_property
    def _intervals(self) -> dict[tuple[tuple[tuple[str, str, str], float], ...], Interval]:
        """Those that were asked for: most families, genera and scripts are one language, whose own interval is asked for too."""
        return {}

    def known(self, weights: Weights) -> bool:
        """True when the items of every cell of the contrast are known."""
        if not self.alone:
            return True
        seeds = self.seeds(weights)
        return not any((*place, seed) in self.alone for place, weight in weights.items() if weight for seed in seeds)

    def same_data(self, model: str, intermediate: str) -> bool:
        """True when models of this choice read more of the target's training material than the baseline does."""
        return (model, intermediate) in self._same_data


def mean_of(contrasts: Sequence[Contrast], groups: int, known: bool = True, crossed: bool = False) -> Interval:
    """The interval of the mean of contrasts on different targets: seeds paired, items independent.

    `groups` is the smallest number of groups of items among the targets; `known` is false where some items are not; for `crossed` see
    `stats.combine`.
    """
    mean = _mean(contrasts)
    interval = combine(mean.values, mean.sampled, groups, mean.trained, crossed=crossed, pool=mean.pool())
    return interval if known else replace(interval, kind="seeds only")


def _mean(contrasts: Sequence[Contrast]) -> Contrast:
    """The mean of contrasts on different targets. Runs after one choice share its training: they are pooled by choice, over all targets."""
    alike = {}
    for place in dict.fromkeys(place for each in contrasts for place in each.alike):
        parts = [each.alike[place] for each in contrasts if place in each.alike]
        names = tuple(name for name in parts[0][1].names if all(name in runs.names for _, runs in parts))
        lines = [weight * runs.values[[runs.names.index(name) for name in names]] for weight, runs in parts]
        values = np.sum(lines, axis=0) / len(contrasts)
        alike[place] = (1.0, Runs.of(names, values))
    return Contrast(
        np.mean([each.values for each in contrasts], axis=0),
        np.mean([each.sampled for each in contrasts], axis=0),
        any(each.trained for each in contrasts),
        alike,
    )


def transfer(
    results: Results,
    task_of: TaskOf,
    rng: np.random.Generator,
    parameters: Mapping[str, int] | None = None,
    series: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    baseline: str = BASELINE,
) -> Transfer:
    """Everything below for a study's results; trends are over models of one of the `series` whose size `parameters` gives."""
    return transfer_of(draw(results, task_of, rng, resamples), parameters, series, baseline)


def transfer_of(
    samples: Sequence[Sample],
    parameters: Mapping[str, int] | None = None,
    series: Mapping[str, str] | None = None,
    baseline: str = BASELINE,
) -> Transfer:
    """The same of samples that are drawn already."""
    left_out: list[str] = []
    levels = tuple(_levels(samples, left_out))
    per_target = tuple(_gains(samples, baseline, left_out))
    overall = tuple(_overall(samples, baseline, left_out))
    gaps = tuple(_gaps(samples, baseline, left_out))
    trends, beyond = _trends(samples, parameters or {}, series or {}, baseline, left_out)
    return Transfer(levels, per_target + overall, gaps, tuple(trends), tuple(left_out), tuple(beyond))


def draw(results: Results, task_of: TaskOf, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[Sample, ...]:
    """The bootstrap samples of every target, by name: parallel languages in one draw, others each in its own."""
    planned: dict[str, dict[Place, CellLike]] = {}
    for cell in (*(r.cell for r in results.results), *results.missing):
        planned.setdefault(cell.target, {})[_place(cell)] = cell
    done: dict[str, list[Result]] = {}
    for result in results.results:
        done.setdefault(result.cell.target, []).append(result)
    streams = rng.spawn(len(planned))
    return tuple(
        _draw_target(task_of(target), done.get(target, []), planned[target], stream, resamples)
        for target, stream in zip(sorted(planned), streams, strict=True)
    )


def draw_part(samples: Iterable[Sample], kept: Callable[[str], bool], rng: np.random.Generator, resamples: int) -> tuple[Sample, ...]:
    """The same of the groups of items that are kept alone, in draws of their own; without targets of which nothing is left."""
    parts = []
    for sample in samples:
        names = {name for sums in sample.sums for name in sums.names if kept(name)}
        left = [part for sums in sample.sums if (part := sums.part(names)) is not None]
        if left or sample.absent:
            parts.append((sample, left))
    streams = rng.spawn(len(parts))
    return tuple(
        _drawn(sample.task, sample.metric, left, {}, sample.cells, stream, resamples)
        for (sample, left), stream in zip(parts, streams, strict=True)
    )


COLUMNS = (
    *("study", "model", "intermediate", "target", "language", "what", "metric", "estimate", "low", "high"),
    *("seeds", "groups", "interval", "same_data"),
)


def write_csv(study: str, found: Transfer, path: Path, alike: Iterable[Consistency] = ()) -> None:
    """Writes every score, gain, gap, change of a gap, trend and consistency with its interval, one a line, sorted, LF, `repr` of numbers.

    `language` is "mean" for the mean over a target's languages, `target` is "mean" for the mean over targets.
    """
    rows: list[tuple[tuple[str, ...], Interval, bool]] = []
    place: tuple[str, ...]
    for level in found.levels:
        place = (level.model, level.intermediate, level.target, level.language or "mean", "score", level.metric)
        rows.append((place, level.score, level.same_data))
    for gain in found.gains:
        place = (gain.model, gain.intermediate, gain.target or "mean", gain.language or "mean", "gain", gain.metric)
        rows.append((place, gain.gain, gain.same_data))
    for gap in found.gaps:
        place = (gap.model, gap.intermediate, gap.target, "mean", "gap", gap.metric)
        rows.append((place, gap.gap, gap.same_data))
        if gap.change is not None:
            rows.append(((*place[:4], "gap change", gap.metric), gap.change, gap.same_data))
    for trend in found.trends:
        place = ("+".join(trend.models), trend.intermediate, trend.target, "mean", f"{trend.what} per doubling", trend.metric)
        rows.append((place, trend.slope, trend.same_data))
    for out in found.beyond:
        what = f"{out.what} extrapolated to {out.parameters} parameters"
        rows.append((("+".join(out.models), out.intermediate, out.target, "mean", what, out.metric), out.value, out.same_data))
    for one in alike:
        place = (one.model, one.intermediate, one.target, one.language or "mean", "consistency", METRIC)
        rows.append((place, one.rankc, one.same_data))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for place, interval, same in sorted(rows, key=lambda row: (row[0], row[2])):
            numbers = map(repr, (interval.estimate, interval.low, interval.high))
            last = (interval.seeds, interval.groups, interval.kind, "yes" if same else "no")
            writer.writerow([study, *place, *numbers, *last])


def _draw_target(
    task: Task, results: Sequence[Result], cells: Mapping[Place, CellLike], rng: np.random.Generator, resamples: int
) -> Sample:
    by_language: dict[str, list[Result]] = {}
    for result in results:
        by_language.setdefault(result.cell.language, []).append(result)
    pools = [results] if task.parallel else [by_language[language] for language in sorted(by_language)]
    pools = [[result for result in pool if result.alone is None] for pool in pools]
    alone = {_place(result.cell): result.headline.value for result in results if result.alone is not None}
    metric = results[0].headline.metric if results else task.metrics[0]
    return _drawn(task, metric, [Sums.of(pool) for pool in pools if pool], alone, cells, rng, resamples)


def _drawn(
    task: Task,
    metric: str,
    sums: Sequence[Sums],
    alone: Mapping[Place, float],
    cells: Mapping[Place, CellLike],
    rng: np.random.Generator,
    resamples: int,
) -> Sample:
    places = [place for each in sums for place in each.places] + list(alone)
    values = np.concatenate([*(each.values for each in sums), list(alone.values())])
    sampled = [bootstrap(each.num, each.den, resamples, rng) for each in sums]
    sampled += [np.full((resamples, 1), value) for value in alone.values()]
    drawn = np.asfortranarray(np.concatenate(sampled, axis=1) if sampled else np.zeros((resamples, 0)))
    groups = max((len(each.names) for each in sums), default=0)
    where = {place: column for column, place in enumerate(places)}
    return Sample(task, metric, where, cells, values, drawn, groups, frozenset(alone), tuple(sums))


def language_mean(model: str, intermediate: str, languages: Sequence[str], weight: float = 1.0) -> dict[tuple[str, str, str], float]:
    """The contrast that is a choice's mean over languages."""
    return {(model, intermediate, language): weight / len(languages) for language in languages}


def minus(left: Weights, right: Weights) -> dict[tuple[str, str, str], float]:
    """The difference of two contrasts."""
    return {place: left.get(place, 0.0) - right.get(place, 0.0) for place in dict.fromkeys((*left, *right))}


def gap_of(sample: Sample, model: str, intermediate: str) -> dict[tuple[str, str, str], float] | None:
    english, languages = sample.task.train_language, sample.languages(model, intermediate)
    others = [language for language in languages if language != english]
    if english not in languages or not others or not sample.whole(model, intermediate):
        return None
    return minus(language_mean(model, intermediate, [english]), language_mean(model, intermediate, others))


def _levels(samples: Iterable[Sample], left_out: list[str]) -> Iterable[Level]:
    for sample in samples:
        for model, intermediate in sample.pairs:
            same = sample.same_data(model, intermediate)
            whole = sample.whole(model, intermediate)
            if not whole:
                left_out.append(f"mean of {sample.task.name} after {intermediate} ({model}): not scored in all of its languages")
            for language, weights in _by_language(sample, model, intermediate):
                if sample.has(weights) and (language or whole):
                    interval = sample.interval(weights)
                    yield Level(model, intermediate, sample.task.name, language, sample.metric, interval, same)


def _by_language(sample: Sample, model: str, intermediate: str) -> list[tuple[str, Weights]]:
    """("", the mean over the languages), then each language."""
    languages = sample.languages(model, intermediate)
    single: list[tuple[str, Weights]] = [(code, language_mean(model, intermediate, [code])) for code in languages if code]
    return [("", language_mean(model, intermediate, languages)), *single]


def same_languages(sample: Sample, model: str, intermediate: str, baseline: str) -> bool:
    """True when two choices of a model were scored in the same languages, all of them, so that their means may be compared."""
    return sample.languages(model, intermediate) == sample.languages(model, baseline) and sample.whole(model, intermediate)


def _gains(samples: Iterable[Sample], baseline: str, left_out: list[str]) -> Iterable[Gain]:
    for sample in samples:
        for model, intermediate in sample.pairs:
            if intermediate in (baseline, UNTUNED) or (model, baseline) not in sample.pairs:
                continue
            before_of = dict(_by_language(sample, model, baseline))
            alike = same_languages(sample, model, intermediate, baseline)
            for language, after in _by_language(sample, model, intermediate):
                before = before_of.get(language)
                if before is None or not (language or alike) or not sample.has(minus(after, before)):
                    where = language or "mean over languages"
                    same = before is not None and sample.seeds(after) == sample.seeds(before)
                    why = "the two were not scored in the same languages, all of them" if not alike else "the two have not the same seeds"
                    why = "cells are missing" if alike and same else why
                    left_out.append(f"gain of {intermediate} on {sample.task.name}, {where} ({model}): {why}")
                    continue
                yield Gain(
                    model,
                    intermediate,
                    sample.task.name,
                    language,
                    sample.metric,
                    float(sample.scores(before).mean()),
                    float(sample.scores(after).mean()),
                    sample.interval(minus(after, before)),
                    sample.same_data(model, intermediate),
                    (sample.task.name,),
                )


def _overall(samples: Sequence[Sample], baseline: str, left_out: list[str]) -> Iterable[Gain]:
    """The mean gain over targets of each intermediate; targets on the same data apart; seeds paired, items independent."""
    pairs = dict.fromkeys(pair for sample in samples for pair in sample.pairs if pair[1] not in (baseline, UNTUNED))
    for model, intermediate in pairs:
        for same in (False, True):
            chosen = [s for s in samples if (model, intermediate) in s.pairs and s.same_data(model, intermediate) == same]
            if not chosen:
                continue
            parts = []
            seeds: tuple[int, ...] = ()
            for sample in chosen:
                after, before = (language_mean(model, name, sample.languages(model, name)) for name in (intermediate, baseline))
                gain = minus(after, before)
                seeds = seeds or sample.seeds(gain)
                alike = same_languages(sample, model, intermediate, baseline)
                if alike and sample.has(after) and sample.has(before) and sample.has(gain) and sample.seeds(gain) == seeds:
                    parts.append((sample.scores(before), sample.contrast(gain), sample, sample.known(gain)))
            if len(parts) < len(chosen):
                left_out.append(f"mean gain of {intermediate} over targets ({model}): cells are missing")
                continue
            base = float(np.mean([before.mean() for before, *_ in parts]))
            groups, known = min(sample.groups for _, _, sample, _ in parts), all(known for *_, known in parts)
            interval = mean_of([gain for _, gain, _, _ in parts], groups, known)
            names = tuple(sample.task.name for _, _, sample, _ in parts)
            yield Gain(model, intermediate, "", "", "headline", base, base + interval.estimate, interval, same, names)


def _gaps(samples: Iterable[Sample], baseline: str, left_out: list[str]) -> Iterable[Gap]:
    for sample in samples:
        english = sample.task.train_language
        if not any(english in sample.languages(*pair) for pair in sample.pairs):
            left_out.append(f"gap of {sample.task.name}: it has no {english} test rows")
            continue
        for model, intermediate in sample.pairs:
            after, before = gap_of(sample, model, intermediate), gap_of(sample, model, baseline)
            if after is None or not sample.has(after):
                left_out.append(f"gap of {sample.task.name} after {intermediate} ({model}): languages or cells are missing")
                continue
            change = None
            if intermediate not in (baseline, UNTUNED) and before is not None and same_languages(sample, model, intermediate, baseline):
                apart = minus(after, before)
                change = sample.interval(apart) if sample.has(apart) else None
            one = float(sample.scores(language_mean(model, intermediate, [english])).mean())
            gap = sample.interval(after)
            same = sample.same_data(model, intermediate)
            yield Gap(model, intermediate, sample.task.name, sample.metric, one, one - gap.estimate, gap, change, same)


def _comparable(sample: Sample, models: Sequence[str], intermediate: str, baseline: str) -> list[str]:
    """The models scored in the languages and with the seeds of the first, so that one slope may go through them."""

    def shape(model: str) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
        codes = [sample.languages(model, step) for step in (intermediate, baseline)]
        return [(own, sample.seeds(language_mean(model, step, own))) for step, own in zip((intermediate, baseline), codes, strict=True)]

    return [m for m in models if shape(m) == shape(models[0]) and sample.whole(m, intermediate) and sample.whole(m, baseline)]


def ladders(models: Iterable[str], parameters: Mapping[str, int], series: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The models of each series, the smaller first, of at least two sizes.

    What was pretrained on other data, with another tokenizer or for another number of updates differs in more than size.
    """
    found: dict[str, list[str]] = {}
    for model in models:
        if model in parameters and model in series:
            found.setdefault(series[model], []).append(model)
    return [tuple(sorted(own, key=lambda m: parameters[m])) for own in found.values() if len({parameters[m] for m in own}) > 1]


def _trends(
    samples: Sequence[Sample], parameters: Mapping[str, int], series: Mapping[str, str], baseline: str, left_out: list[str]
) -> tuple[list[Trend], list[Beyond]]:
    """Least-squares slopes over log2(parameters): the intervals hold for these models, not for models in general; and what lies beyond."""
    trends: list[Trend] = []
    beyond: list[Beyond] = []
    sized = [m for m in dict.fromkeys(model for sample in samples for model, _ in sample.pairs) if m in parameters]
    every = ladders(sized, parameters, series)
    apart = [m for m in sized if not any(m in own for own in every)]
    if apart and len({parameters[m] for m in sized}) > 1:
        why = "no other size was pretrained on the same data, with the same tokenizer and as many updates, or nothing says so"
        left_out.append(f"trend over model size of {', '.join(apart)}: {why}")
    for sample in samples:
        pairs = sample.pairs
        for intermediate, own in ((i, own) for i in dict.fromkeys(i for _, i in pairs) for own in every):
            models = _comparable(sample, [m for m in own if {(m, intermediate), (m, baseline)} <= set(pairs)], intermediate, baseline)
            if len({parameters[m] for m in models}) < 2:
                continue
            slopes = slope_weights(np.array([log2(parameters[m]) for m in models]))
            codes = sample.languages(models[0], intermediate)
            quantities: dict[str, list[Weights | None]] = {
                "score": [language_mean(m, intermediate, codes) for m in models],
                "gap": [gap_of(sample, m, intermediate) for m in models],
            }
            if intermediate not in (baseline, UNTUNED):
                quantities["gain"] = [minus(language_mean(m, intermediate, codes), language_mean(m, baseline, codes)) for m in models]
            for what, contrasts in quantities.items():
                total: dict[tuple[str, str, str], float] = {}
                for step, contrast in zip(slopes.tolist(), contrasts, strict=True):
                    total |= {place: step * weight for place, weight in (contrast or {}).items()}
                if total and sample.has(total):
                    same = sample.same_data(models[0], intermediate)
                    slope = sample.interval(total)
                    trend = Trend(what, intermediate, sample.task.name, sample.metric, slope, tuple(models), same)
                    trends.append(trend)
                    points = [float(sample.scores(contrast or {}).mean()) for contrast in contrasts]
                    beyond += _beyond(trend, points, [parameters[m] for m in models])
    return trends, beyond


def _beyond(trend: Trend, points: Sequence[float], parameters: Sequence[int]) -> Iterable[Beyond]:
    """The trend drawn out, where it goes through enough sizes and stays where a score can be."""
    if len(set(parameters)) < MIN_SIZES:
        return
    x, y = np.array([log2(count) for count in parameters]), np.array(points)
    for doublings in DOUBLINGS:
        value = predicted(x, y, log2(max(parameters)) + doublings, trend.slope.seeds)
        if trend.what == "score":
            if not 0.0 <= value.estimate <= 100.0:
                return
            value = replace(value, low=max(value.low, 0.0), high=min(value.high, 100.0))
        size = max(parameters) << doublings
        yield Beyond(
            trend.what, trend.intermediate, trend.target, trend.metric, trend.models, doublings, size, value, trend.same_data
        )
