"""Rows without padding: the tokens of all rows stand one after the other, and only attention sees where one ends.

The linear layers, norms and activations of an encoder work token by token; padding is wasted on them. Here a
batch of rows of lengths l1..lB enters the model as one row of N = l1+..+lB tokens with explicit positions; the
attention function registered below cuts it into groups of neighbours of similar length, so that only the score
matrices are padded, and little. On CPUs it multiplies them out, forward and backward, into memory that all groups
share: the fused kernel's backward pass is many times slower at the lengths of sentences, and autograd would fill
one zero gradient of the whole batch for every group (docs/lab-notebook.md). On GPUs the rows go as they stand through torch's
attention of variable length, in bf16 and where torch has it; else group by group through its fused kernels.

The number of tokens and the width of a group are rounded up: a CPU's matrix product takes a millisecond or more to prepare for
a shape that it has not seen, and new sizes of memory scatter the heap. The tokens that fill a batch up belong to no row; nothing
attends to them, what they become is left out, and their gradient is zero.

Soft prompts stand before the keys and values of every row, in every group.

Shape suffixes: N tokens of all rows, h heads, D width of a head, b rows of a group, T tokens of its longest row, M places of all
groups, which is the sum of b * T; P places of prompts, G = M * h.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from xstilts.engine.prompts import prefix_of

NAME = "xstilts_packed"
FLAT = 256  # the widest head of torch's attention of variable length


def rounded(size: int, parts: int) -> int:
    """`size` rounded up to a multiple of 16, or of a `parts`-th of the power of two below it where that is more."""
    step = max(16, (1 << max(0, size.bit_length() - 1)) // parts)
    return -(-size // step) * step


def filled(tokens: int) -> int:
    """How many tokens a batch of `tokens` is filled up to: at most a sixteenth more, or 15."""
    return rounded(tokens, 16)


@dataclass(frozen=True)
class Group:
    """Neighbouring rows that attention pads to one width T."""

    start: int  # how many places the groups before it have
    shape: tuple[int, int]  # (b, T)
    mask: Tensor | None  # [b, 1, 1, T] 0 or -inf; None when nothing is padded

    def of(self, x_GD: Tensor, heads: int) -> Tensor:
        """[b * h, T, D] this group's part of what `Places.padded` gives."""
        rows, width = self.shape
        start = self.start * heads
        return x_GD[start : start + rows * heads * width].view(rows * heads, width, -1)


@dataclass(frozen=True)
class Places:
    """Where the heads of all tokens stand once every group's are laid out as [b, h, T], one group after the other."""

    into: Tensor  # [G] the head of a token, token * h + head, that stands at each place; that of token 0 where padding stands
    out: Tensor  # [filled(N) * h] the place of each head of a token; any of one that fills the batch up
    tokens: int  # N
    padding: Tensor | None  # the places of padding; None when there is none

    def padded(self, x_NhD: Tensor) -> Tensor:
        """[G, D] laid out so. One gather for all groups: each head's D numbers lie side by side."""
        return x_NhD.reshape(-1, x_NhD.shape[-1]).index_select(0, self.into)

    def packed(self, x_GD: Tensor, like: Tensor) -> Tensor:
        """The shape of `like`: the tokens of a tensor that is laid out so, in their order, without padding, and zeros that fill it up."""
        x_NhD = x_GD.index_select(0, self.out[: like.shape[0] * like.shape[1]]).view(like.shape)
        x_NhD[self.tokens :] = 0
        return x_NhD


