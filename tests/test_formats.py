"""The readers of the tasks beyond the first ones: each format from a toy file, and what bad files get."""

import json
from pathlib import Path

import pytest

from xstilts.errors import DataError
from xstilts.examples import Choice, Example, Parallel, Passage, Text, Words
from xstilts.readers import (
    answer_sentences,
    bucc_candidates,
    bucc_queries,
    ccgbank_auto,
    commonsenseqa_jsonl,
    copa_jsonl,
    cosmosqa_csv,
    dream_json,
    ecare_jsonl,
    fingerprint,
    grouped_as_in,
    headed_tsv,
    hellaswag_jsonl,
    linked_groups,
    mewslix_entities,
    mewslix_mentions,
    nli_jsonl,
    pairs_tsv,
    plain_category,
    socialiqa_jsonl,
    squad_json,
    squad_jsonl,
    supertags,
    topics_tsv,
    words_jsonl,
    words_tsv,
)
from xstilts.rows import check
from xstilts.sources import Reader
from xstilts.task import Parts
from xstilts.tasks import task

NLI = ("entailment", "neutral", "contradiction")
CATEGORIES = ("N", "NP/N", r"(S[dcl]\NP)/NP", "NP", r"S\S", ".")


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(reader: Reader, path: Path, content: str | bytes, language: str = "en") -> list[Example]:
    return list(reader(write(path, content), language))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.txt"


# Pairs


def test_anli_spells_its_labels_with_one_letter(file: Path) -> None:
    record = {"uid": "u", "context": "p", "hypothesis": "h", "label": "c", "reason": ""}
    short = {"e": "entailment", "n": "neutral", "c": "contradiction"}
    assert read(nli_jsonl("a", NLI, short), file, json.dumps(record)) == [Text("a-1", "p", "h", "contradiction", fingerprint("p"))]


def test_glue_names_columns_and_broken_lines_are_left_out(file: Path) -> None:
    reader = headed_tsv("q", ("question1", "question2", "is_duplicate"), {"0": "not_duplicate", "1": "duplicate"})
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    rows = read(reader, file, f"{head}7\t1\t2\tWhy?\tHow?\t0\n8\t3\t4\tWho\nis it?\tWho?\t1\n9\t5\t6\tA?\ta?\t1\n")
    assert [(row.id, row.text, row.label) for row in rows if isinstance(row, Text)] == [
        ("q-1", "Why?", "not_duplicate"),
        ("q-4", "A?", "duplicate"),
    ]
    with pytest.raises(DataError, match='file.txt:2: label "2" is none of 0, 1'):
        read(reader, file, f"{head}7\t1\t2\tWhy?\tHow?\t2\n")
    with pytest.raises(DataError, match="file.txt:1: the header names no column question2"):
        read(reader, file, "id\tquestion1\tis_duplicate\n")


def test_pairs_that_share_a_sentence_on_either_side_hang_together() -> None:
    rows = [Text("1", "a", "b"), Text("2", "c", "d"), Text("3", "x", "A"), Text("4", "d", "e"), Text("5", "f", "g"), Text("6", "b", "c")]
    groups = linked_groups(rows)
    assert len({groups[name] for name in "12346"}) == 1 and groups["5"] not in {groups["1"]}


def test_parallel_rows_take_the_groups_of_the_english_ones(tmp_path: Path) -> None:
    write(tmp_path / "dev-en.tsv", "a\tb\t1\nc\td\t0\nb\te\t1\n")
    reader = grouped_as_in("dev-en.tsv", pairs_tsv("dev", ("0", "1")), linked_groups)
    german = read(reader, tmp_path / "dev-de.tsv", "A\tNS\t1\nC\tD\t0\nB\tE\t1\n", "de")
    english = list(reader(tmp_path / "dev-en.tsv", "en"))
    assert [row.group for row in german] == [row.group for row in english]
    assert german[0].group == german[2].group != german[1].group
    with pytest.raises(DataError, match='dev-de.tsv: row "dev-4" has no English row in dev-en.tsv'):
        read(reader, tmp_path / "dev-de.tsv", "A\tB\t1\nC\tD\t0\nB\tE\t1\nx\ty\t0\n", "de")


