"""Raw text in many languages, to mix masked language modelling into a training: `text:sw` in a mix.

Every file `text/FOLDER/LANGUAGE.txt` of the data folder is read, one row a line; folders that hold test inputs are not, and a
line that equals a sentence of an evaluation set is dropped, as in pretraining.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xstilts.errors import DataError
from xstilts.evaluation import TEST_INPUTS, evaluation_files, evaluation_sentences, normalised
from xstilts.examples import Example, Text
from xstilts.languages import LANGUAGES
from xstilts.sources import lines
from xstilts.task import Parts, Task

GET = "Put plain text, a sentence or paragraph a line, into the data folder as text/NAME/LANGUAGE.txt; NAME is yours to choose."


@dataclass(frozen=True)
class Raw:
    """The text files of a language, in order of their names."""

    splits: tuple[str, ...] = ("train",)

    def _texts(self, data: Path, split: str, language: str) -> list[Path]:
        if split not in self.splits:
            raise DataError(f'no split "{split}" (there is: {", ".join(self.splits)})')
        found = [path for path in sorted(data.glob(f"text/*/{language}.txt")) if path.parent.name not in TEST_INPUTS]
        if not found:
            raise DataError(f'no text in "{language}" under {data / "text"}. {GET}')
        return found

    def offers(self, split: str, language: str) -> bool:
        """True: any text will do."""
        return True

    def files(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        """The texts, and the evaluation files, which decide what is dropped. Raises DataError when there is no text."""
        return (*self._texts(data, split, language), *evaluation_files(data))

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        """The lines that are not empty and not scored, each with the name of its folder and its number. Raises DataError."""
        banned = evaluation_sentences(data)
        for path in self._texts(data, split, language):
            for number, line in lines(path):
                text = line.strip()
                if text and normalised(text) not in banned:
                    yield Text(f"{path.parent.name}-{number}", text)


TASK = Task(
    name="text",
    kind="mask",
    about="raw text for masked language modelling beside other tasks",
    languages=tuple(LANGUAGES),
    source=Raw(),
    metrics=(),
    parts=Parts("train", "", ""),
    licence="that of the texts",
    get=GET,
)
