"""Charts as Vega-Lite specifications, and as SVG, PNG or PDF: drawn when the report is written, so that the page needs no script.

Colours are those of Okabe and Ito (2008), told apart by the colour-blind; shapes differ too. In the page's SVG every colour becomes a
variable of its style sheet, so that a chart follows the light and the dark scheme.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xstilts.analysis.cost import cost_of
from xstilts.analysis.published import PUBLISHED
from xstilts.analysis.serving import front
from xstilts.report.view import View
from xstilts.report.words import bounds, number, signed, size
from xstilts.stats import Interval

if TYPE_CHECKING:
    import altair as alt

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")
# by name of the style sheet's variable
COLOURS: Mapping[str, str] = {
    "s0": "#6b7281", "s1": "#0072b2", "s2": "#d55e00", "s3": "#009e73", "s4": "#aa4499", "s5": "#b8860b", "s6": "#56b4e9", "s7": "#882255",
    "ink": "#1c1f24", "soft": "#5b626d", "line": "#dedbd5", "up": "#1f78b4", "down": "#d9730d",
}  # fmt: skip
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
WIDTH = 290  # of the plot, in CSS pixels: a card of the page on a phone


@dataclass(frozen=True, slots=True)
class Drawing:
    """One chart: `name` is its file's, `about` what is read out in its place."""

    name: str
    title: str
    about: str
    spec: Mapping[str, Any]  # Vega-Lite

    def svg(self) -> str:
        """The chart for the page: no background, colours by the style sheet's variables."""
        import vl_convert

        text = str(vl_convert.vegalite_to_svg(_dressed(self.spec, "transparent")))
        for variable, colour in COLOURS.items():
            text = text.replace(f'"{colour}"', f'"var(--{variable})"')
        return text.replace("<svg ", f'<svg role="img" aria-label="{_plain(self.about)}" ', 1)

    def file(self, form: Format) -> bytes:
        """The chart as a file's content, on white, twice the page's resolution as PNG."""
        import vl_convert

        spec = _dressed(self.spec, "white")
        match form:
            case "svg":
                return str(vl_convert.vegalite_to_svg(spec)).encode()
            case "png":
                return bytes(vl_convert.vegalite_to_png(spec, scale=2))
            case "pdf":
                return bytes(vl_convert.vegalite_to_pdf(spec))


@dataclass(frozen=True, slots=True)
class Drawings:
    """The charts of a report: by model and target those of families, by target those over size, by model the costs, by target latency."""

    families: Mapping[tuple[str, str], Drawing]
    sizes: Mapping[str, Drawing]
    costs: Mapping[str, Drawing]
    served: Mapping[str, Drawing]

    @property
    def every(self) -> Iterable[Drawing]:
        return (*self.families.values(), *self.sizes.values(), *self.costs.values(), *self.served.values())


def drawn(view: View) -> Drawings:
    """Every chart that the report's numbers give."""
    families = {(m, t): found for m in view.models for t in view.targets if (found := _families(view, m, t)) is not None}
    sizes = {t: found for t in view.targets if (found := _sizes(view, t)) is not None}
    costs = {m: found for m in view.models if (found := _costs(view, m)) is not None}
    served = {t: found for t in view.targets if (found := _served(view, t)) is not None}
    return Drawings(families, sizes, costs, served)


