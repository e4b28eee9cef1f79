"""What only a GPU runs: attention of variable length, trainings in its memory, sharding through NCCL. Skips, and says so, without one."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaModel, XLMRobertaConfig, XLMRobertaModel

from engine_maker import SPECIALS, WORDS, make_tokenizer, rows_of, toy_task
from families_maker import TINY, make
from test_families import family_at, given
from xstilts.engine import dropout, packed
from xstilts.engine import predict as predicting
from xstilts.engine.adapters import weights
from xstilts.engine.parallel import Alone, joined
from xstilts.engine.predict import predict
from xstilts.engine.train import train
from xstilts.errors import Stopped
from xstilts.stages import ALONE, Layout, Predict, Pretrained, Recipe, Runtime, Share, Train

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")]
RECIPE = Recipe(lr=1e-3, eps=1e-3, steps=6, batch=8, max_length=24, stride=4, dropout=0.1)


@pytest.fixture(autouse=True)
def as_a_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums in one order, as `carry_out` sets it."""
    monkeypatch.setattr(dropout, "TABLE", 1 << 12)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    yield
    torch.use_deterministic_algorithms(False)
    predicting._loaded.cache_clear()


def wide(folder: Path, family: str) -> Path:
    """Two layers with heads of 16, which attention of variable length takes."""
    torch.manual_seed(0)
    shape = {"vocab_size": len(SPECIALS) + len(WORDS), "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 128, "max_position_embeddings": 66, "pad_token_id": 1}  # fmt: skip
    if family == "llama":
        LlamaModel(LlamaConfig(**shape, num_key_value_heads=2, bos_token_id=0, eos_token_id=2)).save_pretrained(folder)
    else:
        XLMRobertaModel(XLMRobertaConfig(**shape, hidden_dropout_prob=0.1), add_pooling_layer=False).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def fit(
    start: Path, draft: Path, device: str, precision: str = "fp32", recipe: Recipe = RECIPE, halt: Callable[[], bool] = lambda: False,
    layout: Layout = ALONE, team: Alone | None = None, kind: Any = "classify",
) -> tuple[Train, Path, dict[str, Any]]:  # fmt: skip
    task = toy_task(kind)
    pool = family_at(start).pool
    stage = Train(Pretrained("toy", pool), (Share(rows_of(task)),), (rows_of(task, "dev"),), recipe, 1, Runtime(precision, 1, device))
    model = weights(stage.start, lambda _: start)
    train(stage, model, lambda _: task, lambda _: given(task), draft, draft.parent / "cache", lambda _: None, halt, layout, team)
    return stage, draft / "out", json.loads((draft / "out" / "log.json").read_text())


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 5), (False, 5)])
@pytest.mark.parametrize("lengths", [[40, 39, 12, 12, 1], [21, 20, 9, 14]])  # the second fills its batch up by itself
def test_attention_is_that_of_a_cpu(causal: bool, window: int | None, lengths: list[int]) -> None:
    there, here = (packed.layout(np.array(lengths), device, causal) for device in ("cuda", "cpu"))
    tokens, held = sum(lengths), packed.filled(sum(lengths))
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(held, 4, 16, generator=draw) for _ in range(3)]
    weight = torch.randn(held, 4, 16, generator=draw)
    weight[tokens:] = 0

    def gradients(attend: Callable[..., Tensor], device: str, kind: torch.dtype) -> list[Tensor]:
        own = [x.to(device, kind).requires_grad_() for x in values]
        mixed = attend(*own)
        found = [mixed.detach(), *torch.autograd.grad((mixed.float() * weight.to(device)).sum(), own)]
        assert not any(x[tokens:].any() for x in found[1:])
        return [x[:tokens].float().cpu() for x in found]

    exact = gradients(lambda q, k, v: packed._Attention.apply(q, k, v, here, window), "cpu", torch.float32)
    fused = gradients(lambda q, k, v: packed._fused(q, k, v, there, window), "cuda", torch.float32)
    flat = gradients(lambda q, k, v: packed._flat(q, k, v, there, window), "cuda", torch.bfloat16)
    for one, close, near in zip(exact, fused, flat, strict=True):
        torch.testing.assert_close(close, one, atol=1e-5, rtol=1e-5)
        assert float((near - one).norm() / one.norm()) < 1e-2  # bf16 has eight bits


@pytest.mark.parametrize("family", TINY)
def test_every_architecture_trains_as_on_a_cpu(tmp_path: Path, family: str) -> None:
    start = make(tmp_path / "m", family)
    there, here = (fit(start, tmp_path / device, device)[2] for device in ("cuda", "cpu"))
    np.testing.assert_allclose(there["losses"], here["losses"], rtol=2e-4)
    assert there["gpu_mb"] > 0 and "gpu_mb" not in here


@pytest.mark.parametrize("family", ["xlm-roberta", "llama"])
def test_a_stopped_training_in_bf16_goes_on_to_the_same_bits(tmp_path: Path, family: str) -> None:
    start = wide(tmp_path / "m", family)
    _, whole, log = fit(start, tmp_path / "whole", "cuda", "bf16")
    np.testing.assert_allclose(log["losses"], fit(start, tmp_path / "cpu", "cpu", "bf16")[2]["losses"], rtol=2e-2)
    with pytest.raises(Stopped):
        fit(start, tmp_path / "halted", "cuda", "bf16", halt=lambda: True)
    _, resumed, _ = fit(start, tmp_path / "halted", "cuda", "bf16")
    assert (whole / "encoder" / "model.safetensors").read_bytes() == (resumed / "encoder" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("family", ["xlm-roberta", "llama"])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_team_of_one_through_nccl_trains_as_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, parallel: Any
) -> None:
    start = wide(tmp_path / "m", family)
    _, alone, log = fit(start, tmp_path / "alone", "cuda")
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    with joined("cuda", parallel) as team:
        _, spread, other = fit(start, tmp_path / "team", "cuda", layout=Layout(checkpointing=True), team=team)
    np.testing.assert_allclose(log["losses"], other["losses"], rtol=1e-5)
    ours, theirs = (load_file(entry / "encoder" / "model.safetensors") for entry in (alone, spread))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert float((value - theirs[name]).abs().mean()) < 1e-5, name


@pytest.mark.parametrize("kind", ["classify", "span", "tag", "choose"])
def test_neighbours_do_not_move_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    task = toy_task(kind)
    stage, folder, _ = fit(wide(tmp_path / "m", "xlm-roberta"), tmp_path / "d", "cuda", kind=kind, recipe=replace(RECIPE, steps=30))
    asked = Predict(stage, rows_of(task, "test"), 24, 4, Runtime("fp32", 1, "cuda"))
    found = []
    for budget in (predicting.BATCH, 1):
        monkeypatch.setattr(predicting, "BATCH", budget)
        out = tmp_path / f"out-{budget}"
        predict(asked, weights(stage, lambda _: folder), task, lambda _: given(task), out, tmp_path / "cache")
        found.append(parquet.read_table(out / "predictions.parquet")["pred"].to_pylist())
    assert found[0] == found[1]
