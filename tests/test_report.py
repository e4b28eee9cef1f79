"""From cells to gains, gaps and trends, and to the page: on studies with a known effect."""

from __future__ import annotations

import csv
import html.parser
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import open_browser
from study_maker import TASKS, Cell, finder, make_study, task_of, write_predictions
from xstilts import scores
from xstilts.analysis.review import Check, Finding, Review
from xstilts.analysis.transfer import Gain, Transfer, transfer
from xstilts.languages import LANGUAGES
from xstilts.plan import Read, together
from xstilts.report import FILES, Cost, Facts, Report, evaluate, table, write_report
from xstilts.report.charts import axis
from xstilts.report.drawings import drawn
from xstilts.report.view import View
from xstilts.report.words import duration, number, signed, size, verdict
from xstilts.scores import read_predictions
from xstilts.stages import Rows
from xstilts.task import Part

Find = Callable[[str], Path | None]


def analyse(
    cells: list[Cell], find: Find, parameters: Mapping[str, int] | None = None, series: Mapping[str, str] | None = None
) -> Transfer:
    return transfer(scores.load(cells, find, task_of), task_of, np.random.default_rng(0), parameters, series, resamples=300)


def of(found: Transfer, intermediate: str, target: str, language: str = "", same: bool = False) -> Gain:
    rows = [
        row
        for row in found.gains
        if (row.intermediate, row.target, row.language) == (intermediate, target, language) and (target or row.same_data == same)
    ]
    assert len(rows) == 1
    return rows[0]


def report_of(cells: list[Cell], folder: Path, facts: Facts | None = None) -> Report:
    return evaluate(facts or Facts("toy"), cells, finder(folder), task_of=task_of, resamples=300)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Cell], Path]:
    """One intermediate that helps by 8 points, one that does nothing, one that hurts by 8; nli -> nli is the same data."""
    folder = tmp_path_factory.mktemp("planted")
    same = frozenset({("nli", "nli")})
    gains = {"none": 0.0, "nli": 8.0, "idle": 0.0, "bad": -8.0}
    return make_study(folder, gains, targets=("nli", "match"), seeds=(0, 1, 2, 3), items=80, same_data=same, noise=0.5), folder


@pytest.fixture(scope="module")
def found(planted: tuple[list[Cell], Path]) -> Transfer:
    return analyse(planted[0], finder(planted[1]))


def test_gains_are_differences_of_the_scores_paired_by_seed(planted: tuple[list[Cell], Path], found: Transfer) -> None:
    cells, folder = planted
    results = scores.load(cells, finder(folder), task_of)
    value = {(r.intermediate, r.target, r.language, r.seed): r.value for r in scores.scores_of("s", results)}
    for language in ("en", "ja"):
        own = [value["nli", "nli", language, s] - value["none", "nli", language, s] for s in range(4)]
        assert of(found, "nli", "nli", language).gain.estimate == pytest.approx(np.mean(own))
    means = [np.mean([value[i, "match", c, s] for c in TASKS["match"].languages for s in range(4)]) for i in ("bad", "none")]
    row = of(found, "bad", "match")
    assert (row.score, row.baseline) == pytest.approx(means)
    assert row.gain.estimate == pytest.approx(means[0] - means[1])
    assert row.gain.kind == "seeds and items"


def test_planted_effects_get_the_right_signs(found: Transfer) -> None:
    assert [of(found, name, "match").gain.sign for name in ("nli", "idle", "bad")] == [1, 0, -1]


def test_same_data_is_kept_out_of_the_mean_and_shown_apart(found: Transfer) -> None:
    apart, mean = of(found, "nli", "", same=True), of(found, "nli", "")
    assert (mean.targets, apart.targets) == (("match",), ("nli",))
    assert mean.gain.estimate == pytest.approx(of(found, "nli", "match").gain.estimate)
    both = of(found, "bad", "")
    assert both.targets == ("match", "nli")
    parts = [of(found, "bad", target).gain.estimate for target in ("match", "nli")]
    assert both.gain.estimate == pytest.approx(np.mean(parts))


