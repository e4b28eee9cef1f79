"""Quora Question Pairs: do two English questions ask the same? In GLUE's split."""

from xstilts.readers import headed_tsv, nli_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Task, Wording, english

LABELS = ("not_duplicate", "duplicate")
GET = "Get QQP-clean.zip from https://gluebenchmark.com/tasks (QQP) and unpack it into the data folder as QQP/."


def _file(split: str) -> File:
    read = headed_tsv(f"qqp-{split}", ("question1", "question2", "is_duplicate"), dict(zip("01", LABELS, strict=True)))
    hub = File(nli_jsonl(f"qqp-{split}", LABELS), (f"hub/qqp/{split}.jsonl",), only="en")
    return File(read, tuple(f"{folder}/{split}.tsv" for folder in ("QQP", "qqp", "glue_data/QQP")), hub, only="en")


TASK = Task(
    name="qqp",
    kind="classify",
    about="do two questions ask the same (English)",
    languages=("en",),
    source=Files({"train": (_file("train"),), "dev": (_file("dev"),)}, GET),
    metrics=("accuracy",),
    labels=LABELS,
    wording=Wording(
        "qqp question1: {first} question2: {second}",
        LABELS,
        "Question 1: {first}\nQuestion 2: {second}\nQuestion: Do the two ask the same, Yes or No?\nAnswer:",
        ("No", "Yes"),
    ),
    parts=Parts("train", "dev", ""),  # GLUE keeps the test labels
    pool=("qqp",),
    chance=50.0,
    citation="""@misc{iyer-etal-2017-quora,
  title = {First {Q}uora Dataset Release: Question Pairs},
  author = {Iyer, Shankar and Dandekar, Nikhil and Csernai, Korn{\\'e}l},
  year = {2017},
  url = {https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs},
}""",
    licence="Quora's terms of service (non-commercial use)",
    homepage="https://gluebenchmark.com/tasks",
    sizes={"train-en": 363_846, "dev-en": 40_430},
    get=GET,
    hub=Hub(
        "nyu-mll/glue",
        "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
        english("qqp", "hub/qqp/{split}.jsonl", ("label",), train="train", dev="validation"),
    ),
)
