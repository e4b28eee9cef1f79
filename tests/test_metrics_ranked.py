"""MLQA's answers, ranked candidates and mined pairs against their definitions, written a second time and slower."""

from __future__ import annotations

import math
import random
import re
import string
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from study_maker import Nowhere
from xstilts import metrics
from xstilts.errors import ScoreError
from xstilts.metrics import mining, ragged
from xstilts.metrics.answers import mlqa_words
from xstilts.metrics.items import Floats
from xstilts.metrics.mining import Mined, best_threshold, mine, mined_f1, mined_precision, mined_recall, two_fold
from xstilts.metrics.ranks import average_precision, rank_consistency, score_consistency
from xstilts.task import Task

Rows = list[list[str]]
MLQA = Task("mlqa", "span", "a toy", ("en", "zh"), Nowhere(), ("f1", "exact_match"), answer_style="mlqa")
MINING = Task("bucc2018", "retrieve", "a toy", ("de",), Nowhere(), ("f1", "precision", "recall"), retrieval="mining")
RANKED = Task("lareqa", "retrieve", "a toy", ("de",), Nowhere(), ("map@20", "accuracy"), retrieval="map20")


# MLQA


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "The cat's, «a» hat!", "cats hat"),
        ("de", "Der Hund und die KATZE; das „Haus“", "hund und katze haus"),
        ("es", "¿La casa de los niños?", "casa de niños"),
        ("vi", "Những cái áo của tôi", "áo tôi"),
        ("ar", "الكتاب، والقلم", "كتاب و قلم"),  # "al" goes wherever it stands
        ("hi", "वह एक घर।", "वह एक घर"),  # a danda is punctuation; Hindi has no articles here
        ("zh", "北京ABC大学 2008年。", "北 京 abc 大 学 2008 年"),
        ("zh", "𠀀龦 x", "𠀀龦 x"),  # beyond U+9FA5: not cut
        ("en", "$5 + ¢3 the", "5 ¢3"),  # ASCII's symbols go, others stay
    ],
)
def test_mlqa_words_by_hand(language: str, text: str, words: str) -> None:
    assert mlqa_words(text, language) == tuple(words.split())


def mlqa_words_again(text: str, articles: list[str], cut_han: bool) -> list[str]:
    kept = [c for c in text.lower() if not unicodedata.category(c).startswith("P") and c not in string.punctuation]
    out = "".join(f" {c} " if cut_han and 0x4E00 <= ord(c) <= 0x9FA5 else c for c in kept)
    # An article is a word between non-letters, as \b sees it; the toys hold letters, digits and spaces only.
    return [w for w in re.split(r"\s+", out) if w and w not in articles]


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_mlqa_scores_agree_with_the_definition(language: str) -> None:
    articles = {"en": ["a", "an", "the"], "de": ["ein", "eine", "der", "die", "das"], "zh": []}[language]  # those that occur
    draw = random.Random(language)
    pool = ["the", "Der", "die", "cat", "Katze,", "北京", "大学", "2008", "«x»", "a-b", "!"]

    def text() -> str:
        return " ".join(draw.choice(pool) for _ in range(draw.randint(1, 4)))

    gold, pred = [[text() for _ in range(draw.randint(1, 3))] for _ in range(50)], [[text()] for _ in range(50)]
    f1, exact = [], []
    for (own,), accepted in zip(pred, gold, strict=True):
        p = mlqa_words_again(own, articles, language == "zh")
        best = []
        for g in (mlqa_words_again(each, articles, language == "zh") for each in accepted):
            same = sum(min(p.count(w), g.count(w)) for w in set(p))
            best.append((2 * same / (len(p) + len(g)) if same else 0.0, float(p == g)))
        f1.append(max(each[0] for each in best))
        exact.append(max(each[1] for each in best))
    assert metrics.items("f1", MLQA, language, gold, pred).num.tolist() == pytest.approx(f1)
    assert metrics.items("exact_match", MLQA, language, gold, pred).num.tolist() == exact


def test_mlqa_needs_one_of_its_languages() -> None:
    with pytest.raises(ScoreError, match='mlqa, fr: .*"fr"'):
        metrics.items("f1", MLQA, "fr", [["x"]], [["x"]])
    assert metrics.for_task(MLQA)[0].about == "MLQA F1"


# mAP@20


