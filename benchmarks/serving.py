"""Throughput of `xstilts serve` at an equal 99th percentile, against a plain transformers pipeline behind FastAPI.

    python benchmarks/serving.py MODEL [--store DIR] [--data DIR] [--bound-ms 100] [--seconds 10] [--rounds 3] [--soak MINUTES]

MODEL is a finished classification model of a store (a key, or STUDY:MODEL/INTERMEDIATE/TARGET/SEED) whose sentence vector is the
first token's, so that a transformers class fits it. The same weights answer the same real rows of all languages, one a request:
(s) xstilts serve;
(b) the same server, one request at a time (no batches);
(a1, a2) transformers' pipeline in a FastAPI handler, OMP_NUM_THREADS 1 and 2: the better one counts.
Requests come at Poisson times over at most 64 kept connections; latency counts from the time at which a request was due, so that
a slow server cannot hold back what it is measured by (coordinated omission). The highest rate whose 99th percentile stays within
the bound is searched for each of them, round by round in alternating order. The client shares the machine: it should be idle.
With --soak, xstilts serve alone then runs at 80 % of its median rate: errors, latency and memory minute by minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xstilts.executors.local import environment

CONNECTIONS = 64
WAYS = {"s": "xstilts serve", "b": "one request at a time", "a1": "pipeline, 1 thread", "a2": "pipeline, 2 threads"}


# ---- the servers ----

PIPELINE = """
import sys, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

pipe = pipeline("text-classification", model=sys.argv[1])
app = FastAPI()

class Pair(BaseModel):
    text: str
    text_pair: str | None = None

@app.post("/")
def answer(pair: Pair) -> dict[str, object]:
    return pipe([pair.model_dump(exclude_none=True)])[0]

uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
"""

ALONE = """
import sys
from xstilts.deploy import batcher, find, engines, serve

batcher.LEAST = 0  # with no time for a batch there is room for one request only
found = find.find(sys.argv[1], find.Path("none"), find.Path("none"), "cpu")
serve.serve(engines.load_all([found]), "127.0.0.1", int(sys.argv[2]), serve.Limits(latency=0.0, queue=100_000), None)
"""


@contextmanager
def server(way: str, folder: Path, port: int) -> Iterator[int]:
    """The way's server, answering; gives its process number."""
    threads = 2 if way == "a2" else 1
    xstilts = "from xstilts.cli import main; main()"
    words = {
        "s": ["-c", xstilts, "serve", str(folder), "--port", str(port), "--queue", "100000"],
        "b": ["-c", ALONE, str(folder), str(port)],
    }.get(way, ["-c", PIPELINE, str(folder), str(port)])
    process = subprocess.Popen([sys.executable, *words], env=environment(threads, offline=True), stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"{WAYS[way]}: the server has ended with code {process.returncode}")
            try:
                asyncio.run(_once(port))
                break
            except OSError:
                time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