def test_rows_of_one_part_and_groups_that_the_file_names(file: Path) -> None:
    records = [{"premise": "p", "hypothesis": "h", "label": "neutral", "tag": tag, "image": f"i-{tag}"} for tag in ("train", "dev")]
    text = "\n".join(map(json.dumps, records))
    assert read(nli_jsonl("d", NLI, group_field="image", only=("tag", "dev")), file, text) == [Text("d-2", "p", "h", "neutral", "i-dev")]
    with pytest.raises(DataError, match='file.txt:1: no "part"'):
        read(nli_jsonl("d", NLI, only=("part", "dev")), file, text)


def test_topics_share_their_index_in_every_language(file: Path) -> None:
    assert read(topics_tsv("dev", ("travel",)), file, "index_id\tcategory\ttext\n431\ttravel\tT.\n") == [
        Text("dev-431", "T.", None, "travel", "dev-431")
    ]
    with pytest.raises(DataError, match='file.txt:2: label "health" is none of travel'):
        read(topics_tsv("dev", ("travel",)), file, "index_id\tcategory\ttext\n431\thealth\tT.\n")


# Choices


def test_ecare_asks_like_copa(file: Path) -> None:
    record = {"index": "dev-0", "premise": "P", "ask-for": "effect", "hypothesis1": "a", "hypothesis2": "b", "label": 0}
    (row,) = read(ecare_jsonl("dev"), file, json.dumps(record))
    assert row == Choice("dev-1", "P", ("a", "b"), "What happened as a result?", 0, fingerprint("P"))


def test_dream_has_several_questions_a_dialogue(file: Path) -> None:
    questions = [{"question": q, "choice": ["a", "b", "c"], "answer": answer} for q, answer in (("Q?", "b"), ("R?", "c"))]
    rows = read(dream_json("dev"), file, json.dumps([[["M: x", "W: y"], questions, "14-349"]]))
    assert [(row.id, row.context, row.label, row.group) for row in rows if isinstance(row, Choice)] == [
        ("dev-1-1", "M: x W: y", 1, "14-349"),
        ("dev-1-2", "M: x W: y", 2, "14-349"),
    ]
    questions[0]["answer"] = "d"
    with pytest.raises(DataError, match='dialogue 1: the answer "d" is not one of the choices'):
        read(dream_json("dev"), file, json.dumps([[["M: x"], questions, "14-349"]]))
    with pytest.raises(DataError, match="dialogue 1: expected .turns, questions, id.; download"):
        read(dream_json("dev"), file, json.dumps([["x"]]))


def test_copa_asks_in_english_and_items_keep_their_number(file: Path) -> None:
    record = {"premise": "P.", "choice1": "a", "choice2": "b", "question": "cause", "label": 1, "idx": 12, "changed": True}
    assert read(copa_jsonl("test"), file, json.dumps(record), "it") == [
        Choice("test-12", "P.", ("a", "b"), "What was the cause of this?", 1, "test-12")
    ]
    for change, says in (
        ({"question": "reason"}, 'label "reason" is none of cause, effect'),
        ({"label": "2"}, "label '2' is none of 0, 1"),
    ):
        with pytest.raises(DataError, match=f"file.txt:1: {says}"):
            read(copa_jsonl("test"), file, json.dumps(record | change))
    with pytest.raises(DataError, match='"idx" should be a whole number'):
        read(copa_jsonl("test"), file, json.dumps(record | {"idx": "12"}))


def test_socialiqa_with_labels_inside_and_beside(tmp_path: Path) -> None:
    record = {"context": "c", "question": "q", "answerA": "x", "answerB": "y", "answerC": "z"}
    inside = read(socialiqa_jsonl("dev"), tmp_path / "one.jsonl", json.dumps(record | {"correct": "B"}))
    write(tmp_path / "dev-labels.lst", "2\n")
    beside = read(socialiqa_jsonl("dev", "dev-labels.lst"), tmp_path / "dev.jsonl", json.dumps(record))
    assert inside == beside == [Choice("dev-1", "c", ("x", "y", "z"), "q", 1, fingerprint("c"))]
    for labels, says in (("2\n1\n", "1 rows, but 2 labels"), ("4\n", "dev-labels.lst:1: label '4' is none of 1, 2, 3")):
        write(tmp_path / "dev-labels.lst", labels)
        with pytest.raises(DataError, match=says):
            list(socialiqa_jsonl("dev", "dev-labels.lst")(tmp_path / "dev.jsonl", "en"))


