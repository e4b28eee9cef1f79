"""Readers of the official formats. Each makes a `Reader`: (path, language) -> examples, in file order.

`prefix` goes before the row number in ids, so that the files of one task never share an id. A group is the
fingerprint of the text that several rows stand on, unless the format names something better (an article).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xstilts.errors import DataError
from xstilts.examples import Answer, Choice, Example, Parallel, Passage, Text, Words, group_of
from xstilts.languages import LANGUAGES
from xstilts.languages import language as language_row
from xstilts.sources import (
    Reader,
    csv_rows,
    field,
    json_file,
    json_lines,
    known,
    lines,
    list_field,
    mapping,
    parse,
    rows_of,
    text_field,
)

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


def _header(path: Path, rows: Iterator[tuple[int, str]], needed: Sequence[str]) -> list[str]:
    """The columns that the first of a tab-separated file's rows names. Raises DataError when it lacks one of `needed`."""
    header = next(rows, (0, ""))[1].split("\t")
    if missing := [name for name in needed if name not in header]:
        raise DataError(f"{path}:1: the header names no column {', '.join(missing)}")
    return header


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
        header = _header(path, rows, needed)
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


_PAIR_NAMES = (
    ("sentence1", "sentence2", "gold_label"),  # MultiNLI, SNLI
    ("context", "hypothesis", "label"),  # ANLI
    ("sentence1", "sentence2", "label"),  # PAWS-X on the hub
    ("question1", "question2", "label"),  # QQP on the hub
    ("premise", "hypothesis", "label"),
)


def nli_jsonl(
    prefix: str,
    labels: tuple[str, ...],
    short: Mapping[str, str] | None = None,
    runs: bool = False,
    group_field: str = "",
    only: tuple[str, str] | None = None,
) -> Reader:
    """Pairs as JSON Lines, under the names that MultiNLI, SNLI, ANLI or the hub give them.

    Rows on which the annotators did not agree (label "-") are left out, as everybody does; they keep their row number.
    `short` spells labels out ("e" -> "entailment"). Groups as in `pairs_tsv`, or what stands in `group_field`.
    `only` is a field and the value that it has in the rows to take.
    """
    spelled = short or {}

    def read(path: Path, language: str) -> Iterator[Example]:
        group = _runs(prefix) if runs else fingerprint
        for number, (where, record) in enumerate(json_lines(path), start=1):
            if only and field(record, only[0], where) != only[1]:
                continue
            names = next((n for n in _PAIR_NAMES if n[0] in record and n[2] in record), _PAIR_NAMES[-1])
            first, second, label = (text_field(record, name, where) for name in names)
            if label != UNDECIDED:
                own = text_field(record, group_field, where) if group_field else group(first)
                yield Text(f"{prefix}-{number}", first, second, known(spelled.get(label, label), labels, where), own)

    return read


_IMAGE = re.compile(r"\w[\w-]*")  # what an image's name may be: no folder, no dot, so that it cannot lead out of the images' folder


def visual_jsonl(prefix: str, labels: tuple[str, ...]) -> Reader:
    """Visual entailment as JSON Lines (SNLI, SNLI-VE, IGLUE's XVNLI): the image that a caption is of is the premise, sentence2 the text.

    The caption itself is not read. The image is "Flikr30kID" (so spelt there), or what "captionID" begins with; its file is
    ID.jpg. Rows without label ("-") and captions of Visual Genome ("vg_..."), which SNLI holds some thousands of, are left out, as
    Xie et al. 2019 (arXiv 1901.06706) do; rows keep their number. The image is the group.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, (where, record) in enumerate(json_lines(path), start=1):
            name = "Flikr30kID" if "Flikr30kID" in record else "captionID"
            image = text_field(record, name, where).partition("#")[0].removesuffix(".jpg")
            label, text = text_field(record, "gold_label", where), text_field(record, "sentence2", where)
            if label == UNDECIDED or image.startswith("vg_"):
                continue
            if not _IMAGE.fullmatch(image):
                raise DataError(f'{where}: "{name}" is "{image}", which names no file of the images\' folder; get the annotations again')
            yield Text(f"{prefix}-{number}", text, None, known(label, labels, where), image, f"{image}.jpg")

    return read


def headed_tsv(prefix: str, columns: tuple[str, str, str], labels: Mapping[str, str]) -> Reader:
    """A tab-separated file with a header that names the columns (first text, second text, label), as GLUE and PAWS ship theirs.

    `labels` maps what stands in the file to the task's labels. Rows with fewer cells than the header are lines that
    GLUE's makers broke in two (QQP has some); like everybody else, we leave them out.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        rows = rows_of(path)
        header = _header(path, rows, columns)
        places = [header.index(name) for name in columns]
        for number, (line, row) in enumerate(rows, start=1):
            cells = row.split("\t")
            if len(cells) < len(header):
                continue
            where = f"{path}:{line}"
            if len(cells) > len(header):
                raise DataError(f"{where}: {len(cells)} tab-separated columns, the header names {len(header)}")
            first, second, label = (cells[place] for place in places)
            label = labels[known(label.strip(), tuple(labels), where)]
            yield Text(f"{prefix}-{number}", _unquoted(first), _unquoted(second), label, fingerprint(first))

    return read


