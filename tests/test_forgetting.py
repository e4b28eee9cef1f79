"""What a model loses of its intermediate task: which predictions are planned for it, how the head is found, and the numbers."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine_maker import make_model, rows_of, toy_rows, toy_task
from study_maker import Cell, finder, make_study, planner, predict_of, task_of, write_predictions
from xstilts.canon import plain
from xstilts.errors import StudyError
from xstilts.plan import Remembered
from xstilts.report import Facts, Report, evaluate, write_report
from xstilts.stages import Choose, Predict, Pretrained, Recipe, Rows, Runtime, Share, Train, from_plain, parents, stands_on
from xstilts.task import Task


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    targets = ["mini-pos", "mini-retrieval"]
    return planner(tmp_path, intermediates=["none", "mini-ner"], targets=targets, seeds=[1, 2], languages=["en", "de"])


def test_two_predictions_are_added_and_no_key_moves(planned: Any) -> None:
    without, made = planned(), planned(forgetting=True)
    assert without.remembered == () and [cell.predict.key for cell in made.cells] == [cell.predict.key for cell in without.cells]
    added = {stage.key: stage for stage in made.stages if stage.key not in {stage.key for stage in without.stages}}
    # each of two seeds: after mini-ner, and after mini-pos was trained on that
    assert len(made.remembered) == 2 and set(added) == {p.key for each in made.remembered for p in (each.before, each.after)}
    for each in made.remembered:
        after = each.after
        assert (each.intermediate, each.target, each.task, each.same_data) == ("mini-ner", "mini-pos", "mini-ner", False)
        assert (after.rows.part, after.rows.language) == ("dev", "en") and after.rows == each.before.rows
        assert isinstance(after.model, Train) and after.model.start == each.before.model == after.head and each.before.head is None
        assert parents(after) == (after.model, after.head) and set(stands_on(after)) == {after.model, after.head}
        assert from_plain(plain(after)) == after and "head" not in plain(each.before)


def test_the_training_that_is_asked_for_is_the_last_one_before_those_of_the_target(planned: Any) -> None:
    made = planned(
        forgetting=True, targets=["mini-pos"], languages=[], search={"mini-pos": {"lr": [1e-4, 1e-3]}, "mini-qa": {"lr": [1e-4, 1e-3]}},
        intermediates=["mini-ner > mini-qa", "mini-ner > target > few", "mini-ner > both", "both", "three", "soup", "mini-pos"],
        mixes={
            "both": {"tasks": ["mini-ner", "target"]}, "few": {"tasks": ["target:own"], "rows": 10},
            "three": {"tasks": ["mini-ner", "mini-pos", "mini-text"]},
        },
        merges={"soup": {"of": ["mini-ner", "mini-qa"]}},
    )  # fmt: skip
    found = {each.intermediate: each for each in made.remembered if each.seed == 1}
    # a merge has no head, what was trained beside the target is not trained before it, and the target is not forgotten by itself
    assert {name: each.task for name, each in found.items()} == {
        "mini-ner > mini-qa": "mini-qa", "mini-ner > target > few": "mini-ner", "mini-ner > both": "mini-ner", "three": "mini-ner",
    }  # fmt: skip
    assert isinstance(found["mini-ner > mini-qa"].after.head, Choose)
    assert found["mini-ner > both"].after.head is None  # its last training went on with it
    few = found["mini-ner > target > few"]
    assert isinstance(few.before.model, Train) and isinstance(few.before.model.start, Pretrained) and few.after.head == few.before.model
    with pytest.raises(StudyError, match="forgetting: no target is trained after another task"):
        planned(forgetting=True, intermediates=["none"])
    with pytest.raises(StudyError, match=r'forgetting: "mini-ner" has no dev rows to ask for; name a split under \[splits.mini-ner\] dev'):
        planned(forgetting=True, splits={"mini-ner": {"dev": ""}})


def planted(folder: Path) -> tuple[list[Cell], list[Remembered]]:
    """Three seeds after `nli`: 80, 82 and 84 of 100 items right; `pos` leaves 60, 63 and 63 of them, `qa` all."""
    cells = make_study(folder, {"none": 0.0, "nli": -20.0}, targets=("match",), items=30, noise=0.5)
    made = []
    for seed, (before, after) in enumerate(((80, 60), (82, 63), (84, 63))):
        start = predict_of("small", "none", "nli", "en", seed).model
        rows = Rows("nli", 1, "dev", "dev", "en", "0")
        for target, right in (("pos", after), ("qa", before)):
            model = Train(start, (Share(Rows(target, 1, "train", "train", "en", "0")),), (), Recipe(), seed, Runtime())
            assert isinstance(start, Train)
            own = Predict(start, rows, 128, 64, Runtime())
            each = Remembered("small", "nli", target, seed, "nli", own, replace(own, model=model, head=start), target == "qa")
            made.append(each)
            for predict, count in ((each.before, before), (each.after, right)):
                ids, pred = [f"d{n}" for n in range(100)], [["yes"] if n < count else ["no"] for n in range(100)]
                write_predictions(folder / predict.key / "predictions.parquet", ids, [""] * 100, [["yes"]] * 100, pred)
    return cells, made


def report_of(folder: Path, cells: list[Cell], made: list[Remembered]) -> Report:
    return evaluate(Facts("toy"), cells, finder(folder), task_of=task_of, resamples=300, remembered=made)


def test_a_known_loss_is_found_with_its_interval_and_shown(tmp_path: Path) -> None:
    cells, made = planted(tmp_path)
    report = report_of(tmp_path, cells, made)
    lost, same = report.kept
    assert (lost.model, lost.intermediate, lost.target, lost.task, lost.metric) == ("small", "nli", "pos", "nli", "accuracy")
    assert (lost.before, lost.after, lost.change.estimate) == pytest.approx((82, 62, -20))
    assert lost.change.low < -20 < lost.change.high < 0 and lost.change.kind == "seeds and items" and not lost.same_data
    assert (same.target, same.change.estimate, same.same_data) == ("qa", 0, True) and same.before == same.after == pytest.approx(82)
    page = write_report(report, tmp_path / "out")
    text = page.read_text("utf-8")
    section = text[text.index("<h2>What is forgotten</h2>") :].partition("</section>")[0]
    assert "Of 1 change on intermediate tasks 1 below 0 and 0 above stand" in section
    cell = '<th scope="row">nli, dev</th><th scope="row">nli</th><th scope="row">pos</th><td>82.0</td><td>62.0</td><td>−20.0 ['
    assert cell in section and "[0.0 to 0.0] =" in section
    # retrieval was learnt in pretraining: what the intermediate training does to it is the gain on it
    gain = next(g for g in report.transfer.gains if g.target == "match" and not g.language)
    assert gain.gain.sign == -1 and f'match</th><th scope="row">pretraining</th><th scope="row">nli</th><td>{gain.baseline:.1f}' in section
    assert "| small | nli, dev | nli | pos | 82.0 | 62.0 | −20.0 [" in (tmp_path / "out" / "report.md").read_text("utf-8")
    with (tmp_path / "out" / "forgetting.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["target"], float(row["change"]), row["same_data"]) for row in rows] == [("pos", -20.0, "no"), ("qa", 0.0, "yes")]


def test_what_is_missing_is_named_and_nothing_is_shown_where_there_is_nothing(tmp_path: Path) -> None:
    cells, made = planted(tmp_path)
    gone = next(each for each in made if (each.target, each.seed) == ("pos", 1))
    report = evaluate(
        Facts("toy"), [cell for cell in cells if cell.intermediate == "none"],
        lambda key: None if key == gone.after.key else tmp_path / key, task_of=task_of, resamples=50, remembered=made,
    )  # fmt: skip
    assert [row.target for row in report.kept] == ["qa"]
    assert "forgetting of nli by pos after nli (small): cells are missing" in report.transfer.left_out
    page = write_report(report_of(tmp_path, [cell for cell in cells if cell.intermediate == "none"], []), tmp_path / "out")
    assert "What is forgotten" not in page.read_text("utf-8") and not (tmp_path / "out" / "forgetting.csv").exists()


def test_the_head_of_the_intermediate_task_answers_on_the_encoder_as_it_is_now(tmp_path: Path) -> None:
    """Where only a head is trained for the target the encoder stays, and nothing is forgotten, to the bit."""
    from pyarrow import parquet

    from xstilts.engine.adapters import weights
    from xstilts.engine.predict import predict
    from xstilts.engine.train import train
    from xstilts.stages import Start

    tasks = {kind: toy_task(kind) for kind in ("classify", "tag")}
    start, recipe = make_model(tmp_path / "m"), Recipe(lr=3e-3, steps=4, batch=8, max_length=24, stride=4)
    folders: dict[str, Path] = {Pretrained("toy").key: start}

    def load(rows: Rows) -> Any:
        return toy_rows("classify" if rows.task == tasks["classify"].name else "tag")

    def named(name: str) -> Task:
        return next(task for task in tasks.values() if task.name == name)

    def fit(model: Start, task: Task, recipe: Recipe) -> Train:
        stage = Train(model, (Share(rows_of(task)),), (), recipe, 1, Runtime())
        draft = tmp_path / stage.key
        train(stage, weights(model, lambda s: folders[s.key]), named, load, draft, tmp_path / "cache", lambda _: None, lambda: False)
        folders[stage.key] = draft / "out"
        return stage

    def scores(model: Start, head: Train | None) -> list[list[float]]:
        asked = Predict(model, rows_of(tasks["classify"], "dev"), 24, 4, Runtime(), head=head)
        out = tmp_path / asked.key
        at = folders[head.key] if head is not None else None
        predict(asked, weights(model, lambda s: folders[s.key]), tasks["classify"], load, out, tmp_path / "cache", head_at=at)
        found: list[list[float]] = parquet.read_table(out / "predictions.parquet").column("scores").to_pylist()
        return found

    before = fit(Pretrained("toy"), tasks["classify"], recipe)
    still, moved = fit(before, tasks["tag"], replace(recipe, tuning="head")), fit(before, tasks["tag"], recipe)
    own = scores(before, None)
    assert scores(still, before) == own
    changed = scores(moved, before)
    assert changed != own and [len(row) for row in changed] == [len(row) for row in own]


