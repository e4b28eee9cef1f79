"""An encoder, its tokenizer and its heads in memory, and where they lie in an entry of the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from xstilts.engine import hf, lm, text
from xstilts.engine.kinds import TRAINS
from xstilts.errors import ModelError
from xstilts.stages import Form
from xstilts.task import Task


@dataclass(frozen=True)
class Model:
    """An encoder with its tokenizer and one head a task; in the form "text" a whole model, without heads."""

    encoder: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    heads: Mapping[str, nn.Module]
    pools: dict[str, list[Tensor]] = field(default_factory=dict)  # vectors of candidates that several languages share


def text_form(form: Form, body: PreTrainedModel, asks: bool, natural: bool = False) -> text.Form | None:
    """How rows are made for a model in the form "text"; None for one with heads."""
    return text.Form(lm.is_decoder(body), asks, natural) if form == "text" else None


def longest(form: Form, body: PreTrainedModel, asked: int) -> int:
    """The most tokens of a row (of an input, in the form "text") that the model can take, at most `asked`."""
    return lm.longest_input(body, asked) if form == "text" else min(asked, hf.max_positions(body))


def save_heads(heads: Mapping[str, nn.Module], tasks: Mapping[str, Task], folder: Path) -> None:
    """Write `heads/`: the weights of each, and what it answers."""
    (folder / "heads").mkdir()
    for name, head in heads.items():
        save_file({k: v.detach().cpu().contiguous() for k, v in head.state_dict().items()}, folder / "heads" / f"{name}.safetensors")
        facts = {"kind": tasks[name].kind, "labels": list(tasks[name].labels), "version": tasks[name].version}
        (folder / "heads" / f"{name}.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", "utf-8")


def tied(whole: nn.Module) -> dict[str, str]:
    """The weights that stand under a second name (T5's embedding), and their first name."""
    first: dict[int, str] = {}
    found = {}
    for name, parameter in whole.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            found[name] = first[id(parameter)]
    return found


def load_head(folder: Path, encoder: PreTrainedModel, task: Task, rate: float = 0.0) -> nn.Module:
    """The head of `task` out of an entry, with dropout `rate`. Raises ModelError when it is not there or does not fit the encoder."""
    path = folder / "heads" / f"{task.name}.safetensors"
    head = TRAINS[task.kind].head(encoder, task, rate)
    try:
        head.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise ModelError(f"{folder.name[:12]}: this model has no head for {task.name}") from None
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}") from None
    return head


def first_head(encoder: PreTrainedModel, task: Task, rate: float, generator: torch.Generator, start: Path, kept: bool) -> nn.Module:
    """The head that a training begins with: the one of `start` where it is kept, else a new one.

    The vocabulary head of MLM is part of pretraining: it is taken over wherever `start` brings one.
    """
    from xstilts.engine.heads import fresh

    if kept and task.kind != "mask":
        return load_head(start, encoder, task, rate)
    head = fresh(TRAINS[task.kind].head(encoder, task, rate), generator)
    if task.kind == "mask" and (known := vocabulary_head(start)):
        head.load_state_dict(known)
    return head


# where checkpoints keep the MLM head: ours, XLM-R's, BERT's, ModernBERT's (which has no biases but the last: zeros)
_MLM_NAMES = (
    {"dense.weight": "dense.weight", "dense.bias": "dense.bias", "norm.weight": "norm.weight", "norm.bias": "norm.bias", "bias": "bias"},
    {"dense.weight": "lm_head.dense.weight", "dense.bias": "lm_head.dense.bias", "norm.weight": "lm_head.layer_norm.weight",
     "norm.bias": "lm_head.layer_norm.bias", "bias": "lm_head.bias"},
    {"dense.weight": "cls.predictions.transform.dense.weight", "dense.bias": "cls.predictions.transform.dense.bias",
     "norm.weight": "cls.predictions.transform.LayerNorm.weight", "norm.bias": "cls.predictions.transform.LayerNorm.bias",
     "bias": "cls.predictions.bias"},
    {"dense.weight": "head.dense.weight", "norm.weight": "head.norm.weight", "bias": "decoder.bias"},
)  # fmt: skip


def vocabulary_head(start: Path) -> dict[str, torch.Tensor] | None:
    """The MLM head that a pretrained model's files hold, or None."""
    files = [*sorted((start / "heads").glob("mask.safetensors")), *sorted(start.glob("model*.safetensors"))]
    found = {name: tensor for path in files for name, tensor in load_file(path).items()}
    for names in _MLM_NAMES:
        if all(theirs in found for theirs in names.values()):
            known = {ours: found[theirs] for ours, theirs in names.items()}
            return {**{bias: torch.zeros_like(known["norm.weight"]) for bias in ("dense.bias", "norm.bias")}, **known}
    return None
