"""What a whole study's models cost to serve: one checkpoint a cell (its first seed), in every engine, in every language.

Models with and without an intermediate step are compared in turn, in each engine, and the baseline with itself beside them. What is
measured is stored at once, beside the study, so that a run that was cut short goes on where it stopped; with other settings or on
another machine it begins anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xstilts import machine, provenance
from xstilts.analysis import serving
from xstilts.analysis.transfer import BASELINE
from xstilts.deploy import bench
from xstilts.deploy.export import export
from xstilts.deploy.find import find, planned
from xstilts.deploy.spec import KINDS
from xstilts.errors import ModelError, StudyError, nearest
from xstilts.plan import Plan
from xstilts.stages import Choose, Train
from xstilts.store import Store, disk_error, write_json
from xstilts.tasks import task as find_task

# by name: format and precision of the export that it runs; of "torch" none, it runs the entry of the store as it was scored
ENGINES: Mapping[str, tuple[str, str] | None] = {
    "torch": None, "onnx": ("onnx", "fp32"), "onnx-int8": ("onnx", "int8"), "openvino": ("openvino", "fp32"),
    "openvino-bf16": ("openvino", "bf16"),
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A checkpoint of a study."""

    model: str
    intermediate: str
    target: str
    seed: int
    key: str

    @property
    def place(self) -> dict[str, str | int]:
        """Whose it is, as the stored file has it."""
        return {
            "model": self.model, "intermediate": self.intermediate, "target": self.target, "seed": self.seed, "key": self.key,
        }  # fmt: skip


Tell = Callable[[str], None]
Table = dict[str, Any]


def bench_study(study: str, targets: Sequence[str], engines: Sequence[str], plan: bench.Plan, tell: Tell) -> tuple[str, Path]:
    """Measure what the store still lacks of a study; its name and the file that holds everything. `plan` names no model.

    Raises StudyError for an unknown target or engine and for an engine of the CPU on a GPU, ModelError where weights are missing, and
    what `export` raises but refusals of a format, which are noted.
    """
    store, data = Store.open(Path(plan.where["store"])), Path(plan.where["data"])
    made = planned(study, store, data, plan.where["device"])
    for name, known in (*((each, made.study.targets) for each in targets), *((each, tuple(ENGINES)) for each in engines)):
        if name not in known:
            raise StudyError(f'{made.study.name}: no "{name}"{nearest(name, known)} (one of: {", ".join(known)})')
    for name in engines:
        if plan.where["device"] != "cpu" and ENGINES[name] is not None:
            raise StudyError(f"--engines: {name} computes on the CPU; add --device cpu, or measure torch alone on a GPU")
    points, skipped = _points(made, store, targets or made.study.targets, study)
    path = serving.path_of(store, made.study.name)
    table = _begun(serving.stored(store, made.study.name), plan)
    table["load"].append(os.getloadavg()[0])
    table["refused"] = skipped
    for target in dict.fromkeys(point.target for point in points):
        for engine in engines:
            own = [point for point in points if point.target == target]
            files = _files(own, engine, store, data, plan.where, table, tell)
            of = replace(plan, where={**plan.where, "task": target})
            for point in own:
                if point.key in files and not _has(table["measured"], point.place, engine):
                    tell(f"{_named(point)}, {engine}")
                    table["measured"].append({**_measure(files[point.key], of), **point.place, "engine": engine})
                    _save(path, table)
            for model in dict.fromkeys(point.model for point in own):
                _compare([p for p in own if p.model == model and p.key in files], files, engine, of, table, path, tell)
    _save(path, table)
    return made.study.name, path


