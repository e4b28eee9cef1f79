"""The commands on toy files and an engine that knows the answers; what scripts rely on, and what bad input gets."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xstilts import cli
from xstilts.executors import local

STUDY = """
name = "toy"
models = ["tiny"]
intermediates = ["none", "udpos"]
targets = ["xnli", "tatoeba"]
seeds = [1, 2]
languages = ["en", "de"]
keep = "all"
[encoders.tiny]
path = "tiny"
[caps.all]
train = 20
"""
# 2 intermediate trainings, 2 x 2 of the target with 2 languages each, and tatoeba (German) from 1 + 2 models
STAGES = 2 + 4 + 8 + 3


def lay_out(where):
    """Toy data, a toy model and the study."""
    labels = ("entailment", "neutral", "contradiction")
    for split, count in (("train", 30), ("dev", 12), ("test", 12)):
        for language in ("en",) if split == "train" else ("en", "de"):
            rows = [f"{split} {language} premise {n}\t{language} hypothesis {n}\t{labels[n % 3]}" for n in range(count)]
            write(where / "data" / "xnli" / f"{split}-{language}.tsv", "\n".join(rows) + "\n")
        words = [f"{split}\tNOUN\nspeaks{n}\tVERB\n" for n in range(count)]
        write(where / "data" / "udpos" / f"{split}-en.tsv", "\n".join(words))
    for code in ("eng", "deu"):
        write(where / "data" / "tatoeba" / "v1" / f"tatoeba.deu-eng.{code}", "".join(f"{code} sentence {n}\n" for n in range(5)))
    model = {"hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 10, "model_type": "bert"}
    write(where / "tiny" / "config.json", json.dumps(model))
    write(where / "tiny" / "tokenizer.json", "{}")
    header = json.dumps({"w": {"dtype": "F32", "shape": [10, 8], "data_offsets": [0, 320]}}).encode()
    (where / "tiny" / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(320))
    write(where / "toy.toml", STUDY)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def settle(patch, where):
    """Make `where` the current folder, and `fake_answers` the engine."""
    real = local.start

    def start(number, threads, offline, inbox, function):
        return real(number, threads, offline, inbox, "fake_answers:work")

    patch.chdir(where)
    # processes that are started here use the package under test, wherever another is installed
    patch.setenv("PYTHONPATH", os.pathsep.join((str(Path(__file__).parent), str(Path(cli.__file__).parents[1]))))
    patch.setenv("XSTILTS_DATA", "data")
    patch.delenv("XSTILTS_STORE", raising=False)
    patch.setattr(local, "start", start)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder with toy data, a toy model and the study."""
    lay_out(tmp_path)
    settle(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory):
    where = tmp_path_factory.mktemp("finished") / "place"
    lay_out(where)
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, where)
        patch.setattr(sys, "argv", ["xstilts", "run", "toy.toml", "--jobs", "2"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code
    return where


@pytest.fixture
def finished(finished_once, tmp_path, monkeypatch):
    """As `place`, with the study run (keep = all), no report yet."""
    shutil.copytree(finished_once, tmp_path / "place")
    shutil.rmtree(tmp_path / "place" / "reports")
    settle(monkeypatch, tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture
def xstilts(monkeypatch, capsys):
    """Runs a command line and gives exit code, standard output, standard error."""

    def xstilts(*words):
        monkeypatch.setattr(sys, "argv", ["xstilts", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return xstilts


def test_a_study_from_start_to_end(place, xstilts):
    code, out, err = xstilts("plan", "toy.toml", "--quick")
    assert code == 0, err
    assert f"{STAGES} stages to run, 0 reused" in out
    assert re.search(r"intermediate +0 hit +2 missing", out) and re.search(r"predict +0 hit +11 missing", out)
    assert "train: xnli train" in out and "test: tatoeba test" in out

    code, out, err = xstilts("run", "toy.toml", "--jobs", "2")
    assert code == 0, err
    last = out.splitlines()[-1]
    assert last == f"done: {STAGES} stages run, 0 reused; report: {place}/reports/toy/index.html"
    assert sorted(os.listdir("reports/toy")) == [
        *("answers.csv", "costs.csv", "index.html", "languages.csv", "report.json", "report.md", "report.tex", "scores.csv", "transfer.csv")
    ]
    scores = Path("reports/toy/scores.csv").read_bytes()
    assert (
        scores.startswith(b"study,model,intermediate,target,language,split,seed,metric,value,n,stage_key\n")
        and b"\r" not in scores
    )

    before = {path.name: path.stat().st_mtime_ns for path in Path("reports/toy").iterdir()}
    code, out, err = xstilts("run", "toy.toml")
    assert code == 0 and out.splitlines()[-1] == last.replace(f"{STAGES} stages run, 0", f"0 stages run, {STAGES}")
    assert {path.name: path.stat().st_mtime_ns for path in Path("reports/toy").iterdir()} == before, "nothing is rebuilt"

    Path("reports/toy/scores.csv").write_text("edited")
    xstilts("run", "toy.toml")
    assert Path("reports/toy/scores.csv").read_bytes() == scores, "a file that was changed is made again"


def test_a_study_that_grows_runs_only_what_is_new(finished, xstilts):
    Path("more.toml").write_text(STUDY.replace("seeds = [1, 2]", "seeds = [1, 2, 3]"))
    code, out, _ = xstilts("plan", "more.toml", "--quick", "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["missing"], plan["hit"]) == (8, STAGES)
    missing = [stage["kind"] for stage in plan["stages"] if stage["state"] == "missing"]
    assert {kind: missing.count(kind) for kind in missing} == {"intermediate": 1, "target": 2, "predict": 5}
    assert xstilts("run", "more.toml")[1].splitlines()[-1].startswith(f"done: 8 stages run, {STAGES} reused; report: ")


def test_estimate_stands_on_finished_stages(finished, xstilts):
    Path("more.toml").write_text(STUDY.replace("seeds = [1, 2]", "seeds = [1, 2, 3]"))
    plan = json.loads(xstilts("plan", "more.toml", "--json", "--jobs", "1")[1])
    assert plan["basis"] == f"measured on {STAGES} finished stages"
    # 3 trainings and 5 answers at 2,000 tokens a second, and the time to start
    assert 6 < plan["seconds"] < 60
    assert 470 < plan["megabytes"] < 480  # a model of a few hundred numbers: what a worker is without one
    assert plan["disk_peak"] > plan["disk_after"] > 0
    before = Path("xstilts-store/cache/rows.json").read_bytes()
    out = xstilts("plan", "more.toml")[1]
    assert re.search(r"^estimate: \d.* with \d at a time on cpu, about 0\.\d GB of memory \(measured on", out, re.MULTILINE)
    assert re.search(r"^disk: at most .* while it runs, .* after \(keep = all\)$", out, re.MULTILINE)
    assert Path("xstilts-store/cache/rows.json").read_bytes() == before
    assert json.loads(xstilts("plan", "toy.toml", "--json")[1])["seconds"] == 0


def test_a_review_of_a_finished_study_and_of_one_that_was_never_run(finished, xstilts):
    code, out, err = xstilts("review", "toy.toml")
    assert (code, err) == (0, "")
    first, *lines = out.splitlines()
    assert re.fullmatch(r"toy: \d\.\d of 10 \(\d+ of 21 checks could be made, .*; lost: .*\)", first)
    assert "statistics: power: below 3 seeds the luck of training is unknown" in out
    assert "  bad        -1.00  statistics: seeds: 2 seeds of every choice; 3 are needed before " in out
    assert "  good              coverage: cells: 12 of 12 planned cells are scored" in lines
    assert any("xnli leaves out 13 of 15: ar bg el es" in line for line in lines)
    plain = json.loads(xstilts("review", "toy.toml", "--json")[1])
    assert first.startswith(f"toy: {plain['score']} of 10") and plain["study"] == "toy"
    verdicts = {each["name"]: each["verdict"] for each in plain["checks"]}
    assert (verdicts["seeds"], verdicts["leakage"], verdicts["versions"], verdicts["pins"]) == ("bad", "good", "good", "good")
    assert xstilts("report", "toy.toml")[0] == 0
    assert first.removeprefix("toy: ") in Path("reports/toy/report.md").read_text("utf-8")
    code, out, err = xstilts("--store", "new", "review", "toy.toml", "--json")
    assert (code, err) == (0, "") and json.loads(out)["checks"][0]["name"] == "seeds"
    with open("data/xnli/train-en.tsv", "a") as file:
        file.write("test de premise 3\tde hypothesis 3\tentailment\n")
    changed = xstilts("review", "toy.toml")[1]
    assert "1 of 24 scored rows of xnli (4.17%) stand in training rows of xnli" in changed
    code, out, err = xstilts("review", "nothing.toml")
    assert (code, out) == (2, "") and err.startswith("error: nothing.toml: no such study file")


def test_a_review_reads_the_rows_once(finished, xstilts, monkeypatch):
    from xstilts.analysis import review

    first = xstilts("review", "toy.toml")[1]
    kept = Path("xstilts-store/cache/review/toy.json")
    whole, read = kept.read_bytes(), []
    load = review.load_each
    monkeypatch.setattr(review, "load_each", lambda *asked: read.append(asked) or load(*asked))
    assert xstilts("review", "toy.toml")[1] == first and not read
    for wrong in (b"{", b"[]", b'{"key": 1}', whole.replace(b'"verdict"', b'"v"')):
        kept.write_bytes(wrong)
        assert xstilts("review", "toy.toml")[1] == first and kept.read_bytes() == whole
    assert len(read) == 4
    Path("toy.toml").write_text(STUDY.replace("train = 20", "train = 19"))
    xstilts("review", "toy.toml")
    assert len(read) == 5 and kept.read_bytes() != whole


def test_keep(finished, xstilts):
    for keep, left in (("all", 6), ("best", 3), ("none", 0)):
        Path("toy.toml").write_text(STUDY.replace('"all"', f'"{keep}"'))
        assert xstilts("run", "toy.toml", "--json")[0] == 0
        assert len(list(Path("xstilts-store").glob("entries/*/*/encoder/model.safetensors"))) == left
    assert json.loads(xstilts("run", "toy.toml", "--json")[1])["reused"] == STAGES


def test_json_answers(finished, xstilts):
    code, out, err = xstilts("run", "toy.toml", "--json")
    answer = json.loads(out)
    assert code == 0 and (answer["run"], answer["reused"], answer["ran"]) == (0, STAGES, [])
    assert err.splitlines()[-1] == f"done: 0 stages run, {STAGES} reused; report: {answer['report']}"
    assert Path(answer["scores"]).read_text().startswith("study,model,")
    assert json.loads(xstilts("status", "toy.toml", "--json")[1])["done"] == STAGES
    assert json.loads(xstilts("--store", "new", "status", "toy.toml", "--json")[1])["missing"] == STAGES
    assert json.loads(xstilts("report", "toy.toml", "--json", "--out", "r")[1])["scores"].endswith("r/scores.csv")
    assert {task["name"] for task in json.loads(xstilts("tasks", "--json")[1])} >= {"xnli", "tatoeba"}
    assert json.loads(xstilts("tasks", "xnli", "--json")[1])["samples"]["train en"][0]["label"] == "entailment"
    assert json.loads(xstilts("check", "xnli", "--json")[1])["parts"]["train"] == 30
    gone = json.loads(xstilts("gc", "toy.toml", "--json", "--dry-run", "--store=xstilts-store")[1])
    assert gone == {"entries": [], "drafts": [], "bytes": 0, "removed": False}


def test_why_and_gc(finished, xstilts):
    Path("more.toml").write_text(STUDY.replace("seeds = [1, 2]", "seeds = [1, 2, 3]"))
    plan = json.loads(xstilts("plan", "more.toml", "--quick", "--json")[1])
    key = next(stage["key"] for stage in plan["stages"] if stage["state"] == "missing" and stage["kind"] == "intermediate")
    code, out, _ = xstilts("why", key)
    assert code == 0 and "planned, not in the store" in out and re.search(r"\n  seed: 3 here, [12] there\n", out)
    assert json.loads(xstilts("why", key[:16], "--json")[1])["key"] == key
    Path("less.toml").write_text(STUDY.replace("seeds = [1, 2]", "seeds = [1]"))
    code, out, _ = xstilts("gc", "less.toml")
    assert code == 0 and out.startswith("removed 8 entries")
    assert "0 stages to run" in xstilts("plan", "less.toml", "--quick")[1]


def test_report_before_all_is_there(finished, xstilts):
    Path("more.toml").write_text(STUDY.replace("seeds = [1, 2]", "seeds = [1, 2, 3]"))
    code, out, err = xstilts("report", "more.toml")
    assert code == 0, err
    assert out.splitlines()[-1] == f"report: {finished}/reports/toy/index.html"


def test_two_studies_side_by_side(finished, xstilts):
    write(finished / "small.toml", STUDY.replace('"toy"', '"small"').replace('"xnli", "tatoeba"', '"xnli"'))
    code, out, err = xstilts("compare", "toy.toml", "small.toml")
    assert code == 0, err
    assert "score, mean over the languages of both (A: toy, B: small)" in out and 'targets.1: "tatoeba" in A, – in B' in out
    found = json.loads(xstilts("compare", "toy.toml", "small.toml", "--json")[1])
    assert {row["target"] for row in found["differences"]} == {"xnli"}
    assert {row["difference"]["estimate"] for row in found["differences"]} == {0.0}, "the same stages"
    write(finished / "other.toml", STUDY.replace('"tiny"', '"small"').replace("encoders.tiny", "encoders.small"))
    write(finished / "other.toml", (finished / "other.toml").read_text("utf-8").replace('path = "small"', 'path = "tiny"'))
    assert_refused(xstilts("compare", "toy.toml", "other.toml"), "share no cell")


def test_a_report_says_the_command_that_makes_it_again(finished_once):
    said = (finished_once / "reports" / "toy" / "report.md").read_text("utf-8")
    assert "    xstilts run toy.toml\n" in said  # whatever options stood after it


def test_charts_and_energy_are_asked_for(finished, xstilts):
    assert_refused(xstilts("report", "toy.toml", "--charts", "jpg"), '--charts: expected one of svg, png, pdf, got "jpg"')
    code, _, err = xstilts("report", "toy.toml", "--charts", "svg", "--watts", "50")
    assert code == 0, err
    assert list((finished / "reports" / "toy" / "charts").glob("*.svg"))
    text = (finished / "reports" / "toy" / "report.md").read_text("utf-8")
    assert "at an assumed 50 W a worker" in text and "| kWh |" in text


def test_claims(finished, xstilts):
    code, out, err = xstilts("claims", "toy.toml")
    assert code == 0, err
    assert out.startswith("1: not testable here") and "the study has no intermediate choice squad" in out
    claims = {each["claim"]["id"]: each for each in json.loads(xstilts("claims", "toy.toml", "--json")[1])["claims"]}
    assert list(claims) == ["1", "2", "3", "4", "5", "6a", "6b", "7", "8", "9", "10"]
    assert claims["8"]["verdict"] == "present"
    assert "items only: 2 seeds" in claims["5"]["effects"][0]["why"] and claims["5"]["verdict"] == "inconclusive"
    text = '[[claim]]\nid = "tags"\nstatement = "Tagging helps NLI."\ngain = "udpos"\non = ["xnli"]\n'
    Path("my.toml").write_text(text)
    assert xstilts("claims", "toy.toml", "--claims", "my.toml")[1].startswith("tags: inconclusive\n    Tagging helps NLI.\n")
    Path("my.toml").write_text(text.replace("gain", "gian"))
    assert_refused(xstilts("claims", "toy.toml", "--claims", "my.toml"), 'my.toml: unknown key "claim.0.gian"; did you mean "gain"?')
    assert_refused(xstilts("claims", "toy.toml", "--claims", "no.toml"), "no.toml: cannot be read")
    text = STUDY.replace('path = "tiny"', 'path = "tiny"\nseen = ["squat"]')
    Path("toy.toml").write_text(text)
    assert_refused(xstilts("claims", "toy.toml"), 'did you mean "squad"')
    Path("toy.toml").write_text(text.replace("squat", "udpos"))
    assert "udpos: the model has seen udpos before (so the study says)" in xstilts("claims", "toy.toml")[1]


def test_a_failed_training(place, xstilts, monkeypatch):
    monkeypatch.setenv("FAKE_FAILS", "1")
    code, _, err = xstilts("run", "toy.toml")
    assert code == 2 and "the loss is nan at step 3" in err
    assert len(err.strip().splitlines()) == 1 and err.startswith("error: ")
    monkeypatch.delenv("FAKE_FAILS")
    assert xstilts("run", "toy.toml")[1].splitlines()[-1].startswith(f"done: {STAGES - 1} stages run, 1 reused; ")


BAD = [
    ("train = 20", "trian = 20", 'did you mean "train"'),
    ("seeds = [1, 2]", 'seeds = ["1"]', "seeds.0"),
    ("seeds = [1, 2]", "seeds = []", "seeds: the list is empty"),
    ('"xnli", "tatoeba"', '"xnlo", "tatoeba"', 'did you mean "xnli"'),
    ('models = ["tiny"]', 'models = ["tinny"]', 'did you mean "tinny"'),
    ('"en", "de"', '"en", "xx"', '"xx"'),
    ("[caps.all]", '[splits.xnli]\ntrain = "trian"\n[caps.all]', 'did you mean "train"'),
    ('path = "tiny"', 'path = "nowhere"', "nowhere: no such model folder"),
]


@pytest.mark.parametrize("old, new, message", BAD, ids=[new for _, new, _ in BAD])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_bad_studies(place, xstilts, command, old, new, message):
    Path("bad.toml").write_text(STUDY.replace(old, new))
    assert_refused(xstilts(command, "bad.toml"), message)
    assert not Path("reports").exists()


def test_bad_data(place, xstilts):
    small = STUDY.replace('"none", "udpos"', '"none"').replace(', "tatoeba"', "").replace("seeds = [1, 2]", "seeds = [1]")
    Path("toy.toml").write_text(small)
    path = place / "data" / "xnli" / "test-de.tsv"
    good = path.read_text()
    for text, message in (
        (good.replace("neutral", "natural", 1), "test-de.tsv:2"),
        (good.replace("\tneutral", "", 1), "test-de.tsv:2"),
        (good[:-15], "test-de.tsv:12"),
    ):
        path.write_text(text)
        assert_refused(xstilts("run", "toy.toml"), message)
        assert not Path("reports").exists()
    path.unlink()
    assert_refused(xstilts("run", "toy.toml"), "test-de.tsv")


def test_bad_places(place, xstilts):
    assert_refused(xstilts("plan", "nothing"), "neither a study file nor a ready-made study")
    assert_refused(xstilts("plan", "no/such.toml"), "no such study file")
    assert_refused(xstilts("plan", "toy.toml", "--device", "cdua"), 'did you mean "cuda"')
    assert_refused(xstilts("tasks", "xnly"), 'did you mean "xnli"')
    assert_refused(xstilts("why", "abc"), "no stage with key")
    write(place / "new" / "store.json", '{"format": 99}')
    assert_refused(xstilts("--store", "new", "run", "toy.toml"), "newer xstilts")
    assert_refused(xstilts("--store", "data", "run", "toy.toml"), "not empty")
    Path("file").write_text("")
    assert_refused(xstilts("run", "toy.toml", "--out", "file/report"), "file")


def assert_refused(answer, message):
    code, out, err = answer
    assert code == 2
    assert message in err
    assert err.startswith("error: ") or "failed" in out
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err


def test_globals_may_stand_anywhere():
    assert cli.globals_first(["run", "x", "--store", "s", "--offline", "--json"]) == [
        "--store",
        "s",
        "--offline",
        "run",
        "x",
        "--json",
    ]
    assert cli.globals_first(["--jobs=2", "run", "x"]) == ["--jobs=2", "run", "x"]
    assert cli.globals_first(["why", "--", "--store", "s"]) == ["why", "--", "--store", "s"]
    assert cli.globals_first(["run", "x", "--data"]) == ["run", "x", "--data"]


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["tasks"]])
def test_light_commands_load_no_heavy_library(words):
    code = (
        "import sys; sys.argv = ['xstilts', *sys.argv[1:]]\nfrom xstilts import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'torch', 'transformers', 'pyarrow', 'scipy', 'tokenizers'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_second_run_loads_no_torch(finished, xstilts):
    assert xstilts("run", "toy.toml")[0] == 0
    code = (
        "import sys; sys.argv = ['xstilts', 'run', 'toy.toml']\nfrom xstilts import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'torch', 'transformers', 'pyarrow', 'scipy', 'rich'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("done: 0 stages run")


def test_score(place, xstilts):
    for side, labels in (("labels", "neutral\nneutral\n"), ("predictions", "neutral\nentailment\n")):
        for code in ("de", "en"):
            write(place / side / "xnli" / f"test-{code}.tsv", labels)
    words = ("score", "predictions", "labels", "--benchmark", "xtreme")
    part = (*words, "--tasks", "xnli", "--languages", "en,de")
    answer = json.loads(xstilts(*part, "--json")[1])
    assert answer == {
        "tasks": {"xnli": {"languages": {"de": {"accuracy": 50.0}, "en": {"accuracy": 50.0}}, "average": {"accuracy": 50.0}}},
        "benchmark": {"partial": True, "groups": {}},
    }
    out = xstilts(*part)[1]
    assert out.startswith("xnli  accuracy      50.0  de 50.0  en 50.0\n")
    assert "partial" in out and "average of XTREME" not in out
    assert_refused(xstilts(*words), "predictions: no folder pawsx")
    assert_refused(xstilts(*words, "--tasks", "xnli"), "predictions/xnli/test-ar.tsv: not found")
    write(place / "predictions" / "xnli" / "test-de.tsv", "neutral\nmaybe\n")
    assert_refused(xstilts(*part), "predictions/xnli/test-de.tsv:2")
    assert_refused(xstilts(*words[:-1], "xtrem"), 'did you mean "xtreme"')


def labels_of_toy(place):
    """The toy data's labels in XTREME's layout."""
    for code in ("en", "de"):
        rows = (place / "data" / "xnli" / f"test-{code}.tsv").read_text().splitlines()
        write(place / "labels" / "xnli" / f"test-{code}.tsv", "".join(row.split("\t")[2] + "\n" for row in rows))
    write(place / "labels" / "tatoeba" / "test-de.tsv", "0\n1\n2\n3\n4\n")


def test_submit_writes_what_score_reads(finished, xstilts):
    """The fake engine is right but for every third row, where it says "neutral" (a candidate that does not exist, in retrieval)."""
    assert_refused(xstilts("submit", "toy.toml", "--out", "sub"), 'tatoeba, de: "neutral" is no candidate')
    assert not Path("sub").exists() and not list(Path().glob(".sub*"))
    Path("less.toml").write_text(STUDY.replace(', "tatoeba"', ""))
    code, out, err = xstilts("submit", "less.toml", "--out", "sub")
    assert code == 0, err
    folders = [f"sub/tiny/{step}/seed-{seed}" for step in ("none", "udpos") for seed in (1, 2)]
    assert out.splitlines()[:4] == [f"{folder}: 2 files" for folder in folders]
    assert "XTREME: 160 files are lacking, of xnli pawsx" in out
    labels_of_toy(finished)
    xstilts("report", "less.toml")
    rows = [line.split(",") for line in Path("reports/toy/scores.csv").read_text().splitlines()[1:]]
    by_place = {(step, seed, code): float(value) for _, _, step, _, code, _, seed, _, value, *_ in rows}
    for folder in folders:
        part = ("--benchmark", "xtreme", "--tasks", "xnli", "--languages", "en,de", "--json")
        scored = json.loads(xstilts("score", folder, "labels", *part)[1])["tasks"]["xnli"]["languages"]
        step, seed = folder.split("/")[2], folder[-1]
        assert {code: own["accuracy"] for code, own in scored.items()} == {c: by_place[step, seed, c] for c in ("en", "de")}
    assert_refused(xstilts("submit", "less.toml", "--out", "sub"), "not empty")
    answer = json.loads(xstilts("submit", "less.toml", "--out", "again", "--json")[1])
    assert answer["files"] == 8 and answer["folders"][0] == "again/tiny/none/seed-1" and answer["notes"] == []


@pytest.mark.slow
def test_submit_refuses_parts(finished, xstilts):
    less = STUDY.replace(', "tatoeba"', "")
    Path("capped.toml").write_text(less + "test = 5\n")
    assert_refused(xstilts("submit", "capped.toml", "--out", "sub"), "has no predictions; run the study first")
    Path("capped.toml").write_text(less + "test = 5\n")
    assert xstilts("run", "capped.toml")[0] == 0
    assert_refused(xstilts("submit", "capped.toml", "--out", "sub"), "xnli, en: only capped at 5 rows")
    assert xstilts("submit", "capped.toml", "--out", "sub", "--partial")[0] == 0
    assert len(Path("sub/tiny/none/seed-1/xnli/test-de.tsv").read_text().splitlines()) == 5
    Path("dev.toml").write_text('part = "dev"\n' + less)
    assert_refused(xstilts("submit", "dev.toml", "--out", "d"), "the study scores its dev part")
    Path("other.toml").write_text(STUDY.replace('"xnli", "tatoeba"', '"mini-pos"').replace('languages = ["en", "de"]', ""))
    assert_refused(xstilts("submit", "other.toml", "--out", "o"), "none of the study's targets")


# ---- import ----


def report_of(place, xstilts, study="toy.toml"):
    code, out, err = xstilts("report", study)
    assert code == 0, err
    scores = [line.split(",") for line in Path("reports/toy/scores.csv").read_text().splitlines()[1:]]
    transfer = [line.split(",") for line in Path("reports/toy/transfer.csv").read_text().splitlines()[1:]]
    return out, scores, transfer, Path("reports/toy/report.md").read_text()


def test_imported_predictions_are_scored_like_our_own(finished, xstilts):
    """What a study wrote, imported under another name, has the study's own scores, gains and intervals."""
    Path("xnli.toml").write_text(STUDY.replace(', "tatoeba"', ""))
    assert xstilts("submit", "xnli.toml", "--out", "sub")[0] == 0
    labels_of_toy(finished)
    for step in ("none", "udpos"):
        for seed in ("1", "2"):
            words = ("import", f"sub/tiny/{step}/seed-{seed}", "--into", "toy.toml", "--model", "other", "--intermediate", step)
            code, out, err = xstilts(*words, "--seed", seed, "--labels", "labels")
            assert code == 0, err
            assert out.startswith("imported predictions of 2 cells (xnli) into toy; ") and "left out: tatoeba: no predictions in de" in out
    out, scores, transfer, text = report_of(finished, xstilts)
    assert "toy, other (imported): score" in out
    assert re.search(r"Imported, not run here: other \(imported\) after udpos, seed 2, [-0-9]+, predictions: xnli\.", text)
    # The fake engine is as right everywhere, so that the seeds of a step have one content and one score.
    by_model = {}
    for row in scores:
        by_model.setdefault(row[1], []).append((*row[2:10],))
    assert by_model["other (imported)"] == [row for row in by_model["tiny"] if row[1] == "xnli"]
    points = {model: [row[2:11] for row in transfer if row[1] == model and row[3] == "xnli"] for model in by_model}
    assert points["tiny"] == points["other (imported)"] and len(points["tiny"]) > 6
    gone = json.loads(xstilts("gc", "toy.toml", "--json")[1])
    assert gone["entries"] == [], "imports are kept with their study"
    assert report_of(finished, xstilts)[1] == scores


@pytest.mark.slow
def test_an_imported_step_of_the_studys_own_model(finished, xstilts):
    write(finished / "elsewhere" / "xnli" / "test-de.tsv", "entailment\n" * 12)
    write(finished / "elsewhere" / "xnli" / "test-en.tsv", "neutral\n" * 12)
    words = ("import", "elsewhere", "--into", "toy.toml", "--model", "tiny", "--json")
    assert_refused(xstilts(*words), 'the study itself runs "tiny" after "none"')
    assert json.loads(xstilts(*words, "--intermediate", "qqp", "--seed", "1")[1])["imported"] == 2
    out, scores, _, text = report_of(finished, xstilts)
    assert "qqp (imported)" in out and "qqp (imported)" in text
    assert "gain of qqp (imported) on xnli, mean over languages (tiny): the two have not the same seeds" in text
    found = {(row[4], row[8]) for row in scores if row[2] == "qqp (imported)"}
    assert found == {("de", repr(100 / 3)), ("en", repr(100 / 3))}  # four of twelve, whatever one says throughout
    assert json.loads(xstilts(*words, "--intermediate", "qqp", "--seed", "1")[1])["imported"] == 2
    assert len(report_of(finished, xstilts)[1]) == len(scores), "imported again, it takes its own place"


@pytest.mark.slow
def test_imported_scores_have_no_items(finished, xstilts):
    row = """model = "large"\nparameters = 1000\nsource = "a table"\n[scores]\nxnli = 79.2\ntatoeba = {de = 57.0}\nudpos = 72\n"""
    Path("row.toml").write_text(f'series = "theirs"\n{row}')
    code, out, err = xstilts("import", "row.toml", "--into", "toy.toml")
    assert code == 0 and "imported scores of 2 cells (xnli tatoeba)" in out, err
    assert "left out: udpos: not a target of the study" in out
    Path("step.json").write_text(json.dumps({"model": "large", "intermediate": "nli", "scores": {"xnli": {"accuracy": 80.0}}}))
    assert xstilts("import", "step.json", "--into", "toy.toml")[0] == 0
    out, scores, transfer, text = report_of(finished, xstilts)
    assert "79.2" in out and "80.0 +0.8 ±?" in out
    assert ["mean", "79.2"] in [[row[4], row[8]] for row in scores if row[1] == "large (imported)"]
    (gain,) = [row for row in transfer if row[1] == "large (imported)" and row[5] == "gain" and row[3] == "xnli"]
    assert gain[6] == "accuracy" and abs(float(gain[7]) - 0.8) < 1e-9 and gain[12] == "seeds only"
    assert "Some scores were imported without their items" in text and "from a table (row.toml " in text
    assert "no interval" in text
    assert "trend over model size of tiny, large (imported): no other size was pretrained on the same data" in text
    Path("more.json").write_text(json.dumps({"model": "larger", "scores": {"xnli": {"accuracy": 81.2}}}))
    assert xstilts("import", "more.json", "--into", "toy.toml", "--parameters", "4000", "--series", "theirs")[0] == 0
    transfer = report_of(finished, xstilts)[2]
    both = "large (imported)+larger (imported)"
    (slope,) = [row[7] for row in transfer if (row[1], row[2], row[3], row[5]) == (both, "none", "xnli", "score per doubling")]
    assert abs(float(slope) - 1.0) < 1e-9


@pytest.mark.slow
def test_scores_of_another_study_are_imported(finished, xstilts):
    before = report_of(finished, xstilts)
    shutil.copy("reports/toy/scores.csv", "theirs.csv")
    code, _, err = xstilts("import", "theirs.csv", "--into", "toy.toml", "--model", "theirs")
    assert code == 0, err
    _, scores, transfer, _ = report_of(finished, xstilts)
    new = [row for row in scores if row[1] == "theirs (imported)"]
    assert [row[2:10] for row in new] == [row[2:10] for row in before[1]]
    assert [row for row in transfer if row[1] == "tiny"] == before[2], "the study's own numbers stay what they were"
    own = {tuple(row[2:6]): row[7] for row in before[2]}
    theirs = {tuple(row[2:6]): row for row in transfer if row[1] == "theirs (imported)"}
    assert theirs.keys() == own.keys()
    assert all(abs(float(row[7]) - float(own[place])) < 1e-9 and row[12] == "seeds only" for place, row in theirs.items())


BAD_ROWS = [
    ("x.toml", "scores = 3\n", "whose scores are they"),
    ("x.toml", 'model = "a"\nscores = 3\n', "expected an object"),
    ("x.toml", 'model = "a"\n[scores]\nxnli = "high"\n', "expected a number"),
    ("x.toml", 'model = "a"\n[scores]\nxnli = 792\n', "not on 0-100"),
    ("x.toml", 'model = "a"\n[scores]\nxnly = 7\n', 'did you mean "xnli"'),
    ("x.toml", 'model = "a"\n[scores]\nmnli = 7\n', "holds nothing for the targets"),
    ("x.toml", 'model = "a"\n[scores]\nxnli = {xx = 7}\n', 'has no language "xx"'),
    ("x.toml", 'model = "a"\n[scores]\nxnli = {de = {f1 = 7}}\n', 'has no metric "f1"'),
    ("x.toml", 'modle = "a"\n', 'did you mean "model"'),
    ("x.toml", "model = \n", "x.toml: not TOML"),
    ("x.json", '{"model": "a",\n', "x.json:2: not JSON"),
    ("x.csv", "a,b\n", "x.csv:1: expected the header"),
    ("x.txt", "79", "neither a folder of predictions nor"),
    ("x/xnli/test-de.tsv", "neutral\n", "x: whose predictions are they"),
]


@pytest.mark.parametrize(("name", "text", "says"), BAD_ROWS)
def test_bad_imports(place, xstilts, name, text, says):
    write(place / name, text)
    assert_refused(xstilts("import", name.split("/")[0], "--into", "toy.toml"), says)
    assert not Path("xstilts-store/imports").exists()


def test_bad_imported_predictions(finished, xstilts):
    words = ("import", "x", "--into", "toy.toml", "--model", "m", "--labels", "labels")
    labels_of_toy(finished)
    assert_refused(xstilts("import", "nowhere", "--into", "toy.toml"), "nowhere: no such file")
    for name, text, says in (
        ("xnli/test-de.tsv", "neutral\n" * 11, "test-de.tsv: 11 rows, but xnli in de has 12"),
        ("xnli/test-de.tsv", "maybe\n" * 12, "test-de.tsv:1"),
        ("tatoeba/test-de.tsv", "0\n1\n2\n3\n5\n", "candidate 5 of 5"),
        ("pawsx/test-de.tsv", "0\n", "holds nothing for the targets"),
    ):
        shutil.rmtree("x", ignore_errors=True)
        write(finished / "x" / name, text)
        assert_refused(xstilts(*words), says)
    shutil.rmtree("x")
    write(finished / "x" / "xnli" / "test-de.tsv", "neutral\n" * 12)
    write(finished / "labels" / "xnli" / "test-de.tsv", "neutral\n" * 12)
    assert_refused(xstilts(*words), "row 1 is labelled otherwise")
    assert not Path("xstilts-store/imports").exists()


@pytest.mark.slow
def test_tatoebas_labels_say_in_which_order_the_candidates_stood(finished, xstilts):
    write(finished / "x" / "tatoeba" / "test-de.tsv", "4\n3\n2\n1\n1\n")
    write(finished / "shuffled" / "tatoeba" / "test-de.tsv", "4\n3\n2\n1\n0\n")
    for model, labels, value in (("plain", (), "20.0"), ("mixed", ("--labels", "shuffled"), "80.0")):
        assert xstilts("import", "x", "--into", "toy.toml", "--model", model, *labels)[0] == 0
        (row,) = [row for row in report_of(finished, xstilts)[1] if row[1] == f"{model} (imported)"]
        assert row[8] == value


def test_no_mean_is_made_of_some_of_the_languages(finished, xstilts):
    Path("one.toml").write_text('model = "large"\n[scores]\nxnli = {de = 70}\n')
    assert xstilts("import", "one.toml", "--into", "toy.toml")[0] == 0
    out, scores, transfer, text = report_of(finished, xstilts)
    assert [row[4] for row in scores if row[1] == "large (imported)"] == ["de"]
    assert [row[4] for row in transfer if row[1] == "large (imported)"] == ["de"]
    assert "mean of xnli after none (large (imported)): not scored in all of its languages" in text
    assert "large (imported): score" in out and "missing" in out
    Path("one.toml").write_text('model = "large"\n[scores]\nxnli = 70\n')
    assert_refused(xstilts("import", "one.toml", "--into", "toy.toml"), "a mean over languages and single languages")
