"""Study files: strict, with errors that name the key and the next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xstilts.errors import DataError, StudyError
from xstilts.plan import make_plan
from xstilts.study import parse_study, read_study, ready_made

BASE: dict[str, Any] = {"name": "s", "models": ["m"], "intermediates": ["none"], "targets": ["a"], "seeds": [1]}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sedes": [1]}, 'unknown key "sedes"; did you mean "seeds"?'),
        ({"recipe": {"lr": "1e-5"}}, 'recipe.lr: expected a number, got "1e-5"'),
        ({"recipe": {"lrr": 1}}, 'unknown key "recipe.lrr"; did you mean "lr"?'),
        ({"recipes": {"a": {"epoch": 2}}}, 'unknown key "recipes.a.epoch"; did you mean "epochs"?'),
        ({"encoders": {"m": {"pth": "x"}}}, 'unknown key "encoders.m.pth"; did you mean "path"?'),
        ({"seeds": []}, "seeds: the list is empty"),
        ({"targets": []}, "targets: the list is empty"),
        ({"seeds": [1.5]}, "seeds.0: expected a whole number, got 1.5"),
        ({"seeds": [1, 1]}, 'seeds: "1" stands twice'),
        ({"seeds": [-1]}, "seeds: -1 is negative"),
        ({"seeds": [True]}, "seeds.0: expected a whole number, got true"),
        ({"languages": "en"}, 'languages: expected a list, got "en"'),
        ({"recipe": 3}, "recipe: expected a table, got 3"),
        ({"keep": "some"}, "keep: expected 'all', 'best' or 'none', got \"some\""),
        ({"name": "a/b"}, 'name: "a/b" names folders'),
        ({"caps": {"all": {"train": 0}}}, "caps.all.train: expected at least 1, got 0"),
        ({"encoders": {"m": {"path": "a", "hub": "b"}}}, "encoders.m: give exactly one of path, hub and pretrain"),
        ({"encoders": {"m": {"pretrain": "a", "pool": "first"}}}, "encoders.m.pool: that of the pretraining config holds; leave it out"),
        ({"encoders": {"m": {"hub": "a/b", "revision": "main"}}}, 'pin the full commit (40 hexadecimal digits), got "main"'),
        ({"mixes": {"x": {"tasks": ["a", "b"], "weights": [1.0]}}}, "mixes.x.weights: 1 weights for 2 tasks"),
        ({"recipe": {"stride": 128, "max_length": 128}}, "recipe.stride: expected from 0 to below max_length (128), got 128"),
        ({"recipe": {"dropout": 1.0}}, "recipe.dropout: expected a share from 0 to below 1, got 1.0"),
        ({"recipe": {"epochs": 0}}, "recipe.epochs: expected more than 0, got 0.0"),
        ({"recipe": {"tuning": "lore"}}, "recipe.tuning: expected 'full', 'lora', 'qlora', 'prompt' or 'head', got \"lore\""),
        ({"recipes": {"a": {"tuning": "lora", "rank": 0}}}, "recipes.a.rank: expected more than 0, got 0"),
        ({"recipe": {"tuning": "head", "freeze_layers": 2}}, 'recipe.freeze_layers: tuning = "head" leaves every weight of the encoder'),
        ({"threads": 0}, "threads: expected at least 1, got 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_path(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_study({**BASE, **wrong})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_is_missing_is_named() -> None:
    with pytest.raises(StudyError, match='"models" is missing'):
        parse_study({"name": "s"})


def test_a_task_recipe_names_what_differs() -> None:
    study = parse_study({**BASE, "recipe": {"lr": 1e-4, "batch": 8}, "recipes": {"a": {"epochs": 7}}})
    assert (study.recipe_of("a").lr, study.recipe_of("a").batch, study.recipe_of("a").epochs) == (1e-4, 8, 7)
    assert study.recipe_of("b") == study.recipe


def test_caps_of_a_task_go_before_those_of_all() -> None:
    study = parse_study({**BASE, "caps": {"all": {"train": 10, "test": 5}, "a": {"train": 3}}})
    assert [study.cap_of("a", "train"), study.cap_of("a", "test"), study.cap_of("b", "train"), study.cap_of("a", "dev")] == [3, 5, 10, None]


def test_files_that_are_no_study_are_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such study file"):
        read_study(str(tmp_path / "none.toml"))
    with pytest.raises(StudyError, match='neither a study file nor a ready-made study .*did you mean "quickstart"'):
        read_study("quickstat")
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(StudyError, match="bad.toml: not TOML"):
        read_study(str(bad))
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(StudyError, match="bad.toml: not TOML"):
        read_study(str(bad))


@pytest.mark.parametrize("name", ready_made())
def test_every_ready_made_study_is_read(name: str) -> None:
    assert read_study(name).name == name


@pytest.mark.parametrize("name", [name for name in ready_made() if name.endswith("-full")])
def test_full_studies_lack_nothing_but_rows_offline(name: str, tmp_path: Path) -> None:
    study = read_study(name)
    assert study.question and study.notes and study.answers and read_study(name.removesuffix("-full")).answers
    with pytest.raises(DataError, match="not found under"):
        make_plan(study, tmp_path, lambda path: "0", device="cuda")


def test_a_misspelt_key_is_said_before_the_one_that_is_then_missing() -> None:
    table = {key: value for key, value in BASE.items() if key != "seeds"}
    with pytest.raises(StudyError, match='unknown key "seedz"; did you mean "seeds"'):
        parse_study({**table, "seedz": [1]})
