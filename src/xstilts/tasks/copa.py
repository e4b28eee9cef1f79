"""COPA: which of two sentences is the cause, or the effect, of a third (English)."""

from xstilts.readers import copa_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Task, english

GET = "Get COPA.zip of SuperGLUE (https://super.gluebenchmark.com/tasks) and unpack it into the data folder as COPA/."


def _file(split: str) -> File:
    names = (f"COPA/{split}.jsonl", f"copa/{split}-en.jsonl", f"xcopa/{split}.en.jsonl", f"hub/copa/{split}.jsonl")
    return File(copa_jsonl(split), names, only="en")


TRAIN, VAL = _file("train"), _file("val")

TASK = Task(
    name="copa",
    kind="choose",
    about="the likelier cause or effect, two options (English)",
    languages=("en",),
    source=Files({"train": (TRAIN,), "val": (VAL,)}, GET),
    metrics=("accuracy",),
    parts=Parts("train", "val", ""),  # SuperGLUE keeps the test labels
    pool=("copa",),
    chance=50.0,
    citation="""@inproceedings{roemmele-etal-2011-choice,
  title = {Choice of Plausible Alternatives: An Evaluation of Commonsense Causal Reasoning},
  author = {Roemmele, Melissa and Bejan, Cosmin Adrian and Gordon, Andrew S.},
  booktitle = {AAAI Spring Symposium: Logical Formalizations of Commonsense Reasoning},
  year = {2011},
  url = {https://people.ict.usc.edu/~gordon/publications/AAAI-SPRING11A.PDF},
}""",
    licence="BSD 2-Clause",
    homepage="https://people.ict.usc.edu/~gordon/copa.html",
    sizes={"train-en": 400, "val-en": 100},
    get=GET,
    hub=Hub(
        "aps/super_glue",
        "3de24cf8022e94f4ee4b9d55a6f539891524d646",
        english("copa", "hub/copa/{split}.jsonl", train="train", val="validation"),
    ),
)
