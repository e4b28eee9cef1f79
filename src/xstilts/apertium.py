"""Apertium, the offline translator (Debian: apertium and a language pair): what is installed, and many sentences at once.

Sentences go through a pair's programs in Apertium's stream format, each ended by a NUL, at which every program forgets what
it has read: a translation depends on its sentence alone, not on its neighbours. The programs run one after the other, over
many sentences and through files: in a pipe each would wait for the next at every NUL, and on a machine whose cores are busy
that took a hundred times as long (docs/lab-notebook.md). A marked span (`examples.OPEN`, `CLOSE`) travels as word-bound blanks, which
every output word inherits from the input words that it comes from.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from xstilts.errors import TranslationError, nearest
from xstilts.examples import CLOSE, OPEN
from xstilts.languages import language as language_row
from xstilts.stages import Apertium

BATCH = 1000  # sentences at a time: starting the programs takes as long as about 100 of them
# Debian's packages that translate out of English (bookworm); a pair's package holds both directions
PACKAGES = {
    "cat": "apertium-eng-cat", "epo": "apertium-eo-en", "glg": "apertium-en-gl", "hbs": "apertium-hbs-eng", "spa": "apertium-eng-spa",
}  # fmt: skip
_HBS = {"hrv": "hbs_HR", "srp": "hbs_SR", "bos": "hbs_BS"}  # varieties that Apertium keeps under one code
_SPECIAL = re.compile(r"([\\\[\]{}^$/@<>])")
_BLANK = re.compile(r"\[\[([^\]/]*)\]\](.*?)\[\[/\]\]", re.DOTALL)
_END = "[]"  # an empty blank: without it a full stop before the NUL is swallowed
_SENTENCE = "The men who work in the old city near the river have read a long book about the war."


def find(source: str, target: str, asked: str, file_hash: Callable[[Path], str]) -> Apertium:
    """The installed mode that translates from language `source` into `target`, or the mode `asked`, as a value.

    Raises TranslationError when Apertium or the mode is not installed; the message names the Debian package.
    """
    program = shutil.which("apertium")
    if program is None:
        package = _package(source, target) or "a language pair"
        raise TranslationError(f"Apertium is not installed; on Debian: apt-get install apertium {package}")
    if shutil.which("apertium-wblank-mode") is None:
        raise TranslationError(f"Apertium {_release()} knows no word-bound blanks; 3.8 or newer is needed")
    home = _home()
    installed = sorted(path.stem for path in home.glob("*.mode"))
    wanted = (asked,) if asked else tuple(_modes(source, target))
    mode = next((name for name in wanted if name in installed), None)
    if mode is None:
        there = f"installed: {', '.join(installed) or 'none'}"
        if asked:
            raise TranslationError(f'Apertium has no mode "{asked}" ({there}){nearest(asked, installed)}')
        package = _package(source, target)
        remedy = f"on Debian: apt-get install {package}" if package else "Debian has no such pair; name another translator"
        raise TranslationError(f"Apertium has no pair from {source} into {target} ({there}); {remedy}")
    path = home / f"{mode}.mode"
    files = [Path(name) for name in re.findall(r"'([^']+)'", path.read_text("utf-8"))]
    if absent := [file for file in files if not file.is_file()]:
        raise TranslationError(f"{path.name}: {absent[0]} is missing; install the pair's package again")
    lines = [f"{file.name} {file_hash(file)}" for file in (path, *dict.fromkeys(files))]
    return Apertium(_release(), mode, hashlib.sha256("\n".join(lines).encode()).hexdigest())


def _home() -> Path:
    """The folder of the modes: APERTIUM_DATADIR's, as Apertium has it, else the one beside the program."""
    program = shutil.which("apertium") or ""
    return Path(os.environ.get("APERTIUM_DATADIR") or Path(program).resolve().parent.parent / "share" / "apertium") / "modes"


def _modes(source: str, target: str) -> Iterator[str]:
    """The names that a direction may have: pairs came with two-letter codes first, with three later."""
    one, two = language_row(source), language_row(target)
    for ours in (one.iso3, one.code):
        for theirs in (two.iso3, two.code, _HBS.get(two.iso3, "")):
            if theirs:
                yield f"{ours}-{theirs}"


def _package(source: str, target: str) -> str:
    other = next((language_row(code).iso3 for code in (target, source) if code != "en"), "")
    return PACKAGES.get("hbs" if other in _HBS else other, "") if "en" in (source, target) else ""


