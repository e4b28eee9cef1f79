"""Training regimes: what a study file says, the stages that come of it, and what the stages do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine_maker import make_model, toy_task
from study_maker import file_hash, planner
from xstilts import cli
from xstilts.analysis.forgetting import forgetting
from xstilts.canon import plain
from xstilts.engine import hf, keep, merge, retrieve
from xstilts.engine import train as training
from xstilts.engine.train import State
from xstilts.errors import DataError, ModelError, StudyError
from xstilts.examples import Parallel, gold_of
from xstilts.plan import Plan, draws, make_plan, same_data
from xstilts.run import run
from xstilts.scores import load as load_scores
from xstilts.stages import Choose, Merge, Pretrained, Recipe, Rows, Runtime, Share, Train, best_layer, from_plain, parents
from xstilts.store import Store
from xstilts.study import Mix, parse_study
from xstilts.tasks import task as find_task

SHORT = {"steps": 2, "batch": 4, "max_length": 24, "stride": 4}


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    return planner(
        tmp_path, count=lambda rows: rows.cap or 400, intermediates=["none"], targets=["mini-pos"], seeds=[1], languages=["en", "de"]
    )


def models(plan: Plan, intermediate: str, language: str = "en") -> Any:
    (found,) = {cell.predict.model for cell in plan.cells if (cell.intermediate, cell.language) == (intermediate, language)}
    return found


def mixed(train: Train) -> list[tuple[str, str, float]]:
    return [(share.rows.task, share.rows.language, share.weight) for share in train.mix]


# ---- chains, mixes ----


def test_a_chain_is_one_training_after_the_other_and_shares_its_beginning(planned: Any) -> None:
    plan = planned(intermediates=["mini-ner", "mini-ner > mini-qa"])
    long, short = models(plan, "mini-ner > mini-qa"), models(plan, "mini-ner")
    assert mixed(long) == [("mini-pos", "en", 1.0)] and mixed(long.start) == [("mini-qa", "en", 1.0)]
    assert long.start.start == short.start
    kinds = [plan.kind(stage) for stage in plan.stages]
    assert (kinds.count("intermediate"), kinds.count("target")) == (2, 2)


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        (Mix(("a", "b")), (900, 100)),
        (Mix(("a", "b"), sampling="capped", cap=300), (300, 100)),
        (Mix(("a", "b"), sampling="temperature", exponent=0.5), (750, 250)),
        (Mix(("a", "b"), sampling="temperature", exponent=1.0), (900, 100)),
        (Mix(("a", "b"), sampling="uniform"), (500, 500)),
        (Mix(("a", "b"), (1.0, 3.0), "uniform"), (500, 1500)),
        (Mix(("a", "b"), text_rate=0.25), (900, 300)),
    ],
)
def test_draws_follow_their_definition(mix: Mix, expected: tuple[float, float]) -> None:
    assert draws(mix, (900, 100), (False, True)) == pytest.approx(expected)


def test_sampling_becomes_weights_that_plan_shows(planned: Any) -> None:
    mix = {"tasks": ["mini-ner", "mini-qa"], "sampling": "temperature", "exponent": 0.5}
    plan = planned(intermediates=["both"], mixes={"both": mix}, caps={"mini-ner": {"train": 900}, "mini-qa": {"train": 100}})
    assert mixed(models(plan, "both").start) == [("mini-ner", "en", pytest.approx(750 / 900)), ("mini-qa", "en", pytest.approx(2.5))]
    assert plan.mix_lines == (
        "both (temperature, exponent 0.5): mini-ner en 750 of 900 (75.0%), mini-qa en 250 of 100 (25.0%)",
    )


def test_several_languages_share_a_head_and_select_on_english(planned: Any) -> None:
    plan = planned(intermediates=["many"], mixes={"many": {"tasks": ["mini-ner", "mini-ner:de", "mini-ner:sw"], "weights": [1, 1, 0.5]}})
    step = models(plan, "many").start
    assert mixed(step) == [("mini-ner", "en", 1.0), ("mini-ner", "de", 1.0), ("mini-ner", "sw", 0.5)]
    assert [(rows.task, rows.language) for rows in step.select] == [("mini-ner", "en")]


def test_the_target_beside_the_intermediate_is_one_training_chosen_on_the_targets_dev(planned: Any) -> None:
    plan = planned(
        intermediates=["none", "beside"], targets=["mini-pos", "mini-qa", "mini-retrieval"],
        mixes={"beside": {"tasks": ["mini-ner", "target"]}}, recipes={"mini-qa": {"lr": 5e-5}},
    )  # fmt: skip
    by_target = {cell.target: cell.predict.model for cell in plan.cells if cell.intermediate == "beside"}
    assert mixed(by_target["mini-pos"]) == [("mini-ner", "en", 1.0), ("mini-pos", "en", 1.0)]
    assert isinstance(by_target["mini-pos"].start, Pretrained)
    assert [rows.task for rows in by_target["mini-pos"].select] == ["mini-pos"]
    assert by_target["mini-qa"].recipe.lr == 5e-5  # the target's recipe, as the mix has none
    assert mixed(by_target["mini-retrieval"]) == [("mini-ner", "en", 1.0)]


def test_few_shots_and_translate_train_follow_the_scored_language(planned: Any) -> None:
    plan = planned(
        intermediates=["target > few", "all"],
        mixes={"few": {"tasks": ["target:own"], "rows": 10, "split": "dev"}, "all": {"tasks": ["target:*"]}},
    )
    few = models(plan, "target > few", "de")
    (share,) = few.mix
    assert (share.rows.language, share.rows.cap, share.rows.split) == ("de", 10, "dev")
    assert {(rows.split, rows.language) for rows in share.rows.without} >= {("test", "en")}  # parallel: the groups are those of "de"
    assert few.start == models(plan, "target > few", "en").start
    assert [language for _, language, _ in mixed(models(plan, "all", "de"))] == ["en", "de"]


def test_a_task_that_is_trained_again_keeps_its_head(planned: Any) -> None:
    plan = planned(
        intermediates=["none", "mini-ner", "target > few", "target", "mini-ner > beside", "german", "masked > masked", "soup"],
        mixes={"few": {"tasks": ["target:own"], "rows": 10, "split": "dev"}, "beside": {"tasks": ["mini-ner", "target"]},
               "german": {"tasks": ["mini-ner", "mini-pos:de"]}, "masked": {"tasks": ["mini-text:de"]}},
        merges={"soup": {"of": ["mini-ner", "mini-pos"]}},
    )  # fmt: skip
    kept = {cell.intermediate for cell in plan.cells if getattr(cell.predict.model, "heads", None) == "kept"}
    assert kept == {"target > few", "mini-ner > beside", "german"}  # of "german" the target goes on; of "soup" no head is left
    few = models(plan, "target > few")
    assert few.start.heads == "fresh" and from_plain(plain(few)) == few and few.key != replace(few, heads="fresh").key
    searched = planned(
        intermediates=["target > few"], mixes={"few": {"tasks": ["target:own"]}}, search={"all": {"lr": [1e-4, 1e-3]}},
    )  # fmt: skip
    assert [each.heads for each in models(searched, "target > few").among] == ["kept", "kept"]


def test_few_shots_are_apart_from_what_is_scored(tmp_path: Path) -> None:
    from xstilts.rows import load

    study = {"name": "s", "models": ["m"], "intermediates": ["target > few"], "targets": ["mini-pos"], "seeds": [1], "languages": ["de"],
             "encoders": {"m": {"path": str(make_model(tmp_path / "m"))}},
             "mixes": {"few": {"tasks": ["target:own"], "rows": 10, "split": "dev"}}}  # fmt: skip
    (cell,) = make_plan(parse_study(study), tmp_path, file_hash).cells
    assert isinstance(cell.predict.model, Train)
    shots, scored = load(cell.predict.model.mix[0].rows, tmp_path), load(cell.predict.rows, tmp_path)
    assert len(shots) == 10
    assert not {e.group for e in shots} & {e.group for e in scored}


SAME = {
    "mini-ner": False,
    "mini-pos": True,  # the target twice
    "mini-ner > mini-pos": True,
    "target": False,  # the baseline under another name
    "beside": False,  # one training: the baseline's rows and another task's
    "target > beside": True,  # the target in two trainings
    "within": True,  # its own data set in the mix, beside it
    "few": True,  # other rows of it, of the dev split
    "target > few": True,
    "own": True,  # translate-train
    "all": True,
    "german": True,
    "soup": False,
    "broth": True,
    "masked": False,
}


@pytest.mark.parametrize("searched", [False, True])
def test_same_data_is_computed_from_the_rows_that_trainings_read(planned: Any, searched: bool) -> None:
    plan = planned(
        intermediates=["none", *SAME], targets=["mini-pos", "mini-retrieval"], languages=["de", "sw"],
        mixes={
            "beside": {"tasks": ["mini-ner", "target"], "sampling": "temperature"},
            "within": {"tasks": ["mini-ner", "mini-pos:sw", "target"]},
            "few": {"tasks": ["target:own"], "rows": 10, "split": "dev"}, "own": {"tasks": ["target:own"]}, "all": {"tasks": ["target:*"]},
            "german": {"tasks": ["mini-ner", "mini-pos:de"]}, "masked": {"tasks": ["mini-ner", "mini-text:de"]},
        },
        merges={"soup": {"of": ["mini-ner", "mini-qa"]}, "broth": {"of": ["mini-ner", "mini-pos"]}},
        search={"mini-pos": {"lr": [1e-4, 1e-3]}} if searched else {},
    )  # fmt: skip
    for target, expected in (("mini-pos", {"none": False, **SAME}), ("mini-retrieval", dict.fromkeys(["none", *SAME], False))):
        for language in ("de", "sw"):
            found = {c.intermediate: c.same_data for c in plan.cells if (c.target, c.language) == (target, language)}
            assert found == expected, (target, language)


def test_tasks_that_share_a_data_set_are_same_data() -> None:
    def reads(*names: str) -> Train:
        rows = [Rows(name, 1, "train", "train", "en", name) for name in names]
        return Train(Pretrained("w"), tuple(Share(each) for each in rows), (), Recipe(), 1, Runtime())

    own = Rows("xnli", 1, "train", "train", "en", "xnli")
    for name, expected in (("nli", True), ("snli", True), ("anli_plus", True), ("xvnli", True), ("squad", False), ("sick", False)):
        assert same_data(reads(name, "xnli"), find_task("xnli"), own) is expected, name
    assert same_data(reads("squad2", "xquad"), find_task("xquad"), Rows("xquad", 1, "train", "train", "en", "xquad"))


def test_cells_on_the_targets_own_data_stay_out_of_the_mean_gain(planned: Any, tmp_path: Path) -> None:
    from study_maker import write_predictions
    from xstilts.analysis.transfer import transfer

    regimes = ["mini-ner", "mini-pos", "beside", "target > few", "own", "all"]
    plan = planned(
        intermediates=["none", *regimes], targets=["mini-pos", "mini-qa"], seeds=[1, 2, 3], languages=["en", "de"],
        mixes={"few": {"tasks": ["target:own"], "rows": 10, "split": "dev"}, "own": {"tasks": ["target:own"]},
               "all": {"tasks": ["target:*"]}, "beside": {"tasks": ["mini-ner", "target"]}},
    )  # fmt: skip
    for cell in plan.cells:
        right = ["NOUN"] if cell.target == "mini-pos" else ["a"]
        path = tmp_path / "store" / cell.predict.key / "predictions.parquet"
        write_predictions(path, ["1", "2"], ["", ""], [right, right], [right, right])
    results = load_scores(plan.cells, lambda key: tmp_path / "store" / key, find_task)
    found = transfer(results, find_task, np.random.default_rng(0), resamples=20)
    means = {(gain.intermediate, gain.same_data): gain.targets for gain in found.gains if not gain.target}
    assert {name for name, same in means if not same} == {"mini-ner", "beside", "mini-pos"}
    assert means["mini-pos", False] == ("mini-qa",) and means["mini-pos", True] == ("mini-pos",)
    assert means["own", True] == means["all", True] == means["target > few", True] == ("mini-pos", "mini-qa")


def test_search_and_merge_are_stages_over_the_same_trainings(planned: Any) -> None:
    plan = planned(
        intermediates=["mini-ner", "soup"], merges={"soup": {"of": ["mini-ner", "mini-qa"], "method": "ties"}},
        search={"mini-pos": {"lr": [1e-4, 1e-3]}},
    )  # fmt: skip
    chosen = models(plan, "soup")
    assert isinstance(chosen, Choose) and [train.recipe.lr for train in chosen.among] == [1e-4, 1e-3]
    merged = chosen.among[0].start
    assert isinstance(merged, Merge) and merged.method == "ties"
    assert merged.parts[0] == models(plan, "mini-ner").among[0].start
    seen: set[str] = set()
    for stage in plan.stages:
        assert all(isinstance(start, Pretrained) or start.key in seen for start in parents(stage))
        seen.add(stage.key)
    every = planned(intermediates=["soup"], seeds=[1, 2], merges={"soup": {"of": ["mini-ner"], "seeds": "all"}})
    stages = [stage for stage in every.stages if isinstance(stage, Merge)]
    assert [[part.seed for part in stage.parts if isinstance(part, Train)] for stage in stages] == [[1, 2]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"intermediates": ["mini-ner > none"]}, '"none" is no step of a chain'),
        ({"intermediates": ["mini-ner > mini-aq"]}, 'did you mean "mini-qa"'),
        ({"intermediates": ["target > mini-ner"]}, "the model would lose its head"),
        ({"intermediates": ["mini-ner:xx"]}, 'no language "xx"'),
        ({"intermediates": ["mini-ner:own"]}, 'only "target:own"'),
        ({"mixes": {"x": {"tasks": ["mini-ner"]}}}, 'mixes.x: "intermediates" does not name it'),
        ({"mixes": {"target": {"tasks": ["mini-ner"]}}}, "mixes.target: not a name"),
        ({"intermediates": ["x"], "mixes": {"x": {"tasks": ["mini-ner"], "text_rate": 0.1}}}, "needs raw text and a task"),
        ({"intermediates": ["x"], "mixes": {"x": {"tasks": ["target:own"], "split": "test"}}}, 'split "test" of mini-pos is scored'),
        ({"intermediates": ["x"], "merges": {"x": {"of": ["x", "mini-ner"]}}}, "merges.x: it is made of itself"),
        ({"intermediates": ["x"], "merges": {"x": {"of": ["mini-ner"]}}}, "merges.x.of: give two chains or more"),
        ({"intermediates": ["x"], "merges": {"x": {"of": ["target", "mini-ner"]}}}, "trains the target"),
        ({"mixes": {"x": {"tasks": ["mini-ner"], "sampling": "fair"}}}, "mixes.x.sampling: expected"),
        ({"mixes": {"x": {"tasks": ["mini-ner"], "exponent": 0.0}}}, "mixes.x.exponent: expected more than 0"),
        ({"search": {"mini-pos": {"lr": [1e-4]}}}, "search.mini-pos.lr: give two or more"),
        ({"retrieval": {"layer": "middle"}}, "retrieval.layer: expected"),
        ({"recipe": {"average": 2}}, "recipe.average: the mean is over states at selections"),
    ],
)
def test_regimes_that_make_no_sense_are_refused_in_one_line(planned: Any, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises((StudyError, DataError), match=said):
        planned(**wrong)


def test_retrieval_takes_the_papers_layer_unless_another_is_named(planned: Any) -> None:
    def predicts(**changes: Any) -> set[tuple[str, str]]:
        return {(cell.predict.layer, cell.predict.pool) for cell in planned(targets=["mini-retrieval"], languages=["de"], **changes).cells}

    assert predicts() == {("14/24", "")}
    assert predicts(retrieval={"layer": "last"}) == {("", "")}  # as before there was a choice: the keys of older stores
    assert predicts(retrieval={"layer": "1", "pool": "first"}) == {("1", "first")}
    assert predicts(encoders={"m": {"path": "m", "layer": 1}}) == {("", "")}


# ---- what the stages do ----


def stage_of(method: Any, weights: tuple[float, ...], scale: float = 1.0, density: float = 1.0) -> Merge:
    return Merge(Pretrained("w"), tuple(Pretrained(str(i)) for i in weights), weights, method, scale, density, Runtime())


BASE = {"a": torch.tensor([1.0, 1.0, 1.0, 1.0]), "b": torch.tensor([[0.0, 2.0]]), "ids": torch.tensor([0, 1])}
ONE = {"a": torch.tensor([5.0, 0.0, 1.5, 1.0]), "b": torch.tensor([[3.0, 2.0]]), "ids": torch.tensor([0, 1])}
TWO = {"a": torch.tensor([3.0, 7.0, 0.0, 1.0]), "b": torch.tensor([[-1.0, 2.5]]), "ids": torch.tensor([0, 1])}


def test_merging_by_hand() -> None:
    """Task vectors: one [4, -1, .5, 0 | 3, 0], two [2, 6, -1, 0 | -1, .5]."""
    found = merge.merged(stage_of("average", (1.0, 3.0)), BASE, [ONE, TWO])
    torch.testing.assert_close(found["a"], torch.tensor([3.5, 5.25, 0.375, 1.0]))
    assert torch.equal(found["ids"], BASE["ids"])
    found = merge.merged(stage_of("arithmetic", (1.0, 1.0), 0.5), BASE, [ONE, TWO])
    torch.testing.assert_close(found["a"], torch.tensor([4.0, 3.5, 0.75, 1.0]))
    torch.testing.assert_close(found["b"], torch.tensor([[1.0, 2.25]]))
    # the half of each whole vector that is largest: one keeps 4, -1, 3; two keeps 2, 6 and both entries of size 1
    # signs of the sums: + + - . | + .; means over those that agree: 3, 6, -1 | 3
    found = merge.merged(stage_of("ties", (1.0, 1.0), 1.0, 0.5), BASE, [ONE, TWO])
    torch.testing.assert_close(found["a"], torch.tensor([4.0, 7.0, 0.0, 1.0]))
    torch.testing.assert_close(found["b"], torch.tensor([[3.0, 2.0]]))


def test_the_mean_of_the_last_states_and_the_best_state() -> None:
    layer, state, kept = torch.nn.Linear(1, 1, bias=False), State(), {}
    steps = keep.averaged(2, frozenset((1, 2, 3)))
    assert steps == (2, 3)
    for step, weight in ((1, 8.0), (2, 2.0), (3, 4.0)):
        torch.nn.init.constant_(layer.weight, weight)
        state.step = step
        kept = keep.after(kept, layer, state, 50.0, steps, 3)
    assert float(kept["weight"]) == 3.0
    # fewer steps than selections: no state before the first step is waited for, or the mean would be too small
    assert keep.averaged(3, training._selection_steps(2, 4)) == (1, 2)
    kept, state = {}, State()
    for step, score in ((1, 5.0), (2, 9.0), (3, 7.0)):
        torch.nn.init.constant_(layer.weight, step)
        state.step = step
        kept = keep.after(kept, layer, state, score, (), 3)
    assert (float(kept["weight"]), state.best_step) == (2.0, 2)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_what_is_frozen_keeps_its_weights_to_the_bit(tmp_path: Path, decay: float) -> None:
    from test_engine import fit

    start = make_model(tmp_path / "m")
    recipe = Recipe(lr=3e-3, steps=4, batch=8, max_length=24, weight_decay=decay, freeze_embeddings=True, freeze_layers=1)
    _, out = fit(toy_task("classify"), start, tmp_path / "d", recipe)
    before, after = hf.load_encoder(start).state_dict(), hf.load_encoder(out / "encoder").state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and all(name.startswith("encoder.layer.1.") for name in changed)
    with pytest.raises(ModelError, match="freeze_layers = 9: this xlm-roberta encoder has 2 layers"):
        hf.freeze(hf.load_encoder(start), False, 9)


def test_the_layer_is_the_best_on_dev_and_the_lowest_of_equals() -> None:
    assert best_layer([{"layer_0": 50.0, "layer_1": 40.0, "seconds": 99.0}, {"layer_0": 10.0, "layer_1": 30.0, "seconds": 99.0}]) == 1
    assert best_layer([{"layer": 0, "layer_2": 7.0, "layer_10": 7.0}]) == 2


def tatoeba(folder: Path, language: str, rows: int = 40) -> None:
    (folder / "tatoeba" / "v1").mkdir(parents=True, exist_ok=True)
    for end in ("eng", language):
        path = folder / "tatoeba" / "v1" / f"tatoeba.{language}-eng.{end}"
        path.write_text("".join(f"{end} sentence {i}\n" for i in range(rows)))


def test_a_layer_is_chosen_on_dev_rows_that_are_not_scored(planned: Any, tmp_path: Path) -> None:
    from xstilts.rows import load

    for code in ("deu", "fra"):
        tatoeba(tmp_path, code)
    study = {"targets": ["tatoeba"], "languages": ["de", "fr"], "retrieval": {"layer": "dev"}, "splits": {"tatoeba": {"dev": "test"}}}
    plan = planned(**study)
    german, french = (cell.predict for cell in plan.cells)
    assert german.layer == "dev" and german.chosen_on == french.chosen_on
    assert [(rows.part, rows.language, rows.cut) for rows in german.chosen_on] == [("dev", "de", (0, 0.5)), ("dev", "fr", (0, 0.5))]
    assert (german.rows.part, german.rows.cut) == ("test", (0.5, 1))
    chosen, scored = ({e.group for e in load(rows, tmp_path)} for rows in (german.chosen_on[0], german.rows))
    assert chosen and scored and not chosen & scored and len(chosen | scored) == 40
    assert [stage.key for stage in plan.stages if stage not in (german, french)] == [stage.key for stage in german.choosers]
    assert plan.data_lines[-1] == "layer of tatoeba, chosen on dev: tatoeba test, groups 0.00-0.50 of all rows [de fr]"
    (tmp_path / "tatoeba/v1/tatoeba.deu-eng.deu").unlink()
    plan = planned(**{**study, "languages": ["fr"]})
    assert [rows.language for rows in plan.cells[0].predict.chosen_on] == ["fr"]


def test_a_layer_may_be_chosen_on_the_dev_rows_of_another_task(planned: Any, tmp_path: Path) -> None:
    for code in ("deu", "fra"):
        tatoeba(tmp_path, code)
    base = tmp_path / "bucc2018" / "de-en"
    base.mkdir(parents=True)
    for end, text in (("de", "de-1\teins\n"), ("en", "en-1\tone\n"), ("gold", "de-1\ten-1\n")):
        (base / f"de-en.sample.{end}").write_text(text)
    (german, french) = (
        cell.predict
        for cell in planned(targets=["tatoeba"], languages=["de", "fr"], retrieval={"layer": "dev", "dev": "bucc2018"}).cells
    )
    (rows,) = german.chosen_on
    assert (rows.task, rows.split, rows.language, german.rows.cut) == ("bucc2018", "dev", "de", (0, 1))
    assert german.rows in rows.without and french.chosen_on == german.chosen_on


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, r'"tatoeba" has no dev rows to choose a layer on; name a split for them under \[splits.tatoeba\] dev \("test" is cut'),
        (
            {"part": "dev", "targets": ["mini-retrieval"], "splits": {"mini-retrieval": {"dev": "test"}}},
            "needs dev rows apart from the scored ones",
        ),
        ({"retrieval": {"layer": "dev", "dev": "mini-pos"}}, 'retrieval.dev: "mini-pos" is no retrieval task'),
        ({"retrieval": {"layer": "dev", "dev": "lareqa"}}, 'retrieval.dev: "lareqa" has no dev part'),
        ({"retrieval": {"layer": "dev", "dev": "bucc"}}, 'retrieval.dev: no task "bucc"'),
        ({"retrieval": {"layer": "dev", "dev": "bucc2018"}}, "bucc2018 dev, which chooses it, is not at hand in de fr ru zh. Get bucc"),
        ({"retrieval": {"layer": "last", "dev": "bucc2018"}}, 'chooses a layer where layer = "dev", and it is "last"'),
    ],
)
def test_a_layer_without_dev_rows_is_refused(planned: Any, tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    tatoeba(tmp_path, "deu")
    with pytest.raises(StudyError, match=said) as caught:
        planned(**{"targets": ["tatoeba"], "languages": ["de"], "retrieval": {"layer": "dev"}, **wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_layer_that_dev_chose_is_the_one_that_test_is_scored_at(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    study = parse_study(
        {
            "name": "s", "models": ["m"], "targets": ["mini-retrieval"], "seeds": [1, 2], "languages": ["de", "sw"],
            "intermediates": ["none", "mini-ner"], "encoders": {"m": {"path": "m"}}, "retrieval": {"layer": "dev"},
            "splits": {"mini-retrieval": {"dev": "test"}}, "recipe": SHORT,
            "caps": {"all": {"train": 40, "dev": 20, "test": 30}},
        }
    )  # fmt: skip
    plan = make_plan(study, tmp_path, file_hash, base=tmp_path)
    store = Store.open(tmp_path / "store")
    outcome = run(plan.stages, plan.where, store, tmp_path, jobs=1, offline=True)
    assert not outcome.failed and outcome.run == len(plan.stages)
    for cell in plan.cells:
        dev = [json.loads((store.entry(each.key) / "facts.json").read_text()) for each in cell.predict.choosers]
        facts = json.loads((store.entry(cell.predict.key) / "facts.json").read_text())
        means = [sum(each[f"layer_{layer}"] for each in dev) / len(dev) for layer in range(3)]
        assert len(dev) == 2 and facts["layer"] == means.index(max(means))
    assert from_plain(plain(plan.cells[0].predict)) == plan.cells[0].predict
    lines = list(cli._layers(plan, {stage.key: store.manifest(stage.key) or {} for stage in plan.stages}))
    assert len(lines) == 2 and all(", which is reported, chosen on dev: mini-retrieval test, groups 0.00-0.50" in line for line in lines)
    assert run(plan.stages, plan.where, store, tmp_path, jobs=1, offline=True).run == 0


def test_mining_finds_pairs_and_leaves_the_others_alone() -> None:
    draw = torch.Generator().manual_seed(3)
    examples, vectors = [], []
    for i in range(40):
        vector = torch.randn(16, generator=draw)
        translated = i % 4 == 0
        examples += [Parallel(f"q{i}", f"text {i}", "query", f"c{i}" if translated else None), Parallel(f"c{i}", f"other {i}", "candidate")]
        vectors += [vector, vector + 0.05 * torch.randn(16, generator=draw) if translated else torch.randn(16, generator=draw)]
    limit = retrieve.threshold(vectors, examples)
    for threshold in (limit, None):
        answered = retrieve.mined(vectors, examples, threshold)
        assert [a.pred for a in answered] == [(f"c{i}",) if i % 4 == 0 else () for i in range(40)]
        assert [gold_of(e) for e in examples if e.role == "query"] == [a.pred for a in answered]
    twice = [*examples, Parallel("q0 again", "text 0", "query", "c0")]
    assert retrieve.mined([*vectors, vectors[0]], twice, limit)[-1].pred == ()  # a text stands once


def test_mining_is_tuned_on_dev_where_it_is_labelled(planned: Any, tmp_path: Path) -> None:
    for folder, split in (("de-en", "sample"), ("de-en", "training")):
        base = tmp_path / "bucc2018" / folder
        base.mkdir(parents=True, exist_ok=True)
        for end, text in (("de", "de-1\teins\n"), ("en", "en-1\tone\n"), ("gold", "de-1\ten-1\n")):
            (base / f"de-en.{split}.{end}").write_text(text)
    (cell,) = planned(targets=["bucc2018"], languages=["de"]).cells
    assert cell.predict.tune is not None and (cell.predict.tune.split, cell.predict.rows.split) == ("dev", "test")
    (cell,) = planned(targets=["bucc2018"], languages=["de"], splits={"bucc2018": {"test": "dev"}}).cells
    assert cell.predict.tune is None


def test_raw_text_drops_what_is_scored(tmp_path: Path) -> None:
    for folder, text in (("own", "A fine day.\n\nWho was it?\n"), ("wiki_contexts_unlabelled", "A test input.\n")):
        (tmp_path / "text" / folder).mkdir(parents=True)
        (tmp_path / "text" / folder / "en.txt").write_text(text)
    (tmp_path / "xnli").mkdir()
    (tmp_path / "xnli" / "test-en.tsv").write_text("Who was it\tnobody\tneutral\n")
    source = find_task("text").source
    assert [e.text for e in source.read(tmp_path, "train", "en")] == ["A fine day."]
    assert tmp_path / "xnli" / "test-en.tsv" in source.files(tmp_path, "train", "en")
    with pytest.raises(DataError, match='no text in "de" under'):
        source.files(tmp_path, "train", "de")


@pytest.mark.slow
def test_a_study_of_regimes_runs_to_its_scores(tmp_path: Path) -> None:
    """Study file -> plan -> worker processes -> store -> scores."""
    make_model(tmp_path / "m")
    study = parse_study(
        {
            "name": "s", "models": ["m"], "targets": ["mini-pos", "mini-retrieval"], "seeds": [1], "languages": ["en", "de"],
            "intermediates": ["none", "mini-ner > beside", "soup", "texts", "target > few"], "encoders": {"m": {"path": "m"}},
            "mixes": {
                "beside": {"tasks": ["mini-ner:de", "target"], "sampling": "uniform"},
                "texts": {"tasks": ["mini-ner", "mini-text:sw", "mini-text:de"], "text_rate": 0.5},
                "few": {"tasks": ["target:own"], "rows": 10, "split": "dev"},
            },
            "merges": {"soup": {"of": ["mini-ner", "mini-pos"], "method": "ties"}},
            "search": {"mini-pos": {"lr": [1e-4, 1e-3]}}, "recipe": SHORT, "recipes": {"mini-ner": {"selections": 2, "average": 2}},
            "caps": {"all": {"train": 40, "dev": 10, "test": 10}}, "keep": "best", "forgetting": True,
        }
    )  # fmt: skip
    plan = make_plan(study, tmp_path, file_hash, base=tmp_path)
    store = Store.open(tmp_path / "store")
    outcome = run(plan.stages, plan.where, store, tmp_path, jobs=1, offline=True)
    assert not outcome.failed and outcome.run == len(plan.stages)
    kept, lost = forgetting(plan.remembered, store.find, find_task, np.random.default_rng(0), 20)
    assert {(row.intermediate, row.task) for row in kept} == {("mini-ner > beside", "mini-ner"), ("texts", "mini-ner")} and not lost
    results = load_scores(plan.cells, store.find, find_task)
    assert not results.missing and len(results.results) == len(plan.cells)
    (choice,) = {stage for stage in plan.stages if isinstance(stage, Choose) and isinstance(stage.among[0].start, Pretrained)}
    facts = json.loads((store.entry(choice.key) / "facts.json").read_text())
    assert facts["chosen"] in {train.key for train in choice.among} and facts["search_seconds"] > 0
    retrieval = next(cell.predict for cell in plan.cells if cell.target == "mini-retrieval" and cell.intermediate == "none")
    facts = json.loads((store.entry(retrieval.key) / "facts.json").read_text())
    assert facts["layer"] == 1 and {"layer_0", "layer_1", "layer_2"} <= facts.keys()
    assert run(plan.stages, plan.where, store, tmp_path, jobs=1, offline=True).run == 0
