"""The five questions in small: what each plans, by models, intermediate choices and kinds of stages. Nothing is read or trained."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from xstilts import pretraining
from xstilts.plan import make_plan
from xstilts.stages import Pretrain, Train
from xstilts.study import read_study
from xstilts.tasks import task

Mixes = dict[str, set[tuple[str, str, float]]]  # by intermediate choice: task, language, weight


def english(*tasks: str) -> set[tuple[str, str, float]]:
    return {(name, "en", 1.0) for name in tasks}


CHOICE: Mixes = {"mini-choice": english("mini-choice")}
TWO: Mixes = {"english": english("mini-choice"), "multilingual": {("mini-choice", code, 0.25) for code in ("en", "de", "sw", "zh")}}
THREE: Mixes = {
    "mini-nli": english("mini-nli"), "mini-qa": english("mini-qa"), "multi": english("mini-nli", "mini-qa", "mini-paraphrase"),
}  # fmt: skip


def hash_of(path: Path) -> str:
    """In place of a file's: two encoders have two hashes, and no weights are read."""
    return hashlib.sha256(str(path).encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "models", "family", "form", "mixes", "targets"),
    [
        ("multimodal-size", ("mini-small", "mini-base"), "XLM-R", "heads", CHOICE, ("mini-nli", "mini-pos", "mini-retrieval")),
        ("size-gap", ("mini-decoder-small", "mini-decoder-base"), "llama", "heads", CHOICE, ("mini-nli", "mini-qa")),
        ("mt5-multilingual-vs-english", ("mini-mt5-small", "mini-mt5-base"), "mt5", "heads", TWO, ("mini-nli", "mini-qa")),
        ("llm-size", ("mini-decoder-small", "mini-decoder-base"), "llama", "text", CHOICE, ("mini-nli", "mini-paraphrase")),
        ("deployment-cost", ("mini-small", "mini-base"), "XLM-R", "heads", THREE, ("mini-choice", "mini-pos")),
    ],
)
def test_the_five_questions_plan_what_they_say(
    name: str, models: tuple[str, ...], family: str, form: str, mixes: Mixes, targets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the texts of a pretraining are not written for their hash: that takes longer than all else here
    monkeypatch.setattr(pretraining, "hashes", lambda config, data, file_hash: (config.name,))
    study = read_study(name)
    made = make_plan(study, Path("nowhere"), hash_of, count=lambda rows: 100)
    assert tuple(made.models) == models and len({start.key for start in made.models.values()}) == 2
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
    found: Mixes = {}
    for cell in made.cells:
        stage = cell.predict.model
        before = stage.start if cell.target not in ranked and isinstance(stage, Train) else stage
        if cell.intermediate == "none":
            assert not isinstance(before, Train)
        else:
            assert isinstance(before, Train) and (before.seed, before.recipe.tuning) == (cell.seed, "full")
            found[cell.intermediate] = {(share.rows.task, share.rows.language, share.weight) for share in before.mix}
            assert all(share.rows.cap == study.cap_of(share.rows.task, "train") for share in before.mix)
    assert found == mixes and {cell.target for cell in made.cells} == set(targets)
    # what the question comes to is between what is planned
    assert study.answers and all({asked.first, asked.second} <= {*models, "none", *mixes} for asked in study.answers)
