"""The table of languages: complete for every task, families as the literature has them."""

import pytest

from xstilts.errors import DataError
from xstilts.languages import LANGUAGES, codes, language
from xstilts.tasks import names, task

XTREME = "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi yo zh"
ADDED_BY_XTREME_R = "az gu ht lt pa pl qu ro uk wo"
FAMILIES = {
    "Afro-Asiatic": "ar he",
    "Austro-Asiatic": "vi",
    "Austronesian": "id jv ms tl",
    "Basque": "eu",
    "Dravidian": "ml ta te",
    "Indo-European": "af de en nl el bn hi mr ur gu pa fa es fr it pt ro bg ru pl uk lt",
    "Japonic": "ja",
    "Kartvelian": "ka",
    "Koreanic": "ko",
    "Kra-Dai": "th",
    "Niger-Congo": "sw yo wo",
    "Sino-Tibetan": "my zh",
    "Turkic": "kk tr az",
    "Uralic": "et fi hu",
    "French-based creole": "ht",
    "Quechuan": "qu",
}


def test_every_language_of_xtreme_and_xtreme_r_has_a_row() -> None:
    assert len(codes(XTREME)) == 40
    assert len(codes(ADDED_BY_XTREME_R)) == 10


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_the_top_level_families(family: str) -> None:
    assert {language(code).family for code in FAMILIES[family].split()} == {family}


def test_every_language_of_a_task_has_a_row() -> None:
    for name in names():
        for code in (*task(name).languages, task(name).train_language):
            assert code in LANGUAGES, f'task {name}: no row for "{code}" in languages.py'


def test_rows_are_complete_and_codes_unique() -> None:
    for code, row in LANGUAGES.items():
        assert row.code == code
        assert all((row.name, row.own_name, row.script, row.family, row.genus))
        assert len(row.iso3) == 3
        assert row.speakers is None or 0.1 < row.speakers < 2_000
    assert len({row.iso3 for row in LANGUAGES.values()}) == len(LANGUAGES)
    assert len({row.name for row in LANGUAGES.values()}) == len(LANGUAGES)


def test_a_genus_lies_in_one_family() -> None:
    families: dict[str, set[str]] = {}
    for row in LANGUAGES.values():
        families.setdefault(row.genus, set()).add(row.family)
    assert {genus: found for genus, found in families.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("code", "name"),
    [("de", "deu_Latn"), ("zh", "zho_Hans"), ("ar", "arb_Arab"), ("th", "tha_Thai"), ("ur", "urd_Arab"), ("ms", "zsm_Latn")],
)
def test_names_in_flores(code: str, name: str) -> None:
    assert language(code).flores == name


@pytest.mark.parametrize(("given", "meant"), [("German", "de"), ("deu", "de"), ("enn", "en")])
def test_an_unknown_code_is_refused_with_the_nearest(given: str, meant: str) -> None:
    with pytest.raises(DataError, match=f'no language "{given}".*"{meant}"'):
        language(given)


def test_speakers_are_known_where_cldr_has_them() -> None:
    assert language("zh").speakers == 1326 and language("et").speakers == 0.9
    assert [code for code, row in LANGUAGES.items() if row.speakers is None] == []
