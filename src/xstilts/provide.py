"""Rows that a study asks of the hub (`[hub.TASK]`): put into the data folder before its plan is made.

From then on they are files like any others, and their hashes are in the keys. Where the data folder also holds the official
files, which a task reads first, that is an error: rows are never taken from elsewhere than the study says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xstilts.errors import DataError, StudyError
from xstilts.hub import fetch, named
from xstilts.plan import ingredients, parts_of
from xstilts.study import EVERY, OWN, Splits, Study, ingredient, steps_of
from xstilts.task import Task
from xstilts.tasks import task as find_task


def provide(study: Study, data: Path, offline: bool = False, cache: Path | None = None) -> tuple[Path, ...]:
    """The files of the rows that the study asks of the hub; what is not here from the same table and commit is fetched.

    Raises StudyError for a task or split that there is not, DataError when a table cannot be had, is not here while
    `offline`, or is not what the task would read.
    """
    written: list[Path] = []
    for name, own in study.hub.items():
        try:
            task = find_task(name)
            there = named(task, own.repository, own.revision, own.config, own.splits, own.columns)
        except DataError as error:
            raise StudyError(f"hub.{name}: {error}") from None
        assert there.hub is not None
        for split in (split for split in _splits(study, task) if split in there.hub.tables):
            for language in _languages(study, task):
                paths = fetch(there, data, (split,), (language,), cache=cache, offline=offline)
                _check_read(task, data, split, language, paths)
                written += paths
    return tuple(dict.fromkeys(written))


def _splits(study: Study, task: Task) -> tuple[str, ...]:
    """The splits that the study reads of a task: its parts, and what mixes name in their place."""
    parts = parts_of(study, task)
    return tuple(dict.fromkeys(split for split in (parts.train, parts.dev, parts.test, *(m.split for m in study.mixes.values())) if split))


def _languages(study: Study, task: Task) -> tuple[str, ...]:
    """The training language, the scored ones of a target, and those that chains name."""
    wanted = study.splits.get(task.name, Splits()).languages or study.languages or task.languages
    scored = [code for code in task.languages if code in wanted] if task.name in study.targets else []
    return tuple(dict.fromkeys((*([task.train_language] if task.train_language in task.languages else []), *scored, *_named(study, task))))


def _named(study: Study, task: Task) -> Iterator[str]:
    for chain in study.intermediates:
        for name, code in map(ingredient, ingredients(study, chain) if steps_of(chain) else ()):
            if name == task.name and code not in ("", OWN, EVERY):
                yield code


def _check_read(task: Task, data: Path, split: str, language: str, paths: tuple[Path, ...]) -> None:
    read = task.source.files(data, split, language)
    if strange := [path for path in paths if path not in read]:
        raise DataError(
            f"{task.name} {split} {language}: {read[0]} would be read, not {strange[0].name} that [hub.{task.name}] asks for; "
            "move that file away, or leave the table out of the study"
        )
