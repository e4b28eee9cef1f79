"""Metrics against their definitions: seqeval and direct implementations as oracles, values worked out by hand."""

from __future__ import annotations

import random
import re
import string
import warnings
from collections import Counter

import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from study_maker import Nowhere
from xstilts import metrics
from xstilts.errors import ScoreError
from xstilts.metrics import ragged
from xstilts.metrics.answers import normal_words
from xstilts.metrics.tags import chunk_f1, chunk_precision, chunk_recall
from xstilts.task import Kind, Task

Rows = list[list[str]]
BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-WORK-OF-ART", "I-WORK-OF-ART")
UPOS = [
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
]


def toy(kind: Kind, *names: str, labels: tuple[str, ...] = (), no_answer: bool = False) -> Task:
    return Task("toy", kind, "a toy", ("en",), Nowhere(), names, labels=labels, no_answer=no_answer)


NLI = toy("classify", "accuracy", labels=("yes", "no"))
NER = toy("tag", "f1", "precision", "recall", "accuracy", labels=BIO)
POS = toy("tag", "accuracy", "f1", labels=tuple(UPOS))
QA = toy("span", "f1", "exact_match")
QA2 = toy("span", "f1", "exact_match", no_answer=True)


def value(metric: str, task: Task, gold: Rows, pred: Rows) -> float:
    return metrics.items(metric, task, "en", gold, pred).value


def noisy_tags(seed: int, tags: list[str]) -> tuple[Rows, Rows]:
    draw = random.Random(seed)
    gold = [[draw.choice(tags) for _ in range(draw.randint(1, 9))] for _ in range(draw.randint(1, 12))]
    return gold, [[t if draw.random() < 0.6 else draw.choice(tags) for t in row] for row in gold]


# accuracy


def test_accuracy_by_hand() -> None:
    items = metrics.items("accuracy", NLI, "en", [["yes"], ["no"], ["no"]], [["yes"], ["yes"], ["no"]])
    assert items.num.tolist() == [1.0, 0.0, 1.0]
    assert items.den.tolist() == [1.0, 1.0, 1.0]
    assert items.value == pytest.approx(200 / 3)


def test_retrieval_counts_the_first_candidate_only() -> None:
    task = toy("retrieve", "accuracy")
    assert value("accuracy", task, [["a"], ["b"], ["c"]], [["a", "b"], ["a", "b"], ["c"]]) == pytest.approx(200 / 3)


def test_choice_by_hand_and_option_numbers_only() -> None:
    task = toy("choose", "accuracy")
    assert value("accuracy", task, [["0"], ["3"]], [["0"], ["1"]]) == 50.0
    with pytest.raises(ScoreError, match="option"):
        value("accuracy", task, [["0"]], [["B"]])


# chunks


@pytest.mark.parametrize("seed", range(60))
def test_bio_chunks_agree_with_seqeval_on_any_sequence(seed: int) -> None:
    gold, pred = noisy_tags(seed, list(BIO))  # drawn at random: most sequences are malformed BIO
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [100 * f(gold, pred) for f in (f1_score, precision_score, recall_score)]
    assert [value(m, NER, gold, pred) for m in ("f1", "precision", "recall")] == pytest.approx(expected)


def test_bio_f1_by_hand() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"]]
    pred = [["B-PER", "I-PER", "O", "B-PER"], ["I-LOC", "O"]]  # one of two right, and an I- that starts a chunk
    items = metrics.items("f1", NER, "en", gold, pred)
    assert items.num.tolist() == [2.0, 0.0]
    assert items.den.tolist() == [4.0, 1.0]
    assert items.value == 40.0
    assert value("f1", NER, [["O"]], [["O"]]) == 0.0


def runs_of_one_tag(tags: list[str]) -> set[tuple[int, int, str]]:
    """XTREME's POS chunks, from the definition: runs of one tag, but SCONJ and SYM (prefix S) always stand alone."""
    found, start = set(), 0
    for i in range(1, len(tags) + 1):
        if i == len(tags) or tags[i] != tags[start] or tags[start][0] == "S":
            found.add((start, i, tags[start]))
            start = i
    return found


@pytest.mark.parametrize("seed", range(40))
def test_upos_chunks_agree_with_the_definition(seed: int) -> None:
    gold, pred = noisy_tags(seed, random.Random(seed).sample(UPOS, 3 + seed % 14))
    pairs = [(runs_of_one_tag(g), runs_of_one_tag(p)) for g, p in zip(gold, pred, strict=True)]
    items = metrics.items("f1", POS, "en", gold, pred)
    assert items.num.tolist() == [2 * len(g & p) for g, p in pairs]
    assert items.den.tolist() == [len(g) + len(p) for g, p in pairs]


# Printed by seqeval 0.0.12 (the version of XTREME's scorer, in an environment of its own) for the sequences of `golden_case`.
GOLDEN = (
    (71.26436781609196, 68.88888888888889, 73.80952380952381),
    (73.46938775510203, 73.46938775510205, 73.46938775510205),
    (74.72527472527473, 73.91304347826086, 75.55555555555556),
    (76.03305785123968, 76.66666666666667, 75.40983606557377),
    (81.9672131147541, 83.33333333333334, 80.64516129032258),
)


def golden_case(seed: int) -> tuple[Rows, Rows]:
    draw = random.Random(seed)
    tags = UPOS if seed else UPOS[5:9]
    gold = [[draw.choice(tags) for _ in range(draw.randint(1, 12))] for _ in range(8)]
    return gold, [[t if draw.random() < 0.8 else draw.choice(UPOS) for t in row] for row in gold]


