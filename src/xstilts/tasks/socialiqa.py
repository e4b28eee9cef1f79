"""SocialIQA: questions on what people do and feel (English); one of three options is right. XTREME-R trains on it before COPA."""

from xstilts.readers import socialiqa_jsonl
from xstilts.sources import File, Files
from xstilts.task import Parts, Task

GET = (
    "Get socialIQa_v1.4.tgz (labels inside) from https://maartensap.com/social-iqa/ and put its jsonl files into socialiqa/, or "
    "unpack socialiqa-train-dev.zip (labels beside) there."
)


def _file(split: str, name: str) -> File:
    apart = File(socialiqa_jsonl(split, f"{name}-labels.lst"), _paths(f"{name}.jsonl"), only="en", beside=(f"{name}-labels.lst",))
    return File(socialiqa_jsonl(split), _paths(f"socialIQa_v1.4_{split}.jsonl"), apart, only="en")


def _paths(name: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for folder in ("socialiqa", "siqa", "socialiqa/socialiqa-train-dev"))


TASK = Task(
    name="socialiqa",
    kind="choose",
    about="what people want, do and feel in social situations, three options (English)",
    languages=("en",),
    source=Files({"trn": (_file("trn", "train"),), "dev": (_file("dev", "dev"),), "tst": (_file("tst", "test"),)}, GET),
    metrics=("accuracy",),
    parts=Parts("trn", "dev", "tst"),
    pool=("socialiqa",),
    chance=100 / 3,
    citation="""@inproceedings{sap-etal-2019-social,
  title = {Social {IQ}a: Commonsense Reasoning about Social Interactions},
  author = {Sap, Maarten and Rashkin, Hannah and Chen, Derek and Le Bras, Ronan and Choi, Yejin},
  booktitle = {Proceedings of EMNLP-IJCNLP 2019},
  year = {2019},
  url = {https://aclanthology.org/D19-1454},
}""",
    licence="CC BY 4.0",
    homepage="https://maartensap.com/social-iqa/",
    sizes={"trn-en": 33_410, "dev-en": 1_954, "tst-en": 2_224},
    get=GET,
)
