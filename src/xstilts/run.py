"""Carry out what a plan is missing: which stage runs when, on which worker; progress, failures, Ctrl-C."""

from __future__ import annotations

import errno
import os
import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from xstilts import machine
from xstilts.canon import plain
from xstilts.errors import StoreError
from xstilts.executors import local, torchrun
from xstilts.models import Hub, Where
from xstilts.stages import (
    ALONE,
    Choose,
    Layout,
    Merge,
    Predict,
    Pretrain,
    Pretrained,
    Progress,
    Stage,
    Train,
    Translate,
    parents,
    root,
    stands_on,
)
from xstilts.store import Store, disk_error

# How libraries that do not raise OSError (tokenizers, NumPy) say that the disk refused.
_REFUSED = {
    errno.ENOSPC: re.compile(rf"\(os error {errno.ENOSPC}\)|No space left on device|\d+ requested and \d+ written"),
    errno.EROFS: re.compile(rf"\(os error {errno.EROFS}\)|Read-only file system"),
}
JOIN = 600.0  # seconds that a further host waits for the first to begin
RECHECK = 0.3  # seconds between two looks at a stage that another run works on


@dataclass(frozen=True, slots=True)
class Began:
    """A worker has taken up a stage."""

    stage: Stage
    worker: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """A running stage has come further."""

    stage: Stage
    worker: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Ended:
    """A stage is in the store; `seconds` is None when another run put it there."""

    stage: Stage
    worker: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A stage cannot be carried out."""

    stage: Stage
    message: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know."""

    text: str


