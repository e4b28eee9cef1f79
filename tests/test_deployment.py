"""What a study's models cost to serve: planted measurements get the right verdicts, and the grid measures and stores what it says."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from study_maker import finder, make_study, task_of
from xstilts import cli
from xstilts.analysis import serving
from xstilts.analysis.equivalence import equivalence
from xstilts.deploy import bench, engines, grid
from xstilts.deploy.__main__ import _bench_study
from xstilts.deploy.__main__ import main as hand_to
from xstilts.deploy.find import Found, find
from xstilts.deploy.grid import bench_study
from xstilts.deploy.spec import Spec
from xstilts.engine import hf
from xstilts.engine.heads import fresh
from xstilts.engine.kinds import TRAINS
from xstilts.engine.model import save_heads
from xstilts.errors import ModelError, StoreError, StudyError
from xstilts.models import shipped
from xstilts.plan import make_plan
from xstilts.report import Facts, evaluate
from xstilts.report.drawings import Drawings, drawn
from xstilts.report.page import page
from xstilts.report.serving import tables, words, write_csv
from xstilts.report.text import markdown
from xstilts.report.view import View
from xstilts.stages import Train
from xstilts.store import Store
from xstilts.study import read_study
from xstilts.tasks import task

STEPS = {"none": 1.0, "same": 1.0, "slow": 1.08}  # what a sentence takes after each choice


def rounds(factor: float, noise: float, seed: int) -> dict[str, list[list[float]]]:
    draw = np.random.default_rng(seed)
    return {
        what: [(each * np.exp(noise * draw.standard_normal(10))).tolist() for each in (1.0, factor)] for what in ("latency", "time")
    }


def measured(step: str, engine: str, score: float, speed: float = 1.0) -> dict[str, Any]:
    cells = [
        {
            "language": code, "metric": "accuracy", "score": score, "tokens": tokens, "microseconds": 90.0,
            "single": {"p50": 2 * tokens**0.5 / speed, "p90": 9.0, "p99": 10.0}, "offline": {"rate": 6000 * speed / tokens},
        }
        for code, tokens in (("en", 10.0), ("de", 12.0), ("fi", 15.0), ("ja", 20.0))
    ]  # fmt: skip
    place = {"model": "m", "intermediate": step, "target": "t", "seed": 1, "key": step, "engine": engine}
    return {**place, "bytes": 10**7, "megabytes": 400.0, "cold": 3.0, "server": {"rate": 200.0}, "cells": cells}


def table_of(noise: float) -> dict[str, Any]:
    compared = [
        {"model": "m", "target": "t", "engine": "torch", "second": "" if step == "none" else step, "keys": ["none", step],
         "rounds": rounds(factor, noise, seed)}
        for seed, (step, factor) in enumerate(STEPS.items())
    ]  # fmt: skip
    rows = [measured(step, engine, 60.0 + n, speed) for n, step in enumerate(STEPS) for engine, speed in (("torch", 1.0), ("onnx", 2.0))]
    settings = {"seconds": 10, "rounds": 10, "bound": 0.1, "rows": 300, "threads": 1, "device": "cpu", "languages": []}
    about = {"settings": settings, "machine": "toy", "cores": 2, "load": [0.1], "refused": ["m, none → u: not to be served"]}
    return {**about, "measured": rows, "compared": compared}


def test_planted_rounds_get_the_right_verdicts() -> None:
    quiet = serving.served(table_of(0.005), STEPS)
    assert {(row.intermediate, row.what): row.verdict for row in quiet.compared} == {
        ("same", "latency"): "equal", ("same", "time"): "equal", ("slow", "latency"): "slower", ("slow", "time"): "slower",
    }  # fmt: skip
    noisy = serving.served(table_of(0.15), STEPS)
    assert {row.verdict for row in noisy.compared} == {"restless"}  # neither equal nor slower is said where the floor is not equal
    said = " ".join(words(noisy))
    assert "0 are equal within 3%" in said and "4 not to be told" in said and "costs nothing" not in said
    # the noise of one comparison alone: the floor is fine, and nothing is shown
    table = table_of(0.005)
    table["compared"][1]["rounds"] = rounds(1.0, 0.15, 7)
    assert {row.verdict for row in serving.served(table, STEPS).compared if row.intermediate == "same"} == {"open"}
    # what lies far beyond a restless floor is told all the same
    table = table_of(0.03)
    table["compared"][2]["rounds"] = rounds(2.0, 0.03, 8)
    assert {row.verdict for row in serving.served(table, STEPS).compared if row.intermediate == "slow"} == {"slower"}


def test_one_of_many_comparisons_is_not_slower_by_chance() -> None:
    """Two percent with p = 0.02: told of one choice, and of none where six are looked at."""

    def ratios(by: float, noise: float) -> list[list[float]]:
        return [[1.0] * 10, [float(np.exp(by + noise * (-1) ** n)) for n in range(10)]]

    def verdicts(steps: str) -> set[tuple[str, str]]:
        place = {"model": "m", "target": "t", "engine": "torch"}
        itself = {**place, "second": "", "keys": ["none"], "rounds": {what: ratios(0.0, 0.001) for what in ("latency", "time")}}
        rounds = {"latency": ratios(0.02, 0.0107), "time": ratios(0.0, 0.001)}
        lines = [itself, *({**place, "second": step, "keys": ["none", step], "rounds": rounds} for step in steps)]
        rows = serving.served({**table_of(0.005), "compared": lines}, {"none", *steps}).compared
        return {(row.what, row.verdict) for row in rows}

    assert verdicts("a") == {("latency", "slower"), ("time", "equal")}
    assert verdicts("abcdef") == {("latency", "open"), ("time", "equal")}


def test_the_words_say_what_was_planted_and_no_more() -> None:
    found = serving.served(table_of(0.005), STEPS)
    said = " ".join(words(found))
    assert "of 4 comparisons 2 are equal within 3%" in said and "2 slower: m after slow on t, torch, latency 1.0" in said
    assert "costs nothing" not in said
    assert "Japanese takes 2.00 times the tokens of English, 1.41 [1.41 to 1.41] times the latency and 2.00" in said
    assert "Twice the tokens: latency times 1.41 on t in m (95 % 1.41 to 1.41), over 4 languages" in said
    assert "onnx beside torch: 2.00 to 2.00 times as fast, score 0.00 to 0.00 points" in said
    assert "no official MLPerf result" in said and "m, none → u: not to be served" in said and "not idle" not in said
    only = [row for row in table_of(0.005)["compared"] if row["second"] != "slow"]
    assert "costs nothing at serving" in words(serving.served({**table_of(0.005), "compared": only}, STEPS))[0]
    even = table_of(0.005)
    for row in even["measured"]:
        row["cells"][1:] = [{**row["cells"][0], "language": code, "tokens": 9.0} for code in ("de", "fi", "ja")]
    assert "m on t: no language takes longer than English" in " ".join(words(serving.served(even, STEPS)))
    # on the front: the best score, in the faster engine (equal speed, so that lower scores are beaten)
    assert [(m.intermediate, m.engine) for m in serving.front(found.measured)] == [("slow", "onnx")]
    whole = dict(tables(found))
    assert [row[:5] for row in whole["The same checkpoint: score, speed, memory and size (means over languages)"][1:3]] == [
        ["m", "none", "t", "torch", "60.0"], ["m", "none", "t", "onnx", "60.0"],
    ]  # fmt: skip
    busy = {**table_of(0.005), "load": [0.1, 2.5]}
    assert "the machine was not idle" in words(serving.served(busy, STEPS))[-1]


def test_what_the_study_no_longer_trains_is_left_out() -> None:
    found = serving.served(table_of(0.005), {"none", "same"})
    assert {m.intermediate for m in found.measured} == {"none", "same"} and {c.intermediate for c in found.compared} == {"same"}
    assert "2 measurements of models that the study no longer trains so" in found.refused[-1]
    with pytest.raises(StoreError, match="measure again"):
        serving.served({"measured": []}, STEPS)


def test_the_report_shows_what_was_measured(tmp_path: Path) -> None:
    cells = make_study(tmp_path / "made", dict.fromkeys(STEPS, 0.0), targets=("nli",), seeds=(0, 1, 2), items=12)
    table = table_of(0.005)
    for row in (*table["measured"], *table["compared"]):
        row["target"] = "nli"
    report = evaluate(Facts("toy"), cells, finder(tmp_path / "made"), task_of=task_of, resamples=20)
    bare = markdown(report)
    assert "Deployment" not in bare and drawn(View(report)).served == {}
    report = replace(report, served=serving.served(table, STEPS))
    drawing = drawn(View(report)).served["nli"]
    spec = json.dumps(drawing.spec)
    assert '"way": "m, onnx", "choice": "slow"' in spec and '"way": "m, torch", "choice": "none"' in spec
    assert spec.count('"front": true') == 2 and spec.count('"front": false') == 5  # one is on it, drawn as a mark and in the line
    assert "on the front m after slow, onnx: 62.0 at" in drawing.about
    text, shown = markdown(report), page(report, Drawings({}, {}, {}, {"nli": drawing}))
    for said in ("Deployment", "no official MLPerf result", "2 slower", "equal within 3%"):
        assert said in text and said in shown
    assert "| m | slow | nli | torch | latency |" in text and shown.count("<figure") == 1
    write_csv(report, tmp_path / "deployment.csv")
    rows = list(csv.DictReader((tmp_path / "deployment.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 24 and (rows[3]["language"], rows[3]["tokens"], rows[3]["server_rate"]) == ("ja", "20.0", "200.0")


STUDY = """
name = "toy"
models = ["mini-small"]
intermediates = ["none", "mini-nli"]
targets = ["mini-pos", "mini-retrieval"]
seeds = [1, 2]
languages = ["en", "ja"]
[caps.all]
train = 8
dev = 4
test = 6
"""


def test_the_command_tells_a_study_from_models(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[tuple[str, dict[str, Any]]] = []

    def hand_over(command: str, place: object, asked: dict[str, Any], json_: bool, threads: int) -> None:
        handed.append((command, asked))

    monkeypatch.setattr(cli, "_hand_over", hand_over)

    def ask(*words: str) -> dict[str, Any]:
        cli.app(["bench", *words], standalone_mode=False)
        assert handed[-1][0] == "bench"
        return handed[-1][1]

    assert (ask("deployment-cost")["study"], ask("a.toml")["study"]) == (True, True)
    assert ask("deployment-cost", "--engines", "torch,onnx")["engines"] == ["torch", "onnx"]
    assert [ask(*words)["study"] for words in (("0123abcd",), ("s:m/none/t/1",), ("quickstart", "other"))] == [False] * 3
    assert set(cli.ENGINES) <= set(grid.ENGINES)
    with pytest.raises(StudyError, match="--engines goes with a study"):
        ask("0123abcd", "--engines", "torch")
    with pytest.raises(StudyError, match="--out goes with single models"):
        ask("quickstart", "--out", "f.json")


def test_a_gpu_computes_torch_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = {"store": str(tmp_path / "store"), "data": "no-data", "device": "cuda", "threads": 1, "task": "", "rows": 6, "languages": []}
    # engines of the CPU are refused before anything is loaded, one by one and of a study
    spec = Spec("mini-nli", "classify", task("mini-nli").labels, ("en",), 48, 8, "first", "fp32", "openvino")
    with pytest.raises(ModelError, match="exports to openvino compute on the CPU: add --device cpu"):
        engines.load(Found(spec, tmp_path, {}), device="cuda")
    (study := tmp_path / "toy.toml").write_text(STUDY, "utf-8")
    with pytest.raises(StudyError, match="onnx-int8 computes on the CPU; add --device cpu"):
        bench_study(str(study), [], ["torch", "onnx-int8"], bench.Plan((), where), print)
    # so is a GPU that is not there
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in ("serve", "bench"):
        with pytest.raises(ModelError, match="no CUDA device on this machine; use --device cpu"):
            hand_to(command, where)
    # measurements of another GPU are not gone on with
    plan = bench.Plan((), where)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU A")
    first = grid._begun(None, plan)
    assert first["machine"].startswith("GPU A / ") and grid._begun({**first, "load": [0.5]}, plan)["load"] == [0.5]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU B")
    assert grid._begun({**first, "load": [0.5]}, plan)["load"] == []


def test_the_memory_of_a_gpu_is_a_column_of_its_own() -> None:
    table = table_of(0.005)
    assert "on the GPU, MB" not in tables(serving.served(table, STEPS))[0][1][0]
    for row in table["measured"]:
        row["gpu_megabytes"] = 123.4
    head, line, *_ = tables(serving.served(table, STEPS))[0][1]
    assert dict(zip(head, line, strict=True))["on the GPU, MB"] == "123"
    model = {**table["measured"][0], "model": "k", "precision": "fp32", "cells": []}
    about = {"bound": 0.1, "compared": [], "note": "", "margin": 0.03}
    assert "400 MB at most in memory and 123 MB on the GPU, first answer" in bench.table({**about, "models": [model]})
    del model["gpu_megabytes"]
    assert "400 MB at most in memory, first answer" in bench.table({**about, "models": [model]})


class Planted:
    """Stands in for a process with a model: answers every order with numbers."""

    cold = 1.0

    def __init__(self, model: str) -> None:
        self.orders: list[str] = []
        self.facts = {"languages": ["en", "ja"], "engine": "torch", "precision": "fp32", "bytes": 5}

    def __call__(self, do: str, **order: Any) -> dict[str, Any]:
        self.orders.append(do)
        found: Mapping[str, Any] = {
            "single": {"p50": 2.0, "p90": 3.0, "p99": 4.0}, "offline": {"rate": 100.0}, "score": {"metric": "accuracy", "score": 50.0},
            "tokens": {"tokens": 8.0, "microseconds": 70.0}, "server": {"found": None}, "memory": {"megabytes": 300.0},
            "start": self.facts, "end": {},
        }  # fmt: skip
        return dict(found[do])


def test_a_process_that_is_fast_by_luck_is_not_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal models whose processes have speeds of their own for life: nothing is shown; where they have none, a real difference is."""
    draw = np.random.default_rng(4)
    orders: list[tuple[str, str, dict[str, Any]]] = []
    begun: list[str] = []

    def compared(luck: float, factor: float) -> dict[str, str]:
        @contextmanager
        def loaded(model: str, where: Mapping[str, Any], anew: bool = False) -> Iterator[Any]:
            assert anew
            begun.append(model)
            takes = 0.0

            def ask(do: str, **order: Any) -> dict[str, Any]:
                nonlocal takes
                orders.append((model, do, order))
                if do == "start":
                    takes = np.exp(luck * draw.standard_normal()) * (factor if model == "b" else 1.0)
                return {"single": {"p50": takes}, "offline": {"rate": 100 / takes}}.get(do, {})

            yield ask

        monkeypatch.setattr(bench, "loaded", loaded)
        orders.clear()
        begun.clear()
        values = bench.rounds("a", "b", bench.Plan((), {}, 6.0))
        return {what: equivalence(*both).verdict for what, both in values.items()}

    assert compared(0.1, 1.0) == {"latency": "open", "time": "open"}
    assert compared(0.02, 1.0) == {"latency": "equal", "time": "equal"}
    assert compared(0.02, 1.1) == {"latency": "different", "time": "different"}
    # each kind once a round in turn, after one Offline that is not counted; the same rows for both, other ones in every round
    for do, uncounted in (("single", 0), ("offline", 1)):
        own = [[order for model, done, order in orders if (model, done) == (one, do)] for one in ("a", "b")]
        assert own[0][1:] == own[1][1:] and len(own[0]) == 60 * (1 + uncounted)
        assert sorted(order.get("seed", -1) for order in own[0]) == [-1] * 60 * uncounted + list(range(60))
        assert {order["seconds"] for order in own[0]} == {0.1}
    assert "".join(begun) == "abbaabba"  # four blocks
    for do in ("start", "single", "offline"):
        models = "".join(model for model, done, _ in orders if done == do)
        assert models.startswith("abba" if do != "offline" else "ababbaba")


