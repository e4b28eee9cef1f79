"""PAN-X: people, places and organisations in Wikipedia (WikiANN), in XTREME's balanced splits."""

from xstilts.languages import codes
from xstilts.readers import words_jsonl, words_tsv
from xstilts.sources import File, Files
from xstilts.task import Hub, Table, Task

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
XTREME = codes("af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi yo zh")
XTREME_R = codes("az gu lt pa pl qu ro uk")  # added there
GET = (
    "Get the archives of WikiANN in the splits of https://github.com/afshinrahimi/mmner and unpack each as panx_dataset/LANGUAGE/, or "
    "make panx/{train,dev,test}-LANGUAGE.tsv of them with XTREME's scripts (keep the test tags)."
)


def _file(split: str) -> File:
    hub = File(words_jsonl(split, TAGS), (f"hub/panx/{split}-{{language}}.jsonl",))
    own = File(words_tsv(split, TAGS, marked=True), (f"panx_dataset/{{language}}/{split}",), otherwise=hub)
    return File(words_tsv(split, TAGS), (f"panx/{split}-{{language}}.tsv",), otherwise=own)


TASK = Task(
    name="panx",
    kind="tag",
    about="people, places and organisations, tagged from Wikipedia's links",
    languages=(*XTREME, *XTREME_R),
    source=Files(
        {split: (_file(split),) for split in ("train", "dev", "test")}
        # sentences of other languages' training sets that were drawn for few-shot studies; all hold an entity
        | {"fewshot": (File(words_tsv("fewshot", TAGS), ("panx_fewshot_pool/{language}.tsv",)),)},
        GET,
    ),
    metrics=("f1", "precision", "recall"),
    labels=TAGS,
    pool=("panx",),
    citation="""@inproceedings{pan-etal-2017-cross,
  title = {Cross-lingual Name Tagging and Linking for 282 Languages},
  author = {Pan, Xiaoman and Zhang, Boliang and May, Jonathan and Nothman, Joel and Knight, Kevin and Ji, Heng},
  booktitle = {Proceedings of ACL 2017},
  year = {2017},
  url = {https://aclanthology.org/P17-1178},
}
@inproceedings{rahimi-etal-2019-massively,
  title = {Massively Multilingual Transfer for {NER}},
  author = {Rahimi, Afshin and Li, Yuan and Cohn, Trevor},
  booktitle = {Proceedings of ACL 2019},
  year = {2019},
  url = {https://aclanthology.org/P19-1015},
}""",
    licence="none stated (text of Wikipedia: CC BY-SA 3.0)",
    homepage="https://github.com/afshinrahimi/mmner",
    sizes={"train-en": 20_000} | {f"{split}-{code}": 10_000 for split in ("dev", "test") for code in ("de", "en", "es", "ru")},
    get=GET,
    hub=Hub(
        "unimelb-nlp/wikiann",
        "",  # no commit was at hand when this was written
        {
            split: (
                Table(
                    "{language}",
                    theirs,
                    f"hub/panx/{split}-{{language}}.jsonl",
                    (("tokens", "words"), ("ner_tags", "tags")),
                    named=("ner_tags",),
                ),
            )
            for split, theirs in (("train", "train"), ("dev", "validation"), ("test", "test"))
        },
    ),
)
