"""Drawings of the page: strips of HTML that keep their text at any width, and small SVG line charts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, log10

from xstilts.report.view import View
from xstilts.report.words import number, size
from xstilts.stats import Interval

WIDTH, HEIGHT = 340, 210
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 10, 26


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis from `low` to `high` with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Place of a value in percent of the axis, kept inside it."""
        return round(min(max(100.0 * (value - self.low) / (self.high - self.low), 0.0), 100.0), 2)


def axis(values: Iterable[float], most: int = 5) -> Axis:
    """An axis that holds the values, with at most `most` steps of 1, 2 or 5 times a power of ten."""
    held = list(values)
    low, high = min(held), max(held)
    span = max(high - low, 1.0)
    power = 10.0 ** floor(log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    first, last = floor(low / step), ceil(high / step)
    last = max(last, first + 1)
    return Axis(first * step, last * step, tuple(round(i * step, 6) for i in range(first, last + 1)))


def gain_axis(view: View, model: str, target: str) -> Axis | None:
    """One axis for all gains of a target by language, 0 included; None where there is none."""
    found = [row.gain for (m, _, t, _), row in view.gains.items() if (m, t) == (model, target)]
    return axis([0.0, *(g.low for g in found), *(g.high for g in found)], most=3) if found else None


@dataclass(frozen=True, slots=True)
class Point:
    """One mark of a chart in its coordinates, with the ends of its interval and its title."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """One intermediate choice over the model sizes; `style` numbers its colour and mark."""

    name: str
    style: int
    points: tuple[Point, ...]
    path: str


@dataclass(frozen=True, slots=True)
class SizeChart:
    """Mean score of one target over model size."""

    target: str
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]


def size_charts(view: View) -> tuple[SizeChart, ...]:
    """A chart for each target when at least two models of different size have scores."""
    sizes = view.report.facts.parameters
    models = [model for model in view.models if model in sizes]
    if len({sizes[model] for model in models}) < 2:
        return ()
    return tuple(chart for target in view.targets if (chart := _size_chart(view, target, models)) is not None)


def _size_chart(view: View, target: str, models: Sequence[str]) -> SizeChart | None:
    sizes = view.report.facts.parameters
    logs = [log2(sizes[model]) for model in models]
    low, high = min(logs), max(logs)
    found = {
        (step, model): view.levels[model, step, target, ""].score
        for step in view.steps
        for model in models
        if (model, step, target, "") in view.levels
    }
    if not found:
        return None
    scale = axis([bound for score in found.values() for bound in (score.low, score.high)])

    def x(model: str) -> float:
        return round(LEFT + 16 + (WIDTH - LEFT - RIGHT - 32) * (log2(sizes[model]) - low) / (high - low), 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - scale.at(value) / 100), 1)

    lines = []
    for style, step in enumerate(view.steps):
        shift = (style - (len(view.steps) - 1) / 2) * 4.0  # side by side, so that intervals do not hide each other
        points = tuple(
            _point(x(model) + shift, y, found[step, model], f"{step}, {model}") for model in models if (step, model) in found
        )
        path = " ".join(
            f"{'L' if i else 'M'}{x(model) + shift:.1f} {y(found[step, model].estimate):.1f}"
            for own in view.ladders
            for i, model in enumerate(m for m in own if (step, m) in found)
        )
        lines.append(Line(step, style, points, path))
    return SizeChart(
        target,
        tuple((y(tick), number(tick, 0 if tick == int(tick) else 1)) for tick in scale.ticks),
        tuple((x(model), size(sizes[model])) for model in models),
        tuple(lines),
    )


def _point(x: float, y: Callable[[float], float], score: Interval, what: str) -> Point:
    title = f"{what}: {number(score.estimate)} ({number(score.low)} to {number(score.high)})"
    return Point(round(x, 1), y(score.estimate), y(score.low), y(score.high), title)
