"""Readers of the official formats. Each makes a `Reader`: (path, language) -> examples, in file order.

`prefix` goes before the row number in ids, so that the files of one task never share an id. A group is the
fingerprint of the text that several rows stand on, unless the format names something better (an article).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from xstilts.errors import DataError
from xstilts.examples import Answer, Choice, Example, Parallel, Passage, Text, Words
from xstilts.languages import LANGUAGES
from xstilts.languages import language as language_row
from xstilts.sources import Reader, field, json_file, json_lines, known, lines, list_field, mapping, rows_of, text_field

UNDECIDED = "-"  # SNLI and MultiNLI: the annotators did not agree


def fingerprint(text: str) -> str:
    """16 hexadecimal digits that two texts share when they differ in case and white space at most."""
    return hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=8).hexdigest()


def _unquoted(cell: str) -> str:
    """A cell as it was before a csv writer quoted it.

    XTREME's own scripts write their tsv files so; such a cell starts and ends with a quote and holds
    doubled ones only, which plain text between tabs practically never does.
    """
    if len(cell) > 3 and cell[0] == cell[-1] == '"':
        inner = cell[1:-1]
        if '""' in inner and '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return cell


def _cells(row: str, columns: str, where: str) -> list[str]:
    """The cells of a tab-separated row. Raises DataError when they are not as many as `columns` names."""
    cells = row.split("\t")
    wanted = columns.count(",") + 1
    if len(cells) != wanted:
        lacking = "; a row without label?" if len(cells) == wanted - 1 else ""
        raise DataError(f"{where}: {len(cells)} tab-separated columns, expected {wanted} ({columns}){lacking}")
    return cells


def _runs(prefix: str) -> Callable[[str], str]:
    """Names runs of equal texts: the hypotheses of one premise stand one after the other, in every language alike."""
    number = -1
    last: str | None = None

    def name(text: str) -> str:
        nonlocal number, last
        if text != last:
            number, last = number + 1, text
        return f"{prefix}-{number}"

    return name


def pairs_tsv(prefix: str, labels: tuple[str, ...], runs: bool = False) -> Reader:
    """XTREME's tsv without header: first text, second text, label.

    Groups are the first text, or (`runs`) the number of the run of rows that share it, which is the same in every
    language of a parallel set.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        group = _runs(prefix) if runs else fingerprint
        for number, row in rows_of(path):
            where = f"{path}:{number}"
            first, second, label = _cells(row, "text, pair, label", where)
            first, second = _unquoted(first), _unquoted(second)
            yield Text(f"{prefix}-{number}", first, second, known(label.strip(), labels, where), group(first))

    return read


def xnli_release(prefix: str, labels: tuple[str, ...]) -> Reader:
    """XNLI 1.0's xnli.dev.tsv and xnli.test.tsv: a header, all languages in one file; ids and groups as in `pairs_tsv`."""
    needed = ("language", "gold_label", "sentence1", "sentence2")

    def read(path: Path, language: str) -> Iterator[Example]:
        rows = rows_of(path)
        header = next(rows, (0, ""))[1].split("\t")
        if missing := [name for name in needed if name not in header]:
            raise DataError(f"{path}:1: the header names no column {', '.join(missing)}")
        at_language, at_label, at_first, at_second = (header.index(name) for name in needed)
        group = _runs(prefix)
        count = 0
        for number, row in rows:
            where = f"{path}:{number}"
            cells = _cells(row, ",".join(header), where)
            if cells[at_language] == language:
                count += 1
                label = known(cells[at_label], labels, where)
                yield Text(f"{prefix}-{count}", cells[at_first], cells[at_second], label, group(cells[at_first]))

    return read


def nli_jsonl(prefix: str, labels: tuple[str, ...]) -> Reader:
    """MultiNLI's and SNLI's jsonl (sentence1, sentence2, gold_label) or premise, hypothesis, label.

    Rows on which the annotators did not agree (label "-") are left out, as everybody does; they keep their row number.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, (where, record) in enumerate(json_lines(path), start=1):
            official = "sentence1" in record or "gold_label" in record
            names = ("sentence1", "sentence2", "gold_label") if official else ("premise", "hypothesis", "label")
            first, second, label = (text_field(record, name, where) for name in names)
            if label != UNDECIDED:
                yield Text(f"{prefix}-{number}", first, second, known(label, labels, where), fingerprint(first))

    return read


def squad_json(no_answer: bool = False, repeated_ids: bool = False, by_language: bool = False) -> Reader:
    """SQuAD's JSON, v1.1 or (`no_answer`) v2.0. Groups are article titles, or the context where there is no title.

    Every answer must stand in the context at its offset, to the character. `repeated_ids`: TyDiQA-GoldP as XTREME
    lays it out repeats ids; the second row with id "7" becomes "7#2". `by_language`: a file of several languages
    whose ids start with the English name ("finnish-..."); rows of other languages are left out.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        seen: dict[str, int] = {}
        file = str(path)
        for article in list_field(json_file(path), "data", file):
            title = mapping(article, file).get("title")
            where = f"{file}: article {title!r}"
            for paragraph in list_field(mapping(article, where), "paragraphs", where):
                passage = mapping(paragraph, where)
                context = text_field(passage, "context", where)
                group = title if isinstance(title, str) and title else fingerprint(context)
                for item in list_field(passage, "qas", where):
                    record = mapping(item, where)
                    name = text_field(record, "id", where)
                    if by_language and _other_language(name, language):
                        continue
                    count = seen[name] = seen.get(name, 0) + 1
                    here = f'{file}: question "{name}"'
                    if count > 1:
                        if not repeated_ids:
                            raise DataError(f"{here}: the id stands twice; give each question its own")
                        name = f"{name}#{count}"
                    question = text_field(record, "question", here)
                    yield Passage(name, question, context, _answers(record, context, no_answer, here), group)

    return read