def test_gap_is_english_minus_the_mean_of_the_others(found: Transfer) -> None:
    level = {(r.intermediate, r.language): r.score.estimate for r in found.levels if r.target == "nli"}
    gaps = {row.intermediate: row for row in found.gaps}
    others = [code for code in TASKS["nli"].languages if code != "en"]
    for name, row in gaps.items():
        assert row.english == pytest.approx(level[name, "en"])
        assert row.others == pytest.approx(np.mean([level[name, code] for code in others]))
        assert row.gap.estimate == pytest.approx(row.english - row.others)
    change = gaps["bad"].change
    assert change is not None
    assert change.estimate == pytest.approx(gaps["bad"].gap.estimate - gaps["none"].gap.estimate)
    assert gaps["none"].change is None
    assert {row.target for row in found.gaps} == {"nli"}  # match has no English test rows, and that is said
    assert any("match" in line and "no en test rows" in line for line in found.left_out)


def test_trend_is_the_slope_per_doubling(tmp_path: Path) -> None:
    sizes = {"s": 1_000_000, "m": 4_000_000, "l": 16_000_000}
    cells = make_study(tmp_path, {"none": 0.0, "nli": 2.0}, tuple(sizes), targets=("nli",), items=60)
    found = analyse(cells, finder(tmp_path), sizes, dict.fromkeys(sizes, "alike"))
    level = {(r.model, r.intermediate): r.score.estimate for r in found.levels if not r.language}
    trends = {(row.what, row.intermediate): row for row in found.trends}
    assert set(trends) == {("score", "none"), ("gap", "none"), ("score", "nli"), ("gap", "nli"), ("gain", "nli")}
    slope = np.polyfit([0, 2, 4], [level[m, "none"] for m in sizes], 1)[0]
    assert trends["score", "none"].slope.estimate == pytest.approx(slope)
    difference = np.polyfit([0, 2, 4], [level[m, "nli"] - level[m, "none"] for m in sizes], 1)[0]
    assert trends["gain", "nli"].slope.estimate == pytest.approx(difference)
    assert trends["score", "none"].slope.sign == 1  # 6 points for each of two steps are planted
    assert not analyse(cells, finder(tmp_path)).trends  # sizes unknown


@pytest.mark.slow
def test_no_trend_goes_through_models_that_were_pretrained_unlike(tmp_path: Path) -> None:
    sizes = {"s": 1_000_000, "m": 4_000_000, "l": 16_000_000, "other": 2_000_000, "unknown": 8_000_000}
    cells = make_study(tmp_path, {"none": 0.0, "nli": 2.0}, tuple(sizes), targets=("nli",), items=20)
    series = {"s": "one", "l": "one", "m": "two", "other": "two"}
    found = analyse(cells, finder(tmp_path), sizes, series)
    assert {row.models for row in found.trends} == {("s", "l"), ("other", "m")}
    level = {(r.model, r.intermediate): r.score.estimate for r in found.levels if not r.language}
    slopes = {row.models: row.slope.estimate for row in found.trends if (row.what, row.intermediate) == ("score", "none")}
    assert slopes["s", "l"] == pytest.approx((level["l", "none"] - level["s", "none"]) / 4)
    assert slopes["other", "m"] == pytest.approx(level["m", "none"] - level["other", "none"])
    assert any("trend over model size of unknown:" in line for line in found.left_out)
    alone = analyse(cells, finder(tmp_path), sizes, {name: name for name in sizes})
    assert not alone.trends and any("trend over model size of" in line and all(m in line for m in sizes) for line in alone.left_out)

    def parts(series: Mapping[str, str]) -> tuple[int, str]:
        report = report_of(cells, tmp_path, Facts("toy", parameters=sizes, series=series))
        spec = drawn(View(report)).sizes["nli"].spec
        (joined,) = (layer for layer in spec["layer"] if layer["mark"]["type"] == "line" and "strokeDash" not in layer["mark"])
        lines = {row["ladder"] for row in spec["datasets"][joined["data"]["name"]]}
        return len(lines), (write_report(report, tmp_path / "out").parent / "report.md").read_text("utf-8")

    assert parts(dict.fromkeys(sizes, "one"))[0] == 1
    pieces, text = parts(series)
    assert pieces == 2 and "| s l | score |" in text and "| other m | score |" in text


