"""The languages that tasks and texts come in: one row a language, nothing else knows about languages.

Families are the top-level families of Glottolog (Hammarström et al., CC BY 4.0), an isolate being a family of its
own; genera are Dryer's, as the World Atlas of Language Structures uses them. Speakers are people able to use the
language, first or second, over all countries of Unicode CLDR (Unicode License v3), as language_data 1.4.0 sums them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


def _row(line: str) -> Language:
    code, name, own_name, script, family, genus, iso3 = (cell.strip() for cell in line.split("|"))
    return Language(code, name, own_name, script, family, genus, iso3, _MILLIONS.get(code))


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
