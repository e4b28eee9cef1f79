"""`xstilts score`: folders in XTREME's layout, whole and in part, and what bad files get."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from study_maker import Cell, finder, write_predictions
from test_metrics import runs_of_one_tag, squad_em, squad_f1
from xstilts.benchmark import FORMS, XTREME, XTREME_R, Benchmark
from xstilts.errors import XstiltsError
from xstilts.stages import Predict, Pretrained, Rows, Runtime
from xstilts.submission import file_text, score_folder, submissions

LABELS = {"xnli": ["entailment", "neutral", "contradiction", "neutral"], "pawsx": ["0", "1", "1", "0"], "tatoeba": ["3", "0", "2", "1"]}
TAGS = {"udpos": [("NOUN", "VERB"), ("SYM", "SYM", "X")], "panx": [("B-PER", "I-PER", "O"), ("B-LOC",)]}
QUESTIONS = [("q1", ("the house", "house")), ("q2", ("北京大学",)), ("q2", ("1999",))]  # an id may stand twice, as in TyDiQA
RANKED = {"m1": ("Q1",), "m2": ("Q2",)}
# task -> [(task, item wrong in place 0) or right], and what it scores
WRONG = {"xnli": 75.0, "pawsx": 75.0, "tatoeba": 75.0, "xcopa": 50.0}


def squad(questions: list[tuple[str, tuple[str, ...]]]) -> str:
    qas = [
        {"id": name, "question": "?", "answers": [{"text": a, "answer_start": 0} for a in answers]} for name, answers in questions
    ]
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": qas}]}]})


def labels_of(task: str, code: str) -> str:
    form = FORMS[task]
    match form.layout:
        case "labels" | "indices":
            return file_text(form, (), [(label,) for label in LABELS[task]])
        case "choices":
            return '{"premise": "x", "label": 0, "idx": 0}\n{"premise": "y", "label": 1, "idx": 1}\n'
        case "tags":
            return file_text(form, (), list(TAGS[task]))
        case "answers":
            return squad(QUESTIONS)
        case "pairs":
            return f"{code}-1\ten-1\n{code}-2\ten-2\n"
        case "ranked":
            return file_text(form, list(RANKED), list(RANKED.values()))


def predictions_of(task: str, code: str, wrong: bool) -> str:
    form = FORMS[task]
    match form.layout:
        case "labels" | "indices":
            right = LABELS[task]
            return file_text(form, (), [(right[1 if wrong and n == 0 else n],) for n in range(len(right))])
        case "choices":
            return file_text(form, (), [("1" if wrong else "0",), ("1",)])
        case "tags":
            first = [(*TAGS[task][0][:-1], "NOUN" if task == "udpos" else "B-ORG")] if wrong else [TAGS[task][0]]
            return file_text(form, (), [*first, TAGS[task][1]])
        case "answers":
            return file_text(form, ["q1", "q2"], [("a mouse" if wrong else "the house",), ("北京大学",)])
        case "pairs":
            return f"{code}-1\ten-{9 if wrong else 1}\n{code}-2\ten-2\n{code}-2\ten-2\n"
        case "ranked":
            return file_text(form, ["m2", "m1"], [("Q2", "Q9"), ("Q9", "Q1") if wrong else ("Q1",)])


def lay_out(where: Path, benchmark: Benchmark, wrong: bool = False) -> tuple[Path, Path]:
    for task in benchmark.tasks:
        for code in benchmark.languages[task]:
            name = f"{task}/test-{code}.{FORMS[task].suffixes[0]}"
            write(where / "labels" / name, labels_of(task, code))
            write(where / "predictions" / name, predictions_of(task, code, wrong))
    return where / "predictions", where / "labels"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.mark.parametrize("benchmark", [XTREME, XTREME_R], ids=["xtreme", "xtreme-r"])
def test_what_is_right_scores_100(tmp_path: Path, benchmark: Benchmark) -> None:
    found = score_folder(*lay_out(tmp_path, benchmark), benchmark).as_json()
    assert list(found["tasks"]) == list(benchmark.tasks)
    for task, own in found["tasks"].items():
        assert set(own["languages"]) == set(benchmark.languages[task])
        assert set(own["average"]) == set(FORMS[task].metrics)
        if FORMS[task].layout != "answers":  # there the id that stands twice has one answer for two questions
            assert set(own["average"].values()) == {100.0}
    assert found["tasks"]["xquad"]["average"] == {"f1": pytest.approx(200 / 3), "exact_match": pytest.approx(200 / 3)}
    assert found["benchmark"]["groups"]["qa"] == pytest.approx(200 / 3)
    tasks, groups = [100.0] * 6 + [200 / 3] * 3, [100.0] * 3 + [200 / 3]
    assert found["benchmark"]["average"] == pytest.approx(sum(groups) / 4 if benchmark.by_group else sum(tasks) / 9)


def test_what_is_wrong_scores_as_worked_out_by_hand(tmp_path: Path) -> None:
    xtreme = score_folder(*lay_out(tmp_path / "x", XTREME, wrong=True), XTREME)
    more = score_folder(*lay_out(tmp_path / "r", XTREME_R, wrong=True), XTREME_R)
    averages = {**xtreme.averages, **more.averages}
    assert {task: averages[task]["accuracy"] for task in WRONG} == WRONG
    # udpos, wrong: NOUN NOUN is one chunk, in place of NOUN | VERB; SYM | SYM | X stay: 3 of 4 found, of 5 there
    assert averages["udpos"] == {"f1": pytest.approx(600 / 9), "precision": 75.0, "recall": 60.0, "accuracy": 80.0}
    assert averages["panx"] == {"f1": pytest.approx(80.0), "precision": pytest.approx(200 / 3), "recall": 100.0}
    assert averages["bucc2018"] == {"f1": 50.0, "precision": 50.0, "recall": 50.0}
    assert averages["mewslix"] == averages["lareqa"] == {"map@20": 75.0}
    # of three questions: a wrong one, a right one, and the other question under the same id
    assert averages["tydiqa"] == averages["mlqa"] == {"f1": pytest.approx(100 / 3), "exact_match": pytest.approx(100 / 3)}


def test_chinese_is_compared_by_character_in_mlqa_alone(tmp_path: Path) -> None:
    for task in ("mlqa", "xquad"):
        write(tmp_path / "labels" / task / "test-zh.json", squad([("q", ("北京大学",))]))
        write(tmp_path / "predictions" / task / "test-zh.json", '{"q": "北京，"}')
    found = score_folder(tmp_path / "predictions", tmp_path / "labels", XTREME, ["mlqa", "xquad"], ["zh"])
    assert found.averages == {"xquad": {"f1": 0.0, "exact_match": 0.0}, "mlqa": {"f1": pytest.approx(200 / 3), "exact_match": 0.0}}


def test_a_part_on_purpose_is_called_partial(tmp_path: Path) -> None:
    folders = lay_out(tmp_path, XTREME)
    for chosen in ((["xnli", "pawsx"], []), ([], ["en", "zh"]), (["xquad"], ["en", "ro"])):
        if "ro" in chosen[1]:
            write(folders[0] / "xquad" / "test-ro.json", '{"q1": "house", "q2": "1999"}')
            write(folders[1] / "xquad" / "test-ro.json", squad(QUESTIONS))
        found = score_folder(*folders, XTREME, *chosen).as_json()["benchmark"]
        assert found["partial"] is True
        assert "average" not in found
        assert set(found["groups"]) == ({"classification"} if chosen[0] == ["xnli", "pawsx"] else set())
    by_language = score_folder(*folders, XTREME, (), ["en"]).languages
    assert set(by_language) == {"xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa"}  # retrieval has no English
    all_named = score_folder(*folders, XTREME, XTREME.tasks, sorted({c for own in XTREME.languages.values() for c in own}))
    assert all_named.average is not None


def test_both_layouts_of_lareqa(tmp_path: Path) -> None:
    write(tmp_path / "labels" / "lareqa" / "test-en.tsv", "q1\ta\tb\n")
    write(tmp_path / "predictions" / "lareqa" / "test-en.json", '{"q1": ["a", "x", "b"]}')
    found = score_folder(tmp_path / "predictions", tmp_path / "labels", XTREME_R, ["lareqa"], ["en"])
    assert found.averages["lareqa"] == {"map@20": pytest.approx(100 * (1 + 2 / 3) / 2)}


BAD = [
    ("xnli/test-de.tsv", None, "xnli/test-de.tsv: not found"),
    ("xnli/test-de.tsv", "entailment\nneutral\n", "xnli/test-de.tsv:2: ends after 2 rows"),
    ("xnli/test-de.tsv", "neutral\n" * 5, "xnli/test-de.tsv:5: 5 rows"),
    ("xnli/test-de.tsv", "neutral\nmaybe\nneutral\nneutral\n", 'xnli/test-de.tsv:2: label "maybe"'),
    ("xnli/test-de.tsv", "neutral\n\nneutral\nneutral\n", "xnli/test-de.tsv:2: an empty line"),
    ("xnli/test-de.tsv", "", "xnli/test-de.tsv: holds no rows"),
    ("pawsx/test-de.tsv", "0\n2\n0\n0\n", "pawsx/test-de.tsv:2"),
    ("tatoeba/test-de.tsv", "0\n1\n-1\n0\n", "tatoeba/test-de.tsv:3"),
    ("udpos/test-de.tsv", "NOUN\nVERB\n\nX\nX\n", "udpos/test-de.tsv:4: sentence 2 has 2 tags, but 3 at"),
    ("udpos/test-de.tsv", "NOUN\nVERB\nX\nX\nX\n", "udpos/test-de.tsv:1: ends after 1 rows"),
    ("udpos/test-de.tsv", "NOUN\nNUN\n\nX\nX\nX\n", 'udpos/test-de.tsv:2: label "NUN"'),
    ("xquad/test-de.json", '{"q1": "x"}', 'xquad/test-de.json: nothing for "q2"'),
    ("xquad/test-de.json", '{"q1": "x", "q2": "y", "q3": "z"}', 'xquad/test-de.json: "q3" does not stand in'),
    ("xquad/test-de.json", '{"q1": "x",\n"q2": 3}', '"q2" should be text'),
    ("xquad/test-de.json", '{"q1": "x",\n"q2"', "xquad/test-de.json:2: not JSON"),
    ("bucc2018/test-de.tsv", "de-1\ten-1\nen-2\tde-2\n", "bucc2018/test-de.tsv:2"),
    ("bucc2018/test-de.tsv", "", "holds no pairs"),
    ("xcopa/test-it.jsonl", '{"label": 0}\n{"label": 2}\n', "xcopa/test-it.jsonl:2"),
    ("xcopa/test-it.jsonl", '{"label": 0}\n{"label": 1\n', "xcopa/test-it.jsonl:2: not JSON"),
    ("xcopa/test-it.jsonl", '{"label": 0}\n{"choice": 1}\n', "xcopa/test-it.jsonl:2"),
    ("mewslix/test-de.json", '{"m1": ["Q1"]}', 'nothing for "m2"'),
    ("mewslix/test-de.json", '{"m1": ["Q1"], "m2": [2]}', "a candidate should be text"),
    ("mewslix/test-de.json", '{"m1": ["Q1"], "m2": "Q2"}', '"m2" should be a list'),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    return {each.name: lay_out(tmp_path_factory.mktemp(each.name), each) for each in (XTREME, XTREME_R)}


@pytest.mark.parametrize(("name", "text", "says"), BAD)
def test_bad_files_name_file_and_line(whole: dict[str, tuple[Path, Path]], name: str, text: str | None, says: str) -> None:
    benchmark = XTREME if name.split("/")[0] in XTREME.tasks else XTREME_R
    predictions, labels = whole[benchmark.name]
    path = predictions / name
    good = path.read_text("utf-8")
    try:
        path.unlink() if text is None else path.write_text(text, "utf-8")
        with pytest.raises(XstiltsError) as error:
            score_folder(predictions, labels, benchmark)
    finally:
        path.write_text(good, "utf-8")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tasks", "languages", "says"),
    [
        (["xnly"], [], 'did you mean "xnli"'),
        (["xcopa"], [], 'XTREME has no task "xcopa"'),
        ([], ["qu"], 'XTREME is not in the language "qu"'),
        (["bucc2018"], ["en"], 'not in the language "en"'),
        (["bucc2018", "xnli"], ["en"], "bucc2018 is in none of the languages"),
    ],
)
def test_parts_that_are_not_there(whole: dict[str, tuple[Path, Path]], tasks: list[str], languages: list[str], says: str) -> None:
    with pytest.raises(XstiltsError, match=says):
        score_folder(*whole["XTREME"], XTREME, tasks, languages)


def test_a_missing_task_is_an_error(tmp_path: Path, whole: dict[str, tuple[Path, Path]]) -> None:
    (tmp_path / "xnli").mkdir()
    with pytest.raises(XstiltsError, match="no folder pawsx"):
        score_folder(tmp_path, whole["XTREME"][1], XTREME)
    with pytest.raises(XstiltsError, match="no folder xnli"):
        score_folder(tmp_path / "nowhere", whole["XTREME"][1], XTREME)


# ---- writing what a study has predicted ----


def submit(where: Path, task: str, code: str, ids: list[str], gold: list[list[str]], pred: list[list[str]], data: Path = Path()) -> str:
    """The text that a study's one cell is written as."""
    predict = Predict(Pretrained("m"), Rows(task, 1, "test", "test", code, "0"), 128, 64, Runtime())
    write_predictions(where / predict.key / "predictions.parquet", ids, [""] * len(ids), gold, pred)
    (made,) = submissions([Cell("m/x", "none", task, code, "test", 3, predict, False)], finder(where), data)
    assert made.folder == "m_x/none/seed-3"
    (text,) = made.files.values()
    notes.clear()
    notes.extend(made.notes)
    return text


