"""MultiNLI and SNLI pooled: one English NLI training set (X-STILTs trains on the two, and ANLI, with one shared head)."""

from xstilts.sources import Files
from xstilts.task import Parts, Task
from xstilts.tasks import mnli, snli

GET = f"{mnli.GET} {snli.GET}"

TASK = Task(
    name="nli",
    kind="classify",
    about="MultiNLI and SNLI as one three-way entailment task (English)",
    languages=("en",),
    source=Files(
        {
            "train": (mnli.TRAIN, snli.TRAIN),
            "dev": (mnli.DEV, snli.DEV),
            "test": (mnli.DEV_MISMATCHED, snli.TEST),
        },
        GET,
    ),
    metrics=("accuracy",),
    labels=mnli.LABELS,
    wording=mnli.WORDING,
    parts=Parts("train", "dev", "test"),
    pool=("mnli", "snli"),
    apart=(("xnli", "dev"), ("xnli", "test")),
    chance=100 / 3,
    citation=f"{mnli.TASK.citation}\n{snli.TASK.citation}",
    licence=f"MultiNLI: {mnli.TASK.licence}; SNLI: {snli.TASK.licence}",
    homepage="https://github.com/nyu-mll/jiant",
    sizes={
        "train-en": mnli.TASK.sizes["train-en"] + snli.TASK.sizes["train-en"],
        "dev-en": mnli.TASK.sizes["dev-en"] + snli.TASK.sizes["dev-en"],
    },
    get=GET,
)
