"""Raw text of the embedded benchmark, for masked language modelling beside its tasks."""

from xstilts.mini.grammar import LANGUAGES
from xstilts.mini.text import GeneratedText
from xstilts.task import Parts, Task

TASK = Task(
    name="mini-text",
    kind="mask",
    about="generated text for masked language modelling beside other tasks",
    languages=LANGUAGES,
    source=GeneratedText(),
    metrics=(),
    parts=Parts("train", "", ""),
    licence="Apache-2.0 (written for xstilts)",
    get="nothing to get: the rows are made from word lists in the package",
)
