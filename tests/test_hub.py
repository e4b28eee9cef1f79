"""The hub, against a stand-in: folders that hold Parquet files as `datasets` writes them and the hub lays them out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine_maker import make_model
from study_maker import file_hash
from xstilts.errors import DataError, StudyError
from xstilts.examples import Answer, Choice, Passage, Text, Words
from xstilts.hub import SOURCE, fetch
from xstilts.plan import make_plan
from xstilts.provide import provide
from xstilts.readers import fingerprint
from xstilts.rows import check
from xstilts.sources import Files
from xstilts.study import Encoder, Study, parse_study
from xstilts.task import Parts, Task
from xstilts.tasks import names, task

datasets = pytest.importorskip("datasets")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NLI = ["entailment", "neutral", "contradiction"]


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def repository(folder: Path, tables: dict[str, dict[str, Any]]) -> str:
    """A data set repository: "config/split" -> columns; a Parquet file each, and the card that names them."""
    configs: dict[str, list[str]] = {}
    for name, table in tables.items():
        config, split = name.split("/")
        (folder / config).mkdir(parents=True, exist_ok=True)
        table.to_parquet(str(folder / f"{config}/{split}-00000-of-00001.parquet"))
        configs.setdefault(config, []).append(split)
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [f"  - split: {split}\n    path: {config}/{split}-*" for split in splits]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(folder)


def table(columns: dict[str, list[Any]], **classes: list[str]) -> Any:
    made = datasets.Dataset.from_dict(columns)
    for name, labels in classes.items():
        many = isinstance(columns[name][0], list)
        label = datasets.ClassLabel(names=labels)
        made = made.cast_column(name, datasets.List(label) if many else label)
    return made


def on(name: str, place: str) -> Task:
    """A task whose repository is the stand-in at `place`."""
    found = task(name)
    assert found.hub is not None
    return replace(found, hub=replace(found.hub, repository=place, revision=COMMIT))


def test_xnli_of_the_hub_gives_the_rows_of_the_official_file(tmp_path: Path) -> None:
    tables = {}
    for language, premise in (("en", "p"), ("de", "P")):
        columns = {"premise": [premise, premise, "q"], "hypothesis": ["a", "b", "c"], "label": [1, 0, 2]}
        tables[f"{language}/test"] = table(columns, label=NLI)
    there = on("xnli", repository(tmp_path / "repo", tables))
    data = tmp_path / "data"
    written = fetch(there, data, ["test"], ["en", "de"], cache=tmp_path / "cache")
    assert written == (data / "hub/xnli/test-en.jsonl", data / "hub/xnli/test-de.jsonl")
    assert there.source.files(data, "test", "de") == (data / "hub/xnli/test-de.jsonl",)
    official = tmp_path / "official"
    (official / "xnli").mkdir(parents=True)
    (official / "xnli/test-de.tsv").write_text("P\ta\tneutral\nP\tb\tentailment\nq\tc\tcontradiction\n")
    assert list(there.source.read(data, "test", "de")) == list(there.source.read(official, "test", "de"))
    assert check(there, data, Parts("", "", "test")).counts[0].rows == 3


def test_what_is_there_from_the_same_commit_is_not_fetched_again(tmp_path: Path) -> None:
    columns = {"question1": ["a", "c"], "question2": ["b", "d"], "label": [1, -1], "idx": [0, 1]}
    there = on("qqp", repository(tmp_path / "repo", {"qqp/train": table(columns, label=["not_duplicate", "duplicate"])}))
    (path,) = fetch(there, tmp_path, ["train"], cache=tmp_path / "cache")
    assert list(there.source.read(tmp_path, "train", "en")) == [Text("qqp-train-1", "a", "b", "duplicate", fingerprint("a"))]
    origin = json.loads((tmp_path / "hub/qqp" / SOURCE).read_text())
    assert origin == {"train.jsonl": f"{tmp_path}/repo@{COMMIT} qqp/train"}
    path.write_text("mine")
    assert fetch(there, tmp_path, ["train"], cache=tmp_path / "cache") == (path,)
    assert path.read_text() == "mine"
    fetch(there, tmp_path, ["train"], revision="f" * 40, cache=tmp_path / "cache")
    assert path.read_text().startswith('{"question1": "a"')


def test_questions_choices_and_words_of_the_hub(tmp_path: Path) -> None:
    answers = [{"text": ["Ada"], "answer_start": [5]}, {"text": [], "answer_start": []}]
    squad = {"id": ["1", "2"], "title": ["t", "t"], "context": ["Dear Ada"] * 2, "question": ["Who?", "When?"], "answers": answers}
    choice = {"premise": ["p"], "choice1": ["a"], "choice2": ["b"], "question": ["effect"], "label": [1], "idx": [7], "changed": [False]}
    words = {"tokens": [["Ada", "ran"]], "ner_tags": [[1, 0]], "langs": [["en", "en"]]}
    options = {"label": list("ABCDE"), "text": list("vwxyz")}
    common = {"question": ["q"], "question_concept": ["c"], "choices": [options], "answerKey": ["E"], "id": ["1"]}
    swag = {"ctx": ["c"], "endings": [["a", "b", "c", "d"]], "label": ["3"], "ind": [4]}
    tydi = {**squad, "id": ["finnish-1-0", "english-2-0"], "answers": [answers[0], answers[0]]}
    xquad = {"id": ["1"], "context": ["Dear Ada"], "question": ["Who?"], "answers": [answers[0]]}
    german = {"id": ["1"], "context": ["Liebe Ada"], "question": ["Wer?"], "answers": [{"text": ["Ada"], "answer_start": [6]}]}
    cases: list[tuple[str, str, str, dict[str, Any]]] = [
        ("squad2", "official_dev", "en", {"squad_v2/validation": table(squad)}),
        ("xcopa", "test", "it", {"it/test": table(choice)}),
        ("panx", "dev", "de", {"de/validation": table(words, ner_tags=["O", "B-PER"])}),
        ("commonsenseqa", "dev", "en", {"default/validation": table(common)}),
        ("hellaswag", "val", "en", {"default/validation": table(swag)}),
        ("tydiqa", "dev", "fi", {"secondary_task/validation": table(tydi)}),
        ("xquad", "test", "de", {"xquad.de/validation": table(german), "xquad.en/validation": table(xquad)}),
    ]
    found = {}
    for name, split, language, tables in cases:
        there = on(name, repository(tmp_path / f"repo-{name}", tables))
        fetch(there, tmp_path, [split], [language] if len(tables) == 1 else ["en", language], cache=tmp_path / "cache")
        found[name] = list(there.source.read(tmp_path, split, language))
    assert found["squad2"] == [
        Passage("1", "Who?", "Dear Ada", (Answer("Ada", 5),), "t"),
        Passage("2", "When?", "Dear Ada", (), "t"),
    ]
    assert found["xcopa"] == [Choice("test-7", "p", ("a", "b"), "What happened as a result?", 1, "test-7")]
    (sentence,) = found["panx"]
    assert isinstance(sentence, Words) and (sentence.words, sentence.tags) == (("Ada", "ran"), ("B-PER", "O"))
    (question,) = found["commonsenseqa"]
    assert isinstance(question, Choice) and (question.question, question.options[4], question.label) == ("q", "z", 4)
    assert [row.label for row in found["hellaswag"] if isinstance(row, Choice)] == [3]
    assert [row.id for row in found["tydiqa"]] == ["finnish-1-0"]
    (german_row,) = found["xquad"]
    (english_row,) = task("xquad").source.read(tmp_path, "test", "en")
    assert german_row.group == english_row.group != ""


def test_what_the_hub_cannot_give_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    there = on("xnli", repository(tmp_path / "repo", {"en/test": table({"premise": ["p"], "label": [0]}, label=NLI)}))
    cases = [
        (there, ["tset"], ["en"], 'no split "tset" .* did you mean "test"'),
        (there, ["test"], ["de"], "de/test: cannot be fetched"),
        (on("panx", str(tmp_path / "nowhere")), ["dev"], ["de"], "cannot be fetched"),
        (task("panx"), ["dev"], ["de"], "no commit of unimelb-nlp/wikiann is known"),
        (replace(there, hub=None), ["test"], ["en"], "no repository of the hub is known"),
        (on("qqp", repository(tmp_path / "half", {"qqp/train": table({"question1": ["a"]})})), ["train"], ["en"], "no column"),
    ]
    for wrong, splits, languages, says in cases:
        with pytest.raises(DataError, match=says.split(" .* ")[0]) as caught:
            fetch(wrong, tmp_path / "data", splits, languages, cache=tmp_path / "cache")
        assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    with pytest.raises(DataError, match='"main" is no commit'):
        fetch(there, tmp_path, ["test"], ["en"], revision="main")


def test_a_repository_with_a_script_or_other_files_is_refused(tmp_path: Path) -> None:
    script, lines = tmp_path / "script", tmp_path / "lines"
    for folder in (script, lines):
        folder.mkdir()
    (script / "script.py").write_text("raise SystemExit('run')\n")
    (lines / "train.jsonl").write_text('{"premise": "p", "hypothesis": "h", "label": "neutral"}\n')
    for folder, says in ((script, "cannot be fetched"), (lines, "kept as json, not as Parquet")):
        with pytest.raises(DataError, match=says):
            fetch(on("mnli", str(folder)), tmp_path / "data", ["train"], cache=tmp_path / "cache")


@pytest.mark.parametrize("name", [name for name in names() if task(name).hub is not None])
def test_what_a_table_becomes_is_a_name_that_the_task_reads(name: str) -> None:
    found = task(name)
    assert found.hub is not None and isinstance(found.source, Files)
    assert len(found.hub.revision) in (0, 40)
    for split, tables in found.hub.tables.items():
        for each in tables:
            language = each.only or found.languages[0]
            known = [path for file in found.source.by_split[split] for path in file.names(language)]
            assert each.path.format(language=language) in known


# ---- [hub.TASK] in a study ----


def asked(place: str, **changes: Any) -> Study:
    own = {
        "repository": place, "revision": COMMIT, "config": "nli-{language}", "splits": {"dev": "dev_rows", "test": "test_rows"},
        "columns": {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold"}, **changes,
    }  # fmt: skip
    study = {"name": "s", "models": ["m"], "intermediates": ["none"], "targets": ["xnli"], "seeds": [1], "languages": ["en", "de"]}
    return parse_study({**study, "splits": {"xnli": {"train": "dev"}}, "hub": {"xnli": own}})


@pytest.fixture
def other_nli(tmp_path: Path) -> str:
    """XNLI's rows under other names of configuration, splits and columns."""
    tables = {}
    for code, premise in (("en", "p"), ("de", "P")):
        for split in ("dev_rows", "test_rows"):
            rows = {"sentence1": [f"{premise} {split} {i // 3}" for i in range(60)], "sentence2": list(map(str, range(60)))}
            tables[f"nli-{code}/{split}"] = table({**rows, "gold": [i % 3 for i in range(60)], "premise": ["no"] * 60}, gold=NLI)
    return repository(tmp_path / "repo", tables)


