"""From a task, a part and a language to rows: which rows those are (a value, in every key) and the rows themselves.

Parts that name the same split are cut by a hash of the group. The hash knows nothing but the group, so that tasks
which train on the same articles or premises hold out the same ones, and parallel items fall alike in every language.
"""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from xstilts.canon import unit_hash
from xstilts.errors import DataError, nearest
from xstilts.examples import Choice, Example, Parallel, Passage, Text, Words, group_of, is_candidate
from xstilts.readers import fingerprint
from xstilts.sources import Files, Pictured, lines
from xstilts.stages import Rows
from xstilts.task import Part, Parts, Task
from xstilts.tasks import names
from xstilts.tasks import task as find_task

FileHash = Callable[[Path], str]
Read = Callable[[str, str, str], Sequence[Example]]  # (task, split, language) -> its rows

_PARTS: tuple[Part, ...] = ("train", "dev", "test")
# Where the cuts lie when several parts name one split.
CUTS: Mapping[tuple[str, ...], tuple[float, ...]] = {
    ("train", "dev", "test"): (0.0, 0.8, 0.9, 1.0),
    ("train", "dev"): (0.0, 0.9, 1.0),
    ("dev", "test"): (0.0, 0.5, 1.0),
    ("train", "test"): (0.0, 0.8, 1.0),
}


def part_rows(
    task: Task, part: Part, language: str, parts: Parts, cap: int | None, data: Path, file_hash: FileHash, drop: bool = True,
    halved: bool = False,
) -> Rows:  # fmt: skip
    """The rows of one part of a task in one language, as a value; reads no rows.

    Training rows leave out what also stands in the dev and test rows of the training language, dev rows what stands
    in the test rows. Rows in another language also leave out what stands in the later parts in that language. A split that
    several parts share is cut in the training language, and in every language of a parallel task. Raises DataError for a
    part or language that the task does not have, a missing file, or a split that serves for scoring only.
    Rows of the splits that the task names under `apart` are left out of both. With `drop=False` nothing is left out,
    as where a published number was made without care for such rows; `check` counts them. With `halved` a shared split is
    cut in every language: what is chosen on dev rows in the scored languages must not see the scored ones.
    """
    split = _split(task, part, parts)
    if language not in task.languages and language != task.train_language:
        raise DataError(f'task {task.name} has no language "{language}"{nearest(language, task.languages)}')
    if cap is not None and cap < 1:
        raise DataError(f"cap of {task.name}, {part}: {cap} rows; give at least 1, or none for all")
    rows = _whole(task, part, language, parts, data, file_hash, halved)
    if not drop:
        return replace(rows, split=split, cap=cap)
    without: list[Rows] = []
    for other in _PARTS[_PARTS.index(part) + 1 :]:
        if getattr(parts, other) and _there(task, getattr(parts, other), task.train_language, data):
            without.append(_whole(task, other, task.train_language, parts, data, file_hash, halved))
        if language != task.train_language and not task.parallel and _there(task, getattr(parts, other), language, data):
            without.append(_whole(task, other, language, parts, data, file_hash, halved))
    for name, scored in task.apart if part != "test" else ():
        if _there(find_task(name), scored, "en", data):
            without.append(_whole(find_task(name), "test", "en", Parts("", "", scored), data, file_hash))
    return replace(rows, split=split, cap=cap, without=tuple(without))


def _split(task: Task, part: str, parts: Parts) -> str:
    split: str = getattr(parts, part)
    if not split:
        raise DataError(f"task {task.name} has no {part} part; a study may name a split for it under [splits.{task.name}]")
    if part != "test" and isinstance(task.source, Files) and split in task.source.test_only:
        raise DataError(f'split "{split}" of {task.name} serves for scoring only: other tasks are scored on its texts; not as {part}')
    return split


def _whole(task: Task, part: Part, language: str, parts: Parts, data: Path, file_hash: FileHash, halved: bool = False) -> Rows:
    split = _split(task, part, parts)
    shown = task.source.images(data, split, language) if isinstance(task.source, Pictured) else ()
    hashes = [file_hash(path) for path in (*task.source.files(data, split, language), *shown)]
    cut = (0.0, 1.0)
    if part != "test" or task.parallel or language == task.train_language or halved:
        sharing = tuple(p for p in _PARTS if getattr(parts, p) == split)
        if len(sharing) > 1:
            at = sharing.index(part)
            cut = (CUTS[sharing][at], CUTS[sharing][at + 1])
    digest = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    return Rows(task.name, task.version, part, split, language, digest, cut)


