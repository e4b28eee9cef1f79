"""Scores and predictions that were made elsewhere, beside a study's own: `imports/STUDY.json` in the store says which.

Predictions become entries of the store like those of our own stages, with rows, ids and gold answers of the study's data,
so that everything works on them. Of scores alone only the numbers are known: their intervals lack the part of the items.
Both carry "(imported)" in the name of the model, or of the intermediate choice where the model is the study's own.
"""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xstilts import scores
from xstilts.benchmark import FORMS
from xstilts.errors import DataError, ScoreError, StoreError, StudyError, nearest
from xstilts.examples import Example, gold_of, group_of, is_candidate
from xstilts.metrics import Items
from xstilts.plan import Cell, Plan, ingredients
from xstilts.rows import load
from xstilts.scores import Result, write_predictions
from xstilts.sources import mapping, parse
from xstilts.stages import Predict, Pretrained, Recipe, Rows, Runtime, Start, Train
from xstilts.store import Store, disk_error, write_json
from xstilts.study import NONE, TARGET, UNTUNED, ingredient
from xstilts.submission import WHOLE, file_there, find_file, read_answers, read_pairs, read_ranked, read_rows
from xstilts.task import Task
from xstilts.tasks import names as task_names
from xstilts.tasks import task as find_task

MARK = " (imported)"
MEAN = "mean"  # how a mean over languages is written where a language stands
Pred = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Imported:
    """One cell from elsewhere: predictions (`key` names their entry) or scores (`values` by metric, over `n` rows)."""

    model: str
    intermediate: str
    target: str
    language: str  # "" for the mean over languages that somebody published
    seed: int
    source: str  # the file's name and the first digits of its SHA-256
    when: str
    key: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    n: int = 0  # 0: not said
    parameters: int = 0  # of the model; 0: not said
    series: str = ""  # what it shares with models that were pretrained alike but for their size; "": not said

    @property
    def place(self) -> tuple[str, str, str, str, int]:
        """What two imports cannot share."""
        return self.model, self.intermediate, self.target, self.language, self.seed


@dataclass(frozen=True, slots=True)
class Named:
    """What the options of `xstilts import` say of the thing; None or 0: the file says it, or nobody."""

    model: str | None = None
    intermediate: str | None = None
    seed: int | None = None
    parameters: int = 0
    series: str = ""


@dataclass(frozen=True, slots=True)
class Beside:
    """What a report is given of a study's imports: cells with predictions, results without items, sizes, and notes."""

    cells: tuple[Cell, ...] = ()
    results: tuple[Result, ...] = ()
    parameters: Mapping[str, int] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# ---- what is stored ----


def stored(store: Store, study: str) -> tuple[Imported, ...]:
    """The imports of a study, in the order in which they came. Raises StoreError for a file that cannot be read."""
    path = _path(store, study)
    try:
        table = json.loads(path.read_text("utf-8"))
        return tuple(Imported(**each) for each in table["cells"])
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise disk_error(error, path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read as a study's imports ({error}); remove it and import again") from error


def keep(store: Store, study: str, new: Sequence[Imported]) -> None:
    """Adds imports to a study; one at the same place is replaced.

    Raises StoreError, and ScoreError where one choice would have both a published mean and single languages.
    """
    places = {each.place for each in new}
    path = _path(store, study)
    cells = (*(each for each in stored(store, study) if each.place not in places), *new)
    means = {(each.model, each.intermediate, each.target) for each in cells if not each.language}
    if both := [each for each in cells if each.language and (each.model, each.intermediate, each.target) in means]:
        where = f"{both[0].target} of {both[0].model} after {both[0].intermediate}"
        raise ScoreError(f"{where}: a mean over languages and single languages; import one of the two (the list is {path})")
    try:
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"cells": [asdict(each) for each in cells]})
    except OSError as error:
        raise disk_error(error, path) from error


def _path(store: Store, study: str) -> Path:
    return store.path / "imports" / f"{study}.json"


