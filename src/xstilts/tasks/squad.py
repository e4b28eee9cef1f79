"""SQuAD v1.1: questions on English Wikipedia paragraphs, the answer is a span of the paragraph."""

from xstilts.readers import squad_json, squad_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Table, Task

GET = "Get train-v1.1.json and dev-v1.1.json from https://rajpurkar.github.io/SQuAD-explorer/ and put them into squad/."


def _file(split: str) -> File:
    hub = File(squad_jsonl(), (f"hub/squad/{split}.jsonl",), only="en")
    return File(squad_json(), (f"squad/{split}-v1.1.json", f"squad1.1/{split}-v1.1.json"), hub, only="en")


TRAIN, DEV = _file("train"), _file("dev")

TASK = Task(
    name="squad",
    kind="span",
    about="questions on English Wikipedia paragraphs, answered by a span of the paragraph",
    languages=("en",),
    source=Files(
        # XQuAD and LAReQA are translations of 240 paragraphs of the official dev set: it serves for scoring only,
        # and selection takes whole articles out of the training set.
        {"train": (TRAIN,), "official_dev": (DEV,)},
        GET,
        test_only=("official_dev",),
    ),
    metrics=("f1", "exact_match"),
    parts=Parts("train", "train", "official_dev"),
    pool=("squad",),
    citation="""@inproceedings{rajpurkar-etal-2016-squad,
  title = {{SQ}u{AD}: 100,000+ Questions for Machine Comprehension of Text},
  author = {Rajpurkar, Pranav and Zhang, Jian and Lopyrev, Konstantin and Liang, Percy},
  booktitle = {Proceedings of EMNLP 2016},
  year = {2016},
  url = {https://aclanthology.org/D16-1264},
}""",
    licence="CC BY-SA 4.0",
    homepage="https://rajpurkar.github.io/SQuAD-explorer/",
    sizes={"train-en": 87_599, "official_dev-en": 10_570},
    get=GET,
    hub=Hub(
        "rajpurkar/squad",
        "7b6d24c440a36b6815f21b70d25016731768db1f",
        {
            split: (Table("plain_text", theirs, f"hub/squad/{ours}.jsonl", only="en"),)
            for split, theirs, ours in (("train", "train", "train"), ("official_dev", "validation", "dev"))
        },
    ),
)
