"""MLPerf Inference's LoadGen over an engine: its arrival of queries, its clock and its percentiles (Reddi et al. 2020).

The scenarios: SingleStream, one query after the other; Offline, all at once; Server, one a query at Poisson times. A sample is one
real row of the task. Runs are of seconds, not of the minutes that its rules ask for: no official MLPerf result.
"""

from __future__ import annotations

import ctypes
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xstilts.deploy.batcher import Batcher, Job
from xstilts.deploy.engines import Engine
from xstilts.errors import ModelError
from xstilts.examples import Example

CHUNK = 2048  # samples that Offline sorts by length at a time
_LINE = re.compile(r"^(.+?)\s*:\s*(.+?)\s*$")


@dataclass(frozen=True)
class Timing:
    """One run. Latencies in milliseconds, a sample each; of Offline there is only the rate."""

    scenario: str
    samples: int
    rate: float  # samples a second: answered (SingleStream, Server: completed) or Offline's throughput
    p50: float | None
    p90: float | None
    p99: float | None
    joules: float | None  # that the processor packages used, a sample; None where the machine does not tell
    gpu_joules: float | None = None  # the same of the whole GPU that computes, whoever else uses it


def single_stream(engine: Engine, examples: Sequence[Example], seconds: float, seed: int = 0) -> Timing:
    """Latency of one sentence at a time, tokenising included. Which rows come in which order follows from `seed`, and from nothing else."""

    def issue(lg: Any, samples: Any) -> None:
        for each in samples:
            engine.answer([examples[each.index]])
            lg.QuerySamplesComplete([lg.QuerySampleResponse(each.id, 0, 0)])

    return _run("SingleStream", issue, examples, seconds, {"sample_index_rng_seed": seed})


def offline(engine: Engine, examples: Sequence[Example], seconds: float, seed: int = 0, expected: float | None = None) -> Timing:
    """Throughput of rows that are all there from the start: for `seconds` at `expected` rows a second, or at what one pass over them takes.

    The same seed, seconds and expected rate give two engines the same rows.
    """
    if expected is None:
        began = time.perf_counter()
        engine.answer(examples)
        expected = len(examples) / (time.perf_counter() - began)

    def issue(lg: Any, samples: Any) -> None:
        for first in range(0, len(samples), CHUNK):
            chunk = samples[first : first + CHUNK]
            engine.answer([examples[each.index] for each in chunk])
            lg.QuerySamplesComplete([lg.QuerySampleResponse(each.id, 0, 0) for each in chunk])

    return _run("Offline", issue, examples, seconds, {"offline_expected_qps": 1.2 * expected, "sample_index_rng_seed": seed})


def server(engine: Engine, examples: Sequence[Example], seconds: float, rate: float, bound: float) -> Timing:
    """Latency of rows that come at random at `rate` a second, computed as `serve` does; `bound` is its latency bound in seconds."""
    batcher = Batcher({engine.spec.task: engine}, bound, 1 << 30)

    def issue(lg: Any, samples: Any) -> None:
        for each in samples:
            batcher.submit(Job(engine.spec.task, [examples[each.index]], _done(lg, each.id)))

    try:
        settings = {"server_target_qps": rate, "server_target_latency_ns": int(bound * 1e9), "server_target_latency_percentile": 0.99}
        return _run("Server", issue, examples, seconds, settings)
    finally:
        batcher.end()


def _done(lg: Any, number: int) -> Callable[[object], None]:
    def done(outcome: object) -> None:
        if isinstance(outcome, Exception):
            raise outcome
        lg.QuerySamplesComplete([lg.QuerySampleResponse(number, 0, 0)])

    return done


