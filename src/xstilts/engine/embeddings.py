"""First values for a new vocabulary on an old body.

`from_pieces`: a new piece takes the mean of the old rows that the old tokenizer cuts its
surface into (one row where the old vocabulary has the same piece). `aligned`: on top of that,
IBM model 1 (Brown et al. 1993) on parallel text gives t(e | f), the English old pieces that
a foreign piece f stands beside, and f takes the mean of their rows. A dictionary
learnt in a minute from the lines that the distillation reads anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from transformers import PreTrainedTokenizerBase

Floats = NDArray[np.float32]
Row = Sequence[int] | NDArray[np.int64]
Pairs = tuple[Sequence[Row], Sequence[Row]]

# special tokens keep their meaning under another name
_SAME = {"<s>": "cls_token", "</s>": "sep_token", "<pad>": "pad_token", "<unk>": "unk_token", "<mask>": "mask_token"}


def from_pieces(new: PreTrainedTokenizerBase, old: PreTrainedTokenizerBase, rows_EH: Floats) -> Floats:
    """[V, H]: the old rows copied or averaged; pieces that the old tokenizer does not know take the mean row."""
    known = old.get_vocab()
    mean = rows_EH.mean(0)
    out = np.empty((len(new), rows_EH.shape[1]), np.float32)
    for piece, i in new.get_vocab().items():
        if piece in _SAME:
            out[i] = rows_EH[known[getattr(old, _SAME[piece])]]
            continue
        surface = piece.replace("▁", " ").strip()
        inside = f"##{surface}"  # WordPiece's mark of a piece inside a word
        if not piece.startswith("▁") and inside in known:
            ids = [known[inside]]
        else:
            ids = [j for j in old(surface, add_special_tokens=False)["input_ids"] if j != old.unk_token_id]
        out[i] = rows_EH[ids].mean(0) if ids else mean
    return out


def translation_table(pairs: Pairs, size_f: int, size_e: int, rounds: int = 5) -> sparse.csr_matrix:
    """[F, E] expected counts after `rounds` of EM of IBM model 1 that generates e from f, with a null word on the f side.

    `pairs` = (f rows, e rows) as token ids. The null word's counts are left out.
    """
    fs, es, of = [], [], []
    start = 0
    for f, e in zip(*pairs, strict=True):
        f_ids = np.append(np.unique(np.asarray(f, np.int64)), size_f)  # a piece twice in a line says nothing new; size_f is the null word
        e_ids = np.asarray(e, np.int64)
        fs.append(np.tile(f_ids, len(e_ids)))
        es.append(np.repeat(e_ids, len(f_ids)))
        of.append(np.repeat(np.arange(start, start + len(e_ids)), len(f_ids)))
        start += len(e_ids)
    f_N, e_N, word_N = np.concatenate(fs), np.concatenate(es), np.concatenate(of)
    keys, link_N = np.unique(f_N * size_e + e_N, return_inverse=True)
    f_K, e_K = keys // size_e, keys % size_e
    share: NDArray[np.float64] = np.ones(len(keys))
    counts: NDArray[np.float64] = share
    for _ in range(rounds):
        chance_N = share[link_N]
        chance_N = chance_N / np.bincount(word_N, chance_N)[word_N]
        counts = np.asarray(np.bincount(link_N, chance_N, minlength=len(keys)), np.float64)
        share = counts / np.bincount(f_K, counts)[f_K]
    real = f_K < size_f
    return sparse.csr_matrix((counts[real], (f_K[real], e_K[real])), shape=(size_f, size_e))


def aligned(rows_EH: Floats, start_VH: Floats, tables: Sequence[sparse.csr_matrix], english_V: NDArray[np.int64]) -> Floats:
    """[V, H]: each piece as the mean of its English neighbours' rows, weighted by the squared t(e | f) of each language's table and
    by how often the language uses the piece; `english_V` counts its uses in English, where it keeps `start_VH`.

    Squaring lets the likely translations outweigh the long tail. A mean is shorter than
    its parts: rows are brought back to the mean length of the parts.
    """
    lengths_E = np.linalg.norm(rows_EH, axis=1)
    total = start_VH * (english_V[:, None] + 1e-3)
    weight = english_V + 1e-3
    length = np.linalg.norm(start_VH, axis=1) * weight
    for table in tables:
        uses = np.asarray(table.sum(1)).ravel()
        squared = table.multiply(table).tocsr()
        norm = np.asarray(squared.sum(1)).ravel()
        squared = sparse.diags(np.divide(uses, norm, out=np.zeros_like(norm), where=norm > 0)) @ squared
        total = total + squared @ rows_EH
        length = length + squared @ lengths_E
        weight = weight + uses
    mean = total / weight[:, None]
    short = np.linalg.norm(mean, axis=1)
    return np.asarray(mean * (length / weight / np.maximum(short, 1e-6))[:, None], np.float32)
