"""A study's scores out of its predictions: rows for `scores.csv`, and the items behind them for the statistics."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xstilts import metrics
from xstilts.errors import ScoreError
from xstilts.metrics import Items, Ragged
from xstilts.stages import Predict
from xstilts.task import Task

if TYPE_CHECKING:
    import pyarrow as pa

PREDICTIONS = "predictions.parquet"
_COLUMNS = ("id", "group", "gold", "pred")


class CellLike(Protocol):
    """One scored thing: what `plan.Cell` holds."""

    @property
    def model(self) -> str: ...
    @property
    def intermediate(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def predict(self) -> Predict: ...
    @property
    def same_data(self) -> bool: ...


Find = Callable[[str], Path | None]
TaskOf = Callable[[str], Task]


@dataclass(frozen=True, slots=True, order=True)
class Score:
    """One row of `scores.csv`: `value` on 0-100, `n` the number of rows scored (sentences, for tags)."""

    study: str
    model: str
    intermediate: str
    target: str
    language: str
    split: str
    seed: int
    metric: str
    value: float
    n: int
    stage_key: str


HEADER: tuple[str, ...] = tuple(field.name for field in fields(Score))


@dataclass(frozen=True, slots=True)
class Ranking:
    """The scores of every answer behind a cell's predictions: item i has `scores[offsets[i]:offsets[i + 1]]`."""

    scores: np.ndarray[tuple[int], np.dtype[np.float64]]  # [T]
    offsets: np.ndarray[tuple[int], np.dtype[np.int64]]  # [N + 1]


@dataclass(frozen=True, slots=True)
class Result:
    """A cell with its metrics item by item (headline first) and the group of every item."""

    cell: CellLike
    items: tuple[Items, ...]
    groups: tuple[str, ...]  # distinct groups, sorted; results of one target and language share this tuple
    group_of: np.ndarray[tuple[int], np.dtype[np.int64]]  # [N], index into groups; shared like them
    alone: int | None = None  # where the score alone is known, not its items: the rows it is said to be over (0: not said)
    answers: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None  # [N], index into names; None where an item has not one answer
    names: tuple[str, ...] = ()  # distinct answers of the target and language, whatever the model
    ids: tuple[str, ...] = ()  # of the items; results of one target and language share this tuple
    ranking: Ranking | None = None  # of classifying and choosing targets whose items are parallel, for their consistency
    majority: float | None = None  # share of the most frequent gold label, 0-100; None where items have no labels out of a fixed set

    @property
    def headline(self) -> Items:
        """The items of the target's headline metric."""
        return self.items[0]


@dataclass(frozen=True, slots=True)
class Results:
    """What a study's finished predictions give, and the cells whose predictions are not there yet."""

    results: tuple[Result, ...]  # sorted by target, language, split, model, intermediate, seed
    missing: tuple[CellLike, ...]


def load(cells: Iterable[CellLike], find: Find, task_of: TaskOf) -> Results:
    """Reads the predictions of the cells and computes every metric of their targets.

    `find(key)` gives the folder of a finished Predict entry, or None. Raises ScoreError when a file is not a
    prediction file, or when the cells of one target and language were not made for the same rows.
    """
    found: list[tuple[CellLike, Path]] = []
    missing: list[CellLike] = []
    for cell in sorted(cells, key=_place):
        folder = find(cell.predict.key)
        if folder is None:
            missing.append(cell)
        else:
            found.append((cell, folder / PREDICTIONS))
    results: list[Result] = []
    for _, group in groupby(found, key=lambda pair: _place(pair[0])[:3]):
        results.extend(_score_together(list(group), task_of))
    return Results(tuple(results), tuple(missing))


def scores_of(study: str, results: Results) -> tuple[Score, ...]:
    """The rows of `scores.csv`: one for each cell and metric, sorted."""
    return tuple(
        sorted(
            Score(
                study,
                result.cell.model,
                result.cell.intermediate,
                result.cell.target,
                result.cell.language or "mean",
                result.cell.split,
                result.cell.seed,
                items.metric,
                items.value,
                len(items) if result.alone is None else result.alone,
                result.cell.predict.key,
            )
            for result in results.results
            for items in result.items
        )
    )


