"""How long a plan will take, how much memory and disk: from what finished stages took here, else from a short measurement.

Everything is proportional: seconds = tokens / (tokens a second), the rate measured on stages of a body of the
same size, precision and threads. It is an estimate; nothing but the display of `plan` stands on it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts import apertium, machine
from xstilts.canon import key_of, plain
from xstilts.errors import XstiltsError
from xstilts.executors.local import environment
from xstilts.models import size as model_size
from xstilts.plan import Plan
from xstilts.rows import load
from xstilts.run import rivals
from xstilts.stages import Apertium, Choose, Given, Merge, Predict, Pretrain, Rows, Runtime, Stage, Train, Translate, parents, root
from xstilts.store import Store, write_json
from xstilts.translations import named

BYTES_A_TOKEN = 4.0  # of UTF-8, before anything was measured
START = 6.0  # seconds until the first worker trains: imports
OVERHEAD = 0.15  # seconds a stage: reading, loading a model, writing the entry


@dataclass(frozen=True, slots=True)
class Size:
    """An encoder's size: `body` = parameters outside the embeddings (12 x hidden^2 x layers), all `parameters`."""

    hidden: int
    layers: int
    parameters: int

    @property
    def body(self) -> int:
        """The parameters that every token passes."""
        return 12 * self.hidden * self.hidden * self.layers


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left of a plan: seconds, peak MB while it runs, bytes on disk at the peak and when it has ended, and the basis."""

    seconds: float | None  # None: a size is not known before something has run
    megabytes: float | None
    disk_peak: int
    disk_after: int
    basis: str


@dataclass(frozen=True, slots=True)
class _Rate:
    """Tokens a second and peak MB of stages of one sort, measured."""

    tokens: float
    megabytes: float


def sizes(plan: Plan, store: Store) -> dict[str, Size]:
    """The size of every start of a plan, by its key; without those that are neither here nor described."""
    found = {}
    for start in plan.models.values():
        made = store.find_weights(start.key) if isinstance(start, Pretrain) else None
        where = plan.where.get(start.key) if made is None else made / "encoder"
        if isinstance(where, Path):
            about = model_size(where)
            found[start.key] = Size(about["hidden"], about["layers"], about["parameters"])
        elif isinstance(start, Pretrain):
            model, vocab = _described(start)
            if model:
                hidden, layers = int(model.get("hidden", 0)), int(model.get("layers", 0))
                found[start.key] = Size(hidden, layers, 12 * hidden * hidden * layers + vocab * hidden)
    return found


def _described(start: Pretrain) -> tuple[Mapping[str, Any], int]:
    config = json.loads(start.config)
    model = config.get("model", {})
    return ({} if model.get("init") else model), int(config.get("tokenizer", {}).get("vocab", 0))


def estimate(plan: Plan, todo: Mapping[str, Stage], store: Store, data: Path, jobs: int) -> Estimate:
    """The estimate for the stages in `todo`. Counts rows once (kept in the cache), measures once when nothing has run here."""
    known, counts = sizes(plan, store), _Counts(store, data)
    bytes_peak, bytes_after = disk(plan, todo, known, store, jobs, counts)
    if not todo:
        return Estimate(0.0, 0.0, bytes_peak, bytes_after, "nothing is missing")
    rates, basis = _rates(plan, todo, store, known, jobs)
    unknown: dict[str, None] = {}  # translators of which nothing has run here
    seconds: dict[str, float] = {}
    peak = 0.0
    for key, stage in todo.items():
        if isinstance(stage, Merge | Choose):
            seconds[key] = OVERHEAD
            continue
        if isinstance(stage, Translate):
            speed = _translates(stage, plan, store)
            if speed is None:
                unknown[named(stage.by)] = None
            seconds[key] = OVERHEAD + (counts.characters(stage.rows) / speed if speed else 0.0)
            continue
        size = known.get(root(stage).key)
        rate = rates.get(_sort(stage, size)) if size is not None else None
        if isinstance(stage, Pretrain) or rate is None:
            return Estimate(None, None, bytes_peak, bytes_after, f"no measurement fits {root(stage).key[:12]} before it has run")
        seconds[key] = tokens(stage, counts) / rate.tokens + OVERHEAD
        peak = max(peak, rate.megabytes)
    counts.save()
    chain: dict[str, float] = {}
    for key, stage in todo.items():
        chain[key] = seconds[key] + max((chain.get(start.key, 0.0) for start in parents(stage)), default=0.0)
    total = START + max(sum(seconds.values()) / jobs, max(chain.values()))
    if unknown:
        basis += f"; without the translation by {' and '.join(unknown)}, which has not run here yet"
    return Estimate(total, peak * min(jobs, len(todo)), bytes_peak, bytes_after, basis)


def disk(
    plan: Plan, todo: Mapping[str, Stage], known: Mapping[str, Size], store: Store, jobs: int, counts: _Counts
) -> tuple[int, int]:
    """Bytes of the study at its peak and after `keep` was applied (weights are fp32; drafts hold three times as much)."""
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
            own = 4 * size.parameters + 3_000_000 if size is not None else 0
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


def tokens(stage: Stage, counts: _Counts) -> float:
    """Tokens that a stage passes through the encoder; a token that is trained on counts once."""
    match stage:
        case Train():
            recipe = stage.recipe
            made = [(share.weight, *counts.of(share.rows, recipe.max_length, recipe.stride)) for share in stage.mix]
            drawn = sum(weight * rows for weight, rows, _ in made)
            mean = sum(weight * rows * each for weight, rows, each in made) / max(1.0, drawn)
            examples = recipe.steps * recipe.batch if recipe.steps else recipe.epochs * drawn
            # Choosing the best state reads the dev part; forward only, about a third of a training token.
            chosen = sum(rows * each for rows, each in (counts.of(r, recipe.max_length, recipe.stride) for r in stage.select))
            return examples * mean + recipe.selections * chosen / 3
        case Predict():
            rows, each = counts.of(stage.rows, stage.max_length, stage.stride)
            return rows * each
        case Pretrain() | Merge() | Choose() | Translate():
            return 0.0


def counter(store: Store, data: Path) -> Callable[[Rows], int]:
    """Counts rows, each once: what a plan's mixes ask for. Raises DataError for rows that cannot be read."""
    counts = _Counts(store, data)

    def count(rows: Rows) -> int:
        found = int(counts.of(rows, 1, 0)[0])
        counts.save()
        return found

    return count