def write(drawings: Drawings, form: Format, folder: Path) -> list[Path]:
    """One file a chart in `folder` (made when absent). Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for drawing in drawings.every:
        path = folder / f"{drawing.name}.{form}"
        path.write_bytes(drawing.file(form))
        paths.append(path)
    return paths


def _dressed(spec: Mapping[str, Any], background: str) -> dict[str, Any]:
    axis = {
        "labelColor": COLOURS["soft"], "titleColor": COLOURS["soft"], "gridColor": COLOURS["line"], "domainColor": COLOURS["line"],
        "tickColor": COLOURS["line"], "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelLimit": 160,
    }  # fmt: skip
    # A reader's font may be wider than the one that labels were measured with: room between them, and at the edges.
    legend = {
        "orient": "bottom", "title": None, "labelColor": COLOURS["soft"], "labelFontSize": 11, "labelLimit": 150, "columns": 2,
        "columnPadding": 28, "layout": {"bottom": {"margin": 28}}, "symbolBaseFillColor": COLOURS["soft"],
        "symbolBaseStrokeColor": COLOURS["soft"],
    }  # fmt: skip
    config = {"background": background, "view": {"stroke": None}, "axis": axis, "legend": legend, "font": "sans-serif"}
    return {**spec, "config": config, "padding": {"left": 24, "right": 12, "top": 5, "bottom": 5}}


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def _file(*words: str) -> str:
    return "-".join("".join(c if c.isalnum() else "_" for c in word) for word in words if word)


def _told(interval: Interval) -> str:
    return f"{signed(interval.estimate)} ({bounds(interval)})"


def _steps(view: View, shown: Iterable[str]) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape of the intermediate choices: the same in every chart of a report."""
    import altair as alt

    held = set(shown)
    there = [step for step in view.steps if step in held]
    styles = [view.steps.index(step) for step in there]
    colours = [COLOURS[f"s{style % 8}"] for style in styles]
    shapes = [SHAPES[style % len(SHAPES)] for style in styles]
    return (
        alt.Color("choice:N", scale=alt.Scale(domain=there, range=colours)),
        alt.Shape("choice:N", scale=alt.Scale(domain=there, range=shapes)),
    )


def _families(view: View, model: str, target: str) -> Drawing | None:
    """A forest plot: the gain in each family of languages, and the mean over all."""
    import altair as alt

    rows = []
    for group in view.groups_of(model, target, "gain", "family"):
        own = group.languages[0] if len(group.languages) == 1 else f"{len(group.languages)} languages"
        rows.append(_row(f"{group.name} ({own})", group.intermediate, group.value))
    if not rows:
        return None
    names = [*sorted({str(row["place"]) for row in rows}), "all languages"]
    for step in view.intermediates:
        if (gain := view.gains.get((model, step, target, ""))) is not None:
            rows.append(_row("all languages", step, gain.gain))
    color, shape = _steps(view, (str(row["choice"]) for row in rows))
    steps = len({row["choice"] for row in rows})
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("place:N", sort=names, title=None, scale=alt.Scale(paddingInner=0.35)),
        yOffset=alt.YOffset("choice:N", sort=list(view.steps)),
        color=color,
    )
    scale, axis = alt.Scale(nice=True, zero=True), alt.Axis(tickCount=5)
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color=COLOURS["soft"], strokeDash=[3, 3]).encode(x="zero:Q")
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="points over the baseline", scale=scale, axis=axis), x2="high:Q")
    marks = base.mark_point(filled=True, size=42, opacity=1).encode(x=alt.X("value:Q", scale=scale), shape=shape)
    chart = alt.layer(zero, bars, marks).properties(width=WIDTH, height=len(names) * (10 * steps + 10))
    about = "; ".join(f"{row['place']}, {row['choice']}: {row['told']}" for row in rows)
    file = _file("families", model if len(view.models) > 1 else "", target)
    return Drawing(file, target, f"Gains on {target} by family: {about}", _spec(chart))


def _spec(chart: alt.LayerChart | alt.FacetChart) -> Mapping[str, Any]:
    """Not held against altair's schema, which takes as long as making it; the renderer refuses what it cannot draw."""
    found: Mapping[str, Any] = chart.to_dict(validate=False)
    return found


def _row(place: str, choice: str, interval: Interval) -> dict[str, str | float]:
    return {
        "place": place, "choice": choice, "value": interval.estimate, "low": interval.low, "high": interval.high, "told": _told(interval),
    }  # fmt: skip


