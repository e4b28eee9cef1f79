"""Ways of tuning: what each trains and stores, phase after phase, on tiny encoders of three families."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fake_engine
from engine_maker import make_model, make_tokenizer, rows_of, toy_rows, toy_task
from families_maker import make
from study_maker import file_hash, planner
from test_parallel import PLAIN, STUDY, same
from test_parallel import planned as planned_in_parallel
from xstilts.deploy.find import find
from xstilts.engine import adapters, classify, hf, merge, packed, prompts
from xstilts.engine import train as training
from xstilts.engine.batch import batch_of
from xstilts.engine.predict import predict
from xstilts.engine.train import train
from xstilts.errors import ModelError, Stopped, StudyError
from xstilts.needs import Counts, need, shapes
from xstilts.plan import Plan, make_plan
from xstilts.run import apply_keep, needed, run, weights_to_drop
from xstilts.scores import load as load_scores
from xstilts.stages import (
    ALONE,
    Choose,
    Layout,
    Makeup,
    Merge,
    Predict,
    Pretrained,
    Recipe,
    Runtime,
    Share,
    Start,
    Train,
    makeup,
    stands_on,
)
from xstilts.store import Store
from xstilts.study import parse_study
from xstilts.tasks import task as find_task

FAMILIES = ("xlm-roberta", "bert", "llama")
SLOW = [pytest.param(way, marks=pytest.mark.slow) for way in ("lora", "qlora")]  # peft and bitsandbytes take seconds to load
RECIPE = Recipe(lr=3e-3, steps=6, batch=8, max_length=24, stride=4, dropout=0.1, weight_decay=0.1, rank=4, alpha=8.0, prompt_length=3)
TASK = toy_task("classify")
LORA = ("lora_A.weight", "lora_B.weight")
SUFFIXES = {"lora": LORA, "qlora": LORA, "prompt": (".key", ".value"), "head": ()}


class Bench:
    """Trains stages of the toy task one after the other and remembers where each lies."""

    def __init__(self, folder: Path, family: str = "xlm-roberta") -> None:
        self.root, self.base = folder, Pretrained("toy", "mean" if family == "llama" else "first")
        self.folders = {self.base.key: make_model(folder / "base", family, positions=40)}
        self.changed: set[str] = set()  # the tensors that the last training changed, as it names them

    def weights(self, model: Start) -> adapters.Weights:
        return adapters.weights(model, lambda each: self.folders[each.key])

    def stage(self, start: Start | None = None, seed: int = 1, **recipe: object) -> Train:
        return Train(start or self.base, (Share(rows_of(TASK)),), (rows_of(TASK, "dev"),), replace(RECIPE, **recipe), seed, Runtime())

    def train(self, stage: Train, draft: str = "", halts: tuple[int, ...] = ()) -> Path:
        folder = self.root / (draft or stage.key[:12])
        given = list(TASK.source.read(Path(), "train", "en"))
        calls = iter(range(1000))

        def once(halt: int = 1000) -> None:
            start = self.weights(stage.start)
            stop = (lambda: next(calls) >= halt) if halts else (lambda: False)
            train(stage, start, lambda _: TASK, lambda _: given, folder, self.root / "cache", lambda _: None, stop)

        for halt in halts:
            with pytest.raises(Stopped):
                once(halt)
        once()
        self.folders[stage.key] = folder / "out"
        return folder / "out"

    def scores(self, model: Start) -> np.ndarray[Any, Any]:
        from pyarrow import parquet

        given = list(TASK.source.read(Path(), "test", "en"))
        asked = Predict(model, rows_of(TASK, "test"), 24, 4, Runtime())
        out = self.root / f"answers-{model.key[:12]}"
        predict(asked, self.weights(model), TASK, lambda _: given, out, self.root / "cache")
        found = parquet.read_table(out / "predictions.parquet").to_pydict()["scores"]
        return np.asarray(found)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """`before` and `whole`: the weights before the first step of the last training, and what is trained."""
    seen: dict[str, Any] = {}
    optimizer = training._optimizer

    def watch(whole: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
        seen["whole"], seen["before"] = whole, {name: value.detach().clone() for name, value in whole.named_parameters()}
        return optimizer(whole, recipe)

    monkeypatch.setattr(training, "_optimizer", watch)
    yield seen


def states(encoder: Any) -> Tensor:
    """Hidden states of the toy rows, without training's dropout."""
    made = classify.encode(make_tokenizer(), toy_rows("classify"), TASK, 24, 0)
    with torch.no_grad():
        return hf.hidden_states(encoder.eval(), batch_of(made, np.arange(len(made.example)), "cpu"))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("family", [FAMILIES[0], *(pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES[1:])])
