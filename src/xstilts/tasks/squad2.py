"""SQuAD v2.0: SQuAD v1.1 and questions that their paragraph does not answer."""

from xstilts.readers import squad_json, squad_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Table, Task

GET = "Get train-v2.0.json and dev-v2.0.json from https://rajpurkar.github.io/SQuAD-explorer/ and put them into squad/."


def _file(split: str) -> File:
    hub = File(squad_jsonl(no_answer=True), (f"hub/squad2/{split}.jsonl",), only="en")
    return File(squad_json(no_answer=True), (f"squad/{split}-v2.0.json", f"squad2.0/{split}-v2.0.json"), hub, only="en")


TASK = Task(
    name="squad2",
    kind="span",
    about="SQuAD with questions that the paragraph does not answer",
    languages=("en",),
    source=Files(
        {"train": (_file("train"),), "official_dev": (_file("dev"),)},  # scoring only: see squad.py
        GET,
        test_only=("official_dev",),
    ),
    metrics=("f1", "exact_match"),
    parts=Parts("train", "train", "official_dev"),
    pool=("squad",),
    no_answer=True,
    citation="""@inproceedings{rajpurkar-etal-2018-know,
  title = {Know What You Don't Know: Unanswerable Questions for {SQ}u{AD}},
  author = {Rajpurkar, Pranav and Jia, Robin and Liang, Percy},
  booktitle = {Proceedings of ACL 2018},
  year = {2018},
  url = {https://aclanthology.org/P18-2124},
}""",
    licence="CC BY-SA 4.0",
    homepage="https://rajpurkar.github.io/SQuAD-explorer/",
    sizes={"train-en": 130_319, "official_dev-en": 11_873},
    get=GET,
    hub=Hub(
        "rajpurkar/squad_v2",
        "3ffb306f725f7d2ce8394bc1873b24868140c412",
        {
            split: (Table("squad_v2", theirs, f"hub/squad2/{ours}.jsonl", only="en"),)
            for split, theirs, ours in (("train", "train", "train"), ("official_dev", "validation", "dev"))
        },
    ),
)
