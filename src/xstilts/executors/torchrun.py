"""One training over several processes, started by torchrun from inside a worker.

    run ── worker ── torchrun ── rank 0, rank 1, ...        and on every further host      run (`follow`) ── torchrun ── ranks

The ranks (`executors.rank`) inherit the worker's end of their standard input and output: a line asks them to stop, the
end of input (whoever started them is gone) ends them at once, and their events come back as JSON lines.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from xstilts.canon import plain
from xstilts.errors import Stopped, TrainingError, XstiltsError
from xstilts.models import Hub, Where
from xstilts.stages import Layout, Progress, Train
from xstilts.store import Store, write_json

JOB = "ranks.json"  # in the draft of a stage while its ranks are at work: what they, here and on other hosts, have to know
LOOK = 0.2  # seconds between two looks at whether to stop
ALONE = 30.0  # seconds that ranks of another host have to end once the first host has ended the training
# what torchrun says last, of the process that failed first
_CAUSE = re.compile(r"Root Cause.*?rank\s*: (\d+).*?exitcode\s*: (-?\d+)", re.DOTALL)


class Relayed(XstiltsError):
    """What a rank has said of its failure, in the form of a worker's event."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        super().__init__(event["message"])
        self.event = event


def launch(
    stage: Train, store: Store, data: Path, where: Mapping[str, Where], offline: bool, layout: Layout,
    emit: Callable[[Progress], None], stop: Callable[[], bool],
) -> None:  # fmt: skip
    """Carry out a training in `layout.size` processes, those of this host started here; the files land in the stage's draft.

    Raises Relayed for what a rank said of its failure, TrainingError for one that was killed, Stopped when `stop()` turned
    true and the state is saved, RuntimeError for a defect.
    """
    path = store.draft(stage.key) / JOB
    places = {key: [at.repository, at.revision] if isinstance(at, Hub) else str(at) for key, at in where.items()}
    job = {"key": stage.key, "stage": plain(stage), "store": str(store.path), "data": str(data), "where": places, "offline": offline}
    write_json(path, {**job, "layout": asdict(layout)})
    try:
        events, code, words = _watched(path, layout, emit, stop)
    finally:
        path.unlink(missing_ok=True)
    said = {event["event"]: event for event in reversed(events)}  # of several failures the first
    if "done" in said:
        return
    if "failed" in said:
        raise Relayed(said["failed"])
    if "stopped" in said:
        raise Stopped("stopped, its state is saved")
    cause = _CAUSE.search(words)
    if cause is None:
        raise RuntimeError(f"torchrun ended with code {code}: {words.strip().splitlines()[-1] if words.strip() else 'no word'}")
    rank, ended = int(cause[1]), int(cause[2])
    if ended >= 0:
        raise RuntimeError(f"process {rank} of {layout.size} ended with code {ended}")
    raise TrainingError(
        f"process {rank} of {layout.size} was ended by {signal.Signals(-ended).name} (is there enough memory?); "
        "the next run goes on from the last saved state, with as many processes as it likes"
    )


def join(path: Path, layout: Layout, stop: Callable[[], bool]) -> bool:
    """Lend this host's processes to the training whose job lies at `path`; True when it ended well. For hosts other than the first."""
    return _watched(path, layout, lambda progress: None, lambda: stop() or not path.exists(), lambda: not path.exists())[1] == 0


def _watched(
    path: Path, layout: Layout, emit: Callable[[Progress], None], stop: Callable[[], bool], alone: Callable[[], bool] = lambda: False
) -> tuple[list[dict[str, Any]], int, str]:
    """Run the ranks of this host to their end: their events (but for progress), torchrun's exit code, the last standard error.

    Where `alone()` stays true the first host has ended: ranks that wait for it, perhaps to meet it, are ended too.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *_options(layout), "-m", "xstilts.executors.rank", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C is for those who pass it on
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    tail: deque[str] = deque(maxlen=200)
    listeners = [
        threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True),
        threading.Thread(target=_remember, args=(process.stderr, tail), daemon=True),
    ]
    for listener in listeners:
        listener.start()
    events: list[dict[str, Any]] = []
    asked = False
    met = time.monotonic()
    while True:
        if not alone():
            met = time.monotonic()
        elif time.monotonic() - met > ALONE and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if not asked and stop():
            asked = True
            try:
                process.stdin.write("stop\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass
        try:
            line = lines.get(timeout=LOOK)
        except queue.Empty:
            continue
        if line is None:
            break
        event = json.loads(line)
        if event["event"] == "progress":
            emit(Progress(**{name: event[name] for name in Progress.__dataclass_fields__}))
        else:
            events.append(event)
    code = process.wait()
    listeners[1].join(timeout=5)
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass
    return events, code, "".join(tail)


def _options(layout: Layout) -> list[str]:
    count = ["--nproc-per-node", str(layout.processes), "--max-restarts", "0", "--monitor-interval", "0.2"]
    if layout.nodes == 1:
        return ["--standalone", "--local-addr", "localhost", *count]
    host, _, port = layout.rendezvous.rpartition(":")
    hosts = ["--nnodes", str(layout.nodes), "--node-rank", str(layout.node_rank)]
    return [*hosts, "--rdzv-backend", "static", "--master-addr", host, "--master-port", port, *count]


def _forward(source: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    with source:
        for line in source:
            if line.endswith("\n"):  # a process that was killed may leave half a line
                lines.put(line)
    lines.put(None)


def _remember(source: IO[str], tail: deque[str]) -> None:
    """Pass standard error on, as the worker's own, and keep its end."""
    with source:
        for line in source:
            tail.append(line)
            sys.stderr.write(line)
