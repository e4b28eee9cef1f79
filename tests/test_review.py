"""Every check of a review on a study that is good, and on one made to be bad for that check alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from study_maker import LANGUAGES, TASKS, UPOS, Cell, Nowhere, finder, make_study
from study_maker import task_of as task_of_maker
from xstilts.analysis import review as checks
from xstilts.analysis.review import CHECKS, COST, Evidence, Finding, Review, contained, review
from xstilts.analysis.transfer import Gain, Level, Transfer
from xstilts.examples import Answer, Example, Parallel, Passage, Text, Words
from xstilts.report import Facts, evaluate, write_report
from xstilts.stages import Predict, Pretrained, Recipe, Rows, Runtime, Share, Start, Train
from xstilts.stats import Interval
from xstilts.task import Part, Task

STEPS = ("none", "left", "right")
SEEDS = (1, 2, 3)
ALL: Mapping[str, Task] = {
    **TASKS,
    **{name: Task(name, "classify", "a step", ("en",), Nowhere(), ("accuracy",), ("yes", "no")) for name in ("left", "right")},
}


def task_of(name: str) -> Task:
    return ALL[name]


def rows(task: str, part: Part, language: str = "en") -> Rows:
    return Rows(task, 1, part, part, language, "0")


def sentence(task: str, part: str, language: str, number: int, words: int = 9) -> str:
    return " ".join(f"{task}{part}{language}{number}x{k}" for k in range(words))


def examples(of: Rows, count: int = 60) -> list[Example]:
    """Rows of the right form, no two of them alike, labels in equal numbers."""
    task, made = task_of(of.task), list[Example]()
    for n in range(count):
        text, name = sentence(of.task, of.part, of.language, n), f"{of.part}-{n}"
        match task.kind:
            case "classify":
                made.append(Text(name, text, f"{text} so", task.labels[n % len(task.labels)]))
            case "tag":
                made.append(Words(name, tuple(text.split()), tuple(UPOS[k % 7] for k in range(9))))
            case "span":
                made.append(Passage(name, f"what is {text}", text, (Answer(text.split()[0], 0),)))
            case _:
                english = sentence(of.task, of.part, "en", n)
                made += [Parallel(f"q{n}", text, "query", f"c{n}"), Parallel(f"c{n}", english, "candidate")]
    return made


def model(step: str, target: str, seed: int, recipe: Recipe | None = None) -> Start:
    start: Start = Pretrained("w")
    for task in (step, target):
        if task != "none" and task_of(task).kind != "retrieve":
            start = Train(start, (Share(rows(task, "train")),), (rows(task, "dev"),), recipe or Recipe(), seed, Runtime())
    return start


def predict(start: Start, target: str, language: str) -> Predict:
    return Predict(start, rows(target, "test", language), 128, 64, Runtime())


def interval(estimate: float, error: float = 0.5, kind: str = "seeds and items", p: float = 1e-6) -> Interval:
    return Interval(estimate, estimate - 2 * error, estimate + 2 * error, error, 20.0, 3, 300, kind, p)


def gain(step: str, target: str, p: float = 1e-6, error: float = 0.5, kind: str = "seeds and items") -> Gain:
    return Gain("m", step, target, "", "accuracy", 70.0, 74.0, interval(4.0, error, kind, p), False, (target,) if target else tuple(TASKS))


def level(target: str, language: str, score: float, step: str = "none") -> Level:
    return Level("m", step, target, language, "accuracy", interval(score), False)


def found(score: float = 70.0) -> Transfer:
    gains = tuple(gain(step, target) for step in STEPS[1:] for target in ("", *TASKS))
    levels = tuple(level(name, code, score, step) for step in STEPS for name in TASKS for code in (*TASKS[name].languages, ""))
    return Transfer(levels, gains, (), (), ())


MADE = {
    "versions": {"xstilts": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.6"},
    "machine": "x86_64 / a CPU", "device": "cpu", "commit": "a" * 40,
}  # fmt: skip


def manifests(cells: tuple[Cell, ...], **made: object) -> dict[str, dict[str, object]]:
    keys = {stage.key for cell in cells for stage in checks.lineage(cell.predict)}
    return {key: {"facts": {"steps": 150}, "made": {**MADE, **made}} for key in keys}


def cells_of(targets: tuple[str, ...] = tuple(TASKS), seeds: tuple[int, ...] = SEEDS) -> tuple[Cell, ...]:
    return tuple(
        Cell("m", step, target, code, "test", seed, predict(model(step, target, seed), target, code), False)
        for step in STEPS
        for target in targets
        for code in TASKS[target].languages
        for seed in seeds
    )


def evidence_of(cells: tuple[Cell, ...]) -> Evidence:
    wanted = {rows(task, part) for task in ("left", "right", *TASKS) if task != "match" for part in ("train", "dev")}
    wanted |= {cell.predict.rows for cell in cells}
    return Evidence(cells, 0, found(), manifests(cells), {"a/model": "b" * 40}, {each: examples(each) for each in wanted}, task_of=task_of)


@pytest.fixture(scope="module")
def good() -> Evidence:
    return evidence_of(cells_of())


def put(evidence: Evidence, at: Rows, made: list[Example]) -> Evidence:
    """The evidence with other rows in one place."""
    assert at in evidence.rows
    return replace(evidence, rows={**evidence.rows, at: made})


def changed(evidence: Evidence, change: Callable[[Cell], Cell | None]) -> Evidence:
    cells = tuple(new for cell in evidence.cells if (new := change(cell)) is not None)
    return replace(evidence, cells=cells)


def made_otherwise(evidence: Evidence, step: str, **made: object) -> Evidence:
    """The predictions after one intermediate step were made under other circumstances."""
    keys = {cell.predict.key for cell in evidence.cells if cell.intermediate == step}
    return replace(
        evidence, made={key: {**m, "made": {**m["made"], **(made if key in keys else {})}} for key, m in evidence.made.items()}
    )


def leak(e: Evidence) -> Evidence:
    train, test = e.rows[rows("left", "train")], e.rows[rows("nli", "test", "de")]
    return put(e, rows("left", "train"), [*train[:-3], *(replace(x, id=f"planted-{x.id}") for x in test[:3])])


def nearly(e: Evidence) -> Evidence:
    """A tenth of the scored rows, in a longer text and without their last word."""
    train, test = e.rows[rows("left", "train")], e.rows[rows("nli", "test")]
    planted = [Text(f"p{n}", f"it is said that {x.text}", x.pair.rsplit(" ", 1)[0], "yes") for n, x in enumerate(test[:6])]
    return put(e, rows("left", "train"), [*train, *planted])


def skewed(e: Evidence) -> Evidence:
    return put(e, rows("nli", "train"), [replace(x, label="yes" if n > 8 else x.label) for n, x in enumerate(e.rows[rows("nli", "train")])])


def no_label(e: Evidence) -> Evidence:
    return put(e, rows("nli", "train"), [replace(x, label="yes" if n % 2 else "no") for n, x in enumerate(e.rows[rows("nli", "train")])])


def in_english(e: Evidence) -> Evidence:
    first, own = e.rows[rows("nli", "test")], e.rows[rows("nli", "test", "sw")]
    return put(e, rows("nli", "test", "sw"), [*first[:6], *own[6:]])


def query_in_english(e: Evidence) -> Evidence:
    own = e.rows[rows("match", "test", "sw")]
    text = {x.id[1:]: x.text for x in own if x.id.startswith("c")}
    made = [replace(x, text=text[x.id[1:]]) if x.id in ("q1", "q2", "q3", "q4") else x for x in own]
    return put(e, rows("match", "test", "sw"), made)


def twice(e: Evidence) -> Evidence:
    train = e.rows[rows("pos", "train")]
    return put(e, rows("pos", "train"), [*train, *(replace(x, id=f"again-{x.id}") for x in train[:6])])


def torn(e: Evidence) -> Evidence:
    train = e.rows[rows("nli", "train")]
    other = {"yes": "no", "no": "maybe", "maybe": "yes"}
    again = [replace(x, id=f"again-{x.id}", label=other[x.label]) for x in train[:6]]
    return put(e, rows("nli", "train"), [*train, *again])


def unpaired(e: Evidence) -> Evidence:
    return changed(e, lambda cell: None if (cell.seed, cell.intermediate) == (3, "left") else cell)


def one_target(e: Evidence) -> Evidence:
    return changed(e, lambda cell: cell if cell.target == "nli" else None)


def without(*codes: str) -> Callable[[Evidence], Evidence]:
    return lambda e: changed(e, lambda cell: None if cell.language in codes else cell)


def fewer_updates(e: Evidence) -> Evidence:
    keys = {cell.predict.model.start.key for cell in e.cells if cell.intermediate == "left" and cell.target != "match"}
    return replace(e, made={key: {**m, "facts": {"steps": 20}} if key in keys else m for key, m in e.made.items()})


def another_recipe(e: Evidence) -> Evidence:
    def change(cell: Cell) -> Cell:
        if (cell.intermediate, cell.target) != ("left", "nli"):
            return cell
        trained = cell.predict.model
        assert isinstance(trained, Train)
        return replace(cell, predict=replace(cell.predict, model=replace(trained, recipe=Recipe(epochs=9))))

    return changed(e, change)


def selected_on(at: Rows) -> Callable[[Evidence], Evidence]:
    def change(cell: Cell) -> Cell:
        trained = cell.predict.model
        if not isinstance(trained, Train) or cell.target != "nli":
            return cell
        return replace(cell, predict=replace(cell.predict, model=replace(trained, select=(at,))))

    return lambda e: changed(e, change)


def dev_in_test(e: Evidence) -> Evidence:
    """One item of a parallel test, which is scored in twelve languages."""
    return put(e, rows("nli", "dev"), [*e.rows[rows("nli", "dev")], e.rows[rows("nli", "test", "ru")][7]])


def unmarked(e: Evidence) -> Evidence:
    own = e.rows[rows("nli", "train")]
    return put(e, rows("left", "train"), [*e.rows[rows("left", "train")], *own[:12]])


def at_chance(e: Evidence) -> Evidence:
    levels = tuple(replace(x, score=interval(33.0)) if x.target == "nli" else x for x in e.transfer.levels)
    return replace(e, transfer=replace(e.transfer, levels=levels))


def with_gains(*gains: Gain) -> Callable[[Evidence], Evidence]:
    return lambda e: replace(e, transfer=replace(e.transfer, gains=gains))


BAD: tuple[tuple[str, Callable[[Evidence], Evidence], str], ...] = (
    ("seeds", lambda e: changed(e, lambda cell: cell if cell.seed == 1 else None), "1 seed of every choice; 3 are needed"),
    ("seeds", unpaired, "2 seeds where there are fewest (left"),
    ("power", with_gains(gain("left", "", error=3.0)), "below 8.8 points would be missed"),
    ("multiplicity", with_gains(*(gain("left", t, p) for t, p in zip(TASKS, (0.04, 0.5, 0.6, 0.7)))), "1 below 5 % each by itself"),
    ("leakage", leak, "3 of 720 scored rows of nli (0.42%) stand in training rows of left"),
    ("near-duplicates", nearly, "6 of 60 rows of nli in en (10.0%) are nearly a training row of left"),
    ("label balance", skewed, 'nli, training rows: "yes"'),
    ("label balance", no_label, "no row has maybe"),
    ("untranslated rows", in_english, "6 of 60 rows of nli in sw (10.0%) are untranslated or hardly there"),
    ("untranslated rows", query_in_english, "4 of 60 rows of match in sw"),
    ("duplicates", twice, "pos train en: 6 of 66 rows (9.1%) stand there before"),
    ("duplicates", torn, "nli train en: 6 of 66 rows (9.1%) have more than one label"),
    ("cells", lambda e: replace(e, missing=len(e.cells) // 2), "planned cells are scored"),
    ("languages", without(*LANGUAGES[3:]), "nli leaves out 9 of 12: ru tr fi id sw hi ar zh ja"),
    ("families and scripts", without(*LANGUAGES[1:3], *LANGUAGES[4:]), "left out: Afro-Asiatic, Austronesian, Japonic"),
    ("families and scripts", without(*LANGUAGES[1:]), "one family only"),
    ("task formats", one_target, "1 format among the targets (classification)"),
    ("budgets", fewer_updates, "left 20, right 150; the largest is 7.5 times"),
    ("budgets", another_recipe, "nli (m) is trained in 2 ways"),
    ("budgets", unpaired, "are not paired"),
    ("selection", selected_on(rows("nli", "dev", "de")), "selected on nli dev rows in de"),
    ("selection", selected_on(rows("nli", "test")), "selected on nli test rows in en"),
    ("selection", dev_in_test, "12 of 720 scored rows of nli stand in the rows that its trainings were selected on"),
    ("selection", lambda e: replace(e, part="dev"), "the dev part is scored"),
    ("same data", unmarked, "left holds 20.0% of the training rows of nli, and is not marked"),
    ("same data", lambda e: changed(e, lambda cell: replace(cell, same_data=True)), "8 of 8 contrasts marked"),
    ("versions", lambda e: made_otherwise(e, "left", versions={**MADE["versions"], "torch": "2.6.0"}), "torch 2.13.0 and 2.6.0"),
    ("versions", lambda e: made_otherwise(e, "left", versions={}), "name no versions"),
    ("commit", lambda e: made_otherwise(e, "left", versions={}, commit=None), "name neither a commit nor a release"),
    ("pins", lambda e: replace(e, hubs={**e.hubs, "rows of xnli": "main"}), 'rows of xnli: "main" is no commit'),
    ("machines", lambda e: made_otherwise(e, "left", machine="aarch64 / other"), "12 of 12 paired comparisons"),
    ("above chance", at_chance, "nli: 0 of 3 choices above chance (33.3) in en"),
)


def finding(evidence: Evidence, name: str) -> Finding:
    return next(check(evidence) for _, own, _, check in CHECKS if own == name)


def test_a_good_study_is_good(good: Evidence) -> None:
    made = review(good)
    assert {c.name: c.finding.verdict for c in made.checks if c.finding.verdict != "good"} == {"published range": "cannot say"}
    assert (made.score, made.judged) == (10.0, 9.75)
    assert made.summary == "10.0 of 10 (20 of 21 checks could be made, 9.75 of 10 points)"


@pytest.mark.parametrize(("name", "spoil", "said"), BAD, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(BAD)])
def test_a_study_made_to_be_bad_is_bad(good: Evidence, name: str, spoil: Callable[[Evidence], Evidence], said: str) -> None:
    bad = finding(spoil(good), name)
    assert bad.verdict == "bad", bad
    assert said in " | ".join(bad.reasons), bad


def test_every_check_has_a_study_that_is_bad_for_it() -> None:
    assert {name for name, *_ in BAD} | {"published range"} == {name for _, name, _, _ in CHECKS}


def test_points_are_ten_and_each_verdict_costs_its_share(good: Evidence) -> None:
    assert sum(points for _, _, points, _ in CHECKS) == 10
    made = review(leak(good))
    costs = {c.name: c.lost for c in made.checks if c.lost}
    assert costs == {"leakage": 1.5}
    assert made.score == round(10 * 8.25 / 9.75, 1)
    assert "lost: leakage 1.50" in made.summary
    half = review(made_otherwise(good, "left", commit="c" * 40))
    assert {c.name: (c.finding.verdict, c.lost) for c in half.checks if c.lost} == {"commit": ("caution", 0.125)}


def test_with_nothing_run_and_no_rows_there_is_no_score(good: Evidence) -> None:
    empty = replace(good, missing=len(good.cells), transfer=Transfer((), (), (), (), ()), made={}, rows={}, unread=("nli test en: gone",))
    made = review(empty)
    silent = {c.name for c in made.checks if c.finding.verdict == "cannot say"}
    assert silent >= {"power", "multiplicity", "budgets", "versions", "above chance"}
    assert silent >= {"leakage", "near-duplicates", "label balance", "untranslated rows", "duplicates"}
    assert made.score is None and made.summary.startswith("no score (") and "7.5 are needed; lost: " in made.summary
    assert next(c for c in made.checks if c.name == "cells").finding.verdict == "bad"
    assert "nli test en: gone" in " ".join(finding(empty, "leakage").reasons)


def test_items_only_gains_prove_nothing(good: Evidence) -> None:
    few = with_gains(*(gain(step, target, kind="items only") for step in STEPS[1:] for target in ("", *TASKS)))(good)
    assert (finding(few, "power").verdict, finding(few, "multiplicity").verdict) == ("bad", "cannot say")
    bare = with_gains(*(gain(step, target, kind="seeds only") for step in STEPS[1:] for target in ("", *TASKS)))(good)
    assert (finding(bare, "power").verdict, finding(bare, "multiplicity").verdict) == ("cannot say", "cannot say")


@pytest.mark.parametrize(("score", "verdict"), [(79.2, "good"), (50.0, "caution"), (91.0, "bad")])
def test_published_scores_are_a_reference_where_the_languages_are_the_same(score: float, verdict: str) -> None:
    from xstilts.benchmark import XTREME
    from xstilts.tasks import task as real

    own = tuple(
        Cell("m", "none", "xnli", code, "test", 1, predict(Pretrained("w"), "xnli", code), False)
        for code in XTREME.languages["xnli"]
    )
    e = Evidence(own, 0, Transfer((level("xnli", "", score),), (), (), (), ()), {}, {}, {}, task_of=real)
    assert finding(e, "published range").verdict == verdict
    assert finding(replace(e, cells=own[1:]), "published range").verdict == "cannot say"
    left = finding(e, "languages").reasons[0], finding(e, "families and scripts").reasons[0], finding(e, "task formats").reasons[-1]
    assert left[0] == "15 of 15 languages over all targets, as XTREME lists them"
    assert "left out: " in left[1] and "Dravidian" in left[1]
    assert left[2] == "tasks of XTREME left out: pawsx udpos panx xquad mlqa tydiqa bucc2018 tatoeba"


def test_ngrams_find_what_was_changed_a_little_and_not_what_is_only_a_phrase() -> None:
    first = "the quick brown fox jumps over the lazy dog near the old river bank today"
    longer = f"yesterday we were told that {first} and then it slept"
    other = "the quick brown fox jumps but every other word of this one is its own entirely"
    assert contained([first, other, "too short"], [longer]) == [0]
    assert contained([first], [longer] * (checks.COMMON + 1)) == []  # a phrase of the whole data set
    assert contained([first], [other]) == []


def test_one_equal_sentence_in_many_thousands_is_named_and_costs_nothing(good: Evidence) -> None:
    large = put(leak(good), rows("nli", "test", "fi"), examples(rows("nli", "test", "fi"), 40_000))
    one = finding(large, "leakage")
    assert one.verdict == "good" and "3 of 40,660 scored rows of nli (0.01%) stand" in one.reasons[0]


def test_short_texts_and_another_language_are_no_leak(good: Evidence) -> None:
    short = [Text("a", "Yes.", None, "yes"), *good.rows[rows("left", "train")]]
    e = put(good, rows("left", "train"), short)
    e = put(e, rows("nli", "test", "de"), [Text("b", "Yes.", None, "yes"), *good.rows[rows("nli", "test", "de")]])
    assert finding(e, "leakage").verdict == "good"


def test_the_report_shows_the_review_folded(good: Evidence, tmp_path: Path) -> None:
    cells = make_study(tmp_path, {"none": 0.0, "nli": 2.0}, targets=("nli",), items=10)
    report = evaluate(Facts("toy"), cells, finder(tmp_path), task_of=task_of_maker, resamples=50)
    assert "Review" not in write_report(report, tmp_path / "without").read_text("utf-8")
    made = review(leak(good))
    page = write_report(replace(report, review=made), tmp_path / "out").read_text("utf-8")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    own = page[page.index("<h2>Review</h2>") :]
    assert own.count("<details><summary>") == 1 and own[: own.index("</table>")].count("<tr>") == 1 + len(CHECKS)
    assert own.index("<summary>") < own.index(made.summary) < own.index("</summary>")
    for said in ("3 of 720 scored rows of nli (0.42%) stand in training rows of left", "data: leakage", made.summary):
        assert said in own and said in text
    assert "| bad, 1.50 of 1.50 lost |" in text and "<td>bad, 1.50 of 1.50 lost</td>" in own
    few = Finding("bad", ("one", "two", "three", "four", "five"))
    assert few.short == "one; two; three; and 2 more (xstilts review)"
    assert replace(few, reasons=few.reasons[:3]).short == "one; two; three"


def test_the_json_holds_what_the_text_says(good: Evidence) -> None:
    made: Review = review(good)
    plain = made.as_json()
    assert plain["score"] == made.score and [each["name"] for each in plain["checks"]] == [name for _, name, _, _ in CHECKS]
    assert all(each["lost"] == COST[each["verdict"]] * each["points"] and each["reasons"] for each in plain["checks"])