def _there(task: Task, split: str, language: str, data: Path) -> bool:
    """False when a split is not at hand in a language; a task may have no test rows in its training language."""
    try:
        task.source.files(data, split, language)
    except DataError:
        return False
    return True


def unseen_rows(task: Task, part: Part, language: str, parts: Parts, cap: int | None, data: Path) -> Rows | None:
    """Rows whose files are not at hand, to be priced and nothing else: their `data` is "". None where the files are there."""
    split = _split(task, part, parts)
    known = language in task.languages or language == task.train_language
    if not known or split not in task.source.splits or _there(task, split, language, data):
        return None
    return Rows(task.name, task.version, part, split, language, "", cap=cap)


def official(rows: Rows) -> int:
    """The official number of rows of a split in a language.

    Where it is not known, it is taken to be the mean of the split's other languages, else of the task's other splits that are
    scored. Raises DataError where none is known.
    """
    task = find_task(rows.task)
    if (own := task.sizes.get(f"{rows.split}-{rows.language}")) is not None:
        return own
    like = [count for name, count in task.sizes.items() if name.startswith(f"{rows.split}-")]
    like = like or [count for name, count in task.sizes.items() if not name.startswith("train")]
    if not like:
        raise DataError(f'{task.name}: how many rows "{rows.split}" has in "{rows.language}" is not known, so that it cannot be priced')
    return round(sum(like) / len(like))


def typical(rows: Rows, data: Path) -> Rows | None:
    """Rows at hand that read like `rows`: of another split or language of their task, else of another task of the kind; or None."""
    task = find_task(rows.task)
    for each in (task, *(other for name in names() if (other := find_task(name)).kind == task.kind and other is not task)):
        for language in dict.fromkeys((rows.language, *each.languages)):
            for split in each.source.splits:
                if _there(each, split, language, data):
                    return Rows(each.name, each.version, "test", split, language, "", cap=1000)
    return None


def available(task: Task, split: str, data: Path) -> tuple[str, ...]:
    """The languages of a task in which the files of `split` are there."""
    return tuple(language for language in task.languages if _there(task, split, language, data))


def load(rows: Rows, data: Path) -> list[Example]:
    """The rows themselves, in file order.

    `without` takes a row away when its group or its text (`content`) occurs in the other rows. `cap` keeps the first
    in hash order: of ids in training, of (group, id) in dev and test, so that capped parallel tests keep the same
    items in every language. In retrieval, `cap` counts queries; all candidates stay. Raises DataError (file and
    line) for a bad row, and when no row is left. Rows of a translation lie in the store: `translations.load` reads them.
    """
    if rows.translation is not None:
        raise ValueError(f"{describe(rows)}: read by translations.load")
    with _no_collection():
        kept = _selected(rows, _reader(data, find_task))
    if not kept:
        raise DataError(f'{describe(rows)}: no rows are left; choose other splits for {rows.task} in "{rows.language}"')
    return kept


def load_each(wanted: Iterable[Rows], data: Path) -> tuple[dict[Rows, list[Example]], dict[Rows, str]]:
    """The rows of each, every split read once, and of those that cannot be read why; no error is raised for one."""
    read, found, refused = _reader(data, find_task), dict[Rows, list[Example]](), dict[Rows, str]()
    with _no_collection():
        for rows in dict.fromkeys(wanted):
            if rows.translation is not None:
                refused[rows] = "a translation, whose rows lie in the store"
                continue
            try:
                found[rows] = _selected(rows, read)
            except DataError as error:
                refused[rows] = str(error)
    return found, refused


def _reader(data: Path, task_of: Callable[[str], Task]) -> Read:
    """Reads a split in a language once, however often it is asked for."""
    read: dict[tuple[str, str, str], list[Example]] = {}

    def once(task: str, split: str, language: str) -> Sequence[Example]:
        key = (task, split, language)
        if key not in read:
            read[key] = list(task_of(task).source.read(data, split, language))
        return read[key]

    return once