def beside(plan: Plan, imports: Iterable[Imported]) -> Beside:
    """The imports of a plan's targets and languages, ready for a report; the others wait until the study names theirs."""
    wanted = {(cell.target, cell.language) for cell in plan.cells}
    own = set(plan.models)
    cells: list[Cell] = []
    results: list[Result] = []
    notes: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    series: dict[str, str] = {}
    for each in imports:
        if each.target not in plan.study.targets or (each.language and (each.target, each.language) not in wanted):
            continue
        task = find_task(each.target)
        model = each.model if each.model in own else each.model + MARK
        step = each.intermediate + MARK if each.model in own and each.intermediate != NONE else each.intermediate
        unseen = Rows(each.target, task.version, "test", "test", each.language, "")
        predict = _predict(each, _rows(plan, each.target, each.language) if each.key else unseen, task)
        same = _same_data(plan, each.intermediate, task)
        cell = Cell(model, step, each.target, each.language, plan.study.part, each.seed, predict, same)
        if each.key:
            cells.append(cell)
        else:
            items = tuple(Items(m, np.array([each.values[m] / 100]), np.ones(1)) for m in task.metrics if m in each.values)
            results.append(Result(cell, items, ("all",), np.zeros(1, dtype=np.int64), each.n))
        if each.parameters:
            sizes[model] = each.parameters
        if each.series:
            series[model] = each.series
        what = "predictions" if each.key else f"scores without items, from {each.source}"
        notes.setdefault(f"{model} after {step}, seed {each.seed}, {each.when}, {what}", []).append(each.target)
    lines = [f"Imported, not run here: {text}: {', '.join(dict.fromkeys(targets))}." for text, targets in notes.items()]
    return Beside(tuple(cells), tuple(results), sizes, series, tuple(lines))


def _same_data(plan: Plan, intermediate: str, task: Task) -> bool:
    """As the study's own cells after a choice of that name, else by the name of a task or of one of the study's mixes."""
    own = [cell.same_data for cell in plan.cells if (cell.intermediate, cell.target) == (intermediate, task.name)]
    if own or intermediate not in (*plan.study.mixes, *task_names()):
        return any(own)
    names = {ingredient(name)[0] for name in ingredients(plan.study, intermediate)} - {TARGET}
    return task.trains and any(find_task(name).material & task.material for name in names)


def _predict(each: Imported, rows: Rows, task: Task) -> Predict:
    """A stage that stands for the work done elsewhere: its key is that of the source's content and place."""
    start: Start = Pretrained(f"imported: {each.model}, {each.source}")
    if each.intermediate != UNTUNED and (task.trains or each.intermediate != NONE):
        start = Train(start, (), (), Recipe(), each.seed, Runtime())
    return Predict(start, rows, 0, 0, Runtime())


def _rows(plan: Plan, target: str, language: str) -> Rows:
    return next(cell.predict.rows for cell in plan.cells if (cell.target, cell.language) == (target, language))


# ---- what is read ----


