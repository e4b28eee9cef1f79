"""One training over several processes: the same numbers as one, whatever dies or is stopped; activations computed again."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from engine_maker import make_model, rows_of, toy_task
from study_maker import file_hash
from test_kill import wait_for
from xstilts import cli
from xstilts.engine import hf
from xstilts.engine.adapters import weights
from xstilts.engine.batch import by_length, columns
from xstilts.engine.parallel import dealt, passes
from xstilts.engine.train import train
from xstilts.errors import ModelError, StudyError
from xstilts.executors import torchrun
from xstilts.executors.torchrun import _options
from xstilts.plan import make_plan
from xstilts.run import Stepped, default_jobs, run
from xstilts.stages import ALONE, Layout, Pretrained, Recipe, Runtime, Share, Train
from xstilts.store import Store
from xstilts.study import parse_study

# Masked text in the mix (the whole table, two heads of which a step uses one), a mean of states, nothing clipped; then a trimmed
# table, a frozen layer, the best of two states, and clipping. Batches of 7 do not split evenly. Beside this epsilon Adam sees how
# large a gradient is.
STUDY = {
    "name": "s", "models": ["mini-small"], "targets": ["mini-nli"], "seeds": [1], "languages": ["en"], "intermediates": ["texts"],
    "mixes": {"texts": {"tasks": ["mini-ner", "mini-text:sw"], "text_rate": 0.5}},
    "recipe": {"batch": 7, "max_length": 32, "stride": 8, "lr": 1e-3, "eps": 1e-2, "steps": 8},
    "recipes": {"texts": {"selections": 2, "average": 2, "clip": 100.0}, "mini-nli": {"selections": 2, "freeze_layers": 1, "clip": 0.05}},
    "caps": {"all": {"train": 40, "dev": 12, "test": 10}},
}  # fmt: skip

# the target's training alone
PLAIN = {"intermediates": ["none"], "mixes": {}, "recipes": {}}
LONG = {
    **PLAIN, "recipe": {"batch": 7, "max_length": 32, "stride": 8, "lr": 1e-5, "steps": 240},
    "recipes": {"mini-nli": {"selections": 3}}, "caps": {"all": {"train": 400, "dev": 12, "test": 10}},
}  # fmt: skip


def planned(where, **changes):
    """The trainings of the study, and where their model lies."""
    plan = make_plan(parse_study({**STUDY, **changes}), where, file_hash, base=where)
    return tuple(stage for stage in plan.stages if isinstance(stage, Train)), plan.where


def log(store, stage):
    return json.loads((store.find(stage.key) / "log.json").read_text())


def same(one, other, stage, rtol=1e-5):
    """Two stores hold the same training but for rounding."""
    ours, theirs = log(one, stage), log(other, stage)
    for name in ("steps", "examples", "tokens", "best_step"):
        assert ours[name] == theirs[name], name
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=rtol)
    np.testing.assert_allclose(ours["selections"], theirs["selections"])
    names = sorted(path.relative_to(one.find(stage.key)) for path in one.find(stage.key).rglob("*.safetensors"))
    assert len(names) >= 2
    for name in names:
        here, there = (load_file(store.find(stage.key) / name) for store in (one, other))
        assert here.keys() == there.keys()
        for key, value in here.items():
            # Adam turns a rounding of a gradient near zero into a step of the rate's size: compare the bulk. A bias of
            # attention's keys shifts all scores of a query alike: its gradient is nothing but rounding.
            if not key.endswith("key.bias"):
                assert float((value - there[key]).abs().mean()) < 0.1 * rtol, (name, key)


def kin(where):
    """The processes of trainings below a folder: pid -> rank (None: torchrun itself)."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            if any(str(where) in word for word in words) and any("xstilts.executors" in word for word in words):
                names = dict(line.split("=", 1) for line in (folder / "environ").read_bytes().decode().split("\0") if "=" in line)
                found[int(folder.name)] = names.get("RANK")
        except (OSError, ValueError):
            continue
    return found


# ---- without processes ----