def test_a_missing_cell_is_named_and_never_averaged_over(planted: tuple[list[Cell], Path]) -> None:
    cells, folder = planted
    gone = next(c for c in cells if (c.intermediate, c.target, c.language, c.seed) == ("bad", "nli", "de", 2))

    def find(key: str) -> Path | None:
        return None if key == gone.predict.key else finder(folder)(key)

    found = analyse(cells, find)
    here = {(row.target, row.language) for row in found.gains if row.intermediate == "bad"}
    assert ("nli", "de") not in here
    assert ("nli", "") not in here
    assert ("", "") not in here
    assert {("nli", "en"), ("match", "")} <= here
    assert any("bad on nli, de" in line for line in found.left_out)
    report = evaluate(Facts("toy"), cells, find, task_of=task_of, resamples=50)
    assert report.missing == (gone,)
    assert "missing" in table(report)


def test_what_was_not_trained_has_no_seed_noise(found: Transfer) -> None:
    level = {(r.intermediate, r.target): r.score for r in found.levels if not r.language}
    assert level["none", "match"].kind == "untrained"
    assert level["nli", "match"].kind == "seeds and items"


# the words


def test_verdict_says_what_was_planted_and_no_more(planted: tuple[list[Cell], Path]) -> None:
    text = " ".join(line for _, line in verdict(report_of(*planted)))
    assert "raises the mean score" in text
    assert "nli by" in text.split("lowers")[0]
    assert "bad by" in text.split("lowers")[1]
    assert "idle (" in text
    assert "could not have been seen" in text


def test_a_verdict_says_what_was_not_learnt_and_what_is_all_same_data(planted: tuple[list[Cell], Path], tmp_path: Path) -> None:
    report = report_of(*planted)
    learnt = [replace(row, failed=(), unclear=()) for row in report.stability]
    assert "Read with care" not in dict(verdict(replace(report, stability=tuple(learnt))))
    half = [replace(row, unclear=(0, 1)) for row in learnt]  # of four seeds
    assert "Read with care" not in dict(verdict(replace(report, stability=tuple(half))))
    most = [replace(row, unclear=(0, 1, 3)) for row in learnt]
    assert dict(verdict(replace(report, stability=tuple(most))))["Read with care"].startswith("On nli 12 of 16 runs cannot be told")
    cells = make_study(tmp_path, {"none": 0.0, "nli": 2.0}, targets=("nli",), items=20, same_data=frozenset({("nli", "nli")}))
    assert "Every choice has read more" in dict(verdict(report_of(cells, tmp_path)))[""]


@pytest.mark.slow
def test_a_verdict_on_many_choices_names_those_that_stand_alone(tmp_path: Path) -> None:
    gains = {"none": 0.0, "help": 9.0, **{f"idle{n}": 0.0 for n in range(9)}}
    cells = make_study(tmp_path, gains, targets=("nli",), items=60, noise=0.5)
    report = report_of(cells, tmp_path)
    text = " ".join(line for _, line in verdict(report))
    means = {row.intermediate: row.gain for row in report.transfer.gains if not row.target}
    rest = [gain for name, gain in means.items() if name != "help"]
    least, most = min(g.estimate for g in rest), max(g.estimate for g in rest)
    assert f"help by {number(means['help'].estimate)} points" in text
    assert "idle" not in text
    assert f"For the other 9 choices (means from {signed(least)} to {signed(most)}, " in text
    assert f"every interval within {signed(min(g.low for g in rest))} and {signed(max(g.high for g in rest))})" in text