class _Counts:
    """Rows and text lengths of the plan's rows: read once, then kept in the store's cache."""

    def __init__(self, store: Store, data: Path) -> None:
        self._path, self._data = store.cache / "rows.json", data
        try:
            self._known: dict[str, list[float]] = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            self._known = {}
        self._new = False

    def of(self, rows: Rows, max_length: int, stride: int) -> tuple[float, float]:
        """The number of rows and the mean tokens of one (all its options, or all its windows); of a translation: of its originals."""
        count, deciles = self._lengths(rows.original)
        cut = _many(rows.task)
        each = [length / BYTES_A_TOKEN + 3 for length in deciles]
        return count, statistics.fmean(value if cut else min(max_length, value) for value in each)

    def characters(self, rows: Rows) -> float:
        """About how many characters the rows hold."""
        count, deciles = self._lengths(rows)
        return count * statistics.fmean(deciles)

    def _lengths(self, rows: Rows) -> tuple[float, list[float]]:
        """The number of rows, and the deciles of their bytes."""
        key = key_of(rows)
        if key not in self._known:
            lengths = sorted(_bytes(example) for example in load(rows, self._data))
            deciles = [float(lengths[min(len(lengths) - 1, round(q * (len(lengths) - 1) / 10))]) for q in range(11)]
            self._known[key] = [float(len(lengths)), *deciles]
            self._new = True
        count, *deciles = self._known[key]
        return count, deciles

    def save(self) -> None:
        """Keep what was counted; a disk that refuses only costs the next plan some time."""
        if self._new:
            try:
                write_json(self._path, self._known)
            except OSError:
                return


def _many(task: str) -> bool:
    """True for kinds whose examples have several rows, so that `max_length` does not bound an example."""
    from xstilts.tasks import task as find_task

    return find_task(task).kind in ("choose", "span")


