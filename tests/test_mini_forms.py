"""Every word form of `mini` is in a Debian dictionary, or stands in data/spelling.toml with a reason."""

from __future__ import annotations

import ctypes
import tomllib
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path

import pytest

from xstilts.mini.grammar import FOLDER, LANGUAGES, language

SPELLING = tomllib.loads((FOLDER / "spelling.toml").read_text(encoding="utf-8"))
DICTIONARIES = Path("/usr/share/hunspell")


def accepted(code: str) -> set[str]:
    return {word for entry in SPELLING["accepted"] if entry["language"] == code for word in entry["words"]}


def looked_up(code: str) -> set[str]:
    return {token.form for token in language(code).forms() if token.tag not in ("PUNCT", "PROPN")}


def hunspell(name: str) -> Callable[[str], bool]:
    """A lookup in a hunspell dictionary through the library (its command cuts Hindi words apart)."""
    found = find_library("hunspell-1.7")
    if found is None or not (DICTIONARIES / f"{name}.dic").is_file():
        pytest.skip(f"hunspell dictionary {name} is not installed (scripts/install_dictionaries.sh)")
    library = ctypes.CDLL(found)
    library.Hunspell_create.restype = ctypes.c_void_p
    library.Hunspell_create.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    library.Hunspell_spell.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.Hunspell_get_dic_encoding.restype = ctypes.c_char_p
    library.Hunspell_get_dic_encoding.argtypes = [ctypes.c_void_p]
    handle = library.Hunspell_create(*(str(DICTIONARIES / f"{name}.{end}").encode() for end in ("aff", "dic")))
    encoding = library.Hunspell_get_dic_encoding(handle).decode()
    return lambda word: bool(library.Hunspell_spell(handle, word.encode(encoding, errors="replace")))


def voikko() -> Callable[[str], bool]:
    found = find_library("voikko")
    if found is None:
        pytest.skip("voikko is not installed (scripts/install_dictionaries.sh)")
    library = ctypes.CDLL(found)
    library.voikkoInit.restype = ctypes.c_void_p
    library.voikkoInit.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    library.voikkoSpellCstr.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    error = ctypes.c_char_p()
    handle = library.voikkoInit(ctypes.byref(error), b"fi", None)
    if not handle:
        pytest.skip("voikko has no Finnish dictionary (scripts/install_dictionaries.sh)")
    return lambda word: library.voikkoSpellCstr(handle, word.encode()) == 1


@pytest.mark.hunspell
@pytest.mark.parametrize("code", list(SPELLING["dictionaries"]))
def test_every_form_is_in_the_dictionary_or_accepted_with_a_reason(code: str) -> None:
    known = voikko() if code == "fi" else hunspell(SPELLING["dictionaries"][code])
    assert not known("xqzwv"), "the dictionary accepts anything"
    words = looked_up(code)
    assert len(words) > 100
    rejected = {word for word in words if not known(word)}
    assert sorted(rejected) == sorted(accepted(code)), "unknown words, or exceptions that are not needed"


def test_every_exception_is_a_word_of_the_lists_with_a_reason() -> None:
    for entry in SPELLING["accepted"]:
        assert entry["why"]
        assert set(entry["words"]) <= looked_up(entry["language"])


def test_only_languages_written_without_spaces_have_no_dictionary() -> None:
    assert {code for code in LANGUAGES if code not in SPELLING["dictionaries"]} == {code for code in LANGUAGES if not language(code).spaces}
