"""Phrase grammars of the embedded benchmark: data files in, words with tags and entities out.

A language is a file `data/<code>.toml`: word lists with their inflected forms, and patterns.
There is no code for any one language here. A pattern is a list of items between spaces:

    word/TAG      a word and its UPOS tag (the tag may be left out where the list has a default)
    {r} {r.f}     the word that fills role r, in its first form or in form f
    {r.f:q}       form f as the word in role q wants it: column `f_<class of q>`, else `f`, else `<class of q>`
    [PER ... ]    a named entity (PER, LOC, ORG); an entity inside another one belongs to the outer one
    < ... >       the part of a complement that answers "what?" or "where?"
    w+            w is written together with the next word (Arabic "and")
    -             nothing

Roles: s subject, f its family name, x complement (made by the tables [x]), v verb, o object, a adjective,
n number, r person with a profession, p place, c city, g organisation, h its name, t time or city;
1 2 3 are the clauses of a sentence. A clause comes in a mood (plain, perhaps, ...), a sentence may ask for
a variant of it ("{2:sub}"): the pattern `sub_perhaps` is taken when there is one, else `perhaps`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from xstilts.errors import DataError, nearest

FOLDER = Path(__file__).parent / "data"
LANGUAGES = ("en", "de", "es", "ru", "tr", "fi", "id", "sw", "hi", "ar", "zh", "ja")

# the list that a role is filled from, and the tag of its words where the list names none
ROLES = {
    "s": "person",
    "f": "family",
    "r": "role",
    "o": "object",
    "p": "place",
    "c": "city",
    "a": "adjective",
    "n": "number",
    "v": "verb",
}
TAGS = {
    "person": "PROPN", "family": "PROPN", "city": "PROPN", "role": "NOUN", "object": "NOUN", "place": "NOUN", "time": "NOUN",
    "adjective": "ADJ", "number": "NUM", "verb": "VERB", "function": "DET", "organisation": "NOUN",
}  # fmt: skip
ENTITY = {"person": "PER", "family": "PER", "city": "LOC"}
CLOSING = frozenset(".,;:?!。，、？；：।؟،؛")
ENDING = frozenset(".?!。？।؟")
OPENING = frozenset("¿")
BOUNDARY = "\x1f"  # the unit separator; normalisers of tokenizers drop it
DASHES = frozenset("—·・")


@dataclass(frozen=True, slots=True)
class Clause:
    """What a clause says: `what` (a predicate), who or what fills its roles (role, list, entry), and its mood."""

    what: str
    roles: tuple[tuple[str, str, str], ...]
    mood: str = "plain"

    def filler(self, role: str) -> str:
        """The entry in a role, or an empty string."""
        return next((entry for name, _, entry in self.roles if name == role), "")

    def value(self) -> str:
        """What is said of the subject, as a key: predicate and fillers without the subject's name."""
        return ":".join([self.what, *(entry for name, _, entry in self.roles if name not in "sf")])

    def key(self) -> str:
        """Predicate and all fillers, as a key."""
        return f"{self.filler('s')}={self.value()}"

    def by(self, entry: str) -> Clause:
        """The same said of another subject."""
        return replace(self, roles=tuple((name, lst, entry if name == "s" else old) for name, lst, old in self.roles))

    def to(self, mood: str) -> Clause:
        """The same in another mood."""
        return replace(self, mood=mood)


class Token(NamedTuple):
    """A word: form, UPOS tag, entity in BIO notation, what it answers ("s1": subject of clause 1), and its spacing."""

    form: str
    tag: str
    entity: str = "O"
    answer: str = ""
    left: bool = False  # written together with the word before
    right: bool = False  # written together with the word after


@dataclass(frozen=True)
class Rendered:
    """The words of one or more sentences in a language."""

    tokens: tuple[Token, ...]
    spaces: bool

    @property
    def words(self) -> tuple[str, ...]:
        """The word forms."""
        return tuple(token.form for token in self.tokens)

    @property
    def tags(self) -> tuple[str, ...]:
        """UPOS tags, one a word."""
        return tuple(token.tag for token in self.tokens)

    @property
    def entities(self) -> tuple[str, ...]:
        """BIO tags, one a word."""
        return tuple(token.entity for token in self.tokens)

    @cached_property
    def _pieces(self) -> tuple[tuple[int, str], ...]:
        pieces, end = [], 0
        for number, token in enumerate(self.tokens):
            before = self.tokens[number - 1] if number else None
            space = self.spaces and before is not None and not token.left and not before.right
            end += space
            pieces.append((end, token.form))
            end += len(token.form)
        return tuple(pieces)

    @property
    def text(self) -> str:
        """The text as it is written."""
        out = ""
        for start, form in self._pieces:
            out += " " * (start - len(out)) + form
        return out

    @property
    def marked(self) -> str:
        """The text with BOUNDARY between words that are written together."""
        out = ""
        for number, (start, form) in enumerate(self._pieces):
            end = len(out.replace(BOUNDARY, ""))
            out += (" " if start > end else BOUNDARY if number else "") + form
        return out

    def span(self, answer: str) -> tuple[str, int]:
        """The words that answer `answer` ("s1", "x2"), as written, and their character offset.

        Raises DataError when they are not one stretch.
        """
        found = [number for number, token in enumerate(self.tokens) if token.answer == answer]
        if not found or found != list(range(found[0], found[-1] + 1)):
            raise DataError(f'"{self.text}" has no one stretch of words for "{answer}"')
        start, last = self._pieces[found[0]][0], self._pieces[found[-1]]
        return self.text[start : last[0] + len(last[1])], start

    def then(self, other: Rendered) -> Rendered:
        """This text followed by another one."""
        return Rendered(self.tokens + other.tokens, self.spaces)


