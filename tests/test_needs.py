"""What stages need: said by `plan` for this machine or a named one; `run` refuses what does not fit before any work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from engine_maker import make_model
from study_maker import planner
from xstilts import arithmetic, cli, machine, models, needs
from xstilts.errors import ModelError
from xstilts.estimate import Speed, on_device, seconds
from xstilts.examples import Choice, Example, Text
from xstilts.machine import Room
from xstilts.needs import Bounds, Counts, Lengths
from xstilts.plan import Plan
from xstilts.run import default_jobs, needed
from xstilts.stages import Layout, Predict, Pretrained, Recipe, Rows, Runtime, Share, Train
from xstilts.store import Store
from xstilts.tasks import task

GIB = 1 << 30
STUDY = """
name = "big"
models = ["tiny", "llama"]
intermediates = ["none"]
targets = ["mini-pos", "mini-retrieval"]
seeds = [1, 2]
languages = ["en", "de"]
[encoders.tiny]
path = "m"
[encoders.llama]
hub = "meta-llama/Llama-2-7b-hf"
revision = "0123456789012345678901234567890123456789"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_model(tmp_path / "m")
    (tmp_path / "big.toml").write_text(STUDY)
    (tmp_path / "small.toml").write_text(STUDY.replace(', "llama"]', "]").split("[encoders.llama]")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XSTILTS_DATA", "data")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(machine, "memory", lambda: Room(64 * GIB, 24 * GIB))
    return tmp_path


@pytest.fixture
def xstilts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["xstilts", *words])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return int(code), out, err

    return call


def test_plan_says_what_a_named_device_would_need_and_what_does_not_fit(place: Path, xstilts: Any) -> None:
    code, out, err = xstilts("plan", "big.toml", "--on", "h100", "--offline")
    assert (code, err) == (0, "")
    rows = [line for line in out.splitlines() if "llama" in line or "tiny" in line]
    big = next(line for line in rows if line.startswith("  train llama: mini-pos"))
    # 6.6 G parameters at 16 bytes are 98.5 GiB before any activation; the tiny one fits
    assert "6.61 G" in big and big.endswith("DOES NOT FIT")
    assert not next(line for line in rows if line.startswith("  train tiny: mini-pos")).endswith("FIT")
    assert not next(line for line in rows if line.startswith("  predict llama: mini-pos")).endswith("FIT")
    assert "one stage on H100 80 GB (times: 30% of its peak rate; an estimate, nothing was measured):" in out
    found = json.loads(xstilts("plan", "big.toml", "--on", "h100", "--offline", "--json")[1])
    assert found["device"] == "H100 80 GB"
    train = next(line for line in found["needs"] if (line["kind"], line["model"]) == ("train", "llama"))
    assert train["fits"] is False and train["stages"] == 2 and 98 * GIB < train["memory"] < 140 * GIB
    assert train["parts"]["gradients"] == 4 * train["trained"] == train["parts"]["moments"] // 2
    assert train["seconds"] == pytest.approx(train["operations"] / (0.3 * 989.4e12) + 0.15)
    parts = ("--processes", "4", "--parallel", "fsdp", "--checkpointing", "--micro-tokens", "4096")
    spread = json.loads(xstilts("plan", "big.toml", "--on", "h100", "--offline", "--json", *parts)[1])["needs"]
    quarter = next(line for line in spread if (line["kind"], line["model"]) == ("train", "llama"))
    assert quarter["fits"] is True and quarter["memory"] < train["memory"] / 2
    code, out, err = xstilts("plan", "big.toml", "--offline", "--checkpointing")
    assert (code, out) == (2, "") and "plan takes them beside --on alone" in err
    code, out, err = xstilts("plan", "big.toml", "--on", "h10", "--offline")
    assert (code, out) == (2, "") and err.startswith('error: --on: unknown device "h10" (known: rtx4090, ') and '"h100"?' in err


