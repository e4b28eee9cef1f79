"""HellaSwag: which of four sentences goes on from here (English), wrong ones picked to deceive models."""

from xstilts.readers import hellaswag_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Task, english

GET = "Get hellaswag_train.jsonl and hellaswag_val.jsonl from https://github.com/rowanz/hellaswag and put them into hellaswag/."


def _file(name: str) -> File:
    paths = tuple(f"{folder}/hellaswag_{name}.jsonl" for folder in ("hellaswag", "hellaswag/data", "hub/hellaswag"))
    return File(hellaswag_jsonl(name), paths, only="en")


TASK = Task(
    name="hellaswag",
    kind="choose",
    about="which of four endings continues a caption or a how-to text (English)",
    languages=("en",),
    source=Files(
        {
            "train": (_file("train"),),
            "val": (_file("val"),),
            "val_subset": (_file("val_subset_a"), _file("val_subset_b")),  # 2,000 rows of val
        },
        GET,
    ),
    metrics=("accuracy",),
    parts=Parts("train", "val", ""),  # the test labels are not public
    pool=("hellaswag",),
    chance=25.0,
    citation="""@inproceedings{zellers-etal-2019-hellaswag,
  title = {{H}ella{S}wag: Can a Machine Really Finish Your Sentence?},
  author = {Zellers, Rowan and Holtzman, Ari and Bisk, Yonatan and Farhadi, Ali and Choi, Yejin},
  booktitle = {Proceedings of ACL 2019},
  year = {2019},
  url = {https://aclanthology.org/P19-1472},
}""",
    licence="MIT",
    homepage="https://rowanzellers.com/hellaswag/",
    sizes={"train-en": 39_905, "val-en": 10_042},
    get=GET,
    hub=Hub(
        "Rowan/hellaswag",
        "218ec52e09a7e7462a5400043bb9a69a41d06b76",
        english("default", "hub/hellaswag/hellaswag_{split}.jsonl", train="train", val="validation"),
    ),
)
