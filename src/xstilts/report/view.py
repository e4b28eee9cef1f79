"""A report's numbers by place, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xstilts.analysis.languages import Group, Slope, What
from xstilts.analysis.published import PUBLISHED
from xstilts.analysis.transfer import BASELINE, Gain, Gap, Level, Trend, ladders
from xstilts.errors import DataError
from xstilts.languages import language as find_language
from xstilts.metrics import for_task
from xstilts.plan import Read
from xstilts.report.facts import Report
from xstilts.stats import Interval, holm
from xstilts.task import PARTS, Task


@dataclass(frozen=True)
class View:
    """Look-ups for the page and the Markdown: None where a number was not computed."""

    report: Report

    @cached_property
    def levels(self) -> Mapping[tuple[str, str, str, str], Level]:
        """By model, intermediate, target, language ("" the mean)."""
        return {(r.model, r.intermediate, r.target, r.language): r for r in self.report.transfer.levels}

    @cached_property
    def gains(self) -> Mapping[tuple[str, str, str, str], Gain]:
        """By model, intermediate, target, language ("" the mean over languages)."""
        return {(r.model, r.intermediate, r.target, r.language): r for r in self.report.transfer.gains if r.target}

    @cached_property
    def means(self) -> Mapping[tuple[str, str, bool], Gain]:
        """Mean gains over targets, by model, intermediate, same data."""
        return {(r.model, r.intermediate, r.same_data): r for r in self.report.transfer.gains if not r.target}

    @cached_property
    def gaps(self) -> Mapping[tuple[str, str, str], Gap]:
        """By model, intermediate, target."""
        return {(r.model, r.intermediate, r.target): r for r in self.report.transfer.gaps}

    @cached_property
    def trends(self) -> Mapping[tuple[str, str, str, tuple[str, ...]], Trend]:
        """By what, intermediate, target, models."""
        return {(r.what, r.intermediate, r.target, r.models): r for r in self.report.transfer.trends}

    @cached_property
    def trend_models(self) -> tuple[tuple[str, ...], ...]:
        """The groups of models that trends go through."""
        return tuple(dict.fromkeys(r.models for r in self.report.transfer.trends))

    @cached_property
    def ladders(self) -> tuple[tuple[str, ...], ...]:
        """The models, smaller first, between which size is compared: those that were pretrained alike, of two sizes or more."""
        return tuple(ladders(self.models, self.report.facts.parameters, self.report.facts.series))

    @cached_property
    def consistency(self) -> Mapping[tuple[str, str, str, str], Interval]:
        """RankC with the training language, by model, intermediate, target, language ("" the mean)."""
        return {(r.model, r.intermediate, r.target, r.language): r.rankc for r in self.report.consistency}

    def consistent(self, model: str, target: str) -> tuple[str, ...]:
        """The intermediate choices of a model and target that have a RankC."""
        return tuple(step for step in self.steps if (model, step, target, "") in self.consistency)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The models with a score, the smaller first where sizes are known."""
        scored = {r.model for r in self.report.transfer.levels}
        names = [name for name in self.report.models if name in scored]
        sizes = self.report.facts.parameters
        return tuple(sorted(names, key=lambda name: sizes.get(name, 0))) if all(n in sizes for n in names) else tuple(names)

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """All intermediate choices, the baseline first."""
        scored = {r.intermediate for r in self.report.transfer.levels}
        names = [name for name in self.report.steps if name in scored]
        return tuple(sorted(names, key=lambda name: name != BASELINE))

    @cached_property
    def intermediates(self) -> tuple[str, ...]:
        """The intermediate choices that have a gain."""
        names = {r.intermediate for r in self.report.transfer.gains}
        return tuple(name for name in self.steps if name in names)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The targets in the plan's order."""
        return tuple(self.report.tasks)

    @cached_property
    def _codes(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for row in self.report.transfer.levels:
            found.setdefault(row.target, set()).add(row.language)
        return found

    def languages(self, target: str) -> tuple[str, ...]:
        """The target's languages that are shown: the training language, then by family and name."""
        codes = self._codes.get(target, set()) - {""}
        first = self.task(target).train_language
        return tuple(sorted(codes, key=lambda code: (code != first, family(code), name(code))))

    @cached_property
    def rows(self) -> Mapping[str, tuple[Read, ...]]:
        """What was read, by task: training rows first."""
        order = {part: place for place, part in enumerate(PARTS)}
        reads = sorted(self.report.facts.rows, key=lambda read: order[read.rows.part])
        tasks = dict.fromkeys(read.rows.task for read in self.report.facts.rows)
        return {task: tuple(read for read in reads if read.rows.task == task) for task in tasks}

    @cached_property
    def groups(self) -> Mapping[tuple[str, str, str, str, str, str], Group]:
        """By model, intermediate, target, "score" or "gain", kind of group, its name."""
        return {(g.model, g.intermediate, g.target, g.what, g.kind, g.name): g for g in self.report.languages.groups}

    @cached_property
    def _groups_of(self) -> Mapping[tuple[str, str, str, str], list[Group]]:
        found: dict[tuple[str, str, str, str], list[Group]] = {}
        for group in self.report.languages.groups:
            found.setdefault((group.model, group.target, group.what, group.kind), []).append(group)
        return found

    def groups_of(self, model: str, target: str, what: What, kind: str) -> Sequence[Group]:
        """The groups of one kind that a target's languages make, after every choice of a model."""
        return self._groups_of.get((model, target, what, kind), ())

    def grouped(self, model: str, target: str, kind: str) -> Mapping[str, tuple[str, ...]]:
        """The groups of one kind that a target's languages make, with their languages."""
        return {group.name: group.languages for group in self.groups_of(model, target, "score", kind)}

    def slopes(self, model: str) -> tuple[Slope, ...]:
        """A model's slopes over what is known of the languages."""
        return tuple(row for row in self.report.languages.slopes if row.model == model)

    def slope_words(self, model: str) -> str:
        """How many of a model's slopes stand, those of same data left out."""
        rows = [row for row in self.slopes(model) if not row.same_data and row.fit.slope.sure]
        if not rows:
            return "too few seeds for a verdict"
        stand = sum(p < 0.05 for p in holm(np.array([row.fit.slope.p for row in rows])).tolist())
        return f"{stand or 'no'} of {len(rows)} slopes {'stands' if stand == 1 else 'stand'} after Holm's correction"

    @cached_property
    def marked(self) -> tuple[str, ...]:
        """The sources of the published scores that stand beside a target's."""
        return tuple(dict.fromkeys(row.source for row in PUBLISHED for target in self.targets if target in row.scores))

    def gap_rows(self, model: str, target: str) -> tuple[Gap, ...]:
        """The gaps of a target, in the order of `steps`."""
        return tuple(self.gaps[model, step, target] for step in self.steps if (model, step, target) in self.gaps)

    def task(self, target: str) -> Task:
        return self.report.tasks[target]

    def metric(self, target: str) -> str:
        """What the headline metric is, in words."""
        return for_task(self.task(target))[0].about

    @property
    def seeds(self) -> int:
        """The number of seeds of the plan."""
        return len({row.seed for row in self.report.scores} | {cell.seed for cell in self.report.missing})

    @cached_property
    def scale(self) -> float:
        """The gain that has the full colour in the heat table: the largest shown, at least 5 points."""
        shown = [abs(g.gain.estimate) for g in self.report.transfer.gains if not g.language]
        return max([5.0, *shown])

    def above_chance(self, model: str, step: str, target: str) -> tuple[int, int] | None:
        """(languages whose interval lies above chance, languages), those of the training language left out."""
        chance = self.task(target).chance
        first = self.task(target).train_language
        rows = [r for (m, i, t, code), r in self.levels.items() if (m, i, t) == (model, step, target) and code not in ("", first)]
        if chance is None or not rows:
            return None
        return sum(row.score.low > chance for row in rows), len(rows)

    def target_sure(self) -> bool:
        """True when every interval holds the luck of training too."""
        return all(row.score.kind != "items only" for row in self.report.transfer.levels)

    def items_known(self) -> bool:
        """False when scores were imported without their items."""
        return all(row.score.kind != "seeds only" for row in self.report.transfer.levels)


def name(code: str) -> str:
    """English name of a language, or its code where the table has no row."""
    try:
        return find_language(code).name
    except DataError:
        return code


def family(code: str) -> str:
    """Top-level family of a language; empty where the table has no row."""
    try:
        return find_language(code).family
    except DataError:
        return ""
