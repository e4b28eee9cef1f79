"""The readers: each official format from a toy file, and what bad files get."""

import json
from pathlib import Path

import pytest

from xstilts.errors import DataError
from xstilts.examples import Answer, Choice, Example, Parallel, Passage, Text, Words
from xstilts.readers import (
    conllu,
    fingerprint,
    hellaswag_jsonl,
    nli_jsonl,
    pairs_tsv,
    squad_json,
    tatoeba_candidates,
    tatoeba_queries,
    words_tsv,
    xnli_release,
)
from xstilts.sources import File, Files, Reader

NLI = ("entailment", "neutral", "contradiction")
TAGS = ("NOUN", "VERB", "PUNCT", "ADP", "DET")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.txt"


def read(reader: Reader, path: Path, content: str | bytes, language: str = "en") -> list[Example]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(reader(path, language))


def squad(*questions: dict[str, object]) -> str:
    base: dict[str, object] = {"id": "q1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 5}]}
    paragraph = {"context": "Dear Ada Byron", "qas": [base | question for question in questions]}
    return json.dumps({"version": "1.1", "data": [{"title": "Ada_Lovelace", "paragraphs": [paragraph]}]})


# Pairs


def test_xtreme_tsv_has_no_header_and_runs_of_one_premise_are_a_group(file: Path) -> None:
    rows = read(pairs_tsv("dev", NLI, runs=True), file, "p\th1\tneutral\np\th2\tentailment\nq\th3\tcontradiction\n")
    assert rows == [
        Text("dev-1", "p", "h1", "neutral", "dev-0"),
        Text("dev-2", "p", "h2", "entailment", "dev-0"),
        Text("dev-3", "q", "h3", "contradiction", "dev-1"),
    ]


def test_without_runs_the_group_is_the_first_text_wherever_it_stands(file: Path) -> None:
    a, b, c = read(pairs_tsv("train", NLI), file, "A  man\tx\tneutral\nq\ty\tneutral\na man\tz\tneutral\n")
    assert a.group == c.group == fingerprint("a man") != b.group


def test_a_cell_that_a_csv_writer_quoted_is_unquoted_and_plain_quotes_stay(file: Path) -> None:
    rows = read(pairs_tsv("d", NLI), file, '"He said ""no""."\t"Yes," she said\tneutral\n""\t"a" or "b"\tneutral\n')
    assert [(r.text, r.pair) for r in rows if isinstance(r, Text)] == [
        ('He said "no".', '"Yes," she said'),
        ('""', '"a" or "b"'),
    ]


def test_xnli_release_gives_the_rows_of_xtremes_copy(file: Path) -> None:
    header = "language\tgold_label\tsentence1_binary_parse\tsentence1\tsentence2\tpromptID"
    body = [
        ("de", "neutral", "P", "H1"),
        ("en", "neutral", "p", "h1"),
        ("de", "entailment", "P", "H2"),
        ("en", "entailment", "p", "h2"),
    ]
    lines = [header] + [f"{code}\t{label}\t\t{one}\t{two}\t1" for code, label, one, two in body]
    release = read(xnli_release("test", NLI), file, "\n".join(lines), "de")
    copy = read(pairs_tsv("test", NLI, runs=True), file, "P\tH1\tneutral\nP\tH2\tentailment\n")
    assert release == copy


def test_official_and_plain_nli_jsonl_are_read_alike_and_undecided_rows_left_out(file: Path) -> None:
    official = [{"sentence1": "p", "sentence2": f"h{i}", "gold_label": g, "pairID": "x"} for i, g in enumerate(["-", "neutral"])]
    plain = [{"premise": "p", "hypothesis": f"h{i}", "label": g} for i, g in enumerate(["-", "neutral"])]
    texts = ["\n".join(map(json.dumps, rows)) for rows in (official, plain)]
    first, second = (read(nli_jsonl("snli-dev", NLI), file, text) for text in texts)
    assert first == second == [Text("snli-dev-2", "p", "h1", "neutral", fingerprint("p"))]


# Spans


def test_squad_groups_by_title_and_keeps_offsets(file: Path) -> None:
    assert read(squad_json(), file, squad({})) == [Passage("q1", "Who?", "Dear Ada Byron", (Answer("Ada", 5),), "Ada_Lovelace")]


def test_squad_2_has_questions_without_answer(file: Path) -> None:
    content = squad({"answers": [], "is_impossible": True, "plausible_answers": [{"text": "Byron", "answer_start": 9}]})
    (row,) = read(squad_json(no_answer=True), file, content)
    assert isinstance(row, Passage) and row.answers == ()
    with pytest.raises(DataError, match='question "q1": has no answer'):
        read(squad_json(), file, content)


def test_tydiqa_repeats_ids_and_mixes_languages(file: Path) -> None:
    rows = read(squad_json(repeated_ids=True), file, squad({}, {}))
    assert [row.id for row in rows] == ["q1", "q1#2"]
    with pytest.raises(DataError, match='question "q1": the id stands twice'):
        read(squad_json(), file, squad({}, {}))
    mixed = squad({"id": "finnish-7-1"}, {"id": "english-7-2"})
    rows = read(squad_json(repeated_ids=True, by_language=True), file, mixed, "fi")
    assert [row.id for row in rows] == ["finnish-7-1"]


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (
            {"answers": [{"text": "Ada", "answer_start": 4}]},
            "does not stand at character 4 of the context; the nearest place is 5",
        ),
        ({"answers": [{"text": "Bob", "answer_start": 4}]}, "it stands nowhere in the context"),
        ({"answers": [{"text": "Ada", "answer_start": -10}]}, "does not stand at character -10"),
        ({"answers": [{"text": "Ada", "answer_start": "4"}]}, "answer_start should be a whole number, got '4'"),
        ({"answers": [{"text": "", "answer_start": 0}]}, "an empty answer; XTREME's scripts blank"),
        ({"answers": []}, "no answers; labelled rows are needed"),
        ({"question": None}, '"question" should be text, got None'),
    ],
)
def test_a_bad_question_is_named(file: Path, question: dict[str, object], says: str) -> None:
    with pytest.raises(DataError, match="question") as caught:
        read(squad_json(), file, squad(question))
    assert str(caught.value).startswith(f'{file}: question "q1": ')
    assert says in str(caught.value)