def _inside(tokens: Iterable[Token], kind: str) -> list[Token]:
    return [token._replace(entity=f"{'I' if number else 'B'}-{kind}") for number, token in enumerate(tokens)]


@dataclass(frozen=True)
class Language:
    """One language: `lists` (list -> entry -> form -> pattern), patterns of clauses, complements and sentences."""

    code: str
    name: str
    spaces: bool
    upper: Mapping[str, str]  # letters whose capital is not Python's
    lists: Mapping[str, Mapping[str, Mapping[str, str]]]
    first: Mapping[str, str]  # list -> its first form
    genders: Mapping[str, str]  # person -> "f" or "m"
    function: Mapping[str, Mapping[str, str]]
    clauses: Mapping[str, Mapping[str, str]]
    x: Mapping[str, str]
    sentences: Mapping[str, str]
    names: Mapping[str, str]
    _made: dict[tuple[str, str, str, str], list[Token]] = field(default_factory=dict, repr=False, compare=False)

    def _class(self, clause: Clause, role: str) -> str:
        for name, lst, entry in clause.roles:
            if name == role:
                return self.genders[entry] if lst == "person" else self.lists[lst][entry].get("class", "")
        return "m"  # "who?", and people known by their profession only

    def _form(self, forms: Mapping[str, str], first: str, form: str, wanted: str, where: str) -> str:
        chain = ([f"{form}_{wanted}", form] if form else []) + ([wanted] if wanted else []) + ([first] if not form else [])
        for name in chain:
            if name in forms:
                return forms[name]
        raise DataError(f'mini, {self.code}: {where} has no form "{chain[0]}"{nearest(chain[0], forms)}')

    def _reference(self, reference: str, clause: Clause) -> list[Token]:
        name, _, agrees = reference.partition(":")
        role, _, form = name.partition(".")
        wanted = self._class(clause, agrees) if agrees else ""
        if role == "x":
            return self._complement(clause)
        if role == "v":
            if form or agrees:
                return self._entry("verb", clause.what, form, wanted)
            return self._entry("verb", clause.what, "", "")
        if role == "s" and not form:
            pattern = self.names["full" if clause.filler("f") else "given"]
            return [token._replace(answer="s") for token in self._expand(pattern, clause, "PROPN")]
        if role in self.function:
            forms = self.function[role]
            return self._expand(self._form(forms, next(iter(forms)), form, wanted, role), clause, forms.get("tag", "DET"))
        if role == "g":
            return self._expand(self.lists["organisation"][clause.filler("g")]["form"], clause, "NOUN")
        for known, lst, entry in clause.roles:
            if known == role:
                return self._entry(lst, entry, form, wanted)
        raise DataError(f'mini, {self.code}: nothing fills "{reference}" in "{clause.key()}"')

    def _entry(self, lst: str, entry: str, form: str, wanted: str) -> list[Token]:
        key = (lst, entry, form, wanted)
        if key not in self._made:
            try:
                forms = self.lists[lst][entry]
            except KeyError:
                raise DataError(f'mini, {self.code}: no "{entry}" in the list "{lst}"') from None
            pattern = self._form(forms, self.first[lst], form, wanted, f"{lst} {entry}")
            tokens = self._expand(pattern, Clause("", ()), TAGS[lst])
            if lst in ENTITY:
                tokens = [token._replace(entity=f"B-{ENTITY[lst]}") if token.tag == "PROPN" else token for token in tokens]
            self._made[key] = tokens
        return self._made[key]

    def _complement(self, clause: Clause) -> list[Token]:
        frame = self.lists["verb"][clause.what].get("frame", "")
        if not frame:
            frame = clause.what if clause.what in self.x else "person" if clause.filler("r") else "obj"
        modified = frame + ("_a" if clause.filler("a") else "_n" if clause.filler("n") else "")
        if modified not in self.x:
            raise DataError(f'mini, {self.code}: [x] has no "{modified}"')
        tokens = self._expand(self.x[modified], clause, "NOUN")
        if any(token.answer for token in tokens):
            return tokens
        return [token if token.tag == "PUNCT" else token._replace(answer="x") for token in tokens]

    def _expand(self, pattern: str, clause: Clause, tag: str) -> list[Token]:
        out: list[Token] = []
        opened, kind, marked = -1, "", -1
        for item in pattern.split():
            if item[0] == "{":
                out.extend(self._reference(item[1:-1], clause))
            elif item[0] == "[":
                opened, kind = len(out), item[1:]
            elif item == "]":
                out[opened:] = _inside(out[opened:], kind)
            elif item == "<":
                marked = len(out)
            elif item == ">":
                out[marked:] = [token._replace(answer="x") for token in out[marked:]]
            elif item != "-":
                out.append(self._word(item, tag))
        return out

    @staticmethod
    def _word(item: str, tag: str) -> Token:
        if item in CLOSING or item in OPENING or item in DASHES:
            return Token(item, "PUNCT", left=item in CLOSING, right=item in OPENING)
        form, slash, own = item.rpartition("/")
        form, own = (form, own) if slash else (item, tag)
        return Token(form.rstrip("+"), own, right=form.endswith("+"))

    def _clause(self, clause: Clause, variant: str, number: int) -> list[Token]:
        moods = [f"{variant}_{clause.mood}", clause.mood] if variant else [clause.mood]
        for table in (clause.what, "any"):
            for mood in moods:
                pattern = self.clauses.get(table, {}).get(mood)
                if pattern is not None:
                    tokens = self._expand(pattern, clause, "X")
                    return [token._replace(answer=f"{token.answer}{number}") if token.answer else token for token in tokens]
        raise DataError(f'mini, {self.code}: no clause pattern "{clause.mood}" for "{clause.what}"')

    def forms(self) -> tuple[Token, ...]:
        """Every word form that the word lists and patterns of this language name, once each."""
        patterns: list[tuple[str, str]] = []
        for lst, entries in self.lists.items():
            patterns += [(cell, TAGS[lst]) for forms in entries.values() for name, cell in forms.items() if name not in ("class", "frame")]
        for forms in self.function.values():
            patterns += [(cell, forms.get("tag", "DET")) for name, cell in forms.items() if name != "tag"]
        for table in (*self.clauses.values(), self.x, self.sentences, self.names):
            patterns += [(pattern, "X") for pattern in table.values()]
        words = (self._word(item, tag) for pattern, tag in patterns for item in pattern.split() if item[0] not in "{[]<>" and item != "-")
        return tuple(dict.fromkeys(words))

    def render(self, sentence: str, clauses: Sequence[Clause] = ()) -> Rendered:
        """The sentence pattern `sentence` with its clauses, first letters in upper case."""
        if sentence not in self.sentences:
            raise DataError(f'mini, {self.code}: no sentence pattern "{sentence}"{nearest(sentence, self.sentences)}')
        tokens: list[Token] = []
        for item in self.sentences[sentence].split():
            if item[0] == "{":
                number, _, variant = item[1:-1].partition(":")
                tokens.extend(self._clause(clauses[int(number) - 1], variant, int(number)))
            else:
                tokens.append(self._word(item, "X"))
        start = True
        for place, token in enumerate(tokens):
            if start and token.tag != "PUNCT":
                first = token.form[0]
                tokens[place] = token._replace(form=self.upper.get(first, first.upper()) + token.form[1:])
                start = False
            elif token.form in ENDING:
                start = True
        return Rendered(tuple(tokens), self.spaces)


