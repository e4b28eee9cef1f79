"""Rows without padding: the tokens of all rows stand one after the other, and only attention sees where one ends.

The linear layers, norms and activations of an encoder work token by token; padding is wasted on them. Here a
batch of rows of lengths l1..lB enters the model as one row of N = l1+..+lB tokens with explicit positions; the
attention function registered below cuts it into groups of rows of similar length. On CPUs it multiplies the score
matrices out (the fused kernel's backward pass is many times slower there at the lengths of sentences: docs/lab-notebook.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "xstilts_packed"
SLACK = 1.25  # a group's longest row may be this much longer than its shortest (at least 8 tokens)


@dataclass(frozen=True)
class Group:
    """Rows that attention pads to one width: where their tokens are in the packed row, and back."""

    gather: Tensor  # [b, T] positions in the packed row (padding repeats the row's first token)
    valid: Tensor | None  # [n] flat positions of the real tokens in [b, T]; None when nothing is padded
    mask: Tensor | None  # [b, 1, 1, T] 0 or -inf; None when nothing is padded


@dataclass(frozen=True)
class Layout:
    """How rows lie in a packed batch."""

    lengths: NDArray[np.int64]
    groups: tuple[Group, ...]


def layout(lengths: NDArray[np.int64], device: str) -> Layout:
    """The layout of rows of the given lengths, in that order. Neighbours of like length share a group."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    groups = []
    first = 0
    while first < len(lengths):
        last = first + 1
        low = high = int(lengths[first])
        while last < len(lengths):
            low_, high_ = min(low, int(lengths[last])), max(high, int(lengths[last]))
            if high_ > max(low_ * SLACK, low_ + 8):
                break
            low, high, last = low_, high_, last + 1
        groups.append(_group(starts[first:last], lengths[first:last], high, device))
        first = last
    return Layout(lengths, tuple(groups))


def _group(starts: NDArray[np.int64], lengths: NDArray[np.int64], width: int, device: str) -> Group:
    columns = np.arange(width)[None, :]
    inside = columns < lengths[:, None]
    gather = torch.from_numpy(np.where(inside, starts[:, None] + columns, starts[:, None])).to(device)
    if inside.all():
        return Group(gather, None, None)
    mask = torch.from_numpy(np.where(inside, 0.0, -np.inf).astype(np.float32))[:, None, None, :].to(device)
    return Group(gather, torch.from_numpy(np.flatnonzero(inside)).to(device), mask)


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, *, packed: Layout, **_: object,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of a packed row: [1, h, N, D] each; returns [1, N, h, D]. Full attention within each row, none between."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q_NhD, k_NhD, v_NhD = (x[0].transpose(0, 1) for x in (query * scale, key, value))
    parts = []
    with torch.autocast(query.device.type, enabled=False):
        for group in packed.groups:
            q, k, v = (x[group.gather].transpose(1, 2) for x in (q_NhD, k_NhD, v_NhD))
            if query.device.type == "cpu":
                scores = q @ k.transpose(-1, -2)
                if group.mask is not None:
                    scores = scores + group.mask.to(scores.dtype)
                mixed = scores.softmax(-1) @ v
            else:
                mask = None if group.mask is None else group.mask.to(q.dtype)
                mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
            out = mixed.transpose(1, 2).flatten(0, 1)
            parts.append(out if group.valid is None else out[group.valid])
    return torch.cat(parts).unsqueeze(0), None


def _no_mask(*_: object, **__: object) -> None:
    """The layout says what attends to what."""
    return None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)