def test_cosmosqa_cells_may_hold_quotes_commas_and_lines(file: Path) -> None:
    head = "id,context,question,answer0,answer1,answer2,answer3,label\r\n"
    (row,) = read(cosmosqa_csv("v"), file, head + 'x,"He said ""no"",\nand left",Why?,a,b,c,d,3\r\n')
    assert row == Choice("v-1", 'He said "no",\nand left', ("a", "b", "c", "d"), "Why?", 3, fingerprint('He said "no", and left'))
    for body, says in (
        ('x,"c" d,q,a,b,c,d,3\n', "2: not CSV"),
        ('x,"c,q,a,b,c,d,3\n', "2: not CSV .unexpected end of data"),
        ("x,c,q,a,b,c,3\n", "2: 7 columns, the header names 8"),
        ("x,c,q,a,b,c,d,\n", "2: label '' is none of 0, 1, 2, 3; labelled rows are needed"),
    ):
        with pytest.raises(DataError, match=f"file.txt:{says}"):
            read(cosmosqa_csv("v"), file, head + body)


def test_commonsenseqa_official_and_as_the_hub_keeps_it(file: Path) -> None:
    choices = [{"label": letter, "text": letter.lower()} for letter in "ABCDE"]
    official = {"answerKey": "C", "id": "1", "question": {"question_concept": "Punish", "choices": choices, "stem": "q"}}
    hub = {"id": "1", "question": "q", "question_concept": "punish", "answerKey": "C"}
    hub |= {"choices": {"label": list("ABCDE"), "text": list("abcde")}}
    first, second = (read(commonsenseqa_jsonl("d"), file, json.dumps(record)) for record in (official, hub))
    assert first == second == [Choice("d-1", "", tuple("abcde"), "q", 2, fingerprint("punish"))]
    with pytest.raises(DataError, match="answerKey '' is none of A, B, C, D, E"):
        read(commonsenseqa_jsonl("d"), file, json.dumps(hub | {"answerKey": ""}))
    with pytest.raises(DataError, match="five texts A to E"):
        read(commonsenseqa_jsonl("d"), file, json.dumps(hub | {"choices": {"label": ["A"], "text": ["a"]}}))


def test_a_label_of_several_digits_is_no_option(file: Path) -> None:
    with pytest.raises(DataError, match="label '12' is none of 0, 1, 2, 3"):
        read(hellaswag_jsonl("v"), file, json.dumps({"ctx": "c", "endings": list("abcd"), "label": "12"}))


# Words


def test_pan_x_marks_words_with_their_language(file: Path) -> None:
    (row,) = read(words_tsv("dev", ("O", "B-PER"), marked=True), file, "de:Ada\tB-PER\nde::\tO\n\n", "de")
    assert isinstance(row, Words) and row.words == ("Ada", ":")


def test_tagged_words_as_json_lines(file: Path) -> None:
    (row,) = read(words_jsonl("dev", ("O",)), file, '{"words": ["a", "b"], "tags": ["O", "O"]}')
    assert row == Words("dev-1", ("a", "b"), ("O", "O"), fingerprint("a b"))
    with pytest.raises(DataError, match="file.txt:1: 1 words, 2 tags"):
        read(words_jsonl("dev", ("O",)), file, '{"words": ["a"], "tags": ["O", "O"]}')


@pytest.mark.parametrize(
    "line", [r"The|NP[nb]/N dog|N saw|(S[dcl]\NP)/NP it|NP .|.", r"The|DT|NP/N dog|NN|N saw|V|(S[dcl]\NP)/NP it|P|NP .|.|."]
)
def test_supertags_with_and_without_parts_of_speech(file: Path, line: str) -> None:
    (row,) = read(supertags("t", CATEGORIES, "other"), file, line + "\n\n")
    assert isinstance(row, Words)
    assert row.words == ("The", "dog", "saw", "it", ".")
    assert row.tags == ("NP/N", "N", r"(S[dcl]\NP)/NP", "NP", ".")


