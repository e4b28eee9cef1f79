"""What scores cost, and how stable runs are, on cells whose answer is known by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study_maker import TASKS, Cell, finder, make_study, predict_of, task_of
from xstilts import arithmetic, needs, scores
from xstilts.analysis.cost import Spent, costs, offers
from xstilts.analysis.stability import at_least, stability
from xstilts.analysis.transfer import Gain
from xstilts.metrics import Items
from xstilts.scores import Result
from xstilts.stages import Predict, Train, lineage
from xstilts.stats import Interval

SHAPE = arithmetic.shape({"model_type": "bert", "vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2})
TRAINED = arithmetic.training(SHAPE, arithmetic.Tuning(), 100, 1000)  # ten rows of ten tokens
ANSWERED = arithmetic.forward(SHAPE, 10, 50)  # two rows of five


@pytest.fixture(autouse=True)
def toy_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "find_task", task_of)


def cells(steps: tuple[str, ...] = ("none", "nli"), targets: tuple[str, ...] = ("nli", "match")) -> list[Cell]:
    return [
        Cell("m", step, target, "de", "test", seed, predict_of("m", step, target, "de", seed), False)
        for step in steps for target in targets for seed in (0, 1)
    ]  # fmt: skip


def manifests(made: list[Cell]) -> dict[str, dict[str, object]]:
    """Ten seconds and 100 tokens a training, one second and 10 tokens a prediction."""
    found: dict[str, dict[str, object]] = {}
    for stage in (stage for cell in made for stage in lineage(cell.predict)):
        train = isinstance(stage, Train)
        facts = {"tokens": 100, "examples": 10, "peak_mb": 300.0} if train else {"tokens": 10, "rows": 2}
        found[stage.key] = {"facts": facts, "seconds": 10.0 if train else 1.0, "made": {"machine": "here"}}
    return found


def gain(step: str, points: float, targets: tuple[str, ...] = ("match", "nli")) -> Gain:
    interval = Interval(points, points - 1, points + 1, 0.5, 9.0, 2, 100, "seeds and items", 0.01)
    return Gain("m", step, "", "", "headline", 50.0, 50.0 + points, interval, False, targets)


def test_stages_that_several_stand_on_are_counted_once_and_shared_out() -> None:
    made = cells(("none", "pos"))  # nli, then nli, would share its first training with the baseline's
    found = costs(made, manifests(made), {made[0].predict.model.start.key: SHAPE} if isinstance(made[0].predict.model, Train) else {}, [])
    own = {(cell.intermediate, cell.target): cell for cell in found.cells}
    # retrieval without an intermediate step: one prediction for both seeds, nothing trained
    assert own["none", "match"].alone == Spent(1, 1.0, 10.0, ANSWERED, None)
    assert own["none", "nli"].alone == Spent(4, 22.0, 220.0, 2 * TRAINED + 2 * ANSWERED, 300.0)
    # two seeds: an intermediate training, a target's training, a prediction each
    assert own["pos", "nli"].alone.seconds == 42.0
    assert own["pos", "match"].alone.seconds == 22.0
    assert (own["pos", "nli"].shared.seconds, own["pos", "match"].shared.seconds) == (32.0, 12.0)  # ten of each 20 go to the other
    assert found.total.seconds == sum(cell.shared.seconds for cell in found.cells) == 1 + 22 + 32 + 12
    assert found.machines == ("here",)
    assert own["pos", "nli"].alone.kilowatt_hours(100.0) == pytest.approx(42 * 100 / 3.6e6)


def test_memory_is_the_largest_of_a_stage_and_that_of_the_gpu_stands_beside_it() -> None:
    made = cells(("none",), ("nli",))
    known = manifests(made)
    (here, _), (there, _) = (lineage(cell.predict) for cell in made)
    known[here.key]["facts"] = {"tokens": 1, "examples": 1, "peak_mb": 200.0, "gpu_mb": 2048.0}
    known[there.key]["facts"] = {"tokens": 1, "examples": 1, "peak_mb": 500.0, "gpu_mb": 1024.0}
    found = costs(made, known, {}, [])
    assert (found.total.megabytes, found.total.gpu_megabytes) == (500.0, 2048.0)
    assert costs(made, manifests(made), {}, []).total.gpu_megabytes is None


def test_what_is_not_known_is_said() -> None:
    made = cells()
    known = manifests(made)
    del known[next(cell for cell in made if cell.target == "nli" and cell.intermediate == "nli").predict.key]
    found = costs(made, known, {}, [])
    assert found.unknown == ("m, nli → nli",)
    assert all(cell.alone.operations is None for cell in found.cells)


def test_a_gain_is_set_against_what_it_costs_more() -> None:
    made = cells(("none", "nli", "pos"))
    found = offers(costs(made, manifests(made), {}, []).cells, [gain("nli", 4.0), gain("pos", 3.0)])
    assert [offer.intermediate for offer in found] == ["none", "nli", "pos"]
    # nli on both targets: 42 - 22 and 22 - 1 seconds more
    assert found[1].hours == pytest.approx(41 / 3600)
    assert found[1].per_hour == pytest.approx((4 / (41 / 3600), 3 / (41 / 3600), 5 / (41 / 3600)))
    assert [offer.front for offer in found] == [True, True, False]  # pos costs as much and gains less
    assert found[0].per_hour is None
    worse = offers(costs(made, manifests(made), {}, []).cells, [gain("nli", -1.0)])
    assert [offer.front for offer in worse] == [True, False]
    assert offers(costs(made, manifests(made), {}, []).cells, [gain("nli", 4.0, ("match", "pos"))]) == ()  # pos was not run


def test_the_front_is_by_operations_where_they_are_known() -> None:
    """The machine was slow when the baseline ran: by time every choice would be cheaper than none."""
    made = cells(("none", "nli", "pos"))
    known = manifests(made)
    for cell in made:
        if cell.intermediate == "none":
            known[cell.predict.key]["seconds"] = 500.0
    root = made[0].predict.model
    assert isinstance(root, Train)
    gains = [gain("nli", 4.0), gain("pos", 3.0)]
    by_time, by_work = (costs(made, known, shapes, gains).offers for shapes in ({}, {root.start.key: SHAPE}))
    assert [offer.front for offer in by_time] == [False, True, False]
    assert [offer.front for offer in by_work] == [True, True, False]
    assert by_work[1].hours < 0 and by_work[1].per_hour is None
    # four trainings more; two predictions in place of one for retrieval
    assert by_work[1].operations == pytest.approx(4 * TRAINED + ANSWERED)


def run(seed: int, right: int, items: int = 100, majority: float = 50.0) -> Result:
    predict: Predict = predict_of("m", "none", "nli", "en", seed)
    num = (np.arange(items) < right).astype(float)
    accuracy = Items("accuracy", num, np.ones(items))
    cell = Cell("m", "none", "nli", "en", "test", seed, predict, False)
    return Result(cell, (accuracy,), ("a",), np.zeros(items, np.int64), majority=majority)


def test_a_run_has_failed_where_it_is_not_better_than_one_label() -> None:
    (row,) = stability([run(0, 50), run(1, 55), run(2, 59), run(3, 30)], task_of)
    assert (row.runs, row.failed, row.unclear, row.majority) == (4, (0, 3), (0, 1, 3), 50.0)
    (sure,) = stability([run(0, 90)], task_of)
    assert (sure.failed, sure.unclear) == ((), ())


def test_the_exact_test_agrees_with_scipy() -> None:
    from scipy.stats import binomtest

    for right, items, rate in ((55, 100, 0.5), (3, 12, 1 / 3), (2600, 5010, 0.5), (0, 5, 0.2), (5, 5, 0.2)):
        assert at_least(right, items, rate) == pytest.approx(binomtest(right, items, rate, "greater").pvalue, rel=1e-9)
    # it says "not better" of a run that guesses in about 95 of 100 cases
    rng = np.random.default_rng(0)
    assert np.mean([at_least(int(n), 300, 1 / 3) > 0.05 for n in rng.binomial(300, 1 / 3, 2000)]) == pytest.approx(0.955, abs=0.015)


def test_agreement_of_answers(tmp_path: Path) -> None:
    made = make_study(tmp_path, {"none": 0.0}, targets=("nli", "match"), items=40)
    results = scores.load(made, finder(tmp_path), task_of).results
    assert {result.majority for result in results if result.cell.target == "nli"} == {100.0}  # the maker's gold label is one
    found = {row.target: row for row in stability(results, task_of)}
    answer = {
        (r.cell.language, r.cell.seed): [r.names[i] for i in r.answers]
        for r in results if r.cell.target == "nli" and r.answers is not None
    }  # fmt: skip

    def same(one: tuple[str, int], other: tuple[str, int]) -> float:
        return float(np.mean([a == b for a, b in zip(answer[one], answer[other], strict=True)]))

    codes = TASKS["nli"].languages
    seeds = [same((code, a), (code, b)) for code in codes for a, b in ((0, 1), (0, 2), (1, 2))]
    languages = [same(("en", seed), (code, seed)) for code in codes if code != "en" for seed in range(3)]
    assert found["nli"].between_seeds == pytest.approx(100 * np.mean(seeds))
    assert found["nli"].between_languages == pytest.approx(100 * np.mean(languages))
    assert "match" not in found  # nothing trained, and ranked answers
    shuffled = [replace(r, ids=r.ids[::-1]) if r.cell.language != "en" else r for r in results]
    assert {row.between_languages for row in stability(shuffled, task_of)} == {None}
