"""RTE: does a sentence follow from a passage of English news? Two-way, as GLUE pools it."""

from xstilts.readers import headed_tsv, nli_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Task, Wording, english

LABELS = ("entailment", "not_entailment")
GET = "Get RTE.zip from https://gluebenchmark.com/tasks and unpack it into the data folder as RTE/."


def _file(split: str) -> File:
    hub = File(nli_jsonl(f"rte-{split}", LABELS), (f"hub/rte/{split}.jsonl",), only="en")
    mixed = File(nli_jsonl(f"rte-{split}", LABELS, only=("tag", split)), ("rte/test.jsonl",), hub, only="en")
    read = headed_tsv(f"rte-{split}", ("sentence1", "sentence2", "label"), dict(zip(LABELS, LABELS, strict=True)))
    return File(read, (f"RTE/{split}.tsv", f"rte/{split}.tsv", f"glue_data/RTE/{split}.tsv"), mixed, only="en")


TASK = Task(
    name="rte",
    kind="classify",
    about="does a sentence follow from a passage of news (English)",
    languages=("en",),
    source=Files({"train": (_file("train"),), "dev": (_file("dev"),)}, GET),
    metrics=("accuracy",),
    labels=LABELS,
    wording=Wording(ask="{first}\nQuestion: {second} True or False?\nAnswer:", words=("True", "False")),
    parts=Parts("train", "dev", ""),  # GLUE keeps the test labels
    pool=("rte",),
    chance=50.0,
    citation="""@inproceedings{wang-etal-2018-glue,
  title = {{GLUE}: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding},
  author = {Wang, Alex and Singh, Amanpreet and Michael, Julian and Hill, Felix and Levy, Omer and Bowman, Samuel},
  booktitle = {Proceedings of the 2018 EMNLP Workshop BlackboxNLP},
  year = {2018},
  url = {https://aclanthology.org/W18-5446},
}""",
    licence="none stated (news text)",
    homepage="https://gluebenchmark.com/tasks",
    sizes={"train-en": 2_490, "dev-en": 277},
    get=GET,
    hub=Hub(
        "nyu-mll/glue",
        "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
        english("rte", "hub/rte/{split}.jsonl", ("label",), train="train", dev="validation"),
    ),
)
