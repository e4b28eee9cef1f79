"""e-CARE: which of two English sentences is the cause, or the effect, of a third; larger than COPA and asked like it."""

from xstilts.readers import ecare_jsonl
from xstilts.sources import File, Files
from xstilts.task import Parts, Task

GET = "Get dataset/Causal_Reasoning of https://github.com/Waste-Wood/e-CARE and put it into ecare/."


def _file(split: str) -> File:
    return File(ecare_jsonl(split), (f"ecare/Causal_Reasoning/{split}.jsonl",), only="en")


TASK = Task(
    name="ecare",
    kind="choose",
    about="the likelier cause or effect, two options, from sentences of common knowledge (English)",
    languages=("en",),
    source=Files({"train": (_file("train"),), "dev": (_file("dev"),)}, GET),
    metrics=("accuracy",),
    parts=Parts("train", "dev", ""),  # the test labels are not public
    pool=("ecare",),
    chance=50.0,
    citation="""@inproceedings{du-etal-2022-e,
  title = {e-{CARE}: a New Dataset for Exploring Explainable Causal Reasoning},
  author = {Du, Li and Ding, Xiao and Xiong, Kai and Liu, Ting and Qin, Bing},
  booktitle = {Proceedings of ACL 2022},
  year = {2022},
  url = {https://aclanthology.org/2022.acl-long.33},
}""",
    licence="MIT",
    homepage="https://github.com/Waste-Wood/e-CARE",
    sizes={"train-en": 14_928, "dev-en": 2_132},
    get=GET,
)
