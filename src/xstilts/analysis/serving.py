"""What a study's models cost to serve: what `xstilts bench STUDY` has measured, and what that says.

The measurements lie in the store, `bench/STUDY.json`, so that every report of the study finds them. A verdict is never read from
that file: it is computed here, from the rounds of each comparison, so that it can be planted and tested.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any, Literal

import numpy as np

from xstilts.analysis.equivalence import Equivalence, equivalence
from xstilts.errors import StoreError
from xstilts.stats import holm, t_quantile
from xstilts.store import Store, disk_error

WHAT = ("latency", "time")  # of one sentence at a time; of a sentence where all are there from the start
Verdict = Literal["equal", "slower", "faster", "open", "restless"]
NO_RESULT = "measured with MLPerf's LoadGen in runs of seconds; no official MLPerf result"


@dataclass(frozen=True, slots=True)
class Cell:
    """One language. Latencies in milliseconds, of one sentence at a time; the rate is of sentences a second, all at once."""

    language: str
    score: float
    tokens: float  # a sentence
    microseconds: float  # of tokenising one sentence
    p50: float
    p90: float
    p99: float
    rate: float


@dataclass(frozen=True)
class Measured:
    """One checkpoint in one engine."""

    model: str
    intermediate: str
    target: str
    seed: int
    engine: str
    metric: str
    bytes: int  # on disk
    megabytes: float  # at most in memory
    cold: float  # seconds from nothing to the first answer
    served: float | None  # requests a second, of all languages at random times, whose 99th percentile is within the bound
    cells: tuple[Cell, ...]
    gpu_megabytes: float | None = None  # at most in tensors on the GPU; None where none computed

    @cached_property
    def score(self) -> float:
        """The plain mean over languages."""
        return fmean(cell.score for cell in self.cells)

    @cached_property
    def latency(self) -> float:
        """p50 in milliseconds, mean over languages."""
        return fmean(cell.p50 for cell in self.cells)

    @cached_property
    def p99(self) -> float:
        """In milliseconds, mean over languages."""
        return fmean(cell.p99 for cell in self.cells)

    @cached_property
    def rate(self) -> float:
        """Sentences a second of equally many in each language."""
        return len(self.cells) / sum(1 / cell.rate for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Compared:
    """A choice beside the baseline: same model, target, seed and engine, asked in turn."""

    model: str
    target: str
    engine: str
    intermediate: str
    what: str  # one of WHAT
    test: Equivalence  # of the choice's value over the baseline's
    floor: Equivalence  # of the baseline's over its own
    differs: float  # the test's p of a ratio of 1, adjusted for all comparisons of the study (Holm)

    @property
    def verdict(self) -> Verdict:
        """What may be said: nothing finer than what the baseline shows against itself.

        Where that is not equal within the margin, the machine is too restless, unless the two 90 % intervals lie apart.
        """
        apart = self.test.low > self.floor.high or self.test.high < self.floor.low
        different = self.test.verdict == "different" and self.differs < 0.05
        if self.floor.verdict != "equal" and not (apart and different):
            return "restless"
        if different:
            return "slower" if self.test.ratio > 1 else "faster"
        return "equal" if self.test.verdict == "equal" else "open"


@dataclass(frozen=True)
class Served:
    """All that was measured of a study."""

    settings: Mapping[str, Any]  # seconds, bound, rows, threads, device, languages
    machine: str
    cores: int
    load: float  # the highest load average before a part of it began
    measured: tuple[Measured, ...]
    compared: tuple[Compared, ...]
    refused: tuple[str, ...]  # what was not measured and why


def path_of(store: Store, study: str) -> Path:
    """The file of a study's measurements."""
    return store.path / "bench" / f"{study}.json"


def stored(store: Store, study: str) -> Mapping[str, Any] | None:
    """What was measured, as JSON types; None where nothing was. Raises StoreError for a file that cannot be read."""
    path = path_of(store, study)
    try:
        found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error(error, path) from error
    except ValueError as error:
        raise StoreError(f"{path}: cannot be read ({error}); remove it and measure again") from error
    return found


