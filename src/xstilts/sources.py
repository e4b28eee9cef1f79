"""Reading files: where a split's files are, and lines, JSON and CSV out of them (the formats stand in readers.py).

Every reader takes a path and a language and yields examples; a bad line raises
DataError with file and line. No reader guesses: a field that is missing, a label
outside its set or a truncated file is an error. A byte-order mark and CRLF are
read as if they were not there (`rows.check` reports them).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from xstilts.errors import DataError, nearest
from xstilts.examples import Example, Text
from xstilts.languages import language as language_row

Reader = Callable[[Path, str], Iterator[Example]]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there: its reader and the files that its reader opens beside it."""

    read: Reader
    path: Path
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """One file of a split: its reader and the names under which releases ship it; the first that exists is read.

    `{language}` stands for the language code, `{iso3}` for its ISO 639-3 code, `{english}` for its English name
    in lower case, `{flores}` for its name in FLORES. A name with `*` or `[` stands for all files that it matches, in order of their names.
    `otherwise` is the same rows in another format, read where none of `paths` is there.
    Ids are prefixed by nothing: a reader makes ids that are unique within its task.
    """

    read: Reader
    paths: tuple[str, ...]
    otherwise: File | None = None
    only: str = ""  # the one language that the file is in, where the name does not say it
    beside: tuple[str, ...] = ()  # files that the reader opens too, named from the folder of the one that it is given

    def names(self, language: str) -> tuple[str, ...]:
        """Every name that is tried, in order."""
        own = tuple(_fill(pattern, language) for pattern in self.paths)
        return own + (self.otherwise.names(language) if self.otherwise else ())

    def find(self, data: Path, language: str) -> tuple[Found, ...]:
        """The files of the first name that exists under `data`; () where none does, or one beside it is missing."""
        if self.only and language != self.only:
            return ()
        for pattern in self.paths:
            if here := _existing(data, _fill(pattern, language)):
                beside = [_existing(here[0].parent, _fill(name, language)) for name in self.beside]
                if all(beside):
                    others = tuple(dict.fromkeys(path for paths in beside for path in paths))
                    return tuple(Found(self.read, path, others) for path in here)
        return self.otherwise.find(data, language) if self.otherwise else ()


def _existing(folder: Path, name: str) -> tuple[Path, ...]:
    if "*" in name or "[" in name:
        return tuple(sorted(path for path in folder.glob(name) if path.is_file()))
    return (folder / name,) if (folder / name).is_file() else ()


def _fill(pattern: str, code: str) -> str:
    if any(name in pattern for name in ("{iso3}", "{english}", "{flores}")):
        row = language_row(code)
        return pattern.format(language=code, iso3=row.iso3, english=row.name.lower(), flores=row.flores)
    return pattern.format(language=code)


