"""Dropout that depends on (seed, step, row) and on nothing else.

torch draws one mask for a whole batch, so that an example's mask moves with its neighbours,
its padding and the micro-batch it stands in. Here a row's mask is a window of one fixed table
of random bits, at an offset hashed from (seed, step, row, module). Any way of cutting a step
into micro-batches then gives the same loss up to rounding, a resumed training the same bits,
and a window costs a copy in place of B*T*H random draws. Two rows share a window by chance only.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xstilts.engine.packed import filled

TABLE = 1 << 22  # entries to start a window at: far more than windows that any two steps draw


class Draws:
    """The rows in hand and their window offsets; shared by the dropouts of one model."""

    def __init__(self, rate: float, seed: int) -> None:
        self.rate, self.seed = rate, seed
        self._table: dict[torch.dtype, Tensor] = {}
        self._bits = np.random.Generator(np.random.Philox(key=seed)).random(TABLE, np.float32) >= rate
        self._offsets: NDArray[np.uint64] | None = None
        self._lengths = np.zeros(0, np.int64)

    def at(self, step: int, rows_B: NDArray[np.int64], lengths_B: NDArray[np.int64]) -> None:
        """Name the rows that the next forward pass holds, and their lengths in tokens."""
        mixed = rows_B.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64((step * 0xD1B54A32D192ED03) % 2**64)
        self._offsets = _mix(mixed + np.uint64(self.seed))
        self._lengths = lengths_B

    def mask(self, module: int, like: Tensor) -> Tensor:
        """The mask of `module` for a tensor of packed tokens [.., N, H] or of rows [B, ..]: zeros at the rate, else 1 / (1 - rate).

        Tokens that fill a packed batch up (`packed.filled`) get a part of the table, whichever.
        """
        if self._offsets is None:
            raise RuntimeError("dropout does not know the rows of this batch")
        width = like.shape[-1]
        tokens = int(self._lengths.sum())
        held = like.shape[-2] if like.dim() > 1 else 0
        fill = 0
        if held in (tokens, filled(tokens)) and like.numel() == width * held:
            sizes, fill = self._lengths * width, width * (held - tokens)
        else:
            sizes = np.full(len(self._offsets), like.numel() // len(self._offsets))
        table = self._table_of(like, max(fill, int(sizes.max())))
        starts = _mix(self._offsets + np.uint64(module + 1)) % np.uint64(TABLE)
        windows = [table[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]
        return torch.cat([*windows, table[:fill]]).view_as(like)

    def _table_of(self, like: Tensor, size: int) -> Tensor:
        known = self._table.get(like.dtype)
        if known is None or len(known) < TABLE + size:
            bits = np.resize(self._bits, TABLE + max(size, TABLE // 4))
            known = torch.from_numpy(bits).to(like.device, like.dtype) / (1 - self.rate)
            self._table[like.dtype] = known
        return known


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every bit of the input moves every bit of the output."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed


class RowDropout(nn.Module):
    """Drop-in for nn.Dropout on tensors of packed tokens or of rows."""

    def __init__(self, draws: Draws, number: int) -> None:
        super().__init__()
        self.draws, self.number = draws, number

    def forward(self, input: Tensor) -> Tensor:
        """`input` with dropout while training, else unchanged."""
        if not self.training or self.draws.rate == 0:
            return input
        return input * self.draws.mask(self.number, input)


def replace_dropouts(model: nn.Module, draws: Draws) -> None:
    """Put RowDropout where `model` has nn.Dropout with a rate above zero (attention's was set to zero at loading)."""
    number = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout) and child.p > 0:
                setattr(parent, name, RowDropout(draws, number))
                number += 1
