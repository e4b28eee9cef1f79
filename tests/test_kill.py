"""Kill -9 of a worker and of the whole run, and two runs on one store at the same time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fake_engine import predict, train
from xstilts.run import run
from xstilts.store import Store

HERE = Path(__file__).parent
STAGES = [train("toy", seed=seed, steps=12) for seed in (1, 2, 3)]
ANSWERS = [predict(model, "toy", language) for model in STAGES for language in ("en", "de")]
PLAN = (*STAGES, *ANSWERS)
SCRIPT = """
import sys
from pathlib import Path
import test_kill
from xstilts.run import run
from xstilts.store import Store
where = Path(sys.argv[1])
outcome = run(test_kill.PLAN, {}, Store.open(where / "store"), where, jobs=2, function="fake_engine:work")
print(outcome.run, outcome.reused, len(outcome.failed), flush=True)
"""


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def begin(where, step="0.03"):
    env = {**os.environ, "FAKE_STEP": step}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(where)], stdout=subprocess.PIPE, text=True, env=env, start_new_session=True
    )


def lines(where):
    path = where / "steps.txt"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def gone(pid):
    """True when the process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def results(where):
    store = Store.open(where / "store")
    folders = [store.find(stage.key) for stage in PLAN]
    assert all(folders)
    assert store.drafts() == ()
    names = ("heads.safetensors", "predictions.parquet")
    return [json.loads((folder / name).read_text()) for folder in folders for name in names if (folder / name).exists()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    where = tmp_path_factory.mktemp("undisturbed")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(HERE)
    try:
        run(PLAN, {}, Store.open(where / "store"), where, jobs=1, function="fake_engine:work")
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return results(where)


def test_kill_the_run(tmp_path, undisturbed):
    process = begin(tmp_path)
    wait_for(lambda: len(lines(tmp_path)) >= 5)
    workers = {int(line.split(" by ")[1]) for line in lines(tmp_path)}
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: all(gone(pid) for pid in workers))
    assert len(lines(tmp_path)) < 42, "it was killed in the middle"
    again = begin(tmp_path, step="0")
    assert again.communicate()[0] == "9 0 0\n"
    assert results(tmp_path) == undisturbed


def test_kill_a_worker(tmp_path, undisturbed):
    process = begin(tmp_path)
    wait_for(lambda: len(lines(tmp_path)) >= 5)
    os.kill(int(lines(tmp_path)[-1].split(" by ")[1]), signal.SIGKILL)
    assert process.communicate()[0] == "9 0 0\n"
    assert results(tmp_path) == undisturbed


def test_two_runs_at_once(tmp_path, undisturbed):
    both = [begin(tmp_path, step="0.01") for _ in range(2)]
    said = [[int(number) for number in process.communicate()[0].split()] for process in both]
    assert all(process.returncode == 0 for process in both)
    assert sum(run for run, _, _ in said) == len(PLAN), "each stage is done once"
    assert all(run + reused == len(PLAN) and not failed for run, reused, failed in said)
    work = [line.split(" by ")[0] for line in lines(tmp_path)]
    assert len(work) == len(set(work)) == 36 + 6
    assert results(tmp_path) == undisturbed
