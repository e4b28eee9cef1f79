"""Tatoeba: find the translation of an English sentence among up to 1,000 sentences of another language; no training rows."""

from xstilts.languages import codes
from xstilts.readers import tatoeba_candidates, tatoeba_queries
from xstilts.sources import File, Files
from xstilts.task import Parts, Task

XTREME = codes("af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr nl pt ru sw ta te th tl tr ur vi zh")
XTREME_R = codes("az lt pl ro uk")  # added there
GET = "Get data/tatoeba/v1 of https://github.com/facebookresearch/LASER and put it into the data folder as tatoeba/v1/."
_NAMES = tuple(f"{folder}/tatoeba.{{iso3}}-eng." for folder in ("tatoeba/v1", "tatoeba", "LASER/data/tatoeba/v1"))
# counted in the release, where it was at hand
_SIZES = dict.fromkeys(codes("af ar bg bn de el es fa fr he hi hu id it ja lt nl pl pt ro ru tr vi zh"), 1_000)
_SIZES |= {"sw": 390, "ta": 307, "th": 548}

TASK = Task(
    name="tatoeba",
    kind="retrieve",
    about="the translation of an English sentence among all sentences of another language",
    languages=(*XTREME, *XTREME_R),
    source=Files(
        {
            "test": (
                File(tatoeba_queries, tuple(f"{name}eng" for name in _NAMES)),
                File(tatoeba_candidates, tuple(f"{name}{{iso3}}" for name in _NAMES)),
            )
        },
        GET,
    ),
    metrics=("accuracy",),
    parts=Parts("", "", "test"),
    chance=0.1,  # 1 of 1,000; fewer candidates in a few languages. Not parallel: the English sentences differ
    citation="""@article{artetxe-schwenk-2019-massively,
  title = {Massively Multilingual Sentence Embeddings for Zero-Shot Cross-Lingual Transfer and Beyond},
  author = {Artetxe, Mikel and Schwenk, Holger},
  journal = {Transactions of the Association for Computational Linguistics},
  year = {2019},
  url = {https://aclanthology.org/Q19-1038},
}""",
    licence="CC BY 2.0 FR",
    homepage="https://github.com/facebookresearch/LASER/tree/main/data/tatoeba/v1",
    sizes={f"test-{code}": n for code, n in _SIZES.items()},
    get=GET,
)
