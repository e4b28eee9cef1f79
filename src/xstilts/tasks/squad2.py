"""SQuAD v2.0: SQuAD v1.1 and questions that their paragraph does not answer."""

from xstilts.readers import squad_json
from xstilts.sources import File, Files
from xstilts.task import Parts, Task

GET = "Get train-v2.0.json and dev-v2.0.json from https://rajpurkar.github.io/SQuAD-explorer/ and put them into squad/."
READ = squad_json(no_answer=True)

TASK = Task(
    name="squad2",
    kind="span",
    about="SQuAD with questions that the paragraph does not answer",
    languages=("en",),
    source=Files(
        {
            "train": (File(READ, ("squad/train-v2.0.json", "squad2.0/train-v2.0.json"), only="en"),),
            "official_dev": (
                File(READ, ("squad/dev-v2.0.json", "squad2.0/dev-v2.0.json"), only="en"),
            ),  # scoring only: see squad.py
        },
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
)
