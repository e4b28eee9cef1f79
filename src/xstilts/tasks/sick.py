"""SICK: pairs of plain English sentences made from captions, three-way entailment."""

from xstilts.readers import headed_tsv
from xstilts.sources import File, Files
from xstilts.task import Parts, Task
from xstilts.tasks.mnli import LABELS, WORDING

GET = "Get SICK_train.txt, SICK_trial.txt and SICK_test_annotated.txt from https://zenodo.org/record/2787612 and put them into sick/."


def _file(split: str, name: str) -> File:
    labels = {label.upper(): label for label in LABELS}
    read = headed_tsv(split, ("sentence_A", "sentence_B", "entailment_judgment"), labels)
    return File(read, (f"sick/{name}.txt",), only="en")


TASK = Task(
    name="sick",
    kind="classify",
    about="three-way entailment of plain sentences (English)",
    languages=("en",),
    source=Files(
        {
            "train": (_file("train", "SICK_train"),),
            "trial": (_file("trial", "SICK_trial"),),
            "test": (_file("test", "SICK_test_annotated"),),
        },
        GET,
    ),
    metrics=("accuracy",),
    labels=LABELS,
    wording=WORDING,
    parts=Parts("train", "trial", "test"),
    pool=("sick",),
    chance=100 / 3,
    citation="""@inproceedings{marelli-etal-2014-sick,
  title = {A {SICK} cure for the evaluation of compositional distributional semantic models},
  author = {Marelli, Marco and Menini, Stefano and Baroni, Marco and Bentivogli, Luisa and Bernardi, Raffaella and Zamparelli, Roberto},
  booktitle = {Proceedings of LREC 2014},
  year = {2014},
}""",
    licence="CC BY-NC-SA 3.0",
    homepage="https://zenodo.org/record/2787612",
    sizes={"train-en": 4_500, "trial-en": 500, "test-en": 4_927},
    get=GET,
)