@dataclass(frozen=True)
class Files:
    """The source of a task that is read from files: split name -> the files that make it up, in order.

    Splits in `test_only` are never read for training or selection: other tasks are scored on their texts.
    """

    by_split: Mapping[str, tuple[File, ...]]
    get: str = ""  # what to do when a file is not there
    test_only: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """The split names."""
        return tuple(self.by_split)

    def _find(self, data: Path, split: str, language: str) -> list[Found]:
        if split not in self.by_split:
            raise DataError(f'no split "{split}" (there are: {", ".join(self.by_split)}){nearest(split, self.by_split)}')
        found: list[Found] = []
        for file in self.by_split[split]:
            here = file.find(data, language)
            if not here:
                if file.only and language != file.only:
                    raise DataError(f'split "{split}" is there in "{file.only}" only, not in "{language}"')
                names = " or ".join(file.names(language))
                if file.beside:
                    names += f" (with {', '.join(_fill(name, language) for name in file.beside)} beside it)"
                usable = [s for s in self.by_split if s != split and s not in self.test_only and self.has(data, s, language)]
                others = ", ".join(usable)
                hint = f"; splits that are there: {others} (a study may name one under [splits.TASK])" if usable else ""
                raise DataError(f'split "{split}" in "{language}": {names} not found under {data}{hint}. {self.get}')
            found += here
        return found

    def offers(self, split: str, language: str) -> bool:
        """False when a split is never in that language (English training files)."""
        return all(file.only in ("", language) for file in self.by_split[split])

    def has(self, data: Path, split: str, language: str) -> bool:
        """True when every file of the split is there."""
        return all(file.find(data, language) for file in self.by_split[split])

    def files(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        """The files of a split and those that their readers open beside them. Raises DataError when one is missing."""
        return tuple(dict.fromkeys(path for found in self._find(data, split, language) for path in (found.path, *found.beside)))

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        """The rows of a split in file order. Raises DataError (file and line) for a bad row or a file without rows."""
        for found in self._find(data, split, language):
            empty = True
            for example in found.read(found.path, language):
                empty = False
                yield example
            if empty:
                raise DataError(f'{found.path}: no rows in "{language}"; download the file again')


@dataclass(frozen=True)
class Pictured(Files):
    """A source whose rows name images: its readers put a file's name into `image`, here it becomes a path below the data folder."""

    folder: str = ""  # of the images, below the data folder

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        """As `Files.read`; whether an image is there is not looked at."""
        for example in super().read(data, split, language):
            assert isinstance(example, Text)
            yield replace(example, image=str(data / self.folder / example.image))

    def images(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        """The images that the rows of a split name, in order of their names. Raises DataError, with the row, for one that is not there."""
        first: dict[str, str] = {}
        for file in self._find(data, split, language):
            stat = file.path.stat()
            for image, row in _named_images(file.read, file.path, language, stat.st_size, stat.st_mtime_ns):
                first.setdefault(image, f'{file.path}: row "{row}"')
        paths = tuple(data / self.folder / image for image in sorted(first))
        if missing := [path for path in paths if not path.is_file()]:
            more = f" ({len(missing):,} of {len(paths):,} images are missing)" if len(missing) > 1 else ""
            raise DataError(f"{first[missing[0].name]}: its image {missing[0]} is not there{more}. {self.get}")
        return paths


@lru_cache(maxsize=32)
def _named_images(read: Reader, path: Path, language: str, size: int, changed: int) -> tuple[tuple[str, str], ...]:
    """Each image that a file's rows name, with the first row that does; read again only when its size or time has changed."""
    first: dict[str, str] = {}
    for example in read(path, language):
        assert isinstance(example, Text)
        first.setdefault(example.image, example.id)
    return tuple(first.items())


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file with their numbers from 1; only LF and CRLF end a line.

    Raises DataError for a file that cannot be opened and, with the line, for bytes that are not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    text = raw.decode()
                except UnicodeDecodeError as error:
                    raise DataError(f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start} of the line)") from None
                if number == 1:
                    text = text.removeprefix("\ufeff")
                yield number, text.removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def rows_of(path: Path) -> Iterator[tuple[int, str]]:
    """`lines` of a file with one row a line: blank lines at its end are left out, one before a row is an error."""
    blank = 0
    for number, text in lines(path):
        if not text:
            blank = blank or number
        elif blank:
            raise DataError(f"{path}:{blank}: an empty line between rows; take it out")
        else:
            yield number, text


def parse(text: str, where: str, first_line: int = 0) -> object:
    """JSON text as a value. Raises DataError at `where` (and the line, for a file of many lines)."""
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if not first_line else ""
        raise DataError(f"{where}{line}: not JSON ({error.msg} at column {error.colno}); is the file truncated?") from None
    return value


def json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The objects of a JSON Lines file, each with its "FILE:LINE". Raises DataError for a line that is not an object."""
    for number, text in rows_of(path):
        where = f"{path}:{number}"
        yield where, mapping(parse(text, where, number), where)


def json_file(path: Path) -> Mapping[str, object]:
    """The object that a JSON file holds. Raises DataError with the line where the JSON or the UTF-8 breaks off."""
    text = "\n".join(text for _, text in lines(path))
    return mapping(parse(text, str(path)), str(path))


def csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The rows of a comma-separated file with a header, each with the "FILE:LINE" where it ends.

    Raises DataError for a row of another length than the header and for a quote that is neither doubled nor closed.
    """
    rows = csv.reader((f"{text}\n" for _, text in lines(path)), strict=True)
    header: list[str] = []
    try:
        for cells in rows:
            where = f"{path}:{rows.line_num}"
            if not header:
                header = cells
            elif cells:
                if len(cells) != len(header):
                    raise DataError(f"{where}: {len(cells)} columns, the header names {len(header)} ({', '.join(header)})")
                yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        message = f"{path}:{rows.line_num}: not CSV ({error}); a quote inside a cell is doubled and the cell quoted"
        raise DataError(message) from None


def mapping(value: object, where: str) -> Mapping[str, object]:
    """`value` as an object. Raises DataError."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object {{...}}, got {type(value).__name__}")
    return value


def field(record: Mapping[str, object], name: str, where: str) -> object:
    """A field that must be there. Raises DataError with the fields that are."""
    try:
        return record[name]
    except KeyError:
        raise DataError(f'{where}: no "{name}" (there are: {", ".join(map(str, record))})') from None


def text_field(record: Mapping[str, object], name: str, where: str) -> str:
    """A field that must be text. Raises DataError."""
    value = record.get(name)
    if not isinstance(value, str):
        raise DataError(f'{where}: "{name}" should be text, got {field(record, name, where)!r}')
    return value


def list_field(record: Mapping[str, object], name: str, where: str) -> list[object]:
    """A field that must be a list. Raises DataError."""
    value = field(record, name, where)
    if not isinstance(value, list):
        raise DataError(f'{where}: "{name}" should be a list, got {type(value).__name__}')
    return value


def known(label: str, labels: tuple[str, ...], where: str) -> str:
    """`label` if it is one of `labels`. Raises DataError."""
    if label in labels:
        return label
    if not label:
        raise DataError(f"{where}: no label; labelled rows are needed (one of {', '.join(labels)})")
    raise DataError(f'{where}: label "{label}" is none of {", ".join(labels)}{nearest(label, labels)}')
