"""XVNLI: sentences about image captions, translated by people; read without the images. Trained on SNLI."""

from xstilts.languages import codes
from xstilts.readers import nli_jsonl
from xstilts.sources import File, Files
from xstilts.task import Parts, Task
from xstilts.tasks import snli
from xstilts.tasks.mnli import LABELS, WORDING

GET = f"Get datasets/XVNLI/annotations of https://github.com/e-bug/iglue and put it into xvnli/. Training rows: {snli.GET}"
LANGUAGES = codes("en ar es fr ru")
# captions of one image say much the same: the image is the group
_TEST = File(nli_jsonl("test", LABELS, group_field="Flikr30kID"), ("xvnli/annotations/{language}/test.jsonl",))

TASK = Task(
    name="xvnli",
    kind="classify",
    about="three-way entailment from image captions, without the images, the same test pairs in five languages",
    languages=LANGUAGES,
    source=Files({"train": (snli.TRAIN,), "snli_dev": (snli.DEV,), "test": (_TEST,)}, GET),
    metrics=("accuracy",),
    labels=LABELS,
    wording=WORDING,
    parts=Parts("train", "snli_dev", "test"),
    parallel=True,
    pool=("snli",),
    chance=100 / 3,
    citation="""@inproceedings{bugliarello-etal-2022-iglue,
  title = {{IGLUE}: A Benchmark for Transfer Learning across Modalities, Tasks, and Languages},
  author = {Bugliarello, Emanuele and Liu, Fangyu and Pfeiffer, Jonas and Reddy, Siva and Elliott, Desmond
            and Ponti, Edoardo Maria and Vuli{\\'c}, Ivan},
  booktitle = {Proceedings of ICML 2022},
  year = {2022},
  url = {https://proceedings.mlr.press/v162/bugliarello22a.html},
}""",
    licence="MIT (the repository's; captions of Flickr30k under their own terms)",
    homepage="https://iglue-benchmark.github.io",
    sizes={f"test-{code}": 1_150 for code in ("en", "es", "fr", "ru")},  # of 1,164, without those that are undecided
    get=GET,
)
