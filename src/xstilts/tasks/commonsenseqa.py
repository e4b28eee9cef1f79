"""CommonsenseQA: English questions made from ConceptNet; one of five options is right."""

from xstilts.readers import commonsenseqa_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Task, english

GET = "Get train_rand_split.jsonl and dev_rand_split.jsonl from https://www.tau-nlp.org/commonsenseqa and put them into commonsenseqa/."


def _file(split: str) -> File:
    return File(commonsenseqa_jsonl(split), (f"commonsenseqa/{split}_rand_split.jsonl", f"hub/commonsenseqa/{split}.jsonl"), only="en")


TASK = Task(
    name="commonsenseqa",
    kind="choose",
    about="questions of common sense without a context, five options (English)",
    languages=("en",),
    source=Files({"train": (_file("train"),), "dev": (_file("dev"),)}, GET),
    metrics=("accuracy",),
    parts=Parts("train", "dev", ""),  # the test labels are not public
    pool=("commonsenseqa",),
    chance=20.0,
    citation="""@inproceedings{talmor-etal-2019-commonsenseqa,
  title = {{C}ommonsense{QA}: A Question Answering Challenge Targeting Commonsense Knowledge},
  author = {Talmor, Alon and Herzig, Jonathan and Lourie, Nicholas and Berant, Jonathan},
  booktitle = {Proceedings of NAACL-HLT 2019},
  year = {2019},
  url = {https://aclanthology.org/N19-1421},
}""",
    licence="MIT (as the hub's card says)",
    homepage="https://www.tau-nlp.org/commonsenseqa",
    sizes={"train-en": 9_741, "dev-en": 1_221},
    get=GET,
    hub=Hub(
        "tau/commonsense_qa",
        "94630fe30dad47192a8546eb75f094926d47e155",
        english("default", "hub/commonsenseqa/{split}.jsonl", train="train", dev="validation"),
    ),
)