@contextmanager
def _no_collection() -> Iterator[None]:
    """Stops the cycle collector: it would walk 100,000 fresh rows, which hold no cycles, again and again (half the time)."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _selected(rows: Rows, read: Read) -> list[Example]:
    taken = {key for other in rows.without for key in _keys(_selected(other, read))}
    return select(read(rows.task, rows.split, rows.language), rows, taken)


def overlap(one: Rows, two: Rows, data: Path) -> int:
    """How many of `one`'s rows stand in `two` by group or text: what an intermediate task has seen of a target's test."""
    read = _reader(data, find_task)
    taken = _keys(_selected(two, read))
    rows = _selected(one, read)
    return sum(group_of(row) in taken or text in taken for row, text in zip(rows, _contents(rows), strict=True))


def select(examples: Sequence[Example], rows: Rows, taken: Iterable[str] = ()) -> list[Example]:
    """`examples` cut, without those whose group or content is in `taken`, and capped, as `rows` says."""
    kept = list(examples)
    if rows.cut != (0.0, 1.0):
        low, high = rows.cut
        inside = {group: low <= unit_hash(group, "cut") < high for group in {group_of(e) for e in examples}}
        kept = [e for e in kept if inside[group_of(e)]]
    if gone := frozenset(taken):
        kept = [e for e, text in zip(kept, _contents(kept), strict=True) if group_of(e) not in gone and text not in gone]
    if rows.cap is None:
        return kept
    counted = [e for e in kept if not is_candidate(e)]
    if len(counted) <= rows.cap:
        return kept
    order = {e.id: unit_hash(e.id if rows.part == "train" else f"{group_of(e)}\0{e.id}", "cap") for e in counted}
    first = {e.id for e in sorted(counted, key=lambda e: (order[e.id], e.id))[: rows.cap]}
    return [e for e in kept if is_candidate(e) or e.id in first]


def _stands_on(example: Example) -> str:
    """What an example stands on: premise, context, sentence, image."""
    match example:
        case Text(image=str() as image) if image:
            return image
        case Text() | Parallel():
            return example.text
        case Choice():
            return example.context or example.question
        case Words():
            return " ".join(example.words)
        case Passage():
            return example.context


def content(example: Example) -> str:
    """The fingerprint of what an example stands on: premise, context, sentence, image. Equal ones never serve twice."""
    return fingerprint(_stands_on(example))


def _contents(examples: Sequence[Example]) -> list[str]:
    """`content` of each; a text that many rows share is hashed once."""
    texts = [_stands_on(e) for e in examples]
    prints = {text: fingerprint(text) for text in set(texts)}
    return [prints[text] for text in texts]


def _keys(examples: Sequence[Example]) -> set[str]:
    """The groups and contents of rows: no two parts may share one."""
    return {group_of(e) for e in examples} | set(_contents(examples))


def describe(rows: Rows, data: Path | None = None) -> str:
    """Where rows come from, in one line: "train: xnli nli_dev en, groups 0.00-0.90 of 19,657 rows, ...".

    With `data`, the rows are counted (that reads them).
    """
    read = _reader(data, find_task) if data is not None else None
    if rows.translation is not None:
        most = "" if rows.cap is None else f", at most {rows.cap:,}"
        return f"{rows.part}: {rows.task} {rows.split} {rows.language}{most} (of {describe(rows.translation.rows)})"
    whole = f"{len(read(rows.task, rows.split, rows.language)):,} rows" if read else "all rows"
    without = f", without what stands in {text}" if (text := left_out(rows)) else ""
    most = f", at most {rows.cap:,}" if rows.cap is not None else ""
    whole = whole if rows.data else "rows that are not here"
    text = f"{rows.part}: {rows.task} {rows.split} {rows.language}, {_cut(rows, whole)}{without}{most}"
    return text + (f" = {len(_selected(rows, read)):,}" if read else "")


def chosen(rows: Rows) -> str:
    """Which rows of the split those are: "groups 0.00-0.90 of all rows, at most 300"."""
    return _cut(rows, "all rows") + (f", at most {rows.cap:,}" if rows.cap is not None else "")


def _cut(rows: Rows, whole: str) -> str:
    low, high = rows.cut
    return whole if rows.cut == (0.0, 1.0) else f"groups {low:.2f}-{high:.2f} of {whole}"


def left_out(rows: Rows) -> str:
    """What the rows leave out, where it stands in another split: "test (test en)"; "" for nothing."""
    others = [other for other in rows.without if (other.task, other.split) != (rows.task, rows.split)]
    where = [f"{other.split} {'each' if other.language == '*' else other.language}" for other in others]
    named = zip(others, where, strict=True)
    return " or ".join(f"{other.part} ({at})" if other.task == rows.task else f"{other.task} {at}" for other, at in named)


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows a split has in one language, and how many it officially has (None: not known).

    In retrieval rows are queries; `candidates` is the pool that they are looked for in.
    """

    split: str
    language: str
    rows: int
    official: int | None
    candidates: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `check` found: an "error" breaks the data contract, a "note" is good to know."""

    level: str
    split: str
    language: str
    text: str


@dataclass(frozen=True)
class Report:
    """What `check` found out about a task's data."""

    task: str
    counts: tuple[Count, ...]
    part_counts: Mapping[str, int]  # rows of each part in the training language, where they could be read
    findings: tuple[Finding, ...]
    missing: tuple[tuple[str, str], ...]  # (split, language) whose files are not there

    @property
    def ok(self) -> bool:
        """True when something is there and nothing breaks the contract."""
        return bool(self.counts) and all(finding.level != "error" for finding in self.findings)


