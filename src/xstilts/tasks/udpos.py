"""UD-POS: universal part-of-speech tags of the Universal Dependencies treebanks, as XTREME mixes them."""

from xstilts.languages import codes
from xstilts.readers import conllu, words_tsv
from xstilts.sources import File, Files
from xstilts.task import Task

_TAGS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"
TAGS = tuple(_TAGS.split())
XTREME = codes("af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh")
XTREME_R = codes("lt pl ro uk wo")  # added there
GET = (
    "Make udpos/{train,dev,test}-LANGUAGE.tsv with XTREME's scripts (https://github.com/google-research/xtreme; keep the test "
    "tags), or put CoNLL-U files of https://universaldependencies.org there as udpos/{train,dev,test}-LANGUAGE.conllu."
)


def _file(split: str) -> File:
    plain = File(conllu(split, TAGS), (f"udpos/{split}-{{language}}.conllu",))
    return File(words_tsv(split, TAGS), (f"udpos/{split}-{{language}}.tsv",), otherwise=plain)


def _ewt(split: str) -> File:
    names = tuple(f"{folder}/en_ewt-ud-{split}.conllu" for folder in ("UD_English-EWT", "ud_english_ewt"))
    return File(conllu(f"ewt-{split}", TAGS), names, only="en")


TASK = Task(
    name="udpos",
    kind="tag",
    about="universal part-of-speech tags, one a word",
    languages=(*XTREME, *XTREME_R),
    source=Files(
        {split: (_file(split),) for split in ("train", "dev", "test")}
        | {f"ewt_{split}": (_ewt(split),) for split in ("train", "dev", "test")},  # English only; overlaps with XTREME's mix
        GET,
    ),
    metrics=("f1", "accuracy"),
    labels=TAGS,
    pool=("udpos",),
    citation="""@inproceedings{nivre-etal-2020-universal,
  title = {{U}niversal {D}ependencies v2: An Evergrowing Multilingual Treebank Collection},
  author = {Nivre, Joakim and de Marneffe, Marie-Catherine and Ginter, Filip and Haji{\\v{c}}, Jan and Manning, Christopher D.
            and Pyysalo, Sampo and Schuster, Sebastian and Tyers, Francis and Zeman, Daniel},
  booktitle = {Proceedings of LREC 2020},
  year = {2020},
  url = {https://aclanthology.org/2020.lrec-1.497},
}""",
    licence="one licence a treebank (mostly CC BY-SA, some CC BY-NC-SA)",
    homepage="https://universaldependencies.org",
    sizes={"train-en": 21_253, "dev-en": 3_974, "ewt_train-en": 12_544, "ewt_dev-en": 2_001, "ewt_test-en": 2_077},
    get=GET,
)
