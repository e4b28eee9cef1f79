"""A store with models to deploy: the smallest encoder that comes with the package, under heads of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from engine_maker import make_model
from families_maker import make
from xstilts.deploy.find import Found, find
from xstilts.engine import hf
from xstilts.engine.heads import fresh
from xstilts.engine.kinds import TRAINS
from xstilts.engine.model import save_heads
from xstilts.models import shipped
from xstilts.rows import part_rows
from xstilts.stages import Predict, Pretrained, Recipe, Rows, Runtime, Share, Train
from xstilts.store import Store
from xstilts.task import Part
from xstilts.tasks import task

TASKS = {"classify": "mini-nli", "choose": "mini-choice", "tag": "mini-pos", "span": "mini-qa"}
DATA = Path("no-data")  # mini needs none
LANGUAGES = ("en", "ja")
ROWS = 12


def _rows(name: str, part: Part, language: str) -> Rows:
    return part_rows(task(name), part, language, task(name).parts, ROWS, DATA, lambda path: "")


def make_model_in(store: Path, names: Sequence[str], pool: str = "first", bert: bool = False, length: int = 48, family: str = "") -> str:
    """The key of a training on these tasks whose weights are random heads on one encoder, scored in English and Japanese."""
    opened = Store.open(store)
    start = store.parent / "bert"
    weights = make_model(start, "bert", 130) if bert else shipped()["mini-small"]
    weights = make(store.parent / family, family) if family else weights
    shares = tuple(Share(_rows(name, "train", "en")) for name in names)
    stage = Train(Pretrained(str(weights), pool), shares, (), Recipe(max_length=length, stride=8), 1, Runtime())
    encoder, tokenizer = hf.load_encoder(weights), hf.load_tokenizer(weights)
    drawn = torch.Generator().manual_seed(3)
    heads = {name: fresh(TRAINS[task(name).kind].head(encoder, task(name), 0.0), drawn) for name in names}
    with opened.claim(stage.key) as draft:
        assert draft is not None
        hf.save_encoder(encoder, tokenizer, draft / "out" / "encoder")
        save_heads(heads, {name: task(name) for name in names}, draft / "out")
        opened.finish(stage, 1.0, {})
    for name in names:
        for language in LANGUAGES:
            scored = Predict(stage, _rows(name, "test", language), length, 8, Runtime())
            with opened.claim(scored.key) as draft:
                assert draft is not None
                (draft / "out" / "facts.json").write_text(json.dumps({"seconds": 1.0}))
                opened.finish(scored, 1.0, {})
    return stage.key


def found_in(store: Path, key: str, name: str = "") -> Found:
    return find(key, store, DATA, "cpu", name)


def every_kind(store: Path) -> Iterator[tuple[str, str]]:
    """(kind, key), a training each."""
    for kind, name in TASKS.items():
        yield kind, make_model_in(store, (name,))
