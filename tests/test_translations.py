"""Translated training rows: what is translated and what stays, the stage and its key, Apertium, sequence-to-sequence models."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from transformers import T5Config, T5ForConditionalGeneration

from engine_maker import SPECIALS, WORDS, make_model, make_tokenizer, toy_task
from study_maker import file_hash, planner
from xstilts import apertium, cli, translations
from xstilts.canon import plain
from xstilts.engine import translate as seq2seq
from xstilts.errors import DataError, ModelError, Stopped, StudyError, TranslationError, XstiltsError
from xstilts.examples import CLOSE, OPEN, Answer, Choice, Example, Passage, Text
from xstilts.plan import Plan
from xstilts.rows import load, load_each
from xstilts.stages import Apertium, Given, Pretrained, Rows, Runtime, Seq2Seq, Train, Translate, from_plain, parents
from xstilts.translations import Translator

STAGE = Translate(Rows("nli", 1, "train", "train", "en", "0"), "es", Given("0"), Runtime())


def upper(texts: Sequence[str]) -> list[str]:
    return [text.upper() for text in texts]


def by_one(texts: Sequence[str]) -> list[list[int]]:
    return [[place] for place in range(len(texts))]


def translated(rows: Sequence[Example], folder: Path, by: Any = upper, stop: Any = lambda: False) -> tuple[list[Example], dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    translations.translate(STAGE, rows, Translator(by_one, by), folder, lambda progress: None, stop)
    made = translations.load(replace(STAGE.rows, translation=STAGE), folder / "out")
    return made, json.loads((folder / "out" / "facts.json").read_text())


# ---- texts ----


def test_every_kind_is_translated_whole_and_keeps_id_label_and_group(tmp_path: Path) -> None:
    rows = [
        Text("a", "One. Two here.", "Three?", "yes", "g"),
        Text("b", "Alone", None, "no"),
        Choice("c", "It rained.", ("He left.", "He stayed."), "Why?", 1, "g"),
        Passage("d", "Who?", "A man. The cat sat.", (Answer("cat", 11),), "h"),
        Passage("e", "Who?", "Nobody.", ()),
    ]
    made, facts = translated(rows, tmp_path / "d")
    assert made == [
        Text("a", "ONE. TWO HERE.", "THREE?", "yes", "g"),
        Text("b", "ALONE", None, "no"),
        Choice("c", "IT RAINED.", ("HE LEFT.", "HE STAYED."), "WHY?", 1, "g"),
        Passage("d", "WHO?", "A MAN. THE CAT SAT.", (Answer("CAT", 11),), "h"),
        Passage("e", "WHO?", "NOBODY.", ()),
    ]
    assert (facts["rows"], facts["kept"], facts["empty"], facts["lost"]) == (5, 5, 0, 0)


@pytest.mark.parametrize(
    ("back", "answer"),
    [
        (f"EL {OPEN}GATO NEGRO{CLOSE} DUERME.", "GATO NEGRO"),
        (f"EL{OPEN} GATO {CLOSE}DUERME.", "GATO"),
        ("EL GATO DUERME.", None),
        (f"EL {OPEN}GATO{CLOSE} Y {OPEN}NEGRO{CLOSE}.", None),
        (f"EL {CLOSE}GATO{OPEN}.", None),
        (f"EL {OPEN}GATO.", None),
        (f"EL {OPEN} {CLOSE}GATO.", None),
    ],
)
def test_an_answer_stays_only_where_one_whole_span_comes_back(tmp_path: Path, back: str, answer: str | None) -> None:
    rows = [Passage("a", "q?", "The black cat sleeps.", (Answer("black cat", 4),)), Passage("z", "q?", "x.", ())]
    made, facts = translated(rows, tmp_path / "d", lambda texts: [back if OPEN in text else text for text in texts])
    first = made[0]
    assert isinstance(first, Passage) and facts["lost"] == (answer is None)
    if answer is None:
        assert first.id == "z"
    else:
        assert first.answers is not None and first.answers[0].text == answer
        assert first.context.startswith(answer, first.answers[0].start) and not {OPEN, CLOSE} & set(first.context)


def test_rows_of_a_translation_are_not_read_from_the_originals_files(tmp_path: Path) -> None:
    rows = replace(STAGE.rows, language="es", translation=STAGE)
    found, refused = load_each([rows], tmp_path)
    assert not found and refused == {rows: "a translation, whose rows lie in the store"}


def test_rows_with_an_empty_text_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = [Text("a", "gone here", "x"), Text("b", "kept", "y"), Choice("c", "ctx", ("gone", "z"), label=0)]
    made, facts = translated(rows, tmp_path / "d", lambda texts: ["" if "gone" in text else text for text in texts])
    assert [row.id for row in made] == ["b"] and facts["empty"] == 2
    assert translations.account(facts) == "1 of 3 rows kept; 2 came back with an empty text"
    with pytest.raises(TranslationError, match="nli into es by others .*: no row is left"):
        translated(rows, tmp_path / "e", lambda texts: [""] * len(texts))


def test_each_sentence_is_translated_once(tmp_path: Path) -> None:
    asked: list[str] = []
    rows = [Text(str(i), "The same premise.", f"Number {i}.") for i in range(3)]
    translated(rows, tmp_path / "d", lambda texts: asked.extend(texts) or upper(texts))
    assert sorted(asked) == ["Number 0.", "Number 1.", "Number 2.", "The same premise."]


@drawn(st.text(alphabet="aB1. \n!?\"(").map(str), st.integers(0, 20), st.integers(0, 20))
def test_sentences_join_to_the_text_and_none_ends_inside_a_mark(text: str, a: int, b: int) -> None:
    low, high = sorted((min(a, len(text)), min(b, len(text))))
    marked = text[:low] + OPEN + text[low:high] + CLOSE + text[high:]
    found = translations.sentences(marked)
    assert "".join(sentence + space for sentence, space in found) == marked
    assert sum(OPEN in sentence and CLOSE in sentence for sentence, _ in found) == 1


def test_short_forms_and_initials_end_no_sentence() -> None:
    text = "Dr. Smith met J. Jones. They left at 5. \"Why?\" he said."
    assert [sentence for sentence, _ in translations.sentences(text)] == [
        "Dr. Smith met J. Jones.", "They left at 5.", '"Why?" he said.',
    ]  # fmt: skip


@pytest.mark.parametrize("broken", [b"", b'{"made": ["ON'])
def test_a_killed_translation_goes_on_where_it_stopped(tmp_path: Path, broken: bytes) -> None:
    rows = [Text(str(i), f"Text {i}.") for i in range(6)]
    asked: list[str] = []

    def slowly(texts: Sequence[str]) -> list[str]:
        asked.extend(texts)
        return upper(texts)

    with pytest.raises(Stopped, match="after 4 of 6"):
        translated(rows, tmp_path / "d", slowly, stop=lambda: len(asked) == 4)
    with (tmp_path / "d" / "texts.jsonl").open("ab") as file:
        file.write(broken)  # a kill in the middle of a line
    made, _ = translated(rows, tmp_path / "d", slowly)
    assert len(asked) == len(set(asked)) == 6
    assert made == translated(rows, tmp_path / "whole")[0]
    other, _ = translated([*rows, Text("x", "More.")], tmp_path / "d")  # other texts: nothing of the draft fits
    assert len(other) == 7


# ---- translations from elsewhere ----

MADE = [Text("a", "uno", "dos", "yes"), Text("b", "tres", "cuatro", "no")]
OURS = [Text("a", "one", "two", "yes", "g"), Text("b", "three", "four", "no", "h"), Text("c", "five", "six", "no", "h")]


def test_given_translations_take_the_originals_groups_and_count_what_is_missing(tmp_path: Path) -> None:
    empty = Text("c", "", "seis", "no")
    translations.given(STAGE, OURS[:2], OURS, iter([MADE[1], empty]), tmp_path)
    (row,) = translations.load(STAGE.rows, tmp_path)
    assert row == Text("b", "tres", "cuatro", "no", "h")
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert (facts["rows"], facts["kept"], facts["missing"], facts["empty"]) == (2, 1, 1, 0)
    assert translations.account(facts) == "1 of 2 rows kept; 1 had no translation"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([Text("z", "x", "y", "no")], 'row "z" is none of the originals'),
        ([MADE[0], MADE[0]], 'row "a" stands twice'),
        ([replace(MADE[0], label="no")], 'row "a": label "no" where the original has "yes"'),
        ([replace(MADE[0], pair=None)], 'row "a": one text where the original has two'),
        ([Choice("a", "c", ("x", "y"), label=0)], "a Choice where the original is a Text"),
    ],
)
def test_given_translations_that_do_not_fit_name_the_row(tmp_path: Path, rows: list[Example], says: str) -> None:
    with pytest.raises(TranslationError, match=says):
        translations.given(STAGE, OURS, OURS, iter(rows), tmp_path)


def test_given_choices_and_passages_are_compared_with_their_originals(tmp_path: Path) -> None:
    ours = [Choice("a", "c", ("x", "y"), label=0), Passage("p", "q", "the cat", (Answer("cat", 4),)), Passage("n", "q", "no", ())]
    for theirs, says in (
        (Choice("a", "c", ("x", "y", "z"), label=0), "3 options where the original has 2"),
        (Choice("a", "c", ("x", "y"), label=1), "option 1 is right where the original has 0"),
        (Passage("n", "q", "un gato", (Answer("gato", 3),)), "an answer where the original has none"),
        (Passage("p", "q", "nada", ()), "no answer where the original has one"),
    ):
        with pytest.raises(TranslationError, match=says):
            translations.given(STAGE, ours, ours, iter([theirs]), tmp_path)
    off = Passage("p", "q", "el gato", (Answer("gato", 0),))
    translations.given(STAGE, ours, ours, iter([off, Choice("a", "k", ("u", "v"), label=0)]), tmp_path)
    assert json.loads((tmp_path / "facts.json").read_text()) | {"seconds": 0} == {
        "rows": 3, "rows_characters": 14, "kept": 1, "missing": 1, "empty": 0, "lost": 1, "seconds": 0,
    }  # fmt: skip


# ---- in a study ----


def nli_rows(folder: Path, name: str, say: Any, count: int = 40) -> None:
    path = folder / "mnli" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = ("entailment", "neutral", "contradiction")
    lines = [
        {"sentence1": say(f"the w{i} is {name}"), "sentence2": say(f"w{i} is red"), "gold_label": labels[i % 3], "pairID": f"{name}{i}"}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    for name in ("train", "dev"):
        nli_rows(tmp_path, name, str)
        nli_rows(tmp_path / "es", name, str.upper)
    base = {"intermediates": ["mnli-es"], "targets": ["mini-nli"], "seeds": [1], "languages": ["en", "es"]}
    own = {"mnli-es": {"task": "mnli", "languages": ["es"], "by": "folder", "path": "{language}"}}
    return planner(tmp_path, **base, translations=own)


def step(plan: Plan, intermediate: str, language: str = "en") -> Any:
    (found,) = {cell.predict.model for cell in plan.cells if (cell.intermediate, cell.language) == (intermediate, language)}
    return found


def test_a_translation_is_one_stage_that_every_training_on_it_stands_on(planned: Any) -> None:
    plan = planned(
        intermediates=["mnli", "mnli-es", "both", "mnli-es > mini-ner"],
        mixes={"both": {"tasks": ["mnli", "mnli-es:es"], "weights": [1, 0.5], "sampling": "uniform"}}, seeds=[1, 2],
    )  # fmt: skip
    made = [stage for stage in plan.stages if isinstance(stage, Translate)]
    assert len(made) == 1 and plan.kind(made[0]) == "translate"
    both = step(planned(intermediates=["both"], mixes={"both": {"tasks": ["mnli", "mnli-es"]}}), "both").start
    assert parents(both) == (both.start, made[0]) and from_plain(plain(both)) == both
    assert [(share.rows.language, share.rows.translation) for share in both.mix] == [("en", None), ("es", made[0])]
    assert [rows.language for rows in both.select] == ["en"]  # selection stays on English dev
    assert all(plan.stages.index(made[0]) < plan.stages.index(s) for s in plan.stages if isinstance(s, Train) and made[0] in parents(s))
    # one epoch of "both" counts as many rows as the originals, whatever stays
    assert "mnli en 40 of 40 (66.7%), mnli es 20 of 40 (33.3%)" in plan.mix_lines[0]


def test_the_key_of_a_training_holds_the_translations_files_and_older_keys_stay(planned: Any, tmp_path: Path) -> None:
    before, plain_key = step(planned(), "mnli-es").start.key, step(planned(intermediates=["mnli"], translations={}), "mnli").start
    assert "translation" not in json.dumps(plain(plain_key))
    nli_rows(tmp_path / "es", "train", str.title)
    assert step(planned(), "mnli-es").start.key != before


def test_a_translation_of_the_target_follows_the_scored_language(planned: Any, tmp_path: Path) -> None:
    for language in ("en", "es"):
        path = tmp_path / "xnli" / f"test-{language}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"this {i}\tthat {i}\tneutral\n" for i in range(4)))
        (tmp_path / "xnli" / f"dev-{language}.tsv").write_text("a dev\tb dev\tneutral\n")
    own = {"mt": {"task": "target", "languages": ["es"], "by": "folder", "path": "es"}}
    plan = planned(
        intermediates=["mt:own", "tt"], mixes={"tt": {"tasks": ["target", "mt:own"]}}, targets=["xnli"], translations=own,
    )  # fmt: skip
    english, spanish = step(plan, "mt:own", "en"), step(plan, "mt:own", "es")
    assert [(share.rows.language, share.rows.translation is None) for share in english.mix] == [("en", True)]
    assert [(share.rows.language, share.rows.translation is None) for share in spanish.mix] == [("es", False)]
    assert isinstance(spanish.start, Pretrained) and plan.kind(spanish) == "target"
    assert [share.rows.language for share in step(plan, "tt", "es").mix] == ["en", "es"]
    with pytest.raises(StudyError, match='"mt:own" needs "de", in which xnli is scored'):
        (tmp_path / "xnli" / "test-de.tsv").write_text("a\tb\tneutral\n")
        planned(intermediates=["mt:own"], targets=["xnli"], translations=own, languages=["de"])


OWN = {"task": "mnli", "languages": ["es"], "by": "folder", "path": "es"}


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"by": "google"}, "translations.x.by: expected 'folder', 'apertium' or 'model', got \"google\""),
        ({"languages": []}, "translations.x.languages: name one or more"),
        ({"languages": ["xx"]}, 'translations.x.languages: no language "xx"'),
        ({"languages": ["es", "de"]}, "translations.x.path: name the folder"),
        ({"path": "{language}", "languages": ["es", "de"]}, "de: no such folder; it holds the task's files, translated"),
        ({"path": "es", "languages": ["en"]}, 'mnli has its own train rows in "en"; name "mnli:en" in a mix'),
        ({"task": "mini-ner", "languages": ["fr"]}, "mini-ner is a tag task: words and their tags have no translation"),
        ({"task": "tatoeba"}, '"tatoeba" has no training data'),
        ({"task": "mnlu"}, 'no task "mnlu"; did you mean "mnli"'),
        ({"path": "empty"}, 'translations of mnli into "es": split "train" in "en": .* not found under'),
        ({"mode": "eng-spa"}, 'translations.x.mode: by = "folder" takes path only'),
        ({"by": "model", "path": "gone"}, "gone: no such model folder"),
        ({"by": "model", "path": "", "hub": "a/b", "revision": "main"}, "translations.x.revision: pin the full commit"),
        ({"by": "model", "hub": "a/b"}, "translations.x: give exactly one of path and hub"),
        ({"by": "model", "beams": 0}, "translations.x.beams: expected at least 1"),
        ({"by": "model", "languages": ["es", "fr"], "target": "spa_Latn"}, "a mode, target or prefix is of one language"),
        ({"colour": "red"}, 'unknown key "translations.x.colour"'),
    ],
)
def test_bad_translations_are_one_line(planned: Any, tmp_path: Path, own: dict[str, object], says: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(XstiltsError, match=says):
        planned(intermediates=["x"], translations={"x": {**OWN, **own}})


def test_a_language_in_which_a_task_has_rows_of_its_own_needs_no_translation() -> None:
    with pytest.raises(StudyError, match='own has its own train rows in "es"; name "own:es" in a mix'):
        translations.refuse(toy_task("classify", name="own"), "train", "es")
    for kind, says in (("retrieve", "it is never trained on"), ("mask", "raw text needs none"), ("tag", "words and their tags")):
        with pytest.raises(StudyError, match=says):
            translations.refuse(toy_task(kind), "train", "es")


def test_names_of_translations_are_checked(planned: Any) -> None:
    for changes, says in (
        ({"intermediates": ["mnli"], "translations": {"x": OWN}}, "translations.x: neither a chain nor a mix names it"),
        ({"intermediates": ["mnli"], "translations": {"mnli": OWN}}, "translations.mnli: a task has this name"),
        ({"intermediates": ["x:de"], "translations": {"x": OWN}}, 'translations.x has no "de" \\(it has: es\\)'),
        ({"intermediates": ["x:own"], "translations": {"x": OWN}}, 'only "target:own" can follow the scored languages'),
        ({"intermediates": ["x"], "translations": {"x": OWN}, "mixes": {"x": {"tasks": ["mnli"]}}}, "translations.x: one of mixes has"),
        ({"intermediates": ["y"], "translations": {"x": OWN}}, 'did you mean "x"|unknown|no task "y"'),
    ):
        with pytest.raises(StudyError, match=says):
            planned(**changes)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command line in the test's folder and gives its standard output; its worker processes use the package under test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parents[1]))

    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["xstilts", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return command


@pytest.mark.slow
def test_a_study_with_a_translation_runs_reports_and_explains_itself(planned: Any, tmp_path: Path, command: Any) -> None:
    lines = (tmp_path / "es" / "mnli" / "train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "es" / "mnli" / "train.jsonl").write_text("".join(lines[:-3]))
    (tmp_path / "s.toml").write_text(
        f"""name = "s"
