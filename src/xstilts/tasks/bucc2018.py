"""BUCC 2018: find the pairs of translations among many sentences that have none; no training rows."""

from dataclasses import replace

from xstilts.languages import codes
from xstilts.readers import bucc_candidates, bucc_queries
from xstilts.sources import File, Files, Reader
from xstilts.task import Parts, Task

LANGUAGES = codes("de fr ru zh")
GET = (
    "Get bucc2018-*-en.sample-gold.tar.bz2 and bucc2018-*-en.training-gold.tar.bz2 from https://comparable.limsi.fr/bucc2018/ and "
    "unpack them into the data folder as bucc2018/ (XTREME calls the sample dev, the training part test, and removes its gold)."
)


def _files(split: str, theirs: str) -> tuple[File, ...]:
    names = (f"bucc2018/{{language}}-en.{split}.", f"bucc2018/{{language}}-en/{{language}}-en.{theirs}.")

    def one(reader: Reader, end: str) -> File:
        others = tuple(File(reader, (f"{name}{end}",), beside=(f"{name.rsplit('/', 1)[1]}gold",)) for name in names)
        return replace(others[0], otherwise=others[1])

    return one(bucc_queries, "{language}"), one(bucc_candidates, "en")


TASK = Task(
    name="bucc2018",
    kind="retrieve",
    about="the pairs of translations among the sentences of two corpora",
    languages=LANGUAGES,
    # The threshold is tuned on dev. Where only dev has a gold file, a study scores on dev, in two folds.
    source=Files({"dev": _files("dev", "sample"), "test": _files("test", "training")}, GET),
    metrics=("f1", "precision", "recall"),
    retrieval="mining",
    parts=Parts("", "dev", "test"),
    citation="""@inproceedings{zweigenbaum-etal-2018-overview,
  title = {Overview of the Third {BUCC} Shared Task: Spotting Parallel Sentences in Comparable Corpora},
  author = {Zweigenbaum, Pierre and Sharoff, Serge and Rapp, Reinhard},
  booktitle = {Proceedings of the 11th Workshop on Building and Using Comparable Corpora},
  year = {2018},
}""",
    licence="none stated (sentences of Wikipedia and of News Commentary)",
    homepage="https://comparable.limsi.fr/bucc2018/",
    sizes={"dev-zh": 8_624},
    get=GET,
)
