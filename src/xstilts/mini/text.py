"""Text to pretrain on: the same grammars, never a combination that is held out for dev or test.

Passages say a thing, then say it again in other words, or ask and answer: what a reader of stories, questions and
summaries meets. Everything said in a passage is true in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from xstilts.mini.grammar import LANGUAGES, Clause, language
from xstilts.mini.items import Sentence
from xstilts.mini.meaning import HEDGES, PAIRS, SHAPES, TRIPLES, facts, part_of_clause, single


def _single(rng: Random) -> Clause:
    while True:
        clause = single(rng, rng.choice(list(SHAPES)), family=0.15)
        if part_of_clause(clause) == "train":
            return clause


def passage(rng: Random) -> tuple[Sentence, ...]:
    """The sentences of one line of text."""
    kind = rng.random()
    if kind < 0.3:
        clause = _single(rng)
        return (("one" if clause.mood in HEDGES else rng.choice(("one", "one", "know")), (clause,)),)
    if kind < 0.4:
        return ((rng.choice(PAIRS), (_single(rng), _single(rng))),)
    if kind < 0.6:  # two facts, one of them uncertain, then the certain one again
        _, clauses = facts(rng, 2, "train")
        sure, unsure = clauses if rng.random() < 0.5 else clauses[::-1]
        hedge = rng.choice(HEDGES)
        both = [sure, unsure.to(hedge)]
        again = rng.choice((sure, sure, sure, unsure.to(HEDGES[hedge == HEDGES[0]])))
        return (rng.choice(PAIRS), tuple(rng.sample(both, 2))), ("one", (again,))
    if kind < 0.75:  # two facts, and the same two in another order
        _, clauses = facts(rng, 2, "train")
        first, second = rng.sample(PAIRS, 2)
        return (first, tuple(rng.sample(clauses, 2))), (second, tuple(rng.sample(clauses, 2)))
    fact, clauses = facts(rng, 3, "train", one_verb=True)
    told = (rng.choice(TRIPLES), tuple(rng.sample(clauses, 3)))
    asked = rng.choice(clauses)
    if kind < 0.85:
        return told, ("one", (asked,))
    mood = "who" if fact in ("job", "count") or rng.random() < 0.5 else "what"
    return told, ("ask", (asked.to(mood),)), ("one", (asked,))


def _write(code: str, lines: tuple[Sentence, ...]) -> str:
    grammar = language(code)
    out = grammar.render(*lines[0])
    for line in lines[1:]:
        out = out.then(grammar.render(*line))
    return out.text


def sentences(language: str, count: int, seed: int) -> Iterator[str]:
    """`count` lines of monolingual text (one to four sentences each) in a language; each language says different things.

    Raises DataError for a language that is not in LANGUAGES.
    """
    rng = Random(f"mini text {language} {seed}")
    for _ in range(count):
        yield _write(language, passage(rng))


def parallel(languages: tuple[str, ...] = LANGUAGES, count: int = 1000, seed: int = 0) -> Iterator[dict[str, str]]:
    """`count` lines, each in all of `languages` with one meaning. Raises DataError for an unknown language."""
    rng = Random(f"mini parallel {seed}")
    for _ in range(count):
        lines = passage(rng)
        yield {code: _write(code, lines) for code in languages}
