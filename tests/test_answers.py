"""What a study's question comes to, and trends drawn out: on studies and lines with a known answer."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study_maker import TASKS, finder, make_study, task_of
from xstilts import stats
from xstilts.analysis.answers import Answer
from xstilts.errors import StudyError
from xstilts.report import Facts, Report, evaluate
from xstilts.report.drawings import Drawings, drawn
from xstilts.report.page import page
from xstilts.report.tables import write_answers
from xstilts.report.text import markdown
from xstilts.report.view import View
from xstilts.report.words import verdict
from xstilts.study import Asked, parse_study

GAINS = {"none": 0.0, "english": 2.0, "many": 10.0}
ASKED = (Asked("gap", "large", "small"), Asked("gain", "large", "small"), Asked("score", "many", "english", by="family"))


def asked_of(folder: Path, asked: tuple[Asked, ...], gains: Mapping[str, float], seeds: int, **facts: Any) -> Report:
    cells = make_study(folder, gains, ("small", "large"), ("nli", "match"), range(seeds), items=80, noise=0.5, closing=1.5)
    return evaluate(Facts("toy", asked=asked, **facts), cells, finder(folder), task_of=task_of, resamples=300)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The larger model has a narrower gap; many languages beat English alone by 8 points; no gain differs by size."""
    return asked_of(tmp_path_factory.mktemp("asked"), ASKED, GAINS, 3, series={"small": "one", "large": "one"})


def rows_of(report: Report, asked: Asked) -> dict[tuple[str, str, str], Answer]:
    return {(row.place, row.target, row.group): row for row in report.answers if row.asked == asked}


def test_a_difference_is_that_of_the_two_sides(report: Report) -> None:
    gaps = {(row.model, row.intermediate, row.target): row.gap.estimate for row in report.transfer.gaps}
    found = rows_of(report, ASKED[0])
    assert set(found) == {(step, target, "") for step in GAINS for target in ("nli", "")}  # match has no English rows, so no gap
    for step in GAINS:
        apart = gaps["large", step, "nli"] - gaps["small", step, "nli"]
        assert found[step, "nli", ""].difference.estimate == pytest.approx(apart)
        assert found[step, "", ""].difference.estimate == pytest.approx(apart)
        assert found[step, "nli", ""].difference.sign == -1
    gains = {(row.model, row.intermediate, row.target): row.gain.estimate for row in report.transfer.gains if not row.language}
    of_gain = rows_of(report, ASKED[1])
    assert set(of_gain) == {(step, target, "") for step in ("english", "many") for target in ("nli", "match", "")}
    for (step, target, _), row in of_gain.items():
        assert row.difference.estimate == pytest.approx(gains["large", step, target] - gains["small", step, target])


def test_two_choices_are_compared_in_each_model_and_by_family(report: Report) -> None:
    found = rows_of(report, ASKED[2])
    level = {(r.model, r.intermediate, r.target, r.language): r.score.estimate for r in report.transfer.levels}
    for model in ("small", "large"):
        mean = found[model, "", ""]
        assert mean.targets == ("match", "nli") and mean.difference.low > 0
        parts = [found[model, target, ""].difference.estimate for target in mean.targets]
        assert mean.difference.estimate == pytest.approx(np.mean(parts))
        turkic = found[model, "nli", "Turkic"].difference.estimate
        assert turkic == pytest.approx(level[model, "many", "nli", "tr"] - level[model, "english", "nli", "tr"])
    assert "en" not in TASKS["match"].languages and ("small", "nli", "Indo-European") in found


def test_the_words_say_what_was_planted_and_what_they_cannot(report: Report) -> None:
    said = [text for lead, text in verdict(report) if lead == "Answer"]
    assert len(said) == 3
    assert "With large it is narrower after none, after english and after many" in said[0]
    assert "one pretraining" in said[0] and "alike" not in said[0]
    assert "With many it is higher in small and in large" in said[2] and "stand after Holm's correction: " in said[2]
    text = markdown(report)
    assert text.index("## Answer to the question") < text.index("## Method") and all(line in text for line in said)


def test_two_seeds_are_no_answer_and_unlike_models_are_said(tmp_path: Path) -> None:
    said = next(text for lead, text in verdict(asked_of(tmp_path, ASKED[:1], {"none": 0.0}, 2)) if lead == "Answer")
    assert "this is no answer yet" in said and "no effect of size alone" in said and "narrower" not in said