def test_average_precision_by_hand() -> None:
    gold: Rows = [["a"], ["a", "b"], ["a", "b"], ["a"], [f"r{n}" for n in range(25)]]
    pred: Rows = [["x", "a"], ["a", "x", "b"], ["a", "a", "b"], ["x"] * 20 + ["a"], [f"r{n}" for n in range(20)]]
    # the last: 25 relevant, of which 20 can stand on the list
    expected = [1 / 2, (1 + 2 / 3) / 2, (1 + 2 / 3) / 2, 0.0, 1.0]
    assert average_precision(ragged(gold), ragged(pred)).num.tolist() == pytest.approx(expected)
    assert metrics.items("map@20", RANKED, "de", gold, pred).value == pytest.approx(20 * sum(expected))
    assert metrics.items("accuracy", RANKED, "de", gold, pred).num.tolist() == [0, 1, 1, 0, 1]
    assert average_precision(ragged([["a"]]), ragged([[]])).value == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_agrees_with_scikit_learn_where_all_is_ranked(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"c{n}" for n in range(draw.randint(2, 20))]
    gold = [draw.sample(names, draw.randint(1, len(names))) for _ in range(10)]
    pred = [draw.sample(names, len(names)) for _ in gold]
    places = np.arange(len(names), 0, -1)
    expected = [average_precision_score([name in g for name in p], places) for g, p in zip(gold, pred, strict=True)]
    assert average_precision(ragged(gold), ragged(pred)).num.tolist() == pytest.approx(expected)


def test_average_precision_needs_relevant_candidates() -> None:
    with pytest.raises(ScoreError, match="row 2 has no label"):
        average_precision(ragged([["a"], []]), ragged([["a"], ["b"]]))


# RankC


@pytest.mark.parametrize("seed", range(10))
def test_rank_consistency_agrees_with_the_formula(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.randint(1, 12) for _ in range(8)]
    one, other = ([[f"c{n}" for n in draw.sample(range(size), size)] for size in sizes] for _ in range(2))
    expected = []
    for a, b in zip(one, other, strict=True):
        n = len(a)
        total = sum(math.exp(n - k) for k in range(1, n + 1))
        expected.append(sum(math.exp(n - j) / total * len(set(a[:j]) & set(b[:j])) / j for j in range(1, n + 1)))
    assert rank_consistency(ragged(one), ragged(other)).num.tolist() == pytest.approx(expected)


def test_rank_consistency_of_scores_is_that_of_their_rankings(seed: int = 3) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, 40)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    one, other = rng.random(offsets[-1]), rng.integers(0, 3, offsets[-1]).astype(np.float64)  # ties too

    def ranked(scores: Floats) -> metrics.Ragged:
        rows = [scores[a:b].tolist() for a, b in pairwise(offsets.tolist())]
        return ragged([[str(i) for _, i in sorted((-score, i) for i, score in enumerate(row))] for row in rows])

    expected = rank_consistency(ranked(one), ranked(other))
    assert score_consistency(one, other, offsets).num.tolist() == pytest.approx(expected.num.tolist())
    assert score_consistency(one, one, offsets).value == pytest.approx(100.0)


def test_rank_consistency_by_hand_and_with_long_lists() -> None:
    assert rank_consistency(ragged([["a", "b"]]), ragged([["a", "b"]])).value == 100.0
    # w = (e, 1) / (e + 1); the first places differ, the two together agree
    assert rank_consistency(ragged([["a", "b"]]), ragged([["b", "a"]])).value == pytest.approx(100 / (math.e + 1))
    long = [str(n) for n in range(3000)]
    assert rank_consistency(ragged([long]), ragged([long])).value == pytest.approx(100.0)
    with pytest.raises(ScoreError, match="question 1 has 2 candidates in one language, 1"):
        rank_consistency(ragged([["a", "b"]]), ragged([["a"]]))
    with pytest.raises(ScoreError, match="twice"):
        rank_consistency(ragged([["a", "a"]]), ragged([["a", "b"]]))


# mining


def mine_again(x: np.ndarray, y: np.ndarray, k: int) -> list[tuple[int, int, float]]:
    """The definition with loops: every cosine, sorted lists, one proposal a sentence in each direction, greedy by score."""
    cosine = [[float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for b in y] for a in x]
    near_x = [sorted(range(len(y)), key=lambda j: -cosine[i][j])[:k] for i in range(len(x))]
    near_y = [sorted(range(len(x)), key=lambda i: -cosine[i][j])[:k] for j in range(len(y))]
    mean_x = [sum(cosine[i][j] for j in near_x[i]) / len(near_x[i]) for i in range(len(x))]
    mean_y = [sum(cosine[i][j] for i in near_y[j]) / len(near_y[j]) for j in range(len(y))]

    def margin(i: int, j: int) -> float:
        return cosine[i][j] / ((mean_x[i] + mean_y[j]) / 2)

    proposals = [(i, max(near_x[i], key=lambda j: margin(i, j))) for i in range(len(x))]
    proposals += [(max(near_y[j], key=lambda i: margin(i, j)), j) for j in range(len(y))]
    found: list[tuple[int, int, float]] = []
    for i, j in sorted(proposals, key=lambda pair: -margin(*pair)):
        if all(i != a and j != b for a, b, _ in found):
            found.append((i, j, margin(i, j)))
    return found