def _table(raw: Mapping[str, str]) -> tuple[dict[str, dict[str, str]], str]:
    columns = [name.strip() for name in raw.get("_", "form").split("|")]
    entries = {}
    for entry, line in raw.items():
        if entry == "_":
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > len(columns):
            raise DataError(f'mini: "{entry} = {line}" has more cells than columns ({", ".join(columns)})')
        entries[entry] = dict(zip(columns, cells, strict=False))
    return entries, next(name for name in columns if name not in ("class", "frame"))


@cache
def language(code: str) -> Language:
    """The grammar of a language. Raises DataError for a code that is not in LANGUAGES."""
    if code not in LANGUAGES:
        raise DataError(f'mini has no language "{code}" (it has {", ".join(LANGUAGES)}){nearest(code, LANGUAGES)}')
    raw = tomllib.loads((FOLDER / f"{code}.toml").read_text(encoding="utf-8"))
    people = tomllib.loads((FOLDER / "meanings.toml").read_text(encoding="utf-8"))["person"]
    lists, first = {}, {}
    for lst in TAGS:
        if lst != "function":
            lists[lst], first[lst] = _table(raw["list"][lst])
    return Language(
        code=code,
        name=raw["name"],
        spaces=raw["spaces"],
        upper=raw.get("upper", {}),
        lists=lists,
        first=first,
        genders={entry: gender for gender in ("f", "m") for entry in people[gender]},
        function=raw.get("function", {}),
        clauses=raw["clause"],
        x=raw["x"],
        sentences=raw["sentence"],
        names=raw["names"],
    )


def files(codes: Iterable[str]) -> tuple[Path, ...]:
    """The files that decide what is written in these languages: inventory, word lists and this package's generator."""
    here = Path(__file__).parent
    data = [FOLDER / "meanings.toml", *(FOLDER / f"{code}.toml" for code in codes)]
    return tuple(data + [here / name for name in ("grammar.py", "meaning.py", "items.py")])
