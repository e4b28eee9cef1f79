"""The languages that tasks and texts come in: one row a language, nothing else knows about languages.

Families are the top-level families of Glottolog (Hammarström et al., CC BY 4.0), an isolate being a family of its
own; genera are Dryer's, as the World Atlas of Language Structures uses them. Speakers are people able to use the
language, first or second, over all countries of Unicode CLDR (Unicode License v3), as language_data 1.4.0 sums them.
Places and word orders follow the World Atlas of Language Structures (Dryer and Haspelmath 2013, CC BY 4.0, wals.info).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import asin, cos, radians, sin
from types import MappingProxyType

from xstilts.errors import DataError, nearest


@dataclass(frozen=True, slots=True)
class Language:
    """One language. `iso3` is the ISO 639-3 code under which LASER's Tatoeba files name it."""

    code: str
    name: str
    own_name: str
    script: str
    family: str
    genus: str
    iso3: str
    speakers: float | None = None  # millions
    place: tuple[int, int] | None = None  # degrees north and east
    orders: str = ""  # a value for each of WORD_ORDERS, as the atlas numbers them; "." where it is not known

    @property
    def flores(self) -> str:
        """The name under which FLORES, and SIB-200 after it, keep the language: deu_Latn."""
        code = {"ar": "arb", "zh": "zho"}.get(self.code, self.iso3)
        return f"{code}_{_ISO_15924.get(self.script, self.script[:4])}"


