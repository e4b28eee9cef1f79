"""XQuAD: 1,190 questions of SQuAD's dev set, translated by people; trained on SQuAD v1.1.

Romanian was added after XTREME was published, so it is a task of its own: no mean of a benchmark holds it.
"""

from dataclasses import replace

from xstilts.languages import codes
from xstilts.readers import grouped_as_in, squad_json, squad_jsonl
from xstilts.sources import File, Files
from xstilts.task import Hub, Parts, Table, Task
from xstilts.tasks import squad

GET = f"Get xquad.*.json from https://github.com/google-deepmind/xquad and put them into xquad/. Training rows: {squad.GET}"
LANGUAGES = codes("en es de el ru tr ar vi th zh hi")
# the hub's rows have no titles: there the English paragraph is the group
_HUB = File(grouped_as_in("test-en.jsonl", squad_jsonl()), ("hub/xquad/test-{language}.jsonl",), beside=("test-en.jsonl",))
_TEST = File(squad_json(), ("xquad/xquad.{language}.json",), otherwise=_HUB)

XQUAD = Task(
    name="xquad",
    kind="span",
    about="extractive question answering, the same 1,190 questions in 11 languages",
    languages=LANGUAGES,
    source=Files({"train": (squad.TRAIN,), "test": (_TEST,)}, GET),
    metrics=("f1", "exact_match"),
    parts=Parts("train", "train", "test"),
    parallel=True,
    pool=("squad",),
    citation="""@inproceedings{artetxe-etal-2020-cross,
  title = {On the Cross-lingual Transferability of Monolingual Representations},
  author = {Artetxe, Mikel and Ruder, Sebastian and Yogatama, Dani},
  booktitle = {Proceedings of ACL 2020},
  year = {2020},
  url = {https://aclanthology.org/2020.acl-main.421},
}""",
    licence="CC BY-SA 4.0",
    homepage="https://github.com/google-deepmind/xquad",
    sizes={"train-en": 87_599} | {f"test-{code}": 1_190 for code in LANGUAGES},
    get=GET,
    hub=Hub(
        "google/xquad",
        "51adfef1c1287aab1d2d91b5bead9bcfb9c68583",
        {"test": (Table("xquad.{language}", "validation", "hub/xquad/test-{language}.jsonl"),)},
    ),
)

XQUAD_RO = replace(
    XQUAD,
    name="xquad_ro",
    about="XQuAD in Romanian, which came later: in no benchmark's mean",
    languages=codes("ro"),
    sizes={"train-en": 87_599, "test-ro": 1_190},
)

TASKS = (XQUAD, XQUAD_RO)
