"""The task kinds: which file knows how to encode, train and answer each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from xstilts.canon import key_of
from xstilts.engine import choose, classify, hf, mask, retrieve, span, tag, text
from xstilts.engine.answers import Answered
from xstilts.engine.batch import Batch, Columns, load_columns, save_columns
from xstilts.examples import Example
from xstilts.stages import Rows
from xstilts.task import Task

FORMAT = 2  # raise when any kind's columns change


class Encodes(Protocol):
    """Every kind: examples to columns."""

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], task: Task, max_length: int, stride: int, /
    ) -> Columns: ...


class Answers(Encodes, Protocol):
    """Kinds that are scored."""

    def answers(
        self, logits_rows: Sequence[Tensor], made: Columns, examples: Sequence[Example], task: Task, /
    ) -> list[Answered]: ...


class Steps(Protocol):
    """What a training step asks of a kind, or of the form that all kinds have as text."""

    def logits(self, model: PreTrainedModel, head: nn.Module, batch: Batch, pool: str, /) -> Tensor: ...

    def loss(self, logits: Tensor, batch: Batch, /) -> tuple[Tensor, int]: ...


class Trains(Encodes, Steps, Protocol):
    """Kinds that are trained."""

    def head(self, model: PreTrainedModel, task: Task, rate: float, /) -> nn.Module: ...


_ENCODES: dict[str, Encodes] = {
    "classify": classify, "choose": choose, "tag": tag, "span": span, "retrieve": retrieve, "mask": mask,
}  # fmt: skip
TRAINS: dict[str, Trains] = {"classify": classify, "choose": choose, "tag": tag, "span": span, "mask": mask}
ANSWERS: dict[str, Answers] = {"classify": classify, "choose": choose, "tag": tag, "span": span, "retrieve": retrieve}


def encoded(
    model_folder: Path, tokenizer: PreTrainedTokenizerBase, task: Task, rows: Rows, examples: Callable[[], Sequence[Example]],
    max_length: int, stride: int, cache: Path, form: text.Form | None = None,
) -> Columns:  # fmt: skip
    """The columns of `rows`, made once per task and tokenizer and then memory-mapped from `cache`; only then are `examples` read.

    `form`: as text, for such a model; None: as the task's kind has them.
    """
    windows = stride if task.kind == "span" else 0
    what: dict[str, object] = {
        "format": FORMAT, "rows": rows, "tokenizer": hf.tokenizer_facts(model_folder), "max_length": max_length, "stride": windows,
    }  # fmt: skip
    if form is not None:
        what |= {"stride": 0, "text": form}
    folder = cache / "tokens" / key_of(what)
    found = load_columns(folder)
    if found is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        encodes: Encodes = _ENCODES[task.kind] if form is None else form
        found = encodes.encode(tokenizer, examples(), task, max_length, stride)
        save_columns(found, folder)
    return found