def _bytes(example: object) -> int:
    """UTF-8 bytes of what the encoder reads of an example."""
    from xstilts.examples import Choice, Parallel, Passage, Text, Words

    match example:
        case Text() | Parallel():
            texts: Iterable[str] = (example.text, getattr(example, "pair", None) or "")
        case Words():
            texts = example.words
        case Passage():
            texts = (example.question, example.context)
        case Choice():
            texts = [text for option in example.options for text in (example.context, getattr(example, "question", ""), option)]
        case _:
            raise TypeError(f"{type(example).__name__} is no example")
    return sum(len(text.encode()) + 1 for text in texts)


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


def _sort(stage: Stage, size: Size | None) -> str:
    """Stages of one sort run at one rate: what they do, the encoder's size and form, precision, threads, device."""
    shape = f"{size.hidden}x{size.layers}/{size.parameters}" if size is not None else "?"
    runtime: Runtime = stage.runtime
    form = "" if isinstance(stage, Translate) or root(stage).form == "heads" else " text"
    return f"{type(stage).__name__} {shape} {runtime.precision} {runtime.threads} {runtime.device}{form}"


def _rates(
    plan: Plan, todo: Mapping[str, Stage], store: Store, known: Mapping[str, Size], jobs: int
) -> tuple[dict[str, _Rate], str]:
    """Rates by sort: of finished stages on this machine kind, else measured now (and kept)."""
    training = [stage for stage in todo.values() if not isinstance(stage, Merge | Choose | Translate)]
    wanted = {_sort(stage, known[root(stage).key]): stage for stage in training if root(stage).key in known}
    rates, finished = _finished(plan, store, known)
    lacking = [sort for sort in wanted if sort not in rates and not sort.startswith("Pretrain")]
    if not lacking:
        return rates, f"measured on {finished} finished stages"
    path = store.cache / "calibration.json"
    try:
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        kept = {}
    for sort in lacking:
        name = f"{machine.kind()} / {jobs} at once / {sort}"
        if name not in kept:
            size = known[root(wanted[sort]).key]
            measured = measure(size, wanted[sort].runtime, jobs)
            for doing, rate in measured.items():
                same = _sort(wanted[sort], size).replace(type(wanted[sort]).__name__, doing, 1)
                kept[f"{machine.kind()} / {jobs} at once / {same}"] = [rate.tokens, rate.megabytes]
            try:
                write_json(path, kept)
            except OSError:
                pass
        rates[sort] = _Rate(*kept[name])
    return rates, "a short measurement on this machine" + (f", and {finished} finished stages" if finished else "")


def _finished(plan: Plan, store: Store, known: Mapping[str, Size]) -> tuple[dict[str, _Rate], int]:
    found: dict[str, list[_Rate]] = {}
    for stage in plan.stages:
        size = None if isinstance(stage, Translate) else known.get(root(stage).key)
        manifest = store.manifest(stage.key) if size is not None and not isinstance(stage, Pretrain) else None
        if manifest is None or manifest["made"].get("machine") != machine.kind():
            continue
        facts = manifest["facts"]
        if facts.get("tokens") and facts.get("seconds"):
            rate = _Rate(facts["tokens"] / facts["seconds"], float(facts.get("peak_mb", 0.0)))
            found.setdefault(_sort(stage, size), []).append(rate)
    peak = max((rate.megabytes for rates in found.values() for rate in rates), default=0.0)
    rates = {
        sort: _Rate(statistics.median(rate.tokens for rate in each), max(rate.megabytes for rate in each) or peak)
        for sort, each in found.items()
    }
    return rates, sum(len(each) for each in found.values())


def measure(size: Size, runtime: Runtime, jobs: int) -> dict[str, _Rate]:
    """Time some steps of a random encoder of this size, `jobs` processes at once as in a run: {"Train": ..., "Predict": ...}.

    Raises XstiltsError when the measurement fails.
    """
    asked = json.dumps(
        {
            "hidden": size.hidden,
            "layers": size.layers,
            "vocab": max(100, (size.parameters - size.body) // max(1, size.hidden)),
            "threads": runtime.threads,
            "precision": runtime.precision,
            "device": runtime.device,
        }
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "xstilts.executors.calibrate", asked],
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
    return {
        doing: _Rate(statistics.fmean(a[doing][0] for a in answers), statistics.fmean(a[doing][1] for a in answers))
        for doing in ("Train", "Predict")
    }
