"""The page: one HTML file that needs no network and no script."""

from __future__ import annotations

import re
from importlib.resources import files

from xstilts.analysis.transfer import BASELINE, Gain
from xstilts.report import charts, serving
from xstilts.report.drawings import Drawings
from xstilts.report.facts import Report
from xstilts.report.filters import filters, marker, rules
from xstilts.report.text import (
    CLAIMED,
    DRAWN_OUT,
    RANKC,
    RANKC_SOURCE,
    SLOPES,
    answer_table,
    cost_table,
    cost_words,
    forgetting_table,
    forgetting_words,
    method,
    stability_table,
    stability_words,
)
from xstilts.report.view import View, family, name
from xstilts.report.words import (
    amount,
    answered,
    bounds,
    clear,
    duration,
    effect_lines,
    half,
    judged,
    number,
    parts_read,
    signed,
    size,
    verdict,
)
from xstilts.rows import chosen, left_out


def page(report: Report, drawings: Drawings) -> str:
    """The whole page as HTML. Every text that comes from a study is escaped."""
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("xstilts.report")
    texts = {file: (folder / file).read_text(encoding="utf-8") for file in ("page.html", "parts.html")}
    environment = Environment(
        loader=DictLoader(texts), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        amount=amount, bounds=bounds, duration=duration, half=half, number=number, signed=signed, size=size, language=name, family=family,
        code=_code, parts_read=parts_read, chosen=chosen, left_out=left_out, judged=judged, effect_lines=effect_lines,
    )
    view = View(report)
    boxes = filters(view)
    standing = {
        (row.model, row.intermediate, row.target)
        for rows in (
            [g for g in report.transfer.gains if g.target and not g.language and not g.same_data],
            [g for g in report.transfer.gains if not g.target and not g.same_data],
        )
        for row in clear(rows)
    }

    def heat(row: Gain) -> int:
        """Share of full colour, -100 to 100."""
        return round(100 * max(-1.0, min(1.0, row.gain.estimate / view.scale)))

    return environment.get_template("page.html").render(
        v=view,
        report=report,
        facts=report.facts,
        baseline=BASELINE,
        rankc=(RANKC, RANKC_SOURCE),
        claimed=CLAIMED,
        css=Markup((folder / "page.css").read_text(encoding="utf-8") + rules(boxes)),  # our own, not a study's text
        filters=boxes,
        mark=marker(boxes),
        verdict=verdict(report),
        method=method(report),
        standing=standing,
        heat=heat,
        gain_axis=charts.gain_axis,
        chart=charts,
        drawings=drawings,
        slope_method=SLOPES,
        cost_words=cost_words(report),
        cost_table=cost_table(report),
        answered=answered(report),
        answer_table=answer_table(report),
        served=(serving.words(report.served), serving.tables(report.served)),
        drawn_out=DRAWN_OUT,
        stability_words=stability_words(report),
        stability_table=stability_table(report),
        forgetting_words=forgetting_words(report),
        forgetting_table=forgetting_table(report),
    )


def _code(text: str) -> str:
    """A text as HTML, what stands between backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
