"""Rows without padding: the tokens of all rows stand one after the other, and only attention sees where one ends.

The linear layers, norms and activations of an encoder work token by token; padding is wasted on them. Here a
batch of rows of lengths l1..lB enters the model as one row of N = l1+..+lB tokens with explicit positions; the
attention function registered below cuts it into groups of neighbours of similar length, so that only the score
matrices are padded, and little. On CPUs it multiplies them out, forward and backward, into memory that all groups
share: the fused kernel's backward pass is many times slower at the lengths of sentences, and autograd would fill
one zero gradient of the whole batch for every group (docs/lab-notebook.md).

Soft prompts stand before the keys and values of every row, in every group.

Shape suffixes: N tokens of all rows, h heads, D width of a head, b rows of a group, T tokens of its longest row, P places of prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from xstilts.engine.prompts import prefix_of

NAME = "xstilts_packed"
SLACK = 1.25  # a group's longest row may be this much longer than its shortest (at least 8 tokens)


@dataclass(frozen=True)
class Group:
    """Neighbouring rows that attention pads to one width T."""

    tokens: slice  # where their tokens stand in the packed row
    shape: tuple[int, int]  # (b, T)
    places: Tensor | None  # [n] where those tokens go in the flat [b * T]; None when nothing is padded
    mask: Tensor | None  # [b, 1, 1, T] 0 or -inf; None when nothing is padded


@dataclass(frozen=True)
class Layout:
    """How rows lie in a packed batch, and whether a token sees the tokens after it."""

    lengths: NDArray[np.int64]
    groups: tuple[Group, ...]
    causal: bool = False


def layout(lengths: NDArray[np.int64], device: str, causal: bool = False) -> Layout:
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
        groups.append(_group(slice(int(starts[first]), int(starts[last])), lengths[first:last], high, device))
        first = last
    return Layout(lengths, tuple(groups), causal)


def _group(tokens: slice, lengths: NDArray[np.int64], width: int, device: str) -> Group:
    inside = np.arange(width)[None, :] < lengths[:, None]
    if inside.all():
        return Group(tokens, inside.shape, None, None)
    mask = torch.from_numpy(np.where(inside, 0.0, -np.inf).astype(np.float32))[:, None, None, :].to(device)
    return Group(tokens, inside.shape, torch.from_numpy(np.flatnonzero(inside)).to(device), mask)


def _mask(group: Group, causal: bool, window: int | None, like: Tensor) -> Tensor | None:
    """0 where a group's token attends, -inf elsewhere, in the type of `like`; None where all attend to all.

    In a causal group the padding, which comes last, is hidden already. `window` is the distance that is too far.
    """
    width = group.shape[1]
    if window is not None and window >= width:
        window = None
    if not causal and window is None:
        return None if group.mask is None else group.mask.to(like.dtype)
    place = torch.arange(width, device=like.device)
    apart = place[:, None] - place[None, :]
    seen = apart >= 0 if causal else torch.ones_like(apart, dtype=torch.bool)
    if window is not None:
        seen = seen & (apart.abs() < window)
    if not causal and group.mask is not None:
        seen = (seen & (group.mask == 0)) | (apart == 0)  # padding sees itself: a row of -inf has no softmax
    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill(~seen, -torch.inf)


def _padded(x_NhD: Tensor, group: Group) -> Tensor:
    """[b, h, T, D] a group's rows, padded with zeros."""
    own = x_NhD[group.tokens]
    if group.places is not None:
        own = own.new_zeros(group.shape[0] * group.shape[1], *own.shape[1:]).index_copy(0, group.places, own)
    return own.unflatten(0, group.shape).transpose(1, 2)


def _packed(x_bhTD: Tensor, group: Group) -> Tensor:
    """[n, h, D] a group's tokens without their padding."""
    flat = x_bhTD.transpose(1, 2).flatten(0, 1)
    return flat if group.places is None else flat[group.places]


def _prefixed(x_bhTD: Tensor, prefix_hPD: Tensor | None) -> Tensor:
    """[b, h, P + T, D] the prompts before each row's own; the rows as they are where there are none."""
    if prefix_hPD is None:
        return x_bhTD
    return torch.cat([prefix_hPD.to(x_bhTD.dtype).expand(len(x_bhTD), -1, -1, -1), x_bhTD], 2)


