"""Training rows in another language: what of an example is translated, and which rows stay.

A text is translated sentence by sentence, each distinct sentence once. Labels, ids and groups are the original's, so that
what leakage cutting knows of a row holds for its translation. An answer (span) is marked in its sentence before that is
translated: the row stays when exactly one marked span comes back, and that span is the answer. A row stays out when a text
of it comes back empty. Nothing is guessed; what stays out is counted.

An entry holds `rows.jsonl`, one translated row a line, and `facts.json`, the counts.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xstilts.canon import plain
from xstilts.errors import DataError, Stopped, StudyError, TranslationError
from xstilts.examples import CLOSE, OPEN, Answer, Choice, Example, Passage, Text, group_of
from xstilts.rows import select
from xstilts.stages import Apertium, Given, Progress, Rows, Seq2Seq, Translate
from xstilts.task import Task

KINDS = ("classify", "choose", "span")
ROWS = "rows.jsonl"
# A sentence ends here: a stop, closing quotes, space, then what begins one; not after an initial or a usual short form.
_BREAK = re.compile(r"""(?<=[.!?…])(?:["'”’)\]]{0,2})(\s+)(?=["'“‘(\[]?[A-Z0-9])|([ \t]*\n\s*)""")
_SHORT = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|No|vs|Jr|Sr|Prof|Gen|Col|Lt|Capt|Rev|Inc|Ltd|Co|Corp|ca|cf|al|etc|e\.g|i\.e))\.$")


@dataclass(frozen=True, slots=True)
class Translator:
    """What translates: `batches` says which texts go together (places), `translate` gives one translation a text of a batch.

    Both depend on the texts alone, so that a translation that was interrupted goes on with the next batch. Marks that stand
    around a span come back around its translation. What cannot be translated comes back as "".
    """

    batches: Callable[[Sequence[str]], Sequence[Sequence[int]]]
    translate: Callable[[Sequence[str]], Sequence[str]]


def refuse(task: Task, split: str, language: str) -> None:
    """Raises StudyError for what has no translation: a kind of task, a language that the task's rows are in already."""
    if task.kind not in KINDS:
        what = {"tag": "words and their tags have no translation", "mask": "raw text needs none"}.get(task.kind, "it is never trained on")
        raise StudyError(f"{task.name} is a {task.kind} task: {what}; {', '.join(KINDS)} tasks can be translated")
    if task.images:
        raise StudyError(f"{task.name} has images: its rows are trained on in {task.train_language} alone")
    if language == task.train_language or (split in task.source.splits and task.source.offers(split, language)):
        raise StudyError(f'{task.name} has its own {split} rows in "{language}"; name "{task.name}:{language}" in a mix')


def named(by: Given | Apertium | Seq2Seq) -> str:
    """A translator in words."""
    match by:
        case Given(data):
            return f"others (files {data[:8]})"
        case Apertium(release, mode, _):
            return f"Apertium {release} ({mode})"
        case Seq2Seq(model):
            return f"the model {model.weights if '@' in model.weights else model.weights[:12]}"


def said(by: Given | Apertium | Seq2Seq) -> str:
    """How rows were translated, in words."""
    return f"{'translated' if isinstance(by, Given) else 'machine-translated'} by {named(by)}"


# ---- texts of examples ----


def _texts(example: Example) -> tuple[str, ...]:
    """The texts of an example that are translated; the context of an answer has its mark."""
    match example:
        case Text(_, text, pair):
            return (text,) if pair is None else (text, pair)
        case Choice(_, context, options, question):
            return (context, question, *options)
        case Passage(_, question, context, answers):
            if not answers:
                return (question, _unmarked(context))
            start, end = answers[0].start, answers[0].start + len(answers[0].text)
            before, inside, after = (_unmarked(part) for part in (context[:start], context[start:end], context[end:]))
            return (question, f"{before}{OPEN}{inside}{CLOSE}{after}")
    raise TypeError(f"{type(example).__name__} has no translation")


def _unmarked(text: str) -> str:
    return text.replace(OPEN, " ").replace(CLOSE, " ")


def _with(example: Example, texts: Sequence[str]) -> Example | None:
    """The example with these texts in place of its own; None when its answer's mark has not come back once and whole."""
    match example:
        case Text(pair=pair):
            return replace(example, text=texts[0], pair=None if pair is None else texts[1])
        case Choice():
            return replace(example, context=texts[0], question=texts[1], options=tuple(texts[2:]))
        case Passage(answers=answers):
            question, context = texts
            if not answers:
                return replace(example, question=question, context=_unmarked(context))
            if context.count(OPEN) != 1 or context.count(CLOSE) != 1:
                return None
            before, _, rest = context.partition(OPEN)
            inside, mark, after = rest.partition(CLOSE)
            answer = inside.strip()
            if not mark or not answer:
                return None
            start = len(before) + inside.index(answer)
            return replace(example, question=question, context=f"{before}{inside}{after}", answers=(Answer(answer, start),))
    raise TypeError(f"{type(example).__name__} has no translation")


