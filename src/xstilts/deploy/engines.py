"""What computes: PyTorch, ONNX Runtime or OpenVINO; from examples to answers over any of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from xstilts.deploy import graph as graphs
from xstilts.deploy.find import Found
from xstilts.deploy.spec import Spec
from xstilts.engine import hf
from xstilts.engine.answers import Answered
from xstilts.engine.batch import Batch, Columns, batch_of, by_length
from xstilts.engine.kinds import ANSWERS, TRAINS
from xstilts.engine.model import Model, load_head
from xstilts.engine.span import QUESTION
from xstilts.errors import ModelError
from xstilts.examples import Choice, Example, Passage, Text, Words
from xstilts.models import FILES
from xstilts.task import Task

BUDGET = 8192  # tokens a batch: changes speed and memory, not answers
SLACK = 1.25  # of padded batches: the longest row may be this much longer than the shortest (at least 8 tokens)
Rows = NDArray[np.int64]
Padded = Callable[[Mapping[str, NDArray[np.int64]]], NDArray[np.float32]]


class Computes(Protocol):
    """Rows of tokens to logits."""

    def __call__(self, made: Columns, rows: Rows, /) -> list[Tensor]:
        """The logits of each of the rows: [C], or [T, C] without padding; on the CPU in fp32."""
        ...


@dataclass(frozen=True)
class Engine:
    """A model with one head, ready to answer."""

    spec: Spec
    task: Task
    tokenizer: PreTrainedTokenizerBase
    compute: Computes
    name: str  # "torch", "onnxruntime" or "openvino"
    pads: bool  # rows of a batch are padded to its longest

    def encode(self, examples: Sequence[Example]) -> Columns:
        """Examples to rows of tokens, windowed and cut as when the model was scored."""
        return TRAINS[self.spec.kind].encode(self.tokenizer, examples, self.task, self.spec.max_length, self.spec.stride)

    def logits(self, made: Columns, budget: int = BUDGET) -> list[Tensor]:
        """The logits of all rows, in order."""
        results: list[Tensor | None] = [None] * len(made.example)
        for rows in self.batches(made, budget):
            for row, own in zip(rows, self.compute(made, rows), strict=True):
                results[row] = own
        return [own for own in results if own is not None]

    def batches(self, made: Columns, budget: int) -> Iterator[Rows]:
        """All rows in batches of at most `budget` tokens, of like length where they are padded."""
        for rows in by_length(made, np.arange(made.count), budget):
            yield from _alike(rows, made.lengths) if self.pads else (rows,)

    def shortened(self, examples: Sequence[Example], made: Columns) -> list[bool]:
        """Which examples lost tokens on the way into rows: what is windowed lost none."""
        lengths, bounds = made.lengths, np.searchsorted(made.example, np.arange(made.count + 1))
        most = self.spec.max_length
        result = []
        for number, example in enumerate(examples):
            full = bool((lengths[bounds[number] : bounds[number + 1]] >= most).any())
            match example:
                case Text() if full:
                    lost = self._tokens(example.text, example.pair) > most
                case Choice() if full:
                    lost = any(self._tokens(f"{example.context} {example.question}".strip(), each) > most for each in example.options)
                case Passage():
                    room = min(QUESTION, most // 3)
                    lost = len(example.question) > room and self._tokens(example.question, None, False) > room
                case Words():
                    room = most - self.tokenizer.num_special_tokens_to_add()
                    lost = any(len(word) > room and self._tokens(word, None, False) > room for word in example.words)
                case _:
                    lost = False
            result.append(lost)
        return result

    def _tokens(self, first: str, second: str | None, special: bool = True) -> int:
        return len(self.tokenizer(first, second, add_special_tokens=special, truncation=False)["input_ids"])

    def answers(self, examples: Sequence[Example], made: Columns, logits: Sequence[Tensor]) -> list[Answered]:
        """What the logits say."""
        return ANSWERS[self.spec.kind].answers(logits, made, examples, self.task)

    def answer(self, examples: Sequence[Example]) -> list[Answered]:
        """All of it. At least one example."""
        made = self.encode(examples)
        return self.answers(examples, made, self.logits(made))


def _alike(rows: Rows, lengths: Rows) -> Iterator[Rows]:
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    begin = 0
    for at in range(1, len(order) + 1):
        if at == len(order) or lengths[order[begin]] > max(lengths[order[at]] * SLACK, lengths[order[at]] + 8):
            yield order[begin:at]
            begin = at


# ---- PyTorch ----


def in_torch(model: Model, spec: Spec, task: Task, device: str = "cpu") -> Engine:
    """Packed rows through the training engine's own functions; several heads may stand on one encoder."""
    kind, head = TRAINS[spec.kind], model.heads[spec.task]

    def compute(made: Columns, rows: Rows) -> list[Tensor]:
        batch = batch_of(made, rows, device)
        with torch.inference_mode(), hf.autocast(device, spec.precision):
            out = kind.logits(model.encoder, head, batch, spec.pool).float().cpu()
        return _split(out, batch)

    return Engine(spec, task, model.tokenizer, compute, "torch", False)


def _split(out: Tensor, batch: Batch) -> list[Tensor]:
    one_a_row = len(out) == len(batch.lengths)  # a row has two tokens at least
    return list(out) if one_a_row else list(out.split(batch.lengths.tolist()))


