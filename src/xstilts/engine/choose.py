"""A context and several options, one right: one row an option, a softmax over the options of a question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from xstilts.engine import hf
from xstilts.engine.answers import Answered
from xstilts.engine.batch import Batch, Columns, columns
from xstilts.engine.heads import SentenceHead
from xstilts.engine.pieces import encode_pairs
from xstilts.errors import DataError
from xstilts.examples import Choice, Example
from xstilts.task import Task


def encode(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], task: Task, max_length: int, stride: int) -> Columns:
    """One row an option, with the example's label on each; -100 where unlabelled. Raises DataError for a label out of range."""
    firsts, seconds, example, labels = [], [], [], []
    for number, e in enumerate(e for e in examples if isinstance(e, Choice)):
        if e.label is not None and not 0 <= e.label < len(e.options):
            raise DataError(f"{task.name}: row {e.id} has the label {e.label} for {len(e.options)} options")
        for option in e.options:
            firsts.append(f"{e.context} {e.question}".strip())
            seconds.append(option)
            example.append(number)
            labels.append(-100 if e.label is None else e.label)
    rows, tokens = encode_pairs(tokenizer, firsts, seconds, max_length)
    return columns(rows, example, tokens, {"label": labels})


def head(model: PreTrainedModel, task: Task, rate: float) -> nn.Module:
    """The head, weights not yet set: one score a row."""
    return SentenceHead(hf.hidden_size(model), 1, rate)


def logits(model: PreTrainedModel, head: nn.Module, batch: Batch, pool: str) -> Tensor:
    """[B, 1]."""
    out: Tensor = head(hf.pooled(hf.hidden_states(model, batch), batch, pool))
    return out


def loss(logits_B1: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """Summed cross-entropy over the options of each question, and the number of questions. Rows of a question are adjacent."""
    _, first, counts = np.unique(batch.example_B, return_index=True, return_counts=True)
    order = np.argsort(first)
    first, counts = first[order], counts[order]
    scores = [logits_B1[a : a + n, 0].float() for a, n in zip(first.tolist(), counts.tolist(), strict=True)]
    table = nn.utils.rnn.pad_sequence(scores, batch_first=True, padding_value=float("-inf"))
    labels = batch.rows["label"][torch.from_numpy(first).to(logits_B1.device)]
    total = nn.functional.cross_entropy(table, labels, reduction="sum", ignore_index=-100)
    return total, int((labels != -100).sum())


def answers(
    logits_rows: Sequence[Tensor], made: Columns, examples: Sequence[Example], task: Task
) -> list[Answered]:
    """The option with the highest score, 0-based as text; one score an option."""
    result = []
    scores = torch.stack(list(logits_rows))[:, 0].tolist()
    groups = made.rows_of(np.arange(made.count))
    for rows in groups:
        own = [scores[r] for r in rows]
        best = max(range(len(own)), key=own.__getitem__)
        result.append(Answered((str(best),), tuple(own)))
    return result
