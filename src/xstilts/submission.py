"""Prediction folders in XTREME's layout, `TASK/test-LANGUAGE.SUFFIX`: read, scored against a folder of labels, written.

Layouts: "labels" one a line; "indices" (Tatoeba) one 0-based candidate number a line; "choices" (XCOPA) {"label": 0} a line;
"tags" one a line, a blank line between sentences; "answers" {"id": "text"}, their labels SQuAD's JSON; "pairs" (BUCC)
source id, tab, English id; "ranked" {"id": [candidates, best first]}, or id and candidates on one line with tabs between.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xstilts import metrics
from xstilts.benchmark import BESIDE, FORMS, Benchmark, Form, benchmark_average, group_averages, headline, task_average
from xstilts.errors import DataError, ScoreError, StoreError, nearest
from xstilts.examples import is_candidate
from xstilts.metrics import Items, ragged
from xstilts.readers import paragraphs
from xstilts.rows import load
from xstilts.scores import PREDICTIONS, CellLike, Find, read_predictions
from xstilts.sources import json_file, json_lines, known, lines, list_field, mapping, rows_of, text_field
from xstilts.tasks import task as find_task

if TYPE_CHECKING:
    from xstilts.stages import Rows as RowsOf

Rows = list[tuple[str, ...]]
WHOLE = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one item and the line of its file where it begins."""

    line: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """What a prediction folder scores: by task, language and metric, on 0-100."""

    benchmark: Benchmark
    languages: Mapping[str, Mapping[str, Mapping[str, float]]]
    averages: Mapping[str, Mapping[str, float]]
    groups: Mapping[str, float]  # categories that are whole
    average: float | None  # None: only a part was asked for

    def as_json(self) -> dict[str, Any]:
        """The answer of `xstilts score --json`."""
        tasks = {task: {"languages": own, "average": self.averages[task]} for task, own in self.languages.items()}
        whole: dict[str, Any] = {"partial": True} if self.average is None else {"average": self.average}
        return {"tasks": tasks, "benchmark": {**whole, "groups": dict(self.groups)}}


def score_folder(
    predictions: Path, labels: Path, benchmark: Benchmark, tasks: Sequence[str] = (), languages: Sequence[str] = ()
) -> Scored:
    """Scores a prediction folder as the benchmark's own scripts do.

    `tasks` and `languages` ask for a part on purpose; () is all. Raises DataError or ScoreError, naming file and line: a
    missing task, language or row, rows too many, a label outside the task's set, a line that cannot be read.
    """
    chosen = _chosen(benchmark, tasks, languages)
    for folder in (predictions, labels):
        for task in chosen:
            if not (folder / task).is_dir():
                part = "; --tasks scores a part on purpose" if not tasks else ""
                raise DataError(f"{folder}: no folder {task} ({benchmark.name} has {len(benchmark.tasks)} tasks{part})")
    pairs = {
        (task, code): (find_file(predictions, task, code), find_file(labels, task, code)) for task, own in chosen.items() for code in own
    }
    scored: dict[str, dict[str, dict[str, float]]] = {task: {} for task in chosen}
    for (task, code), (pred, gold) in pairs.items():
        scored[task][code] = {items.metric: items.value for items in score_file(task, code, pred, gold)}
    averages = {task: task_average(task, scored[task], own) for task, own in chosen.items()}
    whole = {task: headline(task, averages[task]) for task, own in chosen.items() if own == benchmark.languages[task]}
    average = benchmark_average(benchmark, whole) if len(whole) == len(benchmark.tasks) else None
    return Scored(benchmark, scored, averages, group_averages(benchmark, whole), average)


