"""DREAM: questions on English dialogues from examinations; one of three options is right."""

from xstilts.readers import dream_json
from xstilts.sources import File, Files
from xstilts.task import Task

GET = "Get train.json, dev.json and test.json from https://github.com/nlpdata/dream (data/) and put them into dream/."


def _file(split: str) -> File:
    return File(dream_json(split), (f"dream/{split}.json", f"dream/data/{split}.json"), only="en")


TASK = Task(
    name="dream",
    kind="choose",
    about="questions on dialogues, three options (English)",
    languages=("en",),
    source=Files({split: (_file(split),) for split in ("train", "dev", "test")}, GET),
    metrics=("accuracy",),
    pool=("dream",),
    chance=100 / 3,
    citation="""@article{sun-etal-2019-dream,
  title = {{DREAM}: A Challenge Data Set and Models for Dialogue-Based Reading Comprehension},
  author = {Sun, Kai and Yu, Dian and Chen, Jianshu and Yu, Dong and Choi, Yejin and Cardie, Claire},
  journal = {Transactions of the Association for Computational Linguistics},
  year = {2019},
  url = {https://aclanthology.org/Q19-1014},
}""",
    licence="non-commercial research only",
    homepage="https://dataset.org/dream/",
    sizes={"train-en": 6_116, "dev-en": 2_040, "test-en": 2_041},
    get=GET,
)
