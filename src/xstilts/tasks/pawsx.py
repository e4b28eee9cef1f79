"""PAWS-X: pairs of much the same words, paraphrases or not; English PAWS, dev and test translated by people into six languages."""

from xstilts.languages import codes
from xstilts.readers import grouped_as_in, headed_tsv, linked_groups, nli_jsonl, pairs_tsv
from xstilts.sources import File, Files, Reader
from xstilts.task import Hub, Table, Task, Wording

LANGUAGES = codes("en de es fr ja ko zh")
LABELS = ("0", "1")  # 1: paraphrase
GET = (
    "Get x-final.tar.gz from https://github.com/google-research-datasets/paws/tree/master/pawsx and unpack it into the data folder "
    "as x-final/ (XTREME's test-*.tsv have no labels)."
)


def _file(split: str, name: str, only: str = "") -> File:
    # A sentence stands in several pairs; whatever hangs together by one, in English, is one group in every language.
    def linked(read: Reader, english: str, *paths: str, otherwise: File | None = None) -> File:
        return File(grouped_as_in(english, read, linked_groups), paths, otherwise, only, beside=(english,))

    header = ("sentence1", "sentence2", "label")
    release = headed_tsv(split, header, dict(zip(LABELS, LABELS, strict=True)))
    hub = linked(nli_jsonl(split, LABELS), f"{split}-en.jsonl", f"hub/pawsx/{split}-{{language}}.jsonl")
    official = linked(release, f"../en/{name}", f"x-final/{{language}}/{name}", f"pawsx/x-final/{{language}}/{name}", otherwise=hub)
    return linked(pairs_tsv(split, LABELS), f"{split}-en.tsv", f"pawsx/{split}-{{language}}.tsv", otherwise=official)


TASK = Task(
    name="pawsx",
    kind="classify",
    about="do two sentences of much the same words mean the same, the same 2,000 test pairs in seven languages",
    languages=LANGUAGES,
    source=Files(
        {"train": (_file("train", "train.tsv", "en"),), "dev": (_file("dev", "dev_2k.tsv"),), "test": (_file("test", "test_2k.tsv"),)},
        GET,
    ),
    metrics=("accuracy",),
    labels=LABELS,
    wording=Wording(
        "paws sentence1: {first} sentence2: {second}",
        ("different_meaning", "paraphrase"),
        "Sentence 1: {first}\nSentence 2: {second}\nQuestion: Do the two mean the same, Yes or No?\nAnswer:",
        ("No", "Yes"),
    ),
    parallel=True,
    pool=("pawsx",),
    chance=50.0,
    citation="""@inproceedings{yang-etal-2019-paws,
  title = {{PAWS}-{X}: A Cross-lingual Adversarial Dataset for Paraphrase Identification},
  author = {Yang, Yinfei and Zhang, Yuan and Tar, Chris and Baldridge, Jason},
  booktitle = {Proceedings of EMNLP-IJCNLP 2019},
  year = {2019},
  url = {https://aclanthology.org/D19-1382},
}""",
    licence="free for any purpose, attribution to Google appreciated",
    homepage="https://github.com/google-research-datasets/paws",
    sizes={"train-en": 49_401} | {f"{split}-{code}": 2_000 for split in ("dev", "test") for code in LANGUAGES},
    get=GET,
    hub=Hub(
        "google-research-datasets/paws-x",
        "4cd8187c404bda33cb1f62b49b001115862acf37",
        {
            "train": (Table("en", "train", "hub/pawsx/train-en.jsonl", named=("label",), only="en"),),
            "dev": (Table("{language}", "validation", "hub/pawsx/dev-{language}.jsonl", named=("label",)),),
            "test": (Table("{language}", "test", "hub/pawsx/test-{language}.jsonl", named=("label",)),),
        },
    ),
)
