"""What a model makes of the scored texts, and how much text of a language it was made from: counts without weights or torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log10
from pathlib import Path

from xstilts.analysis.languages import Covariate
from xstilts.canon import key_of
from xstilts.errors import ModelError, XstiltsError
from xstilts.examples import Example, Words
from xstilts.languages import LANGUAGES, great_circle, order_distance, other_script, tree_distance
from xstilts.models import fetch
from xstilts.plan import Plan
from xstilts.rows import load_each, texts
from xstilts.stages import Pretrained, Rows, Start
from xstilts.store import Store, write_json

UNSPACED = ("Han", "Japanese", "Thai", "Myanmar")  # scripts without a mark between words: there is no number of words to divide by
# to English
_DISTANCES = (
    ("family tree", "steps to a common node with English, of three", tree_distance),
    ("distance", "thousands of kilometres to England on a great circle, one place a language (after WALS)", great_circle),
    (
        "word order",
        "share of eight word orders in which it differs from English, those not known left out "
        "(Dryer and Haspelmath 2013, WALS 81A, 83A, 85A, 86A, 87A, 89A, 90A, 93A)",
        order_distance,
    ),
    ("script", "1 where it is not that of English", other_script),
)


@dataclass(frozen=True, slots=True)
class Fertility:
    """How long scored texts are for a tokenizer. `words` are what stands between spaces; None in a script without them."""

    tokens: int  # without special tokens, nothing cut
    words: int | None
    characters: int  # spaces not counted

    @property
    def per_word(self) -> float | None:
        """Tokens a word (Rust et al. 2021, section 3.2)."""
        return self.tokens / self.words if self.words else None

    @property
    def per_character(self) -> float:
        return self.tokens / self.characters


@dataclass(frozen=True, slots=True)
class TextFacts:
    """By model and target, the fertility in each language; by model, the lines of text in each language that it was made from."""

    fertility: Mapping[tuple[str, str], Mapping[str, Fertility]] = field(default_factory=dict)
    lines: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def known(self, model: str, target: str, codes: Sequence[str]) -> Iterable[Covariate]:
        """What slopes are fitted over: distances to English, tokens a word and a character, lines of pretraining text."""
        for name, about, distance in _DISTANCES:
            yield Covariate(name, about, {code: value for code in codes if (value := distance(code, "en")) is not None})
        made = self.fertility.get((model, target), {})
        words = {code: each.per_word for code, each in made.items() if each.per_word is not None}
        characters = {code: each.per_character for code, each in made.items()}
        yield Covariate("tokens a word", "of the scored rows (Rust et al. 2021); none for scripts without spaces", words)
        yield Covariate("tokens a character", "of the same, spaces not counted", characters)
        lines = {code: log10(count) for code, count in self.lines.get(model, {}).items() if count > 0}
        yield Covariate("pretraining text", "powers of ten of lines, where the pretraining was ours", lines)


def text_facts(made: Plan, store: Store, data: Path) -> TextFacts:
    """What can be known without the network: a model whose tokenizer is not at hand, and rows that cannot be read, are left out.

    Counts are kept in the store's cache.
    """
    wanted: dict[tuple[str, str], dict[str, Rows]] = {}
    for cell in made.cells:
        wanted.setdefault((cell.model, cell.target), {})[cell.language] = cell.predict.rows
    folders = {name: folder for name, start in made.models.items() if (folder := _folder(start, made, store)) is not None}
    path = store.cache / "fertility.json"
    try:
        kept: dict[str, list[int | None]] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        kept = {}

    def name(model: str, rows: Rows) -> str:
        return key_of([made.models[model].key, rows])

    lacking = [
        (model, code, rows)
        for (model, _), own in wanted.items() if model in folders for code, rows in own.items() if name(model, rows) not in kept
    ]  # fmt: skip
    if lacking:
        read, _ = load_each([rows for _, _, rows in lacking], data)
        for model, code, rows in lacking:
            if rows in read:
                try:
                    found = fertility(folders[model] / "tokenizer.json", code, read[rows])
                except ModelError:
                    continue  # what cannot be read is not counted; a run of the model says what is wrong with it
                kept[name(model, rows)] = [found.tokens, found.words, found.characters]
        try:
            write_json(path, kept)
        except OSError:
            pass  # it is counted again then
    counted: dict[tuple[str, str], dict[str, Fertility]] = {}
    for (model, target), own in wanted.items():
        for code, rows in own.items() if model in folders else ():
            tokens, words, characters = kept.get(name(model, rows), (0, 0, 0))
            if tokens and characters:
                counted.setdefault((model, target), {})[code] = Fertility(tokens, words, characters)
    return TextFacts(counted, {model: lines for model, folder in folders.items() if (lines := _lines(folder))})


def fertility(tokenizer: Path, language: str, examples: Iterable[Example]) -> Fertility:
    """Counts over every text of the rows. A tagged sentence is its words with spaces between, whatever its script. Raises ModelError."""
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{tokenizer}: {error}") from None
    made.no_truncation()
    made.no_padding()
    found = [text for each in examples for text in ([" ".join(each.words)] if isinstance(each, Words) else texts(each))]
    tokens = sum(len(each.ids) for each in made.encode_batch_fast(found, add_special_tokens=False))
    spaced = language in LANGUAGES and LANGUAGES[language].script not in UNSPACED
    words = sum(len(text.split()) for text in found) if spaced else None
    return Fertility(tokens, words, max(1, sum(len("".join(text.split())) for text in found)))


def _folder(start: Start, made: Plan, store: Store) -> Path | None:
    """The folder of a model's tokenizer.json and of what is told of its making; None where it is not at hand."""
    try:
        if isinstance(start, Pretrained):
            folder = fetch(made.where[start.key], offline=True)
        else:
            entry = store.find(start.key)
            folder = entry / "encoder" if entry is not None else Path()
    except (XstiltsError, KeyError, OSError):
        return None
    return folder if (folder / "tokenizer.json").is_file() else None


def _lines(folder: Path) -> dict[str, int]:
    """Lines of raw and of parallel text by language, from the account that our pretraining leaves beside or above the weights."""
    for path in (folder / "provenance.json", folder.parent / "provenance.json"):
        try:
            found = json.loads(path.read_text("utf-8"))
            tables = [found["text_lines"], *found["parallel_lines"].values()]
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        return {code: sum(int(table.get(code, 0)) for table in tables) for code in sorted({code for table in tables for code in table})}
    return {}