def _sizes(view: View, target: str) -> Drawing | None:
    """Mean score of a target over model size, and what others have published beside it."""
    import altair as alt

    sizes = view.report.facts.parameters
    models = [model for model in view.models if model in sizes]
    if len({sizes[model] for model in models}) < 2:
        return None
    rows: list[dict[str, str | float]] = []
    ladder = {model: f"ladder {place}" for place, alike in enumerate(view.ladders) for model in alike}
    for step in view.steps:
        for model in models:
            if (level := view.levels.get((model, step, target, ""))) is not None:
                rows.append({**_row(model, step, level.score), "size": sizes[model], "ladder": ladder.get(model, "")})
    if not rows:
        return None
    given_by = [p for p in PUBLISHED if target in p.scores]
    others = [{"model": p.model, "size": p.parameters, "value": p.scores[target]} for p in given_by]
    color, shape = _steps(view, (str(row["choice"]) for row in rows))
    ticks = sorted({sizes[model] for model in models}) if not others else alt.Undefined
    axis = alt.Axis(values=ticks, labelExpr="replace(format(datum.value, '.3~s'), 'G', 'B')", labelOverlap=True, grid=False)
    x = alt.X("size:Q", scale=alt.Scale(type="log", nice=False, padding=14), axis=axis, title="parameters")
    out = _drawn_out(view, target, rows)
    # an extrapolated interval may be wider than all that was measured: it runs off the plot, and says so in the table
    shown = [float(row[end]) for row in rows for end in ("low", "high")]
    shown += [*(float(each["value"]) for each in out), *(p.scores[target] for p in given_by)]
    y_scale = alt.Scale(zero=False, domain=[min(shown), max(shown)], nice=True) if out else alt.Scale(zero=False)
    y = alt.Y("value:Q", scale=y_scale, title=None)
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, color=color)
    alike = alt.Chart(alt.InlineData(values=[row for row in rows if row["ladder"]])).encode(x=x, color=color, detail="ladder:N")
    layers = [
        alike.mark_line(strokeWidth=1.6, opacity=0.8).encode(y=y),
        base.mark_rule(opacity=0.7).encode(y=alt.Y("low:Q", scale=y_scale), y2="high:Q"),
        base.mark_point(filled=True, size=50, opacity=1).encode(y=y, shape=shape),
    ]
    if out:
        beyond = alt.Chart(alt.InlineData(values=out)).encode(x=x, color=color)
        dashed = beyond.mark_line(strokeWidth=1.2, strokeDash=[3, 3]).encode(y=y, detail="ladder:N")
        ends = beyond.transform_filter("datum.extrapolated").mark_rule(clip=True, strokeDash=[2, 3], opacity=0.7)
        marks = beyond.transform_filter("datum.extrapolated").mark_point(filled=False, size=50).encode(y=y, shape=shape)
        layers += [dashed, ends.encode(y=alt.Y("low:Q", scale=y_scale), y2="high:Q"), marks]
    if others:
        given = alt.Chart(alt.InlineData(values=others)).encode(x=x, y=y)
        layers.append(given.mark_point(shape="M-.7,-.7L.7,.7M-.7,.7L.7,-.7", color=COLOURS["soft"], size=36, filled=False))
        layers.append(given.mark_text(color=COLOURS["soft"], fontSize=9, dy=-9).encode(text="model:N"))
    chart = alt.layer(*layers).properties(width=WIDTH, height=180)
    about = "; ".join(f"{row['choice']}, {row['place']} ({size(int(row['size']))}): {number(float(row['value']))}" for row in rows)
    if told := [each for each in out if each["extrapolated"]]:
        about += "; extrapolated, not measured: " + "; ".join(f"{e['choice']}, {size(int(e['size']))}: {e['told']}" for e in told)
    if others:
        about += "; published: " + "; ".join(f"{each['model']} {each['value']}" for each in others)
    return Drawing(_file("size", target), target, f"{target} over model size: {about}", _spec(chart))


