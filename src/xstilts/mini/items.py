"""The tasks of the embedded benchmark: items as meanings first, the same for every language, then words.

NLI, paraphrase and choice come in small sets of items that share all their words and differ in who does what:
within a set every label is right once, so no label can be read from words, word pairs, lengths or hypotheses alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from xstilts.canon import unit_hash
from xstilts.errors import DataError, nearest
from xstilts.examples import Answer, Choice, Example, Parallel, Passage, Text, Words
from xstilts.mini import grammar
from xstilts.mini.grammar import Clause, Rendered, language
from xstilts.mini.meaning import HEDGES, PAIRS, SHAPES, TRIPLES, Pick, facts, group_of, inventory, part_of_clause, single

# items a split (test: a language); NLI and choice come in threes, paraphrases in twos
SIZES = {
    "nli": {"train": 3999, "dev": 300, "test": 300},
    "paraphrase": {"train": 4000, "dev": 300, "test": 300},
    "choice": {"train": 3999, "dev": 300, "test": 300},
    "pos": {"train": 4000, "dev": 300, "test": 250},
    "ner": {"train": 4000, "dev": 300, "test": 250},
    "qa": {"train": 4000, "dev": 300, "test": 300},
    "retrieval": {"test": 300},
}
NLI_LABELS = ("entailment", "neutral", "contradiction")
PARAPHRASE_LABELS = ("different", "same")
UPOS = ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "VERB")
BIO = ("O", "B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER")
HELD_OUT_WORDS = 0.3  # share of every word list that no training text of POS and NER uses
HELD_OUT_RATE = 0.65  # how often a test sentence of POS and NER takes such a word

Sentence = tuple[str, tuple[Clause, ...]]  # a sentence pattern and its clauses


@dataclass(frozen=True)
class Item:
    """One item before any language."""

    group: str
    texts: tuple[Sentence, ...]
    label: int = 0
    answer: str = ""


def _pattern(rng: Random, patterns: Sequence[str], part: str) -> str:
    """A pattern for a part: the last is only for test, where it stands half of the time."""
    return patterns[-1] if part == "test" and rng.random() < 0.5 else rng.choice(patterns[:-1])


def _shuffled(rng: Random, clauses: Sequence[Clause]) -> tuple[Clause, ...]:
    return tuple(rng.sample(list(clauses), len(clauses)))


def _nli(rng: Random, part: str) -> list[Item]:
    _, (one, two) = facts(rng, 2, part)
    first, second = one.filler("s"), two.filler("s")
    swapped_one, swapped_two = two.by(first), one.by(second)
    pattern, hedge = _pattern(rng, PAIRS, part), rng.choice(HEDGES)
    neutral = (one.to(hedge), two) if rng.random() < 0.5 else (swapped_one.to(hedge), swapped_two)
    premises = ((one, two.to(hedge)), neutral, (swapped_one, swapped_two.to(hedge)))
    group = group_of((one, two))
    return [Item(group, ((pattern, _shuffled(rng, premise)), ("one", (one,))), label) for label, premise in enumerate(premises)]


def _paraphrase(rng: Random, part: str) -> list[Item]:
    _, (one, two) = facts(rng, 2, part)
    swapped = (two.by(one.filler("s")), one.by(two.filler("s")))
    before = _pattern(rng, PAIRS, part)
    after = rng.choice([pattern for pattern in PAIRS[:-1] if pattern != before])
    text = (before, _shuffled(rng, (one, two)))
    group = group_of((one, two))
    return [Item(group, (text, (after, _shuffled(rng, other))), label) for label, other in enumerate((swapped, (one, two)))]


def _choice(rng: Random, part: str) -> list[Item]:
    _, clauses = facts(rng, 3, part)
    people = [c.filler("s") for c in clauses]
    if rng.random() < 0.5:  # who of the three?
        options = [clauses[0].by(person) for person in people]
    else:  # which of the three facts?
        options = [c.by(people[0]) for c in clauses]
    options = rng.sample(options, 3)
    pattern, items = _pattern(rng, TRIPLES, part), []
    for turn in range(3):
        context = [c.by(people[(number + turn) % 3]) for number, c in enumerate(clauses)]
        label = next(number for number, option in enumerate(options) if option in context)
        texts = [(pattern, _shuffled(rng, context)), ("which", ()), *(("one", (option,)) for option in options)]
        items.append(Item(group_of(clauses), tuple(texts), label))
    return items


def _qa(rng: Random, part: str) -> list[Item]:
    fact, clauses = facts(rng, 3, part, one_verb=True)
    context = (_pattern(rng, TRIPLES, part), _shuffled(rng, clauses))
    asked = rng.randrange(3)
    mood = "who" if fact in ("job", "count") or rng.random() < 0.5 else "what"
    question = ("ask", (context[1][asked].to(mood),))
    return [Item(group_of(clauses), (context, question), answer=f"{'s' if mood == 'who' else 'x'}{asked + 1}")]


@cache
def held_out() -> frozenset[str]:
    """The entries that no training sentence of POS and NER uses: a share of every list, by hash."""
    have = inventory()
    lists = [
        have.people["f"],
        have.people["m"],
        *have.lists.values(),
        sorted({o for group in have.objects.values() for o in group}),
        tuple(have.verbs),
        tuple(have.adjectives),
    ]
    out: set[str] = set()
    for entries in lists:
        ranked = sorted(entries, key=lambda entry: unit_hash(entry, salt="mini held out"))
        out.update(ranked[: round(HELD_OUT_WORDS * len(entries))])
    return frozenset(out)


def _picker(part: str) -> Pick:
    unseen = held_out()

    def pick(rng: Random, entries: Sequence[str]) -> str:
        new = [entry for entry in entries if entry in unseen]
        old = [entry for entry in entries if entry not in unseen]
        if part == "test" and new and (not old or rng.random() < HELD_OUT_RATE):
            return rng.choice(new)
        return rng.choice(old)

    return pick


def _tagged(rng: Random, part: str, shapes: Sequence[str], family: float) -> list[Item]:
    pick = _picker(part)

    def draw() -> Clause:
        while True:
            clause = single(rng, rng.choice(list(shapes)), pick, family)
            if part_of_clause(clause) == part:
                return clause

    kind = rng.random()
    if kind < 0.45:
        clauses: tuple[Clause, ...] = (draw(),)
        pattern = "know" if part == "test" and clauses[0].mood not in HEDGES and rng.random() < 0.4 else "one"
    else:
        clauses = (draw(), draw())
        pattern = _pattern(rng, PAIRS, part)
    return [Item("/".join(sorted(c.key() for c in clauses)), ((pattern, clauses),))]


def _pos(rng: Random, part: str) -> list[Item]:
    return _tagged(rng, part, SHAPES, 0.1)


def _ner(rng: Random, part: str) -> list[Item]:
    return _tagged(rng, part, ("live", "live", "work", "work", "act", "at", "job", "person", "there"), 0.4)


def _retrieval(rng: Random, part: str) -> list[Item]:
    return _tagged(rng, part, SHAPES, 0.2)


MAKERS = {"nli": _nli, "paraphrase": _paraphrase, "choice": _choice, "pos": _pos, "ner": _ner, "qa": _qa, "retrieval": _retrieval}


@cache
def items(task: str, part: str) -> tuple[Item, ...]:
    """The items of a part of a task, no two sets of one group."""
    rng = Random(f"mini {task} {part}")
    out: list[Item] = []
    groups: set[str] = set()
    while len(out) < SIZES[task][part]:
        made = MAKERS[task](rng, part)
        if made[0].group not in groups or (part == "train" and task not in ("pos", "ner")):
            groups.add(made[0].group)
            out.extend(made)
    return tuple(out[: SIZES[task][part]])


def _render(code: str, sentence: Sentence) -> Rendered:
    return language(code).render(*sentence)


def examples_of(task: str, code: str, name: str, item: Item) -> Iterator[Example]:
    """An item in a language: one example, for retrieval the query and its translation."""
    texts = [_render(code, sentence) for sentence in item.texts]
    match task:
        case "nli" | "paraphrase":
            labels = NLI_LABELS if task == "nli" else PARAPHRASE_LABELS
            yield Text(name, texts[0].text, texts[1].text, labels[item.label], item.group)
        case "choice":
            yield Choice(name, texts[0].text, tuple(text.text for text in texts[2:]), texts[1].text, item.label, item.group)
        case "pos":
            yield Words(name, texts[0].words, texts[0].tags, item.group)
        case "ner":
            yield Words(name, texts[0].words, texts[0].entities, item.group)
        case "qa":
            yield Passage(name, texts[1].text, texts[0].text, (Answer(*texts[0].span(item.answer)),), item.group)
        case "retrieval":
            yield Parallel(f"q-{name}", _render("en", item.texts[0]).text, "query", f"c-{name}", item.group)
            yield Parallel(f"c-{name}", texts[0].text, "candidate", None, item.group)


@dataclass(frozen=True)
class Generated:
    """The source of a `mini` task: English for training and selection, every language for the test."""

    task: str

    @property
    def splits(self) -> tuple[str, ...]:
        """The split names."""
        return tuple(SIZES[self.task])

    def _check(self, split: str, code: str) -> None:
        if split not in self.splits:
            raise DataError(f'mini-{self.task} has no split "{split}" (there are: {", ".join(self.splits)}){nearest(split, self.splits)}')
        if split != "test" and code != "en":
            raise DataError(f'mini-{self.task} has "{split}" in English only, not in "{code}"; use language "en"')
        language(code)

    def files(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        """The word lists and the generator that decide the rows (`data` is not used).

        Raises DataError for an unknown split or language.
        """
        self._check(split, language)
        return grammar.files(dict.fromkeys(("en", language)) if self.task == "retrieval" else (language,))

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        """The rows; the same ids, groups and labels in every language. Raises DataError for an unknown split or language."""
        self._check(split, language)
        for number, item in enumerate(items(self.task, split)):
            yield from examples_of(self.task, language, f"{split}-{number}", item)