notes: list[str] = []


def test_each_layout_is_written_as_score_reads_it(tmp_path: Path) -> None:
    tags = [list(row) for row in TAGS["udpos"]]
    assert submit(tmp_path, "udpos", "de", ["1", "2"], tags, tags) == "NOUN\nVERB\n\nSYM\nSYM\nX\n"
    assert submit(tmp_path, "xcopa", "it", ["1"], [["0"]], [["1"]]) == '{"label": 1}\n'
    assert json.loads(submit(tmp_path, "xquad", "zh", ["a"], [["x"]], [["北京"]])) == {"a": "北京"}
    mined = submit(tmp_path, "bucc2018", "de", ["de-1", "de-2"], [["en-1"], []], [[], ["en-3"]])
    assert mined == "de-2\ten-3\n"
    assert json.loads(submit(tmp_path, "mewslix", "de", ["m"], [["Q1"]], [["Q2", "Q1"]])) == {"m": ["Q2", "Q1"]}
    assert submit(tmp_path, "lareqa", "de", ["q"], [["a", "b"]], [["b", "c"]]) == "q\tb\tc\n"


def test_tatoeba_is_written_as_lines_of_the_candidates(tmp_path: Path) -> None:
    for code in ("eng", "deu"):
        write(tmp_path / "tatoeba" / f"tatoeba.deu-eng.{code}", "".join(f"{code} {n}\n" for n in range(4)))
    pred = [["c4", "c1"], ["c2"], ["c1"]]
    assert submit(tmp_path / "s", "tatoeba", "de", ["q1", "q2", "q3"], [["c1"]] * 3, pred, tmp_path) == "3\n1\n0\n"


