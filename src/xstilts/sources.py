"""Reading files: where a split's files are, and readers of the official formats.

Every reader takes a path and a language and yields examples; a bad line raises
DataError with file and line. No reader guesses: a field that is missing, a label
outside its set or a truncated file is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from xstilts.errors import DataError, nearest
from xstilts.examples import Example

Reader = Callable[[Path, str], Iterator[Example]]


@dataclass(frozen=True, slots=True)
class File:
    """One file of a split: its reader and the names under which releases ship it; the first that exists is read.

    `{language}` stands for the language code. Ids are prefixed by nothing: a
    reader makes ids that are unique within its task.
    """

    read: Reader
    paths: tuple[str, ...]

    def find(self, data: Path, language: str) -> Path | None:
        """The first of `paths` that exists under `data`, or None."""
        candidates = (data / pattern.format(language=language) for pattern in self.paths)
        return next((path for path in candidates if path.is_file()), None)


@dataclass(frozen=True)
class Files:
    """The source of a task that is read from files: split name -> the files that make it up, in order."""

    by_split: Mapping[str, tuple[File, ...]]
    get: str = ""  # what to do when a file is not there

    @property
    def splits(self) -> tuple[str, ...]:
        """The split names."""
        return tuple(self.by_split)

    def _find(self, data: Path, split: str, language: str) -> list[tuple[File, Path]]:
        if split not in self.by_split:
            raise DataError(f'no split "{split}" (there are: {", ".join(self.by_split)}){nearest(split, self.by_split)}')
        found = []
        for file in self.by_split[split]:
            path = file.find(data, language)
            if path is None:
                names = " or ".join(pattern.format(language=language) for pattern in file.paths)
                others = [s for s in self.by_split if s != split and self.has(data, s, language)]
                hint = f"; splits that are there: {', '.join(others)} (a study may name one under [splits.TASK])" if others else ""
                raise DataError(f'split "{split}" in "{language}": {names} not found under {data}{hint}. {self.get}')
            found.append((file, path))
        return found

    def has(self, data: Path, split: str, language: str) -> bool:
        """True when every file of the split is there."""
        return all(file.find(data, language) is not None for file in self.by_split[split])

    def files(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        """The files of a split. Raises DataError when one is missing."""
        return tuple(path for _, path in self._find(data, split, language))

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        """The rows of a split in file order. Raises DataError (file and line) for a bad row."""
        for file, path in self._find(data, split, language):
            yield from file.read(path, language)
