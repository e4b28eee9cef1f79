"""Architecture x way of tuning: every one on classify, and every way with every task kind on one of each shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from engine_maker import rows_of, toy_rows, toy_task
from families_maker import TINY, make
from test_families import RECIPE, family_at, given, small_table, stage_of  # noqa: F401
from xstilts.engine import predict as predicting
from xstilts.engine.adapters import weights
from xstilts.engine.predict import predict
from xstilts.engine.train import train
from xstilts.errors import ModelError
from xstilts.families import TUNINGS, refusal
from xstilts.stages import Predict, Pretrained, Runtime, Start
from xstilts.task import Kind

WAYS = tuple(way for way in TUNINGS if way != "full")
PAIRS = [(family, kind) for family, kind in zip(("xlm-roberta", "mt5", "llama"), ("choose", "tag", "span"), strict=True)]


def trained(folder: Path, room: Path, kind: Kind, way: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Train, answer alone and among others, alike; False where it was refused, for the reason that is written down."""
    family, task = family_at(folder), toy_task(kind, toy_rows(kind, 8))
    stage = stage_of(task, family.pool, recipe=replace(RECIPE, tuning=way, rank=2, prompt_length=2))
    entry = room / f"{kind}-{way}"

    def folder_of(each: Start) -> Path:
        return folder if isinstance(each, Pretrained) else entry / "out"

    def fit() -> None:
        train(stage, weights(stage.start, folder_of), lambda _: task, lambda _: given(task), entry, room / "c", lambda _: None, bool)

    if refusal(family, kind, way):
        with pytest.raises(ModelError, match='tuning = "prompt": |has no linear layers'):  # the plan gives the reason of the table
            fit()
        return False
    fit()
    assert not (entry / "out" / "encoder").exists()
    found: list[dict[str, Any]] = []
    for budget in (predicting.BATCH, 1):
        monkeypatch.setattr(predicting, "BATCH", budget)
        out = entry / f"answers-{budget}"
        asked = Predict(stage, rows_of(task, "test"), 24, 4, Runtime())
        predict(asked, weights(stage, folder_of), task, lambda _: given(task), out, room / "c")
        found.append(table(out))
    monkeypatch.undo()
    assert found[0]["pred"] == found[1]["pred"]
    if kind != "tag":
        np.testing.assert_allclose(np.concatenate(found[0]["scores"]), np.concatenate(found[1]["scores"]), atol=1e-5)
    return True


def table(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = parquet.read_table(out / "predictions.parquet").to_pydict()
    return found


@pytest.fixture(autouse=True)
def _small(small_table: Iterator[None]) -> None:  # noqa: F811
    return


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY)
def test_every_architecture_is_tuned_in_every_way_or_says_why_not(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "m", family)
    done = [trained(folder, tmp_path, "classify", way, monkeypatch) for way in WAYS]
    assert any(done)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), PAIRS)
@pytest.mark.parametrize("way", WAYS)
def test_the_other_kinds_are_tuned_in_every_way(
    tmp_path: Path, family: str, kind: Kind, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained(make(tmp_path / "m", family), tmp_path, kind, way, monkeypatch)
