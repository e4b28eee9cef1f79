"""Finding a finished model and exporting it: what is written answers as the engine does, or nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import xstilts
from deploy_maker import DATA, LANGUAGES, ROWS, TASKS, every_kind, found_in, make_model_in
from xstilts.deploy import engines, graph
from xstilts.deploy.export import TOLERANCE, check, export, reference_of
from xstilts.deploy.find import Found, find, real_rows
from xstilts.deploy.spec import read_spec
from xstilts.engine.predict import logits
from xstilts.errors import ModelError, StoreError
from xstilts.tasks import task


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deploy") / "store"


@pytest.fixture(scope="module")
def keys(store: Path) -> dict[str, str]:
    return dict(every_kind(store))


def refused(words: str, function: Callable[..., object], *given: object) -> str:
    with pytest.raises((ModelError, StoreError), match=words) as error:
        function(*given)
    return str(error.value)


def test_a_model_is_found_by_its_key(store: Path, keys: dict[str, str]) -> None:
    found = found_in(store, keys["span"][:10])
    assert (found.spec.task, found.spec.kind, found.spec.max_length, found.spec.stride) == ("mini-qa", "span", 48, 8)
    assert list(real_rows(found, DATA, 5)) == list(LANGUAGES)
    assert [len(rows) for rows in real_rows(found, DATA, 5, ("ja",)).values()] == [5]
    scored = next(iter(found.scored.values()))
    assert found_in(store, scored.key).spec == replace(found.spec, name=scored.key)  # the key of predictions names their model
    refused('has no language "jp"; did you mean "ja"', real_rows, found, DATA, 5, ("jp",))
    refused("no such model", find, "0123456789", store, DATA, "cpu")
    refused("no such folder, and there is no store", find, "a/b", store.parent / "none", DATA, "cpu")
    refused("no deployment.json in this folder", find, str(store), store, DATA, "cpu")


def test_a_model_with_several_heads_asks_which(store: Path) -> None:
    key = make_model_in(store, ("mini-nli", "mini-paraphrase"))
    refused("say which with --task", found_in, store, key)
    refused('no head for mini-nl .*did you mean "mini-nli"', found_in, store, key, "mini-nl")
    assert found_in(store, key, "mini-paraphrase").spec.labels == task("mini-paraphrase").labels


def test_weights_that_were_dropped_are_named(tmp_path: Path) -> None:
    from xstilts.store import Store

    key = make_model_in(tmp_path / "store", ("mini-nli",))
    Store.open(tmp_path / "store").drop_weights(key)
    assert 'keep = "all"' in refused("weights of stage", found_in, tmp_path / "store", key)


@pytest.mark.parametrize("kind", TASKS)
def test_the_graph_over_padded_rows_is_the_engine_over_packed_ones(store: Path, keys: dict[str, str], kind: str) -> None:
    found = found_in(store, keys[kind])
    of = found.spec.known_task()
    rows = real_rows(found, DATA, ROWS)
    packed = engines.load(found)
    module = graph.graph_of(found.folder, found.spec, of)
    padded = engines.in_graph(engines.run_module(module), replace(found.spec, tolerance=1e-5), of, packed.tokenizer, "padded")
    checked = check(padded, rows, reference_of(found, rows, of))
    assert all(each.same == ROWS and each.reference == each.score for each in checked.values())
    # the reference is what a study's predictions are made with
    model = engines.torch_model(found, of)
    made = packed.encode(rows["ja"])
    for own, study in zip(packed.logits(made), logits(model, model.heads[of.name], of, made, "first", "cpu", "fp32"), strict=True):
        torch.testing.assert_close(own, study)


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_matrices_that_are_rounded_once_give_the_bits_of_autocast(store: Path, keys: dict[str, str], kind: str) -> None:
    found = found_in(store, keys[kind])
    halved, of = replace(found, spec=replace(found.spec, precision="bf16")), found.spec.known_task()
    whole, half = engines.torch_model(found, of), engines.torch_model(halved, of)
    assert {p.dtype for p in whole.encoder.parameters()} == {torch.float32}
    assert {p.dtype for name, p in half.encoder.named_parameters() if "dense" in name} == {torch.bfloat16}
    once, anew = (engines.in_torch(model, halved.spec, of) for model in (half, whole))
    made = once.encode(real_rows(found, DATA, ROWS)["ja"])
    assert all(map(torch.equal, once.logits(made), anew.logits(made)))


def test_padded_batches_hold_rows_of_like_length() -> None:
    lengths = np.array([3, 40, 5, 41, 9, 100])
    batches = list(engines._alike(np.arange(6), lengths))
    assert [lengths[batch].tolist() for batch in batches] == [[100], [41, 40], [9, 5, 3]]


@pytest.mark.parametrize(
    ("kind", "pool", "bert", "name"),
    [
        ("classify", "first", False, "XLMRobertaForSequenceClassification"),
        pytest.param("choose", "first", False, "XLMRobertaForMultipleChoice", marks=pytest.mark.slow),
        pytest.param("tag", "first", False, "XLMRobertaForTokenClassification", marks=pytest.mark.slow),
        ("span", "mean", False, "XLMRobertaForQuestionAnswering"),
        pytest.param("classify", "first", True, "BertForSequenceClassification", marks=pytest.mark.slow),
        ("choose", "first", True, "BertForMultipleChoice"),
        ("classify", "mean", False, ""),
    ],
)
def test_a_torch_export_is_a_plain_transformers_folder(tmp_path: Path, kind: str, pool: str, bert: bool, name: str) -> None:
    key = make_model_in(tmp_path / "store", (TASKS[kind],), pool, bert)
    found = found_in(tmp_path / "store", key)
    spec = export(found, "torch", "fp32", tmp_path / "out", DATA, ROWS)
    assert spec.layout == name == json.loads((tmp_path / "out" / "config.json").read_text())["architectures"][0] * bool(name)
    assert {code: each.same for code, each in spec.checked.items()} == dict.fromkeys(LANGUAGES, ROWS)
    assert read_spec(tmp_path / "out") == spec
    assert transformers.AutoModel.from_pretrained(tmp_path / "out").num_parameters() > 0
    again = find(str(tmp_path / "out"), tmp_path / "store", DATA, "cpu")
    rows = real_rows(again, DATA, ROWS)["ja"]
    assert [a.pred for a in engines.load(again).answer(rows)] == [a.pred for a in engines.load(found).answer(rows)]
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("No transformers class has this head" in card) is not bool(name)
    refused("is there already", export, found, "torch", "fp32", tmp_path / "out", DATA, ROWS)


@pytest.mark.parametrize(
    ("family", "kind", "pool"),
    [
        ("qwen2", "classify", "last"),
        pytest.param("llama", "tag", "last", marks=pytest.mark.slow),
        pytest.param("gemma2", "span", "last", marks=pytest.mark.slow),
        pytest.param("qwen2", "choose", "mean", marks=pytest.mark.slow),
        pytest.param("mt5", "classify", "mean", marks=pytest.mark.slow),
    ],
)
def test_decoders_with_heads_are_exported_to_torch_and_nothing_else(tmp_path: Path, family: str, kind: str, pool: str) -> None:
    key = make_model_in(tmp_path / "store", (TASKS[kind],), pool, family=family)
    found = found_in(tmp_path / "store", key)
    spec = export(found, "torch", "fp32", tmp_path / "out", DATA, ROWS)
    assert spec.layout == "" and {code: each.same for code, each in spec.checked.items()} == dict.fromkeys(LANGUAGES, ROWS)
    assert transformers.AutoModel.from_pretrained(tmp_path / "out").num_parameters() > 0
    rows = real_rows(found, DATA, ROWS)["ja"]
    (served,) = engines.load_all([find(str(tmp_path / "out"), tmp_path / "store", DATA, "cpu")])
    assert [a.pred for a in served[TASKS[kind]].answer(rows)] == [a.pred for a in engines.load(found).answer(rows)]
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("the last attended token's last hidden state" in card) is (kind == "classify" and pool == "last")
    if family != "mt5":
        words = "model is read where its rows end, which no graph does; use --format torch"
        refused(words, export, found, "onnx", "fp32", tmp_path / "graph", DATA, ROWS)
        assert not (tmp_path / "graph").exists()


def test_models_that_write_are_refused_in_one_line(tmp_path: Path) -> None:
    from xstilts.stages import Pretrained, Recipe, Runtime, Share, Train
    from xstilts.store import Store

    store = Store.open(tmp_path / "store")
    rows = next(iter(found_in(tmp_path / "store", make_model_in(tmp_path / "store", ("mini-nli",))).scored.values())).rows
    stage = Train(Pretrained("w", "mean", form="text"), (Share(rows),), (), Recipe(), 1, Runtime())
    with store.claim(stage.key) as draft:
        assert draft is not None
        (draft / "out" / "encoder").mkdir(parents=True)
        (draft / "out" / "encoder" / "config.json").write_text("{}")
        store.finish(stage, 1.0, {})
    words = 'it writes its answers .form = "text".* by a head; transformers loads its folder'
    said = refused(words, found_in, tmp_path / "store", stage.key)
    assert "\n" not in said and str(store.entry(stage.key) / "encoder") in said


def test_bf16_weights_are_half_the_size(store: Path, keys: dict[str, str], tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        export(found_in(store, keys["tag"]), "torch", precision, tmp_path / precision, DATA, ROWS)
    whole, half = ((tmp_path / precision / "model.safetensors").stat().st_size for precision in ("fp32", "bf16"))
    assert 0.45 < half / whole < 0.55


def test_what_differs_is_refused_and_leaves_nothing(
    store: Path, keys: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = found_in(store, keys["tag"])
    honest = graph.write_torch

    def off(module: graph.Graph, *given: Any) -> str:
        with torch.no_grad():
            module.head.out.bias += 0.01
        return honest(module, *given)

    monkeypatch.setattr(graph, "write_torch", off)
    rest = (tmp_path / "out", DATA, ROWS)
    refused(r"differs from PyTorch in fp32 on en by 0\.0\d+ .*nothing was written", export, found, "torch", "fp32", *rest)
    assert not list(tmp_path.iterdir())
    refused("onnx is exported in fp32 or int8", export, found, "onnx", "bf16", *rest)
    refused('expected one of onnx, openvino, torch, got "onx"; did you mean "onnx"', export, found, "onx", "fp32", *rest)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "format", "precision"), [("classify", "onnx", "fp32"), ("tag", "openvino", "fp32"), ("span", "onnx", "int8")]
)
def test_graphs_of_other_engines(store: Path, keys: dict[str, str], tmp_path: Path, kind: str, format: str, precision: str) -> None:
    spec = export(found_in(store, keys[kind]), format, precision, tmp_path / "out", DATA, ROWS)
    assert spec.tolerance == TOLERANCE[precision]
    again = Found(spec, tmp_path / "out", {})
    engine = engines.load(again)
    assert engine.name == {"onnx": "onnxruntime"}.get(format, format)
    rows = real_rows(found_in(store, keys[kind]), DATA, ROWS)["en"]
    for some in (rows, rows[:1], rows[1:4]):  # any number of rows, any length
        assert len(engine.answer(some)) == len(some)
    if precision == "int8":
        assert all(each.difference > 1e-4 for each in spec.checked.values())  # quantised indeed
        full = export(found_in(store, keys[kind]), "onnx", "fp32", tmp_path / "full", DATA, ROWS)
        assert full.checked["en"].same == ROWS
        assert (tmp_path / "out" / "model.onnx").stat().st_size < 0.6 * (tmp_path / "full" / "model.onnx").stat().st_size


@pytest.mark.slow
def test_the_command(store: Path, keys: dict[str, str], tmp_path: Path) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(Path(xstilts.__file__).parents[1])}
        line = [sys.executable, "-c", "from xstilts.cli import main; main()", "--store", str(store), "export", *words]
        return subprocess.run(line, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)

    done = command(keys["classify"], "--format", "torch", "--out", "made", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["folder"], answer["checked"]["ja"]["rows"]) == (str(tmp_path / "made"), ROWS)
    assert not done.stderr
    done = command(keys["classify"], "--format", "torch", "--out", "made")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
