"""Estimated against measured: peak memory and time of trainings and predictions, each in a fresh process as a run starts them.

    python benchmarks/estimate.py [--only NAME ...] [--steps 40] [--threads 2] [--tiny] [--memory] [--device cuda]

Every case is a random model of a known shape, with a vocabulary of words of its own and rows of words drawn by Zipf's law, so that
nothing is read from elsewhere. A training holds `steps` updates of 32 rows of about 100 tokens and one selection; then its answers for
10 rows a step are made. The estimate is that of `xstilts plan`: `arithmetic` for the memory, `executors.calibrate` on this machine for
the time. Peaks are resident pages at their highest; on a GPU what the process holds of its memory at the end, CUDA's own part included
(torch gives nothing back). --memory leaves the times out: they mean nothing on a machine with other work; memory does not depend on it.
Wants 4 GB of disk under the folder for temporary files, 45 GB for the largest models of a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xstilts import arithmetic, machine
from xstilts.estimate import Speed, measure, seconds
from xstilts.examples import Example, Text
from xstilts.executors.local import environment
from xstilts.needs import Lengths, Need, need
from xstilts.stages import Layout, Predict, Pretrained, Recipe, Rows, Runtime, Share, Train

WORDS = 100  # of a row, at most 118; a word is a token
DEV, SCORED = 5, 10  # rows for every step


@dataclass(frozen=True)
class Case:
    """A model's config, and what is trained of it."""

    config: dict[str, Any]
    recipe: dict[str, Any]
    precision: str = "fp32"
    checkpointing: bool = False
    sharded: bool = False  # through FSDP2, as one process of one
    predicts: bool = True

    @property
    def start(self) -> Pretrained:
        """Of the model; a causal one has read all at the last token only."""
        return Pretrained("benchmark", "last" if self.config["model_type"] == "llama" else "first")


def _xlmr(hidden: int, layers: int, heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "xlm-roberta", "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": 4 * hidden, "max_position_embeddings": 514, "type_vocab_size": 1,
        "pad_token_id": 1,
    }  # fmt: skip


_LLAMA = {
    "model_type": "llama", "vocab_size": 32_000, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "num_key_value_heads": 4, "intermediate_size": 2048, "max_position_embeddings": 514, "pad_token_id": 1,
}  # fmt: skip
CASES = {
    "xlmr-base": Case(_xlmr(768, 12, 12, 250_002), {}),
    "xlmr-base bf16": Case(_xlmr(768, 12, 12, 250_002), {}, "bf16"),
    "xlmr-base frozen": Case(_xlmr(768, 12, 12, 250_002), {"freeze_embeddings": True, "freeze_layers": 6}),
    "minilm 6x384": Case(_xlmr(384, 6, 12, 250_002), {}),
    "llama 100M": Case(_LLAMA, {}),
}
_XL = {**_xlmr(2560, 36, 32, 250_880), "model_type": "xlm-roberta-xl"}


def _llama(hidden: int, layers: int, heads: int, inner: int) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads}
    return {**_LLAMA, **sizes, "intermediate_size": inner}


ON_GPU = {
    **{name: CASES[name] for name in ("xlmr-base bf16", "xlmr-base")},
    "xlmr-large bf16": Case(_xlmr(1024, 24, 16, 250_002), {}, "bf16"),
    "xlmr-xl bf16": Case(_XL, {}, "bf16", predicts=False),
    "llama-7b bf16": Case(_llama(4096, 32, 32, 11_008), {}, "bf16", checkpointing=True, sharded=True, predicts=False),
    "llama-13b lora": Case(_llama(5120, 40, 40, 13_824), {"tuning": "lora"}, "bf16", checkpointing=True, predicts=False),
}
TINY = {
    "tiny xlmr": Case(_xlmr(64, 2, 4, 2000), {}),
    "tiny llama": Case(
        {**_LLAMA, "vocab_size": 2000, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 150}, {}
    ),
}


def stages(case: Case, steps: int, threads: int, device: str) -> tuple[Train, Predict]:
    """The training and the prediction of a case. Hashes of data only name caches here."""
    runtime = Runtime(case.precision, threads, device)
    train = Rows("xnli", 1, "train", "train", "en", "0", cap=32 * steps)
    dev = Rows("xnli", 1, "dev", "dev", "en", "0", cap=DEV * steps)
    test = Rows("xnli", 1, "test", "test", "en", "0", cap=SCORED * steps)
    recipe = Recipe(steps=steps, batch=32, max_length=128, selections=1, **case.recipe)
    trained = Train(case.start, (Share(train),), (dev,), recipe, 1, runtime)
    return trained, Predict(case.start, test, 128, 64, runtime)


def examples(rows: Rows, words: int) -> list[Example]:
    """Rows of words "w0", "w1", ... whose ranks follow Zipf's law, strewn over the vocabulary."""
    draw = random.Random(rows.split)
    made: list[Example] = []
    for number in range(rows.cap or 0):
        ranks = (int((words + 1) ** draw.random()) - 1 for _ in range(draw.randint(WORDS - 18, WORDS + 18)))
        text = " ".join(f"w{rank * 7919 % words}" for rank in ranks)
        made.append(Text(f"{rows.split} {number}", text, None, draw.choice(("entailment", "neutral", "contradiction"))))
    return made


class Drawn:
    """The lengths of such rows, for the estimate: `plan` reads them off the data."""

    def of(self, rows: Rows, max_length: int, stride: int) -> Lengths:
        """Uniform between WORDS - 18 and WORDS + 18 words and two special tokens."""
        mean, variance = WORDS + 2, (37**2 - 1) / 12
        return Lengths(rows.cap or 0, mean, variance**0.5, mean + 18, mean + 18, mean**2 + variance)

    def images(self, rows: Rows) -> int:
        """None."""
        return 0