def read(
    path: Path, plan: Plan, data: Path, store: Store, named: Named, labels: Path | None = None
) -> tuple[list[Imported], list[str]]:
    """The imports that a scores.csv, a TOML or JSON row, or a folder of predictions holds, and what was left out.

    Predictions are put into the store. Raises StudyError, ScoreError, DataError or StoreError; nothing is kept then.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir() and not (path / "scores.csv").is_file():
        found, left = _from_folder(path, plan, data, store, named, labels), _absent(path, plan)
    else:
        path = path / "scores.csv" if path.is_dir() else path
        every = list(_from_csv(path, named) if path.suffix == ".csv" else _from_row(path, named))
        found = [each for each in every if each.target in plan.study.targets]
        left = [f"{name}: not a target of the study" for name in dict.fromkeys(e.target for e in every if e not in found)]
    if not found:
        raise ScoreError(f"{path}: holds nothing for the targets of {plan.study.name} ({' '.join(plan.study.targets)})")
    for each in found:
        _check(each, plan, path)
    return found, left


def _check(each: Imported, plan: Plan, path: Path) -> None:
    """Raises StudyError or ScoreError for what the study cannot show."""
    if (each.model, each.intermediate) in {(cell.model, cell.intermediate) for cell in plan.cells}:
        own = f'"{each.model}" after "{each.intermediate}"'
        raise StudyError(f"{path}: the study itself runs {own}; give another --model or --intermediate")
    if each.key:
        return
    task = find_task(each.target)
    for metric, value in each.values.items():
        if metric not in task.metrics:
            known = f"(it has: {' '.join(task.metrics)}){nearest(metric, task.metrics)}"
            raise ScoreError(f'{path}: {each.target} has no metric "{metric}" {known}')
        if not 0 <= value <= 100:
            raise ScoreError(f"{path}: {each.target}, {metric}: {value} is not on 0-100")
    if task.metrics[0] not in each.values:
        raise ScoreError(f"{path}: {each.target}, {each.language or MEAN}: no {task.metrics[0]}, which is its headline metric")
    if each.language and each.language not in task.languages:
        raise ScoreError(f'{path}: {each.target} has no language "{each.language}"{nearest(each.language, task.languages)}')


def _from_csv(path: Path, named: Named) -> Iterator[Imported]:
    """One import for each cell of a scores.csv; options replace what its columns say."""
    source, now = _source(path), _now()
    by_place: dict[tuple[str, str, str, str, int], tuple[dict[str, float], int]] = {}
    for row in scores.read_csv(path):
        place = (
            named.model or row.model,
            named.intermediate or row.intermediate,
            row.target,
            "" if row.language == MEAN else row.language,
            row.seed if named.seed is None else named.seed,
        )
        values, _ = by_place.setdefault(place, ({}, row.n))
        if row.metric in values:
            where = ", ".join(map(str, (*place, row.metric)))
            raise ScoreError(f"{path}: two rows for {where}; import one model, intermediate and seed at a time")
        values[row.metric] = row.value
    for place, (values, n) in by_place.items():
        yield Imported(*place, source, now, "", values, n, named.parameters, named.series)


def _from_row(path: Path, named: Named) -> Iterator[Imported]:
    """A leaderboard row: {model, intermediate, seed, parameters, series, source, scores: {task: number, or by metric or language}}."""
    table = _table(path)
    known = ("model", "intermediate", "seed", "parameters", "series", "source", "scores")
    if odd := [key for key in table if key not in known]:
        raise ScoreError(f'{path}: unknown key "{odd[0]}" (known: {", ".join(known)}){nearest(odd[0], known)}')
    model, intermediate = named.model or table.get("model"), named.intermediate or table.get("intermediate", NONE)
    seed = table.get("seed", 0) if named.seed is None else named.seed
    parameters, series = named.parameters or table.get("parameters", 0), named.series or table.get("series", "")
    if not isinstance(model, str) or not model:
        raise ScoreError(f"{path}: whose scores are they? give --model")
    if not isinstance(intermediate, str) or not isinstance(series, str) or type(seed) is not int or type(parameters) is not int:
        raise ScoreError(f"{path}: intermediate and series should be text, seed and parameters whole numbers")
    source = f"{table['source']} ({_source(path)})" if table.get("source") else _source(path)
    for target, given in mapping(table.get("scores", {}), f"{path}: scores").items():
        for language, values in _by_language(path, find_task(target), given).items():
            yield Imported(model, intermediate, target, language, seed, source, _now(), "", values, 0, parameters, series)


def _by_language(path: Path, task: Task, given: object) -> dict[str, dict[str, float]]:
    """79.2, {f1: 76.6, exact_match: 60.8}, {de: 77.0} or {de: {f1: ...}} as values by language and metric; "" is the mean."""
    where = f"{path}: scores.{task.name}"
    if not isinstance(given, dict):
        return {"": {task.metrics[0]: _number(given, where)}}
    if all(name in task.metrics for name in given):
        return {"": {name: _number(value, f"{where}.{name}") for name, value in given.items()}}
    found = {}
    for name, own in given.items():
        each = own if isinstance(own, dict) else {task.metrics[0]: own}
        found["" if name == MEAN else name] = {metric: _number(value, f"{where}.{name}") for metric, value in each.items()}
    return found


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScoreError(f"{where}: expected a number on 0-100, got {value!r}")
    return float(value)


def _table(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if path.suffix == ".toml":
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise DataError(f"{path}: not TOML: {error}") from None
    if path.suffix == ".json":
        return mapping(parse(text, str(path)), str(path))
    raise DataError(f"{path}: neither a folder of predictions nor a .csv, .toml or .json file of scores")


# ---- predictions ----


def _from_folder(path: Path, plan: Plan, data: Path, store: Store, named: Named, labels: Path | None) -> list[Imported]:
    """Reads every file that the plan's targets and languages ask for, then puts all of them into the store."""
    if not named.model:
        raise ScoreError(f"{path}: whose predictions are they? give --model")
    if plan.study.part != "test":
        raise StudyError(f"{plan.study.name} scores its {plan.study.part} part; prediction folders hold test rows")
    made: list[tuple[Imported, Predict, list[Example], Pred]] = []
    for (target, language), file in _present(path, plan).items():
        task, rows = find_task(target), _rows(plan, target, language)
        examples = [e for e in load(replace(rows, cap=None, cut=WHOLE, without=()), data) if not is_candidate(e)]
        where = find_file(labels, target, language) if labels is not None else None
        by_id = dict(zip((e.id for e in examples), _predictions(file, task, language, examples, rows, data, where), strict=True))
        chosen = [e for e in load(rows, data) if not is_candidate(e)]
        place = (named.model, named.intermediate or NONE, target, language, named.seed or 0)
        each = Imported(*place, _source(file), _now(), n=len(chosen), parameters=named.parameters, series=named.series)
        predict = _predict(each, rows, task)
        _check(replace(each, key=predict.key), plan, path)
        made.append((replace(each, key=predict.key), predict, chosen, [by_id[e.id] for e in chosen]))
    for each, predict, chosen, pred in made:
        with store.claim(predict.key) as draft:
            if draft is not None:
                ids, groups, gold = [e.id for e in chosen], [group_of(e) for e in chosen], [gold_of(e) for e in chosen]
                try:
                    write_predictions(draft / "out" / scores.PREDICTIONS, ids, groups, gold, pred)
                except OSError as error:
                    raise disk_error(error, store.path) from error
                store.finish(predict, 0.0, {"imported": each.source, "when": each.when})
    return [each for each, *_ in made]