def test_a_step_is_dealt_out_whole_and_evenly():
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 40, 60)
    made = columns([[1] * n for n in lengths], [i // 2 for i in range(60)])
    examples = draw.permutation(30)[:23]
    hands = dealt(made, examples, 4)
    assert sorted(np.concatenate(hands).tolist()) == sorted(examples.tolist())
    tokens = [sum(int(lengths[2 * e] + lengths[2 * e + 1]) for e in hand) for hand in hands]
    assert max(tokens) - min(tokens) <= 2 * 40
    each = [passes(made, examples, 100, rank, 4) for rank in range(4)]
    assert len({len(own) for own in each}) == 1
    counted = [row for own in each for rows, counts in own if counts for row in rows]
    assert sorted(counted) == sorted(row for e in examples for row in (2 * e, 2 * e + 1))
    assert all(len(rows) for own in each for rows, _ in own)


def test_more_processes_than_examples_and_one_alone():
    made = columns([[1] * 5] * 3, [0, 1, 2])
    each = [passes(made, np.arange(3), 5, rank, 5) for rank in range(5)]
    assert [[counts for _, counts in own] for own in each] == [[True]] * 3 + [[False]] * 2
    alone = passes(made, np.arange(3), 10, 0, 1)
    assert [rows.tolist() for rows, _ in alone] == [rows.tolist() for rows in by_length(made, np.arange(3), 10)]


def fitted(folder, start, layout):
    task = toy_task("classify")
    stage = Train(Pretrained("toy"), (Share(rows_of(task)),), (), Recipe(lr=3e-3, steps=4, batch=8, max_length=24), 1, Runtime())
    rows = list(task.source.read(Path(), "train", "en"))
    model = weights(stage.start, lambda _: start)
    train(stage, model, lambda _: task, lambda _: rows, folder, folder.parent / "cache", lambda _: None, lambda: False, layout)
    return (folder / "out/encoder/model.safetensors").read_bytes(), json.loads((folder / "out/log.json").read_text())


def test_activations_computed_again_give_the_same_bits(tmp_path, monkeypatch):
    """Dropout is drawn by seed, step and row, so that the second forward pass drops what the first did."""
    start, calls = make_model(tmp_path / "m"), []
    load = hf.load_encoder

    def counted(*given, **more):
        encoder = load(*given, **more)
        hf.layers(encoder)[0].attention.register_forward_hook(lambda *_: calls.append(1))
        return encoder

    monkeypatch.setattr(hf, "load_encoder", counted)
    kept, plain = fitted(tmp_path / "kept", start, ALONE)
    once = len(calls)
    again, said = fitted(tmp_path / "again", start, Layout(checkpointing=True))
    assert kept == again and len(calls) - once == 2 * once
    assert said["losses"] == plain["losses"] and said["checkpointing"] and "checkpointing" not in plain
    _, small = fitted(tmp_path / "small", start, Layout(micro_tokens=16))
    assert len(calls) - 3 * once > once, "more micro-batches"
    np.testing.assert_allclose(small["losses"], plain["losses"], rtol=1e-5)


def test_a_model_without_marked_layers_is_refused(tmp_path, monkeypatch):
    encoder = hf.load_encoder(make_model(tmp_path / "m"))
    assert len(hf.layers(encoder)) == 2
    monkeypatch.setattr(hf, "layers", lambda _: [])
    with pytest.raises(ModelError, match="a xlm-roberta model .* leave --checkpointing away"):
        hf.checkpoint(encoder)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((2, "fdsp", 1, 0, ""), '--parallel: expected ddp or fsdp, got "fdsp"; did you mean "fsdp"'),
        ((2, "ddp", 2, 2, "h:1"), "--node-rank 2: with --nodes 2 the last host is number 1"),
        ((2, "ddp", 2, 1, "host"), '--rendezvous: several hosts need HOST:PORT .* got "host"'),
    ],
)
def test_options_that_do_not_fit_are_named(given, said):
    with pytest.raises(StudyError, match=said):
        cli._layout(*given, False, None)


def test_hosts_meet_where_they_are_told():
    layout = cli._layout(4, "fsdp", 2, 1, "fd00::1:29500", True, 512)
    assert (layout.size, layout.checkpointing, layout.micro_tokens) == (8, True, 512)
    words = " ".join(_options(layout))
    assert "--nnodes 2 --node-rank 1" in words and "--master-addr fd00::1 --master-port 29500 --nproc-per-node 4" in words
    assert default_jobs(1, "cpu", layout) == 1


