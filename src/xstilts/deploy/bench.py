"""What models cost to serve: LoadGen's scenarios language by language, and models against each other in turn.

Every model is measured in a process of its own, which has the machine to itself: one of them computes at a time. A comparison
asks two of them in alternating order (ab ba ab ...), so that a drift of the machine meets both, and loads both in new processes for
every round, on the same cores: two processes of one model differ by some percent for as long as they live, and so do cores, which
rounds of the same two would take for a difference of the models. The first model is also compared with itself: how finely this
machine can tell.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from xstilts import machine, provenance
from xstilts.analysis.equivalence import MARGIN, Equivalence, equivalence
from xstilts.analysis.serving import NO_RESULT
from xstilts.deploy.measure import ALL
from xstilts.errors import ModelError
from xstilts.executors.local import environment

BLOCK = 15  # rounds, after which what is copied for each of them starts anew, too: copies take after it


@dataclass(frozen=True)
class Plan:
    """What is measured: `where` is what every process is told (store, data, device, threads, rows, languages)."""

    models: tuple[str, ...]
    where: Mapping[str, Any]
    seconds: float = 10.0  # a cell
    rounds: int = 60  # of a comparison, which takes a cell for each of the two
    bound: float = 0.1  # seconds that the 99th percentile of the Server scenario may take


class Process:
    """A model in memory, or `anew` all but the model, which each "start" then loads in a process of its own until "end"; see `measure`."""

    def __init__(self, model: str, where: Mapping[str, Any], anew: bool = False) -> None:
        began = time.perf_counter()
        asked = json.dumps({**where, "model": model, "anew": anew})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xstilts.deploy.measure", asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
            env=environment(where["threads"], offline=True),
        )  # fmt: skip
        self.facts = self._listen()
        self.cold = time.perf_counter() - began  # from nothing to the first answer, the rows read included

    def __call__(self, do: str, **order: Any) -> dict[str, Any]:
        """Have something measured. Raises ModelError when the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has said why
        return self._listen()

    def _listen(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ModelError(f"the process that was measured has ended with code {self._process.wait()}; its last words are above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ModelError(answer["error"])
        return answer

    def end(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def loaded(model: str, where: Mapping[str, Any], anew: bool = False) -> Iterator[Process]:
    """A model's process, ended with the block."""
    process = Process(model, where, anew)
    try:
        yield process
    finally:
        process.end()


def bench(plan: Plan, tell: Callable[[str], None]) -> dict[str, Any]:
    """All of it, as JSON types. `tell` is given a line before each model, language and comparison. Raises ModelError."""
    load = os.getloadavg()[0]
    models = [_model(name, plan, tell) for name in plan.models]
    pairs = [(plan.models[0], plan.models[0]), *((plan.models[0], other) for other in plan.models[1:])]
    compared = [_compared(first, second, plan, tell) for first, second in pairs]
    return {
        "note": NO_RESULT, "made": provenance.made(str(plan.where["device"])), "machine": machine_of(plan.where["device"]),
        "cores": machine.cores(), "threads": plan.where["threads"], "load_before": load, "seconds": plan.seconds, "bound": plan.bound,
        "margin": MARGIN, "models": models, "compared": compared,
    }  # fmt: skip


def machine_of(device: str) -> str:
    """The kind of machine that is measured: with its GPU where that computes."""
    if device == "cpu":
        return machine.kind()
    import torch

    return f"{torch.cuda.get_device_name()} / {machine.kind()}"


def _model(name: str, plan: Plan, tell: Callable[[str], None]) -> dict[str, Any]:
    tell(f"{name}: loading")
    with loaded(name, plan.where) as process:
        cells = []
        for language in process.facts["languages"]:
            tell(f"{name}: {language}")
            own = cell(process, language, plan)
            server = process("server", language=language, seconds=plan.seconds, bound=plan.bound, most=1.2 * own["offline"]["rate"])
            cells.append({**own, "server": server["found"]})
        return {"model": name, **process.facts, "cold": process.cold, **process("memory"), "cells": cells}


def cell(process: Process, language: str, plan: Plan) -> dict[str, Any]:
    """One language's rows: score, tokens, SingleStream and Offline."""
    about = {"language": language, "seconds": plan.seconds}
    timed = {"single": process("single", **about), "offline": process("offline", **about)}
    return {"language": language, **process("score", **about), **process("tokens", **about), **timed}


def _compared(first: str, second: str, plan: Plan, tell: Callable[[str], None]) -> dict[str, Any]:
    tell(f"{first} against {'itself' if first == second else second}")
    values = rounds(first, second, plan)
    tests = {name: asdict(equivalence(*both)) for name, both in values.items()}
    return {"first": first, "second": second, "itself": first == second, **tests, "rounds": values}


def rounds(first: str, second: str, plan: Plan) -> dict[str, tuple[list[float], list[float]]]:
    """Latency and time a sentence (Offline) of two models, on the rows of all languages: of both, round by round."""
    values: dict[str, tuple[list[float], list[float]]] = {"latency": ([], []), "time": ([], [])}
    order: dict[str, Any] = {"language": ALL, "seconds": plan.seconds / plan.rounds, "expected": None}
    for begin in range(0, plan.rounds, BLOCK):
        with ExitStack() as stack:
            begun = _turn(begin // BLOCK)
            pair = {which: stack.enter_context(loaded((first, second)[which], plan.where, anew=True)) for which in begun}
            for number in range(begin, min(begin + BLOCK, plan.rounds)):
                turn = _turn(number)
                for which in turn:
                    pair[which]("start")
                    warm = pair[which]("offline", **order)  # a process's first answers are slower than all later ones
                    order["expected"] = order["expected"] or warm["rate"]
                for which in turn:  # the same rows for both, other ones in every round
                    values["latency"][which].append(pair[which]("single", **order, seed=number)["p50"])
                for which in turn:
                    values["time"][which].append(1 / pair[which]("offline", **order, seed=number)["rate"])
                for which in turn:
                    pair[which]("end")
    return values


def _turn(number: int) -> tuple[int, int]:
    return (0, 1) if number % 2 == 0 else (1, 0)


# ---- the table ----


def table(found: Mapping[str, Any]) -> str:
    """The figures as text."""
    lines = [
        f"{'':>4} {'score':>6} {'tokens':>6} {'tokenise':>8}  {'one at a time, ms':^23}  {'all at once':>11}  "
        f"{_at_random(found['bound']):>26}",
        f"{'':>4} {'':>6} {'':>6} {'µs':>8}  {'p50':>7} {'p90':>7} {'p99':>7}  {'a second':>11}  {'a second':>26}",
    ]
    for model in found["models"]:
        lines.append(
            f"{model['model']}: {model['engine']} {model['precision']}, {model['bytes'] / 1e6:.1f} MB on disk, "
            f"{model['megabytes']:.0f} MB at most in memory{_on_gpu(model)}, first answer after {model['cold']:.1f} s"
        )
        for cell in model["cells"]:
            one, server = cell["single"], cell["server"]
            lines.append(
                f"{cell['language']:>4} {cell['score']:>6.1f} {cell['tokens']:>6.1f} {cell['microseconds']:>8.0f}  "
                f"{one['p50']:>7.2f} {one['p90']:>7.2f} {one['p99']:>7.2f}  {cell['offline']['rate']:>11.1f}  "
                + (f"{server['rate']:>26.1f}" if server else f"{'none':>26}")
            )
    for pair in found["compared"]:
        name = f"{pair['first']} against itself" if pair["itself"] else f"{pair['second']} / {pair['first']}"
        lines += [f"{name}: {what} {_words(Equivalence(**pair[what]), found['margin'])}" for what in ("latency", "time")]
    return "\n".join([*lines, found["note"]])


def _on_gpu(model: Mapping[str, Any]) -> str:
    return f" and {model['gpu_megabytes']:.0f} MB on the GPU" if "gpu_megabytes" in model else ""


def _at_random(bound: float) -> str:
    return f"at random, p99 <= {1000 * bound:g} ms"


def _words(test: Equivalence, margin: float) -> str:
    within = f"equal within {margin:.0%}"
    said = {"equal": within, "different": "different", "open": f"neither shown {within} nor different"}
    return f"ratio {test.ratio:.3f} (90 % interval {test.low:.3f} to {test.high:.3f}, {test.rounds} rounds): {said[test.verdict]}"


def shares(found: Mapping[str, Any]) -> list[tuple[str, str, float, float]]:
    """By model and language, tokens and latency over those of the model's first language: what a language costs more."""
    made = []
    for model in found["models"]:
        base = model["cells"][0]
        for cell in model["cells"]:
            made.append((model["model"], cell["language"], cell["tokens"] / base["tokens"], cell["single"]["p50"] / base["single"]["p50"]))
    return made


def said(found: Mapping[str, Any]) -> str:
    """The table, and what each language costs beside the first."""
    lines = [f"  {name} {code}: {tokens:.2f} times the tokens, {cost:.2f} times the time" for name, code, tokens, cost in shares(found)]
    return "\n".join([table(found), "beside the first language:", *lines])
