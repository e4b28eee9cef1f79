"""An encoder with one head as one module over padded rows, and the files that it becomes.

Shape suffixes: B rows, T tokens of the longest row, H hidden width, C outputs.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from xstilts.deploy.spec import Spec
from xstilts.engine import hf
from xstilts.engine.kinds import TRAINS
from xstilts.engine.model import load_head
from xstilts.errors import ModelError
from xstilts.task import Task

GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml"}
HEAD = "head.safetensors"  # of a torch export that no transformers class fits


def _plainly_attend(model: PreTrainedModel) -> None:
    """transformers' own attention: fused, or written out where the family cannot be fused (Gemma 2 caps its scores)."""
    try:
        model.set_attn_implementation("sdpa")
    except ValueError:
        model.set_attn_implementation("eager")


class Graph(nn.Module):
    """input_ids, attention_mask (and token_type_ids where the family has them), all [B, T] int64, to logits.

    [B, C] for classify and choose, one score a row (option) for the latter; [B, T, C] for tag and span, padding included.
    """

    def __init__(self, encoder: PreTrainedModel, head: nn.Module, kind: str, pool: str) -> None:
        super().__init__()
        _plainly_attend(encoder)
        self.encoder, self.head = encoder, head
        self.by_token, self.mean = kind in ("tag", "span"), pool == "mean"
        self.from_ends = pool == "last" or hf.family(encoder).causal  # what a causal model says of a row stands where the row ends
        self.first = hf.first_position(encoder)
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """The logits."""
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if self.first is not None:
            # as the engine counts: also where a text holds a padding token
            inputs["position_ids"] = (torch.arange(input_ids.shape[1], device=input_ids.device) + self.first).expand_as(input_ids)
        hidden_BTH = self.encoder(**inputs).last_hidden_state
        if self.by_token:
            scores: Tensor = self.head(hidden_BTH)
        elif self.mean:
            mask_BT1 = attention_mask.unsqueeze(-1).to(hidden_BTH.dtype)
            scores = self.head((hidden_BTH * mask_BT1).sum(1) / mask_BT1.sum(1))
        else:
            scores = self.head(hidden_BTH[:, 0])
        return scores


def graph_of(folder: Path, spec: Spec, task: Task) -> Graph:
    """The graph of an entry of the store. Raises ModelError when it has no head for the task."""
    encoder = hf.load_encoder(folder / "encoder")
    return Graph(encoder, load_head(folder, encoder, task), spec.kind, spec.pool)


# ---- ONNX and OpenVINO ----