def topics_tsv(prefix: str, labels: tuple[str, ...]) -> Reader:
    """SIB-200's tsv with a header: index_id, category, text. A sentence and its translations share the index, hence id and group."""

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, row in rows_of(path):
            where = f"{path}:{number}"
            name, label, text = _cells(row, "index_id, category, text", where)
            if number == 1 and name == "index_id":
                continue
            yield Text(f"{prefix}-{name}", text, None, known(label, labels, where), f"{prefix}-{name}")

    return read


def own_groups(rows: Iterable[Example]) -> Mapping[str, str]:
    """id -> the group that its reader gave it."""
    return {row.id: group_of(row) for row in rows}


def linked_groups(rows: Iterable[Example]) -> Mapping[str, str]:
    """id -> the first id among the pairs that hang together: those that share a sentence, on whichever side, and so on."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name] = leader[leader[name]]
        return name

    first: dict[str, str] = {}
    for row in rows:
        if isinstance(row, Text):
            leader[row.id] = row.id
            for text in (row.text, row.pair or row.text):
                at, other = find(row.id), find(first.setdefault(fingerprint(text), row.id))
                leader[at] = other
    return {name: find(name) for name in leader}


def grouped_as_in(english: str, read: Reader, groups: Callable[[Iterable[Example]], Mapping[str, str]] = own_groups) -> Reader:
    """`read` with the groups that the English rows of the same ids have: parallel rows share a group in every language.

    `english` names the English file from the folder of the one that is read. Raises DataError for an id without English row.
    """

    def with_groups(path: Path, language: str) -> Iterator[Example]:
        source = path.parent / english
        found = groups(read(source, "en"))
        for row in read(path, language):
            if row.id not in found:
                raise DataError(f'{path}: row "{row.id}" has no English row in {source.name}; are the files of one release?')
            yield replace(row, group=found[row.id])

    return with_groups


def paragraphs(path: Path) -> Iterator[tuple[Mapping[str, object], Mapping[str, object], str]]:
    """Article, paragraph and where they stand, of a file in SQuAD's layout. Raises DataError."""
    file = str(path)
    for item in list_field(json_file(path), "data", file):
        article = mapping(item, file)
        where = f"{file}: article {article.get('title')!r}"
        for paragraph in list_field(article, "paragraphs", where):
            yield article, mapping(paragraph, where), where