def test_the_files_hold_every_answer(report: Report, tmp_path: Path) -> None:
    assert "<h2>Answer to the question</h2>" in page(report, Drawings({}, {}, {}, {}))
    write_answers(report, tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report.answers)
    one = next(row for row in rows if (row["what"], row["place"], row["target"]) == ("gap", "many", "mean"))
    assert float(one["estimate"]) == rows_of(report, ASKED[0])["many", "", ""].difference.estimate


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"what": "gap", "first": "a", "second": "a"}, "compared with itself"),
        ({"what": "gap", "first": "a", "second": "none"}, 'answers.0: "none": name two of "models" or two of "intermediates"'),
        ({"what": "gain", "first": "x", "second": "none"}, 'answers.0.what: one choice over another .* use "score"'),
        ({"what": "gap", "first": "a", "second": "b", "by": "family"}, "answers.0.by: a gap is over all languages"),
        ({"what": "gape", "first": "a", "second": "b"}, "answers.0.what: expected"),
        ({"what": "gap", "frist": "a", "second": "b"}, 'unknown key "answers.0.frist"; did you mean "first"'),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong: Mapping[str, str], said: str) -> None:
    base = {"name": "s", "models": ["a", "b"], "intermediates": ["none", "x"], "targets": ["t"], "seeds": [1]}
    with pytest.raises(StudyError, match=said):
        parse_study({**base, "answers": [wrong]})


# ---- beyond the largest model ----


@pytest.mark.parametrize("count", [3, 4, 6])
def test_a_point_beyond_the_line_is_covered(count: int) -> None:
    rng = np.random.default_rng(count)
    x = np.arange(count, dtype=np.float64)
    hit = 0
    for _ in range(2000):
        y = 40.0 + 3.0 * x + rng.normal(0, 2.0, count)
        found = stats.predicted(x, y, count + 1.0, 3)
        hit += found.low <= 40.0 + 3.0 * (count + 1.0) + rng.normal(0, 2.0) <= found.high
    assert 0.935 <= hit / 2000 <= 0.965
    exact = stats.predicted(x, 40.0 + 3.0 * x, count + 1.0, 3)
    assert (exact.estimate, exact.low, exact.high) == pytest.approx((40.0 + 3.0 * (count + 1),) * 3)


@pytest.mark.slow
def test_a_trend_is_drawn_out_by_two_doublings_and_marked(tmp_path: Path) -> None:
    sizes = {"s": 1_000_000, "m": 2_000_000, "l": 4_000_000, "xl": 8_000_000}
    cells = make_study(tmp_path, {"none": -20.0}, tuple(sizes), ("nli",), (0,), items=100, size_step=4.0, noise=0.3)

    def report(names: tuple[str, ...]) -> Report:
        facts = Facts("toy", parameters=sizes, series=dict.fromkeys(sizes, "alike"))
        return evaluate(facts, [cell for cell in cells if cell.model in names], finder(tmp_path), task_of=task_of, resamples=100)

    found = report(tuple(sizes))
    score = {row.doublings: row for row in found.transfer.beyond if row.what == "score"}
    assert {doublings: row.parameters for doublings, row in score.items()} == {1: 16_000_000, 2: 32_000_000}
    level = {row.model: row.score.estimate for row in found.transfer.levels if not row.language}
    line = np.polyfit(range(4), [level[name] for name in sizes], 1)
    for doublings, row in score.items():
        assert row.value.estimate == pytest.approx(np.polyval(line, 3 + doublings))
        assert row.value.kind == "sizes" and row.value.low < row.value.estimate < row.value.high <= 100.0
    assert score[2].value.error > score[1].value.error
    drawing = drawn(View(found)).sizes["nli"]
    assert "extrapolated, not measured: none, 16M" in drawing.about and "stroke-dasharray" in drawing.svg()
    text = markdown(found)
    assert "### Extrapolated" in text and "never further" in text and "32M (x4)" in text
    assert "(×4)" in page(found, Drawings({}, {"nli": drawing}, {}, {}))
    two = report(("s", "m"))
    assert two.transfer.trends and not two.transfer.beyond
    assert "extrapolated" not in drawn(View(two)).sizes["nli"].about and "### Extrapolated" not in markdown(two)
