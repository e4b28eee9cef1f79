"""A stage that went to a worker as JSON is the same value with the same key."""

import json
from dataclasses import replace

import pytest

from xstilts.canon import plain
from xstilts.errors import StoreError
from xstilts.stages import Predict, Pretrain, Pretrained, Recipe, Rows, Runtime, Share, Train, from_plain

ROWS = Rows(
    "toy", 2, "train", "train", "en", "ab" * 32, cut=(0.0, 0.9), cap=7, without=(Rows("toy", 2, "test", "t", "de", "cd"),)
)
FIRST = Train(Pretrained("w"), (Share(ROWS), Share(ROWS, 2.5)), (), Recipe(steps=3, lr=1.0), 1, Runtime())
SECOND = Train(FIRST, (Share(ROWS),), (ROWS,), Recipe(), 2, Runtime("bf16", 2, "cuda"))
STAGES = [
    FIRST,
    SECOND,
    Pretrained("w", "mean", 3),
    Pretrain("{}", ("aa", "bb"), Runtime()),
    Predict(SECOND, replace(ROWS, part="test", cap=None), 128, 64, Runtime()),
]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: type(stage).__name__)
def test_round_trip(stage):
    again = from_plain(json.loads(json.dumps(plain(stage))))
    assert again == stage
    assert again.key == stage.key


def test_floats_come_back_as_floats():
    again = from_plain(plain(FIRST))
    assert type(again.recipe.lr) is float
    assert type(again.recipe.steps) is int


@pytest.mark.parametrize(
    "change, message",
    [
        ({"type": "Merge"}, "unknown type 'Merge'"),
        ({"type": "Rows"}, "stage: "),
        ({"version": 99}, "version 99 of Train"),
        ({"seed": "1"}, "stage.seed: '1'"),
        ({"seed": True}, "stage.seed: True"),
        ({"extra": 1}, '"extra"'),
        ({"recipe": None}, "stage.recipe: unknown type"),
        ({"start": plain(ROWS)}, "a Rows has no place here"),
        ({"mix": 3}, "stage.mix: 3"),
    ],
)
def test_strict(change, message):
    with pytest.raises(StoreError, match=message):
        from_plain({**plain(FIRST), **change})


def test_missing_field():
    value = plain(FIRST)
    del value["seed"]
    with pytest.raises(StoreError, match='"seed"'):
        from_plain(value)
    with pytest.raises(StoreError, match="Rows is no stage"):
        from_plain(plain(ROWS))