@dataclass(frozen=True)
class Layout:
    """How rows lie in a packed batch, and whether a token sees the tokens after it."""

    lengths: NDArray[np.int64]
    groups: tuple[Group, ...]
    device: str
    causal: bool = False
    known: dict[int, Places] = field(default_factory=dict)  # by number of heads: all layers of a model share one

    @cached_property
    def bounds(self) -> tuple[Tensor, int]:
        """[B+2] int32 where each row begins, and what fills the batch up, which is a row of its own; and the longest of them."""
        tokens = int(self.lengths.sum())
        lengths = np.append(self.lengths, filled(tokens) - tokens)
        return torch.from_numpy(np.append(0, np.cumsum(lengths)).astype(np.int32)).to(self.device), int(lengths.max())

    def places(self, heads: int) -> Places:
        """Where the tokens' heads stand."""
        if heads not in self.known:
            self.known[heads] = self._places(heads)
        return self.known[heads]

    def _places(self, heads: int) -> Places:
        head_h1 = np.arange(heads)[:, None]
        first = row = 0  # token, row
        into, real = [], []
        for group in self.groups:
            rows, width = group.shape
            lengths = self.lengths[row : row + rows]
            inside_bT = np.arange(width) < lengths[:, None]
            token_bT = first + np.cumsum(inside_bT).reshape(inside_bT.shape) - 1
            into.append((np.where(inside_bT, token_bT, 0)[:, None] * heads + head_h1).ravel())
            real.append(np.broadcast_to(inside_bT[:, None], (rows, heads, width)).ravel())
            first, row = first + int(lengths.sum()), row + rows
        into_G, real_G = np.concatenate(into), np.concatenate(real)
        out = np.zeros(filled(first) * heads, np.int64)
        out[into_G[real_G]] = np.flatnonzero(real_G)
        padding = None if real_G.all() else torch.from_numpy(np.flatnonzero(~real_G)).to(self.device)
        return Places(torch.from_numpy(into_G).to(self.device), torch.from_numpy(out).to(self.device), first, padding)


def layout(lengths: NDArray[np.int64], device: str, causal: bool = False) -> Layout:
    """The layout of rows of the given lengths, in that order. Neighbours of like length share a group."""
    groups = []
    start = 0
    widths = [rounded(int(length), 8) for length in lengths]
    for width, rows in groupby(range(len(lengths)), widths.__getitem__):
        inside = np.arange(width) < lengths[[*rows], None]
        mask = None
        if not inside.all():
            mask = torch.from_numpy(np.where(inside, 0.0, -np.inf).astype(np.float32))[:, None, None, :].to(device)
        groups.append(Group(start, inside.shape, mask))
        start += inside.size
    return Layout(lengths, tuple(groups), device, causal)


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


