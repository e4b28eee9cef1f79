"""Prediction folders in XTREME's layout, `TASK/test-LANGUAGE.SUFFIX`: read, scored against a folder of labels, written.

Layouts: "labels" one a line; "indices" (Tatoeba) one 0-based candidate number a line; "choices" (XCOPA) {"label": 0} a line;
"tags" one a line, a blank line between sentences; "answers" {"id": "text"}, their labels SQuAD's JSON; "pairs" (BUCC)
source id, tab, English id; "ranked" {"id": [candidates, best first]}, or id and candidates on one line with tabs between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xstilts.benchmark import BESIDE, FORMS, Benchmark, Form, benchmark_average, group_averages, headline, task_average
from xstilts.errors import DataError, ScoreError, nearest
from xstilts.metrics import Items, ragged
from xstilts.metrics.answers import answer_f1, exact_match, mlqa_words, normal_words
from xstilts.metrics.mining import mined_f1, mined_precision, mined_recall
from xstilts.metrics.ranks import average_precision
from xstilts.metrics.rows import accuracy
from xstilts.metrics.tags import Scheme, chunk_f1, chunk_precision, chunk_recall, token_accuracy
from xstilts.sources import json_file, json_lines, known, lines, list_field, mapping, rows_of, text_field

Rows = list[tuple[str, ...]]


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
        (task, code): (_file(predictions, task, code), _file(labels, task, code)) for task, own in chosen.items() for code in own
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


def _file(folder: Path, task: str, code: str) -> Path:
    """The file of a task in a language. Raises DataError when it is not there."""
    paths = [folder / task / f"test-{code}.{suffix}" for suffix in FORMS[task].suffixes]
    for path in paths:
        if path.is_file():
            return path
    raise DataError(f"{paths[0]}: not found; --languages scores a part on purpose")


# ---- one file against another ----


def score_file(task: str, code: str, predictions: Path, labels: Path) -> tuple[Items, ...]:
    """The task's metrics of one language, item by item, in the order of its form. Raises DataError or ScoreError."""
    gold, pred = aligned(task, code, predictions, labels)
    form, found = FORMS[task], {}
    try:
        for metric in form.metrics:
            found[metric] = _metric(task, code, metric, gold, pred)
    except ScoreError as error:
        raise ScoreError(f"{predictions}: {error}") from None
    return tuple(found.values())


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


def _metric(task: str, code: str, metric: str, gold: Rows, pred: Rows) -> Items:
    one, other = ragged(gold), ragged(pred)
    match FORMS[task].layout:
        case "tags":
            scheme: Scheme = "bio" if "O" in FORMS[task].labels else "upos"
            if metric == "accuracy":
                return token_accuracy(one, other)
            return {"f1": chunk_f1, "precision": chunk_precision, "recall": chunk_recall}[metric](one, other, scheme)
        case "answers":
            words = partial(mlqa_words, language=code) if task == "mlqa" else normal_words
            return {"f1": answer_f1, "exact_match": exact_match}[metric](one, other, words=words)
        case "pairs":
            return {"f1": mined_f1, "precision": mined_precision, "recall": mined_recall}[metric](one, other)
        case "ranked":
            return average_precision(one, other)
        case _:
            return accuracy(one, other)


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
    for article in list_field(json_file(path), "data", str(path)):
        for paragraph in list_field(mapping(article, str(path)), "paragraphs", str(path)):
            for item in list_field(mapping(paragraph, str(path)), "qas", str(path)):
                record = mapping(item, str(path))
                name = text_field(record, "id", str(path))
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
