"""The embedded benchmark: right sentences, parallel items, no leak from training to test, no answer without reading."""

from __future__ import annotations

import hashlib
import re
import runpy
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from xstilts.errors import DataError
from xstilts.examples import Choice, Example, Parallel, Passage, Text, Words
from xstilts.mini import LANGUAGES, parallel, sentences
from xstilts.mini.grammar import BOUNDARY, language
from xstilts.mini.items import BIO, SIZES, UPOS, Item, Lines, examples_of, items, write
from xstilts.mini.meaning import HEDGES, LEADS, MARKS, MARKS_AFTER, PAIRS, TRIPLES, clause, facts, inventory, part_of, part_of_clause
from xstilts.mini.text import passage
from xstilts.tasks.mini import TASKS

TASK = {task.name.removeprefix("mini-"): task for task in TASKS}
SETS = {"nli": 3, "paraphrase": 2, "choice": 3}  # items that share their people, facts, hypothesis or options


@cache
def rows(task: str, part: str, code: str) -> tuple[Example, ...]:
    """The rows in any language, also of the parts that the task itself gives in English only."""
    return tuple(row for number, item in enumerate(items(task, part)) for row in examples_of(task, code, f"{part}-{number}", item))


def words(code: str, text: str) -> list[str]:
    """Lower-case words, or characters where there are no spaces."""
    return re.findall(r"[^\W_]+|[^\w\s]" if language(code).spaces else r"\S", text.casefold())


# --- sentences ---

SAID = {
    "de:buy": ("Anna kauft einen roten Mantel.", "one", clause("buy", s="anna", a="red", o="coat")),
    "de:help": (
        "Im Sommer hilft Omar einem Studenten.",
        "one",
        clause("help", s="omar", r="student", t="time:summer").to("front"),
    ),
    "de:know": ("Wir wissen, dass Eva nicht in der Küche ist.", "know", clause("at", s="eva", p="kitchen").to("not")),
    "es:see": ("Tomás ve a un médico.", "one", clause("see", s="thomas", r="doctor")),
    "es:is": ("La lámpara es negra.", "one", clause("is", a="black", o="lamp")),
    "es:ask": ("¿Dónde vive Sofía?", "ask", clause("live", s="sofia", c="cairo").to("what")),
    "ru:five": ("Мария ест пять яиц.", "one", clause("eat", s="maria", n="five", o="egg")),
    "ru:three": ("Мария ест три яйца.", "one", clause("eat", s="maria", n="three", o="egg")),
    "ru:see": ("Анна видит студента.", "one", clause("see", s="anna", r="student")),
    "ru:acc": ("Пауль покупает красную лампу.", "one", clause("buy", s="paul", a="red", o="lamp")),
    "ru:job": ("Юлия — учительница.", "one", clause("job", s="julia", r="teacher")),
    "tr:live": ("Emma Kahire'de yaşıyor.", "one", clause("live", s="emma", c="cairo")),
    "tr:there": ("İstasyonda bir kitap var.", "one", clause("there", o="book", p="station")),
    "fi:read": ("Leo lukee sinistä kirjaa.", "one", clause("read", s="leo", a="blue", o="book")),
    "fi:buy": ("Leo ostaa sinisen kirjan.", "one", clause("buy", s="leo", a="blue", o="book")),
    "fi:count": ("Leo kantaa kolmea kirjaa.", "one", clause("carry", s="leo", n="three", o="book")),
    "id:one": ("Simon membaca sepucuk surat.", "one", clause("read", s="simon", o="letter")),
    "id:ask": ("Apa yang Simon baca?", "ask", clause("read", s="simon", o="letter").to("what")),
    "sw:class7": ("Eva ananunua kiti chekundu.", "one", clause("buy", s="eva", a="red", o="chair")),
    "sw:class5": ("Eva ananunua sanduku jekundu.", "one", clause("buy", s="eva", a="red", o="box")),
    "sw:count": ("Eva ananunua viti vitatu.", "one", clause("buy", s="eva", n="three", o="chair")),
    "hi:f": ("नोरा एक नीली किताब पढ़ती है।", "one", clause("read", s="nora", a="blue", o="book")),
    "hi:m": ("उमर एक नीला कोट बेचता है।", "one", clause("sell", s="omar", a="blue", o="coat")),
    "ar:m": ("عمر يشتري كتابا جديدا.", "one", clause("buy", s="omar", a="new", o="book")),
    "ar:f": ("ماريا تشتري حقيبة حمراء.", "one", clause("buy", s="maria", a="red", o="bag")),
    "ar:count": ("عمر يشتري ثلاثة كتب.", "one", clause("buy", s="omar", n="three", o="book")),
    "ar:polarity": ("عمر يشتري ثلاث حقائب.", "one", clause("buy", s="omar", n="three", o="bag")),
    "zh:measure": ("利奥买三把雨伞。", "one", clause("buy", s="leo", n="three", o="umbrella")),
    "ja:counter": ("レオは傘を三本買います。", "one", clause("buy", s="leo", n="three", o="umbrella")),
    "ja:know": ("私たちはレオが台所にいないことを知っています。", "know", clause("at", s="leo", p="kitchen").to("not")),
}