def test_rows_that_are_not_here_are_priced_by_their_official_number_and_not_run(place: Path, xstilts: Any) -> None:
    Path("far.toml").write_text(STUDY.replace('"mini-pos"', '"xnli", "tydiqa"', 1).replace(', "llama"]', "]").split("[encoders.llama]")[0])
    code, out, err = xstilts("plan", "far.toml", "--on", "h100", "--offline")
    assert (code, err) == (0, "")
    assert "  train: xnli train en, rows that are not here" in out and "  test: xnli test, rows that are not here [en de]" in out
    assert re.search(r"^\S.* on H100 80 GB for the stages that are missing, one after the other$", out, re.MULTILINE)
    found = {(line["kind"], line["what"]): line for line in json.loads(xstilts("plan", "far.toml", "--on", "h100", "--json")[1])["needs"]}
    # as long as the rows of their kind that come with the package: 392,702 to train on and 5,010 to score
    ratio = found["train", "xnli"]["tokens"] / found["predict", "xnli"]["tokens"]
    assert ratio == pytest.approx(Recipe().epochs * 392_702 / 5_010, rel=0.2)  # the rows of each language have a length of their own
    assert found["predict", "tydiqa"]["tokens"] > 440
    for command in (("plan", "far.toml"), ("run", "far.toml")):
        code, out, err = xstilts(*command, "--offline")
        assert code == 2 and "multinli_1.0_train.jsonl" in err and "Traceback" not in err


