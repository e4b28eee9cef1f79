"""Sentence retrieval without training: vectors of an encoder, nearest by cosine, or mined by margin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from xstilts.canon import unit_hash
from xstilts.engine.answers import Answered
from xstilts.engine.batch import Columns, columns
from xstilts.engine.pieces import encode_pairs
from xstilts.errors import DataError
from xstilts.examples import Example, Parallel, group_of
from xstilts.metrics import mining
from xstilts.task import Task

DEPTH = 20  # candidates kept for each query: what mAP@20 needs


def encode(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], task: Task, max_length: int, stride: int) -> Columns:
    """One row a sentence."""
    rows, tokens = encode_pairs(tokenizer, [e.text for e in examples if isinstance(e, Parallel)], None, max_length)
    return columns(rows, range(len(rows)), tokens)


def answers(
    vectors_rows: Sequence[Tensor], made: Columns, examples: Sequence[Example], task: Task
) -> list[Answered]:
    """For each query the ids of the nearest candidates, best first; scores are cosines. Raises DataError without candidates."""
    both = [e for e in examples if isinstance(e, Parallel)]
    vectors: mining.Vectors = np.stack([v.numpy() for v in vectors_rows]).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    queries = [i for i, e in enumerate(both) if e.role == "query"]
    candidates = [i for i, e in enumerate(both) if e.role == "candidate"]
    if not queries or not candidates:
        raise DataError(f"{task.name}: {len(queries)} queries and {len(candidates)} candidates; retrieval needs both")
    ids = [both[i].id for i in candidates]
    best, scores = mining.nearest(vectors[queries], vectors[candidates], min(DEPTH, len(candidates)))
    result = []
    for found, own in zip(best, scores, strict=True):
        result.append(Answered(tuple(ids[c] for c in found), tuple(map(float, own))))
    return result


def mined(vectors_rows: Sequence[Tensor], examples: Sequence[Example], threshold: float | None) -> list[Answered]:
    """For each query the candidate that was mined for it, mostly none; scores are margins.

    Pairs that score at least `threshold`; with None, two halves of the queries (cut by their groups) are each tuned on the
    other. Raises DataError without queries or candidates, ScoreError where a half has no gold pair.
    """
    pairs, gold, queries, candidates = _pairs(vectors_rows, examples)
    if threshold is None:
        halves = np.array([int(unit_hash(group_of(e), "fold") < 0.5) for e in queries])
        kept = mining.two_fold(pairs, gold, halves)
    else:
        kept = pairs.above(threshold)
    partner = {
        queries[a].id: (candidates[b].id, score)
        for a, b, score in zip(kept.source.tolist(), kept.target.tolist(), kept.score.tolist(), strict=True)
    }
    result = []
    for e in examples:
        if isinstance(e, Parallel) and e.role == "query":
            found = partner.get(e.id)
            result.append(Answered((found[0],) if found else (), (found[1],) if found else ()))
    return result


def threshold(vectors_rows: Sequence[Tensor], examples: Sequence[Example]) -> float:
    """The margin with the highest F1 on labelled rows. Raises DataError without queries or candidates, ScoreError without gold."""
    pairs, gold, _, _ = _pairs(vectors_rows, examples)
    return mining.best_threshold(pairs, gold)


def _pairs(
    vectors_rows: Sequence[Tensor], examples: Sequence[Example]
) -> tuple[mining.Mined, frozenset[tuple[int, int]], list[Parallel], list[Parallel]]:
    """Mined pairs and gold pairs as row numbers of the queries and candidates that are given last; a text stands once."""
    both = [e for e in examples if isinstance(e, Parallel)]
    vectors: mining.Vectors = np.stack([v.numpy() for v in vectors_rows]).astype(np.float32)
    sides: dict[str, dict[str, int]] = {"query": {}, "candidate": {}}  # text -> its first example
    for number, e in enumerate(both):
        sides[e.role].setdefault(e.text, number)
    queries, candidates = (list(sides[role].values()) for role in ("query", "candidate"))
    if not queries or not candidates:
        raise DataError(f"{len(queries)} queries and {len(candidates)} candidates; mining needs both")
    place = {role: {text: at for at, text in enumerate(texts)} for role, texts in sides.items()}
    text_of = {e.id: e.text for e in both if e.role == "candidate"}
    gold = frozenset(
        (place["query"][e.text], place["candidate"][text_of[answer]]) for e in both if e.role == "query" for answer in e.golds
    )
    pairs = mining.mine(vectors[queries], vectors[candidates])
    return pairs, gold, [both[i] for i in queries], [both[i] for i in candidates]
