"""Masked language modelling (Devlin et al. 2019): 80 % mask, 10 % a random token, 10 % unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from xstilts.engine import hf
from xstilts.engine.batch import Batch, Columns, columns, rng
from xstilts.engine.heads import VocabularyHead
from xstilts.engine.pieces import encode_pairs
from xstilts.errors import ModelError
from xstilts.examples import Example, Text
from xstilts.task import Task


def encode(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], task: Task, max_length: int, stride: int) -> Columns:
    """One row a text, cut at max_length."""
    rows, tokens = encode_pairs(tokenizer, [e.text for e in examples if isinstance(e, Text)], None, max_length)
    return columns(rows, range(len(rows)), tokens)


def masked(batch: Batch, tokenizer: PreTrainedTokenizerBase, rate: float, seed: int, step: int) -> Batch:
    """The batch with tokens hidden, drawn by (seed, step, row); `target` holds what stood there, -100 elsewhere.

    Every row hides at least one token that is not special. Raises ModelError when the tokenizer has no mask token.
    """
    if tokenizer.mask_token_id is None:
        raise ModelError("the tokenizer has no mask token, so that masked language modelling cannot be trained with it")
    ids = batch.ids_N.cpu().numpy().copy()
    target = np.full_like(ids, -100)
    special = np.isin(ids, np.asarray(tokenizer.all_special_ids))
    for row, start, length in zip(batch.row_B.tolist(), batch.starts.tolist(), batch.lengths.tolist(), strict=True):
        free = start + np.flatnonzero(~special[start : start + length])
        if not len(free):
            continue
        draw = rng(seed, "mask", step, row)
        chosen = draw.choice(free, max(1, round(rate * len(free))), replace=False)
        target[chosen] = ids[chosen]
        ids[chosen] = hide(ids[chosen], int(tokenizer.mask_token_id), len(tokenizer), draw)
    device = batch.ids_N.device
    tokens = {**batch.tokens, "target": torch.from_numpy(target).to(device)}
    return replace(batch, ids_N=torch.from_numpy(ids).to(device), tokens=tokens)


def hide(
    ids: NDArray[np.int64], mask: int, vocabulary: int, draw: np.random.Generator, masked: float = 0.8, stays: float = 0.1
) -> NDArray[np.int64]:
    """80 % of `ids` (`masked`) become the mask, 10 % stay (`stays`), the others become a random token."""
    fate = draw.random(len(ids))
    other = draw.integers(0, vocabulary, len(ids))
    return np.where(fate < masked, mask, np.where(fate < 1 - stays, other, ids))


def head(model: PreTrainedModel, task: Task, rate: float) -> nn.Module:
    """The head, weights not yet set; its output matrix is the model's own embedding. Raises ModelError where it has another width."""
    rows, width = hf.embedding_of(model).shape
    if width != hf.hidden_size(model):
        raise ModelError(f"{model.config.model_type} has embeddings of width {width} and states of width {hf.hidden_size(model)}: "
                         "masked language modelling needs one width")  # fmt: skip
    return VocabularyHead(width, rows)


def logits(model: PreTrainedModel, head: nn.Module, batch: Batch, pool: str) -> Tensor:
    """[M, V] for the M hidden tokens."""
    hidden_NH = hf.hidden_states(model, batch)
    out: Tensor = head(hidden_NH[batch.tokens["target"] != -100], hf.embedding_of(model))
    return out


def loss(logits_MV: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """Summed cross-entropy over the hidden tokens, and their number."""
    targets = batch.tokens["target"]
    targets = targets[targets != -100]
    return nn.functional.cross_entropy(logits_MV.float(), targets, reduction="sum"), len(targets)