@pytest.mark.parametrize("name", SAID)
def test_agreement(name: str) -> None:
    expected, pattern, said = SAID[name]
    assert language(name[:2]).render(pattern, (said,)).text == expected


def test_two_clauses_and_words_written_together() -> None:
    both = (clause("at", s="anna", p="kitchen"), clause("at", s="eva", p="garden").to("perhaps"))
    arabic = language("ar").render("and", both)
    assert arabic.text == "آنا في المطبخ وإيفا ربما في الحديقة."
    assert "و" in arabic.words and arabic.span("s2") == ("إيفا", 15)
    assert language("de").render("while", both).text == "Anna ist in der Küche, während Eva vielleicht im Garten ist."
    assert language("tr").render("while", both).text == "Anna mutfakta, Eva ise belki bahçede."
    assert language("en").render("but", both).span("x2") == ("in the garden", 43)


@pytest.mark.parametrize("code", LANGUAGES)
def test_marked_text_is_the_text_with_boundaries_between_words_written_together(code: str) -> None:
    for item in items("qa", "dev")[:40]:
        told = write(code, item.texts[0])
        assert told.marked.replace(BOUNDARY, "") == told.text
        assert tuple(re.split(f"[{BOUNDARY} ]", told.marked)) == told.words


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_entry_can_be_said_in_every_mood(code: str) -> None:
    grammar, have = language(code), inventory()
    for verb in have.verbs:
        for entry in have.act(verb):
            said = [
                clause(verb, s="anna", o=entry),
                *(clause(verb, s="omar", n=number, o=entry) for number in have.lists["number"]),
            ]
            said += [clause(verb, s="anna", a=adjective, o=entry) for adjective in have.adjectives if entry in have.act(verb, adjective)]
            said = [c.to(mood) for c in said for mood in ("plain", "who")] + [said[0].to("what"), said[0].to("polar")]
            for c in said:
                assert grammar.render("ask", (c,)).tokens
    others = [clause("at", s="eva", p=place) for place in have.lists["place"]]
    others += [clause("live", s="leo", c=city) for city in have.lists["city"]]
    others += [clause("work", s="leo", g="company", h=f"family:{name}") for name in have.lists["family"]]
    others += [clause("work", s="eva", f="kim", g=kind, h=f"city:{city}") for kind in ("university", "bank") for city in have.lists["city"]]
    for c in others:
        for mood in ("plain", "not", "who", "what", "polar", *HEDGES):
            assert grammar.render("ask", (c.to(mood),)).tokens
    for pattern in (*PAIRS, *TRIPLES, *MARKS, *MARKS_AFTER, *LEADS, "know", "yes", "maybe", "which"):
        assert grammar.render(pattern, others[:3]).tokens
    for person in (*have.people["f"], *have.people["m"]):
        for role in have.lists["role"]:
            assert grammar.render("one", (clause("job", s=person, r=role),)).entities[0] == "B-PER"


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_lists_hold_the_inventory_and_different_words(code: str) -> None:
    grammar, have = language(code), inventory()
    wanted = {
        "person": set(have.people["f"]) | set(have.people["m"]),
        **{name: set(entries) for name, entries in have.lists.items()},
    }
    wanted["object"] = {entry for group in have.objects.values() for entry in group}
    wanted["adjective"], wanted["organisation"] = set(have.adjectives), {"university", "bank", "company"}
    wanted["verb"] = set(have.verbs) | set(have.person_verbs) | {"at", "live", "work", "job"}
    assert {name: set(entries) for name, entries in grammar.lists.items()} == wanted
    for name, entries in grammar.lists.items():
        if name != "verb":  # "is at" and "is a" may be one verb
            first = [entry[grammar.first[name]] for entry in entries.values()]
            assert len(set(first)) == len(first), (name, [form for form, n in Counter(first).items() if n > 1])
    assert {token.tag for token in grammar.forms()} <= set(UPOS)


