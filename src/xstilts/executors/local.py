"""Worker processes on this machine: started when there is work, each with its own thread count and last words."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

Message = tuple[int, Mapping[str, Any] | None]  # (worker's number, event); None: its output has closed
Inbox = queue.SimpleQueue[Message]
USER = 0  # the number under which Ctrl-C arrives; workers count from 1


@dataclass
class Worker:
    """A running worker process, and what it has in hand."""

    number: int
    threads: int
    process: subprocess.Popen[str]
    key: str | None = None  # the stage in hand
    model: str | None = None  # the model that it has in memory
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=60))  # its last lines on standard error
    listeners: tuple[threading.Thread, ...] = ()

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand it a line; a worker that has died is noticed when its output closes."""
        if self.process.stdin is not None:
            try:
                self.process.stdin.write(json.dumps(message) + "\n")
                self.process.stdin.flush()
            except (BrokenPipeError, ValueError):
                return

    def close(self) -> None:
        """Close its input: it ends when the stage in hand has ended or saved its state."""
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                return

    def ended(self) -> int:
        """Wait for its end and for its last words; gives the exit code (below 0: killed by that signal)."""
        code = self.process.wait()
        self.close()
        for listener in self.listeners:
            if listener is not threading.current_thread():
                listener.join(timeout=5)
        return code


def start(number: int, threads: int, offline: bool, inbox: Inbox, function: str | None = None) -> Worker:
    """Start a worker whose numeric libraries use `threads` threads; its events arrive in `inbox`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "xstilts.executors.worker", *([function] if function else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=environment(threads, offline),
    )
    worker = Worker(number, threads, process)
    assert process.stdout is not None and process.stderr is not None
    worker.listeners = (
        threading.Thread(target=_forward, args=(process.stdout, number, inbox), daemon=True),
        threading.Thread(target=_remember, args=(process.stderr, worker.tail), daemon=True),
    )
    for listener in worker.listeners:
        listener.start()
    return worker


# glibc gives every large tensor back to the kernel and faults its pages in again at the next step; that costs more than
# the arithmetic of a small model (docs/lab-notebook.md). Kept memory is reused instead. Other C libraries ignore these names.
_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def environment(threads: int, offline: bool) -> dict[str, str]:
    """The environment of a worker: threads must be set before the numeric libraries are loaded."""
    count = str(threads)
    env = {
        **_ALLOCATOR,
        # Threads that spin at a barrier for long starve each other where two runs share a machine (five times slower), and those that
        # do not spin at all take 1.6 times as long on a machine of their own (docs/lab-notebook.md): a while.
        "GOMP_SPINCOUNT": "10000",
        **os.environ,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "RAYON_NUM_THREADS": count,
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS may pick another order of sums each time
        "PYTHONUNBUFFERED": "1",
    }
    return {**env, "HF_HUB_OFFLINE": "1"} if offline else env


def _forward(lines: IO[str], number: int, inbox: Inbox) -> None:
    with lines:
        for line in lines:
            if line.endswith("\n"):  # a worker that was killed may leave half a line
                inbox.put((number, json.loads(line)))
    inbox.put((number, None))


def _remember(lines: IO[str], tail: deque[str]) -> None:
    with lines:
        for line in lines:
            tail.append(line.rstrip("\n"))