def torch_model(found: Found, task: Task, device: str = "cpu") -> Model:
    """Encoder, tokenizer and the one head, ready for `in_torch` in the precision of their spec. Raises ModelError."""
    if found.exported:
        encoder, head = graphs.torch_parts(found.folder, found.spec, task)
        tokenizer = hf.load_tokenizer(found.folder)
    else:
        encoder = hf.load_encoder(found.folder / "encoder")
        head, tokenizer = load_head(found.folder, encoder, task), hf.load_tokenizer(found.folder / "encoder")
    moved: Any = encoder
    return Model(_ready(moved, found.spec, device), tokenizer, {task.name: _ready(head, found.spec, device)})


def _ready(module: nn.Module, spec: Spec, device: str) -> Any:
    """On its device, matrices as autocast would round them: once, and not anew for every batch. The answers are the same bits."""
    if spec.precision == "bf16":
        for part in module.modules():
            if isinstance(part, nn.Linear):
                part.bfloat16()
    return module.to(device).eval()


# ---- padded graphs ----


def in_graph(run: Padded, spec: Spec, task: Task, tokenizer: PreTrainedTokenizerBase, name: str) -> Engine:
    """Padded rows through `run`, which takes the spec's inputs by name, [B, T] int64, and gives the logits of a Graph."""
    pad = int(tokenizer.pad_token_id)

    def compute(made: Columns, rows: Rows) -> list[Tensor]:
        lengths = made.lengths[rows]
        ids = np.full((len(rows), int(lengths.max())), pad, np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            at = slice(int(made.bounds[row]), int(made.bounds[row]) + int(length))
            ids[place, :length], mask[place, :length] = made.ids[at], 1
            if "types" in made.tokens:
                types[place, :length] = made.tokens["types"][at]
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        out = torch.from_numpy(np.array(run({each: given[each] for each in spec.inputs}), np.float32))
        if spec.kind in ("classify", "choose"):
            return list(out)
        results = [own[:length] for own, length in zip(out, lengths.tolist(), strict=True)]
        if spec.kind == "span":  # question tokens can be neither start nor end; the first token stands for "no answer here"
            for row, own in zip(rows, results, strict=True):
                outside = made.tokens["start"][made.bounds[row] : made.bounds[row + 1]] < 0
                outside[0] = False
                own[torch.from_numpy(outside)] = -1e9
        return results

    return Engine(spec, task, tokenizer, compute, name, True)


def run_onnx(path: Path, threads: int) -> Padded:
    """The graph in ONNX Runtime. Raises ModelError when it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise ModelError("ONNX Runtime is not installed; pip install 'xstilts[deploy]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a server's other threads need the cores
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        out: NDArray[np.float32] = session.run(["logits"], dict(inputs))[0]
        return out

    return run


def run_openvino(path: Path, precision: str, threads: int) -> Padded:
    """The graph in OpenVINO, computed in the named precision, not in what it likes best. Raises ModelError when it is not installed."""
    try:
        import openvino
    except ImportError:
        raise ModelError("OpenVINO is not installed; pip install 'xstilts[deploy]'") from None
    hints = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "fp32" else "PERFORMANCE",
    }  # fmt: skip
    compiled = openvino.Core().compile_model(str(path), "CPU", hints)

    def run(inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        out: NDArray[np.float32] = compiled(dict(inputs))["logits"]
        return out

    return run


def run_module(module: nn.Module) -> Padded:
    """A module asked with padded rows."""

    def run(inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            out: Tensor = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return out.float().numpy()

    return run


def load_all(models: Sequence[Found], threads: int = 1, device: str = "cpu") -> list[dict[str, Engine]]:
    """The engines by task, a group for each encoder: models of the store whose encoder files are equal share one in memory.

    Raises ModelError, also where two models answer the same task.
    """
    groups: dict[str, dict[str, Engine]] = {}
    shared: dict[str, Model] = {}
    tasks: set[str] = set()
    for found in models:
        spec, task = found.spec, found.spec.known_task()
        if task.name in tasks:
            raise ModelError(f"two models answer {task.name}; serve them on two ports")
        tasks.add(task.name)
        if found.exported:
            groups[f"{len(groups)}"] = {task.name: load(found, threads, device)}
            continue
        own = f"{spec.precision} {_encoder_hash(found.folder / 'encoder')}"
        if own in shared:
            base = shared[own]
            head = load_head(found.folder, base.encoder, task)
            shared[own] = Model(base.encoder, base.tokenizer, {**base.heads, task.name: _ready(head, spec, device)})
        else:
            shared[own] = torch_model(found, task, device)
        groups.setdefault(own, {})[task.name] = in_torch(shared[own], spec, task, device)
    return list(groups.values())


def _encoder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name in FILES or path.match("model-*.safetensors"):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load(found: Found, threads: int = 1, device: str = "cpu") -> Engine:
    """The engine that a model asks for: by the format of an export, PyTorch for an entry of the store. Raises ModelError."""
    spec, task = found.spec, found.spec.known_task()
    if device != "cpu" and spec.format in graphs.GRAPHS:
        raise ModelError(
            f"{found.folder}: exports to {spec.format} compute on the CPU: add --device cpu, or name the model in the store, or its "
            "export to torch"
        )
    match spec.format:
        case "onnx":
            run = run_onnx(found.folder / graphs.GRAPHS["onnx"], threads)
            return in_graph(run, spec, task, hf.load_tokenizer(found.folder), "onnxruntime")
        case "openvino":
            run = run_openvino(found.folder / graphs.GRAPHS["openvino"], spec.precision, threads)
            return in_graph(run, spec, task, hf.load_tokenizer(found.folder), "openvino")
        case _:
            return in_torch(torch_model(found, task, device), spec, task, device)