def most_within(engine: Engine, examples: Sequence[Example], seconds: float, bound: float, most: float) -> Timing | None:
    """The highest rate, up to `most`, whose 99th percentile stays within `bound` seconds; None where none was found.

    Short runs halve the range five times; the rate that they end with is confirmed by a run of full length, and lowered by a tenth
    up to three times where that one does not hold.
    """
    low, high = 0.0, most
    for _ in range(5):
        rate = (low + high) / 2
        low, high = (rate, high) if _holds(server(engine, examples, max(1.0, seconds / 5), rate, bound), bound) else (low, rate)
    rate = low
    for _ in range(4 if low else 0):
        found = server(engine, examples, seconds, rate, bound)
        if _holds(found, bound):
            return found
        rate *= 0.9
    return None


def _holds(found: Timing, bound: float) -> bool:
    return found.p99 is not None and found.p99 <= 1000 * bound


_ONE = threading.Lock()  # LoadGen has one test a process


def _run(
    scenario: str, issue: Callable[[Any, Any], None], examples: Sequence[Example], seconds: float, more: Mapping[str, float]
) -> Timing:
    try:
        import mlperf_loadgen as lg
    except ImportError:
        raise ModelError("LoadGen is not installed; pip install 'xstilts[deploy]' (it comes for Linux)") from None
    settings = lg.TestSettings()
    settings.scenario, settings.mode = getattr(lg.TestScenario, scenario), lg.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.min_query_count = int(1000 * seconds), 1
    for name, value in more.items():
        setattr(settings, name, value)
    with _ONE, tempfile.TemporaryDirectory() as folder:
        logs = lg.LogSettings()
        logs.enable_trace = False
        output = lg.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        logs.log_output = output
        sut = lg.ConstructSUT(lambda samples: issue(lg, samples), lambda: None)
        qsl = lg.ConstructQSL(len(examples), len(examples), lambda indexes: None, lambda indexes: None)
        before, began = (_energy(), _gpu_energy()), time.perf_counter()
        try:
            lg.StartTestWithLogSettings(sut, qsl, settings, logs)
        finally:
            lg.DestroyQSL(qsl)
            lg.DestroySUT(sut)
        taken, after = time.perf_counter() - began, (_energy(), _gpu_energy())
        text = (Path(folder) / "mlperf_log_summary.txt").read_text("utf-8")
    return _read(scenario, text, [_used(*both) for both in zip(before, after, strict=True)], taken)


def _used(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or after < before else after - before  # counters start again at some height


def _read(scenario: str, text: str, joules: Sequence[float | None], taken: float) -> Timing:
    found = {match[1].strip(): match[2] for line in text.splitlines() if (match := _LINE.match(line))}
    name = {"SingleStream": "QPS w/o loadgen overhead", "Offline": "Samples per second", "Server": "Completed samples per second"}[scenario]
    rate = float(found[name])
    samples = max(1, round(rate * taken))
    each = [None if used is None else used / samples for used in joules]
    if scenario == "Offline":
        return Timing(scenario, samples, rate, None, None, None, *each)
    p50, p90, p99 = (float(found[f"{at} percentile latency (ns)"]) / 1e6 for at in ("50.00", "90.00", "99.00"))
    return Timing(scenario, samples, rate, p50, p90, p99, *each)


def _energy() -> float | None:
    """Joules that the processor packages have used since some moment; None where the machine does not tell."""
    try:
        files = list(Path("/sys/class/powercap").glob("intel-rapl:[0-9]/energy_uj"))
        return sum(int(path.read_text()) for path in files) / 1e6 if files else None
    except (OSError, ValueError):
        return None


def _gpu_energy() -> float | None:
    """Joules that the GPU on which this process computes has used since its driver was loaded; None where there is none that tells."""
    if not torch.cuda.is_initialized():
        return None
    device, used = ctypes.c_void_p(), ctypes.c_ulonglong()
    name = f"GPU-{torch.cuda.get_device_properties(0).uuid}".encode()
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")  # the driver's own
        failed = nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(device))
        failed = failed or nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(used))
    except (OSError, AttributeError):
        return None
    return None if failed else used.value / 1000  # it counts millijoules
