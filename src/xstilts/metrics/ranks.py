"""Metrics of ranked candidates: mAP@20, and how far two languages rank alike (RankC)."""

from __future__ import annotations

import numpy as np

from xstilts.errors import ScoreError
from xstilts.metrics.items import Floats, Items
from xstilts.metrics.ragged import Ints, Ragged, shared_names
from xstilts.metrics.rows import check_filled, check_rows

DEPTH = 20


def average_precision(gold: Ragged, pred: Ragged) -> Items:
    """Mean average precision at 20: num = average precision on 0-1, den = 1.

    Gold rows hold the relevant candidates, prediction rows candidates best first; what stands beyond place 20 does not
    count, a candidate that stands twice counts at its first place. Average precision at k is the sum of the precisions at
    the places of the hits over min(relevant, k), as LAReQA (Roy et al. 2020) and XTREME-R (Ruder et al. 2021) compute it;
    with one relevant candidate (Mewsli-X) it is the reciprocal rank.
    """
    check_rows(gold, pred)
    check_filled("gold", gold)
    _, gold_codes, pred_codes = shared_names(gold, pred)
    values = np.zeros(len(gold))
    for row in range(len(gold)):
        relevant = set(gold_codes[gold.offsets[row] : gold.offsets[row + 1]].tolist())
        left, hits, total = set(relevant), 0, 0.0
        for place, code in enumerate(pred_codes[pred.offsets[row] : pred.offsets[row + 1]][:DEPTH].tolist(), start=1):
            if code in left:
                left.remove(code)
                hits += 1
                total += hits / place
        values[row] = total / min(len(relevant), DEPTH)
    return Items("map@20", values, np.ones(len(gold)))


def rank_consistency(one: Ragged, other: Ragged) -> Items:
    """RankC of two languages (Qi et al. 2023, arXiv 2310.10378, section 3): num on 0-1 for each question, den = 1.

    Row i of both holds the same candidates of question i, best first, under names that the languages share. The overlap
    of the two lists of the first j candidates, over j, is weighted by exp(N - j), normalised over j = 1..N: what stands
    first counts most. 100 means equal rankings, whether right or wrong. Raises ScoreError when rows are empty, differ in
    length, or hold a candidate twice.
    """
    check_rows(one, other)
    check_filled("gold", one)
    if len(uneven := np.flatnonzero(one.lengths != other.lengths)):
        at = int(uneven[0])
        raise ScoreError(f"question {at + 1} has {int(one.lengths[at])} candidates in one language, {int(other.lengths[at])} in the other")
    _, one_codes, other_codes = shared_names(one, other)
    values = np.zeros(len(one))
    for row in range(len(one)):
        span = slice(int(one.offsets[row]), int(one.offsets[row + 1]))
        values[row] = _overlap(one_codes[span].tolist(), other_codes[span].tolist(), row)
    return Items("rankc", values, np.ones(len(one)))


def score_consistency(one: Floats, other: Floats, offsets: Ints) -> Items:
    """RankC (see `rank_consistency`) of the rankings that two languages' scores give: num on 0-1 for each item, den = 1.

    Item i has the candidates `offsets[i]:offsets[i + 1]` of both [T], in the same order; of equal scores the first stands first.
    A candidate is shared from the place on where both have listed it, so that item's value is the sum over its candidates c of
    sum_{j >= m(c)} w_j / j, m(c) the larger of its two places, w_j the normalised exp(N - j).
    """
    lengths = np.diff(offsets)
    values = np.zeros(len(lengths))
    for size in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == size)
        at = offsets[rows][:, None] + np.arange(size)
        last = np.maximum(_places(one[at]), _places(other[at]))
        weights = np.exp(-np.arange(size, dtype=np.float64))
        credit = np.cumsum((weights / weights.sum() / np.arange(1, size + 1))[::-1])[::-1]
        values[rows] = credit[last].sum(axis=1)
    return Items("rankc", values, np.ones(len(values)))


def _places(scores: Floats) -> Ints:
    """The place of each candidate [N, K] by score, 0 the highest."""
    places: Ints = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
    return places


def _overlap(first: list[int], second: list[int], row: int) -> float:
    if len(set(first)) < len(first) or len(set(second)) < len(second):
        raise ScoreError(f"question {row + 1} holds a candidate twice")
    seen_first: set[int] = set()
    seen_second: set[int] = set()
    shared: list[float] = []
    for place, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        seen_first.add(a)
        seen_second.add(b)
        shared.append(len(seen_first & seen_second) / place)
    # exp(N - j) over their sum, with the largest taken out: N may be thousands.
    weights: Floats = np.exp(-np.arange(len(shared), dtype=np.float64))
    return float(weights @ np.array(shared) / weights.sum())