def build(case: Case, folder: Path, device: str) -> None:
    """Write the random model and its tokenizer; on a GPU in bf16, as large checkpoints are."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = AutoConfig.for_model(**case.config)
    model: Any = AutoModel
    with torch.device(device):
        made = model.from_config(config, dtype=torch.float32 if device == "cpu" else torch.bfloat16)
    made.save_pretrained(folder)
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    names = [*specials, *(f"w{number}" for number in range(config.vocab_size - len(specials)))]
    inner = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>", model_input_names=["input_ids"]
    )
    tokenizer.save_pretrained(folder)


def one(kind: str, name: str, folder: Path, steps: int, threads: int, device: str) -> None:
    """Carry out one stage as a worker does, and print its seconds and its peak as JSON."""
    import resource

    import torch

    from xstilts.engine import hf
    from xstilts.tasks import task

    torch.set_num_threads(threads)
    case = {**CASES, **ON_GPU, **TINY}[name]
    trained, asked = stages(case, steps, threads, device)
    began = time.perf_counter()

    def load(rows: Rows) -> list[Example]:
        return examples(rows, case.config["vocab_size"] - 4)

    if kind == "build":
        build(case, folder / "model", device)
    elif kind == "train":
        from xstilts.engine import adapters
        from xstilts.engine.parallel import joined
        from xstilts.engine.train import train

        start, layout = adapters.weights(trained.start, lambda _: folder / "model"), Layout(checkpointing=case.checkpointing)
        draft, cache = folder / "draft", folder / "cache"
        if case.sharded:
            places = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
            os.environ.update(places, MASTER_ADDR="127.0.0.1", MASTER_PORT="29517")
            with joined(device, "fsdp") as team:
                train(trained, start, task, load, draft, cache, lambda _: None, lambda: False, layout, team)
        else:
            train(trained, start, task, load, draft, cache, lambda _: None, lambda: False, layout)
    else:
        from xstilts.engine.kinds import encoded
        from xstilts.engine.model import Model, load_head
        from xstilts.engine.predict import logits

        weights = folder / "draft" / "out"
        encoder, tokenizer = hf.load_encoder(weights / "encoder"), hf.load_tokenizer(weights / "encoder")
        torch.nn.Module.eval(torch.nn.Module.to(encoder, device))
        made = encoded(weights / "encoder", tokenizer, task("xnli"), asked.rows, lambda: load(asked.rows), 128, 0, folder / "cache")
        began = time.perf_counter()
        model, head = Model(encoder, tokenizer, {}), load_head(weights, encoder, task("xnli")).to(device).eval()
        list(logits(model, head, task("xnli"), made, case.start.pool, device, case.precision))
    took = time.perf_counter() - began
    if kind == "train":
        took = json.loads((folder / "draft" / "out" / "log.json").read_text())["seconds"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        peak = total - free
    print(json.dumps({"seconds": took, "peak": peak}))


def run(kind: str, name: str, folder: Path, steps: int, threads: int, device: str) -> dict[str, float]:
    """`one` in a process with the environment of a worker."""
    command = [sys.executable, __file__, "--one", kind, "--only", name, "--folder", str(folder)]
    command += ["--steps", str(steps), "--threads", str(threads), "--device", device]
    done = subprocess.run(command, env=environment(threads, offline=True), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}, {kind}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def row(name: str, kind: str, needed: Need, speed: Speed | None, measured: dict[str, float]) -> str:
    """One line of the table."""
    gib = 1 << 30
    peak, real = needed.memory.peak, measured["peak"]
    text = f"{name:18} {kind:8} {peak / gib:9.2f} {real / gib:9.2f} {peak / real - 1:+8.1%}"
    if speed is not None:
        took = seconds(needed, speed, kind == "train")
        text += f" {took:10.1f} {measured['seconds']:10.1f} {took / measured['seconds'] - 1:+8.1%}"
    return text


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=None, help="names of cases")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try this program")
    parser.add_argument("--memory", action="store_true", help="no times")
    parser.add_argument("--one", choices=("build", "train", "predict"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    device = given.device
    if given.one:
        one(given.one, given.only[0], given.folder, given.steps, given.threads, device)
        return
    cases = TINY if given.tiny else ON_GPU if device == "cuda" else CASES
    print(f"{device} of {machine.kind()}; {given.threads} threads, {given.steps} steps of 32 rows")
    times = "" if given.memory else f" {'estimated s':>10} {'measured s':>10} {'error':>8}"
    print(f"{'model':18} {'stage':8} {'est. GiB':>9} {'real GiB':>9} {'error':>8}{times}")
    for name in given.only or cases:
        case, shape = cases[name], arithmetic.shape(cases[name].config)
        trained, asked = stages(case, given.steps, given.threads, device)
        speed = None if given.memory else measure(shape, trained.runtime, 1)
        layout = Layout(checkpointing=case.checkpointing)
        needs = {"train": need(trained, shape, Drawn(), device, layout)}
        if case.predicts:
            needs["predict"] = need(asked, shape, Drawn(), device)
        with tempfile.TemporaryDirectory() as folder:
            run("build", name, Path(folder), given.steps, given.threads, device)
            for kind, needed in needs.items():
                measured = run(kind, name, Path(folder), given.steps, given.threads, device)
                print(row(name, kind, needed, speed, measured), flush=True)
                parts = {part: f"{size / (1 << 30):.2f}" for part, size in asdict(needed.memory).items() if size}
                print(f"{'':27} {' '.join(f'{part} {size}' for part, size in parts.items())}")


if __name__ == "__main__":
    main()
