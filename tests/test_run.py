"""Scheduling with real worker processes and a fake engine: each stage once, failures, Ctrl-C."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from fake_engine import predict, train
from xstilts import run as run_module
from xstilts.errors import StoreError
from xstilts.executors import local
from xstilts.run import Began, Ended, Failed, Note, Stepped, needed, run
from xstilts.stages import Pretrained
from xstilts.store import Store

WORK = "fake_engine:work"


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


@pytest.fixture
def go(store, tmp_path):
    def go(*stages, jobs=1, on_event=lambda event: None):
        return run(stages, {}, store, tmp_path, jobs=jobs, on_event=on_event, function=WORK)

    return go


def steps(tmp_path):
    path = tmp_path / "steps.txt"
    return [line.split(" by ")[0] for line in path.read_text().splitlines()] if path.exists() else []


def tree():
    middle = train("nli")
    targets = [train("toy", middle), train("toy")]
    answers = [predict(model, "toy", language) for model in targets for language in ("en", "de")]
    return (middle, *targets, *answers, predict(Pretrained("w"), "other"))


def test_everything_once_then_nothing(go, store, tmp_path):
    stages = tree()
    events = []
    outcome = go(*stages, on_event=events.append)
    assert (outcome.run, outcome.reused, outcome.failed, outcome.skipped, outcome.interrupted) == (8, 0, {}, (), False)
    assert all(store.find(stage.key) for stage in stages)
    done = steps(tmp_path)
    assert len(done) == len(set(done)) == 9 + 5
    assert [e.stage.key for e in events if isinstance(e, Ended)] == [e.stage.key for e in events if isinstance(e, Began)]
    assert any(isinstance(e, Stepped) and e.progress.step == 3 for e in events)
    assert store.drafts() == ()
    outcome = go(*stages)
    assert (outcome.run, outcome.reused) == (0, 8)
    assert steps(tmp_path) == done


def test_nothing_to_do_starts_no_process(go, monkeypatch):
    go(train("toy"))
    monkeypatch.setattr(local, "start", None)
    assert go(train("toy")).reused == 1


def test_only_what_is_new(go, tmp_path):
    go(*tree())
    before = steps(tmp_path)
    more = train("late", train("nli"))
    assert (outcome := go(*tree(), more)).run == 1 and outcome.reused == 8
    assert steps(tmp_path)[len(before) :] == [f"step late {more.key[:8]} {n}" for n in (1, 2, 3)]


def test_two_workers_give_the_same_and_work_side_by_side(go, store, tmp_path):
    stages = tree()
    go(*stages)
    alone = {stage.key: read(store, stage) for stage in stages}
    other = Store.open(tmp_path / "other")
    events = []
    run(stages, {}, other, tmp_path, jobs=2, on_event=events.append, function=WORK)
    assert {stage.key: read(other, stage) for stage in stages} == alone
    assert len({e.worker for e in events if isinstance(e, Began)}) == 2


def read(store, stage):
    folder = store.find(stage.key)
    return sorted((path.name, path.read_bytes()) for path in folder.iterdir() if path.name not in ("manifest.json", "facts.json"))


def test_a_model_answers_while_it_is_in_memory(go):
    models = [train("toy", seed=seed) for seed in (1, 2)]
    answers = [[predict(model, "toy", code) for code in ("en", "de")] for model in models]
    events = []
    go(*models, *answers[0], *answers[1], on_event=events.append)
    order = [e.stage.key for e in events if isinstance(e, Began)]
    for model, own in zip(models, answers, strict=True):
        at = order.index(model.key)
        assert set(order[at + 1 : at + 3]) == {answer.key for answer in own}


def test_a_failure_takes_only_its_descendants(go, store):
    bad = train("bad")
    child = train("toy", bad)
    stages = (bad, child, predict(child), train("toy"), predict(train("toy")))
    events = []
    outcome = go(*stages, on_event=events.append)
    assert outcome.failed == {bad.key: "bad: the loss is nan at step 1"}
    assert outcome.skipped == (child.key, predict(child).key)
    assert outcome.run == 2 and store.find(predict(train("toy")).key)
    assert [e.message for e in events if isinstance(e, Failed)] == ["bad: the loss is nan at step 1"]
    assert go(*stages).run == 0, "the failed stage is tried again, the others are there"


def test_a_defect_is_one_line_and_a_traceback_in_a_file(go, store):
    outcome = go(train("crash"), train("toy"))
    (message,) = outcome.failed.values()
    assert message.startswith("ZeroDivisionError: a defect") and "\n" not in message
    assert outcome.run == 1
    (log,) = (store.path / "logs").iterdir()
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize("name", ["full", "full in other words"])
def test_full_disk_ends_the_run(go, store, name):
    with pytest.raises(StoreError, match="No space left on device.*0 stages"):
        go(train(name), train("toy"))
    assert list(store.keys()) == []
    assert go(train("toy")).run == 1


def test_a_killed_worker_goes_on_from_its_state(go, tmp_path):
    events = []
    stage = train("dies", steps=4)
    outcome = go(stage, on_event=events.append)
    assert outcome.run == 1 and not outcome.failed
    assert steps(tmp_path) == [f"step dies {stage.key[:8]} {n}" for n in (1, 2, 3, 4)]
    assert any(isinstance(e, Note) and "SIGKILL" in e.text for e in events)


def test_a_worker_killed_twice_fails(go):
    outcome = go(train("always-dies"), train("toy"))
    assert outcome.run == 1
    assert "SIGKILL twice" in outcome.failed[train("always-dies").key]


def test_threads_of_a_stage_reach_its_worker(go):
    events = []
    go(train("toy"), train("toy", threads=2), predict(train("toy")), on_event=events.append)
    at = {e.stage.key: e.worker for e in events if isinstance(e, Began)}
    assert at[train("toy").key] != at[train("toy", threads=2).key]
    assert local.environment(2, offline=True)["OMP_NUM_THREADS"] == "2"


def test_dropped_weights_are_made_again_only_when_needed(go, store):
    model = train("toy")
    go(model, predict(model))
    store.drop_weights(model.key)
    assert needed((model, predict(model)), store) == {}
    late = predict(model, "toy", "sw")
    assert list(needed((model, predict(model), late), store)) == [model.key, late.key]
    before = json.loads((store.find(predict(model).key) / "predictions.parquet").read_text())
    outcome = go(model, predict(model), late)
    assert (outcome.run, outcome.reused) == (2, 1)
    assert json.loads((store.find(late.key) / "predictions.parquet").read_text()) == before


def test_a_damaged_entry_is_made_again_and_said(go, store):
    go(train("toy"))
    (store.find(train("toy").key) / "log.json").unlink()
    events = []
    assert go(train("toy"), on_event=events.append).run == 1
    assert any(isinstance(e, Note) and "log.json is missing" in e.text for e in events)


def test_interrupt_saves_and_goes_on(go, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_STEP", "0.05")
    stages = (train("toy", steps=30), train("toy", seed=2, steps=30), predict(train("toy", steps=30)))

    def interrupt(event):
        if isinstance(event, Stepped):
            os.kill(os.getpid(), signal.SIGINT)

    first = []

    def once(event):
        if isinstance(event, Stepped) and not first:
            first.append(event)
            interrupt(event)

    outcome = go(*stages, jobs=2, on_event=once)
    assert outcome.interrupted and outcome.run == 0
    assert 0 < len(steps(tmp_path)) < 60
    monkeypatch.setenv("FAKE_STEP", "0")
    outcome = go(*stages, jobs=2)
    assert outcome.run == 3 and not outcome.interrupted
    done = steps(tmp_path)
    assert len(done) == len(set(done)) == 61, "no step is done twice"


def test_second_interrupt_kills(go, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_STEP", "20")
    before = signal.getsignal(signal.SIGINT)  # ignored, when the suite itself runs in the background

    def press():
        while not (tmp_path / "began").exists():
            time.sleep(0.01)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    def twice(event):
        if isinstance(event, Began):
            threading.Thread(target=press).start()

    began = time.monotonic()
    outcome = go(train("toy"), on_event=twice)
    assert outcome.interrupted
    assert time.monotonic() - began < 15, "the step of 20 seconds was not waited for"
    assert signal.getsignal(signal.SIGINT) is before, "the handler that was there is back"


def test_longest_chain_first():
    slow, quick = train("nli", steps=100), train("toy", steps=5)
    child = train("toy", slow, steps=100)
    ranks = run_module._ranks({s.key: s for s in (quick, slow, child)})
    assert ranks[slow.key] > ranks[child.key] > ranks[quick.key]
