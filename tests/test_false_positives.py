"""How often a study without any effect is said to have one, and how often its intervals cover: the whole grid of gains, as in a report."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import binom

from xstilts import stats
from xstilts.analysis.transfer import Gain, Sample, transfer_of
from xstilts.report.words import clear
from xstilts.stages import Predict, Rows, Runtime, Train
from xstilts.stats import Floats
from xstilts.task import Task

LANGUAGES, RESAMPLES = ("en", "de", "sw"), 120
Shape = tuple[int, int, int, int, float, str]  # choices, targets, seeds, items, luck, what scatters three times as widely


def sample(rng: np.random.Generator, target: str, choices: int, seeds: int, items: int, luck: Floats) -> Sample:
    """One target: items differ in how hard they are, runs by their luck, [C + 1] as a share of right answers; nothing else."""
    names = ["none", *map(str, range(1, choices + 1))]
    rate = 0.1 + 0.7 * rng.beta(4, 3, (items, 1, 1, 1)) + luck[:, None, None] * rng.normal(size=(1, choices + 1, 1, seeds))
    hits = (rng.random((items, choices + 1, len(LANGUAGES), seeds)) < rate).reshape(items, -1).astype(np.float64)
    places = {("m", *place): column for column, place in enumerate(product(names, LANGUAGES, range(seeds)))}
    train = cast(Train, SimpleNamespace())
    cell: Any = SimpleNamespace(same_data=False, predict=Predict(train, Rows(target, 1, "test", "test", "en", "0"), 128, 64, Runtime()))
    drawn = np.asfortranarray(stats.bootstrap(hits, np.ones_like(hits), RESAMPLES, rng))
    task = cast(Task, SimpleNamespace(name=target, train_language="en"))
    return Sample(task, "accuracy", places, dict.fromkeys(places, cell), 100 * hits.mean(axis=0), drawn, items)


def null_study(rng: np.random.Generator, shape: Shape) -> tuple[list[Gain], list[Gain]]:
    """The gains of a study in which no choice has an effect: over targets, and target by target."""
    choices, targets, seeds, items, luck, wide = shape
    lucks = np.full(choices + 1, luck)
    if wide:
        lucks[0 if wide == "baseline" else 1] *= 3
    found = transfer_of([sample(rng, str(n), choices, seeds, items, lucks) for n in range(targets)])
    assert not found.left_out
    return [row for row in found.gains if not row.target], [row for row in found.gains if row.target and not row.language]


def check(studies: int, shape: Shape) -> None:
    """Each rate of wrong findings is at most 6 %, and the intervals cover in at least 90 % for the worst contrast, by an exact bound.

    A rate fails where so many would be found in fewer than one of 1000 series of studies with a true rate of 6 % (10 % for one
    contrast); studies, not contrasts, are what is independent, so that the mean over a study's contrasts is bounded as if they were one.
    """
    found = [null_study(np.random.default_rng([studies, n, *map(ord, repr(shape))]), shape) for n in range(studies)]
    bound, single = (float(binom.ppf(0.999, studies, rate)) / studies for rate in (0.06, 0.10))
    wrong = [np.array([[row.gain.sign != 0 for row in study[side]] for study in found]) for side in (0, 1)]
    said = {
        "means after Holm": float(np.mean([bool(clear(means)) for means, _ in found])),
        "pairs after Holm": float(np.mean([bool(clear(pairs)) for _, pairs in found])),
        "single means": float(wrong[0].mean()),
        "single pairs": float(wrong[1].mean()),
    }
    print(shape, said, [float(side.mean(axis=0).max()) for side in wrong])
    assert max(said.values()) <= bound, said
    assert max(float(side.mean(axis=0).max()) for side in wrong) <= single
    for row in (row for study in found for side in study for row in side):
        assert (row.gain.p < 0.05) == (row.gain.sign != 0)


def test_a_small_grid_without_effect_is_seldom_said_to_have_one() -> None:
    check(100, (4, 3, 3, 60, 0.08, ""))


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(4, 3, 3, 150, 0.02, "baseline"), (4, 3, 3, 150, 0.02, "choice"), (3, 2, 5, 150, 0.02, "baseline"), (2, 2, 3, 500, 0.01, "")]
)
def test_studies_without_effect_are_seldom_said_to_have_one(shape: Shape) -> None:
    check(500, shape)
