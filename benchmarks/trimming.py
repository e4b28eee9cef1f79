"""Memory and time of fine-tuning with and without the embedding rows that the data cannot touch (engine/vocabulary.py).

    python benchmarks/trimming.py [--steps 5] [--repeats 3] [--precision fp32 bf16] [--threads 2]

The encoder is XLM-R base from its config with random weights: 250,002 x 768 embeddings, 12 layers. Its text is real: NLI pairs of
$XSTILTS_DATA (or, "--task mini-nli --split train", of the package), a word a token, each word's id hashed over the whole vocabulary.
Each way is trained in a process of its own, in alternating order; the table holds medians, with the smallest and largest, of seconds a
step (the first is not counted) and of the peak resident memory of the process, loading included. The stored model is whole either way.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from xstilts.canon import unit_hash
from xstilts.examples import Example, Text
from xstilts.executors.local import environment
from xstilts.rows import load
from xstilts.stages import Pretrained, Progress, Recipe, Rows, Runtime, Share, Train
from xstilts.tasks import task

DATA = Path(os.environ.get("XSTILTS_DATA", "~/.cache/xstilts/data")).expanduser()
WAYS = ("whole", "trimmed")


@dataclass(frozen=True)
class Shape:
    """The size of the encoder."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int


def rows(name: str, split: str, examples: int) -> Rows:
    """English rows of a task's split (the data hash only names the token cache)."""
    return Rows(name, task(name).version, "train", split, "en", "0", cap=examples)


def make(folder: Path, shape: Shape, examples: list[Example]) -> None:
    """Write an XLM-R of this shape with random weights, and a tokenizer of the examples' words with hashed ids."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    specials = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    words = {word for e in examples if isinstance(e, Text) for word in f"{e.text} {e.pair or ''}".split()}
    taken = dict(specials)
    used = set(specials.values())
    for word in sorted(words):
        place = 4 + int(unit_hash(word) * (shape.vocabulary - 4))
        if place not in used:  # two words of one hash: the second is unknown
            used.add(place)
            taken[word] = place
    inner = Tokenizer(models.WordLevel(taken, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    wrapped: Any = PreTrainedTokenizerFast
    wrapped(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", unk_token="<unk>", pad_token="<pad>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1,
    )  # fmt: skip
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)


def one(way: str, model: Path, wanted: Rows, steps: int, batch: int, precision: str, threads: int) -> dict[str, Any]:
    """Train `steps` steps on `wanted` and give the figures of this process: seconds a step, peak MB, rows of the table."""
    import torch

    from xstilts.engine import vocabulary
    from xstilts.engine.adapters import weights
    from xstilts.engine.train import train

    torch.set_num_threads(threads)
    if way == "whole":
        vocabulary.refusal = lambda *_: "no: to compare with"
    recipe = Recipe(steps=steps, batch=batch, max_length=128, selections=0, weight_decay=0.01)
    stage = Train(Pretrained("bench"), (Share(wanted),), (), recipe, 1, Runtime(precision, threads))
    at: list[float] = []

    def tick() -> bool:  # called once after every step
        at.append(time.perf_counter())
        return False

    def emit(_: Progress) -> None:
        return

    with tempfile.TemporaryDirectory() as folder:
        start = weights(stage.start, lambda _: model)
        train(stage, start, task, lambda r: load(r, DATA), Path(folder), Path(folder) / "cache", emit, tick)
        log = json.loads((Path(folder) / "out" / "log.json").read_text())
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    step = statistics.median(b - a for a, b in pairwise(at))
    return {"step": step, "peak_mb": peak, "rows": log["trimmed"], "loss": log["losses"][-1][1], "tokens": log["tokens"] / steps}


def main() -> None:
    """Run every way in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--task", default="xnli")
    parser.add_argument("--split", default="nli_dev")
    parser.add_argument("--vocabulary", type=int, default=250_002)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "MODEL", "PRECISION"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps < 3:
        parser.error("--steps: at least 3, as the first step is not timed")
    wanted = rows(given.task, given.split, given.steps * given.batch)
    if given.one:
        way, model, precision = given.one
        print(json.dumps(one(way, Path(model), wanted, given.steps, given.batch, precision, given.threads)))
        return
    shape = Shape(given.vocabulary, given.hidden, given.layers, given.heads)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), shape, load(wanted, DATA))
        found: dict[tuple[str, str], list[dict[str, Any]]] = {(p, way): [] for p in given.precision for way in WAYS}
        for repeat in range(given.repeats):
            for precision in given.precision:
                for way in WAYS if repeat % 2 == 0 else WAYS[::-1]:
                    command = [sys.executable, __file__, "--one", way, folder, precision, "--task", given.task, "--split", given.split,
                               "--steps", str(given.steps), "--batch", str(given.batch), "--threads", str(given.threads)]  # fmt: skip
                    done = subprocess.run(command, env=environment(given.threads, offline=True), capture_output=True, text=True)
                    if done.returncode:
                        sys.exit(f"{way} {precision} failed: {done.stderr.strip().splitlines()[-1]}")
                    found[precision, way].append(json.loads(done.stdout.strip().splitlines()[-1]))
                    last = found[precision, way][-1]
                    print(f"{precision} {way:8} {last['step']:8.3f} s a step, peak {last['peak_mb']:8.0f} MB", flush=True)
    print(f"\n{shape.vocabulary:,} x {shape.hidden}, {shape.layers} layers; {given.task}, batch {given.batch}, {given.threads} threads, "
          f"median of {given.repeats} processes of {given.steps} steps")  # fmt: skip
    for precision in given.precision:
        for way in WAYS:
            runs = found[precision, way]
            step, peak = ([run[name] for run in runs] for name in ("step", "peak_mb"))
            print(
                f"{precision} {way:8} {statistics.median(step):8.3f} s [{min(step):.3f}, {max(step):.3f}]   "
                f"{statistics.median(peak):8.0f} MB [{min(peak):.0f}, {max(peak):.0f}]   {runs[0]['rows']}, loss {runs[0]['loss']:.4f}"
            )
        whole, trimmed = ([(run["step"], run["peak_mb"]) for run in found[precision, way]] for way in WAYS)
        faster, smaller = (statistics.median(r[i] for r in whole) / statistics.median(r[i] for r in trimmed) for i in range(2))
        print(f"{precision} whole / trimmed: {faster:.2f} x the time, {smaller:.2f} x the memory")


if __name__ == "__main__":
    main()