# Choices, words, parallel sentences


def test_hellaswag_official_and_reduced_rows(file: Path) -> None:
    reduced = {"ind": 4, "ctx": "A man sits.", "endings": ["a", "b", "c", "d"], "label": 2}
    official = reduced | {"activity_label": "Sitting", "ctx_a": "A man sits.", "ctx_b": "", "source_id": "x", "split": "val"}
    for record in (reduced, official):
        (row,) = read(hellaswag_jsonl("val"), file, json.dumps(record) + "\n")
        assert row == Choice("val-1", "A man sits.", ("a", "b", "c", "d"), label=2, group=fingerprint("A man sits."))


@pytest.mark.parametrize(
    ("change", "says"),
    [({"label": ""}, "label '' is none of"), ({"label": 4}, "label 4 is none of"), ({"endings": ["a"]}, "1 endings, expected 4")],
)
def test_hellaswag_bad_rows(file: Path, change: dict[str, object], says: str) -> None:
    record = {"ctx": "c", "endings": ["a", "b", "c", "d"], "label": 0} | change
    with pytest.raises(DataError, match=f"file.txt:1: {says}"):
        read(hellaswag_jsonl("val"), file, json.dumps(record))


def test_hellaswag_without_label_is_refused(file: Path) -> None:
    with pytest.raises(DataError, match='file.txt:1: no "label"'):
        read(hellaswag_jsonl("test"), file, json.dumps({"ctx": "c", "endings": ["a", "b", "c", "d"]}))


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n"])
def test_tagged_words_end_with_a_blank_line_or_the_file(file: Path, end: str) -> None:
    rows = read(words_tsv("dev", TAGS), file, 'Dogs\tNOUN\nbark\tVERB\n\n\n"\tPUNCT' + end)
    assert rows == [
        Words("dev-1", ("Dogs", "bark"), ("NOUN", "VERB"), fingerprint("Dogs bark")),
        Words("dev-2", ('"',), ("PUNCT",), fingerprint('"')),
    ]


