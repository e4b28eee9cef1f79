"""A study's report: one page to read, the same as Markdown, and its numbers as CSV."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xstilts import scores
from xstilts.analysis import transfer
from xstilts.analysis.answers import answers
from xstilts.analysis.claims import Claims, Finding, judge
from xstilts.analysis.consistency import consistency
from xstilts.analysis.forgetting import forgetting
from xstilts.analysis.languages import by_language
from xstilts.analysis.stability import stability
from xstilts.plan import Remembered
from xstilts.report import serving, tables
from xstilts.report.facts import Cost, Facts, Report
from xstilts.report.latex import latex
from xstilts.report.text import claims_table, comparison, markdown, table
from xstilts.report.view import View
from xstilts.scores import CellLike, Find, Result, Results, TaskOf
from xstilts.stats import resamples_of
from xstilts.tasks import task as find_task

if TYPE_CHECKING:
    from xstilts.report.drawings import Format

__all__ = ["FILES", "Cost", "Facts", "Report", "build", "claims_table", "comparison", "evaluate", "table", "write_report"]


def build(facts: Facts, cells: Iterable[CellLike], find: Find, out: Path, rng_seed: int = 0) -> Path:
    """Scores the finished cells and writes the report into `out`; the path of its page. Raises ScoreError or OSError."""
    return write_report(evaluate(facts, cells, find, rng_seed), out)


def evaluate(
    facts: Facts,
    cells: Iterable[CellLike],
    find: Find,
    rng_seed: int = 0,
    task_of: TaskOf = find_task,
    resamples: int | None = None,
    given: Iterable[Result] = (),
    claims: Claims | None = None,
    remembered: Iterable[Remembered] = (),
) -> Report:
    """The scores of the finished cells and what they say. The same cells, predictions and seed give the same report.

    `given` are results that need no prediction file (imported scores); `claims` are tested where they are given; `remembered` are the
    predictions that tell what was forgotten. `resamples` is that of `stats.resamples_of` where none is given.
    """
    asked, known = tuple(cells), tuple(given)
    resamples = resamples or resamples_of(len(asked) + len(known))
    found_here = scores.load(asked, find, task_of)
    results = Results((*found_here.results, *known), found_here.missing)
    planned = (*asked, *(result.cell for result in known))
    samples = transfer.draw(results, task_of, np.random.default_rng(rng_seed), resamples)
    found = transfer.transfer_of(samples, facts.parameters, facts.series)
    # streams of their own, so that the others stay as they are
    alike, left_out = consistency(asked, found_here, task_of, np.random.default_rng((rng_seed, 1)), resamples)
    found = replace(found, left_out=(*found.left_out, *left_out))
    rows = scores.scores_of(facts.study, results)
    tasks = {name: task_of(name) for name in dict.fromkeys(cell.target for cell in planned)}
    models = tuple(dict.fromkeys(cell.model for cell in planned))
    steps = tuple(dict.fromkeys(cell.intermediate for cell in planned))
    judged: tuple[Finding, ...] = ()
    if claims is not None:
        judged = judge(claims, results, samples, np.random.default_rng((rng_seed, 2)), facts.seen, facts.sources, resamples)
    languages = by_language(samples, facts.texts.known)
    answered, left_out = answers(samples, facts.asked, facts.series, (*models, *steps))
    found = replace(found, left_out=(*found.left_out, *left_out))
    kept, left_out = forgetting(remembered, find, task_of, np.random.default_rng((rng_seed, 3)), resamples)
    found = replace(found, left_out=(*found.left_out, *left_out))
    return Report(
        facts, models, steps, tasks, len(planned), rows, found, results.missing, resamples, rng_seed, alike, judged,
        languages=languages, stability=stability(results.results, task_of), answers=answered, kept=kept,
    )  # fmt: skip


FILES = ("index.html", "report.md", "report.tex", "scores.csv", "transfer.csv", "languages.csv", "costs.csv", "answers.csv")


def write_report(report: Report, out: Path, charts: Format | None = None) -> Path:
    """Writes `FILES` into `out` (made when absent), deployment.csv and forgetting.csv where that was measured, and every chart as a file
    in its `charts` where a format is given.

    Gives index.html's path. Raises OSError when the folder cannot be written.
    """
    from xstilts.report.drawings import drawn, write
    from xstilts.report.page import page

    drawings = drawn(View(report))
    texts = {"report.md": markdown(report), "report.tex": latex(report), "index.html": page(report, drawings)}
    out.mkdir(parents=True, exist_ok=True)
    scores.write_csv(report.scores, out / "scores.csv")
    transfer.write_csv(report.facts.study, report.transfer, out / "transfer.csv", report.consistency)
    tables.write_languages(report, out / "languages.csv")
    tables.write_costs(report, out / "costs.csv")
    tables.write_answers(report, out / "answers.csv")
    if report.served is not None:
        serving.write_csv(report, out / "deployment.csv")
    if report.kept:
        tables.write_forgetting(report, out / "forgetting.csv")
    if charts is not None:
        write(drawings, charts, out / "charts")
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    return out / "index.html"
