"""MRPC: pairs of sentences from English news, paraphrases or not."""

from xstilts.readers import headed_tsv
from xstilts.sources import File, Files
from xstilts.task import Parts, Task, Wording

LABELS = ("0", "1")  # 1: paraphrase
GET = (
    "Get the Microsoft Research Paraphrase Corpus from https://www.microsoft.com/en-us/download/details.aspx?id=52398, or data/para/msr of "
    "https://github.com/brmson/dataset-sts, and put msr-para-train.tsv, msr-para-val.tsv and msr-para-test.tsv into mrpc/."
)


def _file(split: str) -> File:
    read = headed_tsv(split, ("#1 String", "#2 String", "Quality"), dict(zip(LABELS, LABELS, strict=True)))
    return File(read, (f"mrpc/msr-para-{split}.tsv",), only="en")


TASK = Task(
    name="mrpc",
    kind="classify",
    about="do two sentences of news mean the same (English)",
    languages=("en",),
    source=Files({split: (_file(split),) for split in ("train", "val", "test")}, GET),
    metrics=("accuracy",),
    labels=LABELS,
    wording=Wording(
        "mrpc sentence1: {first} sentence2: {second}",
        ("not_equivalent", "equivalent"),
        "Sentence 1: {first}\nSentence 2: {second}\nQuestion: Do the two mean the same, Yes or No?\nAnswer:",
        ("No", "Yes"),
    ),
    parts=Parts("train", "val", "test"),
    pool=("mrpc",),
    chance=50.0,
    citation="""@inproceedings{dolan-brockett-2005-automatically,
  title = {Automatically Constructing a Corpus of Sentential Paraphrases},
  author = {Dolan, William B. and Brockett, Chris},
  booktitle = {Proceedings of the Third International Workshop on Paraphrasing},
  year = {2005},
  url = {https://aclanthology.org/I05-5002},
}""",
    licence="Microsoft Research's terms (LICENCE.html beside the files)",
    homepage="https://www.microsoft.com/en-us/download/details.aspx?id=52398",
    sizes={"train-en": 3_576, "val-en": 500, "test-en": 1_725},
    get=GET,
)
