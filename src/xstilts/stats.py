"""Intervals for scores and differences of scores: item bootstrap and seed variance, combined.

Two things make a score uncertain: which items are in the test set, and the luck of a training run. The items are
resampled (Efron 1979; whole groups, Davison and Hinkley 1997, section 3.8), the runs are too few to resample: their
variance enters through a t quantile with the degrees of freedom of Satterthwaite (1946), moderated by that of other runs (Smyth 2004).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, lgamma, log, pi
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from xstilts.metrics import Items

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = Literal["seeds and items", "items only", "seeds only", "untrained", "seeds and languages", "languages only", "sizes"]

LEVEL = 0.95
RESAMPLES = 2000
_FEWEST, _MOST_DRAWN = 500, 40_000_000  # resamples, and numbers drawn in all; with 500 a standard error is known to 3 %
DUST = 1e-9  # points; differences below are rounding: equal predictions averaged in another order
PRIOR = 1 / 3  # degrees of freedom that the variance over seeds of the other runs counts as, beside the S - 1 of a contrast's own
MIN_SEEDS = 3  # with fewer, the seed variance is not usable: a t quantile at 1 degree of freedom is 12.7
_BLOCK = 8_000_000  # weights held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval, in the unit of what was estimated (points on 0-100).

    `kind`: "seeds and items"; "items only" (fewer than three seeds: the luck of training is not in it);
    "seeds only" (some of the scores came without their items: what the choice of the test set adds is not in it);
    "untrained" (nothing was trained, so that items are all there is); "seeds and languages", and "languages only" with fewer than
    three seeds: `groups` then are the languages, which are taken as drawn from all that there are (see `mixed`). "sizes": a value
    beyond what was measured, `groups` the points of the line that it lies on (see `predicted`).

    An interval of seeds and items is never narrower than that of the items alone: it is the wider of two t intervals, and `p` the larger
    of their P values.
    """

    estimate: float
    low: float
    high: float
    error: float  # standard error, of seeds and items together
    freedom: float  # degrees of freedom of its t quantile
    seeds: int
    groups: int  # independent groups of items
    kind: Kind
    p: float  # two-sided, of "the true value is 0"
    least: float = 0.0  # standard error of the items alone, with groups - 1 degrees of freedom, where seeds are in `error`

    @property
    def parts(self) -> tuple[tuple[float, float], ...]:
        """(standard error, degrees of freedom) of each of the intervals that this one is the wider of; none where it has no width."""
        freedom = float(max(self.groups - 1, 1))
        if self.error >= self.least and self.freedom <= freedom:  # then the items alone are the narrower, at any level
            return ((self.error, self.freedom),) if self.error > 0.0 else ()
        both = (self.error, self.freedom), (self.least, freedom)
        return tuple((error, freedom) for error, freedom in both if error > 0.0)

    def p_of(self, value: float) -> float:
        """Two-sided P value of "the true value is `value`"; below 1 - level just where the interval of that level excludes `value`."""
        found = [t_outside((self.estimate - value) / error, freedom) for error, freedom in self.parts]
        return max(found, default=float(self.estimate == value))

    @property
    def sure(self) -> bool:
        """True when the interval holds all the noise there is, so that something may be concluded from it."""
        return self.kind not in ("items only", "seeds only", "languages only")

    @property
    def sign(self) -> int:
        """+1 or -1 when the interval excludes 0, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def by_group(items: Items, group_of: Ints, groups: int) -> tuple[Floats, Floats]:
    """Numerators and denominators summed over each group, both [groups]."""
    above, below = (np.bincount(group_of, weights=part, minlength=groups) for part in (items.num, items.den))
    return above.astype(np.float64), below.astype(np.float64)


def bootstrap(num: Floats, den: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Scores on 0-100 of bootstrap samples of the groups, [resamples, K], for K columns of sums [G, K].

    Groups are drawn with replacement, G of them, the same draw for every column: columns may be languages of a
    parallel test, models or seeds, and differences between them stay paired. A sample that leaves a column without
    denominator scores 0, as the metrics do. The samples of one column lie together in memory.
    """
    groups = num.shape[0]
    step = max(1, _BLOCK // groups)
    if (den == den[:, :1]).all():  # as where every item counts 1
        den = den[:, :1]
    scores = np.empty((num.shape[1], resamples))
    for begin in range(0, resamples, step):
        size = min(step, resamples - begin)
        draws = rng.integers(0, groups, size=(size, groups), dtype=np.int64)
        draws += np.arange(size, dtype=np.int64)[:, None] * groups
        weights = np.bincount(draws.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)
        below = den.T @ weights.T
        below[below <= 0.0] = np.inf
        np.divide(num.T @ weights.T, below, out=scores[:, begin : begin + size])
    scores *= 100.0
    return scores.T


def resamples_of(cells: int) -> int:
    """How often items are resampled: `RESAMPLES`, in studies of more than 20,000 cells less often, so that what is drawn fits in memory."""
    return min(RESAMPLES, max(_FEWEST, _MOST_DRAWN // max(cells, 1)))


@dataclass(frozen=True, slots=True)
class Pool:
    """What other runs say of how far a contrast scatters over seeds."""

    variance: float  # over seeds, of one seed's value of the contrast, were its runs like the mean of all
    runs: int  # that the mean is over, those of the contrast among them


def combine(
    per_seed: Floats,
    sampled: Floats,
    groups: int,
    trained: bool = True,
    level: float = LEVEL,
    crossed: bool = False,
    pool: Pool | None = None,
) -> Interval:
    """The interval of the mean over seeds of a score or of a contrast of scores.

    `per_seed` [S]: its value for each seed on all items. `sampled` [R, S]: the same on each bootstrap sample of the
    items. The variance of the mean is that of a two-way random-effects layout, seeds crossed with items (Searle et al.
    1992, chapter 4): variance over seeds / S, plus the item variance of the mean (times G / (G - 1): a bootstrap of G
    groups is that much too narrow), less their interaction, which is in both. t quantile at the Satterthwaite degrees of
    freedom. Never narrower than the t interval of the item variance alone, and with fewer than three seeds, or where nothing was
    trained, that.

    `pool`: the variance over seeds is moderated by that of other runs, which counts as `PRIOR` degrees of freedom (Smyth 2004, equation
    3.2, with a fixed prior): so few that the interval still covers where one choice scatters three times as widely as the others, and
    the others' seeds are pooled with it. Its own degrees of freedom are those for runs that scatter alike, where the covariance of
    the two is the variance of the pooled one, 1 / K of the contrast's own for K runs.

    `crossed`: what is measured with a seed was chosen by the others, so that the seeds' values hang together. Their variance then counts
    1 / S + 1 / (S - 1) in place of 1 / S (Nadeau and Bengio 2003, section 3.1, with S - 1 seeds choosing for one).
    """
    seeds = len(per_seed)
    if np.abs(per_seed).max() < DUST and np.abs(sampled).max() < DUST:
        # the same answers throughout: runs so alike have no luck of their own that other runs could tell of
        per_seed, sampled, pool = np.zeros_like(per_seed), np.zeros_like(sampled), None
    estimate = float(per_seed.mean())
    freedom = item_freedom = float(max(groups - 1, 1))
    wider = groups / item_freedom
    apart = sampled - sampled.mean(axis=0)
    of_mean = apart.mean(axis=1)
    item = float(of_mean @ of_mean) / len(of_mean) * wider
    kind: Kind = "untrained" if not trained else "seeds and items" if seeds >= MIN_SEEDS else "items only"
    total, least = item, 0.0
    if kind == "seeds and items":
        seed, freedom = float(per_seed.var(ddof=1)), float(seeds - 1)
        if pool is not None:
            own = (seeds - 1) / (seeds - 1 + PRIOR)
            seed = own * seed + (1 - own) * pool.variance
            freedom /= own**2 + (1 - own**2) / pool.runs
        seed *= 1 / seeds + (1 / (seeds - 1) if crossed else 0.0)
        # The variance of one seed's score over items is item + interaction, that of the mean item + interaction / S.
        single = float(np.vdot(apart, apart)) / apart.size * wider
        both = max(single - item, 0.0) / (seeds - 1)
        alone = max(item - both, 0.0)
        total, least = seed + alone, item**0.5
        freedom = total**2 / (seed**2 / freedom + alone**2 / item_freedom) if total > 0.0 else freedom
    made = Interval(estimate, estimate, estimate, total**0.5, freedom, seeds, groups, kind, 1.0, least)
    half = max((t_quantile(0.5 + level / 2, freedom) * error for error, freedom in made.parts), default=0.0)
    return replace(made, low=estimate - half, high=estimate + half, p=made.p_of(0.0))


@dataclass(frozen=True, slots=True)
class Mixed:
    """A mixed-effects model of values by language and seed: the slope, and the standard deviation of each random effect, in points."""

    slope: Interval  # points for one unit of the covariate
    intercept: float  # at covariate 0
    languages: float
    seeds: float
    rest: float  # of one language with one seed


def mixed(values: Floats, x: Floats, trained: bool = True, level: float = LEVEL) -> Mixed:
    """`values` [L, S] = a + b * x [L] + language + seed + rest, language, seed and rest random; L >= 3, and two different x.

    In such a complete layout the best linear unbiased estimate of b is least squares on the languages' means, and the components by
    restricted maximum likelihood are those of the analysis of variance (Searle et al. 1992, chapter 4) where none is below 0 (else 0 is
    given, and the two are pooled). The slope's variance: residual mean square of the languages' means / sum of squares of x, t with
    L - 2 degrees of freedom; where slopes differ between seeds by more than the rest explains, that variance / S is added, with
    Satterthwaite's degrees. With fewer than three seeds ("languages only") it is not; an untrained model has no luck of training.
    """
    count, seeds = values.shape
    weights = slope_weights(x)
    square = float(((x - x.mean()) ** 2).sum())
    per_seed = weights @ values
    slope = float(per_seed.mean())
    by_language, by_seed, mean = values.mean(axis=1), values.mean(axis=0), float(values.mean())
    left = by_language - mean - slope * (x - x.mean())
    sum_language, sum_seed = seeds * float((left**2).sum()), count * float(((by_seed - mean) ** 2).sum())
    sum_rest = float(((values - by_language[:, None] - by_seed[None, :] + mean) ** 2).sum())
    free_language, free_seed, free_rest = count - 2, seeds - 1, (count - 1) * (seeds - 1)
    kind: Kind = "seeds and languages" if seeds >= MIN_SEEDS or not trained else "languages only"
    alone = sum_language / free_language / seeds / square
    extra = 0.0
    if seeds >= MIN_SEEDS:
        # the rest of each language and seed around the seed's own line is what slopes differ by in any case
        own = sum_rest - square * float(((per_seed - slope) ** 2).sum())
        extra = max(float(per_seed.var(ddof=1)) - max(own, 0.0) / ((count - 2) * (seeds - 1)) / square, 0.0) / seeds
    total = alone + extra
    spread = alone**2 / free_language + (extra**2 / free_seed if seeds > 1 else 0.0)
    freedom = total**2 / spread if spread > 0.0 else float(free_language)
    error = total**0.5
    half = t_quantile(0.5 + level / 2, freedom) * error
    p = t_outside(slope / error, freedom) if error else float(slope == 0.0)
    interval = Interval(slope, slope - half, slope + half, error, freedom, seeds, count, kind, p)
    square_language, square_seed = sum_language / free_language, sum_seed / max(free_seed, 1)
    rest = sum_rest / free_rest if free_rest else 0.0
    if free_rest and square_language < rest:
        rest = (sum_rest + sum_language) / (free_rest + free_language)
    if free_rest and square_seed < rest:
        rest = (rest * free_rest + sum_seed) / (free_rest + free_seed)
    languages, of_seeds = max(square_language - rest, 0.0) / seeds, max(square_seed - rest, 0.0) / count
    return Mixed(interval, mean - slope * float(x.mean()), languages**0.5, of_seeds**0.5, rest**0.5)


def predicted(x: Floats, y: Floats, at: float, seeds: int, level: float = LEVEL) -> Interval:
    """The value at `at` of one more point beside those given, [n] both, on their least-squares line; n >= 3, and two different x.

    Variance: s^2 (1 + 1 / n + (at - mean x)^2 / Sxx), s^2 the residual mean square, t with n - 2 degrees of freedom (Draper and Smith
    1998, section 3.1). So it holds the scatter of points about the line, training included, and that the line is straight is taken for
    granted. The items are those of the points. `seeds` is only told.
    """
    count, weights = len(x), slope_weights(x)
    slope, far = float(weights @ y), at - float(x.mean())
    estimate = float(y.mean()) + slope * far
    left = y - y.mean() - slope * (x - x.mean())
    freedom = float(count - 2)
    square = float((left**2).sum()) / freedom
    error = (square * (1.0 + 1.0 / count + far**2 * float((weights**2).sum()))) ** 0.5
    half = t_quantile(0.5 + level / 2, freedom) * error
    p = t_outside(estimate / error, freedom) if error else float(estimate == 0.0)
    return Interval(estimate, estimate - half, estimate + half, error, freedom, seeds, count, "sizes", p)


def detectable(interval: Interval, power: float = 0.8, level: float = LEVEL) -> float:
    """The smallest true effect that such a study finds with the given power: (t at level + t at power) * error (Bloom 1995)."""
    found = [(t_quantile(0.5 + level / 2, freedom) + t_quantile(power, freedom)) * error for error, freedom in interval.parts]
    return max(found, default=0.0)


def t_outside(t: float, freedom: float) -> float:
    """P(|T| >= |t|) of Student's t: I_x(freedom / 2, 1 / 2) at x = freedom / (freedom + t^2) (DLMF 8.17).

    Here and not from scipy, whose import takes longer than the whole report; tests hold it against scipy.
    """
    return _beta_share(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))


@lru_cache(maxsize=1024)  # that of the items alone is the same for a whole target
def t_quantile(p: float, freedom: float) -> float:
    """The p quantile of Student's t, 0.5 <= p < 1, freedom >= 1: Newton's method from the expansion about the normal quantile.

    The distribution function is concave above 0, so that every step from the left stays on the left. The expansion is Abramowitz and
    Stegun's 26.7.5. Errors square with every step: after one of 1e-7 nothing is left to mend.
    """
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / (freedom * pi) ** 0.5
    z = NormalDist().inv_cdf(p)
    first, second, third = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    t = z + (first + (second + third / freedom) / freedom) / freedom
    for _ in range(60):
        step = (t_outside(t, freedom) / 2 - (1 - p)) / (scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2))
        t += step
        if abs(step) <= 1e-7 * max(t, 1.0):
            break
    return t


def _beta_share(a: float, b: float, x: float, y: float) -> float:
    """The regularised incomplete beta function I_x(a, b), y = 1 - x: DLMF 8.17.22, the continued fraction by Lentz's method."""
    if y <= 0.0:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_share(b, a, y, x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(y)) / a
    upper, lower = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1))
    value = lower
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower, upper = 1.0 / (1.0 + even * lower), 1.0 + even / upper
        value *= lower * upper
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        lower, upper = 1.0 / (1.0 + odd * lower), 1.0 + odd / upper
        change = lower * upper
        value *= change
        if abs(change - 1.0) < 1e-15:
            break
    return front * value


def holm(p: Floats) -> Floats:
    """P values adjusted for all of them being looked at, [n] in the given order (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(raised, 1.0)
    return out


def slope_weights(x: Floats) -> Floats:
    """Weights w with sum(w * y) = the least-squares slope of y over x, [n]; x must hold two different values."""
    centred = x - x.mean()
    return np.asarray(centred / (centred**2).sum(), dtype=np.float64)