def test_plan_marks_what_does_not_fit_here_without_measuring_it(place: Path, xstilts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xstilts.estimate.measure", lambda shape, runtime, jobs: Speed(1e9, 2e9))
    code, out, err = xstilts("plan", "big.toml", "--offline", "--device", "cpu", "--jobs", "1")
    assert (code, err) == (0, "")
    marked = [line.split(":")[0].strip() for line in out.splitlines() if line.endswith("DOES NOT FIT")]
    assert set(marked) == {"train llama", "predict llama"}
    assert "estimate: none (train llama: mini-pos does not fit into this machine's memory)" in out
    small = json.loads(xstilts("plan", "small.toml", "--offline", "--device", "cpu", "--jobs", "1", "--json")[1])
    assert 400 < small["megabytes"] < 700 and small["seconds"] > 6
    assert all(line["fits"] and line["seconds"] > 0 for line in small["needs"])


def test_a_model_that_nothing_is_known_of_is_said_to_be_unknown(place: Path, xstilts: Any) -> None:
    Path("big.toml").write_text(STUDY.replace('"meta-llama/Llama-2-7b-hf"', '"someone/something"\npool = "last"'))
    code, out, _ = xstilts("plan", "big.toml", "--on", "l4", "--offline")
    assert code == 0 and re.search(r"^  train llama: mini-pos +unknown until it has been fetched or made$", out, re.MULTILINE)


def test_run_refuses_before_any_work(place: Path, xstilts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[object] = []
    monkeypatch.setattr("xstilts.run.run", lambda *arguments, **named: began.append(arguments))
    code, out, err = xstilts("run", "big.toml", "--offline", "--device", "cpu", "--jobs", "1")
    assert (code, out, began) == (2, "", []) and err.count("\n") == 1
    said = r"error: train llama: mini-pos: needs about 1\d\d\.\d GiB of memory, and 24\.0 GiB of 64\.0 GiB are free; use --micro-tokens, "
    assert re.match(said, err)
    assert "--even-if-too-big" in err and not list((place / "xstilts-store").glob("drafts/*"))
    # each of two stages fits, both together do not
    monkeypatch.setattr(machine, "memory", lambda: Room(GIB, 900 << 20))
    code, out, err = xstilts("run", "small.toml", "--offline", "--device", "cpu", "--jobs", "2")
    assert (code, began) == (2, []) and err.startswith("error: 2 stages at once need about 1.0 GiB of memory (")
    assert "use --jobs 1, or --even-if-too-big" in err
    for words in (("--jobs", "1"), ("--jobs", "2", "--even-if-too-big")):
        with pytest.raises(AttributeError):  # the run that was put in its place gives no outcome
            xstilts("run", "small.toml", "--offline", "--device", "cpu", *words)
    assert len(began) == 2


def plan_of(folder: Path, **study: object) -> tuple[Plan, Store]:
    plan = planner(folder, intermediates=["none"], targets=["mini-pos"], seeds=[1], languages=["en"], **study)()
    return plan, Store.open(folder / "store")


def test_a_gpu_of_this_machine_is_asked_for_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = plan_of(tmp_path)
    todo = needed(plan.stages, store)
    monkeypatch.setattr(machine, "memory", lambda: Room(64 * GIB, 24 * GIB))
    monkeypatch.setattr(machine, "cuda_memory", lambda: Room(2 * GIB, GIB // 2))
    with pytest.raises(ModelError, match=r"^train m: mini-pos: needs about 0\.7 GiB of GPU memory, and 0\.5 GiB of 2\.0 GiB are free; use"):
        needs.refuse_too_big(plan, todo, store, tmp_path, 1, "cuda")
    monkeypatch.setattr(machine, "cuda_memory", lambda: Room(2 * GIB, 2 * GIB))
    needs.refuse_too_big(plan, todo, store, tmp_path, 1, "cuda")
    with pytest.raises(ModelError, match=r"^2 stages at once need about 1\.\d GiB of GPU memory \(.*\), and 1\.2 GiB .* use --jobs 1, or"):
        monkeypatch.setattr(machine, "cuda_memory", lambda: Room(2 * GIB, GIB * 5 // 4))
        needs.refuse_too_big(plan, todo, store, tmp_path, 2, "cuda")
    # the processes of one training lie beside each other in this machine's memory
    monkeypatch.setattr(machine, "memory", lambda: Room(64 * GIB, 2 * GIB))
    with pytest.raises(ModelError, match=r"^train m: mini-pos: needs about 3\.\d GiB of memory"):
        needs.refuse_too_big(plan, todo, store, tmp_path, 1, "cpu", Layout(processes=8))


def test_what_a_training_needs_by_hand(tmp_path: Path) -> None:
    plan, store = plan_of(tmp_path, recipe={"steps": 10, "batch": 8, "max_length": 20, "stride": 8, "selections": 2}, models=["m"])
    train = next(stage for stage in plan.stages if isinstance(stage, Train))
    predict = next(stage for stage in plan.stages if isinstance(stage, Predict))
    (shape,) = needs.shapes(plan, store).values()

    class Fixed:
        def of(self, rows: Rows, max_length: int, stride: int) -> Lengths:
            return Lengths(100.0, 12.0, 2.0, 18.0, 18.0, 150.0)

    counts: Any = Fixed()
    found = needs.need(train, shape, counts, "cpu")
    heads = arithmetic.head("tag", 32, len(task("mini-pos").labels), 72)
    assert found.steps == 10 and found.parameters == shape.parameters + heads
    assert found.tokens == 80 * 12 + 2 * 100 * 12 / 3
    tuning = arithmetic.Tuning(rows=72)
    own = arithmetic.training(shape, tuning, 80 * 12, 80 * 150)
    assert found.operations == own + arithmetic.forward(shape, 2 * 100 * 12, 2 * 100 * 150)
    # the largest step: three deviations above 8 rows of 12, in one micro-batch; a copy of the best state
    passes, chosen = arithmetic.Passes(113, 18), arithmetic.Passes(1200, 18)
    assert found.memory == arithmetic.train_memory(shape, tuning, passes, train.runtime.precision, heads, chosen=chosen)
    assert needs.need(train, shape, counts, "cpu", Layout(micro_tokens=40)).memory.kept < found.memory.kept - 100_000
    answers = needs.need(predict, shape, counts, "cpu")
    assert answers.tokens == 1200 and answers.operations == arithmetic.forward(shape, 1200, 15000)
    assert answers.memory == arithmetic.predict_memory(shape, arithmetic.Passes(1200, 18), predict.runtime.precision, heads)
    speed = Speed(1e6, 2e6, launch=0.1, start=0.2, update=1e-3)
    took = found.operations / 1e6 + found.passes * 2 * 0.1 + 10 * found.trained * 1e-3
    assert seconds(found, speed, trains=True) == pytest.approx(took + 0.15)
    assert seconds(answers, speed, trains=False) == pytest.approx(answers.operations / 2e6 + answers.passes * 2 * 0.2 + 0.15)
    # nothing that is counted needs more than the bound that a run looks at first
    assert needs.need(train, shape, Bounds(), "cpu").memory.peak >= found.memory.peak


@pytest.mark.parametrize("form", ["heads", "text"])
@pytest.mark.parametrize(
    ("family", "change"),
    [("bert", {}), ("bert", {"tuning": "lora", "rank": 4}), ("bert", {"freeze_embeddings": True, "freeze_layers": 1}), ("mt5", {})],
)
def test_what_was_done_is_counted_as_what_was_planned(family: str, change: dict[str, Any], form: Any) -> None:
    """The account of a stage whose rows were as long as the plan took them to be; another account changes the number in proportion."""
    bert = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    mt5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2}
    shape = arithmetic.shape({"model_type": family, "vocab_size": 90, **(mt5 if family == "mt5" else bert)}, whole=form == "text")
    rows, dev = (Rows("xnli", 1, part, part, "en", "0") for part in ("train", "dev"))
    recipe = Recipe(steps=10, batch=8, max_length=20, stride=8, selections=0 if form == "text" else 2, **change)
    train = Train(Pretrained("w", form=form), (Share(rows),), () if form == "text" else (dev,), recipe, 1, Runtime())
    predict = Predict(train, replace(rows, part="test"), 20, 8, Runtime())

    class Fixed:
        def of(self, rows: Rows, max_length: int, stride: int) -> Lengths:
            return Lengths(100.0, 12.0, 2.0, 18.0, 18.0, 150.0)

    counts: Any = Fixed()
    written = 6 if form == "text" else 0
    chosen = {} if form == "text" else {"selected": 2 * 1200, "selected_squares": 2 * 15_000}
    facts: dict[str, float] = {"examples": 80, "tokens": 80 * (12 + written), "squares": 80 * 150, **chosen}
    planned = needs.need(train, shape, counts, "cpu").operations
    assert needs.done(train, shape, facts) == pytest.approx(planned)
    assert needs.done(train, shape, {**facts, "squares": 80 * 300}) > planned
    # a row for each of three labels, with the input in each
    many = 3 if form == "text" else 1
    facts = {"rows": many * 100, "tokens": many * 100 * (12 + written), "squares": many * 15_000}
    assert needs.done(predict, shape, facts) == pytest.approx(needs.need(predict, shape, counts, "cpu").operations)


def test_a_model_that_writes_has_logits_for_every_piece(tmp_path: Path) -> None:
    plan, _ = plan_of(tmp_path, recipe={"steps": 10, "batch": 8, "max_length": 20, "stride": 8, "selections": 0}, models=["m"])
    train = next(stage for stage in plan.stages if isinstance(stage, Train))
    writes = replace(train, start=Pretrained("w", form="text"), mix=(Share(Rows("xnli", 1, "train", "train", "en", "0")),), select=())
    predict = Predict(writes, Rows("xnli", 1, "test", "test", "en", "0"), 20, 8, writes.runtime)

    class Fixed:
        def of(self, rows: Rows, max_length: int, stride: int) -> Lengths:
            return Lengths(100.0, 12.0, 0.0, 12.0, 12.0, 144.0)

    sizes = {"model_type": "mt5", "vocab_size": 1000, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    shape, counts = arithmetic.shape(sizes, whole=True), Fixed()
    found = needs.need(writes, shape, counts, "cpu")
    assert found.parameters == found.trained == shape.parameters  # no head, no trimmed table
    # six tokens are written for each of 8 rows of 12
    assert found.memory.logits == 8 * 6 * 1000 * 16
    assert found.operations == arithmetic.training(shape, arithmetic.Tuning(), 960, 80 * 144, 480, 80 * 6 * (6 + 12), 480)
    answers = needs.need(predict, shape, counts, "cpu")  # three labels are scored
    assert answers.operations == arithmetic.forward(shape, 1200, 14400, 1800, 1800 * (18 + 12), 1800)
    llama = arithmetic.shape({
        "model_type": "llama", "vocab_size": 1000, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 32,
    }, whole=True)  # fmt: skip
    alone = needs.need(writes, llama, counts, "cpu")
    assert alone.tokens == 80 * 18 and alone.memory.logits == pytest.approx(8 * 6 * 1000 * 16, rel=0.4)
    heads = needs.need(replace(writes, start=Pretrained("w")), arithmetic.shape(sizes), counts, "cpu")
    assert heads.memory.logits == 0 and heads.parameters < found.parameters


def test_lengths_of_options_and_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Example] = [Choice(str(n), "c" * 39, ("o" * 39,) * 4, label=0) for n in range(3)]
    monkeypatch.setattr(needs, "load", lambda rows, data: given)
    store = Store.open(tmp_path)
    rows = Rows("hellaswag", 1, "train", "train", "en", "0")
    found = Counts(store, tmp_path).of(rows, 100, 0)
    # 81 bytes an option (with the separators of three texts), so 20.25 tokens and 3 special ones in each of 4 rows
    assert (found.examples, found.mean, found.longest) == (3, 4 * 23.25, 23.25)
    assert found.pairs == pytest.approx(4 * 23.25**2)
    assert Counts(store, tmp_path).of(rows, 10, 0).mean == 40
    given[:] = [Text("1", "t" * 400)]
    span = Rows("squad", 1, "train", "train", "en", "0")
    # 103.5 tokens through windows of 40 that share 10: three windows more
    assert Counts(store, tmp_path).of(span, 40, 10).mean == pytest.approx(103.5 + 3 * 10)
    assert needs.pieces(100, 250_002) == 100 and needs.pieces(1e12, 5000) == 5000
    assert 30_000 < needs.pieces(2e7, 250_002) < 50_000


def test_memory_is_what_the_control_group_leaves(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:       8000 kB\nMemFree:  1 kB\nMemAvailable:   6000 kB\n")
    assert machine.memory(proc, groups) == Room(8000 << 10, 6000 << 10)
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    (groups / "a" / "b").mkdir(parents=True)
    assert machine.memory(proc, groups) == Room(8000 << 10, 6000 << 10)
    for name, text in (("memory.max", "4096000\n"), ("memory.current", "3072000\n"), ("memory.stat", "anon 5\ninactive_file 1024000\n")):
        (groups / "a" / name).write_text(text)
    assert machine.memory(proc, groups) == Room(4_096_000, 2_048_000)
    (groups / "a" / "memory.max").write_text("max\n")
    assert machine.memory(proc, groups) == Room(8000 << 10, 6000 << 10)
    assert machine.memory(tmp_path / "nothing", groups) is None


def test_a_config_of_the_hub_cache_goes_before_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = models.Hub("google/mt5-small", "0" * 40)
    path = tmp_path / "config.json"

    def cached(*_: object, **__: object) -> str:
        if not path.exists():
            raise LocalEntryNotFoundError("not there")
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", cached)
    assert (models.config(where) or {})["d_model"] == 512
    path.write_text('{"d_model": 8}')
    assert models.config(where) == {"d_model": 8}
    assert models.config(models.Hub("someone/something", "0" * 40)) == {"d_model": 8}
    path.unlink()
    assert models.config(models.Hub("someone/something", "0" * 40)) is None
    with pytest.raises(ModelError, match=r"config\.json"):
        models.config(tmp_path)


def test_a_named_device_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = plan_of(tmp_path)
    monkeypatch.setattr("subprocess.Popen", None)
    found, took = on_device(plan, needed(plan.stages, store), store, tmp_path, needs.device_named("a100-40"))
    assert len(found) == 2 and len(took) == 2 and all(line.fits for line in found)


def test_as_many_stages_share_a_gpu_as_its_memory_and_the_cores_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = plan_of(tmp_path)
    todo = needed(plan.stages, store)
    monkeypatch.setattr(machine, "cores", lambda: 16)
    assert [default_jobs(4, "cpu"), default_jobs(4, "cuda"), default_jobs(1, "cuda"), default_jobs(1, "cpu")] == [4, 4, 10, 16]
    assert default_jobs(1, "cuda", Layout(processes=2)) == 1 == default_jobs(1, "cuda", Layout(nodes=2))
    found = []
    for room in (GIB // 2, GIB, 2 * GIB, 64 * GIB, None):
        monkeypatch.setattr(machine, "cuda_memory", lambda room=room: room and Room(64 * GIB, room))
        found.append(needs.jobs_that_fit(plan, todo, store, 10, "cuda"))
    assert found == [1, 1, 2, 10, 10] and needs.jobs_that_fit(plan, todo, store, 10, "cpu") == 10