def test_ccgbank_derivations_give_the_same_words(file: Path) -> None:
    tree = (
        r"(<T S[dcl] 0 2> (<T NP 0 2> (<L NP[nb]/N DT DT The NP[nb]_1/N_1>) (<L N NN NN dog N>) ) "
        r"(<T S[dcl]\NP 0 2> (<L (S[dcl]\NP)/NP VBD VBD saw (S[dcl]\NP_2)/NP_3>) (<L N[num] CD CD 61 N[num]>) ) ) "
    )
    (row,) = read(ccgbank_auto(CATEGORIES, "other"), file, f"ID=wsj_0001.1 PARSER=GOLD NUMPARSE=1\n{tree}\n")
    assert isinstance(row, Words)
    assert (row.id, row.words, row.tags) == ("wsj_0001.1", ("The", "dog", "saw", "61"), ("NP/N", "N", r"(S[dcl]\NP)/NP", "other"))
    with pytest.raises(DataError, match="file.txt:1: no derivation of CCGbank"):
        read(ccgbank_auto(CATEGORIES, "other"), file, tree)
    with pytest.raises(DataError, match='file.txt:1: "dog" is not word|category'):
        read(supertags("t", CATEGORIES, "other"), file, "The|N dog")


def test_categories_lose_what_parsers_differ_in() -> None:
    assert plain_category(r"S:X\S:X") == r"S\S" and plain_category("NP[nb]/N[num]") == "NP/N[num]" and plain_category(":") == ":"


def test_ccgbanks_sections_are_read_file_by_file(tmp_path: Path) -> None:
    for number in (1, 2):
        text = f"ID=wsj_000{number}.1 PARSER=GOLD NUMPARSE=1\n(<L N NN NN dog N>)\n"
        write(tmp_path / f"ccgbank_1_1/data/AUTO/00/wsj_000{number}.auto", text)
    ccg = task("ccg")
    assert [row.id for row in ccg.source.read(tmp_path, "dev", "en")] == ["wsj_0001.1", "wsj_0002.1"]
    with pytest.raises(DataError, match="order LDC2005T13"):
        ccg.source.files(tmp_path, "train", "en")


# Questions


def test_squad_as_the_hub_keeps_it(file: Path) -> None:
    record = {"id": "q", "title": "T", "context": "Dear Ada", "question": "Who?", "answers": {"text": ["Ada"], "answer_start": [5]}}
    nested = {"data": [{"title": "T", "paragraphs": [{"context": "Dear Ada", "qas": [{"id": "q", "question": "Who?"}]}]}]}
    nested["data"][0]["paragraphs"][0]["qas"][0]["answers"] = [{"text": "Ada", "answer_start": 5}]
    assert read(squad_jsonl(), file, json.dumps(record)) == read(squad_json(), file, json.dumps(nested))
    with pytest.raises(DataError, match='question "q": the id stands twice'):
        read(squad_jsonl(), file, f"{json.dumps(record)}\n{json.dumps(record)}")
    with pytest.raises(DataError, match="no answers; labelled rows are needed"):
        read(squad_jsonl(), file, json.dumps(record | {"answers": {"text": [], "answer_start": []}}))


def mlqa(folder: Path, language: str, title: str, ids: list[str]) -> None:
    qas = [{"id": name, "question": "Wer?", "answers": [{"text": "Ada", "answer_start": 0}]} for name in ids]
    text = json.dumps({"data": [{"title": title, "paragraphs": [{"context": "Ada.", "qas": qas}]}]})
    write(folder / f"mlqa/MLQA_V1/dev/dev-context-{language}-question-{language}.json", text)


def test_mlqa_groups_are_the_english_titles_and_the_english_file_is_hashed_too(tmp_path: Path) -> None:
    mlqa(tmp_path, "de", "Ada (Mathematikerin)", ["a"])
    with pytest.raises(DataError, match="with dev-context-en-question-en.json beside it"):
        task("mlqa").source.files(tmp_path, "dev", "de")
    mlqa(tmp_path, "en", "Ada Lovelace", ["a", "b"])
    (row,) = task("mlqa").source.read(tmp_path, "dev", "de")
    assert isinstance(row, Passage) and row.group == "Ada Lovelace"
    names = [path.name for path in task("mlqa").source.files(tmp_path, "dev", "de")]
    assert names == ["dev-context-de-question-de.json", "dev-context-en-question-en.json"]
    assert [path.name for path in task("mlqa").source.files(tmp_path, "dev", "en")] == ["dev-context-en-question-en.json"]


# Retrieval


