"""Text to pretrain on: the same grammars, never a combination that is held out for dev or test.

Passages say a thing, then say it again in other words, or ask and answer: what a reader of stories, questions and
summaries meets; a list of checked sentences marks the false ones. Every passage is consistent. Parallel lines are
single sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from xstilts.errors import DataError
from xstilts.examples import Example, Text
from xstilts.mini import grammar
from xstilts.mini.grammar import LANGUAGES, Clause, Rendered
from xstilts.mini.items import Lines, called, claim, write
from xstilts.mini.meaning import (
    DENIED,
    HEDGES,
    LEADS,
    MARKS,
    MARKS_AFTER,
    PAIRS,
    SHAPES,
    TRIPLES,
    facts,
    part_of_clause,
    single,
    topics,
)


def _single(rng: Random) -> Clause:
    while True:
        clause = single(rng, rng.choice(list(SHAPES)), family=0.15)
        if part_of_clause(clause) == "train":
            return clause


def _list(rng: Random) -> Lines:
    """A list of checked sentences, then the same again in another order, or a question on it with its answer."""
    count = rng.choice((1, 2, 2, 3, 3))
    clauses, marks = topics(rng, count, "train"), rng.sample(range(3), count)
    lead = ((rng.choice(LEADS), ()),) if rng.random() < 0.3 else ()

    def told(patterns: Sequence[str]) -> Lines:
        return tuple((patterns[marks[i]], (clauses[i],)) for i in rng.sample(range(count), count))

    kind = rng.random()
    if kind < 0.8:
        return (*lead, *told(MARKS), *told(rng.choice((MARKS, MARKS_AFTER))))
    asked = rng.randrange(count)
    if kind < 0.9 and 0 in marks:
        return (*lead, *told(MARKS), ("which", ()), ("one", (clauses[marks.index(0)],)))
    answer = (("yes", (clauses[asked],)), ("maybe", ()), (MARKS_AFTER[2], (clauses[asked],)))[marks[asked]]
    return (*lead, *told(MARKS), ("ask", (clauses[asked].to("polar"),)), answer)


def _denied(rng: Random) -> Lines:
    """Sentences called true or false, and the same as they are or denied, in either order."""
    count = rng.choice((1, 2, 2))
    clauses = topics(rng, count, "train", DENIED)
    false = [rng.random() < 0.5 for _ in clauses]
    both = list(zip(clauses, false, strict=True))
    lists = [called(c, no) for c, no in both], [claim(c, no) for c, no in both]
    first, second = rng.sample([rng.sample(each, count) for each in lists], 2)
    return (*first, *second)


def _questioned(rng: Random) -> Lines:
    """Three facts, and a question with its answer."""
    clauses = topics(rng, 3, "train") if rng.random() < 0.6 else facts(rng, 3, "train", one_verb=True)[1]
    asked = rng.choice(clauses)
    return (rng.choice(TRIPLES), tuple(rng.sample(clauses, 3))), ("ask", (asked.to(_mood(rng, asked)),)), ("one", (asked,))


def _mood(rng: Random, asked: Clause) -> str:
    return "who" if asked.what == "job" or asked.filler("n") or rng.random() < 0.5 else "what"


def passage(rng: Random) -> Lines:
    """The sentences of one line of text."""
    kind = rng.random()
    if kind < 0.25:
        return _list(rng)
    if kind < 0.45:
        return _denied(rng)
    if kind < 0.65:
        return _questioned(rng)
    if kind < 0.72:  # two facts, one of them uncertain, then one of them again
        _, clauses = facts(rng, 2, "train")
        sure, unsure = clauses if rng.random() < 0.5 else clauses[::-1]
        hedge = rng.choice(HEDGES)
        both = [sure, unsure.to(hedge)]
        again = rng.choice((sure, unsure.to(HEDGES[hedge == HEDGES[0]])))
        return (rng.choice(PAIRS), tuple(rng.sample(both, 2))), ("one", (again,))
    if kind < 0.8:  # two facts, and the same two in another order
        clauses = facts(rng, 2, "train")[1] if rng.random() < 0.5 else topics(rng, 2, "train")
        first, second = rng.sample(PAIRS, 2)
        return (first, tuple(rng.sample(clauses, 2))), (second, tuple(rng.sample(clauses, 2)))
    return sentence(rng)


def sentence(rng: Random) -> Lines:
    """One sentence of any kind."""
    kind = rng.random()
    if kind < 0.5:
        clause = _single(rng)
        return (("one" if clause.mood in HEDGES else rng.choice(("one", "one", "know")), (clause,)),)
    if kind < 0.65:
        return ((rng.choice(PAIRS), (_single(rng), _single(rng))),)
    if kind < 0.85:
        return ((rng.choice((*MARKS, *MARKS_AFTER)), tuple(topics(rng, 1, "train"))),)
    if kind < 0.95:
        asked = facts(rng, 1, "train")[1][0]
        return (("ask", (asked.to(rng.choice((_mood(rng, asked), "polar"))),)),)
    return ((rng.choice((*LEADS, "which", "maybe")), ()),) if rng.random() < 0.6 else (("yes", tuple(topics(rng, 1, "train"))),)


def _text(told: Rendered, marked: bool) -> str:
    return told.marked if marked else told.text


def sentences(language: str, count: int, seed: int, marked: bool = False) -> Iterator[str]:
    """`count` lines of monolingual text (one to seven sentences each) in a language; each language says different things.

    With `marked`, BOUNDARY stands between words that are written together. Raises DataError for a language that is not in LANGUAGES.
    """
    rng = Random(f"mini text {language} {seed}")
    for _ in range(count):
        yield _text(write(language, passage(rng)), marked)


def mixed(languages: Sequence[str], count: int, seed: int, marked: bool = False) -> Iterator[str]:
    """As `sentences`, but each sentence of a line is in any of `languages`: a parallel signal, since passages say things again.

    Raises DataError for an unknown language.
    """
    rng = Random(f"mini mixed {seed}")
    for _ in range(count):
        yield " ".join([_text(write(rng.choice(languages), (line,)), marked) for line in passage(rng)])


def parallel(
    languages: tuple[str, ...] = LANGUAGES, count: int = 1000, seed: int = 0, marked: bool = False
) -> Iterator[dict[str, str]]:
    """`count` different sentences, each in all of `languages`; after one that can be denied comes the one that denies it.

    Raises DataError for an unknown language.
    """
    rng = Random(f"mini parallel {seed}")
    seen: dict[Lines, None] = {}
    while len(seen) < count:
        lines = sentence(rng)
        if lines not in seen:
            seen.update(dict.fromkeys((lines, contrary(lines) or lines)))
    for lines in islice(seen, count):
        yield {code: _text(write(code, lines), marked) for code in languages}


def contrary(lines: Lines) -> Lines | None:
    """What denies a sentence of one clause: the other mark, or the negation put in or taken out; None where there is neither."""
    ((pattern, clauses),) = lines
    mark, _, after = pattern.partition("_")
    if mark in ("true", "false"):
        other = "false" if mark == "true" else "true"
        return ((f"{other}_{after}" if after else other, clauses),)
    if pattern in ("one", "know") and clauses[0].what in DENIED and clauses[0].mood in ("plain", "not"):
        return ((pattern, (clauses[0].to("plain" if clauses[0].mood == "not" else "not"),)),)
    return None


@dataclass(frozen=True)
class GeneratedText:
    """The source of the task `mini-text`: other lines than those that the shipped encoders were pretrained on."""

    splits: tuple[str, ...] = ("train",)
    count: int = 2000
    seed: int = 2

    def offers(self, split: str, language: str) -> bool:
        """True: every language has its lines."""
        return True

    def files(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        """The word lists that decide the rows. Raises DataError for an unknown split or language."""
        if split not in self.splits:
            raise DataError(f'mini-text has no split "{split}" (there is: train)')
        return grammar.files((language,))

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        """The rows. Raises DataError for an unknown split or language."""
        self.files(data, split, language)
        for number, line in enumerate(sentences(language, self.count, self.seed)):
            yield Text(f"{language}-{number}", line)
