"""How long a plan will take, how much memory and disk: from what finished stages took here, else from a short measurement.

Time is that of finished stages for a token, of one model, precision and number of threads. Where none has finished it is
operations / rate + passes * layers * launch + updates * numbers trained * update, with rate, launch and update measured on some layers
of the same width (`executors.calibrate`). On a device that is only named it is operations / (its peak * machine.UTILISATION).
It is an estimate; nothing but the display of `plan` stands on it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts import apertium, machine
from xstilts.arithmetic import Shape
from xstilts.canon import plain
from xstilts.errors import XstiltsError
from xstilts.executors.local import environment
from xstilts.machine import Device
from xstilts.models import size as model_size
from xstilts.needs import Counts, Line, Need, lines, need, shapes
from xstilts.plan import Plan
from xstilts.run import rivals
from xstilts.stages import (
    ALONE,
    Apertium,
    Choose,
    Given,
    Layout,
    Merge,
    Predict,
    Pretrain,
    Rows,
    Runtime,
    Stage,
    Train,
    Translate,
    parents,
    recipe_of,
    root,
)
from xstilts.store import Store, write_json
from xstilts.translations import named

START = 6.0  # seconds until the first worker trains: imports
OVERHEAD = 0.15  # seconds a stage: reading, loading a model, writing the entry


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left of a plan: seconds, peak MB while it runs, bytes on disk at the peak and when it has ended, and the basis."""

    seconds: float | None  # None: a size is not known before something has run
    megabytes: float | None
    disk_peak: int
    disk_after: int
    basis: str
    lines: tuple[Line, ...] = ()  # what each sort of stage needs
    each: Mapping[str, float] | None = None  # seconds of every stage, by key; None as for `seconds`


@dataclass(frozen=True, slots=True)
class Speed:
    """What a device does with layers of one width."""

    training: float  # operations a second
    prediction: float
    launch: float = 0.0  # seconds that a layer takes whatever goes through it, of a training's pass
    start: float = 0.0  # the same of a prediction's
    update: float = 0.0  # seconds that the optimizer takes for one number


def seconds(wanted: Need, speed: Speed, trains: bool) -> float:
    """Seconds of a stage."""
    rate, launch = (speed.training, speed.launch) if trains else (speed.prediction, speed.start)
    took = wanted.operations / rate + wanted.passes * wanted.layers * launch + wanted.steps * wanted.trained * speed.update
    return took + OVERHEAD


def on_device(
    plan: Plan, todo: Mapping[str, Stage], store: Store, data: Path, device: Device, layout: Layout = ALONE
) -> tuple[list[Line], dict[str, float]]:
    """What the stages need of a device that is only named, and the seconds that each would take on it alone. Nothing is measured.

    A training is spread over as many such devices as `layout` has processes, without loss.
    """
    counts, known = Counts(store, data), shapes(plan, store)
    found = lines(plan, todo, store, counts, "cuda", device.memory, layout)
    took = {}
    for key, stage in todo.items():
        shape = known.get(root(stage).key) if isinstance(stage, Train | Predict) else None
        if shape is not None and isinstance(stage, Train | Predict):
            peak = device.bf16 if stage.runtime.precision == "bf16" else device.fp32
            speed = Speed(machine.UTILISATION * peak, machine.UTILISATION * peak)
            alone = seconds(need(stage, shape, counts, "cuda", layout), speed, isinstance(stage, Train))
            took[key] = alone / layout.size if isinstance(stage, Train) else alone
    counts.save()
    return found, took


def parameters(plan: Plan, store: Store) -> dict[str, int]:
    """The parameters of every start of a plan, by its key: of its weight files, else of its config; without those that are not known."""
    found = {key: shape.parameters for key, shape in shapes(plan, store).items()}
    for start in plan.models.values():
        made = store.find_weights(start.key) if isinstance(start, Pretrain) else None
        where = plan.where.get(start.key) if made is None else made / "encoder"
        if isinstance(where, Path):
            found[start.key] = model_size(where)["parameters"]
    return found


def estimate(plan: Plan, todo: Mapping[str, Stage], store: Store, data: Path, jobs: int) -> Estimate:
    """The estimate for the stages in `todo`. Counts rows once (kept in the cache), measures once when nothing has run here."""
    known, counts = shapes(plan, store), Counts(store, data)
    bytes_peak, bytes_after = disk(plan, todo, parameters(plan, store), store, jobs, counts)
    cached = image_states(todo, known, counts)
    bytes_peak, bytes_after = bytes_peak + cached, bytes_after + cached
    if not todo:
        return Estimate(0.0, 0.0, bytes_peak, bytes_after, "nothing is missing")
    device = next(iter(todo.values())).runtime.device
    room = machine.cuda_memory() if device == "cuda" else machine.memory()
    found = tuple(lines(plan, todo, store, counts, device, room.free if room else None))
    counts.save()
    peaks = sorted((line.need.memory.peak for line in found if line.need is not None for _ in line.stages), reverse=True)
    megabytes = sum(peaks[:jobs]) / 2**20 if peaks else None
    needs = {key: line for line in found for key in line.stages}
    each, basis = _seconds(plan, todo, store, known, counts, jobs, needs)
    if each is None:
        return Estimate(None, megabytes, bytes_peak, bytes_after, basis, found)
    chain: dict[str, float] = {}
    for key, stage in todo.items():
        chain[key] = each[key] + max((chain.get(start.key, 0.0) for start in parents(stage)), default=0.0)
    total = START + max(sum(each.values()) / jobs, max(chain.values()))
    return Estimate(total, megabytes, bytes_peak, bytes_after, basis, found, each)


