"""Tables for a paper: LaTeX with booktabs, each value with the half width of its 95 % interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xstilts.report.facts import Report
from xstilts.report.text import cost_table
from xstilts.report.view import View
from xstilts.report.words import clear, half, number, signed
from xstilts.stats import Interval

_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\N{MINUS SIGN}": "$-$", "–": "--"}
_SPECIAL |= {mark: f"\\{mark}" for mark in "&%$#_{}"}


def escaped(text: str) -> str:
    """The text as LaTeX prints it."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def latex(report: Report) -> str:
    """Scores, gains, gaps and costs as tables of a document that loads booktabs."""
    view = View(report)
    blocks = ["% \\usepackage{booktabs}; points on 0-100, \\pm half of the 95 % interval; a star: stands after Holm's correction"]
    tested = [g for g in report.transfer.gains if g.target and not g.language and not g.same_data]
    standing = {(row.model, row.intermediate, row.target) for row in clear(tested)}
    for model in view.models:
        at = f" of {model}" if len(view.models) > 1 else ""
        scores = ([step, *(_score(view, model, step, t) for t in view.targets)] for step in view.steps)
        blocks.append(_table(f"Scores{at}, mean over languages and {view.seeds} seeds.", ["", *view.targets], scores))
        if view.intermediates:
            gains = (
                [step, *(_gain(view, model, step, t, standing) for t in view.targets), _mean(view, model, step)]
                for step in view.intermediates
            )
            caption = f"Gains{at} over the baseline. = same training data as the target, not in the mean."
            blocks.append(_table(caption, ["", *view.targets, "mean"], gains))
        gaps = [row for t in view.targets for row in view.gap_rows(model, t)]
        if gaps:
            rows = (
                [
                    *(row.target, row.intermediate, number(row.english), number(row.others)),
                    *(_value(row.gap, sign=False), _value(row.change) if row.change else ""),
                ]
                for row in gaps
            )
            blocks.append(_table(f"English minus the others{at}.", ["target", "after", "English", "others", "gap", "change"], rows))
    if report.spent.cells:
        head, *cost = cost_table(report)
        blocks.append(_table("Cost of each choice and target.", head, cost))
    return "\n\n".join(blocks) + "\n"


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" & ".join(escaped(cell) if not cell.startswith("$") else cell for cell in row) + r" \\" for row in (head, *rows)]
    columns = "l" + "r" * (len(head) - 1)
    return "\n".join([
        r"\begin{table}", r"\centering", f"\\caption{{{escaped(caption)}}}", f"\\begin{{tabular}}{{{columns}}}", r"\toprule",
        lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ])  # fmt: skip


def _value(interval: Interval, sign: bool = True, mark: str = "") -> str:
    """ "$+1.2 \\pm 0.3$"."""
    shown = (signed if sign else number)(interval.estimate).replace("\N{MINUS SIGN}", "-")
    return f"${shown} \\pm {half(interval)}{mark}$"


def _score(view: View, model: str, step: str, target: str) -> str:
    level = view.levels.get((model, step, target, ""))
    return "missing" if level is None else _value(level.score, sign=False)


def _gain(view: View, model: str, step: str, target: str, standing: set[tuple[str, str, str]]) -> str:
    row = view.gains.get((model, step, target, ""))
    return "missing" if row is None else _value(row.gain, mark="^=" if row.same_data else "^*" if (model, step, target) in standing else "")


def _mean(view: View, model: str, step: str) -> str:
    row = view.means.get((model, step, False))
    return "" if row is None else _value(row.gain)
