"""Axes of the strips in the page's tables: HTML that keeps its text at any width. Charts are in `drawings`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log10

from xstilts.report.view import View


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