models = ["m"]
intermediates = ["none", "mnli-es"]
targets = ["mini-nli"]
seeds = [1]
languages = ["en", "es"]
[encoders.m]
path = "{tmp_path / "m"}"
[translations.mnli-es]
task = "mnli"
languages = ["es"]
by = "folder"
path = "{tmp_path / "es"}"
[caps.all]
train = 40
dev = 10
test = 10
[recipe]
steps = 2
batch = 4
max_length = 24
stride = 4
"""
    )
    where = ["--store", "store", "--data", str(tmp_path), "--jobs", "1"]
    listed = json.loads(command("plan", "s.toml", "--json", *where))
    assert [stage["kind"] for stage in listed["stages"]].count("translate") == 1 and listed["seconds"] > 0
    key = next(stage["key"] for stage in listed["stages"] if stage["kind"] == "translate")
    assert "1 missing" in command("plan", "s.toml", "--quick", *where)
    assert "done: 8 stages run, 0 reused" in command("run", "s.toml", *where)
    assert "0 missing" in command("status", "s.toml", *where)
    report = (tmp_path / "reports" / "s" / "report.md").read_text()
    assert "translating mnli train into es by others" in report and "37 of 40 rows kept; 3 had no translation" in report
    assert "Training rows that are translations: mnli into es, translated by others" in report
    assert "rows in several languages (en es" in report
    assert "| translate | 1 |" in report
    assert f"{key}: Translate, stored" in command("why", key[:12], *where)
    assert "removed 0 entries" in command("gc", "s.toml", *where)
    assert "0 stages run" in command("run", "s.toml", *where)


# ---- Apertium ----


def installed() -> bool:
    try:
        apertium.find("en", "es", "", file_hash)
    except TranslationError:
        return False
    return True


needs_apertium = pytest.mark.skipif(not installed(), reason="Apertium or its pair is not here: apt-get install apertium apertium-eng-spa")


def test_apertium_that_is_not_here_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TranslationError, match="Apertium is not installed; on Debian: apt-get install apertium apertium-eng-spa"):
        apertium.find("en", "es", "", file_hash)


def test_a_pair_that_is_not_here_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("apertium", "apertium-wblank-mode"):
        (tmp_path / name).write_text("#!/bin/sh\necho Apertium 3.8.0\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "modes").mkdir()
    (tmp_path / "modes" / "eng-cat.mode").write_text("lt-proc '/nowhere/eng-cat.automorf.bin'")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("APERTIUM_DATADIR", str(tmp_path))
    for language, mode, says in (
        ("es", "", "no pair from en into es \\(installed: eng-cat\\); on Debian: apt-get install apertium-eng-spa"),
        ("de", "", "no pair from en into de .*; Debian has no such pair; name another translator"),
        ("es", "eng-cut", 'Apertium has no mode "eng-cut" .*; did you mean "eng-cat"?'),
        ("ca", "", "eng-cat.mode: /nowhere/eng-cat.automorf.bin is missing; install the pair's package again"),
    ):
        with pytest.raises(TranslationError, match=says):
            apertium.find("en", language, mode, file_hash)


@pytest.mark.parametrize(
    ("piece", "text"),
    [
        ("[[t:a:0]]Puente[[/]] de [[t:a:0]]Londres[[/]]  [[t:o:0]]es[[/]]", f"{OPEN}Puente de Londres{CLOSE} es"),
        ("[[t:o:0]]en[[/]] [[t:a:0]]1884[[/]]-[[t:o:0]]90[[/]]", f"en {OPEN}1884{CLOSE}-90"),
        ("[[t:a:0]]a[[/]] [[t:o:0]]b[[/]] [[t:a:0]]c[[/]]", f"{OPEN}a{CLOSE} b {OPEN}c{CLOSE}"),
        ("[[t:o:0; t:a:0]]del[[/]] [[t:a:0]]mar[[/]]", f"{OPEN}del {OPEN}mar{CLOSE}"),
        ("x \\[y\\] \\\\ \\$", "x [y] \\ $"),
    ],
)
def test_marks_are_put_back_around_words_of_the_span(piece: str, text: str) -> None:
    assert apertium._text(piece) == text


@pytest.mark.apertium
@needs_apertium
def test_apertium_translates_each_sentence_by_itself_and_brings_marks_back() -> None:
    texts = [
        "The man is eating rice.", "a/b [c] {d} <e> ^f$ @g \\h", f"In 1884 he saw {OPEN}London Bridge{CLOSE}, an old bridge.",
        "the old cat", "日本", "The man is eating\nrice.",
    ]  # fmt: skip
    together = apertium.translate("eng-spa", texts)
    assert together == [apertium.translate("eng-spa", [text, "x"])[0] for text in texts]
    assert together[0] == "El hombre está comiendo arroz." and together[4] == "日本"
    assert together[2] == f"En 1884 vio {OPEN}Puente de Londres{CLOSE}, un puente viejo."
    assert all(mark in together[1] for mark in ("/", "[", "]", "{", "<", ">", "^", "$", "@", "\\"))


@pytest.mark.apertium
@needs_apertium
def test_apertium_is_a_value_of_the_pairs_files() -> None:
    by = apertium.find("en", "es", "", file_hash)
    assert by.mode == "eng-spa" and by.release[0].isdigit() and len(by.data) == 64
    assert translations.said(by) == f"machine-translated by Apertium {by.release} (eng-spa)"
    assert apertium.speed("eng-spa") > 100
    with pytest.raises(TranslationError, match='mode "no-mode" is no longer installed'):
        apertium.translate("no-mode", ["one", "two"])


@pytest.mark.apertium
@needs_apertium
def test_a_study_with_apertium_runs(planned: Any, tmp_path: Path) -> None:
    from xstilts.run import run
    from xstilts.store import Store

    own = {"mnli-es": {"task": "mnli", "languages": ["es"], "by": "apertium"}}
    plan = planned(translations=own, recipe={"steps": 1, "batch": 2, "max_length": 24, "stride": 4, "selections": 0})
    (stage,) = [stage for stage in plan.stages if isinstance(stage, Translate)]
    train = step(plan, "mnli-es").start
    store = Store.open(tmp_path / "store")
    assert run((stage, train), plan.where, store, tmp_path, jobs=1).failed == {}
    rows = translations.load(train.mix[0].rows, store.entry(stage.key))
    ours = {row.id: row for row in load(stage.rows, tmp_path)}
    assert len(rows) == len(ours) == 40
    assert all(isinstance(row, Text) and row.text.startswith("El ") and row.label == ours[row.id].label for row in rows)
    assert {row.group for row in rows} == {row.group for row in ours.values()}


# ---- sequence-to-sequence models ----


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 whose weights are written by hand: it says the source's most frequent word, then ends; after "deu_Latn" it never ends.

    All layers are zero but the decoder's look at the source, which adds the mean of its embeddings to that of the last token. A
    word's embedding has a direction of its own, one that the beginnings share with it and one that the end shares.
    """
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["spa_Latn", "deu_Latn"], special_tokens=True)
    size = len(tokenizer)
    width = size + 2
    begin, end, large = size, size + 1, 20_000.0
    embedding = torch.zeros(size, width)
    for word in range(len(SPECIALS), len(SPECIALS) + len(WORDS)):
        embedding[word, [word, begin, end]] = torch.tensor([1.0, 10.0, 1.0])
    embedding[[1, tokenizer.convert_tokens_to_ids("spa_Latn")], begin] = 5
    embedding[2, end] = 103  # a little more than a word's product with itself: after a word comes the end
    loop = tokenizer.convert_tokens_to_ids("deu_Latn")
    embedding[loop, loop] = 10
    config = T5Config(
        vocab_size=size, d_model=width, d_kv=width, d_ff=8, num_layers=1, num_heads=1, pad_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, n_positions=64,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        model.shared.weight.copy_(large * embedding)
        cross = model.decoder.block[0].layer[1].EncDecAttention
        cross.v.weight.copy_(torch.eye(width))
        cross.o.weight.copy_(torch.eye(width) * large / 100 * (102 / width) ** 0.5)
    folder = tmp_path_factory.mktemp("echo")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def seq(folder: Path, target: str = "", prefix: str = "", beams: int = 1, source: str = "") -> Translator:
    return seq2seq.translator(Seq2Seq(Pretrained("w"), source, target, prefix, beams), folder)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("target", ["", "spa_Latn"])
def test_a_model_translates_batches_as_it_does_single_sentences(echo: Path, beams: int, target: str) -> None:
    texts = ["w3 w3 red", "blue", "the w9 w9 w9 is", "w5 w4 w4 w4 w4 w4", "w7 w7 " + " ".join(f"w{i}" for i in range(20, 50))]
    by = seq(echo, target, beams=beams)
    assert by.translate(texts) == ["w3", "blue", "w9", "w4", "w7"]
    assert [by.translate([text])[0] for text in texts] == ["w3", "blue", "w9", "w4", "w7"]


def test_what_does_not_end_or_does_not_fit_comes_back_empty(echo: Path) -> None:
    assert seq(echo, "deu_Latn").translate(["red"]) == [""]
    assert seq(echo).translate(["red", " ".join(["w1"] * 70)]) == ["red", ""]
    assert seq(echo, prefix="w8 w8 w8 ").translate(["red"]) == ["w8"]


def test_batches_go_by_length_and_waste_little(echo: Path) -> None:
    texts = [" ".join(["w1"] * (1 + i * 7 % 40)) for i in range(400)]
    made = seq(echo).batches(texts)
    assert sorted(place for batch in made for place in batch) == list(range(400))
    assert all(len(batch) * (max(len(texts[p].split()) for p in batch) + 2) <= seq2seq.TOKENS for batch in made)
    padded = sum(len(batch) * max(len(texts[p].split()) for p in batch) for batch in made)
    assert padded < 1.2 * sum(len(text.split()) for text in texts)
    assert seq(echo).batches([]) == []


def test_marks_are_brackets_for_a_model_and_a_text_with_its_own_loses_them() -> None:
    assert seq2seq._bracketed(f"the {OPEN}cat{CLOSE}") == "the [cat]"
    assert seq2seq._marked(f"the {OPEN}cat{CLOSE}", "el [gato]") == f"el {OPEN}gato{CLOSE}"
    assert seq2seq._marked(f"the {OPEN}cat{CLOSE} [1]", "el [gato] [1]") == "el [gato] [1]"
    assert seq2seq._marked("the [1]", "el [1]") == "el [1]"


def test_a_language_or_folder_that_is_no_model_is_one_line(echo: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match='has no language "fra_Latn" for target'):
        seq(echo, "fra_Latn")
    with pytest.raises(ModelError, match='has no language "eng" for source'):
        seq(echo, source="eng")
    with pytest.raises(ModelError, match="cannot be loaded as a sequence-to-sequence model"):
        seq(make_model(tmp_path / "m"))


@pytest.mark.slow
def test_a_study_with_a_model_runs_and_its_key_holds_the_weights(planned: Any, echo: Path, tmp_path: Path) -> None:
    from xstilts.run import run
    from xstilts.store import Store

    shutil.copytree(echo, tmp_path / "echo")
    own = {"mnli-es": {"task": "mnli", "languages": ["es"], "by": "model", "path": "echo", "target": "spa_Latn"}}
    (stage,) = [stage for stage in planned(translations=own).stages if isinstance(stage, Translate)]
    plan = planned(translations=own)
    store = Store.open(tmp_path / "store")
    assert run((stage,), plan.where, store, tmp_path, jobs=1, offline=True).failed == {}
    rows = translations.load(stage.rows, store.entry(stage.key))
    assert len(rows) == 40 and isinstance(rows[0], Text) and rows[0].text in WORDS
    config = json.loads((tmp_path / "echo" / "generation_config.json").read_text())
    (tmp_path / "echo" / "generation_config.json").write_text(json.dumps({**config, "num_beams": 3}))
    (other,) = [stage for stage in planned(translations=own).stages if isinstance(stage, Translate)]
    assert other.key != stage.key
    hub = {"mnli-es": {**own["mnli-es"], "path": "", "hub": "a/b", "revision": "0" * 40}}
    (there,) = [stage for stage in planned(translations=hub).stages if isinstance(stage, Translate)]
    assert there.by.model.weights == f"a/b@{'0' * 40}"
    failed = run((there,), planned(translations=hub).where, store, tmp_path, jobs=1, offline=True).failed
    assert "is not in the local hub cache; run once without --offline" in failed[there.key]
    assert Apertium("1", "a-b", "0") != Given("0")
    with pytest.raises(DataError):
        load(Rows("mnli", 1, "train", "gone", "en", "0"), tmp_path)
