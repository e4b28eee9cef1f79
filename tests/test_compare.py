"""Two studies side by side, tables for LaTeX and charts as files, on studies with a known effect."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from study_maker import Cell, finder, make_study, task_of
from xstilts.analysis.compare import Comparison, compare
from xstilts.errors import StudyError
from xstilts.plan import Plan
from xstilts.report import Facts, comparison, evaluate, write_report
from xstilts.report.drawings import FORMATS
from xstilts.report.latex import escaped, latex


@dataclass(frozen=True)
class Design:
    name: str
    rate: float


@dataclass(frozen=True)
class Made:
    """What `compare` looks at of a plan."""

    study: Design
    cells: tuple[Cell, ...]
    data_lines: tuple[str, ...] = ("test: nli test",)


def study(folder: Path, points: float, name: str, **more: Any) -> Made:
    """A study of its own entries: the base differs in nothing, the choice gains so many points."""
    cells = make_study(folder, {"none": 0.0, "nli": points}, targets=("nli",), items=100, noise=0.5, **more)
    return Made(Design(name, points), tuple(cells))


def compared(one: Made, other: Made, folder: Path) -> Comparison:
    return compare(cast(Plan, one), cast(Plan, other), finder(folder), task_of, np.random.default_rng(0), 200)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Made, Path]:
    """The second study's choice gains ten points more; its files stand beside the first one's, under other keys."""
    folder = tmp_path_factory.mktemp("two")
    one = study(folder / "a", 0.0, "one")
    other = study(folder / "b", 10.0, "other")
    moved = []
    for cell in other.cells:
        predict = replace(cell.predict, stride=1)
        shutil.copytree(folder / "b" / cell.predict.key, folder / "a" / predict.key, dirs_exist_ok=True)
        moved.append(replace(cell, predict=predict))
    return one, replace(other, cells=tuple(moved)), folder / "a"


def test_a_known_difference_is_found_and_none_where_there_is_none(two: tuple[Made, Made, Path]) -> None:
    found = compared(*two)
    means = {(row.what, row.intermediate): row for row in found.differences if not row.language}
    assert means["score", "none"].difference.estimate == 0.0 and means["score", "none"].difference.sign == 0
    gained, scored = means["gain", "nli"], means["score", "nli"]
    assert gained.difference.sign == scored.difference.sign == 1
    assert gained.difference.estimate == pytest.approx(gained.values[1] - gained.values[0])
    assert 7 < gained.difference.estimate < 18
    assert gained.same_rows and gained.difference.kind == "seeds and items"
    # paired on items: the tests' difficulty is not in the interval
    alone = evaluate(Facts("s"), two[0].cells, finder(two[2]), task_of=task_of, resamples=200).transfer.levels
    width = next(level.score.high - level.score.low for level in alone if (level.intermediate, level.language) == ("nli", ""))
    assert scored.difference.high - scored.difference.low < 2 * width
    assert {row.language for row in found.differences if row.what == "gain"} > {"", "en", "de"}


def test_what_the_designs_do_not_share_is_said(two: tuple[Made, Made, Path]) -> None:
    one, other, folder = two
    other = replace(other, data_lines=("test: nli dev",))
    found = compared(one, other, folder)
    assert found.design == (("rate", "0", "10"), ("rows", "test: nli test", "–"), ("rows", "–", "test: nli dev"))
    text = comparison(found, "one", "other")
    assert "rate: 0 in A, 10 in B" in text and re.search(r"nli +nli +\S+ +\S+ +\+1\d\.\d \(.*\)\*", text)


def test_seeds_and_missing_cells(two: tuple[Made, Made, Path]) -> None:
    one, other, folder = two
    fewer = replace(other, cells=tuple(cell for cell in other.cells if cell.seed != 2))
    found = compared(one, fewer, folder)
    assert not found.differences
    assert "score of nli after none (small), mean: 3 seeds in A, 2 in B" in found.left_out
    gone = next(cell for cell in other.cells if cell.intermediate == "nli" and cell.language == "de")
    kept = compare(
        cast(Plan, one), cast(Plan, other), lambda key: None if key == gone.predict.key else finder(folder)(key), task_of,
        np.random.default_rng(0), 50,
    )  # fmt: skip
    assert "score of nli after nli (small), de: cells are missing in B" in kept.left_out
    assert "score of nli after nli (small), mean: cells are missing in B" in kept.left_out
    apart = replace(other, cells=tuple(replace(cell, model="large") for cell in other.cells))
    with pytest.raises(StudyError, match="one and other share no cell"):
        compared(one, apart, folder)


def test_latex_tables(two: tuple[Made, Made, Path], tmp_path: Path) -> None:
    report = evaluate(Facts("a_b"), two[1].cells, finder(two[2]), task_of=task_of, resamples=100)
    text = latex(report)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == text.count(r"\bottomrule") == 3
    row = next(gain for gain in report.transfer.gains if gain.target == "nli" and not gain.language)
    assert f"$+{row.gain.estimate:.1f} \\pm {(row.gain.high - row.gain.low) / 2:.1f}^*$" in text
    for line in (line for line in text.splitlines() if line.endswith(r"\\")):
        assert line.replace(r"\&", "").count("&") in (1, 2, 5)
    assert escaped("50 % of a_b & c\N{MINUS SIGN}1") == r"50 \% of a\_b \& c$-$1"
    if shutil.which("pdflatex"):  # not on every machine
        (tmp_path / "t.tex").write_text(f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{text}\\end{{document}}")
        subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


def test_charts_as_files(two: tuple[Made, Made, Path], tmp_path: Path) -> None:
    report = evaluate(Facts("s"), two[1].cells, finder(two[2]), task_of=task_of, resamples=50)
    begins = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    for form in FORMATS:
        write_report(report, tmp_path, form)
        (path,) = (tmp_path / "charts").glob(f"*.{form}")
        assert path.stem == "families-nli" and path.read_bytes().startswith(begins[form])
    svg = (tmp_path / "charts" / "families-nli.svg").read_text("utf-8")
    assert "Indo-European (4 languages)" in svg and "var(--" not in svg
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "var(--s1)" in page and "#0072b2" not in page.split("</style>")[1]
    names = [line.split(",")[5] for line in lines(tmp_path / "languages.csv")]
    assert set(names) == {"kind", "family", "genus", "script", "slope"}


def lines(path: Path) -> Iterator[str]:
    yield from path.read_text("utf-8").splitlines()