@pytest.mark.parametrize("seed", range(10))
def test_mining_agrees_with_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.abs(rng.normal(size=(rng.integers(1, 30), 6))) + 0.1, np.abs(rng.normal(size=(rng.integers(1, 30), 6))) + 0.1
    mined, expected = mine(x, y), mine_again(x, y, 4)
    assert list(zip(mined.source.tolist(), mined.target.tolist(), strict=True)) == [(i, j) for i, j, _ in expected]
    assert mined.score.tolist() == pytest.approx([score for *_, score in expected])
    assert all(a >= b for a, b in pairwise(mined.score.tolist()))


def test_mining_does_not_depend_on_how_much_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(23, 5)).astype(np.float32), rng.normal(size=(17, 5)).astype(np.float32)
    whole = mine(x, y)
    monkeypatch.setattr(mining, "_CELLS", 40)
    parts = mine(x, y)
    assert whole.source.tolist() == parts.source.tolist() and whole.target.tolist() == parts.target.tolist()
    assert whole.score.tolist() == pytest.approx(parts.score.tolist(), rel=1e-5)


def f1_at(pairs: list[tuple[int, int, float]], gold: frozenset[tuple[int, int]], threshold: float) -> float:
    kept = {(i, j) for i, j, score in pairs if score >= threshold}
    return 2 * len(kept & gold) / (len(kept) + len(gold))


@pytest.mark.parametrize("seed", range(10))
def test_no_threshold_beats_the_tuned_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(25, 8))
    y = x[rng.permutation(25)[:20]] + 0.8 * rng.normal(size=(20, 8))
    mined = mine(x, y)
    pairs = list(zip(mined.source.tolist(), mined.target.tolist(), mined.score.tolist(), strict=True))
    gold = frozenset((i, j) for i, j, _ in pairs[: len(pairs) : 2]) | {(24, 19)}
    tuned = best_threshold(mined, gold)
    kept = mined.above(tuned)
    assert f1_at(pairs, gold, tuned) == max(f1_at(pairs, gold, score) for *_, score in pairs)
    below = [score for *_, score in pairs if score < tuned]
    assert len(kept) == len(pairs) - len(below)
    assert not below or tuned == pytest.approx((mined.score[len(kept) - 1] + below[0]) / 2)


def test_thresholds_of_hard_cases() -> None:
    mined = mine(np.eye(3) + 0.1, np.eye(3) + 0.1)
    assert best_threshold(mined, frozenset({(0, 1)})) == float("inf")  # nothing right: nothing kept
    assert len(mined.above(best_threshold(mined, frozenset({(0, 0)})))) == 3  # equal scores cannot be parted
    tied = Mined(np.arange(6), np.arange(6), np.array([0.9, 0.8, 0.8, 0.8, 0.8, 0.8]))
    threshold = best_threshold(tied, frozenset({(0, 0), (1, 1)}))  # F1: 2/3 with the first alone, 1/2 with all six; two cannot be kept
    assert len(tied.above(threshold)) == 1
    with pytest.raises(ScoreError, match="no gold pairs"):
        best_threshold(mined, frozenset())
    with pytest.raises(ScoreError, match="no target vectors"):
        mine(np.eye(2), np.zeros((0, 2)))
    with pytest.raises(ScoreError, match="2 numbers, target vectors 3"):
        mine(np.eye(2), np.eye(3))


def test_two_folds_take_the_threshold_from_each_other() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 8))
    mined = mine(x, x + 0.7 * rng.normal(size=(40, 8)))
    gold, fold = frozenset((i, i) for i in range(0, 40, 3)), np.arange(40) % 2
    kept = two_fold(mined, gold, fold)
    for own in (0, 1):
        others = [at for at in range(len(mined)) if fold[mined.source[at]] != own]
        half = type(mined)(mined.source[others], mined.target[others], mined.score[others])
        threshold = best_threshold(half, frozenset(pair for pair in gold if fold[pair[0]] != own))
        mine_own = [score for source, score in zip(mined.source, mined.score, strict=True) if fold[source] == own]
        assert sum(fold[source] == own for source in kept.source) == sum(score >= threshold for score in mine_own)


def test_f1_of_mined_pairs_by_hand() -> None:
    gold: Rows = [["t1"], [], ["t3"], ["t4"], []]
    pred: Rows = [["t1"], ["t2"], [], ["t9"], []]
    assert metrics.items("f1", MINING, "de", gold, pred).value == pytest.approx(100 * 2 * 1 / (3 + 3))
    assert mined_precision(ragged(gold), ragged(pred)).value == pytest.approx(100 / 3)
    assert mined_recall(ragged(gold), ragged(pred)).value == pytest.approx(100 / 3)
    assert mined_f1(ragged([["a", "b"]]), ragged([["b", "b", "c"]])).value == 50.0
    assert mined_f1(ragged([["a"], []]), ragged([[], []])).value == 0.0
    with pytest.raises(ScoreError, match="no gold pairs"):
        mined_f1(ragged([[], []]), ragged([["a"], []]))
