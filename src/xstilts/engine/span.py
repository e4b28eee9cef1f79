"""Extractive question answering: the answer is a span of the context; long contexts are read through windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from xstilts.engine import hf
from xstilts.engine.answers import Answered
from xstilts.engine.batch import Batch, Columns, columns
from xstilts.engine.heads import TokenHead
from xstilts.engine.pieces import rows, types_of
from xstilts.errors import ModelError
from xstilts.examples import Example, Passage
from xstilts.task import Task

# Releases of tokenizers that stop reading a text once a row is full, so that further windows are missing without a word
# (https://github.com/huggingface/tokenizers/issues/2091).
LOSE_WINDOWS = ("0.23.0", "0.23.1", "0.23.2")
LONGEST_ANSWER = 30  # tokens, as run_squad has it
QUESTION = 64  # tokens that a question may take, as run_squad has it


def encode(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], task: Task, max_length: int, stride: int) -> Columns:
    """One row a window; per token its character span in the context (-100 outside); per row the answer's first and last token.

    The first accepted answer is the target. A window without it points at the first token, as does a question without answer.
    Raises ModelError for a release of tokenizers that loses windows.
    """
    if tokenizers.__version__ in LOSE_WINDOWS:
        raise ModelError(f"tokenizers {tokenizers.__version__} loses the end of long contexts; pip install 'tokenizers>=0.23.3'")
    passages = [e for e in examples if isinstance(e, Passage)]
    if not passages:
        return columns([], [])
    questions = _shortened(tokenizer, [p.question for p in passages], min(QUESTION, max_length // 3))
    made, put = rows(
        tokenizer, questions, [p.context for p in passages], max_length, truncation="only_second", stride=min(stride, max_length // 4),
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    example = made["overflow_to_sample_mapping"]
    owners = put([made.sequence_ids(row) for row in range(len(example))])
    places = put(made["offset_mapping"], (0, 0), (0, 0))
    starts, ends, first, last = [], [], [], []
    for row, owner in enumerate(example):
        offsets = np.asarray(places[row], np.int64)
        inside = np.fromiter((s == 1 for s in owners[row]), bool, len(offsets))
        start, end = np.where(inside, offsets[:, 0], -100), np.where(inside, offsets[:, 1], -100)
        a, b = _target(passages[owner], start, end)
        starts.append(start.tolist())
        ends.append(end.tolist())
        first.append(a)
        last.append(b)
    tokens = {"start": starts, "end": ends, **types_of(made, put, pairs=True)}
    return columns(put(made["input_ids"]), example, tokens, {"first": first, "last": last})


def _shortened(tokenizer: PreTrainedTokenizerBase, questions: list[str], most: int) -> list[str]:
    """Questions cut to at most `most` tokens (hardly any is longer)."""
    made = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True, padding=False, return_attention_mask=False)
    return [
        question[: offsets[most - 1][1]] if len(offsets) > most else question
        for question, offsets in zip(questions, made["offset_mapping"], strict=True)
    ]


def _target(passage: Passage, start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[int, int]:
    """First and last token of the answer in this window; (0, 0) when it is not wholly inside; -100 when unlabelled."""
    if passage.answers is None:
        return -100, -100
    if not passage.answers:
        return 0, 0
    answer = passage.answers[0]
    a, b = answer.start, answer.start + len(answer.text)
    covered = np.flatnonzero((start >= 0) & (start < b) & (end > a))
    if not len(covered) or start[covered[0]] > a or end[covered[-1]] < b:
        return 0, 0
    return int(covered[0]), int(covered[-1])


def head(model: PreTrainedModel, task: Task, rate: float) -> nn.Module:
    """The head, weights not yet set: a start and an end score a token."""
    return TokenHead(hf.hidden_size(model), 2, rate)


def logits(model: PreTrainedModel, head: nn.Module, batch: Batch, pool: str) -> Tensor:
    """[N, 2]; question tokens can be neither start nor end.

    The first token stands for "no answer here"; in a causal model, where it has seen nothing, with the last token's scores.
    """
    out: Tensor = head(hf.hidden_states(model, batch)).float()
    allowed = batch.tokens["start"] >= 0
    firsts = torch.from_numpy(batch.starts).to(allowed.device)
    allowed[firsts] = True
    if hf.family(model).causal:
        out = out.index_copy(0, firsts, out[torch.from_numpy(batch.ends).to(allowed.device)])
    return out.masked_fill(~allowed.unsqueeze(-1), -1e9)


def loss(logits_N2: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """Mean of the start's and the end's cross-entropy, summed over windows, and the number of windows."""
    first, last = batch.rows["first"], batch.rows["last"]
    logits_BT2 = nn.utils.rnn.pad_sequence(logits_N2.split(batch.lengths.tolist()), batch_first=True, padding_value=-1e9)
    total = nn.functional.cross_entropy(logits_BT2[..., 0], first, reduction="sum", ignore_index=-100)
    total = total + nn.functional.cross_entropy(logits_BT2[..., 1], last, reduction="sum", ignore_index=-100)
    return total / 2, int((first != -100).sum())


def answers(
    logits_rows: Sequence[Tensor], made: Columns, examples: Sequence[Example], task: Task
) -> list[Answered]:
    """The best span over all windows of a passage; scores = (its score, the lowest score of "no answer").

    Where the task has questions without answer, the empty text wins when its score is higher (threshold 0).
    """
    result = []
    groups = made.rows_of(np.arange(made.count))
    for example, windows in zip(examples, groups, strict=True):
        if not isinstance(example, Passage):
            raise TypeError("span needs Passage")
        best, null, text = -np.inf, np.inf, ""
        for r in windows:
            row = logits_rows[r].numpy()
            null = min(null, float(row[0].sum()))
            score, a, b = best_span(row)
            if score > best:
                at = made.bounds[r]
                best = score
                text = example.context[made.tokens["start"][at + a] : made.tokens["end"][at + b]].strip()  # byte-level: " word"
        chosen = "" if task.no_answer and null > best else text
        result.append(Answered((chosen,), (max(best, -1e9), null)))
    return result


def best_span(logits_T2: NDArray[np.float32]) -> tuple[float, int, int]:
    """Score, first and last token of the best span of at most LONGEST_ANSWER tokens, the first token left out."""
    start, end = logits_T2[1:, 0], logits_T2[1:, 1]
    best = (-np.inf, 0, 0)
    for length in range(min(LONGEST_ANSWER, len(start))):
        scores = start[: len(start) - length] + end[length:]
        a = int(scores.argmax())
        if scores[a] > best[0]:
            best = (float(scores[a]), a + 1, a + 1 + length)
    return best


