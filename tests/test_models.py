"""Models as studies name them: what is planned from an architecture, and what is listed and said of the known ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from typer.testing import CliRunner

from families_maker import make
from study_maker import planner
from xstilts.cli import _model_notes, _unknown, app
from xstilts.errors import ModelError, StudyError
from xstilts.families import FAMILIES, SEEN
from xstilts.models import Hub, config_of, known
from xstilts.stages import Pretrained, root

COMMIT = "0" * 40


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    return planner(tmp_path, intermediates=["none"], targets=["mini-pos"], seeds=[1], languages=["en", "de"])


def pool_of(plan: Any) -> str:
    start = root(plan.cells[0].predict)
    assert isinstance(start, Pretrained)
    return start.pool


def test_the_sentence_vector_is_that_of_the_architecture_and_old_keys_stay(planned: Any, tmp_path: Path) -> None:
    plain = planned()
    assert pool_of(plain) == "first"
    assert [s.key for s in planned(encoders={"m": {"path": "m", "pool": "first"}}).stages] == [s.key for s in plain.stages]
    for family, pool in (("mt5", "mean"), ("qwen2", "last"), ("clip", "last"), ("electra", "first"), ("olmo2", "last")):
        make(tmp_path / family, family)
        assert pool_of(planned(encoders={"m": {"path": family}})) == pool
    assert pool_of(planned(encoders={"m": {"path": "mt5", "pool": "last"}})) == "last"
    with pytest.raises(StudyError, match=r'encoders.m.pool: Qwen2 is causal, its first token has seen no other; use "last" or "mean"'):
        planned(encoders={"m": {"path": "qwen2", "pool": "first"}})


def test_what_an_architecture_cannot_do_is_said_by_the_plan(planned: Any, tmp_path: Path) -> None:
    make(tmp_path / "mt5", "mt5")
    mixed = {"intermediates": ["both"], "mixes": {"both": {"tasks": ["mini-ner", "mini-text"]}}}
    planned(**mixed)
    with pytest.raises(StudyError, match=r'models: "m" \(mT5\) cannot do "mini-text" \(mask\): an encoder without its decoder has no head'):
        planned(**mixed, encoders={"m": {"path": "mt5"}})


def test_the_family_of_a_repository(planned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def absent(*_: object, **asked: object) -> str:
        assert asked["local_files_only"]
        raise OSError("not there")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)

    def at(repository: str, **more: str) -> Any:
        return planned(encoders={"m": {"hub": repository, "revision": COMMIT, **more}})

    assert pool_of(at("google/mt5-small")) == "mean" and pool_of(at("FacebookAI/xlm-roberta-base")) == "first"
    with pytest.raises(StudyError, match='encoders.m.pool: the config of "some/model" is not at hand .*: say pool = "first"'):
        at("some/model")
    assert pool_of(at("some/model", pool="mean")) == "mean"
    (tmp_path / "config.json").write_text('{"model_type": "bloom"}')
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "config.json"))
    assert pool_of(at("some/model")) == "last"
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="config.json: no table of names and values"):
        config_of(Hub("some/model", COMMIT), offline=True)


def test_known_models_are_listed_with_what_was_run(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["models"])
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    assert lines[0].split()[:2] == ["model", "architecture"] and len(lines) == 1 + len(known()) + 2 + 2
    assert any(line.startswith("XLM-R XXL ") and "48 x 4096" in line and line.endswith(" no") for line in lines)
    assert "one 12-layer English encoder" in said.output
    rows = json.loads(CliRunner().invoke(app, ["models", "--json"]).output)
    assert {row["family"] for row in rows} <= set(FAMILIES)
    assert {row["shape"] for row in rows} == {family.shape for family in FAMILIES.values()}
    assert all(row["parameters"] >= 12 * row["layers"] * row["hidden"] ** 2 / 2e6 for row in rows)  # layers alone weigh more than that
    matrix = CliRunner().invoke(app, ["models", "--matrix"]).output.splitlines()
    assert matrix[0].split()[:7] == ["architecture", "classify", "choose", "tag", "span", "retrieve", "mask"]
    cells = next(line for line in matrix if line.startswith("XLM-R ")).split()
    assert cells[1:7] == ["FLQPH", "Flqph", "Flqph", "Flqph", "Flqph", "Flqph"] and cells[7] == "-"
    row = next(line for line in matrix if line.startswith("mT5 ")).split()
    number = row[row.index("-", 1) + 1]  # of the only kind without any way
    assert any(line.startswith(f"{number}  an encoder without its decoder") for line in matrix)
    said_of = json.loads(CliRunner().invoke(app, ["models", "--matrix", "--json"]).output)
    assert {(row["kind"], row["answer"]) for row in said_of if row["architecture"] == "XLM-R"} == {
        *((kind, "runs") for kind in ("classify", "choose", "tag", "span", "retrieve", "mask")),
        (SEEN, f"refused: {FAMILIES['xlm-roberta'].no_images}"),
    }


def test_reports_say_what_blip_cannot_show_and_which_languages_are_unknown(planned: Any, tmp_path: Path) -> None:
    make(tmp_path / "blip", "blip")
    plan = planned(encoders={"m": {"path": "blip", "notes": "Ours."}})
    assert _model_notes(plan)["m"].startswith("Ours. BLIP's text tower is one 12-layer English encoder")
    assert _model_notes(planned()) == {}
    rates = {"en": 0.004, "de": 0.25}
    manifests = {cell.predict.key: {"facts": {"unk_rate": rates[cell.language]}} for cell in plan.cells}
    assert list(_unknown(plan, manifests)) == ["m, mini-pos: de 25.0%"]
    assert list(_unknown(plan, {})) == []