def squad_json(no_answer: bool = False, repeated_ids: bool = False, by_language: bool = False) -> Reader:
    """SQuAD's JSON, v1.1 or (`no_answer`) v2.0. Groups are article titles, or the context where there is no title.

    Every answer must stand in the context at its offset, to the character. `repeated_ids`: TyDiQA-GoldP as XTREME
    lays it out repeats ids; the second row with id "7" becomes "7#2". `by_language`: a file of several languages
    whose ids start with the English name ("finnish-..."); rows of other languages are left out.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        seen: dict[str, int] = {}
        for article, passage, where in paragraphs(path):
            context, title = text_field(passage, "context", where), article.get("title")
            group = title if isinstance(title, str) and title else fingerprint(context)
            for item in list_field(passage, "qas", where):
                record = mapping(item, where)
                name = text_field(record, "id", where)
                if by_language and _other_language(name, language):
                    continue
                count = seen[name] = seen.get(name, 0) + 1
                here = f'{path}: question "{name}"'
                if count > 1:
                    if not repeated_ids:
                        raise DataError(f"{here}: the id stands twice; give each question its own")
                    name = f"{name}#{count}"
                question = text_field(record, "question", here)
                yield Passage(name, question, context, _answers(record, context, no_answer, here), group)

    return read


def squad_jsonl(no_answer: bool = False) -> Reader:
    """SQuAD's questions as the hub keeps them, one a line: id, title, context, question, answers {text, answer_start}.

    The same rows as `squad_json` gives (there an article may hold no title; here the title is empty).
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        seen: set[str] = set()
        for where, record in json_lines(path):
            name, context = text_field(record, "id", where), text_field(record, "context", where)
            here = f'{where}: question "{name}"'
            if name in seen:
                raise DataError(f"{here}: the id stands twice; give each question its own")
            seen.add(name)
            both = mapping(field(record, "answers", here), here)
            texts, starts = (list_field(both, key, here) for key in ("text", "answer_start"))
            if len(texts) != len(starts):
                raise DataError(f"{here}: {len(texts)} answers but {len(starts)} offsets")
            items = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
            answers = _answers({"answers": items, "is_impossible": no_answer and not items}, context, no_answer, here)
            group = record.get("title") or fingerprint(context)
            yield Passage(name, text_field(record, "question", here), context, answers, str(group))

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


def _right(record: Mapping[str, object], name: str, names: Sequence[str], where: str) -> int:
    """Which of `names` stands in the field, 0-based; whole numbers may stand as text. Raises DataError."""
    label = field(record, name, where)
    if isinstance(label, bool) or not isinstance(label, int | str) or str(label) not in tuple(names):
        raise DataError(f"{where}: {name} {label!r} is none of {', '.join(names)}; labelled rows are needed")
    return names.index(str(label))


def hellaswag_jsonl(prefix: str) -> Reader:
    """HellaSwag's jsonl: ctx, endings (4), label (0-3). The context is `ctx`; an activity label is not used."""

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, (where, record) in enumerate(json_lines(path), start=1):
            context = text_field(record, "ctx", where)
            options = tuple(option for option in list_field(record, "endings", where) if isinstance(option, str))
            if len(options) != 4:
                raise DataError(f"{where}: {len(options)} endings, expected 4 texts")
            label = _right(record, "label", "0123", where)
            yield Choice(f"{prefix}-{number}", context, options, label=label, group=fingerprint(context))

    return read


CAUSES: Mapping[str, str] = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}


def copa_jsonl(prefix: str) -> Reader:
    """COPA's jsonl as SuperGLUE and XCOPA ship it: premise, choice1, choice2, question (cause, effect), label (0, 1), idx.

    The question is English in every language, as in XCOPA's own files; its words are those of COPA's instructions.
    An item and its translations share `idx`, hence id and group.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        for where, record in json_lines(path):
            number = field(record, "idx", where)
            if isinstance(number, bool) or not isinstance(number, int):
                raise DataError(f'{where}: "idx" should be a whole number, got {number!r}')
            premise, *options = (text_field(record, name, where) for name in ("premise", "choice1", "choice2"))
            question = CAUSES[known(text_field(record, "question", where), tuple(CAUSES), where)]
            name = f"{prefix}-{number}"
            yield Choice(name, premise, tuple(options), question, _right(record, "label", "01", where), name)

    return read


def ecare_jsonl(prefix: str) -> Reader:
    """e-CARE's jsonl: premise, ask-for (cause, effect), hypothesis1, hypothesis2, label (0, 1); asked as in `copa_jsonl`."""

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, (where, record) in enumerate(json_lines(path), start=1):
            premise, *options = (text_field(record, name, where) for name in ("premise", "hypothesis1", "hypothesis2"))
            question = CAUSES[known(text_field(record, "ask-for", where), tuple(CAUSES), where)]
            label = _right(record, "label", "01", where)
            yield Choice(f"{prefix}-{number}", premise, tuple(options), question, label, fingerprint(premise))

    return read