def _drawn_out(view: View, target: str, rows: Sequence[Mapping[str, str | float]]) -> list[dict[str, str | float | bool]]:
    """What the score's trends reach beyond the largest model, each from that model's own point on."""
    found: list[dict[str, str | float | bool]] = []
    for one in view.report.transfer.beyond:
        if (one.target, one.what) != (target, "score"):
            continue
        place: dict[str, str | float | bool] = {"choice": one.intermediate, "ladder": "+".join(one.models)}
        if one.doublings == 1:
            last = next(row for row in rows if (row["place"], row["choice"]) == (one.models[-1], one.intermediate))
            found.append({**last, **place, "extrapolated": False})
        told = f"{number(one.value.estimate)} ({bounds(one.value, sign=False)})"
        ends: dict[str, str | float | bool] = {"low": one.value.low, "value": one.value.estimate, "high": one.value.high, "told": told}
        found.append({**place, **ends, "size": one.parameters, "extrapolated": True})
    return found


def _costs(view: View, model: str) -> Drawing | None:
    """Mean gain against the operations (or hours) that a choice adds to the baseline; the Pareto front as a line."""
    import altair as alt

    offers = [offer for offer in view.report.spent.offers if offer.model == model]
    if len(offers) < 2:
        return None
    rows: list[dict[str, str | float]] = []
    for offer in offers:
        low, value, high = (offer.gain.low, offer.gain.estimate, offer.gain.high) if offer.gain is not None else (0.0, 0.0, 0.0)
        cost = cost_of(offer, offers)
        rows.append({"choice": offer.intermediate, "cost": cost, "low": low, "value": value, "high": high, "front": offer.front})
    unit = "operations" if all(offer.operations is not None for offer in offers) else "hours"
    color, shape = _steps(view, (str(row["choice"]) for row in rows))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "cost:Q", title=f"{unit} more than the baseline", scale=alt.Scale(nice=True, padding=8), axis=alt.Axis(tickCount=4, format="~g")
        ),
        color=color,
    )
    front = alt.Chart(alt.InlineData(values=[row for row in rows if row["front"]])).mark_line(
        interpolate="step-after", color=COLOURS["soft"], strokeDash=[4, 3]
    )
    y = alt.Y("value:Q", title="points over the baseline")
    chart = alt.layer(
        front.encode(x="cost:Q", y=y),
        base.mark_rule().encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=y, shape=shape),
    ).properties(width=WIDTH, height=190)
    about = "; ".join(f"{row['choice']}: {signed(float(row['value']))} points for {float(row['cost']):.3g} {unit}" for row in rows)
    return Drawing(_file("cost", model if len(view.models) > 1 else ""), model, f"Gain against cost: {about}", _spec(chart))


def _served(view: View, target: str) -> Drawing | None:
    """Mean score against latency, a mark a checkpoint in an engine; the Pareto front as a line."""
    import altair as alt

    measured = [m for m in view.report.served.measured if m.target == target] if view.report.served is not None else []
    if len(measured) < 2:
        return None
    best = front(measured)
    rows = [
        {"way": f"{m.model}, {m.engine}", "choice": m.intermediate, "latency": m.latency, "score": m.score, "front": m in best}
        for m in measured
    ]
    ways = list(dict.fromkeys(str(row["way"]) for row in rows))
    scale = alt.Scale(domain=ways, range=[COLOURS[f"s{place % 8}"] for place in range(len(ways))])
    color = alt.Color("way:N", scale=scale, legend=alt.Legend(columns=1))
    shape = _steps(view, (m.intermediate for m in measured))[1]
    x = alt.X("latency:Q", title="latency of one sentence at a time, ms (p50)", scale=alt.Scale(type="log", nice=False, padding=14))
    y = alt.Y("score:Q", title=None, scale=alt.Scale(zero=False))
    line = alt.Chart(alt.InlineData(values=[row for row in rows if row["front"]])).mark_line(
        interpolate="step-after", color=COLOURS["soft"], strokeDash=[4, 3]
    )
    marks = alt.Chart(alt.InlineData(values=rows)).mark_point(filled=True, size=55, opacity=0.9)
    chart = alt.layer(line.encode(x=x, y=y), marks.encode(x=x, y=y, color=color, shape=shape)).properties(width=WIDTH, height=200)
    told = [f"{m.model} after {m.intermediate}, {m.engine}: {number(m.score)} at {m.latency:.2f} ms" for m in best]
    return Drawing(_file("latency", target), target, f"{target}, score against latency; on the front {'; '.join(told)}", _spec(chart))