def write_csv(scores: Iterable[Score], path: Path) -> None:
    """Writes the rows, sorted, with LF line ends and `repr` of every value: the same scores give the same bytes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for score in sorted(scores):
            writer.writerow([getattr(score, name) if name != "value" else repr(score.value) for name in HEADER])


def read_csv(path: Path) -> tuple[Score, ...]:
    """The rows of a file that `write_csv` wrote. Raises ScoreError naming the line that is wrong."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScoreError(f"{path}: cannot be read as scores ({error})") from error
    if not rows or tuple(rows[0]) != HEADER:
        raise ScoreError(f"{path}:1: expected the header {','.join(HEADER)}")
    scores = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(HEADER):
            raise ScoreError(f"{path}:{number}: expected {len(HEADER)} columns, got {len(row)}")
        study, model, intermediate, target, language, split, seed, metric, value, n, key = row
        try:
            numbers = int(seed), float(value), int(n)
        except ValueError as error:
            raise ScoreError(f"{path}:{number}: seed and n must be whole numbers and value a number ({error})") from error
        scores.append(Score(study, model, intermediate, target, language, split, numbers[0], metric, *numbers[1:], key))
    return tuple(scores)


def _place(cell: CellLike) -> tuple[str, str, str, str, str, int]:
    return (cell.target, cell.language, cell.split, cell.model, cell.intermediate, cell.seed)


def _score_together(pairs: Sequence[tuple[CellLike, Path]], task_of: TaskOf) -> list[Result]:
    """Scores all cells of one target and language at once: their gold rows are the same, and most strings repeat."""
    import pyarrow as pa

    first_cell, first_path = pairs[0]
    task = task_of(first_cell.target)
    # Cells of an untrained model share one prediction, whatever their seed.
    paths = list(dict.fromkeys(path for _, path in pairs))
    first = read_predictions(first_path)
    size, before = first.num_rows, _before_answers(first_path)
    answers = ("pred", "scores") if ranked(task) else ("pred",)
    preds, rankings = [], []
    for path in paths:
        # Where all bytes before the answers are the same, so are ids, groups and gold answers: they need not be decoded again.
        content = _content(path)
        alike = bool(before) and content.startswith(before)
        table = _table(path, content, answers if alike else (*_COLUMNS[:-1], *answers))
        if table.num_rows != size or not (alike or table.select(["id", "gold"]).equals(first.select(["id", "gold"]))):
            raise ScoreError(f"{path}: rows differ from those of {first_path}, both {task.name} in {first_cell.language}")
        preds.append(table.column("pred"))
        rankings.append(_ranking(table.column("scores")) if ranked(task) else None)
    whole = pa.chunked_array([chunk for column in preds for chunk in column.chunks])
    own = zip(first.column("group").to_pylist(), first.column("id").to_pylist(), strict=True)
    groups, group_of = np.unique(np.array([group or id_ for group, id_ in own], dtype=np.str_), return_inverse=True)
    names, group_of = tuple(groups.tolist()), group_of.astype(np.int64)
    try:
        gold, pred = _repeated(_ragged(first.column("gold")), len(paths)), _ragged(whole)
        together = [metric.function(gold, pred) for metric in metrics.for_task(task, first_cell.language)]
    except ScoreError as error:
        raise ScoreError(f"{first_path.parent}: {task.name}, {first_cell.language}: {error}") from error
    start = {path: index * size for index, path in enumerate(paths)}
    ranking_of = dict(zip(paths, rankings, strict=True))
    ids = tuple(first.column("id").to_pylist())
    single = task.kind in ("classify", "choose", "span") and bool((pred.lengths == 1).all())
    most = float(np.bincount(gold.codes[: gold.offsets[size]]).max()) if task.kind in ("classify", "choose", "tag") else None
    return [
        Result(
            cell,
            tuple(
                Items(items.metric, items.num[start[path] : start[path] + size], items.den[start[path] : start[path] + size])
                for items in together
            ),
            names,
            group_of,
            answers=pred.codes[start[path] : start[path] + size] if single else None,
            names=pred.names if single else (),
            ids=ids,
            ranking=ranking_of[path],
            majority=None if most is None else 100 * most / float(gold.offsets[size]),
        )
        for cell, path in pairs
    ]