async def _once(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


# ---- the client ----


@dataclass(frozen=True)
class Run:
    """Requests at a rate: seconds from when each was due to its answer, sorted; and how many were answered with no 200."""

    latencies: tuple[float, ...]
    errors: int

    @property
    def p99(self) -> float:
        """In seconds."""
        return self.latencies[min(len(self.latencies) - 1, int(0.99 * len(self.latencies)))] if self.latencies else float("inf")


async def _run(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int) -> Run:
    draw = random.Random(seed)
    # the one used last goes first, so that few of them lie idle until the server hangs up
    free: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    latencies: list[float] = []
    errors = 0

    async def ask(request: bytes, due: float) -> None:
        nonlocal errors
        reader, writer = await free.get()
        if reader.at_eof():  # the server has hung up on an idle connection
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            errors += not head.startswith(b"HTTP/1.1 200")
            latencies.append(time.perf_counter() - due)
        except (OSError, asyncio.IncompleteReadError):
            errors += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        free.put_nowait((reader, writer))

    began = due = time.perf_counter()
    tasks = set()
    while due < began + seconds:
        due += draw.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(ask(draw.choice(requests), due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait()[1].close()
    return Run(tuple(sorted(latencies)), errors)


def run(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int) -> Run:
    """Requests, drawn at random, at Poisson times for `seconds`."""
    return asyncio.run(_run(port, requests, rate, seconds, seed))


def capacity(port: int, requests: Sequence[bytes], seconds: float, bound: float, seed: int) -> float:
    """The highest rate a second that keeps the 99th percentile within `bound` seconds without an error; 0 where there is none."""

    def holds(rate: float, length: float) -> bool:
        found = run(port, requests, rate, length, seed)
        return found.errors == 0 and found.p99 <= bound

    if run(port, requests, 20.0, 1.0, seed).errors:
        sys.exit("the server answers with errors")
    low, high = 0.0, 20.0
    while holds(high, seconds / 4):
        low, high = high, 2 * high
    for _ in range(5):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle, seconds / 4) else (low, middle)
    while low > 1 and not holds(low, seconds):
        low *= 0.95
    return low if low > 1 else 0.0


# ---- what is sent ----


def prepared(args: argparse.Namespace, folder: Path) -> tuple[str, list[tuple[str, str | None]]]:
    """The exported model, its task, and its rows as pairs of texts."""
    from xstilts.deploy.export import export
    from xstilts.deploy.find import find, real_rows
    from xstilts.examples import Text

    found = find(args.model, args.store, args.data, "cpu")
    spec = export(found, "torch", "fp32", folder, args.data)
    if spec.kind != "classify" or not spec.layout:
        sys.exit(f"{args.model}: the pipeline needs a classification model whose sentence vector is the first token's")
    rows = [row for each in real_rows(found, args.data, 100).values() for row in each]
    return spec.task, [(row.text, row.pair) for row in rows if isinstance(row, Text)]


def requests(path: str, bodies: Sequence[object]) -> list[bytes]:
    """Whole HTTP requests."""
    made = []
    for body in bodies:
        text = json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(text)}", "", "")
        made.append("\r\n".join(head).encode() + text)
    return made


def resident(process: int) -> float:
    """Megabytes that a process has in memory now."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def soak(folder: Path, port: int, asked: Sequence[bytes], rate: float, minutes: int, bound: float) -> None:
    """xstilts serve at a rate, minute by minute."""
    with server("s", folder, port) as process:
        for minute in range(1, minutes + 1):
            found = run(port, asked, rate, 60.0, minute)
            print(
                f"minute {minute}: {len(found.latencies)} answers, {found.errors} errors, p99 {1000 * found.p99:.1f} ms "
                f"(bound {1000 * bound:g}), {resident(process):.1f} MB",
                flush=True,
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--store", type=Path, default=Path(os.environ.get("XSTILTS_STORE", "xstilts-store")))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XSTILTS_DATA", "~/.cache/xstilts/data")).expanduser())
    parser.add_argument("--bound-ms", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--soak", type=int, default=0, metavar="MINUTES")
    args = parser.parse_args()
    bound = args.bound_ms / 1000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        task, pairs = prepared(args, folder)
        inputs = [{"text": text, **({"pair": pair} if pair is not None else {})} for text, pair in pairs]
        ours = requests(f"/v1/{task}", [{"inputs": [each]} for each in inputs])
        theirs = requests("/", [{"text": text, "text_pair": pair} for text, pair in pairs])
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(args.rounds):
            for way in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
                with server(way, folder, args.port):
                    rates[way].append(capacity(args.port, ours if way in "sb" else theirs, args.seconds, bound, number))
                print(f"round {number + 1}, {WAYS[way]}: {rates[way][-1]:.0f} a second with p99 within {args.bound_ms:g} ms", flush=True)
        middle = {way: statistics.median(each) for way, each in rates.items()}
        best = max(("a1", "a2"), key=middle.__getitem__)
        for other in (best, "b"):
            ratios = sorted(s / o for s, o in zip(rates["s"], rates[other], strict=True) if o)
            if ratios:
                spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f} over {len(ratios)} rounds)"
                print(f"xstilts serve / {WAYS[other]}: {spread}")
        if args.soak:
            soak(folder, args.port, ours, 0.8 * middle["s"], args.soak, bound)


if __name__ == "__main__":
    main()