Event = Began | Stepped | Ended | Failed | Note


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did: stages run and reused, failures with their messages, what stands on them, whether Ctrl-C ended it."""

    run: int
    reused: int
    failed: Mapping[str, str]
    skipped: tuple[str, ...]
    interrupted: bool


def needed(stages: tuple[Stage, ...], store: Store) -> dict[str, Stage]:
    """The stages to run, by key, parents first: those that are missing, and what they need whose weights are gone.

    A stage whose weights were dropped on purpose counts as there until a missing stage stands on it, or on an adapter on it.
    """
    wanted = {stage.key for stage in stages if store.find(stage.key) is None}
    for stage in reversed(stages):
        if stage.key in wanted:
            starts = [start for start in stands_on(stage) if not isinstance(start, Pretrained)]
            wanted |= {start.key for start in starts if store.find_weights(start.key) is None}
    return {stage.key: stage for stage in stages if stage.key in wanted}


ON_ONE_GPU = 10  # workers that share a GPU; more were not measured


def default_jobs(threads: int, device: str, layout: Layout = ALONE) -> int:
    """Workers at a time when nobody says: as many as the cores feed; one where hosts work together.

    A GPU is fed by several too, as the kernels of one small model leave it idle most of the time (docs/lab-notebook.md); a training
    that is spread over several GPUs has them for itself.
    """
    if layout.nodes > 1 or (device == "cuda" and layout.size > 1):
        return 1
    fed = max(1, machine.cores() // max(1, threads * layout.processes))
    return min(fed, ON_ONE_GPU) if device == "cuda" else fed


def run(
    stages: tuple[Stage, ...],
    where: Mapping[str, Where],
    store: Store,
    data: Path,
    jobs: int | None = None,
    offline: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
    function: str | None = None,
    layout: Layout = ALONE,
) -> Outcome:
    """Run the stages that the store lacks, each once, on up to `jobs` worker processes.

    A stage that another run works on is waited for. A stage that fails takes those that stand on it
    with it; the others go on. Ctrl-C lets every stage save its state, a second one kills the workers.
    `layout` says over how many processes each training is spread.
    `function` names another "module:function" than `executors.carry:carry_out` (tests).
    Raises StoreError when the disk is full or read-only.
    """
    todo = needed(stages, store)
    if not todo:
        return Outcome(0, len(stages), {}, (), False)
    threads = max(stage.runtime.threads for stage in todo.values())  # a translation may take fewer than the trainings
    device = "cuda" if any(stage.runtime.device == "cuda" for stage in todo.values()) else "cpu"
    for key in todo:
        if (trouble := store.broken(key)) is not None:
            on_event(Note(trouble))
    inbox: local.Inbox = queue.SimpleQueue()
    job = {"store": str(store.path), "data": str(data), "offline": offline, "where": _as_json(where), "layout": asdict(layout)}
    course = _Course(store, jobs or default_jobs(threads, device, layout), inbox, job, on_event, function, dict(todo), _ranks(todo))
    with store.used(), _interrupts(inbox):
        try:
            course.loop()
        finally:
            course.close()
    if course.fatal is not None:
        raise StoreError(f"{course.fatal} ({course.ran} stages were run)")
    reused = len(stages) - len(todo) + course.found
    return Outcome(course.ran, reused, course.failed, tuple(course.skipped), course.interrupts > 0)


def follow(stages: tuple[Stage, ...], store: Store, layout: Layout, on_event: Callable[[Event], None] = lambda event: None) -> Outcome:
    """On a host that is not the first: lend it to the trainings of the run on the first host, until that has ended.

    The hosts share the store's folder. Raises StoreError when no training begins within `JOIN` seconds.
    """
    pressed: local.Inbox = queue.SimpleQueue()
    joined, since = 0, time.monotonic()
    known: set[tuple[Path, int]] = set()  # jobs that were joined: one may lie there a while after its training has ended
    with _interrupts(pressed):
        while pressed.empty():
            todo = [stage for stage in needed(stages, store).values() if isinstance(stage, Train)]
            jobs = [(stage, store.draft(stage.key) / torchrun.JOB) for stage in todo]
            fresh = next(((stage, job, at) for stage, job in jobs if (at := _written(job)) and (job, at) not in known), None)
            if fresh is not None:
                begun, job, at = fresh
                known.add((job, at))
                on_event(Began(begun, 0))
                torchrun.join(job, layout, lambda: not pressed.empty())
                joined, since = joined + 1, time.monotonic()
                continue
            if not todo or (joined and not store.in_use()):
                break
            if not joined and time.monotonic() - since > JOIN:
                raise StoreError(f"{store.path}: the first host began no training in {JOIN:.0f} seconds; do all hosts share this store?")
            time.sleep(RECHECK)
    return Outcome(joined, 0, {}, (), not pressed.empty())


def _written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@dataclass
class _Course:
    """A run under way: what is still to be done, and by whom."""

    store: Store
    jobs: int
    inbox: local.Inbox
    job: Mapping[str, Any]  # what every stage's message holds
    on_event: Callable[[Event], None]
    function: str | None
    todo: dict[str, Stage]  # not begun, parents first
    rank: Mapping[str, float]  # the longest way from a stage to the end
    workers: dict[int, local.Worker] = field(default_factory=dict)
    retired: list[local.Worker] = field(default_factory=list)
    running: dict[str, Stage] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    killed: set[str] = field(default_factory=set)  # stages whose worker was killed once
    ran: int = 0
    found: int = 0  # stages that another run finished meanwhile
    started: int = 0
    interrupts: int = 0
    fatal: str | None = None

    def loop(self) -> None:
        """Until nothing is left, nothing can go on, or the user wants an end."""
        while True:
            waiting = self._dispatch() if not self.interrupts and self.fatal is None else False
            if not self.running and not waiting:
                return
            try:
                number, event = self.inbox.get(timeout=RECHECK if waiting else None)
            except queue.Empty:
                continue
            if number == local.USER:
                self.interrupts += 1
                self._stop_all()
                if self.interrupts > 1:
                    return
            elif (worker := self.workers.get(number)) is not None:
                self._heed(worker, event)

    def close(self) -> None:
        """End the workers: idle ones by themselves, the others at once."""
        for worker in (*self.workers.values(), *self.retired):
            if worker.key is not None:
                worker.process.kill()
            worker.close()
        for worker in (*self.workers.values(), *self.retired):
            worker.ended()

    def _stop_all(self) -> None:
        for worker in self.workers.values():
            worker.send({"stop": True})

    # ---- handing out ----

    def _dispatch(self) -> bool:
        """Give idle workers stages; True when a stage that is ready has to wait for another run."""
        waiting = False
        # Those first that can answer from the model in their memory, before another loads it anew.
        asked = {stage.model.key for stage in self.todo.values() if isinstance(stage, Predict)}
        idle = sorted((w for w in self.workers.values() if w.key is None), key=lambda w: w.model not in asked)
        for slot in range(self.jobs - len(self.running)):
            worker = idle[slot] if slot < len(idle) else None
            given = False
            for stage in self._ready(worker):
                if self._there(stage):
                    self.todo.pop(stage.key)
                    self.found += 1
                    self.on_event(Ended(stage, None, None))
                elif self.store.busy(stage.key):
                    waiting = True
                else:
                    self._give(worker, stage)
                    given = True
                    break
            if not given:
                break
        # What was found just now may have made others ready that were not looked at.
        return waiting or (not self.running and bool(self.todo))

    def _ready(self, worker: local.Worker | None) -> list[Stage]:
        """The stages whose parents are there: answers of the model in memory, then trainings, the longest chain first."""
        ready = []
        for stage in self.todo.values():
            if not any(start.key in self.todo or start.key in self.running for start in stands_on(stage)):
                ready.append(stage)
        elsewhere = {other.model for other in self.workers.values() if other is not worker}

        def order(stage: Stage) -> tuple[int, float]:
            match stage:
                case Predict() if worker is not None and stage.model.key == worker.model:
                    return (0, 0.0)
                case Predict():
                    return (3 if stage.model.key in elsewhere else 2, 0.0)
                case _:
                    return (1, -self.rank[stage.key])

        return sorted(ready, key=order)

    def _there(self, stage: Stage) -> bool:
        stands_on_it = any(start.key == stage.key for other in self.todo.values() for start in stands_on(other))
        return (self.store.find_weights if stands_on_it else self.store.find)(stage.key) is not None

    def _give(self, worker: local.Worker | None, stage: Stage) -> None:
        if worker is not None and worker.threads != stage.runtime.threads:
            worker.close()
            self.retired.append(self.workers.pop(worker.number))
            worker = None
        if worker is None:
            self.started += 1
            worker = local.start(self.started, stage.runtime.threads, bool(self.job["offline"]), self.inbox, self.function)
            self.workers[worker.number] = worker
        weights = not isinstance(stage, Predict)
        worker.key = stage.key
        worker.model = stage.model.key if isinstance(stage, Predict) else stage.key
        self.running[stage.key] = self.todo.pop(stage.key)
        self.on_event(Began(stage, worker.number))
        worker.send({**self.job, "key": stage.key, "weights": weights, "stage": plain(stage)})

    # ---- what comes back ----

    def _heed(self, worker: local.Worker, event: Mapping[str, Any] | None) -> None:
        if event is None:
            self._died(worker)
            return
        stage = self.running[event["key"]]
        if event["event"] == "progress":
            values = {name: event[name] for name in ("step", "steps", "loss", "examples", "seconds")}
            self.on_event(Stepped(stage, worker.number, Progress(**values)))
            return
        self.running.pop(stage.key)
        worker.key = None
        match event["event"]:
            case "done":
                if event["seconds"] is None:
                    self.found += 1
                else:
                    self.ran += 1
                self.on_event(Ended(stage, worker.number, event["seconds"]))
            case "failed":
                if event["fatal"]:
                    self.fatal = event["message"]
                    self._stop_all()
                self._fail(stage, event["message"])
            case "stopped":
                return

    def _died(self, worker: local.Worker) -> None:
        """A worker has ended without being asked to: the stage in its hand is tried once more if it was killed."""
        del self.workers[worker.number]
        code = worker.ended()
        if worker.key is None:
            return
        stage = self.running.pop(worker.key)
        worker.key = None
        if code < 0 and not self.interrupts:
            name = signal.Signals(-code).name
            if stage.key not in self.killed:
                self.killed.add(stage.key)
                self.todo = {stage.key: stage, **self.todo}
                self.on_event(Note(f"a worker was ended by {name}; stage {stage.key[:12]} goes on from its last saved state"))
                return
            self._fail(stage, f"its worker was ended by {name} twice; is there enough memory (and disk)? try --jobs 1")
        elif not self.interrupts:
            refusal = next((number for line in worker.tail for number in _REFUSED if _REFUSED[number].search(line)), None)
            if refusal is not None:
                self.fatal = str(disk_error(OSError(refusal, os.strerror(refusal)), self.store.path))
                self._stop_all()
            self._fail(stage, self.fatal or self._defect(stage, worker, code))

    def _defect(self, stage: Stage, worker: local.Worker, code: int) -> str:
        """One line for a crash of ours; the traceback goes to a file."""
        words = [line for line in worker.tail if line.strip()]
        last = words[-1] if words else f"exit code {code}"
        path = self.store.path / "logs" / f"{stage.key}.txt"
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(words) + "\n", "utf-8")
        except OSError:
            return f"{last} (a defect of xstilts; its traceback could not be written)"
        return f"{last} (a defect of xstilts, please report it; traceback: {path})"

    def _fail(self, stage: Stage, message: str) -> None:
        self.failed[stage.key] = message
        self.on_event(Failed(stage, message))
        lost = {stage.key}
        for key, other in list(self.todo.items()):  # parents first, so one pass finds all
            if any(start.key in lost for start in stands_on(other)):
                lost.add(key)
                self.skipped.append(key)
                del self.todo[key]


def _ranks(todo: Mapping[str, Stage]) -> dict[str, float]:
    """A rough cost of the longest chain of trainings that begins with each stage: what to begin first."""
    rank = {key: _cost(stage) for key, stage in todo.items()}
    for stage in reversed(tuple(todo.values())):
        for start in stands_on(stage):
            if start.key in todo:
                rank[start.key] = max(rank[start.key], _cost(todo[start.key]) + rank[stage.key])
    return rank


def _cost(stage: Stage) -> float:
    match stage:
        case Train():
            recipe = stage.recipe
            rows = sum(share.weight * (share.rows.cap or 10_000) for share in stage.mix)
            return (recipe.steps * recipe.batch if recipe.steps else recipe.epochs * rows) * recipe.max_length
        case Predict() | Merge() | Choose() | Translate():
            return 0.0
        case Pretrain():
            return 1e12


def _as_json(where: Mapping[str, Where]) -> dict[str, str | list[str]]:
    return {key: [at.repository, at.revision] if isinstance(at, Hub) else str(Path(at).absolute()) for key, at in where.items()}


@contextmanager
def _interrupts(inbox: local.Inbox) -> Iterator[None]:
    """Turn Ctrl-C and a polite kill into messages, so that the loop decides what they mean."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        inbox.put((local.USER, None))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def rivals(stages: tuple[Stage, ...]) -> tuple[tuple[str, ...], tuple[tuple[Train | Choose, ...], ...]]:
    """What `keep = "best"` decides on: (keys of trainings that a choice stands for, groups of trainings of which one is kept).

    A group is the trainings and choices of one mix of tasks after one pretrained model that have an English dev part. What
    another training or a merge starts from is in neither: it stays.
    """
    starts = {start.key for stage in stages if isinstance(stage, Train | Merge) for start in parents(stage)}
    candidates = (train.key for stage in stages if isinstance(stage, Choose) for train in stage.among)
    among = tuple(key for key in dict.fromkeys(candidates) if key not in starts)
    groups: dict[tuple[str, str], list[Train | Choose]] = {}
    for stage in stages:
        if isinstance(stage, Train | Choose) and stage.key not in starts and stage.key not in among:
            train = stage if isinstance(stage, Train) else stage.among[0]
            if train.select:
                groups.setdefault((root(stage).key, "+".join(share.rows.task for share in train.mix)), []).append(stage)
    return among, tuple(map(tuple, groups.values()))