def sentences(text: str) -> list[tuple[str, str]]:
    """(sentence, the space that follows it), in order; they join to the text. No border is inside a marked span."""
    low, high = text.find(OPEN), text.find(CLOSE)
    found, at = [], 0
    for border in _BREAK.finditer(text):
        begin, end = border.span(1) if border[1] is not None else border.span(2)
        if low < begin < high or _SHORT.search(text[at:begin]):
            continue
        found.append((text[at:begin], text[begin:end]))
        at = end
    return [*found, (text[at:], "")]


# ---- translating ----


def translate(
    stage: Translate, originals: Sequence[Example], translator: Translator, draft: Path, emit: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> None:  # fmt: skip
    """Translates the rows and leaves the entry's files in `draft/out`.

    Finished batches are kept in `draft/texts.jsonl`; a later attempt goes on after them. Raises Stopped when `stop()` turns
    true, TranslationError when no row stays.
    """
    wanted = {core: None for example in originals for text in _texts(example) for core, _ in map(_core, sentences(text)) if core}
    known, seconds = _translated(list(wanted), translator, draft / "texts.jsonl", emit, stop)
    made: list[Example] = []
    empty = lost = 0
    for example in originals:
        texts = [(text, _joined(text, known)) for text in _texts(example)]
        if any(theirs is None or (ours.strip() and not theirs.strip()) for ours, theirs in texts):
            empty += 1
        elif (row := _with(example, [theirs or "" for _, theirs in texts])) is None:
            lost += 1
        else:
            made.append(row)
    counts = {"empty": empty, "lost": lost, "sentences": len(wanted), "characters": sum(map(len, wanted))}
    _write(stage, originals, made, {**counts, "seconds": round(seconds, 3)}, draft / "out")


def _core(piece: tuple[str, str]) -> tuple[str, str]:
    """A sentence without the space around it; "" for one without a letter or digit, which stays as it is."""
    core = piece[0].strip()
    return (core if any(c.isalnum() for c in core) else "", piece[0])


def _joined(text: str, known: Mapping[str, str]) -> str | None:
    """The translated sentences of a text with the spaces that stood between them; None when one is lost."""
    out = []
    for piece in sentences(text):
        core, whole = _core(piece)
        if not core:
            out.append(whole)
        elif not known[core].strip():
            return None
        else:
            at = whole.index(core)
            out += [whole[:at], known[core], whole[at + len(core) :]]
        out.append(piece[1])
    return "".join(out)


def _translated(
    texts: list[str], translator: Translator, path: Path, emit: Callable[[Progress], None], stop: Callable[[], bool]
) -> tuple[dict[str, str], float]:
    """Each text with its translation, and the seconds it took; what `path` holds of an earlier attempt is not done again."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    plan = translator.batches(texts)
    done = _resumed(path, digest, plan)
    seconds = sum(spent for _, spent in done)
    with path.open("a" if done else "w", encoding="utf-8") as file:
        if not done:
            file.write(json.dumps({"texts": digest}) + "\n")
        for batch in plan[len(done) :]:
            if stop():
                raise Stopped(f"stopped after {len(done)} of {len(plan)} batches; the next run goes on from there")
            began = time.perf_counter()
            found = list(translator.translate([texts[place] for place in batch]))
            spent = time.perf_counter() - began
            seconds += spent
            done.append((found, spent))
            file.write(json.dumps({"made": found, "seconds": spent}, ensure_ascii=False) + "\n")
            file.flush()
            so_far = sum(len(made) for made, _ in done)
            emit(Progress(so_far, len(texts), 0.0, so_far, seconds))
    pairs = ((place, made) for batch, (found, _) in zip(plan, done, strict=True) for place, made in zip(batch, found, strict=True))
    return {texts[place]: made for place, made in pairs}, seconds


def _resumed(path: Path, digest: str, plan: Sequence[Sequence[int]]) -> list[tuple[list[str], float]]:
    """The finished batches of an earlier attempt at the same texts; a line that a kill has broken off is taken out."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = raw[: raw.rfind(b"\n") + 1]
    if whole != raw:
        path.write_bytes(whole)
    head, *lines = whole.decode("utf-8").split("\n")[:-1] or [""]
    if not head or json.loads(head) != {"texts": digest}:
        return []
    records = [json.loads(line) for line in lines]
    if any(len(record["made"]) != len(batch) for record, batch in zip(records, plan, strict=False)):
        return []
    return [(record["made"], record["seconds"]) for record in records]


# ---- translations from elsewhere ----


def given_files(task: Task, folder: Path, split: str, language: str) -> tuple[str, tuple[Path, ...]]:
    """(language to read as, files) of translations that lie in a folder under the names of the task's own files.

    Names of the target language go first, where the task's files have such; then those of the original. Raises DataError.
    """
    own = (language,) if task.source.offers(split, language) else ()
    for code in (*own, task.train_language):
        try:
            return code, task.source.files(folder, split, code)
        except DataError as error:
            said = error
    raise DataError(f'translations of {task.name} into "{language}": {said}')


def given(stage: Translate, originals: Sequence[Example], whole: Sequence[Example], theirs: Iterator[Example], out: Path) -> None:
    """Checks translations made elsewhere against their originals, and leaves the entry's files in `out`.

    Raises TranslationError (naming the row) for a row that is none of the split's (`whole`), one that stands twice, and one with
    another label, number of options or form than its original. Originals without translation are counted.
    """
    began = time.perf_counter()
    about = f"translations of {stage.rows.task} {stage.rows.split} into {stage.language}"
    ours = {example.id: example for example in whole}
    found: dict[str, Example] = {}
    for each in theirs:
        if each.id not in ours:
            raise TranslationError(f'{about}: row "{each.id}" is none of the originals; translate the same release, in the same order')
        if each.id in found:
            raise TranslationError(f'{about}: row "{each.id}" stands twice; give each row once')
        if difference := _difference(ours[each.id], each):
            raise TranslationError(f'{about}: row "{each.id}": {difference}; are the rows those of the original, in its order?')
        found[each.id] = each
    made: list[Example] = []
    missing = empty = lost = 0
    for example in originals:
        if (row := found.get(example.id)) is None:
            missing += 1
        elif any(a.strip() and not b.strip() for a, b in zip(_plain_texts(example), _plain_texts(row), strict=True)):
            empty += 1
        elif isinstance(row, Passage) and any(not row.context.startswith(a.text, a.start) or not a.text for a in row.answers or ()):
            lost += 1
        else:
            made.append(replace(row, group=group_of(example)))
    counts = {"missing": missing, "empty": empty, "lost": lost, "seconds": round(time.perf_counter() - began, 3)}
    _write(stage, originals, made, counts, out)


def _plain_texts(example: Example) -> tuple[str, ...]:
    return (example.question, example.context) if isinstance(example, Passage) else _texts(example)


def _difference(ours: Example, theirs: Example) -> str:
    """In what a translation differs from its original beside its language; "" where in nothing."""
    match ours, theirs:
        case Text(), Text() if (ours.pair is None) != (theirs.pair is None):
            return "one text where the original has two" if theirs.pair is None else "two texts where the original has one"
        case Text(), Text() if ours.label != theirs.label:
            return f'label "{theirs.label}" where the original has "{ours.label}"'
        case Choice(), Choice() if len(ours.options) != len(theirs.options):
            return f"{len(theirs.options)} options where the original has {len(ours.options)}"
        case Choice(), Choice() if ours.label != theirs.label:
            return f"option {theirs.label} is right where the original has {ours.label}"
        case Passage(), Passage() if bool(ours.answers) != bool(theirs.answers):
            return "an answer where the original has none" if theirs.answers else "no answer where the original has one"
    return "" if type(ours) is type(theirs) else f"a {type(theirs).__name__} where the original is a {type(ours).__name__}"


# ---- entries ----


def _write(stage: Translate, originals: Sequence[Example], made: Sequence[Example], counts: Mapping[str, float], out: Path) -> None:
    characters = sum(len(text) for example in originals for text in _plain_texts(example))
    facts = {"rows": len(originals), "rows_characters": characters, "kept": len(made), **counts}
    if not made:
        raise TranslationError(f"{stage.rows.task} into {stage.language} by {named(stage.by)}: no row is left ({account(facts)})")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ROWS).open("w", encoding="utf-8", newline="\n") as file:
        for row in made:
            file.write(json.dumps(plain(row), ensure_ascii=False) + "\n")
    (out / "facts.json").write_text(json.dumps(facts) + "\n", "utf-8")


