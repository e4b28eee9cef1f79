"""From prediction files to score rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from study_maker import TASKS, Cell, finder, make_study, predict_of, task_of, write_predictions
from xstilts import metrics, scores
from xstilts.errors import ScoreError

HEADER = "study,model,intermediate,target,language,split,seed,metric,value,n,stage_key"


@pytest.fixture
def study(tmp_path: Path) -> list[Cell]:
    return make_study(tmp_path, {"none": 0, "nli": 5}, targets=("nli", "pos"), seeds=(0, 1), items=20)


def test_every_cell_and_metric_gives_a_row_that_equals_the_metric_on_its_own_file(study: list[Cell], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    results = scores.load(study, finder(tmp_path), task_of)
    rows = scores.scores_of("s", results)
    assert not results.missing
    assert len(rows) == 2 * 2 * 12 * 3  # intermediates, seeds, languages, metrics (one of nli, two of pos)
    assert list(rows) == sorted(rows)
    for row in rows:
        table = pq.read_table(tmp_path / row.stage_key / "predictions.parquet").to_pydict()
        alone = metrics.items(row.metric, TASKS[row.target], row.language, table["gold"], table["pred"])
        assert row.value == alone.value
        assert row.n == 20


def test_the_csv_has_the_exact_header_and_reads_back_and_does_not_depend_on_order(study: list[Cell], tmp_path: Path) -> None:
    rows = scores.scores_of("s", scores.load(study, finder(tmp_path), task_of))
    scores.write_csv(rows, tmp_path / "a.csv")
    other = scores.scores_of("s", scores.load(reversed(study), finder(tmp_path), task_of))
    scores.write_csv(reversed(other), tmp_path / "b.csv")
    data = (tmp_path / "a.csv").read_bytes()
    assert data == (tmp_path / "b.csv").read_bytes()
    assert data.split(b"\n")[0].decode() == HEADER
    assert b"\r" not in data
    assert data.endswith(b"\n")
    assert repr(rows[0].value).encode() in data.split(b"\n")[1]
    assert scores.read_csv(tmp_path / "a.csv") == rows


def test_missing_cells_are_listed(study: list[Cell], tmp_path: Path) -> None:
    gone = study[5]
    folder = tmp_path / gone.predict.key
    (folder / "predictions.parquet").unlink()
    folder.rmdir()
    results = scores.load(study, finder(tmp_path), task_of)
    assert results.missing == (gone,)
    assert len(results.results) == len(study) - 1


def test_empty_groups_are_the_items_own(tmp_path: Path) -> None:
    predict = predict_of("m", "none", "nli", "en", 0)
    cell = Cell("m", "none", "nli", "en", "test", 0, predict, False)
    path = tmp_path / predict.key / "predictions.parquet"
    write_predictions(path, ["1", "2", "3"], ["", "g", "g"], [["yes"]] * 3, [["yes"]] * 3)
    (result,) = scores.load([cell], finder(tmp_path), task_of).results
    assert result.groups == ("1", "g")
    assert result.group_of.tolist() == [0, 1, 1]
    assert result.headline.value == 100.0


def test_files_that_do_not_belong_together_raise(study: list[Cell], tmp_path: Path) -> None:
    path = tmp_path / study[0].predict.key / "predictions.parquet"
    write_predictions(path, ["other"] * 20, [""] * 20, [["yes"]] * 20, [["yes"]] * 20)
    with pytest.raises(ScoreError, match="differ"):
        scores.load(study, finder(tmp_path), task_of)


@pytest.mark.parametrize("odd", [0, 1])
def test_other_gold_answers_of_the_same_ids_raise(tmp_path: Path, odd: int) -> None:
    cells = [Cell("m", "none", "nli", "en", "test", seed, predict_of("m", "none", "nli", "en", seed), False) for seed in (0, 1)]
    for seed, cell in enumerate(cells):
        gold = [["yes"], ["no"]] if seed == odd else [["no"], ["yes"]]
        write_predictions(tmp_path / cell.predict.key / "predictions.parquet", ["1", "2"], ["", ""], gold, [["yes"]] * 2)
    with pytest.raises(ScoreError, match="differ"):
        scores.load(cells, finder(tmp_path), task_of)


@pytest.mark.parametrize("content", [b"", b"not parquet", None])
def test_a_file_that_is_no_prediction_file_raises(study: list[Cell], tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / study[0].predict.key / "predictions.parquet"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(ScoreError, match=r"predictions\.parquet"):
        scores.load(study, finder(tmp_path), task_of)


def test_an_unlabelled_row_in_a_file_raises(tmp_path: Path) -> None:
    predict = predict_of("m", "none", "nli", "de", 0)
    write_predictions(tmp_path / predict.key / "predictions.parquet", ["1", "2"], ["", ""], [["yes"], []], [["yes"]] * 2)
    with pytest.raises(ScoreError, match="nli, de: row 2 has no label"):
        scores.load([Cell("m", "none", "nli", "de", "test", 0, predict, False)], finder(tmp_path), task_of)


@pytest.mark.parametrize(
    ("text", "says"),
    [("", ":1:"), ("a,b\n", ":1:"), (HEADER + "\ns,m\n", ":2:"), (HEADER + "\ns,m,i,t,l,s,0,f1,high,1,k\n", ":2:")],
)
def test_a_wrong_csv_names_the_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(ScoreError, match=says):
        scores.read_csv(path)
