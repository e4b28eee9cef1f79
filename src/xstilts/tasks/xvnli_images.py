"""IGLUE's XVNLI as it is meant: an image is the premise, a sentence about it the hypothesis. English training, scored in five languages."""

from dataclasses import replace

from xstilts.readers import visual_jsonl
from xstilts.sources import File, Pictured
from xstilts.task import Parts, Wording
from xstilts.tasks import snli, xvnli
from xstilts.tasks.mnli import LABELS

FOLDER = "xvnli/images"
GET = (
    "The images are Flickr30k's: ask for them at https://shannon.cs.illinois.edu/DenotationGraph/ (for research; the photographs stay "
    f"their authors') and put or link the .jpg files into {FOLDER}/. Annotations: datasets/XVNLI/annotations of "
    "https://github.com/e-bug/iglue, into xvnli/. Training rows: IGLUE's (xvnli/annotations/en/train.jsonl), SNLI-VE's "
    f"(snli_ve/snli_ve_train.jsonl, from https://github.com/necla-ml/SNLI-VE), or SNLI's: {snli.GET}"
)


def _english(part: str) -> File:
    names = (f"xvnli/annotations/en/{part}.jsonl", f"snli_ve/snli_ve_{part}.jsonl", f"snli_1.0/snli_1.0_{part}.jsonl")
    return File(visual_jsonl(part, LABELS), names, only="en")


_TEST = File(visual_jsonl("test", LABELS), ("xvnli/annotations/{language}/test.jsonl",))

TASK = replace(
    xvnli.TASK,
    name="xvnli_images",
    about="does a sentence follow from an image, contradict it, or neither; the same test pairs in five languages",
    source=Pictured({"train": (_english("train"),), "dev": (_english("dev"),), "test": (_TEST,)}, GET, folder=FOLDER),
    parts=Parts("train", "dev", "test"),
    images=True,
    wording=Wording(),
    citation=f"""{xvnli.TASK.citation}
@misc{{xie-etal-2019-visual,
  title = {{Visual Entailment: A Novel Task for Fine-Grained Image Understanding}},
  author = {{Xie, Ning and Lai, Farley and Doran, Derek and Kadav, Asim}},
  year = {{2019}},
  url = {{https://arxiv.org/abs/1901.06706}},
}}""",
    licence="MIT (the repository's); the photographs of Flickr30k under their authors' terms, for research",
    get=GET,
)