def test_two_seeds_give_no_verdict(tmp_path: Path) -> None:
    cells = make_study(tmp_path, {"none": 0.0, "nli": 20.0}, targets=("nli",), seeds=(0, 1), items=50)
    report = report_of(cells, tmp_path)
    text = " ".join(line for _, line in verdict(report))
    assert "no verdict" in text
    assert "raises" not in text
    assert "items only" in table(report)
    assert {row.gain.kind for row in report.transfer.gains} == {"items only"}


def test_a_study_without_baseline_or_scores_says_so(tmp_path: Path) -> None:
    cells = make_study(tmp_path, {"nli": 0.0}, targets=("nli",), items=10)
    assert "baseline" in verdict(report_of(cells, tmp_path))[0][1]
    empty = report_of(cells, tmp_path / "nowhere")
    assert "No target has been scored" in verdict(empty)[0][1]
    page = write_report(empty, tmp_path / "out").read_text()
    assert "No target has been scored" in page


def test_numbers_in_words() -> None:
    assert [signed(x) for x in (1.25, -0.04, -3.0)] == ["+1.2", "0.0", "\N{MINUS SIGN}3.0"]
    assert number(-0.01) == "0.0"
    assert [size(n) for n in (950, 1_300_000, 278_000_000, 3_500_000_000)] == ["950", "1.3M", "278M", "3.5B"]
    assert [duration(s) for s in (0.42, 12, 200, 7500)] == ["0.4 s", "12 s", "3 min 20 s", "2 h 5 min"]


@pytest.mark.parametrize("values", [(0.0, 0.0), (-3.2, 11.0), (99.0, 99.5), (-0.4, 0.3), (12.0, 87.0)])
def test_an_axis_holds_its_values(values: tuple[float, float]) -> None:
    found = axis(values)
    assert found.low <= min(values) <= max(values) <= found.high
    assert 2 <= len(found.ticks) <= 8
    assert found.at(found.low) == 0.0
    assert found.at(found.high) == 100.0


# the files


def full_report(planted: tuple[list[Cell], Path]) -> Report:
    facts = Facts(
        "toy",
        question="Does it <b>help</b>?",
        command="xstilts run toy",
        model_notes={"small": "its teacher was tuned on NLI data: see `a<b`"},
        caps=("nli: train at most 8,000",),
        data={"An epoch of each mix": ("both: nli en 300 of 400, hash cut",), "Searches": ()},
        versions={"numpy": "2"},
        costs=(Cost("target", 3, 61.0),),
    )
    return report_of(*planted, facts)


