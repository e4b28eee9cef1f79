"""Examples as text and text as answers: what a model in the form "text" reads and writes.

Whose formats these are:

* entailment, "xnli: premise: P hypothesis: H" -> "0", "1", "2"; answers to questions, "question: Q context: C" -> the answer, with
  spaces around punctuation; names, "tag: W" -> "PER: rick $$ PER: morty": the code of mT5 (Xue et al. 2021, arXiv 2010.11934;
  google-research/multilingual-t5, preprocessors.py: process_mnli, xquad, wikiann);
* paraphrase, "paws sentence1: A sentence2: B" -> "paraphrase" or "different_meaning", and MRPC, QQP and RTE alike: T5's GLUE format
  (Raffel et al. 2020, appendix D), which mT5's tasks.py uses for PAWS-X; it is also the general form of a classifying task here;
* choices, "NAME choice1: A choice2: B premise: C question: Q" -> "choice1": T5's COPA (ibid.), with as many choices as there are;
* ours: one tag a word, "NAME: W" -> the tags with spaces between (POS, supertags); a question without answer -> the empty text; and
  every prompt for a model that was not tuned, save entailment (GPT-3's, Brown et al. 2020, arXiv 2005.14165, appendix G).

A target text says less than the answer it stands for: where a name stands twice, tagged the second time only, its text is found at
its first place. Entities that two rows of one long sentence share are cut there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from xstilts.errors import DataError
from xstilts.examples import Choice, Example, Passage, Text, Words
from xstilts.languages import language as find_language
from xstilts.task import Task

NONE = "none"  # how a model that was not tuned is asked to say that there is no answer
_SLOT = re.compile(r"(\{\w+\})")
_LISTED = 20  # the most tags that a prompt names


@dataclass(frozen=True, slots=True)
class Prompt:
    """An input text in parts; those that `free` marks are the example's own and may be cut to fit."""

    parts: tuple[str, ...]
    free: tuple[bool, ...]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.parts)


@dataclass(frozen=True, slots=True)
class Found:
    """What of an output could be used: `right` of `many` names (or answers) stand in the input; `foreign` are in another script."""

    many: int = 0
    right: int = 0
    foreign: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(self.many + other.many, self.right + other.right, self.foreign + other.foreign)


def _filled(template: str, **texts: str) -> Prompt:
    pieces = [piece for piece in _SLOT.split(template) if piece]
    own = [bool(_SLOT.fullmatch(piece)) for piece in pieces]
    return Prompt(tuple(texts[p[1:-1]] if free else p for p, free in zip(pieces, own, strict=True)), tuple(own))


def names_entities(task: Task) -> bool:
    """True for a tagging task whose target is a list of names: its tags say where each begins (B-PER, I-PER)."""
    return any(label.startswith("B-") for label in task.labels)


def types(task: Task) -> tuple[str, ...]:
    """The types of name that a task has, in alphabetical order."""
    return tuple(sorted({label[2:] for label in task.labels if label[:2] in ("B-", "I-")}))


# ---- inputs ----


def prompt(example: Example, task: Task, natural: bool = False) -> Prompt:
    """What the model reads. `natural` is the wording for one that was not tuned on the task's form."""
    match example:
        case Text():
            return _classifying(example, task, natural)
        case Choice():
            return _choosing(example, task, natural)
        case Words():
            return _tagging(example, task, natural)
        case Passage():
            return _asking(example, task, natural)
    raise TypeError(f"{type(example).__name__} has no text form")


def _classifying(example: Text, task: Task, natural: bool) -> Prompt:
    wording = task.wording
    if natural and wording.ask:
        template = wording.ask
    elif natural:
        texts = "Text: {first}" if example.pair is None else "Sentence 1: {first}\nSentence 2: {second}"
        template = f"{texts}\nQuestion: Which label fits, {_listed(task.labels)}?\nAnswer:"
    elif wording.form:
        template = wording.form
    else:
        template = f"{task.name} sentence: {{first}}" if example.pair is None else f"{task.name} sentence1: {{first}} sentence2: {{second}}"
    return _filled(template, first=example.text, second=example.pair or "")


