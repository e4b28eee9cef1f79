"""Which weights a study keeps: what a run drops and what the estimate counts are one rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from study_maker import planner
from xstilts.estimate import disk
from xstilts.plan import Plan
from xstilts.run import rivals, weights_to_drop
from xstilts.stages import Choose, Merge, Predict, Train
from xstilts.store import Store

WEIGHTS, FACTS = 4 * 1_000 + 3_000_000, 3_000_000  # bytes that are counted for a kept training of 1,000 parameters, and for a dropped one


class Full:
    """A store that holds every stage, with these dev scores, but the weights only of those that were not dropped."""

    def __init__(self, plan: Plan, dropped: tuple[str, ...] = ()) -> None:
        trains = [stage for stage in plan.stages if isinstance(stage, Train | Choose)]
        self.dev = {stage.key: float(i) for i, stage in enumerate(trains)}
        self.lacking = {stage.key for stage in trains if isinstance(stage, Train) and not stage.select}
        self.dropped = dropped

    def manifest(self, key: str) -> Mapping[str, Any]:
        return {"facts": {} if key in self.lacking else {"dev": self.dev.get(key)}}

    def find_weights(self, key: str) -> Path | None:
        return None if key in self.dropped else Path(key)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return planner(
        tmp_path, count=lambda rows: 100, intermediates=["none", "mini-ner", "soup"], targets=["mini-pos", "mini-qa"], seeds=[1, 2],
        languages=["en"], merges={"soup": {"of": ["mini-ner", "mini-choice"]}}, search={"mini-pos": {"lr": [1e-4, 1e-3, 1e-2]}},
        recipes={"mini-qa": {"selections": 0}},
    )()  # fmt: skip


def test_one_of_each_group_is_kept_and_what_a_choice_stands_for_goes(plan: Plan) -> None:
    among, groups = rivals(plan.stages)
    assert len(among) == 3 * 6  # rates, intermediates x seeds
    assert [{type(stage) for stage in group} for group in groups] == [{Choose}] and len(groups[0]) == 6  # mini-qa has no dev score
    store = cast(Store, Full(plan))
    drop = weights_to_drop(plan.stages, store, "best")
    best = max(groups[0], key=lambda stage: cast(Full, store).dev[stage.key] or 0)
    assert set(drop) == {*among, *(stage.key for stage in groups[0] if stage != best)}
    starts = [stage.key for stage in plan.stages if isinstance(stage, Train) and stage.mix[0].rows.task in ("mini-ner", "mini-choice")]
    assert starts and not set(starts) & set(drop)
    assert weights_to_drop(plan.stages, cast(Store, Full(plan, drop)), "best") == ()
    assert weights_to_drop(plan.stages, store, "all") == ()


def test_trainings_stay_until_the_choice_among_them_is_made(plan: Plan) -> None:
    choices = tuple(stage.key for stage in plan.stages if isinstance(stage, Choose))
    assert weights_to_drop(plan.stages, cast(Store, Full(plan, choices)), "best") == ()


@pytest.mark.parametrize("keep", ["all", "best", "none"])
def test_the_estimate_counts_what_the_run_will_keep(plan: Plan, tmp_path: Path, keep: str) -> None:
    from dataclasses import replace

    plan = replace(plan, study=replace(plan.study, keep=keep))
    store = cast(Store, Full(plan))
    drop = weights_to_drop(plan.stages, store, plan.study.keep)
    made = [stage for stage in plan.stages if isinstance(stage, Train | Choose | Merge)]
    expected = sum(FACTS if stage.key in drop else WEIGHTS for stage in made) + 50_000 * sum(isinstance(s, Predict) for s in plan.stages)
    start = plan.models["m"]
    counts = cast(Any, None)  # only translations are counted for disk
    assert disk(plan, {}, {start.key: 1_000}, store, 1, counts)[1] == expected