def _chosen(benchmark: Benchmark, tasks: Sequence[str], languages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The languages to score of each task that was asked for. Raises ScoreError for names that the benchmark does not have."""
    for task in tasks:
        if task not in benchmark.tasks:
            raise ScoreError(f'{benchmark.name} has no task "{task}" (it has: {" ".join(benchmark.tasks)}){nearest(task, benchmark.tasks)}')
    offered = {task: (*benchmark.languages[task], *BESIDE.get(task, ())) for task in benchmark.tasks if not tasks or task in tasks}
    if not languages:
        return {task: benchmark.languages[task] for task in offered}
    every = sorted({code for own in offered.values() for code in own})
    for code in languages:
        if code not in every:
            which = "the tasks asked for are" if tasks else f"{benchmark.name} is"
            raise ScoreError(f'{which} not in the language "{code}" (but in: {" ".join(every)})')
    found = {task: tuple(code for code in own if code in languages) for task, own in offered.items()}
    if tasks and (without := [task for task, own in found.items() if not own]):
        raise ScoreError(f"{without[0]} is in none of the languages asked for ({' '.join(languages)})")
    return {task: own for task, own in found.items() if own}


def find_file(folder: Path, task: str, code: str) -> Path:
    """The file of a task in a language. Raises DataError when it is not there."""
    found = file_there(folder, task, code)
    if found is None:
        raise DataError(f"{folder / task / f'test-{code}.{FORMS[task].suffixes[0]}'}: not found; --languages scores a part on purpose")
    return found


def file_there(folder: Path, task: str, code: str) -> Path | None:
    """The file of a task in a language, or None."""
    paths = (folder / task / f"test-{code}.{suffix}" for suffix in FORMS[task].suffixes)
    return next((path for path in paths if path.is_file()), None)


# ---- one file against another ----


def score_file(task: str, code: str, predictions: Path, labels: Path) -> tuple[Items, ...]:
    """The task's metrics of one language, item by item, in the order of its form. Raises DataError or ScoreError."""
    gold, pred = aligned(task, code, predictions, labels)
    known_metrics = metrics.of_kind(find_task(task), code)
    try:
        return tuple(known_metrics[name].function(ragged(gold), ragged(pred)) for name in FORMS[task].metrics)
    except ScoreError as error:
        raise ScoreError(f"{predictions}: {error}") from None


def aligned(task: str, code: str, predictions: Path, labels: Path) -> tuple[Rows, Rows]:
    """(gold, pred): as many rows each, of the same items in the same order. Raises DataError where the files do not fit."""
    form = FORMS[task]
    match form.layout:
        case "answers":
            gold = read_questions(labels)
            return [own for _, own in gold], _by_id([name for name, _ in gold], read_answers(predictions), predictions, labels)
        case "ranked":
            relevant = read_ranked(labels)
            if empty := [name for name, own in relevant.items() if not own]:
                raise DataError(f'{labels}: "{empty[0]}" has no right candidate')
            return list(relevant.values()), _by_id(list(relevant), read_ranked(predictions), predictions, labels)
        case "pairs":
            right, found = read_pairs(labels, code), read_pairs(predictions, code)
            sources = dict.fromkeys((*right, *found))
            return [right.get(name, ()) for name in sources], [found.get(name, ()) for name in sources]
        case _:
            return _by_row(list(read_rows(labels, form)), list(read_rows(predictions, form)), predictions, labels)


def _by_row(gold: list[Row], pred: list[Row], predictions: Path, labels: Path) -> tuple[Rows, Rows]:
    if len(pred) < len(gold):
        line = pred[-1].line if pred else 1
        raise DataError(f"{predictions}:{line}: ends after {len(pred):,} rows, but {labels} has {len(gold):,}")
    if len(pred) > len(gold):
        raise DataError(f"{predictions}:{pred[len(gold)].line}: {len(pred):,} rows, but {labels} has {len(gold):,}")
    for number, (right, own) in enumerate(zip(gold, pred, strict=True), start=1):
        if len(right.values) != len(own.values):
            at = f"sentence {number} has {len(own.values)} tags, but {len(right.values)} at {labels}:{right.line}"
            raise DataError(f"{predictions}:{own.line}: {at}")
    return [row.values for row in gold], [row.values for row in pred]


def _by_id(names: list[str], pred: Mapping[str, tuple[str, ...]], predictions: Path, labels: Path) -> Rows:
    wanted = dict.fromkeys(names)
    if missing := [name for name in wanted if name not in pred]:
        raise DataError(f'{predictions}: nothing for "{missing[0]}" ({len(missing):,} of the {len(wanted):,} ids of {labels})')
    if strange := [name for name in pred if name not in wanted]:
        raise DataError(f'{predictions}: "{strange[0]}" does not stand in {labels} ({len(strange):,} such ids)')
    return [pred[name] for name in names]


# ---- reading ----


def read_rows(path: Path, form: Form) -> Iterator[Row]:
    """The items of a file with one label, index, choice or tag a line. Raises DataError naming file and line."""
    empty = True
    for row in _read_rows(path, form):
        empty = False
        yield row
    if empty:
        raise DataError(f"{path}: holds no rows")


def _read_rows(path: Path, form: Form) -> Iterator[Row]:
    match form.layout:
        case "tags":
            begin, tags = 1, list[str]()
            for number, text in lines(path):
                if tag := text.strip():
                    begin = begin if tags else number
                    tags.append(known(tag, form.labels, f"{path}:{number}"))
                elif tags:
                    yield Row(begin, tuple(tags))
                    tags = []
            if tags:
                yield Row(begin, tuple(tags))
        case "choices":
            for number, (where, record) in enumerate(json_lines(path), start=1):
                label = record.get("label")
                if isinstance(label, bool) or not isinstance(label, int):
                    raise DataError(f'{where}: expected {{"label": 0}} or 1, got {json.dumps(record, ensure_ascii=False)[:60]}')
                yield Row(number, (known(str(label), form.labels, where),))
        case "indices":
            for number, text in rows_of(path):
                if not (text.strip().isascii() and text.strip().isdigit()):
                    raise DataError(f'{path}:{number}: "{text}" is not the 0-based number of a candidate')
                yield Row(number, (text.strip(),))
        case _:
            for number, text in rows_of(path):
                yield Row(number, (known(text.strip(), form.labels, f"{path}:{number}"),))


def read_answers(path: Path) -> dict[str, tuple[str, ...]]:
    """{"id": "text"}: each question's one answer. Raises DataError."""
    record = json_file(path)
    return {name: (text_field(record, name, str(path)),) for name in record}


def read_questions(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """(id, accepted answers) of every question of a SQuAD file, in order; an id may stand twice (TyDiQA). Raises DataError."""
    found = []
    for _, paragraph, place in paragraphs(path):
        for item in list_field(paragraph, "qas", place):
            record = mapping(item, place)
            name = text_field(record, "id", place)
            where = f'{path}: question "{name}"'
            answers = [text_field(mapping(each, where), "text", where) for each in list_field(record, "answers", where)]
            if not answers:
                raise DataError(f"{where} has no answers; labels are needed")
            found.append((name, tuple(answers)))
    if not found:
        raise DataError(f"{path}: holds no questions")
    return found


def read_pairs(path: Path, code: str) -> dict[str, tuple[str, ...]]:
    """Source id -> the English ids that it is paired with. Raises DataError for a line of another form, and for no line."""
    found: dict[str, tuple[str, ...]] = {}
    form = re.compile(rf"({re.escape(code)}-\S+)\t(en-\S+)")
    for number, text in rows_of(path):
        pair = form.fullmatch(text.strip())
        if pair is None:
            raise DataError(f'{path}:{number}: expected "{code}-..., tab, en-...", got "{text[:60]}"')
        found[pair[1]] = (*found.get(pair[1], ()), pair[2])
    if not found:
        raise DataError(f"{path}: holds no pairs")
    return found


def read_ranked(path: Path) -> dict[str, tuple[str, ...]]:
    """Id -> candidates, best first, of a JSON or tab-separated file. Raises DataError."""
    found: dict[str, tuple[str, ...]] = {}
    if path.suffix == ".json":
        record = json_file(path)
        for name in record:
            own = list_field(record, name, str(path))
            if strange := [each for each in own if not isinstance(each, str)]:
                raise DataError(f'{path}: "{name}": a candidate should be text, got {strange[0]!r}')
            found[name] = tuple(str(each).strip() for each in own)
    else:
        for number, text in rows_of(path):
            name, *candidates = text.split("\t")
            if name in found:
                raise DataError(f'{path}:{number}: "{name}" stands a second time')
            found[name] = tuple(candidates)
    if not found:
        raise DataError(f"{path}: holds no rows")
    return found


# ---- writing ----


def file_text(form: Form, ids: Sequence[str], pred: Rows) -> str:
    """What a prediction file holds, in the first of the form's suffixes: `pred` are rows as a metric sees them."""
    match form.layout:
        case "tags":
            return "\n\n".join("\n".join(row) for row in pred) + "\n"
        case "choices":
            return "".join(json.dumps({"label": int(row[0])}) + "\n" for row in pred)
        case "answers":
            return json.dumps({name: row[0] for name, row in zip(ids, pred, strict=True)}, ensure_ascii=False, indent=1) + "\n"
        case "pairs":
            return "".join(f"{name}\t{other}\n" for name, row in zip(ids, pred, strict=True) for other in row)
        case "ranked" if form.suffixes[0] == "json":
            return json.dumps({name: list(row) for name, row in zip(ids, pred, strict=True)}, ensure_ascii=False, indent=1) + "\n"
        case "ranked":
            return "".join("\t".join((name, *row)) + "\n" for name, row in zip(ids, pred, strict=True))
        case _:
            return "".join(f"{row[0]}\n" for row in pred)


@dataclass(frozen=True)
class Submission:
    """One folder of a study's predictions: `files` by path within it; `notes` say what could not be written as it is."""

    folder: str  # MODEL/INTERMEDIATE/seed-N
    files: Mapping[str, str]
    notes: tuple[str, ...] = ()


def submissions(cells: Iterable[CellLike], find: Find, data: Path, partial: bool = False) -> Iterator[Submission]:
    """A prediction folder for every model, intermediate choice and seed of a study, from the predictions in the store.

    `partial` also writes what is there of a study with missing or capped cells. Raises ScoreError for targets that are in
    neither benchmark, parts other than test, missing predictions, and rows that are only a part of the test set.
    """
    planned = [cell for cell in cells if cell.target in FORMS]
    if not planned:
        raise ScoreError(f"none of the study's targets is a task of XTREME or XTREME-R ({' '.join(FORMS)})")
    _refuse_parts(planned, find, partial)
    writer = _Writer(data)
    for model, intermediate, seed in dict.fromkeys((cell.model, cell.intermediate, cell.seed) for cell in planned):
        files: dict[str, str] = {}
        notes: list[str] = []
        for cell in planned:
            path = find(cell.predict.key) if (cell.model, cell.intermediate, cell.seed) == (model, intermediate, seed) else None
            if path is not None:
                name = f"{cell.target}/test-{cell.language}.{FORMS[cell.target].suffixes[0]}"
                files[name] = writer.text(cell, path / PREDICTIONS, notes)
        if files:
            yield Submission(f"{_plain(model)}/{_plain(intermediate)}/seed-{seed}", files, tuple(dict.fromkeys(notes)))


def _refuse_parts(planned: Sequence[CellLike], find: Find, partial: bool) -> None:
    """Raises ScoreError for the first cell that a whole submission cannot hold."""
    for cell in planned:
        where = f"{cell.target}, {cell.language}"
        rows = cell.predict.rows
        if cell.split != "test":
            raise ScoreError(f'{where}: the study scores its {cell.split} part; a submission holds test rows: set part = "test"')
        if partial:
            continue
        if find(cell.predict.key) is None:
            who = f"{cell.model} after {cell.intermediate}, seed {cell.seed}"
            raise ScoreError(f"{where}: {who} has no predictions; run the study first, or --partial")
        if rows.cap is not None or rows.cut != WHOLE:
            part = f"capped at {rows.cap:,} rows" if rows.cap is not None else f"a share of the groups, {rows.cut[0]:g}-{rows.cut[1]:g}"
            raise ScoreError(f"{where}: only {part}, but a submission holds every test row; mend the study, or --partial")


def write_submissions(made: Iterable[Submission], out: Path) -> list[Submission]:
    """Writes the folders below `out`, which must be new or empty, all or none of them. Raises StoreError or ScoreError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out}: is there and not empty; name a new folder with --out")
    part = out.absolute().with_name(f".{out.absolute().name}.part")
    written = []
    try:
        for each in made:
            for name, text in each.files.items():
                path = part / each.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
            written.append(each)
        if not written:
            raise ScoreError("nothing has been predicted yet; run the study first")
        part.replace(out)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror}); name another folder with --out") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return written


def _plain(name: str) -> str:
    """A name as a folder's: what is no letter, digit or . _ + - becomes _."""
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "_"


@dataclass(frozen=True)
class _Writer:
    """Makes the text of prediction files; reads the candidates of a language once."""

    data: Path
    places: dict[RowsOf, dict[str, int]] = field(default_factory=dict)

    def text(self, cell: CellLike, path: Path, notes: list[str]) -> str:
        """What the file of a cell holds. Raises ScoreError where the stored predictions cannot be written."""
        table = read_predictions(path)
        ids: list[str] = table.column("id").to_pylist()
        pred: Rows = [tuple(row) for row in table.column("pred").to_pylist()]
        form, where = FORMS[cell.target], f"{cell.target}, {cell.language}"
        match form.layout:
            case "tags":
                lengths = [len(row) for row in table.column("gold").to_pylist()]
                for number, (row, length) in enumerate(zip(pred, lengths, strict=True), start=1):
                    if len(row) != length or not all(row):
                        raise ScoreError(f"{where}: sentence {number} has {sum(map(bool, row))} tags for {length} words")
            case "answers":
                ids, pred = _one_answer_an_id(ids, pred, where, notes)
            case "pairs":
                pass
            case "indices":
                places = self._places(cell.predict.rows)
                if lost := [row[0] for row in pred if row and row[0] not in places]:
                    raise ScoreError(f'{where}: "{lost[0]}" is no candidate of the data at hand; the predictions were made on other files')
                pred = [(str(places[row[0]]),) for row in pred]
            case _:
                if empty := [name for name, row in zip(ids, pred, strict=True) if not row]:
                    raise ScoreError(f'{where}: row "{empty[0]}" has no prediction')
        return file_text(form, ids, pred)

    def _places(self, rows: RowsOf) -> dict[str, int]:
        """The 0-based line of each candidate."""
        if rows not in self.places:
            candidates = [e.id for e in load(rows, self.data) if is_candidate(e)]
            self.places[rows] = {name: place for place, name in enumerate(candidates)}
        return self.places[rows]


def _one_answer_an_id(ids: list[str], pred: Rows, where: str, notes: list[str]) -> tuple[list[str], Rows]:
    """Ids as the release has them: TyDiQA repeats some, read as "7" and "7#2"; the file holds the first answer of each."""
    there = set(ids)
    kept: dict[str, tuple[str, ...]] = {}
    for name, row in zip(ids, pred, strict=True):
        base = name.rpartition("#")[0]
        own = base if base in there and name[len(base) + 1 :].isdigit() else name
        if kept.setdefault(own, row) != row:
            notes.append(f'{where}: the id "{own}" stands for several questions; the file holds the answer to the first')
    return list(kept), list(kept.values())
