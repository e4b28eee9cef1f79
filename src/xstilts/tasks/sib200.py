"""SIB-200: the topic of a sentence of FLORES, parallel in some 200 languages; here those that this package knows."""

from xstilts.languages import codes
from xstilts.readers import topics_tsv
from xstilts.sources import File, Files
from xstilts.task import Task

LABELS = ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography")
LANGUAGES = codes("en af ar bn de el es eu fa fi fr ha hi ht hu id it ja kk ko lt ml mr ms nl pl pt ro ru sw ta tl tr uk ur vi yo zh")
GET = "Get data/annotated of https://github.com/dadelani/sib-200 and put it into the data folder as sib200/data/annotated/."


def _file(split: str) -> File:
    return File(topics_tsv(split, LABELS), (f"sib200/data/annotated/{{flores}}/{split}.tsv",))


TASK = Task(
    name="sib200",
    kind="classify",
    about="which of seven topics a sentence is about, the same sentences in every language",
    languages=LANGUAGES,
    source=Files({split: (_file(split),) for split in ("train", "dev", "test")}, GET),
    metrics=("accuracy",),
    labels=LABELS,
    parallel=True,
    pool=("sib200",),
    chance=100 / 7,
    citation="""@inproceedings{adelani-etal-2024-sib,
  title = {{SIB}-200: A Simple, Inclusive, and Big Evaluation Dataset for Topic Classification in 200+ Languages and Dialects},
  author = {Adelani, David Ifeoluwa and Liu, Hannah and Shen, Xiaoyu and Vassilyev, Nikita and Alabi, Jesujoba O. and Mao, Yanke
            and Gao, Haonan and Lee, En-Shiun Annie},
  booktitle = {Proceedings of EACL 2024},
  year = {2024},
  url = {https://aclanthology.org/2024.eacl-long.14},
}""",
    licence="Apache 2.0 (the repository's); text of FLORES: CC BY-SA 4.0",
    homepage="https://github.com/dadelani/sib-200",
    sizes={f"{split}-{code}": n for split, n in (("train", 701), ("dev", 99), ("test", 204)) for code in LANGUAGES},
    get=GET,
)