def _choosing(example: Choice, task: Task, natural: bool) -> Prompt:
    if natural:
        given = "\n".join(f"{{{name}}}" for name in ("context", "question") if getattr(example, name))
        return _filled(f"{given}\nAnswer:", context=example.context, question=example.question)
    named = {f"choice{number}": option for number, option in enumerate(example.options, start=1)}
    template = f"{task.name} {' '.join(f'{name}: {{{name}}}' for name in named)} premise: {{context}}"
    template += " question: {question}" if example.question else ""
    return _filled(template, context=example.context, question=example.question, **named)


def _tagging(example: Words, task: Task, natural: bool) -> Prompt:
    text = " ".join(example.words)
    if not natural:
        return _filled("tag: {words}" if names_entities(task) else f"{task.name}: {{words}}", words=text)
    if names_entities(task):
        kinds = types(task)
        model = " $$ ".join(f"{kind}: name" for kind in kinds)
        ask = f"Question: Which names of the types {_listed(kinds)} does the text hold? Write them as {model}\nAnswer:"
    elif len(task.labels) <= _LISTED:
        ask = f"Question: What is the tag of each word, one after the other, out of {_listed(task.labels)}?\nAnswer:"
    else:
        ask = "Question: What is the tag of each word, one after the other?\nAnswer:"
    return _filled(f"Text: {{words}}\n{ask}", words=text)


def _asking(example: Passage, task: Task, natural: bool) -> Prompt:
    if natural:
        otherwise = f' (Say "{NONE}" where the text does not answer it.)' if task.no_answer else ""
        template = f"Text: {{context}}\nQuestion: {{question}}{otherwise}\nAnswer:"
        return _filled(template, question=example.question, context=example.context)
    question, context = spaced(example.question), spaced(example.context)
    return _filled("question: {question} context: {context}", question=question, context=context)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def spaced(text: str) -> str:
    """`text` with spaces around all that is no letter, mark, digit or underscore, as mT5's code has it; white space cut."""
    out = (c if c == "_" or c.isspace() or unicodedata.category(c)[0] in "LMN" else f" {c} " for c in text)
    return " ".join("".join(out).split())


# ---- targets ----


def candidates(example: Text | Choice, task: Task, natural: bool = False) -> tuple[str, ...]:
    """The texts that stand for the labels, in their order, or for the options."""
    if isinstance(example, Text):
        wording = task.wording
        return (wording.words if natural and wording.ask else () if natural else wording.labels) or task.labels
    return example.options if natural else tuple(f"choice{number}" for number, _ in enumerate(example.options, start=1))


def target(example: Example, task: Task) -> str:
    """The text that a model is trained to write. Raises DataError for a label that the task does not have, or none."""
    match example:
        case Text(label=str() as label):
            if label not in task.labels:
                raise DataError(f'{task.name}: row {example.id} has the label "{label}" (known: {", ".join(task.labels)})')
            return candidates(example, task)[task.labels.index(label)]
        case Choice(label=int() as option):
            if not 0 <= option < len(example.options):
                raise DataError(f"{task.name}: row {example.id} has the label {option} for {len(example.options)} options")
            return candidates(example, task)[option]
        case Words(tags=tuple() as tags):
            if len(tags) != len(example.words):
                raise DataError(f"{task.name}: sentence {example.id} has {len(example.words)} words and {len(tags)} tags")
            if odd := [tag for tag in tags if tag not in task.labels]:
                raise DataError(f'{task.name}: sentence {example.id} has the tag "{odd[0]}" (known: {", ".join(task.labels)})')
            if not names_entities(task):
                return " ".join(tags)
            return " $$ ".join(f"{kind}: {' '.join(example.words[a:b])}" for kind, a, b in chunks(tags))
        case Passage(answers=tuple() as answers):
            return spaced(answers[0].text) if answers else ""
    raise DataError(f"{task.name}: row {example.id} is unlabelled, so that it cannot be trained on")


