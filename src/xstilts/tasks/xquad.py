"""XQuAD: 1,190 questions of SQuAD's dev set, translated by people; trained on SQuAD v1.1."""

from xstilts.languages import codes
from xstilts.readers import squad_json
from xstilts.sources import File, Files
from xstilts.task import Parts, Task
from xstilts.tasks import squad

GET = f"Get xquad.*.json from https://github.com/google-deepmind/xquad and put them into xquad/. Training rows: {squad.GET}"
LANGUAGES = codes("en es de el ru tr ar vi th zh hi")  # Romanian came later: not in XTREME's mean

TASK = Task(
    name="xquad",
    kind="span",
    about="extractive question answering, the same 1,190 questions in 11 languages",
    languages=LANGUAGES,
    source=Files({"train": (squad.TRAIN,), "test": (File(squad_json(), ("xquad/xquad.{language}.json",)),)}, GET),
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
)
