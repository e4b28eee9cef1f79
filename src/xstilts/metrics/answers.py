"""Exact match and F1 of extracted answers: SQuAD (Rajpurkar et al. 2016; 2018 for questions without answer) and MLQA.

Both compare bags of normalised words; what differs is the normalisation. MLQA's (Lewis et al. 2020, section 4, and its
evaluation script) knows the articles of its languages, all of Unicode's punctuation, and takes Chinese character by character.
"""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import numpy as np

from xstilts.errors import ScoreError
from xstilts.metrics.items import Floats, Items
from xstilts.metrics.ragged import Ragged
from xstilts.metrics.rows import check_rows, check_single

Words = Callable[[str], tuple[str, ...]]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# What counts as an article in each language of MLQA. Arabic: every "al", also inside of words, as the official script has it.
_MLQA_ARTICLES: Mapping[str, re.Pattern[str] | None] = MappingProxyType(
    {
        "en": _ARTICLES,
        "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
        "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
        "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
        "ar": re.compile("ال"),
        "hi": None,
        "zh": None,
    }
)
_HAN = re.compile("([\u4e00-\u9fa5])")  # the block that the official script cuts into characters


def normal_words(text: str) -> tuple[str, ...]:
    """Words of an answer after SQuAD's normalisation: lower case, no ASCII punctuation, no English articles, white space cut."""
    return tuple(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def mlqa_words(text: str, language: str) -> tuple[str, ...]:
    """Words of an answer after MLQA's normalisation for the language of the answer.

    Lower case, no punctuation (Unicode's classes P and ASCII's), the language's articles out, white space cut; in Chinese
    every ideograph is a word. Raises ScoreError for a language that MLQA does not have.
    """
    if language not in _MLQA_ARTICLES:
        known = " ".join(_MLQA_ARTICLES)
        raise ScoreError(f'MLQA\'s answers have no normalisation for the language "{language}" (there are: {known})')
    text = text.lower().translate(_unicode_punctuation())
    if (articles := _MLQA_ARTICLES[language]) is not None:
        text = articles.sub(" ", text)
    if language == "zh":
        text = _HAN.sub(r" \1 ", text)
    return tuple(text.split())


@cache
def _unicode_punctuation() -> dict[int, None]:
    """A table for `str.translate` that deletes punctuation: Unicode's classes P*, and ASCII's with its symbols ($ + < ...)."""
    marks = {code for code in range(sys.maxunicode) if unicodedata.category(chr(code)).startswith("P")}
    return dict.fromkeys(marks | {ord(mark) for mark in string.punctuation})


def word_f1(pred: tuple[str, ...], gold: tuple[str, ...], no_answer: bool) -> float:
    """F1 of two bags of words on 0-1. With `no_answer` (v2.0), an empty side is right only when both are empty; v1.1 gives 0."""
    if no_answer and not (pred and gold):
        return float(pred == gold)
    same = sum((Counter(pred) & Counter(gold)).values())
    return 2.0 * same / (len(pred) + len(gold)) if same else 0.0


def words_match(pred: tuple[str, ...], gold: tuple[str, ...], no_answer: bool) -> float:
    """1.0 when the normalised answers are equal, else 0.0 (`no_answer` changes nothing)."""
    return float(pred == gold)


def exact_match(gold: Ragged, pred: Ragged, no_answer: bool = False, words: Words = normal_words) -> Items:
    """Exact match of normalised answers: the best over the accepted ones; num on 0-1, den = 1. `words` normalises (SQuAD's)."""
    return Items("exact_match", _best(gold, pred, no_answer, words_match, words), np.ones(len(gold)))


def answer_f1(gold: Ragged, pred: Ragged, no_answer: bool = False, words: Words = normal_words) -> Items:
    """F1 of normalised answers: the best over the accepted ones; num on 0-1, den = 1. `words` normalises (SQuAD's)."""
    return Items("f1", _best(gold, pred, no_answer, word_f1, words), np.ones(len(gold)))


def _best(
    gold: Ragged,
    pred: Ragged,
    no_answer: bool,
    match: Callable[[tuple[str, ...], tuple[str, ...], bool], float],
    words: Words,
) -> Floats:
    """Best match of each prediction over its gold answers, [N]. A question without answer (v2.0) has the gold answer ""."""
    check_rows(gold, pred)
    check_single("pred", pred)
    empty = np.flatnonzero(gold.lengths == 0)
    if len(empty) and not no_answer:
        raise ScoreError(f"question {int(empty[0]) + 1} has no gold answer, and its task knows no unanswerable questions")
    gold_words = [words(name) for name in gold.names]
    pred_words = [words(name) for name in pred.names]
    rows = gold.rows
    # Runs of one study repeat most pairs of strings: each pair is compared once.
    pairs, where = np.unique(pred.codes[rows] * max(len(gold.names), 1) + gold.codes, return_inverse=True)
    value = np.array(
        [match(pred_words[pair // len(gold.names)], gold_words[pair % len(gold.names)], no_answer) for pair in pairs.tolist()],
        dtype=np.float64,
    )
    best = np.zeros(len(gold))
    if no_answer:
        # Answers that normalise to nothing do not count; where none is left the right answer is "" (v2.0's script).
        counts = np.array([bool(each) for each in gold_words], dtype=bool)[gold.codes] if len(gold.codes) else np.zeros(0, bool)
        value_at = np.where(counts, value[where], 0.0) if len(where) else np.zeros(0)
        np.maximum.at(best, rows, value_at)
        real = np.bincount(rows[counts], minlength=len(gold))
        silent = np.array([not each for each in pred_words], dtype=bool)[pred.codes]
        best = np.where(real == 0, silent.astype(np.float64), best)
    elif len(where):
        np.maximum.at(best, rows, value[where])
    return best