def _seconds(
    plan: Plan, todo: Mapping[str, Stage], store: Store, known: Mapping[str, Shape], counts: Counts, jobs: int, needs: Mapping[str, Line]
) -> tuple[dict[str, float] | None, str]:
    """The seconds of every stage, and what they stand on; None, and why, where one cannot be told."""
    rates, finished = _finished(plan, store, known)
    speeds: dict[str, Speed] = {}
    took: dict[str, float] = {}
    unknown: dict[str, None] = {}  # translators of which nothing has run here
    for key, stage in todo.items():
        if isinstance(stage, Merge | Choose):
            took[key] = OVERHEAD
            continue
        if isinstance(stage, Translate):
            speed = _translates(stage, plan, store)
            if speed is None:
                unknown[named(stage.by)] = None
            took[key] = OVERHEAD + (counts.characters(stage.rows) / speed if speed else 0.0)
            continue
        shape = known.get(root(stage).key)
        if isinstance(stage, Pretrain) or shape is None:
            return None, f"no measurement fits {root(stage).key[:12]} before it has run"
        if needs[key].fits is False:
            return None, f"{needs[key].kind} {needs[key].model}: {needs[key].what} does not fit into this machine's memory"
        wanted, sort = need(stage, shape, counts, stage.runtime.device), _sort(stage, shape)
        if sort in rates:
            took[key] = wanted.tokens / rates[sort] + OVERHEAD
        else:
            place = _width(shape, stage.runtime)
            if place not in speeds:
                speeds[place] = _measured(store, place, shape, stage.runtime, jobs)
            took[key] = seconds(wanted, speeds[place], isinstance(stage, Train))
    counts.save()
    basis = f"measured on {finished} finished stages"
    if speeds:
        basis = "a short measurement on this machine" + (f", and {finished} finished stages" if finished else "")
    if unknown:
        basis += f"; without the translation by {' and '.join(unknown)}, which has not run here yet"
    return took, basis


def disk(
    plan: Plan, todo: Mapping[str, Stage], known: Mapping[str, int], store: Store, jobs: int, counts: Counts
) -> tuple[int, int]:
    """Bytes of the study at its peak and after `keep` was applied (weights are fp32; drafts hold three times as much).

    `known` are the parameters of its starts, by key.
    """
    among, groups = rivals(plan.stages)
    going = {*among, *(stage.key for group in groups for stage in group[1:])}  # one of each group stays, whichever it will be
    here, then, biggest = 0, 0, 0
    for stage in plan.stages:
        size = None if isinstance(stage, Translate) else known.get(root(stage).key)
        if isinstance(stage, Predict):
            own = 50_000
            then += own
        elif isinstance(stage, Translate):
            own = int(1.5 * counts.characters(stage.rows))
            then += own
        else:
            whole = not isinstance(stage, Train | Choose) or recipe_of(stage).tuning == "full"  # else heads and an adapter alone
            own = 4 * size * whole + 3_000_000 if size is not None else 0
            biggest = max(biggest, own)
            match plan.study.keep:
                case "all":
                    then += own
                case "best" if stage.key not in going:
                    then += own
                case "none" if isinstance(stage, Pretrain):
                    then += own
                case _:
                    then += 3_000_000
        here += own if stage.key in todo or isinstance(stage, Predict | Translate) or store.find_weights(stage.key) is not None else 0
    return here + (3 * biggest * min(jobs, len(todo))), then


def image_states(todo: Mapping[str, Stage], known: Mapping[str, Shape], counts: Counts) -> int:
    """Bytes that the states of images take in the cache, at most: those of a split once, whatever languages its texts are in."""
    most: dict[tuple[str, str, str], int] = {}
    for stage in todo.values():
        if not isinstance(stage, Train | Predict):
            continue
        shape = known.get(root(stage).key)
        if shape is None or shape.sight is None:
            continue
        for rows in (*(share.rows for share in stage.mix), *stage.select) if isinstance(stage, Train) else (stage.rows,):
            place = (root(stage).key, rows.task, rows.split)
            most[place] = max(most.get(place, 0), counts.images(rows) * shape.sight.bytes)
    return sum(most.values())


