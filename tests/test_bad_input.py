"""What data files can hold and should not: each gets a line that names file, row and remedy, or is read as if it were not there."""

import json
from pathlib import Path

import pytest

from xstilts.errors import DataError
from xstilts.rows import check, load, part_rows
from xstilts.task import Parts
from xstilts.tasks import task

ONLY_DEV = Parts("", "", "dev")


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def findings(name: str, data: Path, parts: Parts = ONLY_DEV) -> list[str]:
    return [f"{each.level}: {each.text}" for each in check(task(name), data, parts).findings]


def question(**change: object) -> dict[str, object]:
    return {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 5}]} | change


def squad(*questions: dict[str, object], context: str = "Dear Ada") -> str:
    return json.dumps({"data": [{"title": "T", "paragraphs": [{"context": context, "qas": list(questions)}]}]})


@pytest.mark.parametrize("content", [b"p\th\tneutral\r\n", b"\xef\xbb\xbfp\th\tneutral\n", b"p\th\tneutral\n\n\n", b"p\th\tneutral"])
def test_line_ends_marks_and_empty_lines_at_the_end_change_no_row(tmp_path: Path, content: bytes) -> None:
    plain = write(tmp_path / "plain/xnli/dev-de.tsv", "p\th\tneutral\n").parents[1]
    odd = write(tmp_path / "odd/xnli/dev-de.tsv", content).parents[1]
    assert list(task("xnli").source.read(odd, "dev", "de")) == list(task("xnli").source.read(plain, "dev", "de"))


def test_a_quote_that_nothing_closes_is_noted_where_it_can_be_a_mistake(tmp_path: Path) -> None:
    write(tmp_path / "xnli/dev-de.tsv", '"p\th\tneutral\np "q"\th\tneutral\n')
    write(tmp_path / "xquad/xquad.de.json", squad(question(question='"Who?')))
    (line, *_) = findings("xnli", tmp_path)
    assert line == (
        'note: dev-de.tsv: 1 row with a text that starts or ends with a quote that nothing closes, the first: "dev-1"; '
        "if a spreadsheet wrote the file, take the original"
    )
    assert not any("quote" in text for text in findings("xquad", tmp_path, Parts("", "", "test")))


@pytest.mark.parametrize(
    ("name", "path", "content", "says"),
    [
        (
            "xquad",
            "xquad/xquad.de.json",
            squad(question(), question()),
            'xquad.de.json: question "1": the id stands twice; give each question its own',
        ),
        (
            "xquad",
            "xquad/xquad.de.json",
            squad(question(answers=[{"text": "Ada", "answer_start": 4}])),
            'xquad.de.json: question "1": the answer "Ada" does not stand at character 4 of the context; the nearest place is 5',
        ),
        (
            "xnli",
            "xnli/dev-de.tsv",
            "p\th\tneutral\np\ti\tNeutral\n",
            'dev-de.tsv:2: label "Neutral" is none of entailment, neutral, contradiction; did you mean "neutral"?',
        ),
        (
            "panx",
            "panx/dev-de.tsv",
            "Ada\tB-PER\nwar\tI-Per\n",
            'dev-de.tsv:2: label "I-Per" is none of O, B-PER, I-PER, B-ORG, I-ORG, B-LOC, I-LOC; did you mean "I-PER"?',
        ),
        ("xnli", "xnli/dev-de.tsv", "\n", 'dev-de.tsv: no rows in "de"; download the file again'),
        ("udpos", "udpos/dev-de.tsv", "", 'dev-de.tsv: no rows in "de"; download the file again'),
        ("xquad", "xquad/xquad.de.json", "", "xquad.de.json:1: not JSON (Expecting value at column 1); is the file truncated?"),
        ("xcopa", "xcopa/data/it/val.it.jsonl", "\n", 'val.it.jsonl: no rows in "it"; download the file again'),
        ("bucc2018", "bucc2018/de-en.dev.de", "", 'de-en.dev.de: no rows in "de"; download the file again'),
    ],
)
def test_a_wrong_file_is_named_with_the_row_and_what_to_do(tmp_path: Path, name: str, path: str, content: str, says: str) -> None:
    write(tmp_path / path, content)
    if name == "bucc2018":
        write(tmp_path / "bucc2018/de-en.dev.en", "en-1\ta\n")
        write(tmp_path / "bucc2018/de-en.dev.gold", "")
    report = check(task(name), tmp_path, Parts("", "", "dev" if "dev" in task(name).source.splits else "test"))
    assert not report.ok
    assert [f"{tmp_path / path}".rsplit("/", 1)[0] + f"/{says}"] == [f.text for f in report.findings if f.level == "error"]


def test_ids_that_stand_twice_across_the_files_of_a_split(tmp_path: Path) -> None:
    write(tmp_path / "bucc2018/de-en.dev.de", "x-1\teins\nx-1\tzwei\n")
    write(tmp_path / "bucc2018/de-en.dev.en", "en-1\tone\n")
    write(tmp_path / "bucc2018/de-en.dev.gold", "x-1\ten-1\n")
    (line,) = findings("bucc2018", tmp_path)
    assert line == ('error: de-en.dev.de, de-en.dev.gold and 1 more: 1 ids stand more than once, the first: "x-1"; give each row its own')


def test_answers_whose_place_is_a_guess_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "squad/dev-v1.1.json", squad(question(), question(id="2"), context="Dear Ada, Ada"))
    write(tmp_path / "squad/dev-v1.1.ambiguous_offset_ids.txt", "2\n9\n")
    notes = findings("squad", tmp_path, Parts("", "", "official_dev"))
    assert any(line.startswith("note: dev-v1.1.json: the answers of 1 row stand at several places") for line in notes)


def test_a_training_row_that_is_a_test_row_is_counted_dropped_or_kept(tmp_path: Path) -> None:
    write(tmp_path / "panx/train-en.tsv", "Ada\tB-PER\n\nTurin\tB-LOC\n\n")
    write(tmp_path / "panx/test-en.tsv", "ada\tO\n")
    parts = Parts("train", "", "test")
    note = 'note: 1 row of train left out, the first: "train-1": their text or group also stands in test (test)'
    assert note in findings("panx", tmp_path, parts)
    rows = [part_rows(task("panx"), "train", "en", parts, None, tmp_path, str, drop=drop) for drop in (True, False)]
    assert [[row.id for row in load(each, tmp_path)] for each in rows] == [["train-2"], ["train-1", "train-2"]]


def test_parallel_rows_that_differ_in_label_or_were_not_translated(tmp_path: Path) -> None:
    long = "a sentence of more than 25 characters"
    write(tmp_path / "pawsx/dev-en.tsv", f"{long}\tb\t1\nc\td\t0\n")
    write(tmp_path / "pawsx/dev-de.tsv", "NS\tB\t1\nC\tD\t1\n")
    assert findings("pawsx", tmp_path)[-2:] == [
        'note: 1 row with another label than in "en", the first: "dev-2"; each is used with its own',
        'note: 1 row with a few letters where "en" has a sentence, the first: "dev-1"; translated or not, they count',
    ]


def test_no_file_of_a_language_is_an_error_when_it_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "xnli/dev-de.tsv", "p\th\tneutral\n")
    with pytest.raises(DataError, match='split "dev" in "fr": xnli/dev-fr.tsv or .* not found.*Get XNLI-1.0.zip'):
        task("xnli").source.files(tmp_path, "dev", "fr")
