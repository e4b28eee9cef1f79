"""A worker process: `python -m xstilts.executors.worker [MODULE:FUNCTION]`.

It reads JSON lines on standard input, `{"stage": ..., ...}` or `{"stop": true}`, carries the
stages out one after the other, and writes JSON lines on standard output: `progress`, `done`, `failed`,
`stopped`, each with the stage's key. It ends when its input closes, which is also what happens
when its parent is killed; a training saves its draft first. The threads of the numeric libraries are set in its
environment by the parent. A defect (an error that no user can mend) ends the process with a traceback.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from xstilts import provenance
from xstilts.errors import Stopped, XstiltsError
from xstilts.executors.carry import Place, facts
from xstilts.executors.torchrun import Relayed
from xstilts.models import Hub, Where
from xstilts.stages import Layout, Pretrained, Progress, Stage, from_plain
from xstilts.store import Store, disk_error, is_disk_error

Work = Callable[[Stage, Place], None]
Say = Callable[[Mapping[str, object]], None]
PATIENCE = 20.0  # seconds that a stage gets to save its state when the parent is gone
QUIET = 0.2  # seconds between two progress lines


def main(function: str = "xstilts.executors.carry:carry_out") -> None:
    """Serve until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says when to stop
    # Whatever a library prints must not end up between our lines.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin, jobs, stop), daemon=True).start()
    module, _, name = function.partition(":")
    work: Work = getattr(importlib.import_module(module), name)

    def say(event: Mapping[str, object]) -> None:
        try:
            print(json.dumps(event, ensure_ascii=False), file=lines, flush=True)
        except BrokenPipeError:
            stop.set()  # nobody listens any more

    while (job := jobs.get()) is not None:
        do(job, work, say, stop.is_set)
    os._exit(0)  # everything is written; taking torch down in good order costs a second


def _listen(source: IO[str], jobs: queue.SimpleQueue[Mapping[str, Any] | None], stop: threading.Event) -> None:
    for line in source:
        job = json.loads(line)
        if "stop" in job:
            stop.set()
        else:
            jobs.put(job)
    stop.set()
    jobs.put(None)
    time.sleep(PATIENCE)
    os._exit(1)


def do(job: Mapping[str, Any], work: Work, say: Say, stop: Callable[[], bool]) -> None:
    """Carry out one stage and say how it went. An error that is neither the user's nor the disk's passes through."""
    key = job["key"]

    def carried() -> float | None:
        stage = from_plain(job["stage"])
        if isinstance(stage, Pretrained) or stage.key != key:
            raise XstiltsError(f"stage {key[:12]} did not survive its way to the worker; this is a defect of xstilts")
        return _claimed(stage, job, work, say, stop)

    say(outcome(key, Path(job["store"]), carried))


def outcome(key: str, store: Path, carried: Callable[[], float | None]) -> Mapping[str, Any]:
    """The event that says how carrying out a stage went: done (with the seconds that it gives), failed or stopped."""
    try:
        return {"event": "done", "key": key, "seconds": carried()}
    except Stopped:
        return {"event": "stopped", "key": key}
    except Relayed as error:
        return error.event
    except XstiltsError as error:
        cause = error.__cause__
        fatal = isinstance(cause, OSError) and is_disk_error(cause)
        return {"event": "failed", "key": key, "message": str(error), "fatal": fatal}
    except OSError as error:
        if not is_disk_error(error):
            raise
        return {"event": "failed", "key": key, "message": str(disk_error(error, store)), "fatal": True}


def _claimed(stage: Stage, job: Mapping[str, Any], work: Work, say: Say, stop: Callable[[], bool]) -> float | None:
    """Seconds that the stage took; None when another run had finished it meanwhile."""
    store = Store.open(Path(job["store"]))
    with store.claim(stage.key, job["weights"], stop) as draft:
        if draft is None:
            return None
        if stop():
            raise Stopped("stopped before the stage began")
        began = time.monotonic()
        emit, layout = throttled(stage.key, say), Layout(**job["layout"])
        place = Place(store, Path(job["data"]), draft, places(job["where"]), job["offline"], emit, stop, layout)
        work(stage, place)
        seconds = time.monotonic() - began
        store.finish(stage, seconds, provenance.made(stage.runtime.device), facts(draft / "out"))
        return round(seconds, 3)


def places(known: Mapping[str, Any]) -> dict[str, Where]:
    """Where weights and translations lie, out of a job's JSON."""
    return {key: Path(value) if isinstance(value, str) else Hub(*value) for key, value in known.items()}


def throttled(key: str, say: Say) -> Callable[[Progress], None]:
    """Says how far a stage is, a few times a second at most."""
    last = 0.0

    def emit(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= QUIET or progress.step >= progress.steps:
            last = now
            say(
                {
                    "event": "progress",
                    "key": key,
                    "step": progress.step,
                    "steps": progress.steps,
                    "loss": progress.loss,
                    "examples": progress.examples,
                    "seconds": progress.seconds,
                }
            )

    return emit


if __name__ == "__main__":
    main(*sys.argv[1:])