_TABLE = """
af  | Afrikaans      | Afrikaans        | Latin      | Indo-European        | Germanic            | afr
ar  | Arabic         | العربية          | Arabic     | Afro-Asiatic         | Semitic             | ara
az  | Azerbaijani    | azərbaycanca     | Latin      | Turkic               | Turkic              | aze
bg  | Bulgarian      | български        | Cyrillic   | Indo-European        | Slavic              | bul
bn  | Bengali        | বাংলা             | Bengali    | Indo-European        | Indo-Aryan          | ben
ca  | Catalan        | català           | Latin      | Indo-European        | Romance             | cat
cs  | Czech          | čeština          | Latin      | Indo-European        | Slavic              | ces
da  | Danish         | dansk            | Latin      | Indo-European        | Germanic            | dan
de  | German         | Deutsch          | Latin      | Indo-European        | Germanic            | deu
el  | Greek          | Ελληνικά         | Greek      | Indo-European        | Greek               | ell
en  | English        | English          | Latin      | Indo-European        | Germanic            | eng
es  | Spanish        | español          | Latin      | Indo-European        | Romance             | spa
et  | Estonian       | eesti            | Latin      | Uralic               | Finnic              | est
eu  | Basque         | euskara          | Latin      | Basque               | Basque              | eus
fa  | Persian        | فارسی            | Arabic     | Indo-European        | Iranian             | pes
fi  | Finnish        | suomi            | Latin      | Uralic               | Finnic              | fin
fr  | French         | français         | Latin      | Indo-European        | Romance             | fra
gu  | Gujarati       | ગુજરાતી            | Gujarati   | Indo-European        | Indo-Aryan          | guj
ha  | Hausa          | Hausa            | Latin      | Afro-Asiatic         | Chadic              | hau
he  | Hebrew         | עברית            | Hebrew     | Afro-Asiatic         | Semitic             | heb
hi  | Hindi          | हिन्दी             | Devanagari | Indo-European        | Indo-Aryan          | hin
hr  | Croatian       | hrvatski         | Latin      | Indo-European        | Slavic              | hrv
ht  | Haitian Creole | kreyòl ayisyen   | Latin      | French-based creole  | French-based creole | hat
hu  | Hungarian      | magyar           | Latin      | Uralic               | Ugric               | hun
hy  | Armenian       | հայերեն          | Armenian   | Indo-European        | Armenian            | hye
id  | Indonesian     | bahasa Indonesia | Latin      | Austronesian         | Malayo-Sumbawan     | ind
ig  | Igbo           | Igbo             | Latin      | Niger-Congo          | Igboid              | ibo
it  | Italian        | italiano         | Latin      | Indo-European        | Romance             | ita
ja  | Japanese       | 日本語              | Japanese   | Japonic              | Japanese            | jpn
jv  | Javanese       | basa Jawa        | Latin      | Austronesian         | Javanese            | jav
ka  | Georgian       | ქართული          | Georgian   | Kartvelian           | Kartvelian          | kat
kk  | Kazakh         | қазақ тілі       | Cyrillic   | Turkic               | Turkic              | kaz
kn  | Kannada        | ಕನ್ನಡ             | Kannada    | Dravidian            | Southern Dravidian  | kan
ko  | Korean         | 한국어              | Hangul     | Koreanic             | Korean              | kor
lt  | Lithuanian     | lietuvių         | Latin      | Indo-European        | Baltic              | lit
lv  | Latvian        | latviešu         | Latin      | Indo-European        | Baltic              | lvs
ml  | Malayalam      | മലയാളം           | Malayalam  | Dravidian            | Southern Dravidian  | mal
mr  | Marathi        | मराठी             | Devanagari | Indo-European        | Indo-Aryan          | mar
ms  | Malay          | bahasa Melayu    | Latin      | Austronesian         | Malayo-Sumbawan     | zsm
my  | Burmese        | မြန်မာ             | Myanmar    | Sino-Tibetan         | Burmese-Lolo        | mya
ne  | Nepali         | नेपाली            | Devanagari | Indo-European        | Indo-Aryan          | npi
nl  | Dutch          | Nederlands       | Latin      | Indo-European        | Germanic            | nld
pa  | Punjabi        | ਪੰਜਾਬੀ            | Gurmukhi   | Indo-European        | Indo-Aryan          | pan
pl  | Polish         | polski           | Latin      | Indo-European        | Slavic              | pol
pt  | Portuguese     | português        | Latin      | Indo-European        | Romance             | por
qu  | Quechua        | Runa Simi        | Latin      | Quechuan             | Quechuan            | que
ro  | Romanian       | română           | Latin      | Indo-European        | Romance             | ron
ru  | Russian        | русский          | Cyrillic   | Indo-European        | Slavic              | rus
sl  | Slovenian      | slovenščina      | Latin      | Indo-European        | Slavic              | slv
sv  | Swedish        | svenska          | Latin      | Indo-European        | Germanic            | swe
sw  | Swahili        | Kiswahili        | Latin      | Niger-Congo          | Bantu               | swh
ta  | Tamil          | தமிழ்              | Tamil      | Dravidian            | Southern Dravidian  | tam
te  | Telugu         | తెలుగు            | Telugu     | Dravidian            | South-Central Dravidian | tel
th  | Thai           | ไทย              | Thai       | Kra-Dai              | Kam-Tai             | tha
tl  | Tagalog        | Tagalog          | Latin      | Austronesian         | Greater Central Philippine | tgl
tr  | Turkish        | Türkçe           | Latin      | Turkic               | Turkic              | tur
uk  | Ukrainian      | українська       | Cyrillic   | Indo-European        | Slavic              | ukr
ur  | Urdu           | اردو             | Arabic     | Indo-European        | Indo-Aryan          | urd
vi  | Vietnamese     | Tiếng Việt       | Latin      | Austro-Asiatic       | Vietic              | vie
wo  | Wolof          | Wolof            | Latin      | Niger-Congo          | Wolof               | wol
yo  | Yoruba         | Yorùbá           | Latin      | Niger-Congo          | Defoid              | yor
zh  | Chinese        | 中文               | Han        | Sino-Tibetan         | Chinese             | cmn
zu  | Zulu           | isiZulu          | Latin      | Niger-Congo          | Bantu               | zul
"""


# scripts whose ISO 15924 code is not how their name begins
_ISO_15924 = {"Latin": "Latn", "Cyrillic": "Cyrl", "Greek": "Grek", "Hebrew": "Hebr", "Devanagari": "Deva", "Gujarati": "Gujr"} | {
    "Armenian": "Armn", "Japanese": "Jpan", "Georgian": "Geor", "Kannada": "Knda", "Hangul": "Hang", "Malayalam": "Mlym",
    "Myanmar": "Mymr", "Gurmukhi": "Guru", "Tamil": "Taml", "Telugu": "Telu", "Bengali": "Beng", "Han": "Hans",
}  # fmt: skip