def _present(path: Path, plan: Plan) -> dict[tuple[str, str], Path]:
    """The files of the folder that the plan's targets and languages ask for."""
    found: dict[tuple[str, str], Path] = {}
    for target, language in dict.fromkeys((cell.target, cell.language) for cell in plan.cells if cell.target in FORMS):
        if (file := file_there(path, target, language)) is not None:
            found[target, language] = file
    return found


def _absent(path: Path, plan: Plan) -> list[str]:
    """What the plan asks for and the folder has not, a line a target."""
    there = _present(path, plan)
    gone: dict[str, list[str]] = {}
    for target, language in dict.fromkeys((cell.target, cell.language) for cell in plan.cells):
        if (target, language) not in there:
            gone.setdefault(target, []).append(language)
    return [f"{target}: no predictions in {' '.join(languages)}" for target, languages in gone.items()]


def _predictions(
    file: Path, task: Task, language: str, examples: Sequence[Example], rows: Rows, data: Path, labels: Path | None
) -> Pred:
    """One prediction for each example of the whole test set. Raises DataError where file and data do not fit."""
    form = FORMS[task.name]
    match form.layout:
        case "answers":
            return _by_name(read_answers(file), [e.id.partition("#")[0] for e in examples], file)
        case "ranked":
            return _by_name(read_ranked(file), [e.id for e in examples], file)
        case "pairs":
            mined = read_pairs(file, language)
            if strange := mined.keys() - {e.id for e in examples}:
                raise DataError(f'{file}: "{min(strange)}" is no sentence of the data at hand')
            return [mined.get(e.id, ()) for e in examples]
    found = [row.values for row in read_rows(file, form)]
    if len(found) != len(examples):
        raise DataError(f"{file}: {len(found):,} rows, but {task.name} in {language} has {len(examples):,} in the data at hand")
    right = [row.values for row in read_rows(labels, form)] if labels is not None else [gold_of(e) for e in examples]
    if len(right) != len(examples):
        raise DataError(f"{labels}: {len(right):,} rows, but {task.name} in {language} has {len(examples):,} in the data at hand")
    if form.layout == "indices":
        return _by_index(found, right if labels is not None else None, examples, rows, data, file)
    for number, (example, pred, gold) in enumerate(zip(examples, found, right, strict=True), start=1):
        if len(pred) != len(gold_of(example)):
            raise DataError(f"{file}: sentence {number} has {len(pred)} tags, but {len(gold_of(example))} words in the data at hand")
        if gold != gold_of(example):
            raise DataError(f"{labels}: row {number} is labelled otherwise in the data at hand; are they in another order?")
    return found


def _by_name(found: Mapping[str, tuple[str, ...]], ids: Sequence[str], file: Path) -> Pred:
    if missing := [name for name in ids if name not in found]:
        raise DataError(f'{file}: nothing for "{missing[0]}" ({len(missing):,} of {len(ids):,} ids of the data at hand)')
    return [found[name] for name in ids]


def _by_index(found: Pred, right: Pred | None, examples: Sequence[Example], rows: Rows, data: Path, file: Path) -> Pred:
    """Candidate numbers as ids. The labels say in which order the candidates stood; without, it is that of the data."""
    names = [e.id for e in load(rows, data) if is_candidate(e)]
    if right is not None:
        gold = [gold_of(e)[0] for e in examples]
        at = {row[0]: name for row, name in zip(right, gold, strict=True)}
    else:
        at = {str(place): name for place, name in enumerate(names)}
    if strange := [row[0] for row in found if row[0] not in at]:
        raise DataError(f"{file}: candidate {strange[0]} of {len(at):,} (the first is 0)")
    return [(at[row[0]],) for row in found]


def _source(path: Path) -> str:
    """The name and the first digits of the SHA-256 of a file."""
    try:
        return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _now() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())
