"""Tokenised rows as flat columns, and how they become batches.

Shape suffixes: R rows, B rows of a batch, N tokens of all rows, T tokens of the longest row, H hidden width.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xstilts.arithmetic import SEEING
from xstilts.canon import unit_hash

Ints = NDArray[np.int32]


class Images(Protocol):
    """The images of examples, as the text layers attend to them."""

    def of(self, examples: NDArray[np.int64]) -> Tensor:
        """[B, P, W] fp32 states of the images of these examples, on the CPU: P places, W wide."""
        ...


@dataclass(frozen=True)
class Columns:
    """Tokenised examples. An example has one row or several: options of a choice, windows of a passage."""

    ids: Ints  # [N] token ids of all rows, one after the other
    bounds: NDArray[np.int64]  # [R+1] row r is ids[bounds[r]:bounds[r+1]]
    example: Ints  # [R] the example that a row belongs to, ascending
    tokens: Mapping[str, Ints] = field(default_factory=dict)  # per token [N]: "types", kind's own
    rows: Mapping[str, Ints] = field(default_factory=dict)  # per row [R]: labels
    images: Images | None = None  # of examples that have some; not a part of what is stored

    @property
    def count(self) -> int:
        """The number of examples."""
        return int(self.example[-1]) + 1 if len(self.example) else 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[R] tokens a row."""
        return np.diff(self.bounds)

    def rows_of(self, examples: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The row numbers of each of the given examples."""
        first = np.searchsorted(self.example, examples)
        last = np.searchsorted(self.example, examples, side="right")
        return [np.arange(a, b) for a, b in zip(first, last, strict=True)]


def columns(
    rows: Sequence[Sequence[int]],
    example: Sequence[int],
    tokens: Mapping[str, Sequence[Sequence[int]]] | None = None,
    labels: Mapping[str, Sequence[int]] | None = None,
) -> Columns:
    """Columns from lists of token ids (and lists of the same lengths in `tokens`)."""
    bounds = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=bounds[1:])

    def flat(lists: Sequence[Sequence[int]]) -> Ints:
        return np.fromiter((item for row in lists for item in row), np.int32, int(bounds[-1]))

    return Columns(
        flat(rows),
        bounds,
        np.asarray(example, np.int32),
        {name: flat(lists) for name, lists in (tokens or {}).items()},
        {name: np.asarray(values, np.int32) for name, values in (labels or {}).items()},
    )


def save_columns(made: Columns, folder: Path) -> None:
    """Write columns as .npy files; the folder appears by one rename. Another process may have been faster."""
    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    draft.mkdir(parents=True, exist_ok=True)
    np.save(draft / "ids.npy", made.ids)
    np.save(draft / "bounds.npy", made.bounds)
    np.save(draft / "example.npy", made.example)
    for level, arrays in (("tokens", made.tokens), ("rows", made.rows)):
        for name, array in arrays.items():
            np.save(draft / f"{level}.{name}.npy", array)
    (draft / "names.json").write_text(json.dumps({"tokens": sorted(made.tokens), "rows": sorted(made.rows)}))
    try:
        draft.rename(folder)
    except OSError:
        shutil.rmtree(draft)
        if not (folder / "names.json").is_file():
            raise


def load_columns(folder: Path) -> Columns | None:
    """Columns memory-mapped from `folder`, or None when it is not there."""
    try:
        names = json.loads((folder / "names.json").read_text())
    except FileNotFoundError:
        return None

    def array(name: str) -> NDArray[np.int32]:
        loaded: NDArray[np.int32] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return loaded

    return Columns(
        array("ids"),
        array("bounds").astype(np.int64),
        array("example"),
        {name: array(f"tokens.{name}") for name in names["tokens"]},
        {name: array(f"rows.{name}") for name in names["rows"]},
    )


@dataclass(frozen=True)
class Batch:
    """Rows one after the other, without padding. N tokens, B rows."""

    ids_N: Tensor  # int64
    lengths: NDArray[np.int64]  # [B] tokens a row
    tokens: Mapping[str, Tensor]  # name -> [N]
    rows: Mapping[str, Tensor]  # name -> [B]
    example_B: NDArray[np.int64]  # the example of each row
    row_B: NDArray[np.int64]  # the row's number in the columns
    images_BPW: Tensor | None = None  # the states of each row's image

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.ids_N)

    @property
    def starts(self) -> NDArray[np.int64]:
        """[B] where each row begins."""
        starts: NDArray[np.int64] = np.cumsum(self.lengths) - self.lengths
        return starts

    @property
    def ends(self) -> NDArray[np.int64]:
        """[B] where each row's last token is."""
        ends: NDArray[np.int64] = np.cumsum(self.lengths) - 1
        return ends


def batch_of(made: Columns, rows_B: NDArray[np.int64], device: str) -> Batch:
    """The given rows as one batch on `device`."""
    starts, ends = made.bounds[rows_B], made.bounds[rows_B + 1]
    source = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])

    def taken(flat: Ints, which: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(flat[which].astype(np.int64)).to(device)

    return Batch(
        taken(made.ids, source),
        ends - starts,
        {name: taken(array, source) for name, array in made.tokens.items()},
        {name: taken(array, rows_B) for name, array in made.rows.items()},
        np.asarray(made.example[rows_B], np.int64),
        rows_B,
        None if made.images is None else made.images.of(np.asarray(made.example[rows_B], np.int64)).to(device),
    )


def by_length(made: Columns, examples: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers of `examples` in micro-batches of at most `budget` tokens, long rows first.

    The rows of one example stay together; an example over the budget is a batch of its own.
    Sorted, so that attention's groups are of one length; long ones first, so that the
    largest batch meets a fresh allocator. Rows with images are fewer: what they attend to is many times their length.
    """
    budget = budget if made.images is None else max(1, budget // SEEING)
    lengths = made.lengths
    rows_of = made.rows_of(examples)
    longest = np.fromiter((lengths[rows].max() for rows in rows_of), np.int64, len(rows_of))
    total = np.fromiter((lengths[rows].sum() for rows in rows_of), np.int64, len(rows_of))
    current: list[NDArray[np.int64]] = []
    used = 0
    for number in np.argsort(-longest, kind="stable"):
        if current and used + total[number] > budget:
            yield np.concatenate(current)
            current, used = [], 0
        current.append(rows_of[number])
        used += int(total[number])
    if current:
        yield np.concatenate(current)


@dataclass(frozen=True)
class Step:
    """What one optimizer step trains on: examples of one share of the mix."""

    share: int
    examples: NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """The whole training as a pure function of its seed: step number -> examples.

    A share of weight w with n examples gives round(epochs * w * n) examples, in passes that each
    see every example once; the steps of the shares are shuffled among each other.
    """

    order: NDArray[np.int64]  # [steps] the share of each step
    streams: tuple[NDArray[np.int64], ...]  # per share: example numbers in order
    batch: int

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> Step:
        share = int(self.order[step])
        before = int((self.order[:step] == share).sum())
        return Step(share, self.streams[share][before * self.batch : (before + 1) * self.batch])


def schedule(sizes: Sequence[int], weights: Sequence[float], epochs: float, steps: int | None, batch: int, seed: int) -> Schedule:
    """The schedule of a mix. With `steps`, the epochs follow from it, in the same proportions."""
    wanted = [weight * size for weight, size in zip(weights, sizes, strict=True)]
    if steps is not None:
        scale = steps * batch / sum(wanted)
        counts = [max(batch, round(scale * amount)) for amount in wanted]
    else:
        counts = [max(1, round(epochs * amount)) for amount in wanted]
    shares_steps = [-(-count // batch) for count in counts]
    streams = []
    for share, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        passes = -(-count // size)
        stream = np.concatenate([rng(seed, "stream", share, number).permutation(size) for number in range(passes)])
        streams.append(stream[:count].astype(np.int64))
    order = np.repeat(np.arange(len(sizes)), shares_steps)
    order = rng(seed, "order").permutation(order)
    return Schedule(order if steps is None else order[:steps], tuple(streams), batch)


def rng(seed: int, *what: str | int) -> np.random.Generator:
    """A generator that depends on the seed and on what it is for, and on nothing else."""
    number = int(unit_hash("/".join(map(str, what)), salt=str(seed)) * 2**53)
    return np.random.Generator(np.random.Philox(key=number))
