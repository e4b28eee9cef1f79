"""Rows of strings as one flat array: what every metric computes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ragged:
    """N rows of strings: row i is `names[c] for c in codes[offsets[i]:offsets[i + 1]]`. Every name stands once."""

    names: tuple[str, ...]
    codes: Ints  # [T], indices into names
    offsets: Ints  # [N + 1], ascending from 0 to T

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Strings in each row, [N]."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> Ints:
        """The row of each string, [T]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def row(self, index: int) -> tuple[str, ...]:
        """One row as strings."""
        return tuple(self.names[code] for code in self.codes[self.offsets[index] : self.offsets[index + 1]])

    def firsts(self) -> Ints:
        """Code of each row's first string, [N]; every row must hold one."""
        return self.codes[self.offsets[:-1]]


def ragged(rows: Sequence[Sequence[str]]) -> Ragged:
    """The rows as one `Ragged`; names in order of first occurrence."""
    known: dict[str, int] = {}
    codes = [known.setdefault(text, len(known)) for row in rows for text in row]
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Ragged(tuple(known), np.array(codes, dtype=np.int64), offsets)


def shared_names(gold: Ragged, pred: Ragged) -> tuple[tuple[str, ...], Ints, Ints]:
    """One list of names for both sides, and the codes of each in it."""
    known = {name: code for code, name in enumerate(gold.names)}
    moved = np.array([known.setdefault(name, len(known)) for name in pred.names], dtype=np.int64)
    return tuple(known), gold.codes, moved[pred.codes] if len(moved) else pred.codes