def _widened(mask: Tensor | None, prefix_hPD: Tensor | None) -> Tensor | None:
    """[.., P + T] a mask with the prompts before it: every token sees them."""
    return mask if mask is None or prefix_hPD is None else nn.functional.pad(mask, (prefix_hPD.shape[1], 0))


class _Attention(torch.autograd.Function):
    """softmax(q k^T) v within each row; its gradient by the chain rule, written once into memory for all groups."""

    @staticmethod
    def forward(
        ctx: Any, q_NhD: Tensor, k_NhD: Tensor, v_NhD: Tensor, packed: Layout, window: int | None,
        k_hPD: Tensor | None = None, v_hPD: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        out_NhD = torch.empty_like(q_NhD, memory_format=torch.contiguous_format)
        kept = []
        for group in packed.groups:
            q, k, v = (_padded(x, group) for x in (q_NhD, k_NhD, v_NhD))
            k, v = _prefixed(k, k_hPD), _prefixed(v, v_hPD)
            scores = q @ k.transpose(-1, -2)
            if (mask := _widened(_mask(group, packed.causal, window, scores), k_hPD)) is not None:
                scores += mask
            weights = scores.softmax(-1)
            out_NhD[group.tokens] = _packed(weights @ v, group)
            kept += [q, k, v, weights]
        ctx.save_for_backward(out_NhD, *kept)
        ctx.packed = packed
        ctx.prompts = [x if x is None else torch.zeros_like(x, dtype=torch.float32) for x in (k_hPD, v_hPD)]
        return out_NhD

    @staticmethod
    def backward(ctx: Any, grad_NhD: Tensor) -> tuple[Tensor | None, ...]:
        out_NhD, *kept = ctx.saved_tensors
        into = tuple(torch.empty_like(out_NhD) for _ in range(3))
        mean_Nh1 = (grad_NhD * out_NhD).sum(-1, keepdim=True, dtype=torch.float32)  # of the weights' gradients, under the weights
        for number, group in enumerate(ctx.packed.groups):
            q, k, v, weights = kept[4 * number : 4 * number + 4]
            grad = _padded(grad_NhD, group)
            grad_scores = weights * (grad @ v.transpose(-1, -2) - _padded(mean_Nh1.to(grad.dtype), group))
            products = [grad_scores @ k, grad_scores.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ grad]
            for place, sums in enumerate(ctx.prompts, start=1):
                if sums is not None:  # every row's share of the prompts' gradient
                    before, products[place] = products[place].tensor_split([sums.shape[1]], dim=2)
                    sums += before.sum(0, dtype=torch.float32)
            for target, value in zip(into, products, strict=True):
                target[group.tokens] = _packed(value, group)
        return *into, None, None, *ctx.prompts


def _fused(
    q_NhD: Tensor, k_NhD: Tensor, v_NhD: Tensor, packed: Layout, window: int | None,
    k_hPD: Tensor | None = None, v_hPD: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The same through torch's fused kernels: GPUs."""
    parts = []
    for group in packed.groups:
        q, k, v = (_padded(x, group) for x in (q_NhD, k_NhD, v_NhD))
        k, v, mask = _prefixed(k, k_hPD), _prefixed(v, v_hPD), _widened(_mask(group, packed.causal, window, q), k_hPD)
        parts.append(_packed(nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0), group))
    return torch.cat(parts)


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, sliding_window: int | None = None, *, packed: Layout, **_: object,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of a packed row: [1, h, N, D] each; returns [1, N, h, D]. Attention within each row, none between.

    Tokens that are `sliding_window` or more apart do not see each other. Keys and values may have fewer heads than queries
    (Ainslie et al. 2023, arXiv 2305.13245): each serves a run of neighbouring query heads.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    shared = query.shape[1] // key.shape[1]
    if shared > 1:
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    # under autocast, rotary positions and norms leave queries and keys in fp32
    q_NhD, k_NhD, v_NhD = (x[0].transpose(0, 1).to(value.dtype) for x in (query * scale, key, value))
    prompts = prefix_of(module, query.shape[1]) or (None, None)
    with torch.autocast(query.device.type, enabled=False):
        if query.device.type == "cpu":
            mixed: Tensor = _Attention.apply(q_NhD, k_NhD, v_NhD, packed, sliding_window, *prompts)
        else:
            mixed = _fused(q_NhD, k_NhD, v_NhD, packed, sliding_window, *prompts)
    return mixed.unsqueeze(0), None


def _no_mask(*_: object, **__: object) -> None:
    """The layout says what attends to what."""
    return None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)