def trained(store: Store, study: Path) -> None:
    """The study's target trainings, with random heads in place of trained ones."""
    weights = shipped()["mini-small"]
    encoder, tokenizer = hf.load_encoder(weights), hf.load_tokenizer(weights)
    for stage in make_plan(read_study(str(study)), Path("no-data"), store.file_hash).stages:
        if isinstance(stage, Train) and stage.mix[0].rows.task == "mini-pos":
            with store.claim(stage.key) as draft:
                assert draft is not None
                of = task("mini-pos")
                head = fresh(TRAINS[of.kind].head(encoder, of, 0.0), torch.Generator().manual_seed(3))
                hf.save_encoder(encoder, tokenizer, draft / "out" / "encoder")
                save_heads({of.name: head}, {of.name: of}, draft / "out")
                store.finish(stage, 1.0, {})


@pytest.mark.slow
def test_a_study_is_measured_once_and_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, study, asked = Store.open(tmp_path / "store"), tmp_path / "toy.toml", list[str]()
    study.write_text(STUDY, "utf-8")

    @contextmanager
    def loaded(model: str, where: Mapping[str, Any], anew: bool = False) -> Iterator[Planted]:
        asked.append(model)
        assert where["task"] == "mini-pos"
        yield Planted(model)

    monkeypatch.setattr(bench, "loaded", loaded)
    where = {"store": str(store.path), "data": "no-data", "device": "cpu", "threads": 1, "task": "", "rows": 6, "languages": []}

    def run(engines: Sequence[str] = ("torch",), seconds: float = 1.0) -> dict[str, Any]:
        asked.clear()
        name, path = bench_study(str(study), [], engines, bench.Plan((), where, seconds, rounds=3), lambda line: None)
        assert (name, path) == ("toy", serving.path_of(store, "toy"))
        return dict(json.loads(path.read_text("utf-8")))

    with pytest.raises(ModelError, match='weights of mini-small/none/mini-pos/1 are not in .* keep = "all": xstilts run'):
        run()
    trained(store, study)
    with pytest.raises(StudyError, match='no "onx"; did you mean "onnx"'):
        run(("onx",))
    table = run()
    assert [(m["intermediate"], m["seed"], m["engine"]) for m in table["measured"]] == [("none", 1, "torch"), ("mini-nli", 1, "torch")]
    assert [(c["second"], len(c["rounds"]["latency"][1])) for c in table["compared"]] == [("", 3), ("mini-nli", 3)]
    keys = [m["key"] for m in table["measured"]]
    assert asked == [*keys, keys[0], keys[0], *keys]  # each by itself, the baseline beside itself, the choice beside the baseline
    assert "mini-small, none → mini-retrieval: has no head that could be served" in table["refused"]
    found = serving.served(table, set(keys))
    assert {row.verdict for row in found.compared} == {"equal"} and found.measured[0].served is None
    # it goes on where it stopped; other settings begin anew
    again = run()
    assert asked == [] and again["measured"] == table["measured"] and len(again["load"]) == 2
    assert len(run(seconds=2.0)["measured"]) == 2 and len(asked) == 6
    asked_for = {"models": [str(study)], "store": str(store.path), "task": "mini-pos", "engines": ["torch"], "json": False}
    _bench_study(asked_for, bench.Plan((), where, 2.0, rounds=3), lambda line: None)
    out = capsys.readouterr().out
    assert "of 2 comparisons 2 are equal within 3%" in out
    assert f"measured: {serving.path_of(store, 'toy')}; xstilts report {study} shows it" in out
    # models that a CPU has trained are found from a GPU too
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU A")
    at_home = dict(where)
    where["device"] = "cuda"
    assert [m["key"] for m in run(seconds=2.0)["measured"]] == keys and len(asked) == 6
    assert find(f"{study}:mini-small/none/mini-pos/1", store.path, Path("no-data"), "cuda").spec.stage == keys[0]
    where |= at_home
    run(seconds=2.0)
    # an engine that cannot be had is noted and the others go on

    def refuse(*given: object) -> None:
        raise ModelError("is read where its rows end")

    monkeypatch.setattr(grid, "export", refuse)
    table = run(("onnx", "torch"), seconds=2.0)
    assert asked == [] and "mini-small, none → mini-pos, onnx: is read where its rows end" in table["refused"]