def chunks(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """(type, first word, word after the last) of each name; an I- that continues nothing begins one, as conlleval has it."""
    begun = None
    for place, tag in enumerate((*tags, "O")):
        prefix, kind = tag[:1], tag[2:]
        if begun is not None and (prefix != "I" or kind != tags[begun][2:]):
            yield tags[begun][2:], begun, place
            begun = None
        if prefix in ("B", "I") and begun is None:
            begun = place


# ---- outputs ----


def answer(example: Passage, output: str, task: Task, language: str, natural: bool = False) -> tuple[str, Found]:
    """The answer that an output stands for: as it stands in the context where that holds it, whatever its spaces; else the output.

    Compared by compatibility decomposition, which tokenizers that normalise do not undo, without white space; where that finds
    nothing, without format signs (zero-width spaces) too.
    """
    text = (output.strip().splitlines() or [""])[0].strip() if natural else output.strip()
    if not text or (natural and task.no_answer and text.strip(".").lower() == NONE):
        return "", Found()
    if there := next(filter(None, (_standing(example.context, text, signs) for signs in (True, False))), ""):
        return there, Found(1, 1)
    return text, Found(1, 0, int(foreign(text, language)))


def _standing(context: str, text: str, signs: bool) -> str:
    """`text` as it stands in the context: the first place that is cut into words as it is, else the first; "" where there is none."""
    wanted, flat = "".join(c for c, _ in _flat(text, signs)), list(_flat(context, signs))
    whole = "".join(c for c, _ in flat)
    starts = [found.start() for found in re.finditer(f"(?={re.escape(wanted)})", whole)] if wanted else []
    places = [context[flat[at][1] : flat[at + len(wanted) - 1][1] + 1] for at in starts]
    cut = spaced(unicodedata.normalize("NFKC", text))
    return next((place for place in places if spaced(unicodedata.normalize("NFKC", place)) == cut), places[0] if places else "")


def tags(words: Sequence[str], output: str, task: Task, language: str, natural: bool = False) -> tuple[tuple[str, ...], Found]:
    """A tag a word out of a list of names: each is looked for after the last one found, then from the start, among untagged words."""
    if natural:
        output = (output.strip().splitlines() or [""])[0]
    kinds = "|".join(re.escape(kind) for kind in types(task))
    pieces = re.split(rf"(?:^|\$\$)\s*({kinds})\s*:\s*", output.strip())
    flat = [_letters(word) for word in words]
    found = ["O"] * len(words)
    cursor, seen = 0, Found()
    for kind, text in zip(pieces[1::2], pieces[2::2], strict=True):
        name = text.strip()
        place = _place(flat, found, _letters(name), cursor)
        if place is None:
            seen += Found(1, 0, int(foreign(name, language)))
            continue
        first, cursor = place
        found[first:cursor] = [f"B-{kind}", *[f"I-{kind}"] * (cursor - first - 1)]
        seen += Found(1, 1)
    return tuple(found), seen


def _place(flat: Sequence[str], tagged: Sequence[str], name: str, cursor: int) -> tuple[int, int] | None:
    """First word and word after the last of a run of untagged words that make up `name`; None where there is none."""
    for first in (*range(cursor, len(flat)), *range(cursor)):
        text, last = "", first
        while last < len(flat) and tagged[last] == "O" and len(text) < len(name):
            text, last = text + flat[last], last + 1
        if name and text == name and flat[first]:
            return first, last
    return None


def _flat(text: str, signs: bool = False) -> Iterator[tuple[str, int]]:
    """The characters that are compared, each with the number of the one that it comes from; `signs`: format signs too."""
    for number, whole in enumerate(text):
        for c in unicodedata.normalize("NFKD", whole):
            if not c.isspace() and unicodedata.category(c) not in (("Cc",) if signs else ("Cc", "Cf")):
                yield c, number


def _letters(text: str) -> str:
    return "".join(c for c, _ in _flat(text))


# ---- scripts ----

# how Unicode names the letters of a script, where that is not the script's own name
_NAMES = {"Han": ("CJK", "IDEOGRAPHIC"), "Japanese": ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA"), "Hangul": ("HANGUL", "CJK")}


def foreign(text: str, language: str) -> bool:
    """True when more than half of the letters are of scripts in which the language is not written.

    Languages that share a script are not told apart: German where Spanish was to come is not seen. Asked only of what does not
    stand in the input, where a name in another script would be right.
    """
    script = find_language(language).script
    own = _NAMES.get(script, (script.upper(),))
    letters = [c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c)[0] == "L"]
    return 2 * sum(not _named(c).startswith(own) for c in letters) > len(letters)


@cache
def _named(letter: str) -> str:
    return unicodedata.name(letter, "")