def dream_json(prefix: str) -> Reader:
    """DREAM's JSON: dialogues as [turns, questions, id]; a question has three choices, and its answer is one of them."""

    def read(path: Path, language: str) -> Iterator[Example]:
        value = parse("\n".join(text for _, text in lines(path)), str(path))
        for number, dialogue in enumerate(value if isinstance(value, list) else [], start=1):
            where = f"{path}: dialogue {number}"
            if not isinstance(dialogue, list) or len(dialogue) != 3 or not all(isinstance(each, list) for each in dialogue[:2]):
                raise DataError(f"{where}: expected [turns, questions, id]; download the file again")
            turns, questions, name = dialogue
            for place, item in enumerate(questions, start=1):
                record = mapping(item, where)
                options = tuple(map(str, list_field(record, "choice", where)))
                answer = text_field(record, "answer", where)
                if options.count(answer) != 1:
                    raise DataError(f'{where}: the answer "{answer}" is not one of the choices')
                question = text_field(record, "question", where)
                yield Choice(f"{prefix}-{number}-{place}", " ".join(turns), options, question, options.index(answer), f"{name}")

    return read


def socialiqa_jsonl(prefix: str, labels: str = "") -> Reader:
    """SocialIQA's jsonl: context, question, answerA to answerC, and which is `correct`.

    `labels` names the file beside it that holds the right answers, 1 to 3, one a line (the release of train and dev
    has them apart).
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        apart = [text for _, text in rows_of(path.parent / labels)] if labels else []
        count = 0
        for count, (where, record) in enumerate(json_lines(path), start=1):
            context, question = (text_field(record, name, where) for name in ("context", "question"))
            options = tuple(text_field(record, f"answer{letter}", where) for letter in "ABC")
            if labels:
                if count > len(apart):
                    raise DataError(f"{where}: {labels} holds {len(apart)} labels only; the files must be of one release")
                label = _right({"label": apart[count - 1].strip()}, "label", "123", f"{path.parent / labels}:{count}")
            else:
                label = _right(record, "correct", "ABC", where)
            yield Choice(f"{prefix}-{count}", context, options, question, label, fingerprint(context))
        if labels and count < len(apart):
            raise DataError(f"{path}: {count} rows, but {len(apart)} labels in {labels}; the files must be of one release")

    return read


def cosmosqa_csv(prefix: str) -> Reader:
    """CosmosQA's csv: id, context, question, answer0 to answer3, label (0-3)."""

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, (where, record) in enumerate(csv_rows(path), start=1):
            context, question = (text_field(record, name, where) for name in ("context", "question"))
            options = tuple(text_field(record, f"answer{i}", where) for i in range(4))
            label = _right(record, "label", "0123", where)
            yield Choice(f"{prefix}-{number}", context, options, question, label, fingerprint(context))

    return read


def commonsenseqa_jsonl(prefix: str) -> Reader:
    """CommonsenseQA's jsonl, official (question {stem, choices}) or as the hub keeps it: five options A to E, answerKey.

    There is no context; the group is the concept that the question was written about, which several questions share.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, (where, record) in enumerate(json_lines(path), start=1):
            question = field(record, "question", where)
            inner = record if isinstance(question, str) else mapping(question, where)
            stem = text_field(inner, "question" if isinstance(question, str) else "stem", where)
            choices = field(inner, "choices", where)
            if isinstance(choices, Mapping):
                letters, options = (list_field(choices, name, where) for name in ("label", "text"))
            else:
                both = [mapping(choice, where) for choice in list_field(inner, "choices", where)]
                letters, options = ([field(choice, name, where) for choice in both] for name in ("label", "text"))
            if letters != list("ABCDE") or not all(isinstance(option, str) for option in options):
                raise DataError(f"{where}: the options should be five texts A to E, got {letters}")
            label = _right(record, "answerKey", "ABCDE", where)
            concept = text_field(inner, "question_concept", where)
            yield Choice(f"{prefix}-{number}", "", tuple(map(str, options)), stem, label, fingerprint(concept))

    return read


def _sentence(name: str, words: list[str], tags: list[str]) -> Words:
    return Words(name, tuple(words), tuple(tags), fingerprint(" ".join(words)))


def words_tsv(prefix: str, labels: tuple[str, ...], marked: bool = False) -> Reader:
    """XTREME's tagging tsv: word, tab, tag; a blank line ends a sentence. The last sentence may end with the file.

    `marked`: every word stands after its language's code and a colon ("de:Haus"), as in PAN-X's own files.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        count = 0
        words: list[str] = []
        tags: list[str] = []
        for number, row in lines(path):
            if row:
                where = f"{path}:{number}"
                word, tag = _cells(row, "word, tag", where)
                word = word.removeprefix(f"{language}:") if marked else word
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


