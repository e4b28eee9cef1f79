"""Ways to serve one model faster, score by language and time side by side, on real test rows.

    python benchmarks/faster_serving.py MODEL [--store DIR] [--data DIR] [--rows 100] [--rounds 5] [--threads 1] [--out FILE]

MODEL is a finished model of a store (a key, or STUDY:MODEL/INTERMEDIATE/TARGET/SEED). All ways stand in one process and are asked in
alternating order, round by round:
in order: PyTorch fp32, padded batches of 32 rows as they come (what the others are compared with);
sorted: the same, rows sorted by length first;
budget: padded batches of rows of like length with a number of tokens in place of a number of rows;
packed: what `xstilts serve` runs for a model of the store, batches by tokens without padding;
trimmed: packed, with the embedding rows alone that other rows of these languages touch; a piece that was never seen becomes unknown;
a layer less: packed, the head on the last layer but one: what leaving that early would save, and lose without being trained for it;
packed bf16, onnx, onnx int8, openvino, openvino bf16: the same rows in other engines and precisions.

Half of each language's rows say which pieces are kept, the other half is scored and timed in every way. "alone" is the median of one
sentence at a time, tokenising left out; "together" the time a sentence where all are there, both in milliseconds; their ratios to "in
order" are medians over rounds with the smallest and the largest. Weights are the bytes of parameters (of an export: its files).
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from xstilts import machine, provenance
from xstilts.deploy import engines, graph
from xstilts.deploy.engines import BUDGET, Engine, Rows
from xstilts.deploy.export import export, score
from xstilts.deploy.find import Found, find, real_rows
from xstilts.engine import hf
from xstilts.engine.batch import Columns
from xstilts.engine.model import Model
from xstilts.errors import ModelError, XstiltsError
from xstilts.examples import Example
from xstilts.executors.local import environment

BATCH = 32
EXPORTS = {"onnx": ("onnx", "fp32"), "onnx int8": ("onnx", "int8"), "openvino": ("openvino", "fp32"), "openvino bf16": ("openvino", "bf16")}


@dataclass(frozen=True)
class Way:
    """An engine, how it makes batches, and what it does to rows first."""

    name: str
    engine: Engine
    megabytes: float
    batches: Callable[[Columns], Iterable[Rows]]
    change: Callable[[Columns], Columns] = lambda made: made

    def encode(self, examples: Sequence[Example]) -> Columns:
        """Rows, as its model reads them."""
        return self.change(self.engine.encode(examples))

    def logits(self, made: Columns) -> list[torch.Tensor]:
        """Of all rows, in order."""
        found: dict[int, torch.Tensor] = {}
        for rows in self.batches(made):
            found.update(zip(rows.tolist(), self.engine.compute(made, rows), strict=True))
        return [found[row] for row in range(len(made.example))]


def in_order(made: Columns) -> list[Rows]:
    """Batches of `BATCH` rows."""
    return np.split(np.arange(len(made.example)), range(BATCH, len(made.example), BATCH))


def by_length(made: Columns) -> list[Rows]:
    """The same, the longest first."""
    return np.split(np.argsort(-made.lengths, kind="stable"), range(BATCH, len(made.example), BATCH))


def ways(found: Found, others: Sequence[Example], scratch: Path, data: Path, threads: int) -> list[Way]:
    """All that this machine has; what it lacks is said."""
    task, spec = found.spec.known_task(), replace(found.spec, precision="fp32")
    model = engines.torch_model(replace(found, spec=spec), task)
    module = graph.graph_of(found.folder, spec, task)
    padded = engines.in_graph(engines.run_module(module), spec, task, model.tokenizer, "padded")
    packed = engines.in_torch(model, spec, task)
    whole = _megabytes(model.encoder)

    def budget(engine: Engine) -> Callable[[Columns], Iterable[Rows]]:
        return lambda made: engine.batches(made, BUDGET)

    made = [
        Way("in order", padded, whole, in_order), Way("sorted", padded, whole, by_length), Way("budget", padded, whole, budget(padded)),
        Way("packed", packed, whole, budget(packed)), trimmed(model, packed, others),
    ]  # fmt: skip
    try:
        made.append(earlier(model, packed))
    except ModelError as error:
        print(f"a layer less: {error}", file=sys.stderr)
    halved = replace(spec, precision="bf16")
    small = engines.torch_model(replace(found, spec=halved), task)
    half = engines.in_torch(small, halved, task)
    made.append(Way("packed bf16", half, _megabytes(small.encoder), budget(half)))
    for name, form in EXPORTS.items():
        folder = scratch / name.replace(" ", "-")
        try:
            own = export(found, *form, folder, data, 20)
            engine = engines.load(Found(own, folder, {}), threads)
        except ModelError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".onnx", ".bin")) / 1e6
        made.append(Way(name, engine, size, budget(engine)))
    return made


def trimmed(model: Model, packed: Engine, others: Sequence[Example]) -> Way:
    """The packed way on the embedding rows that `others` and the special tokens touch."""
    seen = np.union1d(packed.encode(others).ids, model.tokenizer.all_special_ids)
    encoder: Any = copy.deepcopy(model.encoder)
    table = encoder.get_input_embeddings()
    small = nn.Embedding(len(seen), table.embedding_dim).requires_grad_(False)
    small.weight.copy_(table.weight.detach()[torch.from_numpy(seen)])
    encoder.set_input_embeddings(small)
    unknown = int(model.tokenizer.unk_token_id) if model.tokenizer.unk_token_id is not None else int(seen[0])
    place = np.full(table.num_embeddings, np.searchsorted(seen, unknown))
    place[seen] = np.arange(len(seen))
    engine = engines.in_torch(Model(encoder.eval(), model.tokenizer, model.heads), packed.spec, packed.task)
    return Way(
        "trimmed", engine, _megabytes(encoder), lambda made: engine.batches(made, BUDGET),
        lambda made: replace(made, ids=place[made.ids].astype(made.ids.dtype)),
    )  # fmt: skip


def earlier(model: Model, packed: Engine) -> Way:
    """The packed way without the encoder's last layer."""
    encoder: Any = copy.deepcopy(model.encoder)
    hf.take_layers(encoder, range(len(hf.layers(encoder)) - 1))
    engine = engines.in_torch(Model(encoder.eval(), model.tokenizer, model.heads), packed.spec, packed.task)
    return Way("a layer less", engine, _megabytes(encoder), lambda made: engine.batches(made, BUDGET))


