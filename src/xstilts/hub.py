"""Rows from the hub, through `datasets`: fetched when a user asks for them, at a commit, and written as files.

A task names its repository, the commit and the tables (`task.Hub`). What is fetched becomes JSON Lines under
hub/TASK/ of the data folder, which the task's own readers know; from then on it is a file like any other, and its
hash is in the keys. Nothing else in the package asks the hub for rows. Only Parquet is taken: no repository's code runs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xstilts.errors import DataError, nearest
from xstilts.languages import language as language_row
from xstilts.task import Hub, Table, Task

SOURCE = "source.json"  # beside the files: from which repository, commit and table each came


def fetch(
    task: Task, data: Path, splits: Sequence[str] = (), languages: Sequence[str] = (), revision: str = "", cache: Path | None = None,
    offline: bool = False,
) -> tuple[Path, ...]:  # fmt: skip
    """Fetches the splits (default: all that the hub has) in the languages (default: all) and returns the files written.

    `revision` replaces the task's commit. A file that is there from the same table and commit is not fetched again.
    Raises DataError when the task has no repository, no commit is known, or a table cannot be had, holds no rows or, `offline`,
    is not here.
    """
    hub = _of(task, revision)
    written: list[Path] = []
    for split in splits or tuple(hub.tables):
        if split not in hub.tables:
            raise DataError(f'{task.name}: the hub has no split "{split}" (it has: {", ".join(hub.tables)}){nearest(split, hub.tables)}')
        for table in hub.tables[split]:
            for language in (table.only,) if table.only else languages or task.languages:
                path = data / table.path.format(language=language)
                origin = f"{hub.repository}@{hub.revision} {table.config.format(language=language)}/{table.split}"
                origin += "".join(f", {theirs} as {ours}" for theirs, ours in table.renamed)
                if not (path.is_file() and _origins(path).get(path.name) == origin):
                    if offline:
                        raise DataError(f"{path}: not here from {origin}, and --offline forbids to ask the hub; run once without it")
                    _write(path, _rows(hub, table, language, cache), origin)
                written.append(path)
    return tuple(written)


def named(task: Task, repository: str, revision: str, config: str, splits: Mapping[str, str], columns: Mapping[str, str]) -> Task:
    """The task with what is given in place of its own repository, commit, configuration, splits (ours -> theirs) and columns
    (ours -> theirs); "" and {} leave its own.

    Raises DataError when the task's reader knows no rows of the hub, or none of such a split.
    """
    if task.hub is None:
        raise DataError(f"no reader of hub rows is known for {task.name}. {task.get}")
    for split in splits:
        if split not in task.hub.tables:
            known = ", ".join(task.hub.tables)
            raise DataError(f'the reader knows no split "{split}" of the hub (it knows: {known}){nearest(split, task.hub.tables)}')
    tables = {
        split: tuple(_renamed(replace(t, config=config or t.config, split=splits.get(split, t.split)), columns) for t in own)
        for split, own in task.hub.tables.items()
    }
    return replace(task, hub=Hub(repository or task.hub.repository, revision or task.hub.revision, tables))


def _renamed(table: Table, columns: Mapping[str, str]) -> Table:
    """The table with `columns` (ours -> theirs) in place of its own columns of our names; class columns stay such."""
    own = dict(table.columns)  # () keeps all names as they are
    classes = tuple(columns.get(own.get(theirs, theirs), theirs) for theirs in table.named)
    return replace(table, named=classes, renamed=tuple((theirs, ours) for ours, theirs in columns.items()))


def _of(task: Task, revision: str) -> Hub:
    if task.hub is None:
        raise DataError(f"{task.name}: no repository of the hub is known for it. {task.get}")
    commit = revision or task.hub.revision
    if not commit:
        where = f"--revision, or in a study under [hub.{task.name}]"
        raise DataError(f"{task.name}: no commit of {task.hub.repository} is known; name one with {where} (its page lists them)")
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise DataError(f'{task.name}: "{commit}" is no commit; give all 40 hexadecimal digits')
    return Hub(task.hub.repository, commit, task.hub.tables)


def _rows(hub: Hub, table: Table, language: str, cache: Path | None) -> Iterator[Mapping[str, Any]]:
    """The rows of a table as JSON values, columns picked and renamed, classes named. Raises DataError."""
    try:
        import datasets
    except ImportError:
        raise DataError("datasets is not installed; install xstilts with its extra: pip install 'xstilts[hub]'") from None
    config = table.config.format(language=language)
    where = f"{hub.repository}@{hub.revision[:8]}, {config}/{table.split}"
    try:
        builder = datasets.load_dataset_builder(hub.repository, config, revision=hub.revision, cache_dir=_text(cache))
        if builder.name != "parquet":
            raise DataError(f"{where}: kept as {builder.name}, not as Parquet; choose another commit, or put the official files there")
        builder.download_and_prepare()
        rows = builder.as_dataset(split=table.split)
    except DataError:
        raise
    except Exception as error:  # whatever the network, the hub or the file may say
        said = str(error).splitlines()[0] if str(error) else "no reason given"
        raise DataError(f"{where}: cannot be fetched ({type(error).__name__}: {said})") from None
    # a column that is renamed is there under its new name only: readers know several names
    own = table.columns or tuple((name, name) for name in rows.column_names if name not in dict(table.renamed))
    columns = {ours: theirs for theirs, ours in (*own, *table.renamed)}
    if absent := [theirs for theirs in (*columns.values(), *table.named) if theirs not in rows.column_names]:
        raise DataError(f'{where}: no column "{absent[0]}" (there are: {", ".join(rows.column_names)})')
    names = {column: _class_names(rows.features[column]) for column in table.named}
    prefix = table.prefix.format(english=language_row(language).name.lower()) if table.prefix else ""
    for row in rows:
        if not prefix or str(row["id"]).startswith(prefix):
            yield {ours: _named(row[theirs], names.get(theirs)) for ours, theirs in columns.items()}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _class_names(feature: Any) -> Sequence[str] | None:
    """The names of a class column, or of a list of classes; None where the column holds text already."""
    found = getattr(getattr(feature, "feature", feature), "names", None)
    return None if found is None else [str(name) for name in found]


def _named(value: Any, names: Sequence[str] | None) -> Any:
    if names is None:
        return value
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    return "-" if value < 0 else names[value]


def _write(path: Path, rows: Iterator[Mapping[str, Any]], origin: str) -> None:
    """Writes the rows beside their place and moves them there: a file is there whole or not at all."""
    draft = path.with_name(f"{path.name}.part")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        if not count:
            raise DataError(f"{origin}: no rows")
        os.replace(draft, path)
        known = {**_origins(path), path.name: origin}
        path.with_name(SOURCE).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        draft.unlink(missing_ok=True)


def _origins(path: Path) -> dict[str, str]:
    """File name -> where it came from, for the files of a folder; nothing where that is not on record."""
    try:
        found = json.loads(path.with_name(SOURCE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
