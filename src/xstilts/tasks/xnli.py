"""XNLI: 7,500 English pairs in MultiNLI's manner, translated by people into 14 languages; trained on MultiNLI."""

from xstilts.languages import codes
from xstilts.readers import nli_jsonl, pairs_tsv, xnli_release
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Table, Task
from xstilts.tasks import mnli, snli

GET = (
    "Get XNLI-1.0.zip from https://cims.nyu.edu/~sbowman/xnli/ and unpack it into the data folder as XNLI-1.0/ "
    "(XTREME's test-*.tsv have no labels); training rows: " + mnli.GET
)
LANGUAGES = codes("en ar bg de el es fr hi ru sw th tr ur vi zh")


def _file(split: str) -> File:
    hub = File(nli_jsonl(split, mnli.LABELS, runs=True), (f"hub/xnli/{split}-{{language}}.jsonl",))
    release = File(xnli_release(split, mnli.LABELS), (f"XNLI-1.0/xnli.{split}.tsv", f"xnli/xnli.{split}.tsv"), otherwise=hub)
    return File(pairs_tsv(split, mnli.LABELS, runs=True), (f"xnli/{split}-{{language}}.tsv",), otherwise=release)


TASK = Task(
    name="xnli",
    kind="classify",
    about="three-way entailment, the same 5,010 test pairs in 15 languages",
    languages=LANGUAGES,
    source=Files(
        {
            "train": (mnli.TRAIN,),
            "nli_dev": (mnli.DEV, snli.DEV),  # a training pool where the official one is not at hand
            "dev": (_file("dev"),),
            "test": (_file("test"),),
        },
        GET,
    ),
    metrics=("accuracy",),
    labels=mnli.LABELS,
    wording=mnli.WORDING,
    parts=Parts("train", "dev", "test"),
    parallel=True,
    pool=("mnli", "snli"),
    chance=100 / 3,
    citation="""@inproceedings{conneau-etal-2018-xnli,
  title = {{XNLI}: Evaluating Cross-lingual Sentence Representations},
  author = {Conneau, Alexis and Rinott, Ruty and Lample, Guillaume and Williams, Adina and Bowman, Samuel R.
            and Schwenk, Holger and Stoyanov, Veselin},
  booktitle = {Proceedings of EMNLP 2018},
  year = {2018},
  url = {https://aclanthology.org/D18-1269},
}""",
    licence="CC BY-NC 4.0",
    homepage="https://github.com/facebookresearch/XNLI",
    sizes={"train-en": 392_702} | {f"{split}-{code}": n for split, n in (("dev", 2_490), ("test", 5_010)) for code in LANGUAGES},
    get=GET,
    hub=Hub(
        "facebook/xnli",
        "b8dd5d7af51114dbda02c0e3f6133f332186418e",
        {
            split: (Table("{language}", theirs, f"hub/xnli/{split}-{{language}}.jsonl", named=("label",)),)
            for split, theirs in (("dev", "validation"), ("test", "test"))
        },
    ),
)
