"""MLQA: questions on Wikipedia paragraphs of seven languages, aligned by what they say; trained on SQuAD v1.1."""

from xstilts.languages import codes
from xstilts.readers import grouped_as_in, squad_json
from xstilts.sources import File, Files
from xstilts.task import Parts, Task
from xstilts.tasks import squad

GET = (
    "Get MLQA_V1.zip from https://github.com/facebookresearch/MLQA and unpack it into the data folder as MLQA_V1/ "
    f"(XTREME's scripts blank the answers). Training rows: {squad.GET}"
)
LANGUAGES = codes("en ar de es hi vi zh")
_TEST = {"en": 11_590, "ar": 5_335, "de": 4_517, "es": 5_253, "hi": 4_918, "vi": 5_495, "zh": 5_137}


def _file(split: str) -> File:
    # Titles are in each file's own language; the English file has every question, so its titles are the groups.
    english = f"{split}-context-en-question-en.json"
    name = f"{split}/{split}-context-{{language}}-question-{{language}}.json"
    return File(grouped_as_in(english, squad_json()), (f"MLQA_V1/{name}", f"mlqa/MLQA_V1/{name}"), beside=(english,))


TASK = Task(
    name="mlqa",
    kind="span",
    about="extractive question answering, paragraphs and questions in one language, every question in English too",
    languages=LANGUAGES,
    source=Files({"train": (squad.TRAIN,), "dev": (_file("dev"),), "test": (_file("test"),)}, GET),
    metrics=("f1", "exact_match"),
    answer_style="mlqa",
    parts=Parts("train", "train", "test"),
    pool=("squad",),
    citation="""@inproceedings{lewis-etal-2020-mlqa,
  title = {{MLQA}: Evaluating Cross-lingual Extractive Question Answering},
  author = {Lewis, Patrick and Oguz, Barlas and Rinott, Ruty and Riedel, Sebastian and Schwenk, Holger},
  booktitle = {Proceedings of ACL 2020},
  year = {2020},
  url = {https://aclanthology.org/2020.acl-main.653},
}""",
    licence="CC BY-SA 3.0",
    homepage="https://github.com/facebookresearch/MLQA",
    sizes={"train-en": 87_599} | {f"test-{code}": n for code, n in _TEST.items()},
    get=GET,
)