# --- tasks ---


@pytest.mark.parametrize("task", TASK)
def test_the_same_items_in_every_language(task: str) -> None:
    source, size = TASK[task].source, SIZES[task]["test"] * (2 if task == "retrieval" else 1)
    seen: list[list[tuple[object, ...]]] = []
    for code in TASK[task].languages:
        found = list(source.read(Path(), "test", code))
        assert len(found) == size and len({row.id for row in found}) == size
        seen.append([(row.id, row.group, getattr(row, "label", None), getattr(row, "gold", None)) for row in found])
    assert all(other == seen[0] for other in seen)


def test_rows_are_what_they_say() -> None:
    for code in LANGUAGES:
        for row in rows("qa", "test", code):
            assert isinstance(row, Passage) and row.answers is not None
            (answer,) = row.answers
            assert answer.text and row.context[answer.start : answer.start + len(answer.text)] == answer.text
        for task, labels in (("pos", UPOS), ("ner", BIO)):
            for row in rows(task, "test", code):
                assert isinstance(row, Words) and row.tags is not None and len(row.words) == len(row.tags)
                assert set(row.tags) <= set(labels) and all(row.words)
                for before, tag in zip(("O", *row.tags), row.tags, strict=False):
                    assert not tag.startswith("I-") or before[2:] == tag[2:], (code, row)
        if code != "en":
            found = [row for row in rows("retrieval", "test", code) if isinstance(row, Parallel)]
            candidates = {row.id: row.text for row in found if row.role == "candidate"}
            assert len(set(candidates.values())) == SIZES["retrieval"]["test"]
            assert {row.gold for row in found if row.role == "query"} == set(candidates)


@pytest.mark.parametrize(
    ("task", "part", "code", "digest"),
    [
        ("nli", "test", "ar", "ff64a35476f4843d"),
        ("choice", "dev", "en", "df9111cc5db52f7a"),
        ("qa", "test", "ja", "34c201cc16f0db8e"),
        ("ner", "test", "fi", "5aab33f88c08f8c6"),
        ("retrieval", "test", "hi", "5c2f94b92b823c0a"),
    ],
)
def test_the_same_rows_on_every_machine(task: str, part: str, code: str, digest: str) -> None:
    """A digest that changes means other rows: raise `version` in tasks/mini.py."""
    assert hashlib.sha256(repr(rows(task, part, code)).encode()).hexdigest()[:16] == digest