def _release() -> str:
    said = subprocess.run(["apertium", "-V"], capture_output=True, text=True, check=False).stdout
    return said.strip().removeprefix("Apertium ") or "unknown"


def batches(texts: Sequence[str]) -> list[range]:
    """Which texts go through the programs together, by their place."""
    return [range(first, min(first + BATCH, len(texts))) for first in range(0, len(texts), BATCH)]


def translate(mode: str, texts: Sequence[str]) -> list[str]:
    """One translation a text, "" for a text that breaks a program. Raises TranslationError when that is every text."""
    found = _pieces(_commands(mode), texts)
    if len(texts) > 1 and not any(found):
        raise TranslationError(f"Apertium gives nothing back (mode {mode}); does `echo hello | apertium {mode}` work?")
    return found


def _commands(mode: str) -> list[list[str]]:
    """The programs of a mode with their arguments, as `apertium -u -z` runs them: flushed at NUL, unknown words without a star."""
    path = _home() / f"{mode}.mode"
    if not path.is_file():
        raise TranslationError(f'Apertium\'s mode "{mode}" is no longer installed; install its package again')
    asked = ["apertium-wblank-mode", "-z", str(path)]
    pipeline = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    filled = {"$1": "-n", "$2": ""}  # the generator's option, the tagger's
    return [[word for part in shlex.split(command) if (word := filled.get(part, part))] for command in pipeline.split("|")]


def _pieces(commands: list[list[str]], texts: Sequence[str]) -> list[str]:
    if not texts:
        return []
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryDirectory(prefix="xstilts-") as name:
        path = Path(name) / "0"
        path.write_text("".join(f"{_stream(text)}{_END}\0" for text in texts), "utf-8", newline="")
        for number, command in enumerate(commands, start=1):
            with path.open("rb") as source, (path := path.with_name(str(number))).open("wb") as target:
                subprocess.run(command, stdin=source, stdout=target, stderr=subprocess.DEVNULL, env=env, check=False)
        pieces = path.read_bytes().decode("utf-8", "replace").split("\0")[: len(texts)]
    if len(pieces) == len(texts) and all(piece.rstrip().endswith(_END) for piece in pieces):
        return [_text(piece.rstrip().removesuffix(_END)) for piece in pieces]
    if len(texts) == 1:
        return [""]
    half = len(texts) // 2
    return [*_pieces(commands, texts[:half]), *_pieces(commands, texts[half:])]


def _stream(text: str) -> str:
    """A text in stream format; one with a marked span has all its words bound to "a" (inside) or "o" (outside)."""
    if OPEN not in text:
        return _escaped(text)
    before, _, rest = text.partition(OPEN)
    inside, _, after = rest.partition(CLOSE)
    return _bound("o", before) + _bound("a", inside) + _bound("o", after)


def _bound(kind: str, text: str) -> str:
    core = text.strip()
    if not core:
        return text
    at = text.index(core)
    return f"{text[:at]}[[t:{kind}:0]]{_escaped(core)}[[/]]{text[at + len(core) :]}"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text.replace("\0", " "))


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _text(piece: str) -> str:
    """The plain text of a translated piece, with marks around each run of words that come from the marked span.

    Words that Apertium puts in belong to no input word: between two marked ones they are in the span. A word that comes from
    both sides of a border ("del", of "de" and "el") leaves the border nowhere to be: its run gets no closing mark.
    """
    parts: list[tuple[str, str]] = []
    at = 0
    for found in _BLANK.finditer(piece):
        parts += [("", _plain(piece[at : found.start()])), (_side(found[1]), _plain(found[2]))]
        at = found.end()
    parts.append(("", _plain(piece[at:])))
    made, pending, inside = "", "", False
    for side, text in parts:
        if side == "":
            pending += text
            continue
        if inside and side == "o":
            made, inside = made + CLOSE, False
        made, pending = made + pending, ""
        if side == "both":
            made += OPEN
        elif side == "a" and not inside:
            made, inside = made + OPEN, True
        made += text
    whole = made + (CLOSE if inside else "") + pending
    return re.sub(" {2,}", " ", whole).strip()


def _side(blank: str) -> str:
    sides = {mark.split(":")[1] for mark in blank.split(";") if mark.count(":") == 2}
    return "both" if len(sides) > 1 else sides.pop() if sides else ""


def speed(mode: str) -> float:
    """Characters a second, measured on a few hundred sentences."""
    texts = [f"{_SENTENCE} {number}" for number in range(300)]
    began = time.perf_counter()
    translate(mode, texts)
    return sum(map(len, texts)) / (time.perf_counter() - began)