@pytest.mark.parametrize("way", [*SLOW, "prompt", "head"])
def test_two_phases_train_and_store_what_the_way_of_tuning_says(tmp_path: Path, watched: dict[str, Any], family: str, way: str) -> None:
    bench = Bench(tmp_path, family)
    first = bench.stage(tuning=way)
    start = (bench.folders[bench.base.key] / "model.safetensors").read_bytes()
    models = [first]
    for adapter in {"prompt": ("continue", "fresh"), "head": ("merge",)}.get(way, ("continue", "fresh", "merge")):
        models.append(bench.stage(first, seed=2, tuning=way, adapter=adapter))
    for stage in models:
        out = bench.train(stage)
        changed = {n for n, p in watched["whole"].named_parameters() if not torch.equal(p, watched["before"][n])}
        names = [name for path in out.glob("adapter/*.safetensors") for name in load_file(path)]
        stored = {f"encoder.{name.removeprefix('base_model.model.')}" for name in names}
        assert all(name.endswith(SUFFIXES[way]) for name in stored) and bool(stored) == (way != "head")
        encoders = {name for name in changed if name.startswith("encoder.")}
        number = 1 if stage.recipe.adapter == "fresh" and stage != first else 0
        assert {name.replace(f".adapter{number}", "") for name in encoders} == stored  # its own adapter, all of it, and no more
        assert {name for name in changed if name.startswith("heads.")} == {n for n in watched["before"] if n.startswith("heads.")}
        own = {"lora": ("adapter_config.json", "adapter_model.safetensors"), "prompt": ("prompts.json", "prompts.safetensors"), "head": ()}
        expected = {f"adapter/{name}" for name in own.get(way, own["lora"])}
        assert files(out) == {"log.json", "heads/toy-classify.json", "heads/toy-classify.safetensors", *expected}
        log = json.loads((out / "log.json").read_text())
        assert log["trained"] == sum(watched["before"][n].numel() for n in changed) < log["parameters"]
        if way == "qlora":
            layers = [m for m in watched["whole"].modules() if type(m).__name__ == "Linear4bit" and hasattr(m, "quant_storage")]
            assert len(layers) >= 12 and all(layer.weight.dtype == torch.uint8 for layer in layers)
    assert (bench.folders[bench.base.key] / "model.safetensors").read_bytes() == start
    assert all(np.isfinite(bench.scores(stage)).all() for stage in models)
    found = [states(adapters.loaded(bench.weights(stage))) for stage in models]
    if way == "head":
        assert torch.equal(found[0], found[1])
        return
    if way == "lora":  # W + B A in one matrix or beside each other: the same model, trained alike
        torch.testing.assert_close(found.pop(), found[-1], atol=1e-4, rtol=1e-4)
    assert all(float((one - two).abs().max()) > 1e-4 for i, one in enumerate(found) for two in found[:i])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", SLOW)
def test_lora_in_the_weights_answers_as_lora_on_them_does(tmp_path: Path, family: str, way: str) -> None:
    bench = Bench(tmp_path, family)
    first = bench.stage(tuning=way)
    second, third = bench.stage(first, tuning=way, adapter="fresh"), bench.stage(first, tuning=way, adapter="merge")
    for stage in (first, second, third):
        bench.train(stage)
        model = bench.weights(stage)
        standing = states(adapters.loaded(model))
        assert not torch.allclose(standing, states(hf.load_encoder(model.encoder)), atol=1e-3)
        torch.testing.assert_close(states(adapters.folded(model)), standing, atol=1e-5, rtol=1e-5)
    # a fresh adapter has no effect before its first step; one that is trained on begins where it stood
    model = bench.weights(second)
    for adapter in ("fresh", "continue", "merge"):
        encoder, _ = adapters.prepared(model, replace(RECIPE, tuning=way, adapter=adapter), "fp32", torch.Generator().manual_seed(0))
        begins, stood = states(encoder), states(adapters.loaded(model))
        if way == "lora" or adapter != "merge":
            torch.testing.assert_close(begins, stood, atol=1e-5, rtol=1e-5)
        else:  # weights of four bits are rounded anew when an adapter has been put into them
            assert torch.nn.functional.cosine_similarity(begins.flatten(), stood.flatten(), 0) > 0.98


