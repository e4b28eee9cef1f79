"""What `xstilts serve` is worth: its rate against plain ways to serve, a long run under load, several heads on one encoder.

    python benchmarks/serving.py rate MODEL [--bound-ms 100] [--seconds 10] [--rounds 3] [--ways s,h,b,a]
    python benchmarks/serving.py soak MODEL [--bound-ms 100] [--seconds 900] [--share 0.8] [--rate R]
    python benchmarks/serving.py heads MODEL
    (each with --store DIR, --data DIR, --out FILE for the numbers as JSON)

MODEL is a finished model of a store (a key, or STUDY:MODEL/INTERMEDIATE/TARGET/SEED). Requests hold one real row each, of all
languages, and come at Poisson times over at most 64 kept connections; latency counts from the time at which a request was due, so that
a slow server cannot hold back what it is measured by (coordinated omission). The client shares the machine, which should be idle.

rate: the highest rate whose 99th percentile stays within the bound, searched round by round in alternating order:
(s) xstilts serve, --threads 1 and 2;
(h) the same in bf16;
(b) as s, one request at a time, no batches;
(a) transformers' pipeline in a FastAPI handler, OMP_NUM_THREADS 1 and 2.
Of 1 and 2 the better one counts.
All have the same weights and cut rows at the same length; before anything is timed, the answers of the pipeline and of bf16 are held
against ours. The model has to be a classification model whose sentence vector is the first token's, so that a transformers class fits it.

soak: the same search once (or --rate), then a share of that rate for the whole time, in fifteen parts: errors, latency and memory of each,
and what memory grows by (least squares over the parts after the first, which warms up).

heads: a training with several heads: memory (proportional set size, so that pages which processes share are counted once) of one
process with all heads on one encoder, of one process with a model a head, and of a process a head, after each task has answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import operator
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts import machine, provenance
from xstilts.deploy.find import Found, find, find_all
from xstilts.errors import XstiltsError
from xstilts.examples import Choice, Example, Passage, Text, Words
from xstilts.executors.local import environment

CONNECTIONS = 64
PARTS = 15  # of a long run
WAYS = {"s": "xstilts serve", "h": "xstilts serve in bf16", "b": "one request at a time", "a": "pipeline"}
NAMES = ("s1", "s2", "h1", "h2", "b1", "a1", "a2")  # way and threads


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
    return pipe([pair.model_dump(exclude_none=True)], truncation=True, max_length=int(sys.argv[3]))[0]

uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
"""

ALONE = """
import sys
from xstilts.deploy import batcher, find, engines, serve

batcher.LEAST = 0  # with no time for a batch there is room for one request only
found = find.find(sys.argv[1], find.Path("none"), find.Path("none"), "cpu")
serve.serve(engines.load_all([found]), "127.0.0.1", int(sys.argv[2]), serve.Limits(latency=0.0, queue=100_000), None)
"""


def words_of(way: str, folder: Path, port: int, length: int, threads: int) -> list[str]:
    """What Python is called with."""
    if way in ("s", "h"):
        return serve_words([str(folder)], port, "--threads", str(threads))
    return ["-c", ALONE, str(folder), str(port)] if way == "b" else ["-c", PIPELINE, str(folder), str(port), str(length)]


def serve_words(models: Sequence[str], port: int, *more: str) -> list[str]:
    """The same of xstilts serve."""
    return ["-c", "from xstilts.cli import main; main()", "serve", *models, "--port", str(port), "--queue", "100000", *more]


@contextmanager
def server(words: Sequence[str], port: int, threads: int = 1) -> Iterator[int]:
    """A server, answering; gives its process number."""
    process = subprocess.Popen([sys.executable, *words], env=environment(threads, offline=True), stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"the server has ended with code {process.returncode}: {words[1][:60]}")
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


def rows_of(found: Found, data: Path) -> list[object]:
    """Real rows of all languages, as the inputs that xstilts serve takes."""
    from xstilts.deploy.find import real_rows

    return [body_of(row) for each in real_rows(found, data, 100).values() for row in each]


def body_of(row: Example) -> object:
    """A row without its answer."""
    match row:
        case Text():
            return {"text": row.text, **({"pair": row.pair} if row.pair is not None else {})}
        case Choice():
            return {"context": row.context, "question": row.question, "options": row.options}
        case Words():
            return {"words": row.words}
        case Passage():
            return {"question": row.question, "context": row.context}
    raise TypeError(type(row).__name__)


