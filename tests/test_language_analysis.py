"""Scores and gains against what is known of the languages, on data with a known answer."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from study_maker import TASKS, finder, make_study, task_of
from xstilts import scores, stats
from xstilts.analysis.languages import Covariate, by_language, grouped
from xstilts.analysis.texts import Fertility, TextFacts, fertility
from xstilts.analysis.transfer import Sample, draw
from xstilts.examples import Parallel, Text, Words
from xstilts.languages import LANGUAGES, WORD_ORDERS, great_circle, order_distance, other_script, tree_distance


def layout(
    rng: np.random.Generator, count: int, seeds: int, slope: float, language: float, seed: float, rest: float, sloped: float = 0.0
) -> tuple[stats.Floats, stats.Floats]:
    x = np.linspace(0.0, 2.0, count)
    values = 3.0 + slope * x[:, None] + rng.normal(0, language, (count, 1)) + rng.normal(0, seed, (1, seeds))
    return values + rng.normal(0, rest, (count, seeds)) + x[:, None] * rng.normal(0, sloped, (1, seeds)), x


def test_a_slope_without_noise_is_itself() -> None:
    values, x = layout(np.random.default_rng(0), 6, 4, 2.5, 0.0, 1.0, 0.0)
    found = stats.mixed(values, x)
    assert found.slope.estimate == pytest.approx(2.5)
    assert (found.languages, found.rest) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert found.seeds == pytest.approx(float(values[0].std(ddof=1)))
    assert found.intercept == pytest.approx(values.mean() - 2.5 * x.mean())


def test_components_are_found_again() -> None:
    rng = np.random.default_rng(1)
    found = [stats.mixed(*layout(rng, 30, 5, 1.0, 3.0, 2.0, 1.0)) for _ in range(300)]
    assert np.mean([each.languages**2 for each in found]) == pytest.approx(9.0, rel=0.08)
    assert np.mean([each.seeds**2 for each in found]) == pytest.approx(4.0, rel=0.15)
    assert np.mean([each.rest**2 for each in found]) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(("count", "seeds", "sloped"), [(11, 3, 0.0), (6, 3, 0.0), (11, 5, 1.5), (11, 3, 1.0)])
def test_the_slope_is_covered(count: int, seeds: int, sloped: float) -> None:
    rng = np.random.default_rng([count, seeds])
    intervals = [stats.mixed(*layout(rng, count, seeds, 2.0, 1.5, 1.0, 1.0, sloped)).slope for _ in range(800)]
    assert 0.93 <= np.mean([each.low <= 2.0 <= each.high for each in intervals]) <= 0.975


def test_few_seeds_are_said() -> None:
    values, x = layout(np.random.default_rng(3), 8, 2, 2.0, 1.0, 1.0, 0.5)
    found = stats.mixed(values, x).slope
    assert (found.kind, found.sure, found.groups, found.freedom) == ("languages only", False, 8, 6.0)
    assert stats.mixed(values[:, :1], x, trained=False).slope.sure


@pytest.mark.slow
def test_mixed_agrees_with_statsmodels() -> None:
    """The same model by numerical REML; only where no component is at its bound, and slopes do not differ between seeds."""
    models = pytest.importorskip("statsmodels.regression.mixed_linear_model", reason="statsmodels is not installed (extra: dev)")
    rng = np.random.default_rng(4)
    for count, seeds in ((10, 4), (12, 3)):
        values, x = layout(rng, count, seeds, 2.0, 2.0, 1.5, 1.0)
        ours = stats.mixed(values, x)
        language, seed = (grid.ravel() for grid in np.meshgrid(np.arange(count), np.arange(seeds), indexing="ij"))
        components = models.VCSpec(
            ["language", "seed"],
            [[[f"l{i}" for i in range(count)]], [[f"s{i}" for i in range(seeds)]]],
            [[np.eye(count)[language]], [np.eye(seeds)[seed]]],
        )
        design = np.column_stack([np.ones(count * seeds), x[language]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = models.MixedLM(values.ravel(), design, groups=np.zeros(count * seeds), exog_re=None, exog_vc=components).fit(reml=True)
        assert ours.slope.estimate == pytest.approx(theirs.fe_params[1], rel=1e-6)
        assert ours.intercept == pytest.approx(theirs.fe_params[0], rel=1e-6)
        assert [ours.languages**2, ours.seeds**2] == pytest.approx(list(theirs.vcomp), rel=2e-2)
        assert ours.rest**2 == pytest.approx(theirs.scale, rel=1e-2)
        centred = x - x.mean()
        left = values.mean(axis=1) - values.mean() - ours.slope.estimate * centred
        plain = (left**2).sum() / (count - 2) / (centred**2).sum()
        assert theirs.bse_fe[1] == pytest.approx(plain**0.5, rel=1e-2)


def test_tree_distance_and_script() -> None:
    assert [tree_distance(code, "en") for code in ("en", "de", "es", "fi", "xx")] == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0, None])
    assert (tree_distance("fi", "et"), tree_distance("fi", "hu")) == pytest.approx((1 / 3, 2 / 3))
    assert [other_script(code, "en") for code in ("de", "ru", "xx")] == [0.0, 1.0, None]
    for one in LANGUAGES:
        assert tree_distance(one, "en") == tree_distance("en", one)


def test_kilometres_to_english() -> None:
    assert great_circle("en", "en") == 0.0 and great_circle("xx", "en") is None
    # by the law of cosines on a sphere: one of the two places lies on the equator
    assert great_circle("id", "jv") == pytest.approx(6.371 * np.arccos(np.cos(np.radians(7)) * np.cos(np.radians(5))))
    near, far = (great_circle(code, "en") for code in ("nl", "ja"))
    assert near is not None and far is not None and 0.3 < near < 0.6 and 9.0 < far < 10.0
    for code, row in LANGUAGES.items():
        assert row.place is not None and great_circle(code, "en") == pytest.approx(great_circle("en", code)), code


def test_word_orders_that_differ() -> None:
    found = {code: order_distance(code, "en") for code in ("en", "de", "es", "fi", "ja", "zh", "fr", "ht", "xx")}
    # German: verb, object and genitive; Spanish: genitive and adjective; Japanese all but adjective and numeral
    expected = {"en": 0, "de": 3 / 8, "es": 2 / 8, "fi": 2 / 8, "ja": 6 / 8, "zh": 4 / 8, "fr": 2 / 8, "ht": None, "xx": None}
    assert found == pytest.approx(expected)
    for code, row in LANGUAGES.items():
        assert len(row.orders) == len(WORD_ORDERS) and set(row.orders) <= set("12347."), code
        assert row.orders[1] in {"1": "1", "2": "2", "3": "2", "7": "123", ".": "123."}[row.orders[0]], code  # SOV is OV
        assert order_distance(code, "en") == order_distance("en", code)


def test_slopes_over_distances_find_what_was_planted(tmp_path: Path) -> None:
    """A score that falls by 2 points every thousand kilometres, and not with the word order."""
    codes = TASKS["nli"].languages
    facts = TextFacts()
    known = {each.name: each.values for each in facts.known("m", "nli", codes)}
    assert set(known["distance"]) == set(known["word order"]) == set(codes)
    away = np.array([known["distance"][code] for code in codes if code != "en"])
    fit = stats.mixed(60.0 - 2.0 * away[:, None] + np.random.default_rng(0).normal(0, 0.3, (len(away), 3)), away)
    assert fit.slope.low < -2.0 < fit.slope.high and fit.slope.high - fit.slope.low < 0.4
    cells = make_study(tmp_path, {"none": 0.0, "nli": 6.0}, targets=("nli",), items=40, noise=0.5)
    samples = draw(scores.load(cells, finder(tmp_path), task_of), task_of, np.random.default_rng(0), 50)
    rows = {(row.covariate, row.intermediate, row.what): row for row in by_language(samples, facts.known).slopes}
    for name in ("distance", "word order"):
        row = rows[name, "nli", "gain"]
        x = np.array([known[name][code] for code in row.languages])
        y = [sample_mean(samples, code) for code in row.languages]
        assert row.fit.slope.estimate == pytest.approx(np.polyfit(x, y, 1)[0])


def sample_mean(samples: tuple[Sample, ...], code: str) -> float:
    """The mean gain over seeds in one language of the only target."""
    (sample,) = samples
    model, _ = next(iter(sample.pairs))
    return float(sample.contrast({(model, "nli", code): 1.0, (model, "none", code): -1.0}).values.mean())


def test_groups_and_slopes_of_a_planted_study(tmp_path: Path) -> None:
    """Languages lose with each place after the first what the maker's rule says, and gains lose nothing."""
    cells = make_study(tmp_path, {"none": 0.0, "nli": 6.0}, targets=("nli",), items=80, noise=0.5)
    samples = draw(scores.load(cells, finder(tmp_path), task_of), task_of, np.random.default_rng(0), 200)
    place = Covariate("place", "place in the list", {code: float(n) for n, code in enumerate(TASKS["nli"].languages)})
    flat = Covariate("flat", "one for all", dict.fromkeys(TASKS["nli"].languages, 1.0))
    few = Covariate("few", "of three", {"de": 1.0, "es": 2.0, "ru": 3.0})
    found = by_language(samples, lambda model, target, codes: [place, flat, few])
    slopes = {(row.intermediate, row.what): row for row in found.slopes}
    hard = np.random.default_rng([3, sorted(TASKS).index("nli")]).random(80)
    assert set(slopes) == {("none", "score"), ("nli", "score"), ("nli", "gain")}  # neither "flat" nor "few"
    shares = {}
    for step in ("none", "nli"):
        fit = slopes[step, "score"].fit
        top = 0.86 if step == "nli" else 0.8
        shares[step] = [100 * np.clip((top - 0.03 * k - 0.6 * hard) / 0.4, 0, 1).mean() for k in range(1, 12)]
        assert abs(fit.slope.estimate - np.polyfit(range(1, 12), shares[step], 1)[0]) < 0.35 and fit.slope.sign == -1
        assert "en" not in slopes[step, "score"].languages and len(slopes[step, "score"].languages) == 11
    gain = slopes["nli", "gain"].fit.slope.estimate
    assert gain == pytest.approx(slopes["nli", "score"].fit.slope.estimate - slopes["none", "score"].fit.slope.estimate)
    groups = {(row.intermediate, row.what, row.kind, row.name): row for row in found.groups}
    germanic = groups["nli", "gain", "genus", "Germanic"]
    assert germanic.languages == ("de",) and germanic.value.low < germanic.value.estimate < germanic.value.high
    european = groups["nli", "score", "family", "Indo-European"]
    value = {(r.intermediate, r.language, r.seed): r.value for r in scores.scores_of("s", scores.load(cells, finder(tmp_path), task_of))}
    assert european.languages == ("de", "es", "hi", "ru")
    assert european.value.estimate == pytest.approx(np.mean([value["nli", code, s] for code in european.languages for s in range(3)]))
    assert not [row for row in found.groups if "en" in row.languages]