def test_a_study_names_where_a_tasks_rows_are_on_the_hub(other_nli: str, tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    study = replace(asked(other_nli), encoders={"m": Encoder(path="m")})
    data = tmp_path / "data"
    written = provide(study, data, cache=tmp_path / "cache")
    assert {path.name for path in written} == {"dev-en.jsonl", "dev-de.jsonl", "test-en.jsonl", "test-de.jsonl"}
    german = list(task("xnli").source.read(data, "test", "de"))
    assert isinstance(german[0], Text) and (german[0].text, german[0].pair, german[0].label) == ("P test_rows 0", "0", "entailment")
    plan = make_plan(study, data, file_hash, base=tmp_path)
    keys = [cell.predict.key for cell in plan.cells]
    before = {path: path.read_bytes() for path in written}
    assert provide(study, data, offline=True) == written  # nothing is asked
    assert {path: path.read_bytes() for path in written} == before

    changed = json.loads(written[-1].read_text().splitlines()[0])
    written[-1].write_text(written[-1].read_text().replace(changed["premise"], "another"))
    assert [cell.predict.key for cell in make_plan(study, data, file_hash, base=tmp_path).cells] != keys  # through the file's hash

    swapped = {"premise": "sentence2", "hypothesis": "sentence1", "label": "gold"}
    with pytest.raises(DataError, match="dev-en.jsonl: not here from .*sentence2 as premise.*--offline forbids"):
        provide(asked(other_nli, columns=swapped), data, offline=True)
    provide(asked(other_nli, columns=swapped), data, cache=tmp_path / "cache")
    first = next(iter(task("xnli").source.read(data, "test", "de")))
    assert isinstance(first, Text) and (first.text, first.pair) == ("0", "P test_rows 0")


def test_official_files_never_stand_in_for_the_hub_that_a_study_names(other_nli: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "xnli").mkdir(parents=True)
    (tmp_path / "data" / "xnli" / "test-de.tsv").write_text("P\ta\tneutral\n")
    with pytest.raises(DataError, match=r"xnli test de: .*test-de.tsv would be read, not test-de.jsonl that \[hub.xnli\] asks for"):
        provide(asked(other_nli), tmp_path / "data", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"revision": "main"}, 'hub.xnli.revision: pin the full commit .*got "main"'),
        ({"revision": ""}, "hub.xnli.revision is missing: which commit of"),
        ({"config": "{lang}"}, "only {language} can stand in braces"),
        ({"splits": {"tset": "test"}}, 'hub.xnli: the reader knows no split "tset" .*did you mean "test"'),
        ({"columns": {"premise": "nothing"}}, 'no column "nothing" .*there are: sentence1'),
        ({"branch": "main"}, 'unknown key "hub.xnli.branch"'),
    ],
)
def test_what_a_study_asks_of_the_hub_wrongly_is_one_line(other_nli: str, tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises((StudyError, DataError), match=said) as caught:
        provide(asked(other_nli, **wrong), tmp_path / "data", cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_a_task_that_the_hub_does_not_have_is_refused(tmp_path: Path) -> None:
    study = asked("anywhere")
    with pytest.raises(StudyError, match="hub.tatoeba: no reader of hub rows is known for tatoeba. Get data"):
        provide(replace(study, hub={"tatoeba": study.hub["xnli"]}), tmp_path)