def requests(path: str, bodies: Sequence[object]) -> list[bytes]:
    """Whole HTTP requests."""
    made = []
    for body in bodies:
        text = json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(text)}", "", "")
        made.append("\r\n".join(head).encode() + text)
    return made


def post(port: int, path: str, body: object) -> Any:
    """One request's answer."""
    head = {"content-type": "application/json"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), head)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


# ---- the modes ----


def rates_of(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Rates at an equal 99th percentile, and their ratios."""
    from xstilts.deploy.export import export

    bound, found = args.bound_ms / 1000, find(args.model, args.store, args.data, "cpu")
    whole, half = scratch / "fp32", scratch / "bf16"
    spec = export(found, "torch", "fp32", whole, args.data)
    if spec.kind != "classify" or not spec.layout:
        sys.exit(f"{args.model}: the pipeline needs a classification model whose sentence vector is the first token's")
    if "h" in args.ways:
        export(found, "torch", "bf16", half, args.data)
    inputs: list[Any] = rows_of(found, args.data)
    ours = requests(f"/v1/{spec.task}", [{"inputs": [each]} for each in inputs])
    plain = [{"text": each["text"], "text_pair": each.get("pair")} for each in inputs]
    theirs = requests("/", plain)

    def served(way: str, threads: int) -> AbstractContextManager[int]:
        words = words_of(way, half if way == "h" else whole, args.port, spec.max_length, threads)
        return server(words, args.port, threads if way == "a" else 1)

    def labels(way: str) -> list[str]:
        some = slice(None, None, max(1, len(inputs) // 40))
        with served(way, 1):
            if way == "a":
                return [post(args.port, "/", each)["label"] for each in plain[some]]
            return [post(args.port, f"/v1/{spec.task}", {"inputs": [each]})["answers"][0]["label"] for each in inputs[some]]

    expected, same = labels("s"), {}
    for way in sorted(set(args.ways) & {"a", "h"}):
        same[way] = sum(map(operator.eq, expected, labels(way)))
        print(f"{WAYS[way]} gives the answer of xstilts serve on {same[way]} of {len(expected)} rows", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in NAMES if name[0] in args.ways}
    for number in range(args.rounds):
        for name in list(rates)[:: 1 if number % 2 == 0 else -1]:
            way, threads = name[0], int(name[1])
            with served(way, threads):
                rates[name].append(capacity(args.port, theirs if way == "a" else ours, args.seconds, bound, number))
            where = f"{WAYS[way]}, threads: {threads}"
            print(f"round {number + 1}, {where}: {rates[name][-1]:.0f} a second with p99 within {args.bound_ms:g} ms", flush=True)
    ranked = sorted(rates, key=lambda name: statistics.median(rates[name]))
    best = {name[0]: name for name in ranked}
    pairs = [(way, other) for way, other in (("s", "a"), ("s", "b"), ("h", "a"), ("h", "s")) if {way, other} <= best.keys()]
    ratios = {f"{way}/{other}": _ratio(rates, best[way], best[other]) for way, other in pairs}
    return {"same": same, "of": len(expected), "rates": rates, "best": best, "ratios": ratios}


def _ratio(rates: Mapping[str, Sequence[float]], one: str, other: str) -> list[float]:
    """Median, smallest and largest over the rounds, printed; empty where the other never held a rate."""
    own = sorted(mine / theirs for mine, theirs in zip(rates[one], rates[other], strict=True) if theirs)
    what = f"{WAYS[one[0]]} ({one[1]}) / {WAYS[other[0]]} ({other[1]})"
    if len(own) < len(rates[other]):
        print(f"{what}: the latter held no rate within the bound in {len(rates[other]) - len(own)} rounds, which have no ratio")
    if not own:
        return []
    print(f"{what}: {statistics.median(own):.2f} ({own[0]:.2f} to {own[-1]:.2f} over {len(own)} rounds)")
    return [statistics.median(own), own[0], own[-1]]


def soak(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """xstilts serve at a share of what it can do, part by part."""
    bound, found = args.bound_ms / 1000, find(args.model, args.store, args.data, "cpu")
    asked = requests(f"/v1/{found.spec.task}", [{"inputs": [each]} for each in rows_of(found, args.data)])
    named = ["--store", str(args.store), "--data", str(args.data)]
    with server(serve_words([args.model], args.port, *named), args.port) as process:
        most = args.rate or capacity(args.port, asked, min(10.0, args.seconds / 15), bound, 0)
        if not most:
            sys.exit(f"no rate holds a 99th percentile of {args.bound_ms:g} ms; give --bound-ms or --rate")
        print(f"{args.share:.0%} of {most:.0f} requests a second for {args.seconds:g} s", flush=True)
        parts = []
        for number in range(PARTS):
            part = run(args.port, asked, args.share * most, args.seconds / PARTS, number)
            parts.append({"answers": len(part.latencies), "errors": part.errors, "p99": part.p99, "megabytes": proportional(process)})
            print(
                f"part {number + 1}: {len(part.latencies)} answers, {part.errors} errors, p99 {1000 * part.p99:.1f} ms, "
                f"{parts[-1]['megabytes']:.1f} MB",
                flush=True,
            )
    memory = [part["megabytes"] for part in parts[1:]]
    growth = statistics.linear_regression(range(len(memory)), memory).slope * 60 * PARTS / args.seconds
    errors, over = sum(part["errors"] for part in parts), sum(part["p99"] > bound for part in parts)
    worst = 1000 * max(part["p99"] for part in parts)
    answers = sum(part["answers"] for part in parts)
    print(f"{answers} answers, {errors} errors, worst p99 {worst:.1f} ms, {over} of {PARTS} parts over the bound")
    print(f"memory {memory[-1] - memory[0]:+.1f} MB from the second part to the last, {growth:+.2f} MB a minute")
    return {"rate": args.share * most, "seconds": args.seconds, "parts": parts, "megabytes_a_minute": growth}


def heads(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Memory of all heads on one encoder, of a model a head in one process, and of a process a head."""
    from xstilts.deploy.export import export

    every = find_all(args.model, args.store, args.data, "cpu")
    if len(every) < 2:
        sys.exit(f"{args.model}: has one head; name a training of several tasks")
    folders = []
    for found in every:
        folders.append(scratch / found.spec.task)
        export(found, "torch", "fp32", folders[-1], args.data, 10)
    bodies = {found.spec.task: {"inputs": rows_of(found, args.data)[:8]} for found in every}

    def measured(*groups: Sequence[str]) -> float:
        """Together, of a server for each group of models."""
        with ExitStack() as stack:
            ports = [args.port + number for number in range(len(groups))]
            running = [stack.enter_context(server(serve_words(group, port), port)) for group, port in zip(groups, ports, strict=True)]
            for number, (task, body) in enumerate(bodies.items()):
                post(ports[number % len(groups)], f"/v1/{task}", body)
            return sum(map(proportional, running))

    # named by the store's key, heads of one training share their encoder; exports bring one each
    shared = [args.model, "--store", str(args.store), "--data", str(args.data)]
    names = [str(folder) for folder in folders]
    made = {"one encoder": measured(shared), "a model a head": measured(names), "a process a head": measured(*([name] for name in names))}
    weights = sum(path.stat().st_size for path in folders[0].glob("model*.safetensors")) / 1e6
    print(f"{len(every)} heads ({' '.join(bodies)}), {weights:.1f} MB of weights a model:")
    for name, megabytes in made.items():
        print(f"  {name}: {megabytes:.1f} MB, {megabytes / made['one encoder']:.2f} times the first")
    return {"tasks": list(bodies), "weights": weights, **made}


def proportional(process: int) -> float:
    """Megabytes that a process has in memory now, a page that several share counted by its part (proportional set size)."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0]) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("rate", "soak", "heads"))
    parser.add_argument("model")
    parser.add_argument("--store", type=Path, default=Path(os.environ.get("XSTILTS_STORE", "xstilts-store")))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XSTILTS_DATA", "~/.cache/xstilts/data")).expanduser())
    parser.add_argument("--bound-ms", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, help="rate: of one measurement (10); soak: of all of it (900)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS), help="of rate: some of s,h,b,a")
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--rate", type=float, help="requests a second that count as the capacity, in place of a search")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.seconds = args.seconds or (900.0 if args.mode == "soak" else 10.0)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        made = {"rate": rates_of, "soak": soak, "heads": heads}[args.mode](args, Path(scratch))
    print(f"{machine.kind()}, {machine.cores()} cores, load {load:.1f} before")
    if args.out is not None:
        about = {"mode": args.mode, "model": args.model, "bound": args.bound_ms / 1000, "load": load}
        args.out.write_text(json.dumps({**about, **provenance.made(), **made}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        main()
    except XstiltsError as error:
        sys.exit(f"error: {error}")
