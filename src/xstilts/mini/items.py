"""The tasks of the embedded benchmark: items as meanings first, the same for every language, then words.

NLI, paraphrase and choice read two sentences that are both called true or both called false, and sentences that are denied
or not. They come in small sets of items that share people, facts, hypothesis or options; within a set every label is right
once, and marks and negations are as frequent under every label, so none can be read from words, lengths or hypotheses alone.
That holds for dev and test; in training fewer sentences are denied and some lists are shorter, without which small encoders
take very long to find out what is asked.
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
from xstilts.mini.meaning import (
    DENIED,
    HEDGES,
    LEADS,
    PAIRS,
    SHAPES,
    TRIPLES,
    Pick,
    facts,
    group_of,
    inventory,
    part_of_clause,
    single,
    topics,
)

# items a split (test: a language); in dev and test NLI and choice come in threes, paraphrases in twos
SIZES = {
    "nli": {"train": 4000, "dev": 300, "test": 300},
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
Lines = tuple[Sentence, ...]  # one text


@dataclass(frozen=True)
class Item:
    """One item before any language."""

    group: str
    texts: tuple[Lines, ...]
    label: int = 0
    answer: str = ""


def write(code: str, lines: Lines) -> Rendered:
    """A text in a language."""
    grammar = language(code)
    out = grammar.render(*lines[0])
    for line in lines[1:]:
        out = out.then(grammar.render(*line))
    return out


def _pattern(rng: Random, patterns: Sequence[str], part: str) -> str:
    """A pattern for a part: the last is only for test, where it stands half of the time."""
    return patterns[-1] if part == "test" and rng.random() < 0.5 else rng.choice(patterns[:-1])


def _shuffled(rng: Random, clauses: Sequence[Clause]) -> tuple[Clause, ...]:
    return tuple(rng.sample(list(clauses), len(clauses)))


def _lead(rng: Random, part: str) -> Lines:
    """Half of the lists have an opening sentence; half of those of the test have one that no training text has."""
    return ((_pattern(rng, LEADS, part), ()),) if part == "test" or rng.random() < 0.5 else ()


def _told(rng: Random, part: str) -> tuple[list[Clause], list[Clause]]:
    """Two people with a fact each, and the same people with the facts exchanged."""
    one, two = topics(rng, 2, part, DENIED)
    return [one, two], [two.by(one.filler("s")), one.by(two.filler("s"))]


def _denied(rng: Random, part: str) -> bool:
    """Whether what is said of a list is denied: as often as not in dev and test; less often in training, where models then
    find that the marks count, and later that a negation turns them round. Learnt at even rates, both come late or never."""
    return rng.random() < (0.25 if part == "train" else 0.5)


def called(clause: Clause, false: bool) -> Sentence:
    """A sentence that is called true, or false."""
    return "false" if false else "true", (clause,)


def claim(clause: Clause, denied: bool) -> Sentence:
    """A sentence that says something, or denies it."""
    return "one", (clause.to("not") if denied else clause,)


def _list(rng: Random, clauses: Sequence[Clause], false: bool, lead: Lines) -> Lines:
    """A list of sentences in any order that are all marked true or all marked false."""
    return (*lead, *(called(c, false) for c in _shuffled(rng, clauses)))


def _nli(rng: Random, part: str) -> list[Item]:
    (straight, crossed), lead, denied = _told(rng, part), _lead(rng, part), _denied(rng, part)
    asked = rng.randrange(2)
    hypothesis = (claim(straight[asked], denied),)
    if part == "train" and rng.random() < 0.5:  # lists of one: what is said of somebody else is left open
        straight, crossed = [straight[asked]], [crossed[1 - asked]]
    premises = (_list(rng, straight, denied, lead), _list(rng, crossed, rng.random() < 0.5, lead), _list(rng, straight, not denied, lead))
    return [Item(group_of(straight), (premise, hypothesis), label) for label, premise in enumerate(premises)]


def _paraphrase(rng: Random, part: str) -> list[Item]:
    (straight, crossed), lead, denied = _told(rng, part), _lead(rng, part), _denied(rng, part)
    second = tuple(claim(c, denied) for c in _shuffled(rng, straight))
    different = _list(rng, crossed, denied, lead) if rng.random() < 0.25 else _list(rng, straight, not denied, lead)
    return [Item(group_of(straight), (text, second), label) for label, text in enumerate((different, _list(rng, straight, denied, lead)))]


def _choice(rng: Random, part: str) -> list[Item]:
    (straight, crossed), lead, denied = _told(rng, part), _lead(rng, part), _denied(rng, part)
    who = rng.randrange(2)
    options = [(straight[who], False), (straight[who], True), (crossed[who], denied)]
    contexts = [_list(rng, straight, False, lead), _list(rng, straight, True, lead), _list(rng, crossed, denied, lead)]
    shown = rng.sample(range(3), 3)
    lines = ((("which", ()),), *((claim(*options[i]),) for i in shown))
    return [Item(group_of(straight), (contexts[i], *lines), shown.index(i)) for i in rng.sample(range(3), 3)]


def _qa(rng: Random, part: str) -> list[Item]:
    if rng.random() < 0.6:
        clauses = topics(rng, 3, part)
    else:
        clauses = facts(rng, 3, part, one_verb=True)[1]
    told, asked = _shuffled(rng, clauses), rng.randrange(3)
    if told[asked].what == "job" or told[asked].filler("n") or rng.random() < 0.5:
        mood, answer = "who", f"s{asked + 1}"
    else:
        mood, answer = "what", f"x{asked + 1}"
    context: Lines = ((_pattern(rng, TRIPLES, part), told),)
    return [Item(group_of(clauses), (context, (("ask", (told[asked].to(mood),)),)), answer=answer)]


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
    return [Item("/".join(sorted(c.key() for c in clauses)), (((pattern, clauses),),))]


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


def examples_of(task: str, code: str, name: str, item: Item) -> Iterator[Example]:
    """An item in a language: one example, for retrieval the query and its translation."""
    texts = [write(code, lines) for lines in item.texts]
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
            yield Parallel(f"q-{name}", write("en", item.texts[0]).text, "query", f"c-{name}", item.group)
            yield Parallel(f"c-{name}", texts[0].text, "candidate", None, item.group)


@dataclass(frozen=True)
class Generated:
    """The source of a `mini` task. Training and selection rows are English; in another language they are its translation."""

    task: str

    @property
    def splits(self) -> tuple[str, ...]:
        """The split names."""
        return tuple(SIZES[self.task])

    def _check(self, split: str, code: str) -> None:
        if split not in self.splits:
            raise DataError(f'mini-{self.task} has no split "{split}" (there are: {", ".join(self.splits)}){nearest(split, self.splits)}')
        language(code)

    def offers(self, split: str, language: str) -> bool:
        """True for what is the task's own: of the training and selection rows, the English ones."""
        return split == "test" or language == "en"

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
