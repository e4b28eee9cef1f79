"""ANLI: English premises and hypotheses that people wrote to deceive models, in three rounds; three-way entailment."""

from xstilts.readers import nli_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Table, Task
from xstilts.tasks.mnli import LABELS, WORDING

GET = "Get anli_v1.0.zip from https://github.com/facebookresearch/anli and unpack it into the data folder as anli_v1.0/."
_SHORT = {"e": "entailment", "n": "neutral", "c": "contradiction"}
_ROUNDS = ("R1", "R2", "R3")


def _files(split: str) -> tuple[File, ...]:
    def one(part: str) -> File:
        paths = tuple(f"{place}/{part}/{split}.jsonl" for place in ("anli_v1.0", "anli"))
        hub = f"hub/anli/{split}_{part.lower()}.jsonl"
        return File(nli_jsonl(f"anli-{part}-{split}", LABELS, _SHORT), (*paths, hub), only="en")

    return tuple(one(part) for part in _ROUNDS)


TRAIN, DEV, TEST = _files("train"), _files("dev"), _files("test")
TOGETHER = File(nli_jsonl("anli-test", LABELS), ("anli/test.jsonl",), only="en")  # the three test sets as one file

TASK = Task(
    name="anli",
    kind="classify",
    about="three-way entailment, written to deceive models (English)",
    languages=("en",),
    source=Files({"train": TRAIN, "dev": DEV, "test": TEST, "test_together": (TOGETHER,)}, GET),
    metrics=("accuracy",),
    labels=LABELS,
    wording=WORDING,
    pool=("anli",),
    apart=(("xnli", "dev"), ("xnli", "test")),
    chance=100 / 3,
    citation="""@inproceedings{nie-etal-2020-adversarial,
  title = {Adversarial {NLI}: A New Benchmark for Natural Language Understanding},
  author = {Nie, Yixin and Williams, Adina and Dinan, Emily and Bansal, Mohit and Weston, Jason and Kiela, Douwe},
  booktitle = {Proceedings of ACL 2020},
  year = {2020},
  url = {https://aclanthology.org/2020.acl-main.441},
}""",
    licence="CC BY-NC 4.0",
    homepage="https://github.com/facebookresearch/anli",
    sizes={"train-en": 162_865, "dev-en": 3_200, "test-en": 3_200, "test_together-en": 3_200},
    get=GET,
    hub=Hub(
        "facebook/anli",
        "8e4813d81f46d313dac7892e1c28076917cfcdf9",
        {
            split: tuple(
                Table("plain_text", f"{split}_{r.lower()}", f"hub/anli/{split}_{r.lower()}.jsonl", named=("label",), only="en")
                for r in _ROUNDS
            )
            for split in ("train", "dev", "test")
        },
    ),
)