@pytest.mark.slow
def test_errors_and_files() -> None:
    source = TASK["nli"].source
    with pytest.raises(DataError, match=r'no split "tests".*did you mean "test"'):
        list(source.read(Path(), "tests", "en"))
    english, german = (list(source.read(Path(), "train", code)) for code in ("en", "de"))
    assert [(e.id, e.group) for e in english] == [(e.id, e.group) for e in german] and english != german
    with pytest.raises(DataError, match='no language "xx"'):
        source.files(Path(), "test", "xx")
    with pytest.raises(DataError, match='no language "xx"'):
        next(sentences("xx", 1, 0))
    names = {path.name for path in source.files(Path(), "test", "sw")}
    assert names == {"sw.toml", "meanings.toml", "grammar.py", "meaning.py", "items.py"}
    assert {path.name for path in TASK["retrieval"].source.files(Path(), "test", "sw")} == names | {"en.toml"}
    assert all(path.is_file() for path in source.files(Path(), "test", "sw"))


# --- nothing of the test in training ---


@pytest.mark.slow
@pytest.mark.parametrize("task", [name for name in TASK if name != "retrieval"])
def test_parts_share_no_group_no_combination_and_not_all_patterns(task: str) -> None:
    groups: dict[str, set[str]] = {part: {item.group for item in items(task, part)} for part in ("train", "dev", "test")}
    assert not groups["test"] & groups["train"] and not groups["dev"] & groups["train"] and not groups["dev"] & groups["test"]
    patterns = {part: Counter(item.texts[0][0][0] for item in items(task, part)) for part in groups}
    new = sum(number for name, number in patterns["test"].items() if name not in patterns["train"])
    assert 0.2 < new / SIZES[task]["test"] < 0.7
    met: dict[str, set[tuple[str, ...]]] = {"train": set(), "test": set()}
    for part, combinations_met in met.items():
        for item in items(task, part):
            said = [c for _, clauses in item.texts[0] for c in clauses]
            if task in ("pos", "ner"):
                combinations_met |= {(c.key(),) for c in said}
            else:
                combinations_met.add(tuple(sorted(c.filler("s") for c in said)))
                combinations_met.add(tuple(sorted(c.value() for c in said)))
    assert not met["train"] & met["test"]


def test_pretraining_text_holds_no_combination_of_dev_or_test() -> None:
    rng = Random(7)
    for _ in range(1500):
        lines = passage(rng)
        told = [c for pattern, clauses in lines if pattern in (*PAIRS, *TRIPLES, *MARKS) for c in clauses]
        for one, two in combinations({c.key(): c for c in told}.values(), 2):
            if part_of_clause(one) == part_of_clause(two) == "train" and len(told) == 2 and len(lines) == 1:
                continue  # two clauses of any kind side by side: each goes by all that it says
            assert part_of("|".join(sorted((one.filler("s"), two.filler("s")))), "people") == "train"
            assert part_of("|".join(sorted((one.value(), two.value()))), "facts") == "train"
    text = " ".join(sentences("en", 3000, 0))
    for task in ("nli", "paraphrase", "choice", "qa"):
        for row in rows(task, "test", "en"):
            assert (row.text if isinstance(row, Text) else getattr(row, "context", "")) not in text


def test_parallel_lines_stand_beside_what_denies_them() -> None:
    lines = [line["en"] for line in parallel(("en",), 400, 0)]
    assert len(set(lines)) > 390  # two meanings may look alike in one language
    pairs = list(pairwise(lines))
    assert any(one.replace("True", "False") == two != one for one, two in pairs)
    assert any(one.replace(" is ", " is not ") == two != one for one, two in pairs)
    assert any(two.replace(" does not live ", " lives ") == one != two for one, two in pairs)


def test_pretraining_text_is_seeded_and_wide() -> None:
    assert list(sentences("fi", 50, 3)) == list(sentences("fi", 50, 3)) != list(sentences("fi", 50, 4))
    lines = list(parallel(("en", "sw"), 40, 1))
    assert lines == list(parallel(("en", "sw"), 40, 1)) and all(set(line) == {"en", "sw"} for line in lines)
    text = " ".join(sentences("de", 3000, 0)).casefold()
    for lst in ("object", "place", "city", "role", "family", "number", "time"):
        for forms in language("de").lists[lst].values():
            word = forms[language("de").first[lst]].split()[-1].partition("/")[0]
            assert word.casefold() in text, word