ADAPTER = ("continue", "fresh", "merge")
PHASES = [  # soft prompts cannot be merged, a head alone has no adapter
    *(pytest.param(way, adapter, marks=pytest.mark.slow) for way in ("lora", "qlora") for adapter in ADAPTER),
    *(("prompt", "continue"), ("prompt", "fresh"), ("head", "continue")),
]


@pytest.mark.parametrize(("way", "adapter"), PHASES)
def test_a_stopped_training_goes_on_to_the_same_bits_from_a_small_state(tmp_path: Path, way: str, adapter: str) -> None:
    bench = Bench(tmp_path)
    first = bench.stage(tuning=way)
    bench.train(first)
    second = bench.stage(first, seed=2, tuning=way, adapter=adapter, selections=2)
    resumed = bench.train(second, "halted", halts=(2, 4))
    (state,) = (tmp_path / "halted/state").glob("*.safetensors")
    with safe_open(state, "pt") as held:
        names = {name.partition("/")[2] for name in held.keys() if name.startswith(("weights/", "best/"))}  # noqa: SIM118
    assert names and all(".adapter" in name or name.startswith("heads.") for name in names)
    whole = bench.train(second)
    for name in sorted(files(whole) - {"log.json"}):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's, of transformers
def test_the_files_are_those_of_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    bench = Bench(tmp_path)
    stage = bench.stage(tuning="lora")
    out = bench.train(stage)
    theirs = PeftModel.from_pretrained(hf.load_encoder(bench.folders[bench.base.key]), out / "adapter")
    torch.testing.assert_close(states(theirs.get_base_model()), states(adapters.loaded(bench.weights(stage))))
    targets = json.loads((out / "adapter/adapter_config.json").read_text())["target_modules"]
    assert sorted(targets) == ["dense", "key", "query", "value"]