def write_predictions(
    path: Path,
    ids: Sequence[str],
    groups: Sequence[str],
    gold: Sequence[Sequence[str]],
    pred: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]] | None = None,
) -> None:
    """One prediction file, a row an item; `scores` are what stands behind an answer (None: it was not made here). Raises OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = pa.list_(pa.string())
    columns = {
        "id": pa.array(ids, pa.string()),
        "group": pa.array(groups, pa.string()),
        "gold": pa.array([list(row) for row in gold], lists),
        "pred": pa.array([list(row) for row in pred], lists),
        "scores": pa.array([list(row) for row in scores] if scores is not None else [[] for _ in ids], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def read_predictions(path: Path, columns: Sequence[str] = _COLUMNS) -> pa.Table:
    """The table of one prediction file: id, group, gold, pred (the last two are lists), or other columns. Raises ScoreError."""
    return _table(path, _content(path), columns)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ScoreError:
    return ScoreError(f"{path}: cannot be read as predictions ({error}); remove the entry's folder and run again")


def _table(path: Path, content: bytes, columns: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False).read(columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        raise ScoreError(f"{path}: no column {', '.join(absent)}; it is not a prediction file of this version")
    if not table.num_rows:
        raise ScoreError(f"{path}: holds no rows")
    return table


def _before_answers(path: Path) -> bytes:
    """What stands in a prediction file before the column of answers: with one group of rows, the whole columns before it; else b""."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        about = file.metadata
        if about.num_row_groups != 1:
            return b""
        columns = [about.row_group(0).column(place) for place in range(len(_COLUMNS))]
        if tuple(column.path_in_schema.split(".")[0] for column in columns) != _COLUMNS:
            return b""
        answers = columns[-1]
        begin = min(answers.data_page_offset, answers.dictionary_page_offset or answers.data_page_offset)
    with path.open("rb") as file:
        return file.read(begin)


def ranked(task: Task) -> bool:
    """True where the scores of all answers are read beside the answers."""
    return task.parallel and task.kind in ("classify", "choose")


def _ranking(column: pa.ChunkedArray) -> Ranking:
    array = _one_array(column)
    offsets, scores = np.from_dlpack(array.offsets).astype(np.int64), np.from_dlpack(array.flatten()).astype(np.float64)
    return Ranking(scores, offsets - offsets[0])


def _repeated(once: Ragged, times: int) -> Ragged:
    """The same rows several times, one after the other."""
    ends = once.offsets[1:] + once.offsets[-1] * np.arange(times, dtype=np.int64)[:, None]
    return Ragged(once.names, np.tile(once.codes, times), np.concatenate([once.offsets[:1], ends.ravel()]))


def _ragged(column: pa.ChunkedArray) -> Ragged:
    """A list<string> column as `Ragged`. Raises ScoreError for a null."""
    array = _one_array(column)
    encoded = array.flatten().dictionary_encode()
    if array.null_count or encoded.null_count:
        raise ScoreError("the prediction file holds a null instead of a string")
    # Through DLPack: pyarrow's own to_numpy imports pandas where that is installed, a third of a second.
    offsets, codes = (np.from_dlpack(part).astype(np.int64) for part in (array.offsets, encoded.indices))
    return Ragged(tuple(encoded.dictionary.to_pylist()), codes, offsets - offsets[0])


def _one_array(column: pa.ChunkedArray) -> pa.ListArray:
    import pyarrow as pa

    array = column.combine_chunks()
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
