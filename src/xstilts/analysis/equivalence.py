"""Are two models equally fast? Two one-sided t tests on the log ratios of paired rounds (TOST; Schuirmann 1987).

They are of the trimmed mean (Tukey and McLaughlin 1963), without the fifth of the rounds at either end: a round in which something
else ran for a moment is tens of percent off, and says nothing of the models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from xstilts.stats import t_outside, t_quantile

TRIMMED = 0.2  # of the rounds, at either end
MARGIN = 0.03  # fixed before anything was measured: ratios between 1 / 1.03 and 1.03 count as equal


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The ratio second / first (a trimmed geometric mean over rounds) with its 90 % interval, which is the one that the test reads."""

    ratio: float
    low: float
    high: float
    p: float  # the larger one of the two tests
    differs: float  # two-sided, of a ratio of 1
    rounds: int
    verdict: str  # "equal" (within the margin), "different" (95 % interval without 1, and not equal), "open"


def equivalence(first: Sequence[float], second: Sequence[float], margin: float = MARGIN) -> Equivalence:
    """The test on values of rounds that were measured in turn, first[i] beside second[i]; at least two rounds, all above 0."""
    logs = [math.log(b / a) for a, b in zip(first, second, strict=True)]
    ends = int(TRIMMED * len(logs))
    inner = sorted(logs)[ends : len(logs) - ends]
    pulled = [min(max(each, inner[0]), inner[-1]) for each in logs]  # Winsorised
    freedom, centre = len(inner) - 1, mean(inner)
    error = max(stdev(pulled) * len(logs) ** 0.5 / len(inner), 1e-12)
    bound = math.log1p(margin)
    p = max(_above((centre + bound) / error, freedom), _above((bound - centre) / error, freedom))
    differs = t_outside(centre / error, freedom)
    half = t_quantile(0.95, freedom) * error
    low, high = centre - half, centre + half
    if low > -bound and high < bound:
        verdict = "equal"
    else:
        verdict = "different" if differs < 0.05 else "open"
    return Equivalence(math.exp(centre), math.exp(low), math.exp(high), p, differs, len(logs), verdict)


def _above(t: float, freedom: int) -> float:
    """P(T >= t) of Student's t."""
    tail = t_outside(t, freedom) / 2
    return tail if t >= 0 else 1 - tail