def test_bucc_asks_with_foreign_sentences_most_of_which_have_no_translation(tmp_path: Path) -> None:
    folder = tmp_path / "bucc2018"
    write(folder / "de-en.dev.de", "de-1\teins\nde-2\tzwei\n")
    write(folder / "de-en.dev.en", "en-1\tthree\nen-2\ttwo\n")
    write(folder / "de-en.dev.gold", "de-2\ten-2\n")
    assert list(task("bucc2018").source.read(tmp_path, "dev", "de")) == [
        Parallel("de-1", "eins", "query", None, "de-1"),
        Parallel("de-2", "zwei", "query", "en-2", "de-2"),
        Parallel("en-1", "three", "candidate", None, "en-1"),
        Parallel("en-2", "two", "candidate", None, "de-2"),
    ]
    assert check(task("bucc2018"), tmp_path).ok
    write(folder / "de-en.dev.gold", "de-2\ten-9\n")
    assert 'row "de-2": its answer "en-9" is no candidate' in check(task("bucc2018"), tmp_path).findings[0].text
    write(folder / "de-en.dev.gold", "de-7\ten-2\n")
    with pytest.raises(DataError, match='de-en.dev.gold: names "de-7", which is no sentence of de-en.dev.de'):
        list(bucc_queries(folder / "de-en.dev.de", "de"))
    write(folder / "de-en.dev.gold", "de-2 en-2\n")
    with pytest.raises(DataError, match="de-en.dev.gold:1: 1 tab-separated columns"):
        list(bucc_candidates(folder / "de-en.dev.en", "de"))
    (folder / "de-en.dev.gold").unlink()
    with pytest.raises(DataError, match="de-en.dev.gold beside it"):
        task("bucc2018").source.files(tmp_path, "dev", "de")


def xquad_r(folder: Path, language: str, start: int = 8) -> None:
    context = "I am. Her Ada ran."
    qas = [{"id": "q", "question": f"Who {language}?", "answers": [{"text": context[start : start + 3], "answer_start": start}]}]
    paragraph = {"context": context, "sentence_breaks": [[0, 5], [6, 18]], "qas": qas}
    write(folder / f"lareqa/xquad-r/{language}.json", json.dumps({"data": [{"title": "T", "paragraphs": [paragraph]}]}))


def test_lareqa_has_one_pool_and_an_answer_in_every_language(tmp_path: Path) -> None:
    for language in ("de", "en"):
        xquad_r(tmp_path, language)
    rows = list(task("lareqa").source.read(tmp_path, "test_at_hand", "de"))
    assert rows[0] == Parallel("q", "Who de?", "query", "de-1-2", "T", ("en-1-2",))
    assert isinstance(rows[0], Parallel) and rows[0].golds == ("de-1-2", "en-1-2")
    assert [(row.id, row.text) for row in rows[1:] if isinstance(row, Parallel)] == [
        ("de-1-1", "I am."),
        ("de-1-2", "Her Ada ran."),
        ("en-1-1", "I am."),
        ("en-1-2", "Her Ada ran."),
    ]
    report = check(task("lareqa"), tmp_path)
    assert report.ok and [(c.language, c.rows, c.candidates) for c in report.counts] == [("en", 1, 4), ("de", 1, 4)]


def test_lareqa_without_all_its_languages_is_no_lareqa(tmp_path: Path) -> None:
    xquad_r(tmp_path, "en")
    with pytest.raises(DataError, match=r"vi.json, zh.json beside it.*splits that are there: test_at_hand"):
        task("lareqa").source.files(tmp_path, "test", "en")
    for language in task("lareqa").languages:
        xquad_r(tmp_path, language)
    assert len(list(task("lareqa").source.read(tmp_path, "test", "th"))) == 1 + 22
    assert len(task("lareqa").source.files(tmp_path, "test", "th")) == 11


def test_an_answer_outside_every_sentence_is_an_error(tmp_path: Path) -> None:
    xquad_r(tmp_path, "en", start=5)
    with pytest.raises(DataError, match="no sentence of its paragraph holds character 5"):
        list(answer_sentences(("en",))(tmp_path / "lareqa/xquad-r/en.json", "en"))


def mention(text: str = "Rain {fell}. The Ada ran. Then", start: int = 17, **context: object) -> str:
    spans = [{"start": 0, "end": 12}, {"start": 13, "end": 25}]
    inner = {"document_id": "d", "language": "de", "text": text, "sentence_spans": spans} | context
    span = {"start": start, "end": start + 3, "text": "Ada"}
    return json.dumps({"context": inner, "mentions": [{"example_id": "m", "entity_id": "Q7", "mention_span": span}]})


