"""The tasks: one file a data set, found by walking this folder for `TASK` (one) or `TASKS` (several)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from xstilts.errors import DataError, nearest
from xstilts.task import Task


@cache
def _tasks() -> Mapping[str, Task]:
    found: dict[str, Task] = {}
    for module in iter_modules(__path__):
        names = vars(import_module(f"{__name__}.{module.name}"))
        for task in (*names.get("TASKS", ()), *((names["TASK"],) if "TASK" in names else ())):
            if task.name in found:
                raise DataError(f'two files of {__name__} define a task "{task.name}"; rename one')
            found[task.name] = task
    return MappingProxyType(dict(sorted(found.items())))


def names() -> tuple[str, ...]:
    """The names of all tasks, in order."""
    return tuple(_tasks())


def task(name: str) -> Task:
    """The task of that name. Raises DataError, with the nearest name, when there is none."""
    try:
        return _tasks()[name]
    except KeyError:
        raise DataError(f'no task "{name}"{nearest(name, names())} (xstilts tasks lists all)') from None