def served(found: Mapping[str, Any], keys: Collection[str]) -> Served:
    """The same as values, verdicts computed; only of the trainings of these keys. Raises StoreError where something is missing in it."""
    try:
        measured = [row for row in found["measured"] if row["key"] in keys]
        compared = [row for row in found["compared"] if set(row["keys"]) <= set(keys)]
        lost = len(found["measured"]) - len(measured)
        old = (f"{lost} measurements of models that the study no longer trains so: measure again",) if lost else ()
        return Served(
            found["settings"], found["machine"], found["cores"], max(found["load"]), tuple(map(_measured, measured)),
            _compared(compared), (*found["refused"], *old),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the measurements of bench are not as expected ({error!r}); remove them and measure again") from error


def _measured(row: Mapping[str, Any]) -> Measured:
    cells = tuple(
        Cell(
            each["language"], each["score"], each["tokens"], each["microseconds"],
            each["single"]["p50"], each["single"]["p90"], each["single"]["p99"], each["offline"]["rate"],
        )
        for each in row["cells"]
    )  # fmt: skip
    server = row["server"]["rate"] if row["server"] else None
    return Measured(
        row["model"], row["intermediate"], row["target"], row["seed"], row["engine"], row["cells"][0]["metric"],
        row["bytes"], row["megabytes"], row["cold"], server, cells, row.get("gpu_megabytes"),
    )  # fmt: skip


def _compared(rows: Iterable[Mapping[str, Any]]) -> tuple[Compared, ...]:
    def place(row: Mapping[str, Any]) -> tuple[str, str, str]:
        return row["model"], row["target"], row["engine"]

    found = []
    for where, own in groupby(sorted(rows, key=place), key=place):
        of = {row["second"]: row["rounds"] for row in own}
        itself = of.pop("", None)  # a group whose run was cut short may not have it yet
        for what in WHAT if itself is not None else ():
            floor = equivalence(*itself[what])
            tests = {step: equivalence(*rounds[what]) for step, rounds in of.items()}
            found += [(*where, step, what, test, floor) for step, test in tests.items()]
    adjusted = holm(np.array([test.differs for *_, test, _ in found]))
    return tuple(Compared(*row, float(p)) for row, p in zip(found, adjusted, strict=True))


# ---- what a language costs ----


@dataclass(frozen=True, slots=True)
class Dearer:
    """A language over the first one, geometric means over the choices: tokens, latency and time a sentence; each with its range."""

    model: str
    target: str
    engine: str
    language: str
    first: str
    tokens: float
    latency: tuple[float, float, float]  # mean, smallest, largest
    time: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Doubling:
    """What twice the tokens cost: 2 to the least-squares slope of log cost over log tokens, over languages, with its 95 % interval."""

    model: str
    target: str
    engine: str
    what: str
    languages: int
    factor: float
    low: float
    high: float


def dearer(found: Served) -> tuple[Dearer, ...]:
    """Every language beside the first, by model, target and engine."""
    rows = []
    for (model, target, engine), own in _alike(found.measured).items():
        first = own[0].cells[0].language
        for place, cell in enumerate(own[0].cells):
            pairs = [(each.cells[place], each.cells[0]) for each in own]
            latency = _range([a.p50 / b.p50 for a, b in pairs])
            time = _range([b.rate / a.rate for a, b in pairs])
            rows.append(Dearer(model, target, engine, cell.language, first, cell.tokens / own[0].cells[0].tokens, latency, time))
    return tuple(rows)


def doublings(found: Served) -> tuple[Doubling, ...]:
    """By model, target and engine; none where there are fewer than four languages, or all have the same number of tokens."""
    rows = []
    for (model, target, engine), own in _alike(found.measured).items():
        x = [math.log2(cell.tokens) for cell in own[0].cells]
        n, spread = len(x), sum((each - fmean(x)) ** 2 for each in x)
        if n < 4 or spread < 1e-12:
            continue
        for what in WHAT:
            y = [fmean(math.log2(_cost(each.cells[place], what)) for each in own) for place in range(n)]
            slope = sum((a - fmean(x)) * b for a, b in zip(x, y, strict=True)) / spread
            left = [b - fmean(y) - slope * (a - fmean(x)) for a, b in zip(x, y, strict=True)]
            half = t_quantile(0.975, n - 2) * (sum(each**2 for each in left) / (n - 2) / spread) ** 0.5
            rows.append(Doubling(model, target, engine, what, n, 2**slope, 2 ** (slope - half), 2 ** (slope + half)))
    return tuple(rows)


def _alike(measured: Sequence[Measured]) -> dict[tuple[str, str, str], list[Measured]]:
    """By model, target and engine, the choices, which are of one size."""
    groups: dict[tuple[str, str, str], list[Measured]] = {}
    for each in measured:
        groups.setdefault((each.model, each.target, each.engine), []).append(each)
    return groups


def _cost(cell: Cell, what: str) -> float:
    return cell.p50 if what == "latency" else 1 / cell.rate


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    return geometric_mean(values), min(values), max(values)


# ---- score against latency ----


def front(measured: Sequence[Measured]) -> tuple[Measured, ...]:
    """Those of which no other of the same target has a better score and is as fast, or is faster and scores as well: the faster first."""
    found = []
    for one in measured:
        others = [each for each in measured if each.target == one.target]
        better = ((e.score >= one.score and e.latency <= one.latency and (e.score, e.latency) != (one.score, one.latency)) for e in others)
        if not any(better):
            found.append(one)
    return tuple(sorted(found, key=lambda each: (each.target, each.latency)))