def words_jsonl(prefix: str, labels: tuple[str, ...]) -> Reader:
    """Tagged sentences as JSON Lines: words and tags, two lists of one length."""

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, (where, record) in enumerate(json_lines(path), start=1):
            words, tags = ([str(each) for each in list_field(record, name, where)] for name in ("words", "tags"))
            if len(words) != len(tags) or not all(words):
                raise DataError(f"{where}: {len(words)} words, {len(tags)} tags; they should be as many, and no word empty")
            yield _sentence(f"{prefix}-{number}", words, [known(tag, labels, where) for tag in tags])

    return read


def supertags(prefix: str, labels: tuple[str, ...], other: str) -> Reader:
    """CCG supertags, a sentence a line: word|category or word|part of speech|category, blanks between.

    Categories are `plain_category`; those outside `labels` become `other`.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        for number, row in rows_of(path):
            words: list[str] = []
            tags: list[str] = []
            for token in row.split():
                parts = token.split("|")
                if len(parts) not in (2, 3) or not parts[0] or not parts[-1]:
                    raise DataError(f'{path}:{number}: "{token}" is not word|category; write a bar inside a word as /')
                words.append(parts[0])
                category = plain_category(parts[-1])
                tags.append(category if category in labels else other)
            yield _sentence(f"{prefix}-{number}", words, tags)

    return read


_LEAF = re.compile(r"\(<L (\S+) \S+ \S+ (\S+) \S+>\)")


def ccgbank_auto(labels: tuple[str, ...], other: str) -> Reader:
    """CCGbank's AUTO files: a line "ID=wsj_0001.1 ..." and a line with the derivation, whose leaves are
    (<L category tag tag word category>). Categories as in `supertags`; brackets stand as -LRB- there and stay so.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        name = ""
        for number, row in rows_of(path):
            if row.startswith("ID="):
                name = row.split(None, 1)[0].removeprefix("ID=")
                continue
            leaves = _LEAF.findall(row)
            if not name or not leaves or len(leaves) != row.count("(<L "):
                raise DataError(f"{path}:{number}: no derivation of CCGbank (ID= line, then a tree with leaves <L ...>)")
            tags = [plain_category(category) for category, _ in leaves]
            yield _sentence(name, [word for _, word in leaves], [tag if tag in labels else other for tag in tags])
            name = ""

    return read


def plain_category(category: str) -> str:
    """A category without what parsers differ in: the feature [nb], which few keep, and indices of variables (S:X)."""
    return re.sub(r"\[nb\]|:[A-Z]\b", "", category)


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


def bucc_queries(path: Path, language: str) -> Iterator[Example]:
    """BUCC's sentences in the foreign language (xx-en.SPLIT.xx): id, tab, text. `gold` is the English translation's id
    in xx-en.SPLIT.gold; None says that it has none, as most.
    """
    gold = _bucc_gold(path.with_suffix(".gold"))
    for number, row in rows_of(path):
        name, text = _cells(row, "id, text", f"{path}:{number}")
        right = gold.pop(name, ())
        yield Parallel(name, text, "query", right[0] if right else None, name, right[1:])
    if gold:
        raise DataError(f'{path.with_suffix(".gold")}: names "{min(gold)}", which is no sentence of {path.name}')


def bucc_candidates(path: Path, language: str) -> Iterator[Example]:
    """BUCC's English sentences (xx-en.SPLIT.en); the group is the id of the sentence that it translates."""
    group = {english: other for other, found in _bucc_gold(path.with_suffix(".gold")).items() for english in found}
    for number, row in rows_of(path):
        name, text = _cells(row, "id, text", f"{path}:{number}")
        yield Parallel(name, text, "candidate", None, group.get(name, name))


def _bucc_gold(path: Path) -> dict[str, tuple[str, ...]]:
    gold: dict[str, tuple[str, ...]] = {}
    for number, row in rows_of(path):
        other, english = _cells(row, "id, English id", f"{path}:{number}")
        gold[other] = (*gold.get(other, ()), english)
    return gold


