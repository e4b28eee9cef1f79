"""Examples as text and text as answers: the formats themselves, round trips in several scripts, and what is counted of outputs."""

from __future__ import annotations

import unicodedata

import pytest

from xstilts import metrics
from xstilts.errors import DataError
from xstilts.examples import Answer, Choice, Example, Passage, Text, Words, gold_of
from xstilts.tasks import names as task_names
from xstilts.tasks import task
from xstilts.textform import Found, answer, candidates, foreign, prompt, spaced, tags, target


@pytest.mark.parametrize(
    ("name", "example", "read", "written"),
    [
        ("xnli", Text("1", "He ate.", "He fasted.", "contradiction"), "xnli: premise: He ate. hypothesis: He fasted.", "2"),
        ("snli", Text("1", "A", "B", "entailment"), "xnli: premise: A hypothesis: B", "0"),
        ("pawsx", Text("1", "A", "B", "1"), "paws sentence1: A sentence2: B", "paraphrase"),
        ("qqp", Text("1", "A", "B", "duplicate"), "qqp question1: A question2: B", "duplicate"),
        ("rte", Text("1", "A", "B", "not_entailment"), "rte sentence1: A sentence2: B", "not_entailment"),
        ("sib200", Text("1", "A {first} B", None, "travel"), "sib200 sentence: A {first} B", "travel"),
        ("copa", Choice("1", "P", ("A", "B"), "Q?", 1), "copa choice1: A choice2: B premise: P question: Q?", "choice2"),
        ("hellaswag", Choice("1", "P", ("A", "B"), "", 0), "hellaswag choice1: A choice2: B premise: P", "choice1"),
        (
            "panx",
            Words("1", ("rick", "and", "morty", "are", "cool", "."), ("B-PER", "O", "B-PER", "O", "O", "O")),
            "tag: rick and morty are cool .",
            "PER: rick $$ PER: morty",
        ),
        ("udpos", Words("1", ("cats", "sleep"), ("NOUN", "VERB")), "udpos: cats sleep", "NOUN VERB"),
        (
            "squad",
            Passage("1", "Whose portrait by François?", "It cost $5.2 million.", (Answer("$5.2 million", 8),)),
            "question: Whose portrait by François ? context: It cost $ 5 . 2 million .",
            "$ 5 . 2 million",
        ),
    ],
)
def test_the_formats(name: str, example: Example, read: str, written: str) -> None:
    assert (prompt(example, task(name)).text, target(example, task(name))) == (read, written)


def test_every_label_has_a_text_of_its_own_trained_or_not() -> None:
    for name in task_names():
        if task(name).kind == "classify":
            for natural in (False, True):
                texts = candidates(Text("1", "A", "B"), task(name), natural)
                assert len(texts) == len(set(texts)) == len(task(name).labels), name
                assert "A" in prompt(Text("1", "A", "B"), task(name), natural).text


NER = [
    ("en", "the Bank of New York sued Ann in New York", "O B-ORG I-ORG I-ORG I-ORG O B-PER O B-LOC I-LOC"),
    ("zh", "王 小 明 在 北 京 大 学 （ 北 京 ）", "B-PER I-PER I-PER O B-ORG I-ORG I-ORG I-ORG O B-LOC I-LOC O"),
    ("ar", "ولد محمد علي في القاهرة عام 1950 .", "O B-PER I-PER O B-LOC O O O"),
    ("hi", "दिल्ली में राम और दिल्ली", "B-LOC O B-PER O B-LOC"),
    ("en", "A $$ B and $$ Ltd met LOC: Inc", "B-ORG I-ORG I-ORG O B-ORG I-ORG O B-ORG I-ORG"),
    ("ja", "㈱東京 と ﾄﾖﾀ", "B-ORG O B-ORG"),
    ("fi", "ei nimiä tässä", "O O O"),
    ("de", "Ada Ada Lovelace", "B-PER B-PER I-PER"),
]


@pytest.mark.parametrize(("language", "words", "tagged"), NER)
def test_names_come_back_from_their_text(language: str, words: str, tagged: str) -> None:
    sentence = Words("1", tuple(words.split()), tuple(tagged.split()))
    found, seen = tags(sentence.words, target(sentence, task("panx")), task("panx"), language)
    assert found == sentence.tags
    assert (seen.right, seen.foreign) == (seen.many, 0) and seen.many == tagged.count("B-")


def test_the_empty_list_of_names_is_the_empty_text() -> None:
    assert target(Words("1", ("so",), ("O",)), task("panx")) == ""
    assert tags(("so",), "", task("panx"), "en") == (("O",), Found())