# --- no answer without reading ---


def logistic(features: NDArray[np.float64], labels: NDArray[np.int64], classes: int, steps: int = 60) -> NDArray[np.float64]:
    """Weights [features, classes] of a softmax regression with a little weight decay, by full-batch gradient descent."""
    weights, target = np.zeros((features.shape[1], classes)), np.eye(classes)[labels]
    for _ in range(steps):
        logits = features @ weights
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        weights -= 2.0 * (features.T @ (chances - target) / len(features) + 1e-4 * weights)
    return weights


def bag(texts: Sequence[Sequence[str]], vocabulary: dict[str, int]) -> NDArray[np.float64]:
    """Counts of words, one block a text, and a block of words that all texts share; one row."""
    out = np.zeros((len(texts) + 1, len(vocabulary) + 1))
    for block, text in enumerate(texts):
        for word in text:
            out[block, vocabulary.get(word, len(vocabulary))] += 1
    out[-1] = (out[:-1] > 0).all(axis=0)
    return out.ravel()


def baseline(code: str, task: str, learn: tuple[Example, ...], score: tuple[Example, ...], hypothesis_only: bool) -> float:
    """Accuracy on `score`, in %, of a regression over bags of words that learns from `learn`."""

    def texts(row: Example) -> list[list[list[str]]]:  # candidates (one for classify) of texts
        if isinstance(row, Choice):
            return [[words(code, option)] if hypothesis_only else [words(code, row.context), words(code, option)] for option in row.options]
        assert isinstance(row, Text) and row.pair is not None
        return [[words(code, row.pair)] if hypothesis_only else [words(code, row.text), words(code, row.pair)]]

    vocabulary = {word: number for number, word in enumerate(sorted({w for row in learn for c in texts(row) for t in c for w in t}))}
    found = [np.stack([bag(c, vocabulary) for c in texts(row)]) for row in (*learn, *score)]
    if task == "choice":
        gold = [row.label for row in (*learn, *score) if isinstance(row, Choice) and row.label is not None]
        flat = np.concatenate(found[: len(learn)])
        right = np.concatenate([np.arange(3) == label for label in gold[: len(learn)]]).astype(int)
        weights = logistic(flat, right, 2)
        guess = [int((candidates @ (weights[:, 1] - weights[:, 0])).argmax()) for candidates in found[len(learn) :]]
    else:
        labels = TASK[task].labels
        gold = [labels.index(row.label or "") for row in (*learn, *score) if isinstance(row, Text)]
        weights = logistic(np.concatenate(found[: len(learn)]), np.array(gold[: len(learn)]), len(labels))
        guess = [int((candidates @ weights).argmax()) for candidates in found[len(learn) :]]
    return 100 * float(np.mean([a == b for a, b in zip(guess, gold[len(learn) :], strict=True)]))


@pytest.mark.slow
@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("task", SETS)
def test_words_alone_stay_at_chance(task: str, code: str) -> None:
    learn, score = rows(task, "dev", code), rows(task, "test", code)
    if code == "en":
        learn = rows(task, "train", "en")[:600]
    for hypothesis_only in (False, True):
        assert abs(baseline(code, task, learn, score, hypothesis_only) - 100 / SETS[task]) < 5


def test_the_baseline_can_learn() -> None:
    """The same regression finds the label when it does stand in the words."""
    given = tuple(
        Text(f"{n}", f"w{n % 7}", f"yes {n % 5}" if n % 2 else f"no {n % 5}", "same" if n % 2 else "different") for n in range(200)
    )
    assert baseline("en", "paraphrase", given[:100], given[100:], False) == 100
    assert baseline("en", "paraphrase", given[:100], given[100:], True) == 100


def unmarked(text: Lines) -> Lines:
    """A list as if all of it were called true."""
    return tuple(("true" if pattern == "false" else pattern, clauses) for pattern, clauses in text)


