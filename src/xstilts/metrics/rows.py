"""Metrics of rows with one answer, and the checks that gold and prediction belong together."""

from __future__ import annotations

import numpy as np

from xstilts.errors import ScoreError
from xstilts.metrics.items import Items
from xstilts.metrics.ragged import Ragged, shared_names


def check_rows(gold: Ragged, pred: Ragged) -> None:
    """Raises ScoreError when there is no row, or not one prediction for each gold row."""
    if not len(gold):
        raise ScoreError("no rows to score")
    if len(gold) != len(pred):
        raise ScoreError(f"{len(gold)} gold rows but {len(pred)} predictions; they were made for other rows")


def check_filled(side: str, rows: Ragged) -> None:
    """Raises ScoreError naming the first row without a string (unlabelled, or not answered)."""
    empty = np.flatnonzero(rows.lengths == 0)
    if len(empty):
        what = "has no label; unlabelled rows cannot be scored" if side == "gold" else "has no prediction"
        raise ScoreError(f"row {int(empty[0]) + 1} {what} ({len(empty)} such rows)")


def check_single(side: str, rows: Ragged) -> None:
    """Raises ScoreError naming the first row that does not hold exactly one string."""
    check_filled(side, rows)
    many = np.flatnonzero(rows.lengths != 1)
    if len(many):
        raise ScoreError(f"row {int(many[0]) + 1} holds {int(rows.lengths[many[0]])} {side} labels, expected one")


def check_labels(side: str, rows: Ragged, labels: tuple[str, ...]) -> None:
    """Raises ScoreError on the first name outside `labels`; an empty `labels` accepts all."""
    if labels:
        for name in rows.names:
            if name not in labels:
                raise ScoreError(f'{side} label "{name}" is not one of {", ".join(labels)}')


def check_options(side: str, rows: Ragged) -> None:
    """Raises ScoreError on a name that is not the index of an option."""
    for name in rows.names:
        if not (name.isascii() and name.isdigit()):
            raise ScoreError(f'{side} "{name}" is not the 0-based number of an option')


def accuracy(gold: Ragged, pred: Ragged) -> Items:
    """Share of the rows whose first prediction is a gold string: num = right, den = 1.

    For one label a row this is plain accuracy; for retrieval, with candidates best first, accuracy at 1 as
    Artetxe and Schwenk 2019 (Tatoeba, section 4.3) and XTREME (Hu et al. 2020) count it.
    """
    check_rows(gold, pred)
    check_filled("gold", gold)
    check_filled("pred", pred)
    _, gold_codes, pred_codes = shared_names(gold, pred)
    first = pred_codes[pred.offsets[:-1]]
    hits = gold_codes == np.repeat(first, gold.lengths)
    right = np.bincount(gold.rows[hits], minlength=len(gold)) > 0
    return Items("accuracy", right.astype(np.float64), np.ones(len(gold)))
