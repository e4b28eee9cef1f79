"""LAReQA (XQuAD-R): find the sentences that answer a question, in any language, in one pool of all languages; no training rows."""

from xstilts.languages import codes
from xstilts.readers import answer_sentences
from xstilts.sources import File, Files
from xstilts.task import Parts, Task

LANGUAGES = codes("ar de el en es hi ru th tr vi zh")
GET = "Get xquad-r/ of https://github.com/google-research-datasets/lareqa and put it into lareqa/ (all eleven files)."
_PATHS = ("lareqa/xquad-r/{language}.json", "lareqa/{language}.json", "xquad-r/{language}.json")
_READ = answer_sentences(LANGUAGES)

TASK = Task(
    name="lareqa",
    kind="retrieve",
    about="the sentences that answer a question, in one pool of eleven languages, the same 1,190 questions in each",
    languages=LANGUAGES,
    source=Files(
        {
            "test": (File(_READ, _PATHS, beside=tuple(f"{code}.json" for code in LANGUAGES)),),
            # The pool of the languages that are at hand. Its scores are no LAReQA scores, so it has a name of its own.
            "test_at_hand": (File(_READ, _PATHS, beside=("[a-z][a-z].json",)),),
        },
        GET,
    ),
    metrics=("map@20",),
    retrieval="map20",
    parts=Parts("", "", "test"),
    parallel=True,
    citation="""@inproceedings{roy-etal-2020-lareqa,
  title = {{LAR}e{QA}: Language-Agnostic Answer Retrieval from a Multilingual Pool},
  author = {Roy, Uma and Constant, Noah and Al-Rfou, Rami and Barua, Aditya and Phillips, Aaron and Yang, Yinfei},
  booktitle = {Proceedings of EMNLP 2020},
  year = {2020},
  url = {https://aclanthology.org/2020.emnlp-main.477},
}""",
    licence="CC BY-SA 4.0",
    homepage="https://github.com/google-research-datasets/lareqa",
    sizes={f"{split}-{code}": 1_190 for split in ("test", "test_at_hand") for code in LANGUAGES},
    get=GET,
)
