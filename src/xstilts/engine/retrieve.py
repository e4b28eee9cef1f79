"""Sentence retrieval without training: vectors of an encoder, nearest by cosine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from xstilts.engine.answers import Answered
from xstilts.engine.batch import Columns, columns
from xstilts.engine.pieces import encode_pairs
from xstilts.errors import DataError
from xstilts.examples import Example, Parallel
from xstilts.task import Task

DEPTH = 20  # candidates kept for each query: what mAP@20 needs
CHUNK = 4096  # queries ranked at once: bounds the similarity matrix


def encode(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], task: Task, max_length: int, stride: int) -> Columns:
    """One row a sentence."""
    rows, tokens = encode_pairs(tokenizer, [e.text for e in examples if isinstance(e, Parallel)], None, max_length)
    return columns(rows, range(len(rows)), tokens)


def answers(
    vectors_rows: Sequence[Tensor], made: Columns, examples: Sequence[Example], task: Task
) -> list[Answered]:
    """For each query the ids of the nearest candidates, best first; scores are cosines. Raises DataError without candidates."""
    both = [e for e in examples if isinstance(e, Parallel)]
    vectors = np.stack([v.numpy() for v in vectors_rows]).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    queries = [i for i, e in enumerate(both) if e.role == "query"]
    candidates = [i for i, e in enumerate(both) if e.role == "candidate"]
    if not queries or not candidates:
        raise DataError(f"{task.name}: {len(queries)} queries and {len(candidates)} candidates; retrieval needs both")
    ids = [both[i].id for i in candidates]
    best, scores = nearest(vectors[queries], vectors[candidates], min(DEPTH, len(candidates)))
    result = []
    for q, found, own in zip(queries, best, scores, strict=True):
        result.append(Answered(both[q].golds, tuple(ids[c] for c in found), tuple(map(float, own))))
    return result


def nearest(
    queries_QH: NDArray[np.float32], candidates_CH: NDArray[np.float32], depth: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """[Q, depth] candidate numbers by falling inner product, and the products. Exact; ties go to the lower number."""
    found, products = [], []
    for at in range(0, len(queries_QH), CHUNK):
        similar = queries_QH[at : at + CHUNK] @ candidates_CH.T
        part = np.argpartition(-similar, depth - 1, axis=1)[:, :depth]
        part.sort(axis=1)
        own = np.take_along_axis(similar, part, 1)
        order = np.argsort(-own, axis=1, kind="stable")
        found.append(np.take_along_axis(part, order, 1))
        products.append(np.take_along_axis(own, order, 1))
    return np.concatenate(found), np.concatenate(products)