_SPEAKERS = """
af 10.0 ar 379 az 34 bg 7.7 bn 280 ca 8.2 cs 13 da 7.2 de 142 el 12 en 1728 es 507 et 0.9 eu 1.0 fa 89 fi 5.8 fr 333 gu 66
ha 45 he 9.4 hi 582 hr 6.8 ht 9.5 hu 12 hy 5.4 id 181 ig 31 it 70 ja 118 jv 96 ka 4.3 kk 14 kn 52 ko 79 lt 2.4 lv 1.1 ml 46
mr 99 ms 40 my 37 ne 22 nl 33 pa 220 pl 42 pt 249 qu 12 ro 20 ru 194 sl 2.0 sv 13 sw 194 ta 91 te 101 th 56 tl 73 tr 82 uk 24
ur 313 vi 92 wo 13 yo 32 zh 1326 zu 15
"""
_MILLIONS = dict(zip(_SPEAKERS.split()[::2], map(float, _SPEAKERS.split()[1::2]), strict=True))

# one point a language, whole degrees: the place of its name in the atlas, somewhere in the middle of where it comes from
# Compared one by one with raw/language.csv of cldf-datasets/wals (commit 16f9927, what its cldf/languages.csv is made from) on 2026-11-26,
# halves away from zero; Croatian is Serbian-Croatian there (scr), Quechua that of Cuzco (qcu).
_PLACES = """
af -31 22 ar 25 42 az 41 49 bg 43 25 bn 24 90 ca 42 2 cs 50 15 da 56 10 de 52 10 el 39 22 en 52 0 es 40 -4 et 59 26 eu 43 -3 fa 32 54
fi 62 25 fr 48 2 gu 23 72 ha 12 7 he 32 35 hi 25 77 hr 44 19 ht 19 -73 hu 47 20 hy 40 45 id 0 106 ig 6 7 it 43 12 ja 37 140 jv -7 111
ka 42 44 kk 50 70 kn 14 76 ko 38 128 lt 55 24 lv 57 24 ml 10 77 mr 19 76 ms 3 102 my 21 96 ne 28 85 nl 53 6 pa 31 74 pl 52 20 pt 39 -8
qu -15 -71 ro 46 25 ru 56 38 sl 46 15 sv 60 15 sw -7 39 ta 11 79 te 16 79 th 16 101 tl 15 121 tr 39 35 uk 49 33 ur 25 67 vi 11 107
wo 15 -16 yo 8 4 zh 34 110 zu -30 30
"""
_DEGREES = dict(
    zip(_PLACES.split()[::3], zip(map(int, _PLACES.split()[1::3]), map(int, _PLACES.split()[2::3]), strict=True), strict=True)
)

# Chapters of Dryer's in the atlas, and the values that stand below: 81A subject, object and verb (1 SOV, 2 SVO, 3 VSO, 7 none dominant);
# 83A object and verb (1 OV, 2 VO, 3 none); 85A adpositions (1 post-, 2 pre-, 4 none); 86A genitive (1 before the noun, 2 after, 3 none);
# 87A adjective and 89A numeral (1 before, 2 after, 3 none); 90A relative clause (1 after, 2 before, 4 correlative, 7 several, none
# dominant); 93A question word (1 first, 2 not, 3 both). "." is where the atlas has no value.
# Compared value by value with WALS Online, CLDF (cldf-datasets/wals, cldf/values.csv at commit 014143f), on 2026-11-26, all but 81A of ru
# and 81A to 90A of ta: these with the older copy of the atlas in lang2vec 1.1.2 (URIEL), which differs from it in 83A of hu and 90A of
# pa. af, ht, jv, kk and ms are in the atlas without any of the eight values. Croatian is in it only as Serbian-Croatian (scr), whose row
# it takes. Arabic is Modern Standard (ams). Quechua has the values in which Huallaga (qhu) and Imbabura (qim) agree, as those of Cuzco
# and Ayacucho have none of the eight.
WORD_ORDERS = ("81A", "83A", "85A", "86A", "87A", "89A", "90A", "93A")
_MIN_ORDERS = 5  # known in both languages, for a distance
_ORDERS = """
af ........ ar 322221.. az 11.111.2 bg 22231111 bn 11...... ca 2222211. cs 22231112 da 22211111 de 73221111 el 72221111 en 22231111
es 22222111 et 22111111 eu 11112122 fa 11222112 fi 22111111 fr 22222111 gu 111.11.2 ha 22221213 he 22222111 hi 11111142 hr 222311..
ht ........ hu 72111172 hy 73111172 id 22222113 ig 22222212 it 2222211. ja 11111122 jv ........ ka 11111112 kk ........ kn 11111172
ko 11111122 lt 22211111 lv 22211111 ml 11.11122 mr 11111122 ms ........ my 11112222 ne 111111.2 nl 7322111. pa 11111172 pl 22221111
pt 22222.1. qu 1111112. ro 22222111 ru 22221111 sl 222311.. sv 22211111 sw 22222212 ta 11111122 te 11111122 th 22222212 tl 32.23111
tr 11111122 uk 222.111. ur 11111142 vi 22222112 wo 22222111 yo 22222211 zh 22411122 zu 22222.12
"""
_ORDER_OF = dict(zip(_ORDERS.split()[::2], _ORDERS.split()[1::2], strict=True))


