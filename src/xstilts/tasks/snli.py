"""SNLI: English captions and sentences about them, three-way entailment."""

from xstilts.readers import nli_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Task, english
from xstilts.tasks.mnli import LABELS, WORDING

GET = "Get snli_1.0.zip from https://nlp.stanford.edu/projects/snli/ and unpack it into the data folder as snli_1.0/."


def _file(name: str) -> File:
    paths = (f"snli_1.0/snli_1.0_{name}.jsonl", f"snli/snli_1.0_{name}.jsonl", f"snli/{name}.jsonl", f"hub/snli/{name}.jsonl")
    return File(nli_jsonl(f"snli-{name}", LABELS), paths, only="en")


TRAIN, DEV, TEST = _file("train"), _file("dev"), _file("test")

TASK = Task(
    name="snli",
    kind="classify",
    about="does a sentence follow from an image caption, contradict it, or neither (English)",
    languages=("en",),
    source=Files({"train": (TRAIN,), "dev": (DEV,), "test": (TEST,)}, GET),
    metrics=("accuracy",),
    labels=LABELS,
    wording=WORDING,
    pool=("snli",),
    apart=(("xnli", "dev"), ("xnli", "test")),
    chance=100 / 3,
    citation="""@inproceedings{bowman-etal-2015-large,
  title = {A large annotated corpus for learning natural language inference},
  author = {Bowman, Samuel R. and Angeli, Gabor and Potts, Christopher and Manning, Christopher D.},
  booktitle = {Proceedings of EMNLP 2015},
  year = {2015},
  url = {https://aclanthology.org/D15-1075},
}""",
    licence="CC BY-SA 4.0",
    homepage="https://nlp.stanford.edu/projects/snli/",
    sizes={"train-en": 549_367, "dev-en": 9_842, "test-en": 9_824},  # rows with a label that the annotators agree on
    get=GET,
    hub=Hub(
        "stanfordnlp/snli",
        "cdb5c3d5eed6ead6e5a341c8e56e669bb666725b",
        english("plain_text", "hub/snli/{split}.jsonl", ("label",), train="train", dev="validation", test="test"),
    ),
)