@pytest.mark.slow
def test_full_tuning_goes_on_from_an_adapter_in_the_weights(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.stage(tuning="lora")
    bench.train(first)
    second = bench.stage(first, lr=1e-30, weight_decay=0.0)
    out = bench.train(second)
    standing = states(adapters.loaded(bench.weights(first)))
    torch.testing.assert_close(states(hf.load_encoder(out / "encoder")), standing, atol=1e-5, rtol=1e-5)
    assert not (out / "adapter").exists()


@pytest.mark.slow
def test_models_with_adapters_are_merged_and_chosen(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    one, two = (bench.stage(tuning="lora", lr=lr) for lr in (1e-3, 3e-3))
    logs = [json.loads((bench.train(stage) / "log.json").read_text()) for stage in (one, two)]
    chosen = Choose((one, two), Runtime())
    (tmp_path / "chosen").mkdir()
    merge.choose(chosen, [bench.folders[one.key], bench.folders[two.key]], tmp_path / "chosen")
    bench.folders[chosen.key] = tmp_path / "chosen"
    best = one if logs[0]["dev"] >= logs[1]["dev"] else two
    np.testing.assert_array_equal(bench.scores(chosen), bench.scores(best))

    soup = Merge(bench.base, (one, two), (1.0, 1.0), "average", 1.0, 1.0, Runtime())
    merge.merge(soup, bench.weights(bench.base), [bench.weights(one), bench.weights(two)], tmp_path / "soup")
    name = "encoder.layer.0.output.dense.weight"
    whole = [adapters.folded(bench.weights(stage)).state_dict()[name] for stage in (one, two)]
    torch.testing.assert_close(hf.load_encoder(tmp_path / "soup/encoder").state_dict()[name], (whole[0] + whole[1]) / 2)


def test_soft_prompts_are_not_put_into_weights(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    stage = bench.stage(tuning="prompt", steps=1)
    bench.train(stage)
    with pytest.raises(ModelError, match="soft prompts are no weights"):
        adapters.folded(bench.weights(stage))


@pytest.mark.parametrize("way", [pytest.param("lora", marks=pytest.mark.slow), "prompt"])
def test_an_adapter_of_another_base_or_a_broken_one_is_refused(tmp_path: Path, way: str) -> None:
    bench = Bench(tmp_path)
    stage = bench.stage(tuning=way, steps=1)
    folder = bench.train(stage) / "adapter"
    model = bench.weights(stage)
    with pytest.raises(ModelError, match=f"this adapter is of another base: it was trained on {bench.base.key[:12]}, and this is 0123"):
        adapters.loaded(replace(model, base="0123"))
    (weights,) = folder.glob("*.safetensors")
    tensors = load_file(weights)
    name = min(tensors)
    save_file({key: value for key, value in tensors.items() if key != name}, weights)
    with pytest.raises(ModelError, match="is of another base: .* does not fit"):
        adapters.loaded(model)
    save_file({**tensors, name: tensors[name][:, :1].contiguous()}, weights)
    with pytest.raises(ModelError, match="is of another base: .* does not fit"):
        adapters.loaded(model)
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(ModelError, match="cannot be read as an adapter"):
        adapters.loaded(model)


# ---- soft prompts ----


def test_prompts_stand_before_every_row_and_get_the_gradients_of_attention_row_by_row() -> None:
    lengths = np.array([40, 39, 12, 12, 1])
    plan = packed.layout(lengths, "cpu")
    draw = torch.Generator().manual_seed(0)
    count = int(lengths.sum())
    values = [torch.randn(1, 2, count, 4, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weight = torch.randn(1, count, 2, 4, generator=draw, dtype=torch.float64)
    module = nn.Module()
    module.prompts = nn.ModuleDict({f"adapter{i}": prompts.Prompt(2, 3 - i, 4).double() for i in range(2)})
    learnt = [p for each in module.prompts.values() for p in (each.key, each.value)]
    for tensor in learnt:
        nn.init.normal_(tensor, generator=draw)

    def gradients(mixed: Tensor) -> list[Tensor]:
        return [mixed.detach(), *torch.autograd.grad((mixed * weight).sum(), [*values, *learnt])]

    ours = gradients(packed.attention(module, *values, None, packed=plan)[0])
    keys, held = prompts.prefix_of(module, 2) or ()
    assert keys.shape == (2, 5, 4)
    rows = [x.split(lengths.tolist(), dim=2) for x in values]
    plain = [
        nn.functional.scaled_dot_product_attention(q, torch.cat([keys[None], k], 2), torch.cat([held[None], v], 2))
        for q, k, v in zip(*rows, strict=True)
    ]
    theirs = gradients(torch.cat(plain, dim=2).transpose(1, 2))
    flat = [x[0].transpose(0, 1) * f for x, f in zip(values, (0.5, 1, 1), strict=True)]
    fused = gradients(packed._fused(*flat, plan, None, *(prompts.prefix_of(module, 2) or ()))[None])
    for one, other, third in zip(ours, theirs, fused, strict=True):
        torch.testing.assert_close(one, other, check_dtype=False, atol=1e-5, rtol=1e-5)  # prompts' sums over rows are fp32
        torch.testing.assert_close(third, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours_and_padding_do_not_move_an_answer_with_prompts(tmp_path: Path, family: str) -> None:
    encoder, name = adapters.prepared(
        adapters.weights(Pretrained("m"), lambda _: make_model(tmp_path / "m", family)), replace(RECIPE, tuning="prompt"), "fp32",
        torch.Generator().manual_seed(3),
    )  # fmt: skip
    assert name == "adapter0" and sum(p.requires_grad for p in encoder.parameters()) == 4
    made = classify.encode(make_tokenizer(), toy_rows("classify"), TASK, 24, 0)
    rows = np.argsort(-made.lengths, kind="stable")
    with torch.no_grad():
        whole = hf.hidden_states(encoder.eval(), batch_of(made, rows, "cpu")).split(made.lengths[rows].tolist())
        for row, own in zip(rows, whole, strict=True):
            torch.testing.assert_close(hf.hidden_states(encoder, batch_of(made, np.array([row]), "cpu")), own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("way", [*SLOW, "prompt"])
def test_every_way_trains_and_answers_in_bf16(tmp_path: Path, way: str) -> None:
    bench = Bench(tmp_path)
    stage = replace(bench.stage(tuning=way), runtime=Runtime("bf16"))
    bench.train(stage)
    found = states(adapters.loaded(bench.weights(stage)))
    with hf.autocast("cpu", "bf16"):
        torch.testing.assert_close(states(adapters.loaded(bench.weights(stage), "bf16")).float(), found, atol=0.1, rtol=0.1)
    assert float((found - states(hf.load_encoder(bench.folders[bench.base.key]))).abs().max()) > 1e-3


def test_padded_rows_with_prompts_get_the_states_of_packed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapters.weights(Pretrained("m"), lambda _: make_model(tmp_path / "m"))
    recipe = replace(RECIPE, tuning="prompt")
    found = []
    for packs in (hf.packs, lambda _: False):
        monkeypatch.setattr(hf, "packs", packs)
        found.append(states(adapters.prepared(model, recipe, "fp32", torch.Generator().manual_seed(3))[0]))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_families_whose_attention_takes_no_prompts_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapters.weights(Pretrained("m"), lambda _: make_model(tmp_path / "m"))
    said = 'the attention of xlm-roberta does not go through .* use "lora"'

    def asked() -> None:
        adapters.prepared(model, replace(RECIPE, tuning="prompt"), "fp32", torch.Generator())

    with monkeypatch.context() as patch, pytest.raises(ModelError, match=said):
        patch.setattr(packed, "prefix_of", lambda *_: None)  # one that leaves them without effect
        asked()
    load = hf.load_encoder

    def bare(*given: Any, **more: Any) -> Any:
        encoder = load(*given, **more)
        for module in encoder.modules():
            vars(module).pop("is_causal", None)
        return encoder

    monkeypatch.setattr(hf, "load_encoder", bare)
    with pytest.raises(ModelError, match=said):
        asked()


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "way"), [("ddp", "lora"), ("fsdp", "prompt")])
def test_two_processes_train_an_adapter_as_one(tmp_path: Path, parallel: Any, way: str) -> None:
    stages, places = planned_in_parallel(tmp_path, **PLAIN, recipe={**STUDY["recipe"], "tuning": way, "selections": 2})
    stores = [Store.open(tmp_path / name) for name in ("one", "two")]
    for store, layout in zip(stores, (ALONE, Layout(2, parallel, micro_tokens=100)), strict=True):
        assert not run(stages, places, store, tmp_path, jobs=1, offline=True, layout=layout).failed
    same(stores[1], stores[0], *stages)


@pytest.mark.slow
def test_the_benchmark_of_trimming_runs_on_a_small_encoder() -> None:
    script = Path(__file__).parents[1] / "benchmarks/trimming.py"
    small = "--steps 3 --repeats 1 --precision fp32 --task mini-nli --split train --vocabulary 5000 --hidden 16 --layers 1 --heads 2"
    done = subprocess.run([sys.executable, script, *small.split(), "--batch", "4", "--threads", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole, trimmed, ratio = done.stdout.splitlines()[-3:]
    assert "no: to compare with" in whole and re.search(r"\d+ of 5,000 embedding rows", trimmed)
    losses = [line.rpartition("loss ")[2] for line in (whole, trimmed)]
    assert losses[0] == losses[1] and re.fullmatch(r"fp32 whole / trimmed: [\d.]+ x the time, [\d.]+ x the memory", ratio)


# ---- what a study says, and what lies in the store ----

SHORT = {"steps": 2, "batch": 4, "max_length": 24, "stride": 4, "prompt_length": 2, "rank": 2}


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    return planner(
        tmp_path, count=lambda rows: rows.cap or 400, intermediates=["none", "mini-ner"], targets=["mini-pos"], seeds=[1], languages=["en"]
    )


def models(plan: Plan) -> dict[str, Any]:
    return {cell.intermediate: cell.predict.model for cell in plan.cells}


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"tuning": "prompt"}, {"tuning": "prompt"}, 'which cannot be put into weights; use "continue" or "fresh"'),
        ({"tuning": "prompt"}, {}, 'which cannot be put into weights; go on with tuning = "prompt" or "head"'),
        ({"tuning": "lora"}, {"tuning": "qlora", "adapter": "fresh"}, 'is of tuning = "lora", not "qlora"; use "merge"'),
        ({"tuning": "lora"}, {"adapter": "continue"}, 'is of tuning = "lora", not "full"; use "merge"'),
        ({"tuning": "lora"}, {"tuning": "lora", "adapter": "continue", "rank": 4}, "starts with has rank 8, not 4"),
        ({"tuning": "prompt"}, {"tuning": "prompt", "adapter": "continue", "prompt_length": 4}, "starts with has prompt_length 16, not 4"),
    ],
)
def test_a_phase_that_cannot_go_on_from_the_adapter_is_refused_before_anything_runs(
    planned: Any, first: dict[str, Any], second: dict[str, Any], said: str
) -> None:
    with pytest.raises(StudyError) as caught:
        planned(recipes={"mini-ner": first, "mini-pos": second})
    assert said in str(caught.value) and str(caught.value).startswith('recipe of "mini-pos": adapter = ') and "\n" not in str(caught.value)


def test_soft_prompts_are_no_part_of_a_merge(planned: Any) -> None:
    with pytest.raises(StudyError, match="merges: mini-ner and mini-qa: soft prompts are no weights"):
        planned(intermediates=["soup"], merges={"soup": {"of": ["mini-ner", "mini-qa"]}}, recipes={"mini-ner": {"tuning": "prompt"}})


@pytest.mark.slow
def test_what_an_adapter_needs_is_reckoned_small(planned: Any, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    trained: dict[str, int] = {}
    for way in ("full", "lora", "prompt", "head"):
        plan = planned(recipe={"tuning": way, "rank": 2}, intermediates=["none"], caps={"all": {"train": 20, "dev": 10}})
        (stage,) = (each for each in plan.stages if isinstance(each, Train))
        (shape,) = shapes(plan, store).values()
        trained[way] = need(stage, shape, Counts(store, tmp_path), "cpu").trained
    assert trained["head"] < trained["lora"] < trained["prompt"] < trained["full"] / 2
    # two layers of 32: four square matrices and two of 32 x 64, keys and values of 16 places
    assert (trained["lora"] - trained["head"], trained["prompt"] - trained["head"]) == (2 * 2 * (4 * 64 + 2 * 96), 2 * 2 * 16 * 32)


def test_an_architecture_that_cannot_be_tuned_so_is_refused_by_the_plan(planned: Any, tmp_path: Path) -> None:
    make(tmp_path / "bloom", "bloom")
    with pytest.raises(StudyError, match=r'models: "m" \(BLOOM\) cannot be trained with tuning = "prompt": its attention does not'):
        planned(encoders={"m": {"path": "bloom"}}, recipe={"tuning": "prompt", "adapter": "fresh"})


def test_no_key_hangs_on_what_a_way_of_tuning_does_not_read(planned: Any) -> None:
    plain = models(planned())
    assert models(planned(recipe={"rank": 3, "alpha": 3.0, "prompt_length": 3})) == plain
    ways = [models(planned(recipe={"tuning": "lora", "adapter": adapter})) for adapter in ("merge", "continue", "fresh")]
    assert len({each["mini-ner"].key for each in ways}) == 3 and len({each["none"].key for each in ways}) == 1
    heads = [models(planned(recipe={"tuning": "head", "adapter": adapter}))["mini-ner"] for adapter in ("merge", "fresh")]
    assert heads[0] == heads[1]
    assert models(planned(recipe={"tuning": "lora", "rank": 4}))["none"].key != ways[0]["none"].key


def test_what_a_model_is_made_of() -> None:
    base = Pretrained("w")

    def after(start: Start, **recipe: object) -> Train:
        return Train(start, (Share(rows_of(TASK)),), (), Recipe(**recipe), 1, Runtime())

    full = after(base)
    one = after(full, tuning="lora")
    assert makeup(full) == Makeup(full) and makeup(base) == Makeup(base)
    assert makeup(one) == Makeup(full, ((one,),)) == makeup(after(one, tuning="head"))
    merged, goes_on, stacked = (after(one, tuning="lora", adapter=adapter) for adapter in ("merge", "continue", "fresh"))
    assert makeup(merged) == Makeup(full, ((one,), (merged,)))
    assert makeup(goes_on) == Makeup(full, ((goes_on,),))
    assert makeup(stacked) == Makeup(full, ((one, stacked),))
    last = after(stacked, tuning="lora", adapter="merge")
    assert makeup(last) == Makeup(full, ((one, stacked), (last,)))
    assert makeup(after(last)).base == after(last)
    chosen = Choose((merged, replace(merged, seed=2)), Runtime())
    assert makeup(chosen) == Makeup(full, ((one,), (chosen,)))
    assert [each.key for each in stands_on(Predict(chosen, rows_of(TASK), 8, 0, Runtime()))] == [full.key, one.key, chosen.key]


def test_what_an_adapter_stands_on_is_made_again_where_it_was_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With worker processes and a fake engine, as in test_run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))))
    store = Store.open(tmp_path / "store")
    base = fake_engine.train("base")
    low = fake_engine.train("low", base)
    low = replace(low, recipe=replace(low.recipe, tuning="lora"))
    high = fake_engine.train("high", low)
    high = replace(high, recipe=replace(high.recipe, tuning="lora", adapter="fresh"))
    stages = (base, low, high, fake_engine.predict(high))
    assert run(stages, {}, store, tmp_path, jobs=1, function="fake_engine:work").run == 4
    assert weights_to_drop(stages, store, "best") == () and set(weights_to_drop(stages, store, "none")) == {base.key, low.key, high.key}
    store.drop_weights(base.key)
    more = (*stages, fake_engine.predict(high, language="de"))
    assert [*needed(more, store)] == [base.key, more[-1].key]
    order: list[tuple[str, str]] = []

    def note(event: Any) -> None:
        order.append((type(event).__name__, event.stage.key))

    found = run(more, {}, store, tmp_path, jobs=2, function="fake_engine:work", on_event=note)
    assert not found.failed and found.run == 2
    assert order.index(("Ended", base.key)) < order.index(("Began", more[-1].key))
    goes_on = replace(high, recipe=replace(high.recipe, adapter="continue"))  # it has taken the place of `low`
    assert stands_on(fake_engine.predict(goes_on)) == (base, goes_on)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "adapter"), [("prompt", "fresh"), ("lora", "merge")])
