"""ANLI+: SNLI, MultiNLI and the three rounds of ANLI as one English task with one head (Phang et al. 2020)."""

from xstilts.sources import Files
from xstilts.task import Parts, Task
from xstilts.tasks import anli, mnli, snli

GET = f"{mnli.GET} {snli.GET} {anli.GET}"
_MEMBERS = (snli.TASK, mnli.TASK, anli.TASK)

TASK = Task(
    name="anli_plus",
    kind="classify",
    about="SNLI, MultiNLI and ANLI 1-3 as one three-way entailment task (English)",
    languages=("en",),
    source=Files(
        {
            "train": (snli.TRAIN, mnli.TRAIN, *anli.TRAIN),
            "dev": (snli.DEV, mnli.DEV, *anli.DEV),
            "pool": (snli.DEV, mnli.DEV, anli.TOGETHER),  # to train on where the official rows are not at hand
        },
        GET,
    ),
    metrics=("accuracy",),
    labels=mnli.LABELS,
    wording=mnli.WORDING,
    parts=Parts("train", "dev", ""),
    pool=("snli", "mnli", "anli"),
    apart=(("xnli", "dev"), ("xnli", "test")),
    chance=100 / 3,
    citation="\n".join(task.citation for task in _MEMBERS),
    licence="; ".join(f"{task.name}: {task.licence}" for task in _MEMBERS),
    homepage="https://github.com/nyu-mll/jiant",
    sizes={f"{split}-en": sum(task.sizes[f"{split}-en"] for task in _MEMBERS) for split in ("train", "dev")},
    get=GET,
)