def test_an_id_that_the_reader_numbered_is_written_once(tmp_path: Path) -> None:
    ids, gold = ["7", "7#2", "8#1", "9"], [["x"]] * 4
    assert json.loads(submit(tmp_path, "tydiqa", "ko", ids, gold, [["a"], ["a"], ["b"], [""]])) == {"7": "a", "8#1": "b", "9": ""}
    assert not notes
    assert json.loads(submit(tmp_path, "tydiqa", "ko", ids, gold, [["a"], ["z"], ["b"], ["c"]]))["7"] == "a"
    assert notes == ['tydiqa, ko: the id "7" stands for several questions; the file holds the answer to the first']


@pytest.mark.parametrize("pred", [[["NOUN"], ["SYM", "SYM", "X"]], [["NOUN", ""], ["SYM", "SYM", "X"]]])
def test_a_word_without_a_tag_is_refused(tmp_path: Path, pred: list[list[str]]) -> None:
    with pytest.raises(XstiltsError, match="udpos, de: sentence 1 has 1 tags for 2 words"):
        submit(tmp_path, "udpos", "de", ["1", "2"], [list(row) for row in TAGS["udpos"]], pred)


# ---- real files ----


@pytest.mark.data
def test_real_answers_and_tags_score_as_the_slow_definitions_say(tmp_path: Path) -> None:
    """Gold as predictions gives 100; blurred gold what the direct implementations of test_metrics give."""
    root = Path(os.environ.get("XSTILTS_DATA", "~/.cache/xstilts/data")).expanduser()
    questions, sentences = root / "xquad" / "xquad.de.json", root / "udpos" / "dev-de.tsv"
    if not (questions.is_file() and sentences.is_file()):
        pytest.skip("xquad/xquad.de.json or udpos/dev-de.tsv is not under the data folder ($XSTILTS_DATA)")
    draw = random.Random(1)
    data = json.loads(questions.read_text("utf-8"))
    asked = [
        (qa["id"], p["context"], [a["text"] for a in qa["answers"]]) for a in data["data"] for p in a["paragraphs"] for qa in p["qas"]
    ]
    blurred = {}
    for name, context, answers in asked:
        at = max(0, context.find(answers[0]) - draw.randint(0, 6))
        blurred[name] = context[at : at + len(answers[0]) + draw.randint(0, 6)]
    gold = [[line.split("\t")[1] for line in block.split("\n")] for block in sentences.read_text("utf-8").strip().split("\n\n")]
    tags = sorted({tag for row in gold for tag in row})
    noisy = [[tag if draw.random() < 0.8 else draw.choice(tags) for tag in row] for row in gold]
    write(tmp_path / "labels" / "xquad" / "test-de.json", json.dumps(data))
    write(tmp_path / "labels" / "udpos" / "test-de.tsv", file_text(FORMS["udpos"], (), [tuple(row) for row in gold]))
    for side, answers_of, rows in (("right", {name: own[0] for name, _, own in asked}, gold), ("wrong", blurred, noisy)):
        write(tmp_path / side / "xquad" / "test-de.json", json.dumps(answers_of))
        write(tmp_path / side / "udpos" / "test-de.tsv", "\n\n".join("\n".join(row) for row in rows))
    right, wrong = (
        score_folder(tmp_path / side, tmp_path / "labels", XTREME, ["xquad", "udpos"], ["de"]).averages for side in ("right", "wrong")
    )
    assert all(value == 100.0 for own in right.values() for value in own.values())
    f1 = sum(squad_f1(blurred[name], own, v2=False) for name, _, own in asked) / len(asked)
    exact = sum(squad_em(blurred[name], own, v2=False) for name, _, own in asked) / len(asked)
    assert wrong["xquad"] == {"f1": pytest.approx(100 * f1), "exact_match": pytest.approx(100 * exact)}
    chunks = [(runs_of_one_tag(g), runs_of_one_tag(p)) for g, p in zip(gold, noisy, strict=True)]
    both, found, there = (sum(map(len, each)) for each in zip(*((g & p, p, g) for g, p in chunks), strict=True))
    words = sum(map(len, gold))
    same = sum(a == b for g, p in zip(gold, noisy, strict=True) for a, b in zip(g, p, strict=True))
    assert wrong["udpos"] == {
        "f1": pytest.approx(200 * both / (found + there)),
        "precision": pytest.approx(100 * both / found),
        "recall": pytest.approx(100 * both / there),
        "accuracy": pytest.approx(100 * same / words),
    }