_TYDI_ID = re.compile(r"([a-z]+)-")
_ENGLISH_NAMES = frozenset(row.name.lower() for row in LANGUAGES.values())


def _other_language(name: str, language: str) -> bool:
    found = _TYDI_ID.match(name)
    return found is not None and found[1] in _ENGLISH_NAMES and found[1] != language_row(language).name.lower()


def _answers(record: Mapping[str, object], context: str, no_answer: bool, where: str) -> tuple[Answer, ...]:
    items = list_field(record, "answers", where)
    if record.get("is_impossible") is True:
        if not no_answer:
            raise DataError(f"{where}: has no answer; this task has answers only: use the v2.0 task for v2.0 files")
        if items:
            raise DataError(f"{where}: is_impossible, but {len(items)} answers")
        return ()
    if not items:
        raise DataError(f"{where}: no answers; labelled rows are needed")
    answers = []
    for item in items:
        answer = mapping(item, where)
        text, start = text_field(answer, "text", where), field(answer, "answer_start", where)
        if not text:
            raise DataError(f"{where}: an empty answer; XTREME's scripts blank the answers of test files: take the original file")
        if not isinstance(start, int):
            raise DataError(f"{where}: answer_start should be a whole number, got {start!r}")
        if start < 0 or not context.startswith(text, start):
            near = min((m.start() for m in re.finditer(re.escape(text), context)), key=lambda at: abs(at - start), default=None)
            hint = "; it stands nowhere in the context" if near is None else f"; the nearest place is {near}"
            raise DataError(f'{where}: the answer "{text}" does not stand at character {start} of the context{hint}')
        answers.append(Answer(text, start))
    return tuple(answers)


def hellaswag_jsonl(prefix: str) -> Reader:
    """HellaSwag's jsonl: ctx, endings (4), label (0-3). The context is `ctx`; an activity label is not used."""

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, (where, record) in enumerate(json_lines(path), start=1):
            context = text_field(record, "ctx", where)
            options = tuple(option for option in list_field(record, "endings", where) if isinstance(option, str))
            if len(options) != 4:
                raise DataError(f"{where}: {len(options)} endings, expected 4 texts")
            label = field(record, "label", where)
            if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(options):
                raise DataError(f"{where}: label {label!r} is none of 0, 1, 2, 3")
            yield Choice(f"{prefix}-{number}", context, options, label=label, group=fingerprint(context))

    return read


def _sentence(name: str, words: list[str], tags: list[str]) -> Words:
    return Words(name, tuple(words), tuple(tags), fingerprint(" ".join(words)))


def words_tsv(prefix: str, labels: tuple[str, ...]) -> Reader:
    """XTREME's tagging tsv: word, tab, tag; a blank line ends a sentence. The last sentence may end with the file."""

    def read(path: Path, language: str) -> Iterator[Example]:
        count = 0
        words: list[str] = []
        tags: list[str] = []
        for number, row in lines(path):
            if row:
                where = f"{path}:{number}"
                word, tag = _cells(row, "word, tag", where)
                if not word:
                    raise DataError(f"{where}: an empty word")
                words.append(word)
                tags.append(known(tag, labels, where))
            elif words:
                count += 1
                yield _sentence(f"{prefix}-{count}", words, tags)
                words, tags = [], []
        if words:
            yield _sentence(f"{prefix}-{count + 1}", words, tags)

    return read


def conllu(prefix: str, labels: tuple[str, ...]) -> Reader:
    """CoNLL-U: FORM and UPOS of the syntactic words; multiword ranges (3-4) and empty nodes (8.1) are left out.

    XTREME's tsv differs here: it writes a multiword token as one word.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        count = 0
        words: list[str] = []
        tags: list[str] = []
        for number, row in lines(path):
            if row.startswith("#"):
                continue
            if row:
                where = f"{path}:{number}"
                cells = _cells(row, "ID,FORM,LEMMA,UPOS,XPOS,FEATS,HEAD,DEPREL,DEPS,MISC", where)
                if not cells[0].isdigit():
                    if "-" in cells[0] or "." in cells[0]:
                        continue
                    raise DataError(f'{where}: "{cells[0]}" is no word id of CoNLL-U')
                words.append(cells[1])
                tags.append(known("" if cells[3] == "_" else cells[3], labels, where))
            elif words:
                count += 1
                yield _sentence(f"{prefix}-{count}", words, tags)
                words, tags = [], []
        if words:
            raise DataError(f"{path}: the last sentence has no blank line after it; is the file truncated?")

    return read


def tatoeba_queries(path: Path, language: str) -> Iterator[Example]:
    """The English side of LASER's aligned lines (tatoeba.xxx-eng.eng): line n asks for line n of the other file."""
    for number, text in rows_of(path):
        yield Parallel(f"q{number}", text, "query", f"c{number}", str(number))


def tatoeba_candidates(path: Path, language: str) -> Iterator[Example]:
    """The other side (tatoeba.xxx-eng.xxx). Raises DataError when the two files have not as many lines as each other."""
    count = 0
    for count, text in rows_of(path):
        yield Parallel(f"c{count}", text, "candidate", None, str(count))
    english = path.with_suffix(".eng")
    others = sum(1 for _ in rows_of(english))
    if count != others:
        raise DataError(f"{path}: {count} lines, but {others} in {english.name}; the files must be aligned")