def weights_to_drop(stages: tuple[Stage, ...], store: Store, keep: Literal["all", "best", "none"]) -> tuple[str, ...]:
    """Keys of the trainings whose weights a study with this `keep` does not want.

    "none": every training, merge and choice. "best": of the trainings of one target after one model, all but the one with
    the best score on the English dev part (the first of equals); what another training or a merge starts from stays, and so
    do trainings without such a score. The trainings that a choice was made among go: the choice holds the weights of one.
    """
    if keep == "all":
        return ()
    made = [stage for stage in stages if isinstance(stage, Train | Merge | Choose)]
    if keep == "none":
        return tuple(stage.key for stage in made if store.find_weights(stage.key) is not None)
    among, groups = rivals(stages)
    chosen = {train.key for stage in stages if isinstance(stage, Choose) and store.find_weights(stage.key) for train in stage.among}
    drop = [key for key in among if key in chosen]
    for group in groups:
        scored = [(stage.key, dev) for stage in group if (dev := _dev(stage, store)) is not None]
        best = max(scored, key=lambda each: each[1], default=None)
        drop += [key for key, _ in scored if best is not None and key != best[0]]
    return tuple(key for key in drop if store.find_weights(key) is not None)


def _dev(stage: Stage, store: Store) -> float | None:
    """The score on the English dev part; None where the stage is not there or has none."""
    manifest = store.manifest(stage.key)
    return manifest["facts"].get("dev") if manifest is not None else None


def apply_keep(stages: tuple[Stage, ...], store: Store, keep: Literal["all", "best", "none"]) -> int:
    """Drop those weights and give the bytes freed; nothing while another run uses the store."""
    drop = weights_to_drop(stages, store, keep)
    if not drop:
        return 0
    with store.alone() as got:
        return sum(store.drop_weights(key) for key in drop) if got else 0