def test_conllu_leaves_out_ranges_and_empty_nodes(file: Path) -> None:
    lines = [
        "# text = zum Haus",
        "1-2\tzum\t_\t_",
        "1\tzu\tzu\tADP",
        "2\tdem\tder\tDET",
        "2.1\tx\tx\tVERB",
        "3\tHaus\tHaus\tNOUN",
        "",
    ]
    content = "\n".join(line + "\t_" * 6 if line[:1].isdigit() else line for line in lines) + "\n"
    assert read(conllu("test", TAGS), file, content) == [
        Words("test-1", ("zu", "dem", "Haus"), ("ADP", "DET", "NOUN"), fingerprint("zu dem Haus"))
    ]


def test_a_conllu_file_that_breaks_off_is_truncated(file: Path) -> None:
    with pytest.raises(DataError, match="is the file truncated"):
        read(conllu("test", TAGS), file, "1\tHaus\tHaus\tNOUN" + "\t_" * 6 + "\n")


def test_tatoeba_asks_in_english_and_answers_in_the_other_language(tmp_path: Path) -> None:
    english, german = tmp_path / "tatoeba.deu-eng.eng", tmp_path / "tatoeba.deu-eng.deu"
    german.write_text("eins\nzwei\n")
    assert read(tatoeba_queries, english, "one\ntwo\n") == [
        Parallel("q1", "one", "query", "c1", "1"),
        Parallel("q2", "two", "query", "c2", "2"),
    ]
    assert list(tatoeba_candidates(german, "de"))[1] == Parallel("c2", "zwei", "candidate", None, "2")
    german.write_text("eins\n")
    with pytest.raises(DataError, match="1 lines, but 2 in tatoeba.deu-eng.eng"):
        list(tatoeba_candidates(german, "de"))


# Bad files of every kind


