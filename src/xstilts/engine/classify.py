"""One text or a pair, one of several labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from xstilts.engine import hf
from xstilts.engine.answers import Answered
from xstilts.engine.batch import Batch, Columns, columns
from xstilts.engine.heads import SentenceHead
from xstilts.engine.pieces import encode_pairs
from xstilts.errors import DataError
from xstilts.examples import Example, Text
from xstilts.task import Task


def encode(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], task: Task, max_length: int, stride: int) -> Columns:
    """One row an example; row label = number of the label, -100 where unlabelled. Raises DataError for an unknown label."""
    texts = [e for e in examples if isinstance(e, Text)]
    number = {label: index for index, label in enumerate(task.labels)}
    for e in texts:
        if e.label is not None and e.label not in number:
            raise DataError(f'{task.name}: row {e.id} has the label "{e.label}" (known: {", ".join(task.labels)})')
    pairs = [e.pair or "" for e in texts] if any(e.pair is not None for e in texts) else None
    rows, tokens = encode_pairs(tokenizer, [e.text for e in texts], pairs, max_length)
    labels = [-100 if e.label is None else number[e.label] for e in texts]
    return columns(rows, range(len(rows)), tokens, {"label": labels})


def head(model: PreTrainedModel, task: Task, rate: float) -> nn.Module:
    """The head, weights not yet set."""
    return SentenceHead(hf.hidden_size(model), len(task.labels), rate)


def logits(model: PreTrainedModel, head: nn.Module, batch: Batch, pool: str) -> Tensor:
    """[B, labels]."""
    out: Tensor = head(hf.pooled(hf.hidden_states(model, batch), batch, pool))
    return out


def loss(logits_BC: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """Summed cross-entropy and the number of targets."""
    labels = batch.rows["label"]
    total = nn.functional.cross_entropy(logits_BC.float(), labels, reduction="sum", ignore_index=-100)
    return total, int((labels != -100).sum())


def answers(
    logits_rows: Sequence[Tensor], made: Columns, examples: Sequence[Example], task: Task
) -> list[Answered]:
    """The likeliest label of each example; scores are the logits in the order of task.labels."""
    result = []
    for row in torch.stack(list(logits_rows)):
        result.append(Answered((task.labels[int(row.argmax())],), tuple(row.tolist())))
    return result
