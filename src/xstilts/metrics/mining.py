"""Mining translations out of two texts (BUCC): margin scores, the threshold, and F1 of the mined pairs.

Artetxe and Schwenk 2019 (Margin-based parallel corpus mining, ACL), as XTREME (Hu et al. 2020) runs it: ratio margin over
four neighbours, the best candidate of every sentence in both directions, pairs taken greedily, a threshold that maximises
F1 on labelled pairs. A sentence that stands several times in a text should be given once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xstilts.errors import ScoreError
from xstilts.metrics.items import Floats, Items
from xstilts.metrics.ragged import Ints, Ragged, shared_names
from xstilts.metrics.rows import check_rows

NEIGHBOURS = 4
_CELLS = 16_000_000  # cosines held at once
Vectors = npt.NDArray[np.floating[npt.NBitBase]]
Pairs = frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Mined:
    """Pairs of sentences by falling margin score; no sentence of either side stands twice."""

    source: Ints  # [P], row of the source text
    target: Ints  # [P], row of the target text
    score: Floats  # [P]

    def __len__(self) -> int:
        return len(self.score)

    def above(self, threshold: float) -> Mined:
        """The pairs that score at least `threshold`."""
        kept = self.score >= threshold
        return Mined(self.source[kept], self.target[kept], self.score[kept])


def mine(source_SH: Vectors, target_TH: Vectors, neighbours: int = NEIGHBOURS) -> Mined:
    """Candidate pairs of two sets of sentence vectors (of any length; cosines are taken), best first.

    The score of x and y is cos(x, y) / ((mean cosine of x's k nearest y + mean cosine of y's k nearest x) / 2); k is
    `neighbours`, at most the size of the other side. Every x proposes the best-scoring of its k nearest y, every y the best
    of its k nearest x; of these, by falling score, a pair is taken when neither sentence has been (ties: source before
    target proposals, then row order). Raises ScoreError when a side is empty or the widths differ.
    """
    source, target = _unit(source_SH, "source"), _unit(target_TH, "target")
    if source.shape[1] != target.shape[1]:
        raise ScoreError(f"source vectors have {source.shape[1]} numbers, target vectors {target.shape[1]}")
    forward, forward_cosine = _neighbours(source, target, neighbours)
    backward, backward_cosine = _neighbours(target, source, neighbours)
    source_mean, target_mean = forward_cosine.mean(axis=1), backward_cosine.mean(axis=1)
    forward_score = forward_cosine / ((source_mean[:, None] + target_mean[forward]) / 2)
    backward_score = backward_cosine / ((target_mean[:, None] + source_mean[backward]) / 2)
    sources, targets = np.arange(len(source)), np.arange(len(target))
    first = np.concatenate((sources, backward[targets, backward_score.argmax(axis=1)]))
    second = np.concatenate((forward[sources, forward_score.argmax(axis=1)], targets))
    score = np.concatenate((forward_score.max(axis=1), backward_score.max(axis=1)))
    taken_first: set[int] = set()
    taken_second: set[int] = set()
    kept = []
    for at in np.argsort(-score, kind="stable").tolist():
        a, b = int(first[at]), int(second[at])
        if a not in taken_first and b not in taken_second:
            taken_first.add(a)
            taken_second.add(b)
            kept.append(at)
    return Mined(first[kept], second[kept], score[kept])


def best_threshold(mined: Mined, gold: Pairs) -> float:
    """The threshold with the highest F1 on `gold`: halfway between the last pair that it keeps and the next.

    The first of equals is taken; where no mined pair is right, nothing is kept (infinity). Raises ScoreError without gold.
    """
    if not gold:
        raise ScoreError("no gold pairs, so that no threshold can be tuned")
    right = np.array([pair in gold for pair in zip(mined.source.tolist(), mined.target.tolist(), strict=True)], dtype=bool)
    if not right.any():
        return float("inf")
    f1 = 2 * right.cumsum() / (np.arange(1, len(mined) + 1) + len(gold))
    f1[:-1][mined.score[:-1] == mined.score[1:]] = -1.0  # no threshold parts equal scores
    last = int(f1.argmax())
    return float(mined.score[last : last + 2].mean())


def two_fold(mined: Mined, gold: Pairs, fold_of: Ints) -> Mined:
    """The pairs kept where one labelled set serves for tuning and scoring: each half under the other half's threshold.

    `fold_of` [S] gives 0 or 1 for every source row. Raises ScoreError when a half has no gold pair.
    """
    own = fold_of[mined.source]
    keep = np.zeros(len(mined), dtype=bool)
    for fold in (0, 1):
        other = own == 1 - fold
        half = Mined(mined.source[other], mined.target[other], mined.score[other])
        keep |= (own == fold) & (mined.score >= best_threshold(half, frozenset(p for p in gold if fold_of[p[0]] == 1 - fold)))
    return Mined(mined.source[keep], mined.target[keep], mined.score[keep])


def mined_f1(gold: Ragged, pred: Ragged) -> Items:
    """F1 of mined pairs (BUCC, Zweigenbaum et al. 2018): num = 2 * pairs in both, den = mined + gold pairs.

    A row is a source sentence; it holds the ids of its translations (mostly none) or of what was mined for it.
    """
    both, mined, expected = _pair_counts(gold, pred)
    return Items("f1", 2 * both, mined + expected)


def mined_precision(gold: Ragged, pred: Ragged) -> Items:
    """Precision of mined pairs: num = pairs in both, den = mined pairs."""
    both, mined, _ = _pair_counts(gold, pred)
    return Items("precision", both, mined)


def mined_recall(gold: Ragged, pred: Ragged) -> Items:
    """Recall of mined pairs: num = pairs in both, den = gold pairs."""
    both, _, expected = _pair_counts(gold, pred)
    return Items("recall", both, expected)


def _pair_counts(gold: Ragged, pred: Ragged) -> tuple[Floats, Floats, Floats]:
    """(pairs in both, mined pairs, gold pairs) of every row, each [N]; a pair counts once, however often it stands."""
    check_rows(gold, pred)
    names, gold_codes, pred_codes = shared_names(gold, pred)
    wanted = np.unique(gold.rows * max(len(names), 1) + gold_codes)
    found = np.unique(pred.rows * max(len(names), 1) + pred_codes)
    if not len(wanted):
        raise ScoreError("no gold pairs to score")

    def per_row(pairs: Ints) -> Floats:
        return np.bincount(pairs // max(len(names), 1), minlength=len(gold)).astype(np.float64)

    return per_row(np.intersect1d(wanted, found)), per_row(found), per_row(wanted)


def _unit(vectors: Vectors, side: str) -> Vectors:
    """Rows of length 1, [N, H], in the precision that they came in."""
    if vectors.ndim != 2 or not len(vectors):
        raise ScoreError(f"no {side} vectors to mine")
    lengths: Vectors = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12).astype(vectors.dtype)
    unit: Vectors = vectors / lengths
    return unit


def nearest(queries_QH: Vectors, others_OH: Vectors, depth: int, at_once: int = 4096) -> tuple[Ints, Vectors]:
    """[Q, depth] rows of the others by falling inner product, and the products. Exact; ties go to the lower row.

    `at_once` queries are ranked together: it bounds the matrix of products.
    """
    rows, products = [], []
    for begin in range(0, len(queries_QH), at_once):
        product = queries_QH[begin : begin + at_once] @ others_OH.T
        near = np.sort(np.argpartition(-product, depth - 1, axis=1)[:, :depth], axis=1)
        own = np.take_along_axis(product, near, 1)
        order = np.argsort(-own, axis=1, kind="stable")
        rows.append(np.take_along_axis(near, order, 1))
        products.append(np.take_along_axis(own, order, 1))
    return np.concatenate(rows).astype(np.int64), np.concatenate(products)


def _neighbours(queries: Vectors, others: Vectors, count: int) -> tuple[Ints, Floats]:
    """The nearest others of each query and their cosines, both [N, k]; `count` of them, or all where there are fewer."""
    rows, cosines = nearest(queries, others, min(count, len(others)), max(1, _CELLS // len(others)))
    return rows, cosines.astype(np.float64)