@pytest.mark.parametrize(
    ("reader", "content", "says"),
    [
        (
            pairs_tsv("d", NLI),
            "p\th\tneutral\np\th\n",
            "2: 2 tab-separated columns, expected 3 (text, pair, label); a row without label?",
        ),
        (pairs_tsv("d", NLI), "p\th\tneutral\tx\n", "1: 4 tab-separated columns"),
        (
            pairs_tsv("d", NLI),
            "p\th\tneutrel\n",
            '1: label "neutrel" is none of entailment, neutral, contradiction; did you mean "neutral"?',
        ),
        (pairs_tsv("d", NLI), "p\th\t\n", "1: no label; labelled rows are needed"),
        (pairs_tsv("d", NLI), "p\th\tneutral\n\np\th\tneutral\n", "2: an empty line between rows"),
        (pairs_tsv("d", NLI), b"p\th\tneutral\np\xff\th\tneutral\n", "2: not UTF-8"),
        (nli_jsonl("d", NLI), '{"premise": "p", "hypothesis": "h", "label": "neutral"}\n{"premise": "p", "hyp', "2: not JSON"),
        (nli_jsonl("d", NLI), '{"premise": "p", "hypothesis": "h"}\n', '1: no "label" (there are: premise, hypothesis)'),
        (nli_jsonl("d", NLI), '["p"]\n', "1: expected an object"),
        (
            nli_jsonl("d", NLI),
            '{"sentence1": "p", "sentence2": 3, "gold_label": "neutral"}\n',
            '1: "sentence2" should be text, got 3',
        ),
        (squad_json(), '{"data": [\n{"title": "x", "paragr', "2: not JSON"),
        (squad_json(), '{"date": []}', ' no "data" (there are: date)'),
        (words_tsv("d", TAGS), "a\tNOUN\nb\n", "2: 1 tab-separated columns, expected 2 (word, tag); a row without label?"),
        (words_tsv("d", TAGS), "a\tNOUM\n", '1: label "NOUM" is none of'),
        (words_tsv("d", TAGS), "\tNOUN\n", "1: an empty word"),
        (conllu("d", TAGS), "1\tHaus\n", "1: 2 tab-separated columns, expected 10"),
        (conllu("d", TAGS), "1\tHaus\tHaus\t_" + "\t_" * 6 + "\n", "1: no label"),
        (xnli_release("d", NLI), "language\tgold_label\tsentence1\n", "1: the header names no column sentence2"),
    ],
)
def test_bad_files_get_one_line_with_file_and_line(file: Path, reader: Reader, content: str | bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(reader, file, content)
    assert str(caught.value).startswith(f"{file}:{says}")
    assert "\n" not in str(caught.value)


def test_byte_order_mark_crlf_and_blank_end_change_nothing(file: Path) -> None:
    plain = read(pairs_tsv("d", NLI), file, "p\th\tneutral\n")
    assert read(pairs_tsv("d", NLI), file, b"\xef\xbb\xbfp\th\tneutral\r\n\r\n\n") == plain


def test_separators_inside_a_text_end_no_line(file: Path) -> None:
    (row,) = read(pairs_tsv("d", NLI), file, "p\u2028p\x85\x0bp\th\tneutral\n")
    assert isinstance(row, Text) and row.text == "p\u2028p\x85\x0bp"


# Finding files

PAIRS = pairs_tsv("dev", NLI)
FILES = Files(
    {
        "train": (File(PAIRS, ("official/train.tsv", "train-{language}.tsv"), only="en"),),
        "dev": (File(PAIRS, ("dev-{language}.tsv",), otherwise=File(nli_jsonl("dev", NLI), ("dev.{iso3}.{english}.jsonl",))),),
        "kept": (File(PAIRS, ("kept-{language}.tsv",)),),
    },
    "Get it from the authors.",
    test_only=("kept",),
)


def test_the_first_name_that_is_there_is_read(tmp_path: Path) -> None:
    (tmp_path / "train-en.tsv").write_text("a\tb\tneutral\n")
    assert FILES.files(tmp_path, "train", "en") == (tmp_path / "train-en.tsv",)
    (tmp_path / "official").mkdir()
    (tmp_path / "official/train.tsv").write_text("a\tb\tneutral\n")
    assert FILES.files(tmp_path, "train", "en") == (tmp_path / "official/train.tsv",)


def test_another_layout_brings_its_own_reader(tmp_path: Path) -> None:
    (tmp_path / "dev.deu.german.jsonl").write_text('{"premise": "p", "hypothesis": "h", "label": "neutral"}')
    (row,) = FILES.read(tmp_path, "dev", "de")
    assert row.id == "dev-1"


def test_a_missing_file_says_what_is_there_and_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "dev-en.tsv").write_text("a\tb\tneutral\n")
    (tmp_path / "kept-en.tsv").write_text("a\tb\tneutral\n")
    with pytest.raises(DataError) as caught:
        FILES.files(tmp_path, "train", "en")
    assert str(caught.value) == (
        f'split "train" in "en": official/train.tsv or train-en.tsv not found under {tmp_path}; splits that are there: dev '
        "(a study may name one under [splits.TASK]). Get it from the authors."
    )


def test_an_unknown_split_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='no split "tran" .*did you mean "train"'):
        FILES.files(tmp_path, "tran", "en")


def test_an_english_file_serves_no_other_language(tmp_path: Path) -> None:
    (tmp_path / "train-de.tsv").write_text("a\tb\tneutral\n")
    with pytest.raises(DataError, match='split "train" is there in "en" only, not in "de"'):
        FILES.files(tmp_path, "train", "de")
    assert FILES.offers("train", "en") and not FILES.offers("train", "de")


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dev-en.tsv").write_text("\n")
    with pytest.raises(DataError, match='dev-en.tsv: no rows in "en"'):
        list(FILES.read(tmp_path, "dev", "en"))
