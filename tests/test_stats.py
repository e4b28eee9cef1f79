"""Statistics on data with a known answer, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from xstilts import stats
from xstilts.metrics import Items


def test_by_group_sums_within_groups() -> None:
    num, den = stats.by_group(Items("f1", np.array([1.0, 2.0, 3.0]), np.ones(3)), np.array([1, 0, 1]), 3)
    assert num.tolist() == [2.0, 4.0, 0.0]
    assert den.tolist() == [1.0, 2.0, 0.0]


def test_bootstrap_of_a_mean_has_the_variance_of_theory() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((200, 1))
    sampled = stats.bootstrap(values, np.ones((200, 1)), 20_000, rng)
    assert sampled.shape == (20_000, 1)
    assert sampled.mean() == pytest.approx(100 * values.mean(), abs=0.1)
    assert sampled.var() == pytest.approx(100**2 * values.var() / 200, rel=0.03)


def test_bootstrap_uses_one_draw_for_all_columns() -> None:
    rng = np.random.default_rng(1)
    num = rng.random((50, 1))
    sampled = stats.bootstrap(np.hstack([num, num, 1 - num]), np.ones((50, 3)), 100, rng)
    assert np.array_equal(sampled[:, 0], sampled[:, 1])
    assert sampled[:, 0] + sampled[:, 2] == pytest.approx(np.full(100, 100.0))


def test_bootstrap_in_blocks_is_the_same_kind_of_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    num, den = np.random.default_rng(2).random((40, 2)), np.ones((40, 2))
    whole = stats.bootstrap(num, den, 60, np.random.default_rng(3))
    monkeypatch.setattr(stats, "_BLOCK", 40 * 7)
    blocks = stats.bootstrap(num, den, 60, np.random.default_rng(3))
    assert blocks == pytest.approx(whole)


def test_bootstrap_without_denominator_scores_zero() -> None:
    assert stats.bootstrap(np.zeros((5, 1)), np.zeros((5, 1)), 10, np.random.default_rng(0)).tolist() == [[0.0]] * 10


def test_combine_by_hand() -> None:
    # No item variance: the classical t interval; 2 degrees of freedom, t = 4.3027.
    interval = stats.combine(np.array([1.0, 2.0, 3.0]), np.full((10, 3), 2.0), 100)
    assert interval.freedom == pytest.approx(2.0)
    assert (interval.low, interval.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-6)
    # Equal parts: Satterthwaite's (a + b)^2 / (a^2 / 2 + b^2 / 2) = 4 for three seeds and three groups.
    sampled = np.array([2 - (2 / 9) ** 0.5, 2 + (2 / 9) ** 0.5])  # variance 2/9, times 3/2 = 1/3 = the seeds' part
    both = stats.combine(np.array([1.0, 2.0, 3.0]), np.repeat(sampled[:, None], 3, axis=1), 3)
    assert both.freedom == pytest.approx(4.0)
    assert both.error == pytest.approx((2 / 3) ** 0.5)
    assert both.kind == "seeds and items"


def test_combine_does_not_count_the_interaction_of_seeds_and_items_twice() -> None:
    # Pure interaction: every seed is right on items of its own. The seeds' variance / S then is the whole variance.
    rng = np.random.default_rng(8)
    found, truth = [], []
    for _ in range(200):
        hits = (rng.random((150, 4)) < 0.5).astype(float)
        sampled = stats.bootstrap(hits, np.ones_like(hits), 300, rng)
        found.append(stats.combine(100 * hits.mean(axis=0), sampled, 150).error ** 2)
        truth.append(100 * hits.mean())
    assert np.mean(found) == pytest.approx(np.var(truth), rel=0.35)  # counted twice, it would be 2


def test_combine_says_what_is_in_the_interval() -> None:
    sampled = np.random.default_rng(0).normal(5, 1, (500, 1)).repeat(3, axis=1)
    few = stats.combine(np.array([1.0, 9.0]), sampled[:, :2], 100)
    assert (few.kind, few.sure) == ("items only", False)
    assert few.high - few.low == pytest.approx(2 * 1.984 * sampled[:, 0].std() * (100 / 99) ** 0.5, rel=1e-3)
    untrained = stats.combine(np.array([5.0, 5.0, 5.0]), sampled, 100, trained=False)
    assert (untrained.kind, untrained.sure, untrained.freedom) == ("untrained", True, 99)
    flat = stats.combine(np.zeros(3), np.zeros((10, 3)), 5)
    assert (flat.low, flat.high, flat.p, flat.sign) == (0.0, 0.0, 1.0, 0)


def test_seeds_that_happen_to_agree_leave_the_item_variance() -> None:
    rng = np.random.default_rng(9)
    sampled = rng.normal(5, 1, (400, 4))  # pure interaction: nothing is common to the seeds
    interval = stats.combine(np.full(4, 5.0), sampled, 100)
    assert interval.least**2 == pytest.approx(sampled.mean(axis=1).var() * 100 / 99)
    assert interval.high - interval.estimate == pytest.approx(stats.t_quantile(0.975, 99) * interval.least)
    assert interval.p == interval.p_of(0.0) == pytest.approx(stats.t_outside(5.0 / interval.least, 99))


def test_p_is_below_five_percent_just_when_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        interval = stats.combine(rng.normal(1, 1, 4), rng.normal(1, 0.5, (200, 4)), 60)
        assert (interval.p < 0.05) == (interval.sign != 0)


def test_the_variance_of_other_runs_counts_as_a_third_of_a_degree_of_freedom() -> None:
    # No item variance. Own variance 1 with 2 degrees of freedom, that of the four runs 8 with 1 / 3: (2 * 1 + 8 / 3) / (2 + 1 / 3) = 2.
    interval = stats.combine(np.array([1.0, 2.0, 3.0]), np.full((10, 3), 2.0), 100, pool=stats.Pool(8.0, 4))
    assert interval.error**2 == pytest.approx(2 / 3)
    assert interval.freedom == pytest.approx(2 / ((6 / 7) ** 2 + (1 - (6 / 7) ** 2) / 4))
    # With runs that scatter alike, its degrees of freedom are those of the variance that it rests on: 2 * mean^2 / variance.
    values = np.random.default_rng(6).normal(0, 1, (40_000, 4, 3))
    own, others = (values[:, 1] - values[:, 0]).var(axis=1, ddof=1), 2 * values.var(axis=2, ddof=1).mean(axis=1)
    both = (2 * own + others / 3) / (2 + 1 / 3)
    assert 2 * both.mean() ** 2 / both.var() == pytest.approx(interval.freedom, rel=0.05)


def test_seeds_that_chose_for_each_other_count_for_less() -> None:
    plain, crossed = (stats.combine(np.array([1.0, 2.0, 4.0, 5.0]), np.full((10, 4), 3.0), 100, crossed=each) for each in (False, True))
    assert crossed.error**2 == pytest.approx(plain.error**2 * (1 / 4 + 1 / 3) * 4)  # Nadeau and Bengio 2003
    assert (crossed.estimate, crossed.freedom) == (plain.estimate, plain.freedom)


def test_rounding_is_no_difference() -> None:
    dust = 1e-14 * np.random.default_rng(5).random((100, 3))
    found = stats.combine(np.array([1e-14, 2e-14, 1e-14]), dust, 50, pool=stats.Pool(4.0, 3))
    assert (found.estimate, found.low, found.high, found.sign, found.p) == (0.0, 0.0, 0.0, 0, 1.0)


@pytest.mark.parametrize("freedom", [1.0, 2.0, 2.7, 4.0, 17.3, 99.0, 1189.0, 40_000.0])
def test_students_t_agrees_with_scipy(freedom: float) -> None:
    from scipy.special import stdtr, stdtrit

    for p in (0.5, 0.6, 0.8, 0.975, 0.995, 0.9999):
        assert stats.t_quantile(p, freedom) == pytest.approx(float(stdtrit(freedom, p)), rel=1e-8, abs=1e-12)
    for t in (-3.0, 0.0, 1e-3, 0.3, 1.0, 2.5, 30.0):
        assert stats.t_outside(t, freedom) == pytest.approx(2 * float(stdtr(freedom, -abs(t))), rel=1e-8, abs=1e-300)


def test_holm_by_hand() -> None:
    assert stats.holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_slope_weights_give_the_least_squares_slope() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.random(7), rng.random(7)
    assert float(stats.slope_weights(x) @ y) == pytest.approx(np.polyfit(x, y, 1)[0])


def test_detectable_effect_is_found_with_the_promised_power() -> None:
    rng = np.random.default_rng(6)
    model = stats.combine(rng.normal(0, 1, 60), np.zeros((2, 60)), 100)  # one long run gives the error of the design
    effect = stats.detectable(model)
    found = [stats.combine(rng.normal(effect, model.error * 60**0.5, 60), np.zeros((2, 60)), 100).sign > 0 for _ in range(1500)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def simulate(seeds: int, items: int, luck: float, rng: np.random.Generator) -> tuple[bool, bool]:
    """One study with a true gain of 4 points in three parallel languages: do the intervals of score and gain cover?"""
    easy = rng.beta(4, 3, (items, 1, 1))
    base_rate = 0.1 + 0.7 * easy + luck * rng.normal(size=(1, 1, seeds))
    better = 0.14 + 0.7 * easy + luck * rng.normal(size=(1, 1, seeds))
    shape = (items, 3, seeds)
    hits = np.concatenate([rng.random(shape) < base_rate, rng.random(shape) < better], axis=1).astype(float)
    flat = hits.reshape(items, -1)  # columns: 3 languages of the baseline, 3 of the other, each by seed
    sampled = stats.bootstrap(flat, np.ones_like(flat), 150, rng).reshape(150, 2, 3, seeds).mean(axis=2)
    values = 100 * hits.reshape(items, 2, 3, seeds).mean(axis=(0, 2))
    score = stats.combine(values[0], sampled[:, 0], items)
    gain = stats.combine(values[1] - values[0], sampled[:, 1] - sampled[:, 0], items)
    return score.low <= 50.0 <= score.high, gain.low <= 4.0 <= gain.high


@pytest.mark.parametrize(("seeds", "items", "luck"), [(3, 100, 0.02), (3, 200, 0.03), (5, 150, 0.02)])
def test_intervals_cover(seeds: int, items: int, luck: float) -> None:
    rng = np.random.default_rng([seeds, items])
    covered = np.mean([simulate(seeds, items, luck, rng) for _ in range(200)], axis=0)
    assert np.all(covered >= 0.90), covered
    assert np.all(covered <= 0.985), covered


def test_large_studies_are_resampled_less_often() -> None:
    assert [stats.resamples_of(cells) for cells in (0, 20_000, 40_000, 100_000)] == [2000, 2000, 1000, 500]