def check(task: Task, data: Path, parts: Parts | None = None) -> Report:
    """The data contract of a task on what lies in `data`: every split in every language that is there.

    Errors: rows that cannot be read, labels outside the set, ids twice, offsets off, retrieval queries whose answer
    is no candidate, parallel rows whose ids or groups differ between languages, parts that share a group. Notes:
    sizes other than the official ones, empty texts, byte-order marks and CRLF, quotes that no quote closes, the same
    text under two labels, answers whose place is a guess, rows that were not translated, labels that differ between
    parallel rows, training rows dropped because they stand in dev or test. Each names a file or a row, and what to do.
    """
    read = _reader(data, lambda name: task if name == task.name else find_task(name))
    counts: list[Count] = []
    findings: list[Finding] = []
    missing: list[tuple[str, str]] = []
    languages = tuple(dict.fromkeys((task.train_language, *task.languages)))
    for split in task.source.splits:
        parallel: dict[str, Sequence[Example]] = {}
        for language in languages:
            if language not in task.languages and split not in (task.parts.train, task.parts.dev):
                continue
            if not task.source.offers(split, language):
                continue
            try:
                paths = task.source.files(data, split, language)
            except DataError:
                missing.append((split, language))
                continue
            try:
                examples = read(task.name, split, language)
                if isinstance(task.source, Pictured):
                    task.source.images(data, split, language)
            except DataError as error:
                findings.append(Finding("error", split, language, str(error)))
                continue
            official = task.sizes.get(f"{split}-{language}")
            candidates = sum(map(is_candidate, examples))
            counts.append(Count(split, language, len(examples) - candidates, official, candidates))
            if task.parallel:
                parallel[language] = examples
            found = [*_file_notes(paths), *_errors(task, examples, paths), *_notes(examples, paths)]
            if official is not None and official != counts[-1].rows:
                found.append(("note", f"{counts[-1].rows:,} rows, officially {official:,}"))
            findings += [Finding(level, split, language, text) for level, text in found]
        findings += _parallel(split, parallel)
    parted, found_parts = _check_parts(task, parts or task.parts, data, read)
    return Report(task.name, tuple(counts), parted, (*findings, *found_parts), tuple(missing))


def _file_notes(paths: Iterable[Path]) -> Iterable[tuple[str, str]]:
    for path in paths:
        raw = path.read_bytes()
        if raw.startswith(b"\xef\xbb\xbf"):
            yield "note", f"{path.name} starts with a byte-order mark; it is left out"
        if b"\r\n" in raw:
            line = raw.count(b"\n", 0, raw.index(b"\r\n")) + 1
            yield "note", f"{path.name}:{line}: the line ends with CRLF; read as LF"


