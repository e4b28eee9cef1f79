"""What models cost: LoadGen over an engine, the test of equal speed, and the whole command on a toy."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import xstilts
from deploy_maker import make_model_in
from xstilts.analysis.equivalence import MARGIN, equivalence
from xstilts.deploy import loadgen, measure
from xstilts.deploy.bench import said
from xstilts.engine.answers import Answered
from xstilts.examples import Text


def test_equivalence_against_scipy() -> None:
    draw = np.random.default_rng(1)
    first = 1 + 0.01 * draw.standard_normal(15)
    for shift, verdict in ((0.0, "equal"), (0.004, "equal"), (0.08, "different")):
        second = first * np.exp(shift + 0.01 * draw.standard_normal(15))
        second[[2, 5]] *= (1.4, 0.5)  # what something else that ran for a moment does
        found = equivalence(first.tolist(), second.tolist())
        logs = np.log(second / first)
        low, high = stats.mstats.trimmed_mean_ci(logs, (0.2, 0.2), alpha=0.1)
        assert (found.low, found.high) == (pytest.approx(np.exp(low)), pytest.approx(np.exp(high)))
        centre, error = stats.trim_mean(logs, 0.2), stats.mstats.trimmed_stde(logs, (0.2, 0.2))
        assert found.ratio == pytest.approx(np.exp(centre))
        p = max(stats.t.sf((side * centre + np.log(1 + MARGIN)) / error, 8) for side in (1, -1))
        assert found.p == pytest.approx(p, rel=1e-9)
        assert (found.verdict, found.p < 0.05) == (verdict, verdict == "equal")
    noisy = first * np.exp(0.2 * draw.standard_normal(15))
    assert equivalence(first.tolist(), noisy.tolist()).verdict == "open"  # nothing shown is not the same as equal
    assert equivalence([1.0, 1.0], [1.02, 1.02]).verdict == "equal"  # different beyond doubt, and within the margin


class Sleeping:
    """An engine whose batches take a millisecond and whose rows take a tenth of one."""

    spec = SimpleNamespace(task="t", kind="classify")

    def __init__(self) -> None:
        self.asked = 0

    def encode(self, examples: Sequence[Text]) -> Sequence[Text]:
        return examples

    def logits(self, made: Sequence[Text]) -> Sequence[Text]:
        self.asked += len(made)
        time.sleep(0.001 + 0.0001 * len(made))
        return made

    def answers(self, examples: Sequence[Text], made: object, logits: object) -> list[Answered]:
        return [Answered((e.text,), ()) for e in examples]

    def shortened(self, examples: Sequence[Text], made: object) -> list[bool]:
        return [False] * len(examples)

    def answer(self, examples: Sequence[Text]) -> list[Answered]:
        return self.answers(examples, None, self.logits(examples))


def test_the_scenarios_of_loadgen() -> None:
    rows = [Text("", f"t{n}") for n in range(20)]
    engine: Any = Sleeping()
    single = loadgen.single_stream(engine, rows, 0.1)
    assert single.p50 is not None and single.p90 is not None and single.p99 is not None
    assert 1.1 <= single.p50 <= single.p90 <= single.p99  # milliseconds: no answer comes before the engine has slept
    assert engine.asked >= 2 and single.rate <= 1000 / 1.1
    engine.asked = 0
    offline = loadgen.offline(engine, rows, 0.1)
    assert (offline.p50, offline.rate > 0) == (None, True) and engine.asked > len(rows)
    assert offline.rate <= 10_000  # a tenth of a millisecond a row
    served = loadgen.server(engine, rows, 0.2, 50.0, 1.0)
    assert served.p99 is not None and served.p99 >= 1.1 and served.samples >= 1


def test_the_highest_rate_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(unsteady: float) -> loadgen.Timing | None:
        def server(engine: object, rows: object, seconds: float, rate: float, bound: float) -> loadgen.Timing:
            latency = rate * (unsteady if seconds == 10 else 1.0)  # milliseconds; a long run meets more than a short one
            return loadgen.Timing("Server", 1, rate, latency, latency, latency, None)

        monkeypatch.setattr(loadgen, "server", server)
        engine: Any = None
        return loadgen.most_within(engine, [], 10.0, 0.05, 64.0)

    found, lowered = run(1.0), run(1.15)
    assert found is not None and 48 <= found.rate <= 50
    assert lowered is not None and lowered.rate == pytest.approx(found.rate * 0.9**2 if found.rate * 0.9 * 1.15 > 50 else found.rate * 0.9)
    assert run(3.0) is None


def test_the_summary_is_read_by_its_names() -> None:
    text = "QPS w/o loadgen overhead        : 250.0\n50.00 percentile latency (ns)   : 2000000\n90.00 percentile latency (ns)   : 3000000\n"
    found = loadgen._read("SingleStream", text + "99.00 percentile latency (ns)   : 9000000\n", [5.0, 20.0], 4.0)
    assert (found.rate, found.p50, found.p90, found.p99, found.samples) == (250.0, 2.0, 3.0, 9.0, 1000)
    assert (found.joules, found.gpu_joules) == (0.005, 0.02)


def test_what_a_gpu_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors' peak and its counter of energy, where a GPU computes; a driver that does not tell is no error."""
    assert loadgen._gpu_energy() is None and set(measure._memory("cpu")) == {"megabytes"}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 << 20)
    assert measure._memory("cuda")["gpu_megabytes"] == 3.0
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="ab-cd"))

    class Nvml:
        """As NVML's C functions: 0 is success, values are written where a pointer says."""

        def nvmlInit_v2(self) -> int:
            return 0

        def nvmlDeviceGetHandleByUUID(self, name: bytes, device: Any) -> int:
            device._obj.value = 7
            return 0 if name == b"GPU-ab-cd" else 2

        def nvmlDeviceGetTotalEnergyConsumption(self, device: Any, used: Any) -> int:
            used._obj.value = 12_500
            return 0 if device.value == 7 else 2

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml())
    assert loadgen._gpu_energy() == 12.5
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="other"))
    assert loadgen._gpu_energy() is None  # a part of a GPU has no counter of its own


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    store = tmp_path / "store"
    key = make_model_in(store, ("mini-nli",))
    env = {**os.environ, "PYTHONPATH": str(Path(xstilts.__file__).parents[1])}
    line = [sys.executable, "-c", "from xstilts.cli import main; main()", "--store", str(store), "bench", key, "--seconds", "1",
            "--languages", "ja", "--rows", "6", "--out", "made.json"]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "no official MLPerf result" in done.stdout and f"{key} against itself: latency ratio" in done.stdout
    found = json.loads((tmp_path / "made.json").read_text())
    cell = found["models"][0]["cells"][0]
    assert (cell["language"], cell["metric"], cell["tokens"] > 5, cell["microseconds"] > 0) == ("ja", "accuracy", True, True)
    assert cell["single"]["p50"] <= cell["single"]["p99"] and found["models"][0]["bytes"] > 1e6
    assert found["compared"][0]["itself"] and len(found["compared"][0]["rounds"]["latency"][1]) == 60
    assert said(found) + "\n" == done.stdout