def test_languages_by_family() -> None:
    assert grouped("family", ("zh", "de", "ru", "my", "xx")) == {"Indo-European": ("de", "ru"), "Sino-Tibetan": ("zh", "my")}


def test_fertility_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    letters = {letter: number for number, letter in enumerate("abcdefgh#我们")}
    path.write_text(json.dumps({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "#", "continuing_subword_prefix": "", "max_input_chars_per_word": 9, "vocab": letters},
    }))  # fmt: skip
    rows = [Text("1", "abc de", "f"), Words("2", ("ab", "h"), ("X", "X")), Parallel("3", "abc", "query")]
    assert fertility(path, "de", rows) == Fertility(12, 6, 12)  # a letter a token, and nothing cut at three
    assert (fertility(path, "de", rows).per_word, fertility(path, "de", rows).per_character) == (2.0, 1.0)
    assert fertility(path, "zh", [Parallel("1", "我们", "query")]).per_word is None


def test_what_is_known_of_languages() -> None:
    facts = TextFacts({("m", "t"): {"de": Fertility(30, 10, 100), "zh": Fertility(50, None, 100)}}, {"m": {"de": 1000, "zh": 0}})
    known = {each.name: each.values for each in facts.known("m", "t", ("de", "zh"))}
    assert known == {
        "family tree": {"de": pytest.approx(1 / 3), "zh": 1.0}, "script": {"de": 0.0, "zh": 1.0}, "tokens a word": {"de": 3.0},
        "distance": {"de": great_circle("de", "en"), "zh": great_circle("zh", "en")}, "word order": {"de": 3 / 8, "zh": 4 / 8},
        "tokens a character": {"de": 0.3, "zh": 0.5}, "pretraining text": {"de": 3.0},
    }  # fmt: skip