def _errors(task: Task, examples: Sequence[Example], paths: Sequence[Path]) -> Iterable[tuple[str, str]]:
    where = _in(paths)
    twice = [name for name, n in Counter(e.id for e in examples).items() if n > 1]
    if twice:
        yield "error", f'{where}{len(twice)} ids stand more than once, the first: "{twice[0]}"; give each row its own'
    candidates = {e.id for e in examples if is_candidate(e)}
    for example in examples:
        if text := _wrong(task, example, candidates):
            yield "error", f'{where}row "{example.id}": {text}; download the file again, or mend the row'
            return  # the first says it; a wrong file has thousands


def _in(paths: Sequence[Path]) -> str:
    """The files that a finding is about, as the start of its line."""
    if not paths:
        return ""
    more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
    return f"{', '.join(path.name for path in paths[:2])}{more}: "


def _wrong(task: Task, example: Example, candidates: set[str]) -> str:
    match example:
        case Text(label=str() as label) if task.kind == "classify" and label not in task.labels:
            return f'label "{label}" is none of {", ".join(task.labels)}{nearest(label, task.labels)}'
        case Choice(label=int() as option) if not 0 <= option < len(example.options):
            return f"option {option} of {len(example.options)} is the right one"
        case Words(tags=tuple() as tags) if len(tags) != len(example.words):
            return f"{len(example.words)} words but {len(tags)} tags"
        case Words(tags=tuple() as tags) if wrong := [tag for tag in tags if tag not in task.labels]:
            return f'tag "{wrong[0]}" is none of {", ".join(task.labels)}{nearest(wrong[0], task.labels)}'
        case Passage(answers=tuple() as answers):
            off = [a for a in answers if not example.context.startswith(a.text, a.start)]
            if off:
                return f'the answer "{off[0].text}" does not stand at character {off[0].start}'
            return "" if answers or task.no_answer else "no answers, but this task has answers only"
        case Parallel(role="query") if task.retrieval != "mining" and example.gold is None:
            return "no candidate is named as its answer"
        case Parallel(role="query") if wrong := [gold for gold in example.golds if gold not in candidates]:
            return f'its answer "{wrong[0]}" is no candidate'
        case Text(label=None) | Choice(label=None) | Words(tags=None) | Passage(answers=None) if task.kind != "mask":
            return "no label"
    return ""


def _notes(examples: Sequence[Example], paths: Sequence[Path]) -> Iterable[tuple[str, str]]:
    where = _in(paths)
    empty = [e.id for e in examples if not all(text.strip() for text in texts(e))]
    if empty:
        yield "note", f'{where}{_rows(empty)} with an empty text, the first: "{empty[0]}"; they are used as they are'
    quoted = any(path.suffix in _PLAIN for path in paths)  # in JSON a quote is always one of the text
    stray = [e.id for e in examples if quoted and not isinstance(e, Words) and any(map(_stray_quote, texts(e)))]
    if stray:
        said = f'{_rows(stray)} with a text that starts or ends with a quote that nothing closes, the first: "{stray[0]}"'
        yield "note", f"{where}{said}; if a spreadsheet wrote the file, take the original"
    labels: dict[tuple[str, str], dict[str | None, str]] = {}
    for example in examples:
        if isinstance(example, Text) and example.pair is not None:
            labels.setdefault((example.text, example.pair), {}).setdefault(example.label, example.id)
    if torn := [rows for rows in labels.values() if len(rows) > 1]:
        rows = " and ".join(f'"{name}"' for name in torn[0].values())
        yield "note", f"{where}{len(torn)} pairs stand under more than one label, the first in rows {rows}; both are used"
    for path in paths:
        guessed = path.with_name(f"{path.stem}.ambiguous_offset_ids.txt")
        if guessed.is_file():
            listed = {text.strip() for _, text in lines(guessed)}
            own = [e.id for e in examples if e.id in listed]
            yield (
                "note",
                (
                    f"{path.name}: the answers of {_rows(own)} stand at several places, and which is meant is a guess "
                    f"({guessed.name}); scores do not depend on it, training does a little"
                ),
            )


_PLAIN = (".tsv", ".csv", ".txt")


def _rows(names: Sequence[str]) -> str:
    return f"{len(names):,} row{'s' * (len(names) != 1)}"


