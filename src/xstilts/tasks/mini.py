"""The tasks of the embedded benchmark `mini`: made on the spot, parallel in twelve languages."""

from __future__ import annotations

from xstilts.mini.grammar import LANGUAGES
from xstilts.mini.items import BIO, NLI_LABELS, PARAPHRASE_LABELS, SIZES, UPOS, Generated
from xstilts.task import Kind, Parts, Task

CITATION = """@misc{xstilts,
  title = {xstilts: Intermediate-Task Training for Zero-Shot Cross-Lingual Transfer},
  note = {Software; its embedded benchmark mini was written for it},
}"""


def _task(
    name: str,
    kind: Kind,
    about: str,
    metrics: tuple[str, ...],
    labels: tuple[str, ...] = (),
    chance: float | None = None,
) -> Task:
    trained = name != "retrieval"
    return Task(
        name=f"mini-{name}",
        kind=kind,
        about=about,
        languages=LANGUAGES if trained else LANGUAGES[1:],
        source=Generated(name),
        metrics=metrics,
        labels=labels,
        parts=Parts() if trained else Parts(train="", dev=""),
        parallel=True,
        chance=chance,
        citation=CITATION,
        licence="Apache-2.0 (written for xstilts)",
        sizes={f"{split}-en" if split != "test" else "test": size for split, size in SIZES[name].items()},
        get="nothing to get: the rows are made from word lists in the package",
    )


TASKS = (
    _task(
        "nli",
        "classify",
        "Do sentences called true or false say so, leave it open, or say otherwise?",
        ("accuracy",),
        NLI_LABELS,
        100 / 3,
    ),
    _task(
        "paraphrase",
        "classify",
        "Do sentences called true or false say the same as sentences denied or not?",
        ("accuracy",),
        PARAPHRASE_LABELS,
        50.0,
    ),
    _task(
        "choice",
        "choose",
        "Which of three sentences is true, when those of the text are called true or false?",
        ("accuracy",),
        (),
        100 / 3,
    ),
    _task("pos", "tag", "Universal part-of-speech tags; many test words are new.", ("accuracy",), UPOS),
    _task("ner", "tag", "People, places and organisations in BIO tags; many test names are new.", ("f1",), BIO),
    _task("qa", "span", "Who, what or where, answered by words of the text.", ("f1", "exact_match")),
    _task("retrieval", "retrieve", "Find the translation of an English sentence.", ("accuracy",)),
)