def _points(made: Plan, store: Store, targets: Sequence[str], asked: str) -> tuple[list[Point], list[str]]:
    """The checkpoints, the baseline of each model and target first, and a line for every cell that has none to serve."""
    found: dict[tuple[str, str, str], Point] = {}
    skipped = []
    for cell in sorted(made.cells, key=lambda cell: (cell.seed, cell.intermediate != BASELINE)):
        place, stage = (cell.model, cell.intermediate, cell.target), cell.predict.model
        if cell.target not in targets or place in found:
            continue
        if not isinstance(stage, Train | Choose) or find_task(cell.target).kind not in KINDS:
            skipped.append(f"{cell.model}, {cell.intermediate} → {cell.target}: has no head that could be served")
            continue
        if store.find_weights(stage.key) is None:
            raise ModelError(
                f"{made.study.name}: the weights of {cell.model}/{cell.intermediate}/{cell.target}/{cell.seed} are not in {store.path}; "
                f'run it first with keep = "all": xstilts run {asked}'
            )
        found[place] = Point(*place, cell.seed, stage.key)
    return list(found.values()), list(dict.fromkeys(skipped))


def _begun(found: Mapping[str, Any] | None, plan: bench.Plan) -> Table:
    """What an earlier run with the same settings on the same kind of machine has measured, else an empty table."""
    names = ("device", "threads", "rows", "languages")
    settings = {"seconds": plan.seconds, "rounds": plan.rounds, "bound": plan.bound, **{name: plan.where[name] for name in names}}
    here = {"settings": settings, "machine": bench.machine_of(plan.where["device"]), "cores": machine.cores()}
    if found is not None and {name: found.get(name) for name in here} == here:
        return dict(found)
    return {**here, "note": serving.NO_RESULT, "load": [], "measured": [], "compared": [], "refused": []}


def _has(rows: Sequence[Mapping[str, Any]], place: Mapping[str, object], engine: str) -> bool:
    return any(row["engine"] == engine and all(row[name] == value for name, value in place.items()) for row in rows)


def _files(
    points: Sequence[Point], engine: str, store: Store, data: Path, where: Mapping[str, Any], table: Table, tell: Tell
) -> dict[str, str]:
    """By key, what the engine loads: a stage's key, or the folder of an export, made where it is not there yet."""
    form = ENGINES[engine]
    found: dict[str, str] = {}
    for point in points:
        folder = store.cache / "exports" / f"{point.key}-{point.target}-{engine}"
        try:
            model = find(point.key, store.path, data, str(where["device"]), point.target)
            if form is not None and not folder.is_dir():
                tell(f"{_named(point)}: export for {engine}")
                export(model, *form, folder, data)
        except ModelError as error:
            table["refused"].append(f"{_named(point)}, {engine}: {error}")
        else:
            found[point.key] = point.key if form is None else str(folder)
    return found


def _measure(name: str, plan: bench.Plan) -> Table:
    with bench.loaded(name, plan.where) as process:
        cells = [bench.cell(process, language, plan) for language in process.facts["languages"]]
        most = 1.2 * max(cell["offline"]["rate"] for cell in cells)
        server = process("server", seconds=plan.seconds, bound=plan.bound, most=most)["found"]
        facts = {"cold": process.cold, **process("memory"), "made": provenance.made(str(plan.where["device"]))}
        return {**process.facts, **facts, "server": server, "cells": cells}


def _compare(
    own: Sequence[Point], files: Mapping[str, str], engine: str, plan: bench.Plan, table: Table, path: Path, tell: Tell
) -> None:
    """The baseline with itself (second ""), then with each choice."""
    if not own or own[0].intermediate != BASELINE:
        return
    first = own[0]
    for second in own:
        name = "" if second is first else second.intermediate
        place = {"model": first.model, "target": first.target, "second": name, "keys": [first.key, second.key]}
        if not _has(table["compared"], place, engine):
            tell(f"{_named(first)}, {engine}, against {name or 'itself'}")
            rounds = bench.rounds(files[first.key], files[second.key], plan)
            table["compared"].append({**place, "engine": engine, "rounds": rounds})
            _save(path, table)


def _named(point: Point) -> str:
    return f"{point.model}, {point.intermediate} → {point.target}"


def _save(path: Path, table: Table) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        write_json(path, table)
    except OSError as error:
        raise disk_error(error, path) from error
