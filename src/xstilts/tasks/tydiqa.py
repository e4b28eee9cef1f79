"""TyDiQA-GoldP: questions that people asked in their own language, with the passage that answers them."""

from xstilts.languages import codes
from xstilts.readers import squad_json, squad_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Table, Task

GET = (
    "Get tydiqa-goldp-v1.1-train.json and tydiqa-goldp-v1.1-dev.tgz from https://github.com/google-research-datasets/tydiqa "
    "and unpack them into tydiqa/ (XTREME's scripts blank the answers of the dev files)."
)


def _hub(split: str) -> File:
    return File(squad_jsonl(), (f"hub/tydiqa/{split}-{{language}}.jsonl",))


_MIXED = File(
    squad_json(repeated_ids=True, by_language=True),
    ("tydiqa/tydiqa-goldp-v1.1-train/tydiqa-goldp-v1.1-train.json", "tydiqa/tydiqa-goldp-v1.1-train.json"),
    otherwise=_hub("train"),
)
_READ = squad_json(repeated_ids=True)
_TRAIN = File(_READ, ("tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{language}.train.json",), otherwise=_MIXED)
_DEV = "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa"
_TEST = File(_READ, (f"{_DEV}-goldp-dev-{{english}}.json", f"{_DEV}.goldp.{{language}}.dev.json"), otherwise=_hub("dev"))

_SCORED = {"ar": 921, "bn": 113, "en": 440, "fi": 782, "id": 565, "ko": 276, "ru": 812, "sw": 499, "te": 669}

TASK = Task(
    name="tydiqa",
    kind="span",
    about="extractive question answering, questions asked in the language itself",
    languages=codes("en ar bn fi id ko ru sw te"),
    # Scored on the official dev set; selection takes whole passages out of the English training set.
    source=Files({"train": (_TRAIN,), "dev": (_TEST,)}, GET),
    metrics=("f1", "exact_match"),
    parts=Parts("train", "train", "dev"),
    pool=("tydiqa",),
    citation="""@article{clark-etal-2020-tydi,
  title = {{T}y{D}i {QA}: A Benchmark for Information-Seeking Question Answering in Typologically Diverse Languages},
  author = {Clark, Jonathan H. and Choi, Eunsol and Collins, Michael and Garrette, Dan and Kwiatkowski, Tom
            and Nikolaev, Vitaly and Palomaki, Jennimaria},
  journal = {Transactions of the Association for Computational Linguistics},
  year = {2020},
  url = {https://aclanthology.org/2020.tacl-1.30},
}""",
    licence="Apache 2.0 (Wikipedia text: CC BY-SA 3.0)",
    homepage="https://github.com/google-research-datasets/tydiqa",
    sizes={
        "train-en": 3_696,
        "train-ko": 1_625,
        **{f"dev-{code}": count for code, count in _SCORED.items()},
    },
    get=GET,
    hub=Hub(
        "google-research-datasets/tydiqa",
        "da78f23f9119363459acbaf46bf89426ff26c259",
        {
            split: (Table("secondary_task", theirs, f"hub/tydiqa/{split}-{{language}}.jsonl", prefix="{english}-"),)
            for split, theirs in (("train", "train"), ("dev", "validation"))
        },
    ),
)
