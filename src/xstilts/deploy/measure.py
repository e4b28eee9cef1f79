"""A process with one model in memory, measured on order: `python -m xstilts.deploy.measure JSON`.

It writes a JSON line when its first answer is there, then reads JSON lines, {"do": NAME, ...}, and writes a JSON line for each.
It ends when its input closes. What it measures is this process's alone: its memory, its start. Asked for "anew" it reads the rows
and loads no model: every "start" is answered by a new copy of it that loads one and obeys until "end".
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xstilts.errors import XstiltsError
from xstilts.examples import Example

ALL = "*"  # the rows of every language


def main(asked: Mapping[str, Any]) -> None:
    """Load, say so, obey."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not end up between our lines

    def say(answer: Mapping[str, Any]) -> None:
        print(json.dumps(answer), file=lines, flush=True)

    try:
        import torch

        from xstilts.deploy.engines import load
        from xstilts.deploy.find import find, real_rows

        torch.set_num_threads(asked["threads"])
        data = Path(asked["data"])
        found = find(asked["model"], Path(asked["store"]), data, asked["device"], asked["task"])
        rows = real_rows(found, data, asked["rows"], tuple(asked["languages"]))
        if asked["anew"]:
            if asked["device"] == "cpu":  # cores differ by what else runs on them: both models of a comparison compute on the same ones
                os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-asked["threads"] :])
            say({})
            _copied()
        began = time.perf_counter()
        engine = load(found, asked["threads"], asked["device"])
        engine.answer(next(iter(rows.values()))[:1])
        size = sum(path.stat().st_size for path in _weights(found.folder, found.exported))
        say(
            {
                "loaded": time.perf_counter() - began, "engine": engine.name, "precision": found.spec.precision, "task": found.spec.task,
                "stage": found.spec.stage, "languages": list(rows), "rows": {code: len(each) for code, each in rows.items()}, "bytes": size,
            }
        )  # fmt: skip
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "end":
                say({})
                os._exit(0)  # tidying up would take longer than a round's measurements, and nobody is left to whom it matters
            language = order.get("language", ALL)
            examples = [e for each in rows.values() for e in each] if language == ALL else rows[language]
            say(_memory(asked["device"]) if order["do"] == "memory" else _obey(order, engine, examples, language))
    except XstiltsError as error:
        say({"error": str(error)})


def _copied() -> None:
    """Return in a new copy of this process for every "start" that is read; this one itself ends here, with its input or a copy's death.

    A copy reads from the same input. It finds its own lines there and no others, as who asks waits for every answer.
    """
    for _ in sys.stdin:
        copy = os.fork()
        if copy == 0:
            return
        _, status = os.waitpid(copy, 0)
        if status:
            raise SystemExit(1)
    raise SystemExit(0)


def _weights(folder: Path, exported: bool) -> list[Path]:
    """The files that hold the model: what an export consists of, or encoder and heads of an entry."""
    return [p for p in folder.rglob("*") if p.is_file() and (exported or p.parent.name in ("encoder", "heads"))]


def _obey(order: Mapping[str, Any], engine: Any, examples: Sequence[Example], language: str) -> dict[str, Any]:
    from xstilts.deploy import loadgen

    seconds, seed = order.get("seconds", 1.0), order.get("seed", 0)
    match order["do"]:
        case "single":
            return asdict(loadgen.single_stream(engine, examples, seconds, seed))
        case "offline":
            return asdict(loadgen.offline(engine, examples, seconds, seed, order.get("expected")))
        case "server":
            found = loadgen.most_within(engine, examples, seconds, order["bound"], order["most"])
            return {"found": found and asdict(found)}
        case "tokens":
            return _tokens(engine, examples, seconds)
        case "score":
            from xstilts.deploy.export import score

            answered = [each.pred for each in engine.answer(examples)]
            return {"metric": engine.task.metrics[0], "score": score(engine.task, language, examples, answered)}
    raise ValueError(order["do"])


def _memory(device: str) -> dict[str, float]:
    """The most that this process has had in memory and, where a GPU computes, in the tensors on it (CUDA's own context not counted)."""
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    found = {"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale}
    if device == "cuda":
        import torch

        found["gpu_megabytes"] = torch.cuda.max_memory_allocated() / (1 << 20)
    return found


def _tokens(engine: Any, examples: Sequence[Example], seconds: float) -> dict[str, float]:
    """Tokens a sentence, and the microseconds that it takes to make them of one sentence at a time."""
    made = engine.encode(examples)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < min(1.0, seconds):
        engine.encode([examples[count % len(examples)]])
        count += 1
    return {"tokens": len(made.ids) / len(examples), "microseconds": 1e6 * (time.perf_counter() - began) / count}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