@pytest.mark.parametrize("task", SETS)
def test_items_of_a_set_share_all_words_but_the_marks_in_every_language(task: str) -> None:
    size, found = SETS[task], items(task, "test")
    for start in range(0, len(found), size):
        some = found[start : start + size]
        assert len({item.group for item in some}) == 1
        assert {item.label for item in some} == set(range(size))
        assert len({item.texts[1:] for item in some}) == 1  # the same hypothesis, second text, question and options
        for code in LANGUAGES:
            bags = {tuple(sorted(word.casefold() for word in write(code, unmarked(item.texts[0])).words)) for item in some}
            assert len(bags) == 1, (code, [[write(code, text).text for text in item.texts] for item in some])


def false(text: Lines) -> bool:
    (mark,) = {pattern for pattern, clauses in text if clauses}
    return mark == "false"


def denied(text: Lines) -> bool:
    (mood,) = {c.mood for _, clauses in text for c in clauses}
    return mood == "not"


@pytest.mark.parametrize("part", ["dev", "test"])
def test_neither_mark_nor_negation_goes_with_a_label(part: str) -> None:
    def even(signs: Sequence[bool]) -> bool:  # within three standard errors
        return abs(np.mean(signs) - 1 / 2) < 1.5 / len(signs) ** 0.5

    for task in ("nli", "paraphrase"):
        for label in range(SETS[task]):
            some = [item for item in items(task, part) if item.label == label]
            assert even([denied(item.texts[1]) for item in some]) and even([false(item.texts[0]) for item in some])
    choices = items("choice", part)
    assert even([denied(item.texts[2 + item.label]) for item in choices])
    assert even([denied(item.texts[2 + option]) for item in choices for option in range(3) if option != item.label])


def said(item: Item, text: int) -> list[str]:
    """The people of a text in the order in which they are named."""
    return [c.filler("s") for _, clauses in item.texts[text] for c in clauses]


def test_no_order_tells() -> None:
    """In training: neither the place of a clause nor the order of two texts goes with a label."""
    for label in range(3):
        some = [item for item in items("nli", "train") if item.label == label and len(said(item, 0)) == 2]
        assert abs(np.mean([said(item, 0)[0] == said(item, 1)[0] for item in some]) - 1 / 2) < 0.04
    for label in range(2):
        some = [item for item in items("paraphrase", "train") if item.label == label]
        assert abs(np.mean([said(item, 0) == said(item, 1) for item in some]) - 1 / 2) < 0.04
    places = Counter(item.answer[1] for item in items("qa", "train"))
    labels = Counter(item.label for item in items("choice", "train"))
    for counts in (places, labels):
        assert all(abs(number / sum(counts.values()) - 1 / 3) < 0.03 for number in counts.values())


@pytest.mark.slow
def test_enough_test_words_are_new_or_ambiguous() -> None:
    for task in ("pos", "ner"):
        known: dict[str, set[str]] = {}
        for row in rows(task, "train", "en"):
            assert isinstance(row, Words) and row.tags is not None
            for word, tag in zip(row.words, row.tags, strict=True):
                known.setdefault(word, set()).add(tag)
        test = [word for row in rows(task, "test", "en") if isinstance(row, Words) for word in row.words]
        assert np.mean([len(known.get(word, ())) != 1 for word in test]) >= 0.2


def test_people_of_one_text_share_a_gender_so_that_no_form_tells_who() -> None:
    have, rng = inventory(), Random(1)
    for _ in range(200):
        _, clauses = facts(rng, 3, "train")
        assert {c.filler("s") for c in clauses} <= set(have.people["f"]) or {c.filler("s") for c in clauses} <= set(have.people["m"])


@pytest.mark.slow
def test_the_page_for_readers_is_up_to_date() -> None:
    folder = Path(__file__).parent.parent
    written = runpy.run_path(str(folder / "scripts" / "mini_docs.py"))["page"]()
    assert (folder / "docs" / "mini.md").read_text(encoding="utf-8") == written, "run scripts/mini_docs.py"