def _row(line: str) -> Language:
    code, name, own_name, script, family, genus, iso3 = (cell.strip() for cell in line.split("|"))
    return Language(
        code, name, own_name, script, family, genus, iso3, _MILLIONS.get(code), _DEGREES.get(code), _ORDER_OF.get(code, "")
    )


LANGUAGES: Mapping[str, Language] = MappingProxyType({row.code: row for row in map(_row, _TABLE.strip().splitlines())})


def codes(text: str) -> tuple[str, ...]:
    """Codes that stand in one text with spaces between. Raises DataError for one without a row."""
    return tuple(language(code).code for code in text.split())


def language(code: str) -> Language:
    """The row of a language code. Raises DataError, with the nearest code or name, when there is none."""
    try:
        return LANGUAGES[code]
    except KeyError:
        named = [row for row in LANGUAGES.values() if row.name.lower() == code.lower() or row.iso3 == code]
        hint = f'; did you mean "{named[0].code}"?' if named else nearest(code, LANGUAGES)
        raise DataError(f'no language "{code}" in the table of languages{hint}') from None


def tree_distance(one: str, other: str) -> float | None:
    """Steps up the tree of family, genus and language to a common node, of three: 0 the same language, 1/3 one genus, 2/3 one family.

    1 where they have none. None where the table lacks one of them.
    """
    if one not in LANGUAGES or other not in LANGUAGES:
        return None
    left, right = LANGUAGES[one], LANGUAGES[other]
    if one == other:
        return 0.0
    return 1 / 3 if (left.family, left.genus) == (right.family, right.genus) else 2 / 3 if left.family == right.family else 1.0


def other_script(one: str, other: str) -> float | None:
    """1 where two languages are written in different scripts, else 0; None where the table lacks one of them."""
    if one not in LANGUAGES or other not in LANGUAGES:
        return None
    return float(LANGUAGES[one].script != LANGUAGES[other].script)


def great_circle(one: str, other: str) -> float | None:
    """Thousands of kilometres between the places of two languages on a sphere of radius 6371 km (Sinnott 1984, haversines).

    None where a place is not known.
    """
    places = [LANGUAGES[code].place for code in (one, other) if code in LANGUAGES]
    if len(places) < 2 or places[0] is None or places[1] is None:
        return None
    (north, east), (there_north, there_east) = (tuple(map(radians, place)) for place in (places[0], places[1]))
    half = sin((there_north - north) / 2) ** 2 + cos(north) * cos(there_north) * sin((there_east - east) / 2) ** 2
    return 2 * 6.371 * asin(min(1.0, half**0.5))


def order_distance(one: str, other: str) -> float | None:
    """Share of the `WORD_ORDERS` known of both languages in which they differ, 0 to 1 (Hamming); None where fewer than five are."""
    if one not in LANGUAGES or other not in LANGUAGES:
        return None
    pairs = zip(LANGUAGES[one].orders, LANGUAGES[other].orders, strict=False)
    known = [here != there for here, there in pairs if "." not in (here, there)]
    return sum(known) / len(known) if len(known) >= _MIN_ORDERS else None
