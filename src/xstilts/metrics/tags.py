"""Metrics of tagged sentences: token accuracy, and F1 of chunks as conlleval counts them.

A sentence is one item. Chunk boundaries follow Tjong Kim Sang and Buchholz 2000 (the conlleval script), as
seqeval implements them; an `I-` without its `B-` therefore starts a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from xstilts.errors import ScoreError
from xstilts.metrics.items import Items
from xstilts.metrics.ragged import Ints, Ragged, shared_names
from xstilts.metrics.rows import check_filled, check_rows

Bools = npt.NDArray[np.bool_]
Scheme = Literal["bio", "upos"]


def check_tags(gold: Ragged, pred: Ragged) -> None:
    """Raises ScoreError when a sentence is unlabelled or has not one predicted tag for each gold tag."""
    check_rows(gold, pred)
    check_filled("gold", gold)
    uneven = np.flatnonzero(gold.lengths != pred.lengths)
    if len(uneven):
        at = int(uneven[0])
        raise ScoreError(f"sentence {at + 1} has {int(gold.lengths[at])} gold tags but {int(pred.lengths[at])} predicted")


def token_accuracy(gold: Ragged, pred: Ragged) -> Items:
    """Share of the words with the right tag: num = right words, den = words of the sentence."""
    check_tags(gold, pred)
    _, gold_codes, pred_codes = shared_names(gold, pred)
    right = np.bincount(gold.rows[gold_codes == pred_codes], minlength=len(gold))
    return Items("accuracy", right.astype(np.float64), gold.lengths.astype(np.float64))


def bio_parts(tag: str) -> tuple[str, str]:
    """Prefix and type of a BIO tag: "B-PER" -> ("B", "PER"); a type-less tag has type "_" (seqeval 1.2.2)."""
    return tag[:1], tag[1:].split("-", 1)[-1] or "_"


def upos_parts(tag: str) -> tuple[str, str]:
    """Prefix and type of a bare tag as seqeval 0.0.12 read it: "NOUN" -> ("N", "NOUN"), which XTREME's POS F1 rests on."""
    return tag[:1], tag


PARTS: dict[Scheme, Callable[[str], tuple[str, str]]] = {"bio": bio_parts, "upos": upos_parts}


def chunk_counts(gold: Ragged, pred: Ragged, scheme: Scheme) -> tuple[Ints, Ints, Ints]:
    """(chunks in both, predicted chunks, gold chunks) of every sentence, each [N]. A match has equal start, end and type."""
    check_tags(gold, pred)
    names, gold_codes, pred_codes = shared_names(gold, pred)
    split = [PARTS[scheme](name) for name in (*names, "O")]
    kinds: dict[str, int] = {}
    prefix_of = np.array([ord(prefix) if prefix else 0 for prefix, _ in split], dtype=np.int64)
    type_of = np.array([kinds.setdefault(kind, len(kinds)) for _, kind in split], dtype=np.int64)

    # An "O" stands after every sentence, so that one pass over the flat tags sees all boundaries.
    total = len(gold_codes) + len(gold)
    place = np.arange(len(gold_codes), dtype=np.int64) + gold.rows
    sentence = np.repeat(np.arange(len(gold), dtype=np.int64), gold.lengths + 1)

    def boundaries(codes: Ints) -> tuple[Bools, Ints, Ints]:
        flat = np.full(total, len(names), dtype=np.int64)
        flat[place] = codes
        return _boundaries(prefix_of[flat], type_of[flat])

    gold_end, gold_begin, gold_type = boundaries(gold_codes)
    pred_end, pred_begin, pred_type = boundaries(pred_codes)
    both = gold_end & pred_end & (gold_begin == pred_begin) & (gold_type == pred_type)

    def count(mask: Bools) -> Ints:
        return np.bincount(sentence[mask], minlength=len(gold))

    return count(both), count(pred_end), count(gold_end)


def _boundaries(prefix: Ints, kind: Ints) -> tuple[Bools, Ints, Ints]:
    """For each place: does a chunk end just before it, where that chunk began, and its type (conlleval's two rules)."""
    begin_prefix, end_prefix, inside, single, outside, dot = (ord(letter) for letter in "BEISO.")
    before = np.concatenate(([outside], prefix[:-1]))
    type_before = np.concatenate((kind[-1:], kind[:-1]))  # the flat array ends with an "O": the same as a start after "O"
    other = kind != type_before

    def one_of(array: Ints, *letters: int) -> Bools:
        return np.isin(array, letters)

    end = one_of(before, end_prefix, single)
    end |= one_of(before, begin_prefix, inside) & one_of(prefix, begin_prefix, single, outside)
    end |= ~one_of(before, outside, dot) & other
    start = one_of(prefix, begin_prefix, single)
    start |= one_of(before, end_prefix, single, outside) & one_of(prefix, end_prefix, inside)
    start |= ~one_of(prefix, outside, dot) & other
    started = np.maximum.accumulate(np.where(start, np.arange(len(prefix), dtype=np.int64), 0))
    return end, np.concatenate(([0], started[:-1])), type_before


def chunk_f1(gold: Ragged, pred: Ragged, scheme: Scheme) -> Items:
    """Micro-averaged chunk F1: num = 2 * matches, den = predicted + gold chunks (conlleval; van Rijsbergen's F at beta 1).

    `bio`: entity-level F1 of NER. `upos`: the F1 that XTREME publishes for POS, on bare tags (see `upos_parts`).
    """
    both, predicted, expected = chunk_counts(gold, pred, scheme)
    return Items("f1", (2 * both).astype(np.float64), (predicted + expected).astype(np.float64))


def chunk_precision(gold: Ragged, pred: Ragged, scheme: Scheme) -> Items:
    """Chunk precision (conlleval): num = matches, den = predicted chunks."""
    both, predicted, _ = chunk_counts(gold, pred, scheme)
    return Items("precision", both.astype(np.float64), predicted.astype(np.float64))


def chunk_recall(gold: Ragged, pred: Ragged, scheme: Scheme) -> Items:
    """Chunk recall (conlleval): num = matches, den = gold chunks."""
    both, _, expected = chunk_counts(gold, pred, scheme)
    return Items("recall", both.astype(np.float64), expected.astype(np.float64))
