"""Plans: every stage once, keys that follow meaning, cells that carry what the report needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine_maker import make_model
from study_maker import planner
from xstilts import models
from xstilts.errors import DataError, ModelError, StudyError
from xstilts.stages import Predict, Train


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    return planner(tmp_path, intermediates=["none", "mini-ner"], targets=["mini-pos", "mini-retrieval"], seeds=[1, 2])


def test_an_intermediate_model_is_trained_once_however_many_targets_hang_off_it(planned: Any) -> None:
    plan = planned()
    kinds = [plan.kind(stage) for stage in plan.stages]
    assert (kinds.count("intermediate"), kinds.count("target")) == (2, 4)
    # retrieval without an intermediate step has no seed: its predictions are made once for both seeds
    assert kinds.count("predict") == 4 * 12 + 11 + 2 * 11
    assert len({stage.key for stage in plan.stages}) == len(plan.stages)
    assert len(plan.cells) == 2 * 2 * (12 + 11)


def test_parents_come_before_their_children(planned: Any) -> None:
    seen: set[str] = set()
    for stage in planned().stages:
        parent = stage.model if isinstance(stage, Predict) else stage.start
        assert not isinstance(parent, Train) or parent.key in seen
        seen.add(stage.key)


def test_a_study_that_grows_keeps_its_keys(planned: Any) -> None:
    before = {stage.key for stage in planned().stages}
    more: list[dict[str, Any]] = [
        {"targets": ["mini-pos", "mini-retrieval", "mini-qa"]}, {"seeds": [1, 2, 3]}, {"intermediates": ["none", "mini-ner", "mini-qa"]},
    ]  # fmt: skip
    for grown in more:
        assert before < {stage.key for stage in planned(**grown).stages}


def test_what_changes_a_number_changes_the_key_and_what_does_not_does_not(planned: Any) -> None:
    def keys(**changes: Any) -> set[str]:
        return {stage.key for stage in planned(**changes).stages}

    plain = keys()
    assert keys(keep="none", question="why?", name="other") == plain
    for changes in ({"recipe": {"lr": 1e-4}}, {"threads": 2}, {"precision": "bf16"}, {"caps": {"all": {"train": 10}}}):
        assert not keys(**changes) & plain - keys(), changes
        assert keys(**changes) != plain, changes


def test_weights_are_in_the_key(planned: Any, tmp_path: Path) -> None:
    before = planned().stages[0].key
    make_model(tmp_path / "m", positions=70)
    assert planned().stages[0].key != before


def test_what_size_is_compared_among(planned: Any) -> None:
    assert planned().series == {}
    assert planned(encoders={"m": {"path": "m", "series": "theirs"}}).series == {"m": "theirs"}
    known = planned(models=["m", "mini-small", "mini-base", "mini-large"]).series
    assert set(known) == {"mini-small", "mini-base", "mini-large"}
    assert len(set(known.values())) == 3  # their numbers of updates differ
    with pytest.raises(StudyError, match="encoders.m.series: that is read from the pretraining config"):
        planned(encoders={"m": {"pretrain": "mini-small", "series": "theirs"}})


def test_cells_on_the_same_material_are_marked(planned: Any) -> None:
    marked = {(c.intermediate, c.target) for c in planned().cells if c.same_data}
    assert marked == set()


def test_data_lines_name_every_part(planned: Any) -> None:
    lines = planned(languages=["en", "de"]).data_lines
    assert [line.split(",")[0].split(" [")[0] for line in lines] == [
        "train: mini-ner train en", "dev: mini-ner dev en", "train: mini-pos train en", "dev: mini-pos dev en", "test: mini-pos test",
        "test: mini-retrieval test",
    ]  # fmt: skip
    assert lines[4].endswith("[en de]")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"targets": ["mini-pso"]}, 'targets: .*"mini-pso".*did you mean "mini-pos"'),
        ({"intermediates": ["non"]}, 'did you mean "none"'),
        ({"languages": ["xx"]}, 'languages: no target of this study has "xx"'),
        ({"splits": {"mini-pos": {"train": "trian"}}}, 'splits.mini-pos.train: no split "trian" .*did you mean "train"'),
        ({"splits": {"mini-pos": {"languages": ["xx"]}}}, 'splits.mini-pos.languages: the task has no "xx"'),
        ({"caps": {"mini-qa": {"train": 3}}}, 'caps.mini-qa: the study has no task "mini-qa"'),
        ({"intermediates": ["mini-retrieval"]}, '"mini-retrieval" has no training data'),
        ({"encoders": {"m": {"path": "m"}, "n": {"path": "m"}}}, 'encoders.n: "models" does not name it'),
    ],
)
def test_names_that_nothing_has_are_refused(planned: Any, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        planned(**wrong)


def test_models_that_are_not_there_are_refused(planned: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match='unknown model "x"'):
        planned(models=["x"], encoders={})
    with pytest.raises(ModelError, match="no such model folder"):
        planned(encoders={"m": {"path": "none"}})
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no model.safetensors"):
        planned()


def test_missing_data_names_the_task_and_what_to_do(planned: Any) -> None:
    with pytest.raises(DataError, match="xquad: split .*not found under .*Get "):
        planned(targets=["xquad"])


def test_parameters_are_counted_from_headers_alone(tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = make_model(tmp_path / "m")
    counted = sum(p.numel() for p in AutoModel.from_pretrained(folder, add_pooling_layer=False).parameters())
    assert models.parameters(folder) == counted
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(ModelError, match="not a safetensors file, or truncated"):
        models.parameters(folder)


def test_a_hub_model_that_is_not_cached_says_so_offline() -> None:
    with pytest.raises(ModelError, match="not in the local hub cache; run once without --offline"):
        models.fetch(models.Hub("nobody/nothing", "0" * 40), offline=True)