def answer_sentences(languages: Sequence[str]) -> Reader:
    """LAReQA's XQuAD-R (a file LANGUAGE.json each): the questions of one language, and one pool of sentences of all.

    The pool holds every sentence of every paragraph in those of `languages` that lie in the folder. Right is, in
    each of them, the first sentence that the answer starts in (Roy et al. 2020, section 3.1; as in XTREME-R's scripts).
    A candidate is its sentence alone; the authors' trained towers also read the paragraph.
    """

    def read(path: Path, language: str) -> Iterator[Example]:
        right: dict[str, list[str]] = {}
        pool: list[Example] = []
        questions: list[tuple[str, str, str]] = []
        for code in languages:
            file = path.with_name(f"{code}.json")
            if not file.is_file():
                continue
            for count, (article, paragraph, where) in enumerate(paragraphs(file), start=1):
                title, context = text_field(article, "title", str(file)), text_field(paragraph, "context", where)
                breaks = [_span(pair, context, where) for pair in list_field(paragraph, "sentence_breaks", where)]
                names = [f"{code}-{count}-{place}" for place in range(1, len(breaks) + 1)]
                pool += [Parallel(name, context[a:b], "candidate", None, title) for name, (a, b) in zip(names, breaks, strict=True)]
                for item in list_field(paragraph, "qas", where):
                    record = mapping(item, where)
                    name = text_field(record, "id", where)
                    here = f'{file}: question "{name}"'
                    start = _answers(record, context, False, here)[0].start
                    held = [sentence for sentence, (a, b) in zip(names, breaks, strict=True) if a <= start < b]
                    if not held:
                        raise DataError(f"{here}: no sentence of its paragraph holds character {start}, where the answer starts")
                    right.setdefault(name, []).append(held[0])
                    if code == language:
                        questions.append((name, text_field(record, "question", here), title))
        for name, text, title in questions:
            yield Parallel(name, text, "query", right[name][0], title, tuple(right[name][1:]))
        yield from pool

    return read


def _span(value: object, text: str, where: str) -> tuple[int, int]:
    match value:
        case [int() as start, int() as end] | {"start": int() as start, "end": int() as end} if 0 <= start < end <= len(text):
            return start, end
    raise DataError(f"{where}: {value!r} is no span of a text of {len(text)} characters")


def mewslix_mentions(path: Path, language: str) -> Iterator[Example]:
    """Mewsli-X's wikinews_mentions-SPLIT.jsonl: the mentions in one language's articles as queries for entities.

    The text is that of XTREME-R's baseline: the mention, a colon, and the sentence around it with the mention between
    braces. Raises DataError for a file whose article texts were not restored, and for offsets that do not fit.
    """
    for where, record in json_lines(path):
        context = mapping(field(record, "context", where), where)
        if text_field(context, "language", where) != language:
            continue
        text = text_field(context, "text", where)
        if not text:
            raise DataError(f"{where}: the article has no text; run get-mewsli-x.sh, which restores it")
        sentences = [_span(span, text, where) for span in list_field(context, "sentence_spans", where)]
        document = text_field(context, "document_id", where)
        for item in list_field(record, "mentions", where):
            mention = mapping(item, where)
            name, entity = text_field(mention, "example_id", where), text_field(mention, "entity_id", where)
            here = f'{where}: mention "{name}"'
            span = mapping(field(mention, "mention_span", here), here)
            start, end = _span({"start": field(span, "start", here), "end": field(span, "end", here)}, text, here)
            said = text_field(span, "text", here)
            if text[start:end] != said:
                raise DataError(f'{here}: "{said}" does not stand at characters {start} to {end}')
            around = next(((a, b) for a, b in sentences if a <= start and end <= b), None)
            if around is None:
                raise DataError(f"{here}: no sentence holds it")
            left, right = (re.sub(r"{(.*?)}", r"(\1)", part) for part in (text[around[0] : start], text[end : around[1]]))
            yield Parallel(name, _one_line(f"{said}: {left} {{ {said} }} {right}"), "query", entity, document)


def mewslix_entities(path: Path, language: str) -> Iterator[Example]:
    """Mewsli-X's candidate_set_entities.jsonl: every entity with its description, in whatever language that is."""
    for where, record in json_lines(path):
        name = text_field(record, "entity_id", where)
        yield Parallel(name, _one_line(text_field(record, "description", where)), "candidate", None, name)


def _one_line(text: str) -> str:
    return " ".join(text.split())