def test_mewslix_marks_the_mention_in_its_sentence(tmp_path: Path) -> None:
    file = tmp_path / "mewslix/wikinews_mentions-test.jsonl"
    write(file, mention() + "\n" + mention(language="en"))
    entity = {"entity_id": "Q7", "description": "Ada  was\na countess.", "sentence_spans": []}
    write(tmp_path / "mewslix/candidate_set_entities.jsonl", json.dumps(entity))
    assert list(task("mewslix").source.read(tmp_path, "test", "de")) == [
        Parallel("m", "Ada: The { Ada } ran.", "query", "Q7", "d"),
        Parallel("Q7", "Ada was a countess.", "candidate", None, "Q7"),
    ]
    for content, says in (
        (mention(text=""), "the article has no text; run get-mewsli-x.sh"),
        (mention(start=16), '"Ada" does not stand at characters 16 to 19'),
        (mention(start=90), "is no span of a text of 30 characters"),
        (mention(sentence_spans=[]), "no sentence holds it"),
    ):
        with pytest.raises(DataError, match=says):
            read(mewslix_mentions, file, content, "de")
    with pytest.raises(DataError, match='no "description"'):
        read(mewslix_entities, file, '{"entity_id": "Q1"}')


# Layouts


def test_pawsx_of_the_release_and_xtremes_copy_are_the_same_rows(tmp_path: Path) -> None:
    rows = {"en": [("a", "b", "1"), ("b", "c", "0")], "de": [("A", "B", "1"), ("B", "C", "0")]}
    for language, each in rows.items():
        body = "".join(f"{n}\t{a}\t{b}\t{label}\n" for n, (a, b, label) in enumerate(each, start=1))
        write(tmp_path / f"one/x-final/{language}/dev_2k.tsv", f"id\tsentence1\tsentence2\tlabel\n{body}")
        write(tmp_path / f"two/pawsx/dev-{language}.tsv", "".join("\t".join(row) + "\n" for row in each))
    for language in rows:
        first, second = (list(task("pawsx").source.read(tmp_path / name, "dev", language)) for name in ("one", "two"))
        assert first == second and len({row.group for row in first}) == 1


def test_anli_plus_pools_three_data_sets_and_lacks_none_silently(tmp_path: Path) -> None:
    for name in ("snli/dev.jsonl", "mnli/dev.jsonl", "anli/test.jsonl"):
        write(tmp_path / name, json.dumps({"premise": name, "hypothesis": "h", "label": "neutral"}) + "\n")
    names = [row.id for row in task("anli_plus").source.read(tmp_path, "pool", "en")]
    assert names == ["snli-dev-1", "mnli-dev_matched-1", "anli-test-1"]
    with pytest.raises(DataError, match="anli_v1.0/R1/dev.jsonl.*not found"):
        task("anli_plus").source.files(tmp_path, "dev", "en")
    assert sum(task(name).sizes["train-en"] for name in ("snli", "mnli", "anli")) == task("anli_plus").sizes["train-en"] == 1_104_934


def test_xcopa_trains_on_copa_and_has_no_english_score(tmp_path: Path) -> None:
    record = {"premise": "p", "choice1": "a", "choice2": "b", "question": "cause", "label": 0, "idx": 0}
    for name in ("copa/train-en.jsonl", "copa/val-en.jsonl", "xcopa/data/it/test.it.jsonl"):
        write(tmp_path / name, json.dumps(record | {"premise": name}) + "\n")
    report = check(task("xcopa"), tmp_path)
    assert report.ok and report.part_counts == {"train": 1, "dev": 1}
    assert ("test", "en") not in report.missing and "en" not in task("xcopa").languages


def test_romanian_xquad_is_in_no_mean() -> None:
    assert task("xquad_ro").languages == ("ro",) and "ro" not in task("xquad").languages


def test_a_study_may_keep_rows_that_stand_in_the_test_set(tmp_path: Path) -> None:
    from xstilts.rows import part_rows

    for split in ("train", "test"):
        write(tmp_path / f"panx/{split}-en.tsv", "Ada\tB-PER\n\n")
    rows = [part_rows(task("panx"), "train", "en", Parts(dev=""), None, tmp_path, str, drop=drop) for drop in (True, False)]
    assert [len(each.without) for each in rows] == [1, 0]