def _prefixed(x_rTD: Tensor, prefix_hPD: Tensor | None) -> Tensor:
    """[b * h, P + T, D] the prompts before each row's own; the rows as they are where there are none."""
    if prefix_hPD is None:
        return x_rTD
    return torch.cat([prefix_hPD.to(x_rTD.dtype).repeat(len(x_rTD) // len(prefix_hPD), 1, 1), x_rTD], 1)


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
        heads = q_NhD.shape[1]
        places = packed.places(heads)
        q_GD, k_GD, v_GD = (places.padded(x) for x in (q_NhD, k_NhD, v_NhD))
        out_GD = torch.empty_like(q_GD)
        kept = []
        for group in packed.groups:
            k, v = _prefixed(group.of(k_GD, heads), k_hPD), _prefixed(group.of(v_GD, heads), v_hPD)
            scores = torch.bmm(group.of(q_GD, heads), k.mT)
            if (mask := _widened(_mask(group, packed.causal, window, scores), k_hPD)) is not None:
                scores.unflatten(0, (-1, heads)).add_(mask)
            weights = scores.softmax(-1)
            torch.bmm(weights, v, out=group.of(out_GD, heads))
            kept.append(weights)
        ctx.save_for_backward(q_GD, k_GD, v_GD, k_hPD, v_hPD, *kept)
        ctx.packed = packed
        return places.packed(out_GD, q_NhD)

    @staticmethod
    def backward(ctx: Any, grad_NhD: Tensor) -> tuple[Tensor | None, ...]:
        q_GD, k_GD, v_GD, k_hPD, v_hPD, *kept = ctx.saved_tensors
        heads = grad_NhD.shape[1]
        places = ctx.packed.places(heads)
        grad_GD = places.padded(grad_NhD)
        if places.padding is not None:
            grad_GD.index_fill_(0, places.padding, 0)  # what padding attends to has no part in the gradients of keys and values
        into = [torch.empty_like(x) for x in (q_GD, k_GD, v_GD)]
        prompts = [x if x is None else torch.zeros_like(x, dtype=torch.float32) for x in (k_hPD, v_hPD)]
        for group, weights in zip(ctx.packed.groups, kept, strict=True):
            grad, q = group.of(grad_GD, heads), group.of(q_GD, heads)
            k, v = _prefixed(group.of(k_GD, heads), k_hPD), _prefixed(group.of(v_GD, heads), v_hPD)
            grad_scores = torch._softmax_backward_data(torch.bmm(grad, v.mT), weights, -1, weights.dtype)
            dq, *dkv = (group.of(x, heads) for x in into)
            torch.bmm(grad_scores, k, out=dq)
            for left, right, own, sums in zip((grad_scores, weights), (q, grad), dkv, prompts, strict=True):
                if sums is None:
                    torch.bmm(left.mT, right, out=own)
                else:  # every row's share of the prompts' gradient
                    before, after = torch.bmm(left.mT, right).tensor_split([sums.shape[1]], dim=1)
                    own.copy_(after)
                    sums += before.unflatten(0, (-1, heads)).sum(0, dtype=torch.float32)
        return *(places.packed(x, grad_NhD) for x in into), None, None, *prompts


@cache
def _of_variable_length() -> Callable[..., Any] | None:
    """torch's attention over rows of several lengths (Dao et al. 2022, arXiv 2205.14135), where it is there with a scale and windows."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if {"scale", "window_size"} <= inspect.signature(varlen_attn).parameters.keys() else None


def _goes_flat(q_NhD: Tensor) -> bool:
    width = q_NhD.shape[-1]
    return q_NhD.dtype == torch.bfloat16 and width <= FLAT and width % 8 == 0 and _of_variable_length() is not None


def _flat(q_NhD: Tensor, k_NhD: Tensor, v_NhD: Tensor, packed: Layout, window: int | None) -> Tensor:
    """The same without any padding: GPUs, in half precision."""
    bounds, longest = packed.bounds
    far = -1 if window is None else window - 1
    sees = (far, 0 if packed.causal else far)
    attend = _of_variable_length()
    assert attend is not None
    mixed_NhD: Tensor = attend(q_NhD, k_NhD, v_NhD, bounds, bounds, longest, longest, scale=1.0, window_size=sees)
    return mixed_NhD


def _fused(
    q_NhD: Tensor, k_NhD: Tensor, v_NhD: Tensor, packed: Layout, window: int | None,
    k_hPD: Tensor | None = None, v_hPD: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The same through torch's fused kernels, group by group: GPUs."""
    heads = q_NhD.shape[1]
    places = packed.places(heads)
    parts = []
    padded = [places.padded(x) for x in (q_NhD, k_NhD, v_NhD)]
    for group in packed.groups:
        q, k, v = (group.of(x, heads) for x in padded)
        k, v, mask = _prefixed(k, k_hPD), _prefixed(v, v_hPD), _widened(_mask(group, packed.causal, window, q), k_hPD)
        q, k, v = (x.unflatten(0, (-1, heads)) for x in (q, k, v))
        parts.append(nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0).flatten(0, 2))
    return places.packed(torch.cat(parts), q_NhD)


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
        elif prompts == (None, None) and _goes_flat(q_NhD):
            mixed = _flat(q_NhD, k_NhD, v_NhD, packed, sliding_window)
        else:
            mixed = _fused(q_NhD, k_NhD, v_NhD, packed, sliding_window, *prompts)
    return mixed.unsqueeze(0), None


def _no_mask(*_: object, **__: object) -> None:
    """The layout says what attends to what."""
    return None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)
