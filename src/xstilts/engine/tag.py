"""One tag a word. Long sentences are split at words into several rows, never cut: every word keeps a tag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from xstilts.engine import hf
from xstilts.engine.answers import Answered
from xstilts.engine.batch import Batch, Columns, columns
from xstilts.engine.heads import TokenHead
from xstilts.engine.pieces import encode_words, runs, special_ids
from xstilts.errors import DataError
from xstilts.examples import Example, Words
from xstilts.task import Task


def encode(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], task: Task, max_length: int, stride: int) -> Columns:
    """Rows of whole words; per token `word` (number of the word whose first piece it is, -100 for its other pieces, -101 for
    special tokens) and `target` (its tag).

    A single word longer than a row keeps its first pieces. Raises DataError for an unknown tag.
    """
    sentences = [e for e in examples if isinstance(e, Words)]
    number = {tag: index for index, tag in enumerate(task.labels)}
    before, after = special_ids(tokenizer)
    room = max_length - len(before) - len(after)
    rows: list[list[int]] = []
    words: list[list[int]] = []
    targets: list[list[int]] = []
    example: list[int] = []
    for index, (sentence, pieces) in enumerate(zip(sentences, encode_words(tokenizer, [s.words for s in sentences]), strict=True)):
        tags = _numbers(sentence, number, task)
        for part in runs(pieces, room):
            ids, word, target = list(before), [-101] * len(before), [-100] * len(before)
            for w in part:
                kept = pieces[w][:room]
                ids += kept
                word += [w] + [-100] * (len(kept) - 1)
                target += [tags[w]] + [-100] * (len(kept) - 1)
            rows.append(ids + after)
            words.append(word + [-101] * len(after))
            targets.append(target + [-100] * len(after))
            example.append(index)
    tokens = {"word": words, "target": targets}
    if hf.type_ids(tokenizer):
        tokens["types"] = [[0] * len(row) for row in rows]
    return columns(rows, example, tokens)


def _numbers(sentence: Words, number: dict[str, int], task: Task) -> list[int]:
    if sentence.tags is None:
        return [-100] * len(sentence.words)
    if len(sentence.tags) != len(sentence.words):
        raise DataError(f"{task.name}: sentence {sentence.id} has {len(sentence.words)} words and {len(sentence.tags)} tags")
    for tag in sentence.tags:
        if tag not in number:
            raise DataError(f'{task.name}: sentence {sentence.id} has the tag "{tag}" (known: {", ".join(task.labels)})')
    return [number[tag] for tag in sentence.tags]


def head(model: PreTrainedModel, task: Task, rate: float) -> nn.Module:
    """The head, weights not yet set."""
    return TokenHead(hf.hidden_size(model), len(task.labels), rate)


def logits(model: PreTrainedModel, head: nn.Module, batch: Batch, pool: str) -> Tensor:
    """[N, tags]; of a word at its first piece. In a causal model that is what its last piece says, which has seen all of it."""
    hidden_NH = hf.hidden_states(model, batch)
    if hf.family(model).causal:
        hidden_NH = hidden_NH[_last_pieces(batch.tokens["word"])]
    out: Tensor = head(hidden_NH)
    return out


def _last_pieces(word_N: Tensor) -> Tensor:
    """[N] for the first piece of a word the place of its last one, for any other token its own."""
    begins = torch.nonzero(word_N != -100).squeeze(-1)
    ends = torch.cat([begins[1:], begins.new_tensor([len(word_N)])]) - 1
    return torch.arange(len(word_N), device=word_N.device).index_copy(0, begins, ends)


def loss(logits_NC: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """Summed cross-entropy over first pieces, and the number of words."""
    targets = batch.tokens["target"]
    total = nn.functional.cross_entropy(logits_NC.float(), targets, reduction="sum", ignore_index=-100)
    return total, int((targets != -100).sum())


def answers(
    logits_rows: Sequence[Tensor], made: Columns, examples: Sequence[Example], task: Task
) -> list[Answered]:
    """The likeliest tag of every word; no scores (they would outweigh everything else in the store)."""
    result = []
    groups = made.rows_of(np.arange(made.count))
    for example, rows in zip(examples, groups, strict=True):
        if not isinstance(example, Words):
            raise TypeError("tagging needs Words")
        tags = [""] * len(example.words)
        for r in rows:
            word = made.tokens["word"][made.bounds[r] : made.bounds[r + 1]]
            best = logits_rows[r].argmax(-1).numpy()
            for position in np.flatnonzero(word >= 0):
                tags[word[position]] = task.labels[best[position]]
        result.append(Answered(tuple(tags), ()))
    return result
