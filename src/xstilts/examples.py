"""The five forms of one example. Frozen values; `None` as a label means "unlabelled".

`group` names what must never stand on both sides of a train/select/score cut
(article, premise, context); parallel items share it in every language. Empty
means that the example is its own group.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xstilts.canon import LATER

# Private-use characters that stand around an answer while its context is translated.
OPEN, CLOSE = "\ue000", "\ue001"


@dataclass(frozen=True, slots=True)
class Text:
    """One text or a pair of texts with a class: NLI, paraphrase; also raw text for MLM. `image` is the file that the text is about."""

    id: str
    text: str
    pair: str | None = None
    label: str | None = None
    group: str = ""
    image: str = field(default="", repr=False, metadata=LATER)  # not in repr: tests hold digests of the reprs of rows without it


@dataclass(frozen=True, slots=True)
class Choice:
    """A context, an optional question and options, one of which is right (`label`, 0-based)."""

    id: str
    context: str
    options: tuple[str, ...]
    question: str = ""
    label: int | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """A sentence as words, one tag a word."""

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it stands in the context, and the character offset where it starts."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A question on a context. `answers=()` says that the context holds no answer; None: unlabelled."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Parallel:
    """One text of a retrieval set: a query or a candidate.

    `gold` is the id of the candidate that answers a query (its translation), `also` those of further right ones.
    """

    id: str
    text: str
    role: str  # "query" or "candidate"
    gold: str | None = None
    group: str = ""
    also: tuple[str, ...] = field(default=(), repr=False)  # not in repr: tests hold digests of the reprs of rows without it

    @property
    def golds(self) -> tuple[str, ...]:
        """The ids of every right candidate."""
        return () if self.gold is None else (self.gold, *self.also)


Example = Text | Choice | Words | Passage | Parallel


def is_candidate(example: Example) -> bool:
    """True for what retrieval finds: such rows are not scored themselves."""
    return isinstance(example, Parallel) and example.role == "candidate"


def group_of(example: Example) -> str:
    """The leakage group of an example: its own id where the reader named none."""
    return example.group or example.id


def gold_of(example: Example) -> tuple[str, ...]:
    """The gold answers as prediction files hold them: the label, the option's number, the tags, the accepted answers, the ids of
    the right candidates; () where there are none, or the example is unlabelled.
    """
    match example:
        case Text(label=str() as label):
            return (label,)
        case Choice(label=int() as option):
            return (str(option),)
        case Words(tags=tuple() as tags):
            return tags
        case Passage(answers=tuple() as answers):
            return tuple(answer.text for answer in answers)
        case Parallel():
            return example.golds
    return ()