def _megabytes(module: nn.Module) -> float:
    return sum(each.numel() * each.element_size() for each in module.parameters()) / 1e6


def timed(way: Way, made: Columns, alone: Sequence[Columns]) -> tuple[float, float]:
    """Milliseconds a sentence: the median of one at a time, and all together."""
    each = []
    for one in alone:
        began = time.perf_counter()
        way.logits(one)
        each.append(time.perf_counter() - began)
    began = time.perf_counter()
    way.logits(made)
    return 1000 * statistics.median(each), 1000 * (time.perf_counter() - began) / made.count


def scores(way: Way, rows: Mapping[str, Sequence[Example]]) -> dict[str, float]:
    """The headline metric by language."""
    found = {}
    for code, examples in rows.items():
        made = way.encode(examples)
        answered = [each.pred for each in way.engine.answers(examples, made, way.logits(made))]
        found[code] = score(way.engine.task, code, examples, answered)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--store", type=Path, default=Path(os.environ.get("XSTILTS_STORE", "xstilts-store")))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XSTILTS_DATA", "~/.cache/xstilts/data")).expanduser())
    parser.add_argument("--rows", type=int, default=100, help="a language, half of them to choose pieces by")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(args.threads):  # must be set before the numeric libraries load
        os.execve(sys.executable, [sys.executable, *sys.argv], environment(args.threads, offline=True))
    torch.set_num_threads(args.threads)
    load = os.getloadavg()[0]
    found = find(args.model, args.store, args.data, "cpu")
    every = real_rows(found, args.data, args.rows)
    rows = {code: each[len(each) // 2 :] for code, each in every.items()}
    others = [example for each in every.values() for example in each[: len(each) // 2]]
    with tempfile.TemporaryDirectory() as scratch:
        made = ways(found, others, Path(scratch), args.data, args.threads)
        scored = {way.name: scores(way, rows) for way in made}
        texts = [example for each in rows.values() for example in each]
        columns = {way.name: (way.encode(texts), [way.encode([one]) for one in texts[:: max(1, len(texts) // 100)]]) for way in made}
        times: dict[str, list[tuple[float, float]]] = {way.name: [] for way in made}
        for number in range(args.rounds + 1):
            for way in made[:: 1 if number % 2 == 0 else -1]:
                value = timed(way, *columns[way.name])
                if number:  # the first round warms up
                    times[way.name].append(value)
    print(f"{args.model}: {found.spec.task}, {found.spec.known_task().metrics[0]}, {len(texts)} rows; times over those of in order")
    print(f"{'':<14} {'weights':>9} {'alone':>8} {'':>20} {'together':>9} {'':>20}  {'mean':>5}  {'  '.join(f'{c:>5}' for c in rows)}")
    for way in made:
        own = times[way.name]
        cells = []
        for place, width in ((0, 8), (1, 9)):
            ratios = sorted(a[place] / b[place] for a, b in zip(own, times["in order"], strict=True))
            spread = f"{statistics.median(ratios):.2f} [{ratios[0]:.2f} to {ratios[-1]:.2f}]"
            cells.append(f"{statistics.median(each[place] for each in own):>{width}.2f} {spread:>20}")
        by_language = scored[way.name]
        figures = "  ".join(f"{value:>5.1f}" for value in by_language.values())
        print(f"{way.name:<14} {way.megabytes:>6.1f} MB {' '.join(cells)}  {statistics.fmean(by_language.values()):>5.1f}  {figures}")
    print(f"{machine.kind()}, {machine.cores()} cores, {args.threads} threads, load {load:.1f} before")
    if args.out is not None:
        facts = {"model": args.model, "threads": args.threads, "load": load, **provenance.made()}
        sizes = {way.name: way.megabytes for way in made}
        args.out.write_text(json.dumps({**facts, "megabytes": sizes, "scores": scored, "times": times}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        main()
    except XstiltsError as error:
        sys.exit(f"error: {error}")
