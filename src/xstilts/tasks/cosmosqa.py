"""CosmosQA: questions on English narratives whose answer is not said in them; one of four options is right."""

from xstilts.readers import cosmosqa_csv
from xstilts.sources import File, Files
from xstilts.task import Parts, Task

GET = "Get train.csv and valid.csv from https://github.com/wilburOne/cosmosqa (data/) and put them into cosmosqa/."


def _file(split: str) -> File:
    return File(cosmosqa_csv(split), (f"cosmosqa/{split}.csv", f"cosmosqa/data/{split}.csv"), only="en")


TASK = Task(
    name="cosmosqa",
    kind="choose",
    about="causes, effects and motives that a narrative leaves unsaid, four options (English)",
    languages=("en",),
    source=Files({"train": (_file("train"),), "valid": (_file("valid"),)}, GET),
    metrics=("accuracy",),
    parts=Parts("train", "valid", ""),  # the test labels are not public
    pool=("cosmosqa",),
    chance=25.0,
    citation="""@inproceedings{huang-etal-2019-cosmos,
  title = {Cosmos {QA}: Machine Reading Comprehension with Contextual Commonsense Reasoning},
  author = {Huang, Lifu and Le Bras, Ronan and Bhagavatula, Chandra and Choi, Yejin},
  booktitle = {Proceedings of EMNLP-IJCNLP 2019},
  year = {2019},
  url = {https://aclanthology.org/D19-1243},
}""",
    licence="CC BY 4.0",
    homepage="https://wilburone.github.io/cosmos/",
    sizes={"train-en": 25_262, "valid-en": 2_985},
    get=GET,
)