@pytest.mark.slow
def test_the_same_cells_give_the_same_bytes(planted: tuple[list[Cell], Path], tmp_path: Path) -> None:
    cells, folder = planted
    write_report(full_report(planted), tmp_path / "a")
    write_report(full_report((list(cells), folder)), tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_transfer_csv_holds_every_interval(planted: tuple[list[Cell], Path], tmp_path: Path) -> None:
    report = full_report(planted)
    write_report(report, tmp_path)
    with (tmp_path / "transfer.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    gains = {(r["intermediate"], r["target"], r["language"], r["same_data"]): r for r in rows if r["what"] == "gain"}
    assert len(gains) == len(report.transfer.gains)
    row = gains["bad", "mean", "mean", "no"]
    gain = of(report.transfer, "bad", "").gain
    assert (float(row["estimate"]), float(row["low"]), float(row["high"])) == (gain.estimate, gain.low, gain.high)
    assert sum(r["what"] == "score" for r in rows) == len(report.transfer.levels)
    assert {r["what"] for r in rows} == {"gain", "gap", "gap change", "score", "consistency"}
    alike = {(r["intermediate"], r["language"]): r for r in rows if r["what"] == "consistency"}
    assert len(alike) == len(report.consistency) == 4 * len(TASKS["nli"].languages)  # eleven languages and their mean


class Reader(html.parser.HTMLParser):
    """Collects tags and addresses; fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_self_contained_and_escaped(planted: tuple[list[Cell], Path], tmp_path: Path) -> None:
    page = write_report(full_report(planted), tmp_path)
    text = page.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert "script" not in reader.tags
    assert all(address.startswith("data:") for address in reader.addresses)
    assert "url(" not in text
    assert "Does it &lt;b&gt;help&lt;/b&gt;?" in text and "see <code>a&lt;b</code>" in text
    for said in ("its teacher was tuned on NLI data", "nli: train at most 8,000", "xstilts run toy", "hash cut", "1 min 1 s"):
        assert said in text
        assert said in (tmp_path / "report.md").read_text(encoding="utf-8")


LOOK = """(() => {
  const wide = [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll *, svg, details:not([open]) *')
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className);
  const marks = [...document.querySelectorAll('.strip .bar, .pair .dot')].filter(e => e.getBoundingClientRect().width > 0).length;
  const ink = getComputedStyle(document.body);
  return {page: document.documentElement.scrollWidth - innerWidth, wide: wide.slice(0, 5), marks,
    paper: ink.backgroundColor, ink: ink.color,
    charts: [...document.querySelectorAll('figure svg')].map(s => s.querySelectorAll('.mark-symbol path').length)};
})()"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two models, two targets and three choices."""
    folder = tmp_path_factory.mktemp("shown")
    sizes = {"s": 1_000_000, "m": 4_000_000}
    cells = make_study(folder, {"none": 0.0, "nli": 5.0, "bad": -4.0}, tuple(sizes), targets=("nli", "match"), items=20)
    alike = dict.fromkeys(sizes, "one")
    facts = Facts("toy", parameters=sizes, series=alike, model_notes={"s": "a note"}, command="xstilts run " + "x" * 200)
    many = Finding("bad", ("a reason of many words, " * 20, "x" * 60))
    report = replace(report_of(cells, folder, facts), review=Review((Check("data", "near-duplicates", many, 10.0),)))
    return write_report(report, folder / "out")


@pytest.mark.browser
def test_the_page_in_a_browser(shown: Path, tmp_path: Path) -> None:
    """Light, dark, phone and print: nothing overflows, marks are drawn, the console stays empty."""
    page, papers = shown, {}
    with open_browser(tmp_path / "home") as browser:
        for width, scheme, medium in (
            (1200, "light", ""),
            (1600, "dark", ""),
            (390, "light", ""),
            (390, "dark", ""),
            (320, "light", ""),
            (800, "light", "print"),
        ):
            browser.show(page, width, scheme, medium)
            seen = browser.value(LOOK)
            assert isinstance(seen, dict)
            assert seen["page"] <= 0, (width, seen)
            assert seen["wide"] == [] or medium == "print", (width, seen)
            assert seen["marks"] > 50
            sizes_of = [number * 3 * 2 for number in (1, 1)]  # by target: steps, models
            families = [number * 2 for number in (9, 9)] * 2  # by model and target: choices, in eight families and in all languages
            assert [count >= least for count, least in zip(seen["charts"], sizes_of + families, strict=True)] == [True] * 6, seen["charts"]
            papers[scheme] = (seen["paper"], seen["ink"])
        assert papers["light"] != papers["dark"]
        assert browser.complaints == []


SEEN = """(() => {
  const seen = s => [...document.querySelectorAll(s)].filter(e => e.checkVisibility()).length;
  document.querySelectorAll('details:not(.filter)').forEach(d => d.open = true);
  return {page: document.documentElement.scrollWidth - innerWidth, filter: seen('.filter'), boxes: seen('.filter input'),
    targets: [0, 1].map(n => seen(`[data-t="${n}"]`)), steps: [0, 1, 2].map(n => seen(`[data-s="${n}"]`)),
    models: [0, 1].map(n => seen(`[data-m="${n}"]`)), figures: seen('figure svg'),
    languages: [...document.querySelectorAll('.forest tbody tr:not(.foot)')].filter(e => e.checkVisibility())
      .map(e => e.querySelector('.fam').textContent)};
})()"""


@pytest.mark.browser
def test_ticked_boxes_hide_the_rest_by_keyboard_too_and_print_shows_all(shown: Path, tmp_path: Path) -> None:
    with open_browser(tmp_path / "home") as browser:

        def press(key: str, text: str = "") -> None:
            code = {"Tab": 9, "Enter": 13, " ": 32}[key]
            for kind, more in (("keyDown", {"text": text} if text else {}), ("keyUp", {})):
                browser.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

        def seen() -> dict[str, Any]:
            found = browser.value(SEEN)
            assert isinstance(found, dict)
            return found

        for width in (400, 1600):
            browser.show(shown, width, "light")
            browser.ask("Emulation.setFocusEmulationEnabled", enabled=True)
            every = seen()
            assert every["filter"] == 1 and every["boxes"] == 0  # folded until it is asked for
            assert min(*every["targets"], *every["steps"], *every["models"]) > 0 and len(set(every["languages"])) == 8
            press("Tab")
            press("Enter", "\r")
            press("Tab")
            assert browser.value("document.activeElement.id") == "t-0" and seen()["boxes"] == 2 + 3 + 2 + 8
            press(" ", " ")
            one = seen()
            assert one["targets"][0] == every["targets"][0] and one["targets"][1] == 0 and one["figures"] == every["figures"] / 2
            browser.value("for (const id of ['t-0', 's-1', 'm-1', 'f-2']) document.getElementById(id).checked = true")
            few = seen()
            assert few["steps"][0] == few["steps"][2] == 0 < few["steps"][1] and few["models"][0] == 0 < few["models"][1]
            assert set(few["languages"]) == {sorted(set(every["languages"]))[2]}
            assert few["page"] <= 0 and browser.value(LOOK)["wide"] == []
            browser.ask("Emulation.setEmulatedMedia", media="print")
            assert {**seen(), "page": 0} == {**every, "page": 0, "filter": 0}
            browser.ask("Emulation.setEmulatedMedia", media="")
            browser.value("document.querySelector('.filter button').click()")
            assert {**seen(), "boxes": 0} == every
        assert browser.complaints == []


def test_what_there_is_one_of_has_no_filter(tmp_path: Path) -> None:
    cells = make_study(tmp_path, {"none": 0.0}, targets=("nli",), items=10)
    text = write_report(report_of([c for c in cells if c.language in ("en", "de")], tmp_path), tmp_path / "out").read_text("utf-8")
    assert "checkbox" not in text and "data-t" not in text and '<details class="filter">' not in text


def reads(task: str, languages: Sequence[str]) -> Iterator[Read]:
    """English training and selection rows, and test rows and few shots in every language."""

    def rows(part: Part, language: str, cap: int | None = None, without: tuple[Rows, ...] = ()) -> Rows:
        return Rows(task, 1, part, part, language, language, (0, 0.9), cap, without)

    test = rows("test", "en")
    yield Read(rows("train", "en", 8000, (test,)), ("en",))
    yield Read(rows("dev", "en", 300, (test,)), ("en",))
    yield from together(rows("test", code, 500) for code in languages)
    yield from together(rows("train", code, 10, (test, rows("test", code))) for code in languages)


def test_languages_that_are_treated_alike_are_one_row() -> None:
    codes = ("de", "sw", "zh")
    train, _, test, few = reads("xnli", codes)
    assert (test.languages, few.languages) == (codes, codes)
    left = "without what stands in test (test en) or test (test each)"
    assert few.line == f"train: xnli train, groups 0.00-0.90 of all rows, {left}, at most 10 [de sw zh]"
    assert train.line.startswith("train: xnli train en, groups 0.00-0.90 of all rows, without what stands in test (test en), at most 8,000")
    other = replace(few.rows, language="ru", without=(Rows("snli", 1, "test", "test", "en", ""),))
    assert [each.languages for each in together([*(replace(test.rows, language=code) for code in ("de", "sw")), other])] == [
        ("de", "sw"), ("ru",),
    ]  # fmt: skip


def test_the_data_are_folded_by_task_and_nothing_is_lost(planted: tuple[list[Cell], Path], tmp_path: Path) -> None:
    tasks, codes = ("xnli", "udpos", "tatoeba", "mlqa", "pawsx", "xcopa"), tuple(code for code in LANGUAGES if code != "en")[:40]
    rows = tuple(read for name in tasks for read in reads(name, codes))
    layers = tuple(f"tatoeba, m after {i}: 50.0 at layer 7" for i in range(30))
    caps = (*(f"{name}: test at most 500" for name in tasks), "and more")
    page = write_report(report_of(*planted, Facts("toy", rows=rows, caps=caps, data={"Layers of retrieval": layers})), tmp_path)
    html, text = page.read_text("utf-8"), (tmp_path / "report.md").read_text("utf-8")
    data = html[html.index("<h2>Data</h2>") : html.index("</section>", html.index("<h2>Data</h2>"))]
    assert data.count("<details>") == len(tasks) + 2 and "<details open" not in data
    outside = re.sub(r"<summary>|</summary>|<[^>]*>", " ", re.sub(r"</summary>.*?</details>", "", data, flags=re.DOTALL))
    assert len(outside.split()) < 100  # one line a task
    assert "train in 41 languages, dev in 1 language, test in 40 languages" in outside
    for name in tasks:
        own = data[data.index(f"<summary>{name} ") :]
        own = own[: own.index("</details>")]
        assert own.count("<tr>") == 1 + 4 and own.count(" ".join(codes)) == 2
        for said in ("groups 0.00-0.90 of all rows, at most 8,000", "at most 300", "at most 500", "at most 10<"):
            assert said in own
        assert text.count(f"| {name} |") == 4
    for line in (*layers, *caps):
        assert line in data and line in text


# consistency


def test_consistency_is_rankc_with_english_item_by_item(planted: tuple[list[Cell], Path]) -> None:
    from xstilts.metrics import ragged
    from xstilts.metrics.ranks import rank_consistency

    cells, folder = planted
    found = {(r.intermediate, r.target, r.language): r.rankc for r in report_of(cells, folder).consistency}
    assert {target for _, target, _ in found} == {"nli"}  # retrieval has no fixed answers
    keys = {(c.intermediate, c.language, c.seed): c.predict.key for c in cells if c.target == "nli"}

    def ranked(language: str, seed: int) -> list[list[str]]:
        table = read_predictions(folder / keys["bad", language, seed] / "predictions.parquet", ("scores",))
        return [[TASKS["nli"].labels[i] for i in np.argsort(-np.array(row))] for row in table.column("scores").to_pylist()]

    for language in ("de", "ja"):
        each = [rank_consistency(ragged(ranked("en", seed)), ragged(ranked(language, seed))).value for seed in range(4)]
        interval = found["bad", "nli", language]
        assert interval.estimate == pytest.approx(np.mean(each)) and interval.low < interval.estimate < interval.high
        assert (interval.seeds, interval.kind) == (4, "seeds and items")
    others = [found["bad", "nli", code].estimate for code in TASKS["nli"].languages if code != "en"]
    assert found["bad", "nli", ""].estimate == pytest.approx(np.mean(others))


def test_consistency_without_what_it_needs_is_left_out_and_named(tmp_path: Path) -> None:
    cells = make_study(tmp_path, {"none": 0.0, "nli": 2.0}, targets=("nli",), items=10)
    gone = next(c for c in cells if (c.intermediate, c.language, c.seed) == ("nli", "de", 2))
    bare = next(c for c in cells if (c.intermediate, c.language, c.seed) == ("none", "en", 0))
    path = tmp_path / bare.predict.key / "predictions.parquet"
    ids = [f"nli-{n}" for n in range(10)]
    write_predictions(path, ids, [""] * 10, [["yes"]] * 10, [["yes"]] * 10)  # one score an item
    report = evaluate(Facts("toy"), cells, lambda key: None if key == gone.predict.key else tmp_path / key, task_of=task_of, resamples=50)
    assert report.consistency == ()
    assert "consistency of nli with en after nli (small): cells are missing" in report.transfer.left_out
    assert "consistency of nli with en after none (small): its predictions hold no score of every answer" in report.transfer.left_out


@pytest.mark.parametrize("gains", [{"none": 0.0, "nli": 2.0}, {"none": 0.0}])
def test_the_page_shows_consistency_with_its_definition_in_one_fold(tmp_path: Path, gains: dict[str, float]) -> None:
    cells = make_study(tmp_path, gains, targets=("nli",), items=10)
    report = report_of(cells, tmp_path)
    page = write_report(report, tmp_path / "out").read_text("utf-8")
    fold = page[page.index("<details><summary>nli: consistency with English, RankC none ") :]
    fold = fold[: fold.index("</details>")]
    mean = {r.intermediate: number(r.rankc.estimate) for r in report.consistency if not r.language}
    assert fold.count("<tr") == 1 + len(TASKS["nli"].languages) and "arXiv 2310.10378" in fold and "exp(N - j)" in fold
    for step, value in mean.items():
        assert f"{step} {value}" in fold.partition("</summary>")[0]
        assert value in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_the_method_says_in_which_languages_models_were_trained() -> None:
    from xstilts.report import text

    def said(*languages: str) -> str:
        return text._trained(languages)

    assert said("en") == "Every model was trained on rows in one language only (en) and scored zero-shot in the others."
    assert "their scores in those are not zero-shot" in said("de", "en")
    assert said() == "No model was trained."


def test_a_model_that_was_not_tuned_has_scores_and_no_gain(tmp_path: Path) -> None:
    """Its seeds share one answer, so that its interval holds the items alone; no claim takes it for the best choice."""
    from xstilts.analysis.claims import own_claims
    from xstilts.stages import Pretrained

    cells = make_study(tmp_path, {"none": 0.0, "nli": 8.0}, targets=("qa",), seeds=(0, 1, 2), items=60)
    bare = {c.language: replace(c.predict, model=Pretrained("small")) for c in cells}
    for cell in cells[: len(bare)]:
        path = tmp_path / bare[cell.language].key
        path.mkdir()
        (path / "predictions.parquet").write_bytes((tmp_path / cell.predict.key / "predictions.parquet").read_bytes())
    cells += [replace(c, intermediate="untuned", predict=bare[c.language]) for c in cells if c.intermediate == "none"]
    facts = Facts("toy", written={"small": ("qa after untuned: 12.0% in a wrong script (zh 24.0%)",)})
    report = evaluate(facts, cells, finder(tmp_path), task_of=task_of, resamples=200, claims=own_claims())
    levels = {level.intermediate: level.score for level in report.transfer.levels if not level.language}
    assert (levels["untuned"].kind, levels["none"].kind) == ("untrained", "seeds and items")
    assert {gain.intermediate for gain in report.transfer.gains} == {"nli"}
    assert {gap.intermediate: gap.change is None for gap in report.transfer.gaps} == {"none": True, "nli": False, "untuned": True}
    assert not any("untuned" in effect.what for finding in report.claims for effect in finding.effects)
    assert not any("untuned" in line for line in report.transfer.left_out)
    out = write_report(report, tmp_path / "out").parent
    for text in ((out / "report.md").read_text("utf-8"), (out / "index.html").read_text("utf-8")):
        assert "12.0% in a wrong script (zh 24.0%)" in text and "it is after no task and has no gain" in text
    assert re.search(r"\| untuned \| \d+\.\d ± \d", (out / "report.md").read_text("utf-8"))
