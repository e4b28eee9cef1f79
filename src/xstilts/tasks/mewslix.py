"""Mewsli-X: find the Wikidata entity that a mention in a news article means, among a million descriptions; used untrained here."""

from xstilts.languages import codes
from xstilts.readers import mewslix_entities, mewslix_mentions
from xstilts.sources import File, Files
from xstilts.task import Parts, Task

LANGUAGES = codes("ar de en es fa ja pl ro ta tr uk")
GET = (
    "Make it with get-mewsli-x.sh of https://github.com/google-research/google-research (dense_representations_for_entity_retrieval/mel; "
    "it restores the article texts) and put the *.jsonl files of its output into mewslix/."
)
_DEV = {"ar": 318, "de": 326, "en": 316, "es": 311, "fa": 72, "ja": 310, "pl": 304, "ro": 145, "ta": 312, "tr": 262, "uk": 315}
_TEST = {"ar": 1_501, "de": 1_551, "en": 1_490, "es": 1_552, "fa": 458, "ja": 1_519, "pl": 1_562, "ro": 672, "ta": 1_567, "tr": 1_215}
_TEST |= {"uk": 1_537}


def _files(split: str) -> tuple[File, ...]:
    return (
        File(mewslix_mentions, (f"mewslix/wikinews_mentions-{split}.jsonl",)),
        File(mewslix_entities, ("mewslix/candidate_set_entities.jsonl",)),
    )


TASK = Task(
    name="mewslix",
    kind="retrieve",
    about="the entity that a mention in a news article means, among a million descriptions in 50 languages",
    languages=LANGUAGES,
    source=Files({"dev": _files("dev"), "test": _files("test")}, GET),
    metrics=("map@20",),
    retrieval="map20",
    parts=Parts("", "", "test"),
    citation="""@inproceedings{ruder-etal-2021-xtreme,
  title = {{XTREME}-{R}: Towards More Challenging and Nuanced Multilingual Evaluation},
  author = {Ruder, Sebastian and Constant, Noah and Botha, Jan and Siddhant, Aditya and Firat, Orhan and Fu, Jinlan
            and Liu, Pengfei and Hu, Junjie and Garrette, Dan and Neubig, Graham and Johnson, Melvin},
  booktitle = {Proceedings of EMNLP 2021},
  year = {2021},
  url = {https://aclanthology.org/2021.emnlp-main.802},
}""",
    licence="none stated beside the repository's (code Apache 2.0, data CC BY 4.0); Wikinews CC BY 2.5, Wikipedia CC BY-SA 3.0",
    homepage="https://github.com/google-research/google-research/blob/master/dense_representations_for_entity_retrieval/mel/mewsli-x.md",
    sizes={f"{split}-{code}": n for split, rows in (("dev", _DEV), ("test", _TEST)) for code, n in rows.items()},
    get=GET,
)
