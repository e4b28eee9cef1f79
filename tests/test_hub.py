"""The hub, against a stand-in: folders that hold Parquet files as `datasets` writes them and the hub lays them out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xstilts.errors import DataError
from xstilts.examples import Answer, Choice, Passage, Text, Words
from xstilts.hub import SOURCE, fetch
from xstilts.readers import fingerprint
from xstilts.rows import check
from xstilts.sources import Files
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