def counter(store: Store, data: Path) -> Callable[[Rows], int]:
    """Counts rows, each once: what a plan's mixes ask for. Raises DataError for rows that cannot be read."""
    counts = Counts(store, data)

    def count(rows: Rows) -> int:
        found = counts.count(rows)
        counts.save()
        return found

    return count


# ---- rates ----


def _translates(stage: Translate, plan: Plan, store: Store) -> float | None:
    """Characters a second of a translator: what the last translation by it took here, else measured now where that is quick."""
    for key in reversed([other.key for other in plan.stages if isinstance(other, Translate) and other.by == stage.by]):
        manifest = store.manifest(key)
        if manifest is not None and manifest["made"].get("machine") == machine.kind() and manifest["facts"].get("seconds"):
            return float(manifest["facts"]["rows_characters"]) / float(manifest["facts"]["seconds"])
    match stage.by:
        case Given():
            return 2e7  # reading and comparing JSON; nothing is translated
        case Apertium(mode=mode):
            name = f"{machine.kind()} / {json.dumps(plain(stage.by), sort_keys=True)}"
            return _kept(store, name, lambda: apertium.speed(mode))
        case _:
            return None


def _kept(store: Store, name: str, measured: Callable[[], float]) -> float:
    """A figure of the store's cache, measured where it is not there yet."""
    path = store.cache / "translators.json"
    try:
        kept: dict[str, float] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        kept = {}
    if name not in kept:
        kept[name] = measured()
        try:
            write_json(path, kept)
        except OSError:
            pass
    return kept[name]


def _sort(stage: Stage, shape: Shape) -> str:
    """Stages of one sort run at one rate: what they do, the model's size and form, precision, threads, device."""
    stack, runtime = shape.stacks[0], stage.runtime
    size = f"{stack.hidden}x{stack.layers}/{shape.parameters}"
    form = "" if isinstance(stage, Translate) or root(stage).form == "heads" else " text"
    return f"{type(stage).__name__} {size} {runtime.precision} {runtime.threads} {runtime.device}{form}"


def _finished(plan: Plan, store: Store, known: Mapping[str, Shape]) -> tuple[dict[str, float], int]:
    """Tokens a second by sort, of the plan's finished stages that this machine kind made, and how many there are."""
    found: dict[str, list[float]] = {}
    for stage in plan.stages:
        shape = None if isinstance(stage, Translate | Pretrain) else known.get(root(stage).key)
        manifest = store.manifest(stage.key) if shape is not None else None
        if shape is None or manifest is None or manifest["made"].get("machine") != machine.kind():
            continue
        facts = manifest["facts"]
        if facts.get("tokens") and facts.get("seconds"):
            found.setdefault(_sort(stage, shape), []).append(facts["tokens"] / facts["seconds"])
    return {sort: statistics.median(each) for sort, each in found.items()}, sum(len(each) for each in found.values())


def _width(shape: Shape, runtime: Runtime) -> str:
    """What a measured speed depends on: the width of the layers, precision, threads, device."""
    stack = shape.stacks[0]
    return f"{stack.hidden} {stack.heads} {stack.matrices} {runtime.precision} {runtime.threads} {runtime.device}"


def _measured(store: Store, width: str, shape: Shape, runtime: Runtime, jobs: int) -> Speed:
    """The speed of layers of a width, `jobs` processes at once: of the store's cache, measured where it is not there yet."""
    path, name = store.cache / "speed.json", f"{machine.kind()} / {jobs} at once / {width}"
    try:
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        kept = {}
    if name not in kept:
        kept[name] = plain(measure(shape, runtime, jobs))
        try:
            write_json(path, kept)
        except OSError:
            pass
    return Speed(**{key: float(value) for key, value in kept[name].items() if key != "type"})


def measure(shape: Shape, runtime: Runtime, jobs: int) -> Speed:
    """Time some steps of a few random layers of this width, `jobs` processes at once as in a run; the mean of what they say.

    Raises XstiltsError when the measurement fails.
    """
    stack = shape.stacks[0]
    heads = stack.heads if stack.hidden % stack.heads == 0 else 1
    asked = {
        "hidden": stack.hidden, "heads": heads, "layers": stack.layers, "threads": runtime.threads, "precision": runtime.precision,
        "inner": max(1, (stack.matrices - 4 * stack.hidden**2) // (2 * stack.hidden)), "device": runtime.device,
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "xstilts.executors.calibrate", json.dumps(asked)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(runtime.threads, offline=True),
        )
        for _ in range(min(jobs, machine.cores()))
    ]
    answers = []
    for process in processes:
        out, err = process.communicate()
        if process.returncode:
            last = (err.strip().splitlines() or ["no message"])[-1]
            raise XstiltsError(f"the speed of this machine could not be measured: {last}")
        answers.append(json.loads(out))
    return Speed(**{name: statistics.fmean(answer[name] for answer in answers) for name in answers[0]})