# ---- with processes ----


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The trainings in one process each."""
    where = tmp_path_factory.mktemp("alone")
    store = Store.open(where / "store")
    stages, places = planned(where)
    assert not run((*stages, *planned(where, **LONG)[0]), places, store, where, jobs=1, offline=True).failed
    return store


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_as_one(alone, tmp_path, parallel):
    store = Store.open(tmp_path / "store")
    stages, places = planned(tmp_path)
    stages = stages if parallel == "fsdp" else stages[:1]
    layout = Layout(2, parallel, checkpointing=parallel == "fsdp", micro_tokens=40)
    outcome = run(stages, places, store, tmp_path, jobs=1, offline=True, layout=layout)
    assert not outcome.failed and outcome.run == len(stages)
    for stage in stages:
        same(store, alone, stage)
        manifest = store.manifest(stage.key)
        assert (manifest["facts"]["processes"], manifest["facts"]["parallel"]) == (2, parallel)
        config = json.loads((store.find(stage.key) / "encoder/config.json").read_text())
        assert config["architectures"] == ["XLMRobertaModel"]
    assert not kin(tmp_path)


@pytest.mark.slow
def test_stopped_resumed_killed_and_resumed_by_one(alone, tmp_path):
    """Saved by two that hold a part each, gone on by two that hold the whole, of whom one is killed; one ends it."""
    (stage,), places = planned(tmp_path, **LONG)
    store = Store.open(tmp_path / "store")
    pressed = []

    def stop(event):
        if isinstance(event, Stepped) and not pressed:
            pressed.append(event)
            os.kill(os.getpid(), signal.SIGINT)

    halted = run((stage,), places, store, tmp_path, jobs=1, offline=True, on_event=stop, layout=Layout(2, "fsdp"))
    assert halted.interrupted and not kin(tmp_path)
    state = json.loads((store.draft(stage.key) / "state/state.json").read_text())
    assert 0 < state["step"] < 240

    reached = []

    def kill(event):
        if isinstance(event, Stepped) and not reached:
            reached.append(event.progress.step)
            os.kill(next(pid for pid, rank in kin(tmp_path).items() if rank == "1"), signal.SIGKILL)

    died = run((stage,), places, store, tmp_path, jobs=1, offline=True, on_event=kill, layout=Layout(2, "ddp"))
    assert reached[0] > state["step"], "it went on from the saved state"
    (message,) = died.failed.values()
    assert message.startswith("process 1 of 2 was ended by SIGKILL") and "\n" not in message
    assert not kin(tmp_path)

    assert run((stage,), places, store, tmp_path, jobs=1, offline=True).run == 1
    same(store, alone, stage, rtol=1e-4)


@pytest.mark.slow
def test_who_loses_the_worker_ends(tmp_path):
    """Kill -9 of the worker: torchrun and its ranks end, and the lock on the stage with them."""
    changes = {**PLAIN, "recipe": {"batch": 7, "max_length": 32, "stride": 8, "steps": 100_000}}
    (stage,), places = planned(tmp_path, **changes)
    store, killed = Store.open(tmp_path / "store"), []

    def kill(event):
        if isinstance(event, Stepped) and not killed:
            ranks = [pid for pid, rank in kin(tmp_path).items() if rank]
            torchrun = int(Path(f"/proc/{ranks[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
            worker = int(Path(f"/proc/{torchrun}/stat").read_text().rsplit(")", 1)[1].split()[1])
            killed.extend(ranks)
            os.kill(os.getpid(), signal.SIGINT)  # so that it is not tried again
            os.kill(worker, signal.SIGKILL)

    run((stage,), places, store, tmp_path, jobs=1, offline=True, on_event=kill, layout=Layout(2))
    assert len(killed) == 2
    wait_for(lambda: not kin(tmp_path))
    assert not store.busy(stage.key)


@pytest.mark.slow
def test_a_host_that_came_too_late_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(torchrun, "ALONE", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = tmp_path / torchrun.JOB
    job.write_text("{}")
    threading.Timer(2.0, job.unlink).start()  # the first host has ended the training; nobody is at the place to meet
    layout = Layout(1, nodes=2, node_rank=1, rendezvous=f"127.0.0.1:{port}")
    assert not torchrun.join(job, layout, lambda: False)
    assert not kin(tmp_path)


@pytest.mark.slow
def test_two_hosts_train_one_study(tmp_path):
    (tmp_path / "s.toml").write_text(
        'name = "s"\nmodels = ["mini-small"]\ntargets = ["mini-nli"]\nseeds = [1]\nlanguages = ["en"]\nintermediates = ["none"]\n'
        "[recipe]\nbatch = 7\nmax_length = 32\nstride = 8\nlr = 1e-4\nsteps = 8\n[recipes.mini-nli]\nselections = 2\n"
        "[caps.all]\ntrain = 40\ndev = 12\ntest = 10\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-c", "from xstilts.cli import main; main()", "run", "s.toml", "--offline"]
    command += ["--store", str(tmp_path / "store"), "--data", str(tmp_path)]
    meet = ["--nodes", "2", "--rendezvous", f"127.0.0.1:{port}", "--node-rank"]
    hosts = [
        subprocess.Popen([*command, *meet, str(n)], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for n in (1, 0)
    ]
    helper, first = [(*host.communicate(timeout=300), host.returncode) for host in hosts]
    assert first[2] == 0 and "done: 2 stages run" in first[0], first
    assert helper[2] == 0 and "host 1 took part in 1 trainings" in helper[1], helper
    store = Store.open(tmp_path / "store")
    facts = [store.manifest(key)["facts"] for key in sorted(store.keys())]
    assert [each["processes"] for each in facts if "processes" in each] == [2]
    assert not kin(tmp_path)
