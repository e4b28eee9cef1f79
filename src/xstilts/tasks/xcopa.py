"""XCOPA: COPA translated by people into eleven languages; trained on COPA (XTREME-R: on SocialIQA first). No English test labels."""

from xstilts.languages import codes
from xstilts.readers import copa_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Table, Task
from xstilts.tasks import copa

GET = f"Get data/ of https://github.com/cambridgeltl/xcopa and put it into xcopa/. Training rows: {copa.GET}"
LANGUAGES = codes("et ht id it qu sw ta th tr vi zh")


def _file(split: str) -> File:
    names = (f"xcopa/data/{{language}}/{split}.{{language}}.jsonl", f"xcopa/{split}.{{language}}.jsonl")
    return File(copa_jsonl(split), (*names, f"hub/xcopa/{split}-{{language}}.jsonl"))


TASK = Task(
    name="xcopa",
    kind="choose",
    about="the likelier cause or effect, the same 500 test items in eleven languages without English",
    languages=LANGUAGES,
    source=Files({"train": (copa.TRAIN,), "copa_val": (copa.VAL,), "val": (_file("val"),), "test": (_file("test"),)}, GET),
    metrics=("accuracy",),
    parts=Parts("train", "copa_val", "test"),
    parallel=True,
    pool=("copa",),
    chance=50.0,
    citation="""@inproceedings{ponti-etal-2020-xcopa,
  title = {{XCOPA}: A Multilingual Dataset for Causal Commonsense Reasoning},
  author = {Ponti, Edoardo Maria and Glava{\\v{s}}, Goran and Majewska, Olga and Liu, Qianchu and Vuli{\\'c}, Ivan
            and Korhonen, Anna},
  booktitle = {Proceedings of EMNLP 2020},
  year = {2020},
  url = {https://aclanthology.org/2020.emnlp-main.185},
}""",
    licence="CC BY 4.0",
    homepage="https://github.com/cambridgeltl/xcopa",
    sizes={"train-en": 400, "copa_val-en": 100}
    | {f"{split}-{code}": n for split, n in (("val", 100), ("test", 500)) for code in LANGUAGES},
    get=GET,
    hub=Hub(
        "cambridgeltl/xcopa",
        "042f78955ba48e6404616762fa6e05e839c3907a",
        {
            split: (Table("{language}", theirs, f"hub/xcopa/{split}-{{language}}.jsonl"),)
            for split, theirs in (("val", "validation"), ("test", "test"))
        },
    ),
)