def _stray_quote(text: str) -> bool:
    return text.count('"') % 2 == 1 and (text.startswith('"') or text.endswith('"'))


def texts(example: Example) -> tuple[str, ...]:
    """Every text of an example that a model reads; of a tagged sentence its words, then all of them in one."""
    match example:
        case Text(pair=None) | Parallel():
            return (example.text,)
        case Text(pair=str() as pair):
            return (example.text, pair)
        case Choice():
            return (example.context or example.question, *example.options)
        case Words():
            return (*example.words, "".join(example.words))
        case Passage():
            return (example.question, example.context)
    return ()


def _parallel(split: str, rows: Mapping[str, Sequence[Example]]) -> Iterable[Finding]:
    """What parallel rows must have in common (ids, groups) and should (labels, a translation), against the first language."""
    if len(rows) < 2:
        return
    first, *others = rows
    shape = [(e.id, group_of(e)) for e in rows[first]]
    for other in others:
        own = [(e.id, group_of(e)) for e in rows[other]]
        if own != shape:
            at = next((i for i, (a, b) in enumerate(zip(shape, own, strict=False)) if a != b), min(len(shape), len(own)))
            text = f'its rows are not those of "{first}" from row {at + 1} on ({len(own):,} and {len(shape):,} rows)'
            yield Finding("error", split, other, f"{text}; take all languages from one release")
            continue
        both = list(zip(rows[first], rows[other], strict=True))
        if differ := [b.id for a, b in both if _label(a) != _label(b)]:
            text = f'{_rows(differ)} with another label than in "{first}", the first: "{differ[0]}"; each is used with its own'
            yield Finding("note", split, other, text)
        if left := [b.id for a, b in both if hardly_there(a, b)]:
            text = f'{_rows(left)} with a few letters where "{first}" has a sentence, the first: "{left[0]}"; translated or not, they count'
            yield Finding("note", split, other, text)


def _label(example: Example) -> str | int | None:
    return example.label if isinstance(example, Text | Choice) else None


def hardly_there(one: Example, other: Example) -> bool:
    """Under 5 characters where the first language has over 25 ("NS" in PAWS-X: not translated)."""
    # a tagged sentence has as many words as it likes in another language: the whole is what can be compared
    pair = (texts(one)[-1:], texts(other)[-1:]) if isinstance(one, Words) else (texts(one), texts(other))
    return any(len(text) < 5 and len(whole) > 25 for whole, text in zip(*pair, strict=True))


def _check_parts(task: Task, parts: Parts, data: Path, read: Read) -> tuple[dict[str, int], list[Finding]]:
    """The parts of the training language: their sizes, what `without` took away, and that no two share a group."""
    loaded: dict[Part, list[Example]] = {}
    findings: list[Finding] = []
    for part in _PARTS:
        split = getattr(parts, part)
        if not split or not _there(task, split, task.train_language, data):
            continue
        try:
            rows = part_rows(task, part, task.train_language, parts, None, data, lambda path: "")
            loaded[part] = _selected(rows, read)
            whole = _selected(replace(rows, without=()), read)
        except DataError:
            continue  # already found where the split was read
        kept = {e.id for e in loaded[part]}
        if dropped := [e.id for e in whole if e.id not in kept]:
            others = " or ".join(dict.fromkeys(_named(task, other) for other in rows.without))
            text = f'{_rows(dropped)} of {part} left out, the first: "{dropped[0]}": their text or group also stands in {others}'
            findings.append(Finding("note", split, rows.language, text))
        if not loaded[part]:
            findings.append(Finding("error", split, rows.language, f"no rows are left for {part}; name other splits for its parts"))
    keys = {part: _keys(examples) for part, examples in loaded.items()}
    for one, two in combinations(loaded, 2):
        if both := keys[one] & keys[two]:
            text = f"{one} and {two} share {len(both)} groups or texts, one of them: {min(both)}"
            findings.append(Finding("error", getattr(parts, one), task.train_language, text))
    return {part: len(examples) for part, examples in loaded.items()}, findings


def _named(task: Task, rows: Rows) -> str:
    return f"{rows.part} ({rows.split})" if rows.task == task.name else f"{rows.task} {rows.split}"