@pytest.mark.parametrize("seed", range(len(GOLDEN)))
def test_upos_chunks_give_the_values_of_seqeval_0_0_12(seed: int) -> None:
    gold, pred = (ragged(rows) for rows in golden_case(seed))
    found = [f(gold, pred, "upos").value for f in (chunk_f1, chunk_precision, chunk_recall)]
    assert found == pytest.approx(GOLDEN[seed], abs=1e-10)


def test_token_accuracy_weighs_words_not_sentences() -> None:
    assert value("accuracy", POS, [["NOUN", "VERB", "X"], ["X"]], [["NOUN", "VERB", "NOUN"], ["X"]]) == 75.0


# answers


def squad_normal(text: str) -> str:
    """SQuAD's normalisation written step by step: lower, punctuation, articles, white space."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(pred: str, golds: list[str], v2: bool) -> float:
    if v2:
        golds = [g for g in golds if squad_normal(g)] or [""]

    def one(gold: str) -> float:
        p, g = squad_normal(pred).split(), squad_normal(gold).split()
        if v2 and (not p or not g):
            return float(p == g)
        same = sum((Counter(p) & Counter(g)).values())
        if not same:
            return 0.0
        precision, recall = same / len(p), same / len(g)
        return 2 * precision * recall / (precision + recall)

    return max(one(gold) for gold in golds)


def squad_em(pred: str, golds: list[str], v2: bool) -> float:
    if v2:
        golds = [g for g in golds if squad_normal(g)] or [""]
    return max(float(squad_normal(pred) == squad_normal(gold)) for gold in golds)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("v2", [False, True])
def test_answers_agree_with_the_definition(seed: int, v2: bool) -> None:
    draw = random.Random(seed)
    words = ["the", "The", "a", "cat", "Cat,", "cats", "mat.", "...", "naïve", "de", "1,000", "x-y"]

    def text(least: int) -> str:
        return " ".join(draw.choice(words) for _ in range(draw.randint(least, 4)))

    gold = [[text(1) for _ in range(draw.randint(0 if v2 else 1, 3))] for _ in range(40)]
    pred = [[text(0)] for _ in gold]
    task = QA2 if v2 else QA
    f1 = metrics.items("f1", task, "en", gold, pred)
    exact = metrics.items("exact_match", task, "en", gold, pred)
    pairs = [(p[0], g) for p, g in zip(pred, gold, strict=True)]
    assert f1.num.tolist() == pytest.approx([squad_f1(p, g, v2) for p, g in pairs])
    assert exact.num.tolist() == [squad_em(p, g, v2) for p, g in pairs]


def test_answers_by_hand() -> None:
    assert normal_words("The Cat, a cat!") == ("cat", "cat")
    assert value("exact_match", QA, [["Denver Broncos", "the Broncos"]], [["The  broncos."]]) == 100.0
    assert value("f1", QA, [["Denver Broncos"]], [["the Broncos"]]) == pytest.approx(200 / 3)
    assert value("f1", QA2, [[], [], ["x"]], [[""], ["x"], [""]]) == pytest.approx(100 / 3)
    assert value("exact_match", QA2, [[], ["x"]], [[""], ["x"]]) == 100.0


# refusals


@pytest.mark.parametrize(
    ("metric", "task", "gold", "pred", "says"),
    [
        ("accuracy", NLI, [], [], "no rows"),
        ("accuracy", NLI, [["yes"]], [["yes"], ["no"]], "1 gold rows but 2"),
        ("accuracy", NLI, [["yes"], []], [["yes"], ["no"]], "row 2 has no label"),
        ("accuracy", NLI, [["yes"]], [[]], "no prediction"),
        ("accuracy", NLI, [["maybe"]], [["yes"]], '"maybe"'),
        ("accuracy", NLI, [["yes"]], [["maybe"]], '"maybe"'),
        ("accuracy", NLI, [["yes", "no"]], [["yes"]], "expected one"),
        ("f1", NER, [["O", "O"]], [["O"]], "2 gold tags but 1"),
        ("f1", NER, [[]], [[]], "no label"),
        ("f1", NER, [["B-DOG"]], [["O"]], "B-DOG"),
        ("f1", QA, [[]], [["x"]], "unanswerable"),
        ("f1", QA, [["x"]], [["x", "y"]], "expected one"),
        ("f1", NLI, [["yes"]], [["yes"]], "no metric"),
    ],
)
def test_what_does_not_fit_raises(metric: str, task: Task, gold: Rows, pred: Rows, says: str) -> None:
    with pytest.raises(ScoreError, match=re.escape(says)):
        metrics.items(metric, task, "en", gold, pred)


def test_a_metric_that_the_kind_does_not_have_raises() -> None:
    with pytest.raises(ScoreError, match="exact_match"):
        metrics.for_task(toy("classify", "exact_match"))
    assert [m.name for m in metrics.for_task(POS)] == ["accuracy", "f1"]
    assert "XTREME" in metrics.for_task(POS)[1].about
    assert "entity" in metrics.for_task(NER)[0].about


def test_items_of_unequal_or_no_length_raise() -> None:
    with pytest.raises(ScoreError):
        metrics.Items("f1", np.ones(2), np.ones(3))
    with pytest.raises(ScoreError):
        metrics.Items("f1", np.ones(0), np.ones(0))
