"""The vocabulary: the same on every run, the same pieces as SentencePiece itself, a tokenizer that transformers reloads."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer

from xstilts.engine.tokenizer import FAMILIES, convert, normalizer, pieces_of, train_pieces, train_tokenizer, word_pieces
from xstilts.errors import DataError
from xstilts.mini.grammar import BOUNDARY
from xstilts.pretraining import Tokenizer

WORDS = {
    "en": ["the", "cat", "sees", "a", "small", "house", "and", "the", "old", "dog", "sleeps", "near", "water"],
    "ru": ["кошка", "видит", "маленький", "дом", "а", "старая", "собака", "спит", "около", "воды"],
    "th": ["แมว", "เห็น", "บ้าน", "หลัง", "เล็ก", "และ", "สุนัข", "น้ำ", "ทำ"],
    "zh": ["猫看见一座小房子，老狗睡在水边。"],
    "hi": ["बिल्ली", "छोटा", "घर", "देखती", "है", "और", "कुत्ता", "पानी", "के", "पास", "सोता", "है"],
    "ar": ["القطة", "ترى", "بيتا", "صغيرا", "والكلب", "ينام", "قرب", "الماء"],
}
XLM_R = FAMILIES["xlm-roberta"]
SPEC = Tokenizer(vocab=190, coverage=1.0, sentences=200)


def lines(language: str, count: int, seed: int) -> list[str]:
    rng = random.Random(f"{language} {seed}")
    return [" ".join(rng.choices(WORDS[language], k=rng.randint(2, 8))).capitalize() for _ in range(count)]


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return train_pieces({language: lines(language, 200, 0) for language in WORDS}, SPEC)


def test_every_run_learns_the_same_pieces(pieces: bytes) -> None:
    assert train_pieces({language: lines(language, 200, 0) for language in reversed(WORDS)}, SPEC) == pieces


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("lowercase", [False, True])
def test_pieces_are_those_of_sentencepiece(pieces: bytes, language: str, lowercase: bool) -> None:
    spec = Tokenizer(vocab=190, coverage=1.0, lowercase=lowercase)
    native = sentencepiece.SentencePieceProcessor()
    native.LoadFromSerializedProto(pieces)
    ours = convert(pieces_of(pieces), spec)
    for line in [*lines(language, 50, 1), "ﬁne  ①\u200b x\tÉ 🙂🙂 end"]:
        expected = native.EncodeAsPieces(normalizer(lowercase).normalize_str(line))
        ids = ours(line, add_special_tokens=False)["input_ids"]
        found = [None if i == ours.unk_token_id else ours.convert_ids_to_tokens(i) for i in ids]
        assert found == [p if native.PieceToId(p) != native.unk_id() else None for p in expected]


def test_offsets_point_into_the_given_text(pieces: bytes) -> None:
    text = "The cat  sees ﬁsh"
    encoding = convert(pieces_of(pieces), SPEC)(text, return_offsets_mapping=True, add_special_tokens=False)
    joined = {text[a:b].strip() for a, b in encoding["offset_mapping"]}
    assert any("cat".startswith(part) and part for part in joined) and encoding.word_ids()[-1] == 3


def test_layout_of_pairs_and_special_ids(pieces: bytes) -> None:
    tokenizer = convert(pieces_of(pieces), SPEC)
    ids = tokenizer("the cat", "a dog")["input_ids"]
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, len(tokenizer) - 1]) == [*XLM_R.first, *XLM_R.last]
    assert len(tokenizer) == SPEC.vocab
    assert ids[0] == 0 and ids[-1] == 2 and ids.count(2) == 3
    middle = ids.index(2)
    assert ids[middle + 1] == 2 and tokenizer.decode(ids[1:middle]) == "the cat"


def test_transformers_reloads_it(pieces: bytes, tmp_path: Path) -> None:
    tokenizer = convert(pieces_of(pieces), SPEC, max_length=77)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"tokenizer.json", "tokenizer_config.json"}
    assert again.is_fast and again.model_max_length == 77 and again.mask_token == "<mask>"
    for language in WORDS:
        for line in lines(language, 20, 2):
            assert again(line, line[:5])["input_ids"] == tokenizer(line, line[:5])["input_ids"]
    assert set(again("x")) == {"input_ids", "attention_mask"}


def test_too_large_a_vocabulary_says_so() -> None:
    with pytest.raises(DataError, match=r"tokenizer\.vocab = 9000.*smaller vocabulary or more text"):
        train_pieces({"en": lines("en", 20, 0)}, Tokenizer(vocab=9000))


GLUED = {"en": ["the cat sleeps", "a cat eats"], "zh": ["猫|看见|房子|。|狗|睡", "狗|看见|猫", "房子|。|猫|。|狗|睡"]}


def test_words_are_pieces_and_what_is_no_word_falls_into_letters() -> None:
    texts = {language: [line.replace("|", BOUNDARY) for line in lines] for language, lines in GLUED.items()}
    tokenizer = train_tokenizer(texts, Tokenizer(vocab=60, coverage=1.0, model="words"))
    assert tokenizer.tokenize("the cat eats") == ["▁the", "▁cat", "▁eats"]
    assert tokenizer.tokenize("a cat 猫 the cat") == ["▁a", "▁cat", "猫", "▁the", "▁cat"]
    encoding = tokenizer("a  cat. 猫", return_offsets_mapping=True, add_special_tokens=False)
    assert encoding["offset_mapping"] == [(0, 1), (2, 6), (6, 7), (8, 9)]
    assert tokenizer.tokenize("the caps") == ["▁the", "▁", "c", "a", "p", "s"]
    assert tokenizer.tokenize(texts["zh"][0]) == tokenizer.tokenize("猫看见房子。狗睡") == ["猫", "看见", "房子", "。", "狗", "睡"]


def test_the_most_frequent_words_find_room() -> None:
    texts = {"en": ["tea tea tea cup cup oat"]}
    letters = len(set("▁teacupo"))
    pieces = word_pieces(texts, Tokenizer(vocab=XLM_R.many + letters + 2, model="words"))
    assert [piece for piece, _ in pieces[:2]] == ["▁tea", "▁cup"] and len(pieces) == letters + 2
    assert pieces[0][1] == pytest.approx(math.log(3 / 6)) and all(score < pieces[1][1] for _, score in pieces[2:])
    with pytest.raises(DataError, match=r"tokenizer\.vocab = 12: the text has 8 different characters"):
        word_pieces(texts, Tokenizer(vocab=12, model="words"))
