"""The report's numbers about languages and costs as CSV: sorted as the page shows them, LF, `repr` of numbers."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from xstilts.report.facts import Report

LANGUAGES = (
    *("study", "model", "intermediate", "target", "what", "kind", "name", "languages", "estimate", "low", "high", "p"),
    *("spread_languages", "spread_seeds", "spread_rest", "same_data"),
)
ANSWERS = (
    *("study", "what", "first", "second", "place", "target", "group", "metric", "estimate", "low", "high", "p", "interval"),
    *("seeds", "groups", "same_data", "alike"),
)
FORGETTING = (
    *("study", "model", "intermediate", "target", "task", "metric", "before", "after", "change", "low", "high", "p", "interval", "seeds"),
    "same_data",
)
COSTS = ("study", "model", "intermediate", "target", "part", "stages", "seconds", "tokens", "operations", "megabytes", "gpu_megabytes")


def write_languages(report: Report, path: Path) -> None:
    """Means over families, genera and scripts, then slopes (`kind` "slope", points a unit of `name`). Raises OSError."""
    study, found = report.facts.study, report.languages
    rows: list[Sequence[object]] = []
    for group in found.groups:
        value = group.value
        place = (study, group.model, group.intermediate, group.target, group.what, group.kind, group.name, " ".join(group.languages))
        rows.append((*place, value.estimate, value.low, value.high, value.p, "", "", "", _yes(group.same_data)))
    for row in found.slopes:
        value, fit = row.fit.slope, row.fit
        place = (study, row.model, row.intermediate, row.target, row.what, "slope", row.covariate, " ".join(row.languages))
        spread = (fit.languages, fit.seeds, fit.rest)
        rows.append((*place, value.estimate, value.low, value.high, value.p, *spread, _yes(row.same_data)))
    _write(path, LANGUAGES, rows)


def write_costs(report: Report, path: Path) -> None:
    """What each choice and target has cost, `part` "alone" and "shared". Raises OSError."""
    rows = [
        (
            *(report.facts.study, cell.model, cell.intermediate, cell.target, part),
            *(spent.stages, spent.seconds, spent.tokens, *map(_or, (spent.operations, spent.megabytes, spent.gpu_megabytes))),
        )
        for cell in report.spent.cells
        for part, spent in (("alone", cell.alone), ("shared", cell.shared))
    ]
    _write(path, COSTS, rows)


def write_forgetting(report: Report, path: Path) -> None:
    """Scores on the intermediate tasks before and after the target's training; `change` is after minus before. Raises OSError."""
    rows = [
        (
            *(report.facts.study, row.model, row.intermediate, row.target, row.task, row.metric, row.before, row.after),
            *(value.estimate, value.low, value.high, value.p, value.kind, value.seeds, _yes(row.same_data)),
        )
        for row in report.kept
        for value in (row.change,)
    ]
    _write(path, FORGETTING, rows)


def write_answers(report: Report, path: Path) -> None:
    """The differences that the question comes to: `first` minus `second`, "mean" over targets. Raises OSError."""
    rows = [
        (
            *(report.facts.study, one.asked.what, one.asked.first, one.asked.second, one.place, one.target or "mean"),
            *(one.group, one.metric),
            *(value.estimate, value.low, value.high, value.p, value.kind, value.seeds, value.groups, _yes(one.same_data), _yes(one.alike)),
        )
        for one in report.answers
        for value in (one.difference,)
    ]
    _write(path, ANSWERS, rows)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _or(value: float | None) -> float | str:
    return "" if value is None else value


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([repr(value) if isinstance(value, float) else value for value in row] for row in rows)
