"""Studies with a known effect, none and a reversed one, from their files through the store to the verdict of `xstilts claims`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from test_cli import lay_out, settle, write
from xstilts import cli, rows
from xstilts.examples import group_of
from xstilts.scores import write_predictions

pytestmark = pytest.mark.slow
CLAIM = '[[claim]]\nid = "tags"\nstatement = "Tagging helps NLI."\ngain = "udpos"\non = ["xnli"]\n'
LABELS = ("entailment", "neutral", "contradiction")


def plant(where: Path, points: float) -> None:
    """The toy study with three seeds and 150 test rows, answered with a share of right answers that the intermediate task moves."""
    lay_out(where)
    for language in ("en", "de"):
        made = [f"test {language} premise {n}\t{language} hypothesis {n}\t{LABELS[n % 3]}" for n in range(150)]
        write(where / "data" / "xnli" / f"test-{language}.tsv", "\n".join(made) + "\n")
    text = (where / "toy.toml").read_text("utf-8").replace("seeds = [1, 2]", "seeds = [1, 2, 3]").replace('"xnli", "tatoeba"', '"xnli"')
    write(where / "toy.toml", text)
    write(where / "claims.toml", CLAIM)
    place = cli.Place(where / "xstilts-store", where / "data", 1, "cpu", True)
    store, made_plan = cli._planned(place, "toy.toml")
    for cell in made_plan.cells:
        examples = rows.load(cell.predict.rows, place.data)
        rng = np.random.default_rng([cell.seed, cell.intermediate == "none", cell.language == "en"])
        rate = 0.6 + (points / 100 if cell.intermediate != "none" else 0.0) + rng.normal(0, 0.01)
        gold = [str(example.label) for example in examples]
        pred = [label if rng.random() < rate else LABELS[(LABELS.index(label) + 1) % 3] for label in gold]
        with store.claim(cell.predict.key) as draft:
            assert draft is not None
            write_predictions(
                draft / "out" / "predictions.parquet", [e.id for e in examples], [group_of(e) for e in examples],
                [[label] for label in gold], [[label] for label in pred],
            )  # fmt: skip
            store.finish(cell.predict, 0.1, {"machine": "none"}, {"tokens": 10, "seconds": 0.1})


@pytest.mark.parametrize(("points", "verdict"), [(15.0, "supported"), (0.0, "inconclusive"), (-15.0, "contradicted")])
def test_planted_studies_get_the_right_verdict(
    points: float, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(monkeypatch, tmp_path)
    plant(tmp_path, points)
    monkeypatch.setattr("sys.argv", ["xstilts", "claims", "toy.toml", "--claims", "claims.toml", "--json"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    (claim,) = json.loads(capsys.readouterr().out)["claims"]
    assert claim["verdict"] == verdict
    (effect,) = claim["effects"]
    assert effect["interval"]["low"] - 2 < points < effect["interval"]["high"] + 2