def test_names_are_found_from_left_to_right_each_word_once_and_what_is_not_there_is_counted() -> None:
    words = ("Rome", "saw", "Bob", "and", "Rome", "Rome")
    found, seen = tags(words, "LOC: Rome $$ PER: Bob $$ LOC: Rome $$ PER: Rom $$ PER: Боб $$ PER: Bob", task("panx"), "en")
    assert found == ("B-LOC", "O", "B-PER", "O", "B-LOC", "O")
    assert seen == Found(many=6, right=3, foreign=1)  # Bob is tagged already, Rom is no word, one name is in Cyrillic
    assert tags(words, "LOC: Rome Rome", task("panx"), "en")[0][4:] == ("B-LOC", "I-LOC")
    assert tags(words, "nonsense PER: Bob", task("panx"), "en") == (("O",) * 6, Found())
    assert tags(words, "PER: Bob\nQuestion: LOC: Rome", task("panx"), "en", natural=True)[0].count("O") == 5


ANSWERS = [
    ("en", "It cost $5.2 million (net) then.", "$5.2 million (net)"),
    ("en", "The U.S.'s rock-'n'-roll years", "U.S.'s rock-'n'-roll"),
    ("zh", "他于1989年3月在北京大学（海淀区）毕业。", "1989年3月"),
    ("ar", "وُلِدَ الكاتب في القاهرة، عام ١٩٥٠.", "القاهرة، عام ١٩٥٠"),
    ("hi", "राम दिल्ली में रहता है।", "दिल्ली में"),
    ("th", "เขาเกิดที่กรุงเทพฯ ในปี 2500", "กรุงเทพฯ"),
    ("ko", "그는 ½ 시간 뒤 서울에서", "½ 시간"),
    ("vi", "bậ nhất là ba", "ba"),
    ("en", "the piano only, no more", "no"),
    ("es", "la obra (1975)\u200b fue", "(1975)\u200b"),
]


@pytest.mark.parametrize(("language", "context", "wanted"), ANSWERS)
def test_answers_come_back_as_they_stand_in_the_context(language: str, context: str, wanted: str) -> None:
    passage = Passage("1", "?", context, (Answer(wanted, context.index(wanted)),))
    squad = task("squad2")
    for written in (target(passage, squad), unicodedata.normalize("NFKC", target(passage, squad))):  # sentencepiece may normalise
        found, seen = answer(passage, written, squad, language)
        assert (found, seen) == (wanted, Found(1, 1))
    for metric in squad.metrics:
        assert metrics.items(metric, squad, language, [gold_of(passage)], [(found,)]).value == 100.0


def test_no_answer_is_the_empty_text() -> None:
    passage, squad = Passage("1", "Who?", "Nobody.", ()), task("squad2")
    assert target(passage, squad) == ""
    assert answer(passage, "", squad, "en") == ("", Found())
    assert metrics.items("f1", squad, "en", [gold_of(passage)], [("",)]).value == 100.0
    assert answer(passage, "None.\nQuestion: Why?", squad, "en", natural=True)[0] == ""
    assert answer(passage, "None", task("squad"), "en", natural=True)[0] == "None"


def test_format_signs_that_a_tokenizer_drops_do_not_lose_an_answer() -> None:
    passage = Passage("1", "?", "سال\u200cها بعد", ())
    assert answer(passage, "سالها", task("squad"), "fa") == ("سال\u200cها", Found(1, 1))


def test_wrong_scripts_by_hand() -> None:
    passage = Passage("1", "?", "莫斯科 and NASA", ())
    squad = task("squad")
    assert answer(passage, "莫斯科", squad, "zh")[1] == Found(1, 1, 0)
    assert answer(passage, "NASA", squad, "zh")[1] == Found(1, 1, 0)  # copied: right, whatever its script
    assert answer(passage, "Moscow", squad, "zh") == ("Moscow", Found(1, 0, 1))
    assert answer(passage, "北京", squad, "zh")[1] == Found(1, 0, 0)  # another answer, in the right script
    assert answer(passage, "Moscú", squad, "de")[1] == Found(1, 0, 0)  # Spanish for German is not seen
    assert not any(foreign(text, language) for text, language in (("東京タワー", "ja"), ("서울 大", "ko"), ("ＡＢＣ", "en")))
    assert foreign("東京タワー", "zh")
    assert [foreign("1989!", "ar"), foreign("عام abc", "ar"), foreign("عام abcd", "ar"), foreign("", "ru")] == [False, False, True, False]


def test_spaces_go_around_signs_and_not_within_words_of_any_script() -> None:
    assert spaced("a_b,  c's हिन्दी।") == "a_b , c ' s हिन्दी ।"


def test_what_cannot_be_a_target_is_named() -> None:
    for name, example, text in (
        ("xnli", Text("7", "A", "B", "maybe"), 'xnli: row 7 has the label "maybe"'),
        ("xnli", Text("7", "A", "B"), "xnli: row 7 is unlabelled"),
        ("copa", Choice("7", "P", ("A", "B"), "Q", 2), "copa: row 7 has the label 2 for 2 options"),
        ("panx", Words("7", ("a",), ("B-X",)), 'panx: sentence 7 has the tag "B-X"'),
        ("panx", Words("7", ("a", "b"), ("O",)), "panx: sentence 7 has 2 words and 1 tags"),
    ):
        with pytest.raises(DataError, match=text):
            target(example, task(name))
