"""What a task is: a value that holds its facts and knows how to read its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

from xstilts.examples import Example

Kind = Literal["classify", "choose", "tag", "span", "retrieve", "mask"]
KINDS: tuple[str, ...] = get_args(Kind)
Part = Literal["train", "dev", "test"]
PARTS: tuple[str, ...] = get_args(Part)


@dataclass(frozen=True, slots=True)
class Table:
    """One split as the hub keeps it, and where its rows go: a JSON Lines file that the task's reader knows.

    `{language}` stands for the code in `config` and `path`. `columns` picks and renames columns (theirs -> ours); ()
    keeps all. `renamed` (theirs, ours) are taken beside those, in place of what has our name, and under that alone.
    `named` are class columns that are written as names in place of numbers ("-" for -1, unlabelled). `only` is the one
    language that the table is in. `prefix` keeps the rows whose "id" starts with it, where one table holds several
    languages (`{english}`: the language's English name in lower case).
    """

    config: str
    split: str
    path: str
    columns: tuple[tuple[str, str], ...] = ()
    named: tuple[str, ...] = ()
    only: str = ""
    prefix: str = ""
    renamed: tuple[tuple[str, str], ...] = ()


def english(config: str, path: str, named: tuple[str, ...] = (), **splits: str) -> Mapping[str, tuple[Table, ...]]:
    """The tables of an English data set, one a split: ours="theirs". `{split}` in `path` stands for ours."""
    return {ours: (Table(config, theirs, path.format(split=ours), named=named, only="en"),) for ours, theirs in splits.items()}


@dataclass(frozen=True, slots=True)
class Hub:
    """A data set repository at a commit (40 hexadecimal digits; "" where none is known: who asks names one)."""

    repository: str
    revision: str
    tables: Mapping[str, tuple[Table, ...]]  # split -> the tables that make it up


@dataclass(frozen=True, slots=True)
class Wording:
    """How a classifying task reads as text, and the text of each label, in the order of `Task.labels` ((): the labels themselves).

    {first} and {second} stand for the two texts. `form` is what a model is trained on, `ask` what one is asked that was
    not tuned, with `words` for its answers. "" and () stand for the general form; see `textform`.
    """

    form: str = ""
    labels: tuple[str, ...] = ()
    ask: str = ""
    words: tuple[str, ...] = ()


class Source(Protocol):
    """Where rows come from: files of an official release, or a generator (`mini`)."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that `files` and `read` accept."""
        ...

    def offers(self, split: str, language: str) -> bool:
        """True when the split is meant to be there in the language, whether or not its files are."""
        ...

    def files(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        """The files that decide the rows (they are hashed into keys). Raises DataError when one is missing."""
        ...

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        """The rows, in file order. Raises DataError naming file and line."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Which split serves for training, for selection on the English dev part, and for scoring.

    Parts that name the same split are kept apart by a cut on a hash of the group
    (`plan.cuts`); an empty name says that the task has no such part.
    """

    train: str = "train"
    dev: str = "dev"
    test: str = "test"


@dataclass(frozen=True)
class Task:
    """Facts of one data set and its reader. `metrics[0]` is the headline metric."""

    name: str
    kind: Kind
    about: str
    languages: tuple[str, ...]
    source: Source
    metrics: tuple[str, ...]
    labels: tuple[str, ...] = ()
    parts: Parts = field(default_factory=Parts)
    train_language: str = "en"
    parallel: bool = False  # the test rows are the same items in every language
    pool: tuple[str, ...] = ()  # the data sets that its training rows come from, where others may use them too; see `material`
    apart: tuple[tuple[str, str], ...] = ()  # (task, split) whose English rows training and selection always leave out
    chance: float | None = None  # headline score on 0-100 of guessing; None where it has no meaning
    no_answer: bool = False  # span: a context may hold no answer
    answer_style: Literal["squad", "mlqa"] = "squad"  # span: how answers are normalised (MLQA: by language)
    # retrieve: "top1" scores the nearest candidate, "map20" a ranking of 20 with one or more right ones, "mining" the
    # pairs found among sentences of which most have no translation (a query's gold None is an answer there)
    retrieval: Literal["top1", "mining", "map20"] = "top1"
    citation: str = ""
    licence: str = ""
    homepage: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)  # official sizes, "train-en" -> 392702
    get: str = ""  # how to get the data and where to put it
    hub: Hub | None = None  # the same rows on the hub, for who asks for them
    wording: Wording = Wording()  # classify: how its rows read as text
    images: bool = False  # classify: its rows are texts about images, which are read beside them
    version: int = 1  # raise when the reader's rows change

    @property
    def material(self) -> frozenset[str]:
        """Names of what its training rows are made of; tasks that share one are "same data"."""
        return frozenset((self.name, *self.pool))

    @property
    def trains(self) -> bool:
        """True when the task can be trained on (retrieval targets cannot)."""
        return bool(self.parts.train)