def account(facts: Mapping[str, Any]) -> str:
    """What became of the rows: "1,980 of 2,000 rows kept; 3 came back with an empty text, 17 without their answer"."""
    words = {"missing": "had no translation", "empty": "came back with an empty text", "lost": "came back without one whole answer"}
    out = [f"{facts[name]:,} {text}" for name, text in words.items() if facts.get(name)]
    return f"{facts['kept']:,} of {facts['rows']:,} rows kept" + (f"; {', '.join(out)}" if out else "")


def load(rows: Rows, entry: Path) -> list[Example]:
    """The rows of a translation's entry, capped as `rows` says. Raises TranslationError when the entry cannot be read."""
    try:
        with (entry / ROWS).open(encoding="utf-8") as file:
            found = [_example(json.loads(line)) for line in file]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TranslationError(f"{entry / ROWS}: {error}; delete the entry's folder and run again") from None
    return select(found, Rows(rows.task, rows.task_version, rows.part, rows.split, rows.language, rows.data, cap=rows.cap))


def _example(record: dict[str, Any]) -> Example:
    kind = record.pop("type")
    match kind:
        case "Text":
            return Text(**record)
        case "Choice":
            return Choice(**{**record, "options": tuple(record["options"])})
        case "Passage":
            answers = record.pop("answers")
            own = None if answers is None else tuple(Answer(each["text"], each["start"]) for each in answers)
            return Passage(**record, answers=own)
    raise KeyError(f'"{kind}" is no kind of row that is translated')