def write_onnx(graph: Graph, names: tuple[str, ...], longest: int, path: Path) -> None:
    """The graph with dynamic numbers of rows and tokens, weights inside, in fp32. Raises ModelError for a model read from row ends."""
    if graph.from_ends:
        raise ModelError(f"a {graph.encoder.config.model_type} model is read where its rows end, which no graph does; use --format torch")
    example = {name: torch.ones(2, 7, dtype=torch.int64) for name in names}
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=longest)
    with _quiet():
        made = torch.onnx.export(
            graph, (), kwargs=example, input_names=list(names), output_names=["logits"], dynamo=True, verbose=False,
            dynamic_shapes={name: {0: batch, 1: tokens} for name in names}, external_data=False,
        )  # fmt: skip
        assert made is not None
        made.save(str(path), external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """The tools print their progress on standard output, which is ours, and warn of what no user can act on."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def quantise(full: Path, path: Path) -> None:
    """Weights as int8 a channel, activations as int8 by their own range when the graph runs: no calibration data."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(full))
    del model.graph.value_info[:]  # the exporter's shapes contradict the quantised graph's
    with _quiet():
        quantize_dynamic(model, str(path), weight_type=QuantType.QInt8, per_channel=True)


def write_openvino(onnx_file: Path, path: Path) -> None:
    """The ONNX graph as OpenVINO's own files (.xml and .bin), weights in fp32; what it computes in is said when it is loaded."""
    import openvino

    model = openvino.Core().read_model(str(onnx_file))  # convert_model would do the same and report on its use over the network
    openvino.save_model(model, str(path), compress_to_fp16=False)


# ---- the plain transformers layout ----

_ROBERTA = ("xlm-roberta", "roberta", "camembert")
_CLASS = {"classify": "SequenceClassification", "choose": "MultipleChoice", "tag": "TokenClassification", "span": "QuestionAnswering"}


def layout(encoder: PreTrainedModel, spec: Spec) -> tuple[str, Mapping[str, str]]:
    """The transformers class that computes the same as our head, and where our head's modules are in it; ("", {}) for none.

    The classes for one sentence or a choice read the first token's state: a mean over the tokens fits none of them.
    """
    family, base = encoder.config.model_type, encoder.base_model_prefix
    if family not in (*_ROBERTA, "bert") or (spec.kind in ("classify", "choose") and spec.pool != "first"):
        return "", {}
    places: Mapping[str, str]
    match spec.kind:
        case "classify" if family in _ROBERTA:
            places = {"dense": "classifier.dense", "out": "classifier.out_proj"}
        case "classify" | "choose":
            places = {"dense": f"{base}.pooler.dense", "out": "classifier"}
        case "tag":
            places = {"out": "classifier"}
        case _:
            places = {"out": "qa_outputs"}
    return type(encoder).__name__.removesuffix("Model") + "For" + _CLASS[spec.kind], places


def write_torch(graph: Graph, spec: Spec, folder: Path) -> str:
    """Weights and config as `from_pretrained` reads them; gives the class they are of, "" where the head lies apart."""
    name, places = layout(graph.encoder, spec)
    dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
    head = {key: value.detach().to(dtype).contiguous() for key, value in graph.head.state_dict().items()}
    if not name:
        _plain(graph.encoder, dtype).save_pretrained(folder)
        save_file(head, folder / HEAD)
        return ""
    config = type(graph.encoder.config).from_dict(graph.encoder.config.to_dict())
    if spec.kind in ("classify", "tag"):
        config.id2label = dict(enumerate(spec.labels))
        config.label2id = {label: number for number, label in enumerate(spec.labels)}
    with torch.random.fork_rng():  # fresh weights, all of which are replaced
        whole = getattr(transformers, name)(config)
    state = {f"{graph.encoder.base_model_prefix}.{key}": value for key, value in graph.encoder.state_dict().items()}
    for ours, theirs in places.items():
        state |= {f"{theirs}.{part}": graph.head.state_dict()[f"{ours}.{part}"] for part in ("weight", "bias")}
    odd = whole.load_state_dict(state, strict=False)
    if odd.unexpected_keys or any("position_ids" not in key for key in odd.missing_keys):
        raise ModelError(f"{spec.name}: {name} has not the weights that were expected ({[*odd.missing_keys, *odd.unexpected_keys][:2]})")
    _plain(whole, dtype).save_pretrained(folder)
    return name


def _plain(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    _plainly_attend(model)
    changed: PreTrainedModel = nn.Module.to(model, dtype)
    return changed


def torch_parts(folder: Path, spec: Spec, task: Task) -> tuple[PreTrainedModel, nn.Module]:
    """Encoder and head of a torch export, in fp32. Raises ModelError when the weights of the head are not there."""
    encoder = hf.load_encoder(folder)
    name, places = layout(encoder, spec)
    head = TRAINS[task.kind].head(encoder, task, 0.0)
    if name != spec.layout:
        raise ModelError(f"{folder}: holds a {spec.layout or 'head apart'}, where {name or 'a head apart'} was expected; export it again")
    files = sorted(folder.glob("model*.safetensors" if name else HEAD))
    found = {key: value for path in files for key, value in load_file(path).items()}
    if name:
        named = {f"{theirs}.{part}": f"{ours}.{part}" for ours, theirs in places.items() for part in ("weight", "bias")}
        found = {named[key]: value for key, value in found.items() if key in named}
    try:
        head.load_state_dict({key: value.float() for key, value in found.items()})
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{folder}: the head's weights are not as expected ({error}); export it again") from None
    return encoder, head


class PlainClass(nn.Module):
    """A torch export as a user of transformers loads it, asked as a Graph is."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        super().__init__()
        self.kind = spec.kind
        self.model: Any = getattr(transformers, spec.layout).from_pretrained(folder).eval()

    def forward(self, **inputs: Tensor) -> Tensor:
        """The logits."""
        if self.kind == "choose":  # [1, B, T]: the rows as the options of one question
            return self.model(**{name: value[None] for name, value in inputs.items()}).logits[0, :, None]
        out = self.model(**inputs)
        return torch.stack([out.start_logits, out.end_logits], -1) if self.kind == "span" else out.logits
