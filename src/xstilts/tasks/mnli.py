"""MultiNLI: English sentence pairs of ten genres, three-way entailment."""

from xstilts.readers import nli_jsonl, pairs_tsv
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Table, Task, Wording

LABELS = ("entailment", "neutral", "contradiction")
WORDING = Wording(  # the mT5 paper's code has the numbers of the labels; GPT-3's has the question (Brown et al. 2020, appendix G)
    "xnli: premise: {first} hypothesis: {second}",
    ("0", "1", "2"),
    "{first}\nQuestion: {second} True, False, or Neither?\nAnswer:",
    ("True", "Neither", "False"),
)
GET = "Get multinli_1.0.zip from https://cims.nyu.edu/~sbowman/multinli/ and unpack it into the data folder as multinli_1.0/."


def _file(name: str, other: str, otherwise: File | None = None) -> File:
    paths = (f"multinli_1.0/multinli_1.0_{name}.jsonl", f"mnli/multinli_1.0_{name}.jsonl", other)
    return File(nli_jsonl(f"mnli-{name}", LABELS), (*paths, f"hub/mnli/{name}.jsonl"), otherwise, only="en")


# XTREME's scripts lay the training set out as a tsv of XNLI's
_TSV = File(pairs_tsv("mnli-train", LABELS), ("xnli/train-en.tsv", "mnli/train-en.tsv"), only="en")
TRAIN = _file("train", "mnli/train.jsonl", _TSV)
DEV = _file("dev_matched", "mnli/dev.jsonl")
DEV_MISMATCHED = _file("dev_mismatched", "mnli/dev_mismatched.jsonl")

_COLUMNS = tuple((name, name) for name in ("premise", "hypothesis", "label"))

TASK = Task(
    name="mnli",
    kind="classify",
    about="does the first sentence entail the second, contradict it, or neither (ten genres of English)",
    languages=("en",),
    source=Files(
        {"train": (TRAIN,), "dev": (DEV,), "dev_mismatched": (DEV_MISMATCHED,)},
        GET,
    ),
    metrics=("accuracy",),
    labels=LABELS,
    wording=WORDING,
    parts=Parts("train", "dev", "dev_mismatched"),
    pool=("mnli",),
    apart=(("xnli", "dev"), ("xnli", "test")),
    chance=100 / 3,
    citation="""@inproceedings{williams-etal-2018-broad,
  title = {A Broad-Coverage Challenge Corpus for Sentence Understanding through Inference},
  author = {Williams, Adina and Nangia, Nikita and Bowman, Samuel},
  booktitle = {Proceedings of NAACL-HLT 2018},
  year = {2018},
  url = {https://aclanthology.org/N18-1101},
}""",
    licence="OANC and other licences, a section each (see the data set's paper)",
    homepage="https://cims.nyu.edu/~sbowman/multinli/",
    sizes={"train-en": 392_702, "dev-en": 9_815, "dev_mismatched-en": 9_832},
    get=GET,
    hub=Hub(
        "nyu-mll/multi_nli",
        "da70db2af9d09693783c3320c4249840212ee221",
        {
            split: (Table("default", theirs, f"hub/mnli/{ours}.jsonl", _COLUMNS, named=("label",), only="en"),)
            for split, theirs, ours in (
                ("train", "train", "train"),
                ("dev", "validation_matched", "dev_matched"),
                ("dev_mismatched", "validation_mismatched", "dev_mismatched"),
            )
        },
    ),
)