def test_a_study_with_adapters_runs_to_its_scores_and_again_after_its_weights_are_gone(tmp_path: Path, way: str, adapter: str) -> None:
    make_model(tmp_path / "m")
    asked = {
        "name": "s", "models": ["m"], "targets": ["mini-pos", "mini-retrieval"], "seeds": [1], "languages": ["de"], "keep": "none",
        "intermediates": ["none", "mini-ner"], "encoders": {"m": {"path": "m"}}, "recipe": {**SHORT, "tuning": way, "adapter": adapter},
        "search": {"mini-pos": {"lr": [1e-4, 1e-3]}}, "caps": {"all": {"train": 40, "dev": 10, "test": 10}},
    }  # fmt: skip
    plan = make_plan(parse_study(asked), tmp_path, file_hash, base=tmp_path)
    store = Store.open(tmp_path / "store")
    outcome = run(plan.stages, plan.where, store, tmp_path, jobs=1, offline=True)
    assert not outcome.failed and outcome.run == len(plan.stages)
    results = load_scores(plan.cells, store.find, find_task)
    assert not results.missing and len(results.results) == len(plan.cells)
    trained = [stage for stage in plan.stages if isinstance(stage, Train | Choose)]
    for stage in trained:
        held = files(store.entry(stage.key))
        assert not any(name.startswith("encoder/") for name in held)
        assert {"adapter/README.md", "adapter/trained_on.json"} <= held
        card = (store.entry(stage.key) / "adapter/README.md").read_text()
        assert f"; {'soft prompts of length 2' if way == 'prompt' else 'lora of rank 2'}" in card
        with pytest.raises(ModelError, match=f'trained with tuning = "{way}", which stores no whole encoder'):
            find(stage.key, store.path, tmp_path, "cpu")
    assert apply_keep(plan.stages, store, "none") > 0
    assert not needed(plan.stages, store)
    wider = make_plan(parse_study({**asked, "languages": ["de", "es"]}), tmp_path, file_hash, base=tmp_path)
    again = needed(wider.stages, store)
    assert {stage.key for stage in trained} <= {*again}
    assert sum(isinstance(stage, Predict) for stage in again.values()) == len(wider.cells) // 2
    outcome = run(wider.stages, wider.where, store, tmp_path, jobs=1, offline=True)
    assert not outcome.failed and outcome.run == len(again)
