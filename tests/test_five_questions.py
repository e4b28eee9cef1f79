"""The five questions in small: what each plans, by models, intermediate choices and kinds of stages. Nothing is read or trained."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from xstilts.plan import make_plan
from xstilts.stages import Pretrain, Train
from xstilts.study import read_study
from xstilts.tasks import task

ENGLISH = {("mini-choice", "en", 1.0)}
FOUR = {("mini-choice", code, 0.25) for code in ("en", "de", "sw", "zh")}
ONE, TWO = {"mini-choice": ENGLISH}, {"english": ENGLISH, "multilingual": FOUR}


def hash_of(path: Path) -> str:
    """In place of a file's: no file of a pretraining is read here."""
    return hashlib.sha256(str(path).encode()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "models", "family", "form", "mixes", "targets"),
    [
        ("multimodal-size", ("mini-small", "mini-base"), "XLM-R", "heads", ONE, ("mini-nli", "mini-pos", "mini-retrieval")),
        ("size-gap", ("mini-decoder-small", "mini-decoder-base"), "llama", "heads", ONE, ("mini-nli", "mini-qa")),
        ("mt5-multilingual-vs-english", ("mini-mt5-small", "mini-mt5-base"), "mt5", "heads", TWO, ("mini-nli", "mini-qa")),
        ("llm-size", ("mini-decoder-small", "mini-decoder-base"), "llama", "text", ONE, ("mini-nli", "mini-paraphrase")),
        ("deployment-cost", ("mini-small", "mini-base"), "XLM-R", "heads", ONE, ("mini-nli", "mini-qa")),
    ],
)
def test_the_five_questions_plan_what_they_say(
    name: str, models: tuple[str, ...], family: str, form: str, mixes: dict[str, set[tuple[str, str, float]]], targets: tuple[str, ...]
) -> None:
    made = make_plan(read_study(name), Path("nowhere"), hash_of, count=lambda rows: 100)
    assert tuple(made.models) == models
    for model, start in made.models.items():
        here = json.loads(start.config)["model"]["family"] if isinstance(start, Pretrain) else made.families[model].name
        assert (here, start.form) == (family, form)
    # two models, three seeds; retrieval is not trained, so that its baseline has no seed
    choices, seeds = len(mixes) + 1, 3
    ranked = [target for target in targets if task(target).kind == "retrieve"]
    predicts = sum(
        len(task(target).languages) * ((choices - 1) * seeds + 1 if target in ranked else choices * seeds) for target in targets
    )
    kinds = Counter(made.kind(stage) for stage in made.stages)
    assert kinds == {
        "intermediate": 2 * seeds * len(mixes), "target": 2 * seeds * choices * (len(targets) - len(ranked)), "predict": 2 * predicts,
        **({"pretrain": 2} if family != "XLM-R" else {}),
    }  # fmt: skip
    found = {}
    for cell in made.cells:
        stage = cell.predict.model
        before = stage.start if cell.target not in ranked and isinstance(stage, Train) else stage
        if cell.intermediate == "none":
            assert not isinstance(before, Train)
        else:
            assert isinstance(before, Train) and (before.seed, before.recipe.tuning) == (cell.seed, "full")
            found[cell.intermediate] = {(share.rows.task, share.rows.language, share.weight) for share in before.mix}
            assert {share.rows.cap for share in before.mix} == {read_study(name).cap_of("mini-choice", "train")}
    assert found == mixes
