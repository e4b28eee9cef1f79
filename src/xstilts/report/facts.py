"""What a report is told beside the scores, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xstilts.analysis.answers import Answer
from xstilts.analysis.claims import Finding
from xstilts.analysis.consistency import Consistency
from xstilts.analysis.cost import Costs
from xstilts.analysis.forgetting import Kept
from xstilts.analysis.languages import Languages
from xstilts.analysis.review import Review
from xstilts.analysis.serving import Served
from xstilts.analysis.stability import Stability
from xstilts.analysis.texts import TextFacts
from xstilts.analysis.transfer import Transfer
from xstilts.plan import Read
from xstilts.scores import CellLike, Score
from xstilts.study import Asked
from xstilts.task import Task


@dataclass(frozen=True, slots=True)
class Cost:
    """What one kind of stage took: how many stages there are and the seconds that they ran, whenever that was."""

    kind: str
    stages: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Facts:
    """A study's own words and circumstances, as the page prints them. Only `study` must be there."""

    study: str
    question: str = ""
    asked: tuple[Asked, ...] = ()  # what the question comes to
    command: str = ""  # what makes this report again, exactly
    notes: tuple[str, ...] = ()  # on the study as a whole
    model_notes: Mapping[str, str] = field(default_factory=dict)  # what a reader must know of a model, printed at the top
    parameters: Mapping[str, int] = field(default_factory=dict)  # model -> parameters
    series: Mapping[str, str] = field(default_factory=dict)  # model -> what models share that were pretrained alike but for their size
    rows: tuple[Read, ...] = ()  # where each part's rows come from
    data: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # what else is to be said of the data, lines by heading
    caps: tuple[str, ...] = ()  # every cap and every split that replaces another, one line each
    versions: Mapping[str, str] = field(default_factory=dict)  # package or machine fact -> version
    costs: tuple[Cost, ...] = ()
    written: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # model -> what of its written answers could not be right
    translated: tuple[str, ...] = ()  # training rows that are translations: of which task, into what, by what
    trained_in: tuple[str, ...] = ("en",)  # the languages of every row that a model was trained on
    chosen_on: str = "the English dev part"  # what checkpoints were selected on
    sources: Mapping[str, str] = field(default_factory=dict)  # model -> repository, folder or pretraining config
    seen: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # model -> data sets whose labels it has learnt from, and how
    texts: TextFacts = field(default_factory=TextFacts)  # tokens of the scored rows, text of the pretraining
    watts: float | None = None  # assumed power of a worker while a stage runs; None: no energy is estimated


@dataclass(frozen=True, slots=True)
class Report:
    """A study's scores and what they say: everything that is printed."""

    facts: Facts
    models: tuple[str, ...]  # in the plan's order, as the next two
    steps: tuple[str, ...]  # intermediate choices
    tasks: Mapping[str, Task]  # the targets
    cells: int  # planned
    scores: tuple[Score, ...]
    transfer: Transfer
    missing: tuple[CellLike, ...]
    resamples: int
    rng_seed: int
    consistency: tuple[Consistency, ...] = ()  # between languages
    claims: tuple[Finding, ...] = ()  # what the study says of published claims
    review: Review | None = None
    languages: Languages = field(default_factory=Languages)  # scores and gains against what is known of the languages
    stability: tuple[Stability, ...] = ()  # between seeds
    answers: tuple[Answer, ...] = ()
    spent: Costs = field(default_factory=Costs)
    served: Served | None = None  # what `xstilts bench` has measured
    kept: tuple[Kept, ...] = ()  # of intermediate tasks after the target's training, where the study asks for it
