"""Rows: cuts by group, `without`, caps, and the data contract, on a toy task that no file stands behind."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xstilts import rows as rows_module
from xstilts.canon import key_of
from xstilts.errors import DataError
from xstilts.examples import Answer, Choice, Example, Parallel, Passage, Text, Words, group_of
from xstilts.rows import available, check, content, describe, load, overlap, part_rows, select
from xstilts.stages import Rows
from xstilts.task import Kind, Part, Parts, Task
from xstilts.tasks import task as find_task


@dataclass(frozen=True)
class Made:
    """Rows in memory: (split, language) -> rows."""

    rows: Mapping[tuple[str, str], tuple[Example, ...]]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(split for split, _ in self.rows))

    def offers(self, split: str, language: str) -> bool:
        return True

    def files(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        if (split, language) not in self.rows:
            raise DataError(f"{split} {language} is not there")
        return ()

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        yield from self.rows[split, language]


def pairs(prefix: str, n: int, each: int = 3, text: str = "premise") -> tuple[Text, ...]:
    """n groups of `each` pairs."""
    made = ((g, h) for g in range(n) for h in range(each))
    return tuple(Text(f"{prefix}-{g}-{h}", f"{text} {g}", f"hypothesis {h}", "yes", f"{prefix}-{g}") for g, h in made)


def toy(
    made: Mapping[tuple[str, str], tuple[Example, ...]],
    kind: Kind = "classify",
    *,
    parts: Parts | None = None,
    languages: tuple[str, ...] = (),
    parallel: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> Task:
    return Task(
        "toy",
        kind,
        "a toy",
        languages or tuple(dict.fromkeys(language for _, language in made)),
        Made(made),
        ("accuracy",),
        ("yes", "no") if kind in ("classify", "tag") else (),
        parts or Parts(),
        parallel=parallel,
        sizes=sizes or {},
    )


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Task]]:
    """A list whose last task is the one that rows.load finds."""
    tasks: list[Task] = []
    monkeypatch.setattr(rows_module, "find_task", lambda name: tasks[-1])
    yield tasks


def part(task: Task, name: Part, language: str = "en", cap: int | None = None) -> Rows:
    return part_rows(task, name, language, task.parts, cap, Path(), str)


# Cuts

SHARED = [
    (Parts("a", "a", "a"), {"train": 0.8, "dev": 0.1, "test": 0.1}),
    (Parts("a", "a", "b"), {"train": 0.9, "dev": 0.1}),
    (Parts("b", "a", "a"), {"dev": 0.5, "test": 0.5}),
    (Parts("a", "b", "a"), {"train": 0.8, "test": 0.2}),
]


@pytest.mark.parametrize(("parts", "shares"), SHARED)
def test_parts_that_share_a_split_get_their_shares_and_no_group_twice(
    use: list[Task], parts: Parts, shares: Mapping[Part, float]
) -> None:
    use.append(toy({("a", "en"): pairs("a", 2_000), ("b", "en"): pairs("b", 5, text="other")}, parts=parts))
    found = {name: load(part(use[-1], name), Path()) for name in shares}
    assert sum(map(len, found.values())) == 6_000
    for name, share in shares.items():
        assert len(found[name]) / 6_000 == pytest.approx(share, abs=0.03)  # four standard deviations of 2,000 groups
        assert len({group_of(row) for row in found[name]}) * 3 == len(found[name])  # groups stay whole


def test_a_parallel_task_is_cut_in_every_language_alike_and_another_in_the_training_language_only(use: list[Task]) -> None:
    made = {("a", "en"): pairs("a", 100), ("a", "de"): pairs("a", 100, text="Prämisse")}
    parts = Parts("a", "a", "a")
    use.append(toy(made, parts=parts, parallel=True))
    english, german = (load(part(use[-1], "test", code), Path()) for code in ("en", "de"))
    assert [row.id for row in english] == [row.id for row in german]
    assert 0 < len(german) < 300
    use.append(toy(made, parts=parts))
    assert part(use[-1], "test", "de").cut == (0.0, 1.0)
    assert len(load(part(use[-1], "test", "de"), Path())) == 300
    assert part(use[-1], "train", "de").cut == (0.0, 0.8)


def test_a_split_of_its_own_is_not_cut(use: list[Task]) -> None:
    use.append(toy({(name, "en"): pairs(name, 4, text=name) for name in ("train", "dev", "test")}))
    assert [part(use[-1], name).cut for name in ("train", "dev", "test")] == [(0.0, 1.0)] * 3


@given(st.sets(st.text(max_size=8), min_size=1, max_size=60), st.floats(0, 1))
def test_two_sides_of_a_cut_share_no_group_and_lose_none(groups: set[str], at: float) -> None:
    examples = [Text(f"{i}", "x", group=group) for i, group in enumerate(sorted(groups))]
    base = Rows("toy", 1, "train", "a", "en", "")
    sides = [select(examples, replace(base, cut=cut)) for cut in ((0.0, at), (at, 1.0))]
    assert sorted((row.id for side in sides for row in side), key=int) == [row.id for row in examples]
    assert not {group_of(row) for row in sides[0]} & {group_of(row) for row in sides[1]}


# What is left out


def test_training_rows_that_stand_in_dev_or_test_are_left_out_by_group_and_by_text(use: list[Task]) -> None:
    train = (
        Text("t1", "new", "h", "yes", "g1"),
        Text("t2", "other words", "h", "yes", "d"),  # the group of a dev row
        Text("t3", "In  TEST", "h", "yes", "g3"),  # the text of a test row, in other letters
    )
    dev = (Text("d1", "in dev", "h", "yes", "d"), Text("d2", "in test", "h", "no", "e"))
    made = {("train", "en"): train, ("dev", "en"): dev, ("test", "en"): (Text("x1", "in test", "h", "yes", "x"),)}
    use.append(toy({**made, ("test", "de"): (Text("x1", "new", "h", "yes", "x"),)}))
    assert [row.id for row in load(part(use[-1], "train"), Path())] == ["t1"]
    assert [row.id for row in load(part(use[-1], "dev"), Path())] == ["d1"]
    assert [row.id for row in load(part(use[-1], "test"), Path())] == ["x1"]
    assert [other.part for other in part(use[-1], "train").without] == ["dev", "test"]
    assert part(use[-1], "test").without == ()


def test_rows_of_one_task_that_stand_in_another_are_counted(use: list[Task]) -> None:
    use.append(
        toy({("train", "en"): pairs("a", 4), ("test", "en"): (Text("x", "Premise 2", "other", "no", "y"),)}, parts=Parts(dev=""))
    )
    plain = replace(part(use[-1], "train"), without=())
    assert overlap(plain, part(use[-1], "test"), Path()) == 3
    assert overlap(part(use[-1], "train"), part(use[-1], "test"), Path()) == 0


def test_no_rows_left_is_an_error(use: list[Task]) -> None:
    same = pairs("a", 2)
    use.append(toy({("train", "en"): same, ("dev", "en"): same, ("test", "en"): same}))
    with pytest.raises(DataError, match="train: toy train en.*no rows are left"):
        load(part(use[-1], "train"), Path())


def test_a_task_without_english_test_rows_still_trains(use: list[Task]) -> None:
    use.append(
        toy({("train", "en"): pairs("a", 4), ("test", "de"): pairs("b", 4, text="x")}, languages=("de",), parts=Parts(dev=""))
    )
    assert part(use[-1], "train").without == ()
    assert len(load(part(use[-1], "train"), Path())) == 12


# Caps


def test_a_cap_keeps_file_order_and_a_smaller_cap_is_a_part_of_a_larger(use: list[Task]) -> None:
    use.append(toy({("train", "en"): pairs("a", 50)}, parts=Parts(dev="", test="")))
    all_rows, large, small = (load(part(use[-1], "train", cap=cap), Path()) for cap in (None, 60, 20))
    assert [len(large), len(small)] == [60, 20]
    assert [row for row in all_rows if row in large] == large
    assert [row for row in large if row in small] == small
    assert load(part(use[-1], "train", cap=1_000), Path()) == all_rows


def test_capped_parallel_tests_keep_the_same_items_in_every_language(use: list[Task]) -> None:
    use.append(toy({("test", "en"): pairs("a", 50), ("test", "de"): pairs("a", 50, text="Satz")}, parallel=True))
    english, german = (load(part(use[-1], "test", code, cap=40), Path()) for code in ("en", "de"))
    assert [row.id for row in english] == [row.id for row in german] and len(german) == 40


def test_a_cap_on_retrieval_counts_queries_and_keeps_all_candidates(use: list[Task]) -> None:
    queries = tuple(Parallel(f"q{i}", f"one {i}", "query", f"c{i}", str(i)) for i in range(9))
    candidates = tuple(Parallel(f"c{i}", f"eins {i}", "candidate", None, str(i)) for i in range(9))
    use.append(toy({("test", "de"): queries + candidates}, "retrieve", parts=Parts("", "", "test")))
    kept = load(part(use[-1], "test", "de", cap=4), Path())
    assert sum(row in queries for row in kept) == 4
    assert [row for row in kept if row not in queries] == list(candidates)


# Refusals and keys


@pytest.mark.parametrize(
    ("language", "parts", "cap", "says"),
    [
        ("xx", Parts("a", "a", "a"), None, 'task toy has no language "xx"'),
        ("en", Parts("", "a", "a"), None, "task toy has no train part"),
        ("en", Parts("a", "a", "a"), 0, "cap of toy, train: 0 rows"),
        ("en", Parts("b", "a", "a"), None, "b en is not there"),
    ],
)
def test_what_a_study_cannot_have(language: str, parts: Parts, cap: int | None, says: str) -> None:
    task = toy({("a", "en"): pairs("a", 2)})
    with pytest.raises(DataError, match=says):
        part_rows(task, "train", language, parts, cap, Path(), str)


@pytest.mark.parametrize("name", ["squad", "squad2"])
@pytest.mark.parametrize("place", ["train", "dev"])
def test_squads_dev_set_cannot_be_named_for_training_or_selection(name: str, place: Part) -> None:
    parts = Parts("official_dev", "official_dev", "official_dev")
    with pytest.raises(DataError, match="serves for scoring only"):
        part_rows(find_task(name), place, "en", parts, None, Path(), str)


def write_squad(path: Path, titles: list[str]) -> None:
    def question(title: str) -> dict[str, object]:
        return {"id": f"{path.stem}-{title}", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}

    articles = [{"title": t, "paragraphs": [{"context": f"Ada, {t}.", "qas": [question(t)]}]} for t in titles]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"data": articles}))


def test_span_tasks_hold_out_the_same_whole_articles_of_squad(tmp_path: Path) -> None:
    write_squad(tmp_path / "squad/train-v1.1.json", [f"Article {i}" for i in range(300)])
    write_squad(tmp_path / "squad/dev-v1.1.json", ["Warsaw"])
    write_squad(tmp_path / "xquad/xquad.en.json", ["Warsaw"])
    found = {}
    for name in ("squad", "xquad"):
        task = find_task(name)
        for place in ("train", "dev"):
            rows = part_rows(task, "train" if place == "train" else "dev", "en", task.parts, None, tmp_path, str)
            found[name, place] = {group_of(row) for row in load(rows, tmp_path)}
    assert found["squad", "dev"] == found["xquad", "dev"]
    assert found["squad", "train"] == found["xquad", "train"]
    assert len(found["squad", "train"]) + len(found["squad", "dev"]) == 300
    assert not found["squad", "train"] & found["squad", "dev"]


def test_rows_of_other_files_have_another_key_and_the_same_the_same(tmp_path: Path) -> None:
    write_squad(tmp_path / "squad/train-v1.1.json", ["a"])
    task = find_task("squad")

    def key(file_hash: str) -> str:
        return key_of(part_rows(task, "train", "en", task.parts, None, tmp_path, lambda path: file_hash))

    assert key("1") == key("1") != key("2")


def test_where_rows_come_from_in_one_line(use: list[Task]) -> None:
    use.append(toy({("a", "en"): pairs("a", 10), ("b", "en"): pairs("b", 2, text="x")}, parts=Parts("a", "a", "b")))
    assert describe(part(use[-1], "test")) == "test: toy b en, all rows"
    train = part(use[-1], "train", cap=9)
    assert describe(train) == "train: toy a en, groups 0.00-0.90 of all rows, without what stands in test (b en), at most 9"
    assert describe(train, Path()).endswith("groups 0.00-0.90 of 30 rows, without what stands in test (b en), at most 9 = 9")


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (Text("1", "A  b", "c"), "a b"),
        (Choice("1", "A", ("x", "y"), "q"), "a"),
        (Choice("1", "", ("x", "y"), "Q"), "q"),
        (Words("1", ("A", "b")), "a b"),
        (Passage("1", "q", "A"), "a"),
        (Parallel("1", "A", "query"), "a"),
    ],
)
def test_what_an_example_stands_on(example: Example, text: str) -> None:
    assert content(example) == content(Text("2", text))


# The data contract


def found(task: Task) -> list[tuple[str, str]]:
    report = check(task, Path())
    assert report.ok == all(finding.level != "error" for finding in report.findings)
    return [(finding.level, finding.text) for finding in report.findings]


def test_a_clean_task_passes_and_its_parts_are_counted() -> None:
    task = toy({("a", "en"): pairs("a", 100), ("t", "de"): pairs("b", 2, text="x")}, parts=Parts("a", "a", "t"))
    report = check(task, Path())
    assert report.ok and report.findings == ()
    assert sum(report.part_counts.values()) == 300
    assert [(c.split, c.language, c.rows, c.official) for c in report.counts] == [("a", "en", 300, None), ("t", "de", 6, None)]
    assert report.missing == (("a", "de"), ("t", "en"))
    assert available(task, "t", Path()) == ("de",)


def test_nothing_there_is_not_a_pass() -> None:
    assert not check(toy({}, languages=("en",)), Path()).ok


ONE = Parts("", "", "a")
GOOD = Text("1", "p", "h", "yes", "g")
BAD_ROWS: list[tuple[Kind, tuple[Example, ...], str]] = [
    ("classify", (replace(GOOD, label="yess"),), 'row "1": label "yess" is none of yes, no; did you mean "yes"?'),
    ("classify", (replace(GOOD, label=None),), 'row "1": no label'),
    ("classify", (GOOD, GOOD), '1 ids stand more than once, the first: "1"'),
    ("choose", (Choice("1", "c", ("a", "b"), label=2),), "option 2 of 2"),
    ("tag", (Words("1", ("a", "b"), ("yes",)),), "2 words but 1 tags"),
    ("tag", (Words("1", ("a",), ("Yes",)),), 'tag "Yes" is none of yes, no'),
    ("span", (Passage("1", "q", "context", (Answer("text", 2),)),), 'the answer "text" does not stand at character 2'),
    ("span", (Passage("1", "q", "context", ()),), "no answers, but this task has answers only"),
    ("retrieve", (Parallel("q", "x", "query", "c"),), 'its answer "c" is no candidate'),
]


@pytest.mark.parametrize(("kind", "made", "says"), BAD_ROWS)
def test_rows_that_break_the_contract(kind: Kind, made: tuple[Example, ...], says: str) -> None:
    (finding,) = found(toy({("a", "en"): made}, kind, parts=ONE))
    assert finding[0] == "error" and says in finding[1]


def test_parallel_rows_must_agree_in_ids_and_groups() -> None:
    made = pairs("a", 4)
    task = toy(
        {("test", "en"): made, ("test", "de"): (*made[:5], replace(made[5], group="z"), *made[6:])}, parts=Parts("", "", "test")
    )
    assert found(task) == []
    assert found(replace(task, parallel=True)) == [
        ("error", 'its rows are not those of "en" from row 6 on (12 and 12 rows); take all languages from one release')
    ]
    short = toy({("test", "en"): made, ("test", "de"): made[:5]}, parts=Parts("", "", "test"), parallel=True)
    assert found(short) == [("error", 'its rows are not those of "en" from row 6 on (5 and 12 rows); take all languages from one release')]


def test_parallel_sentences_may_have_other_numbers_of_words() -> None:
    english = Words("1", ("They", "do", "not", "sing", "in", "the", "old", "garden"), ("yes",) * 8)
    chinese, stump = Words("1", ("他们", "不", "在", "旧", "花园", "里", "唱歌"), ("no",) * 7), Words("1", ("NS",), ("no",))
    for other, notes in ((chinese, 0), (stump, 1)):
        task = toy({("test", "en"): (english,), ("test", "de"): (other,)}, "tag", parts=Parts("", "", "test"), parallel=True)
        assert [(level, "a few letters" in text) for level, text in found(task)] == [("note", True)] * notes


def test_what_is_good_to_know_is_noted() -> None:
    dev = (replace(GOOD, id="d", text="p"),)
    rows = (GOOD, replace(GOOD, id="2", label="no"), Text("3", "q", " ", "no"), Text("4", "r", "s", "no"))
    notes = found(toy({("train", "en"): rows, ("dev", "en"): dev}, parts=Parts(test=""), sizes={"dev-en": 2}))
    assert notes == [
        ("note", '1 row with an empty text, the first: "3"; they are used as they are'),
        ("note", '1 pairs stand under more than one label, the first in rows "1" and "2"; both are used'),
        ("note", "1 rows, officially 2"),
        ("note", '2 rows of train left out, the first: "1": their text or group also stands in dev (dev)'),
    ]


def test_marks_and_line_ends_of_files_are_noted(tmp_path: Path) -> None:
    (tmp_path / "udpos").mkdir()
    (tmp_path / "udpos/dev-de.tsv").write_bytes(b"\xef\xbb\xbfHaus\tNOUN\nda\tADV\r\n\n")
    report = check(find_task("udpos"), tmp_path, Parts("", "", "dev"))
    assert [finding.text for finding in report.findings] == [
        "dev-de.tsv starts with a byte-order mark; it is left out",
        "dev-de.tsv:2: the line ends with CRLF; read as LF",
    ]


def test_a_file_that_cannot_be_read_is_an_error_and_the_others_are_still_checked(tmp_path: Path) -> None:
    (tmp_path / "udpos").mkdir()
    (tmp_path / "udpos/dev-de.tsv").write_text("Haus\n")
    (tmp_path / "udpos/dev-fr.tsv").write_text("maison\tNOUN\n")
    report = check(find_task("udpos"), tmp_path, Parts("", "", "dev"))
    assert not report.ok
    assert [(count.language, count.rows) for count in report.counts] == [("fr", 1)]
    assert "dev-de.tsv:1: 1 tab-separated columns" in report.findings[0].text


def test_parts_that_share_a_text_under_two_groups_are_an_error() -> None:
    """Two copies of one premise in different groups fall on both sides of the cut: `without` takes the training one."""
    made = tuple(Text(str(i), "the same", "h", "yes", f"g{i}") for i in range(200))
    report = check(toy({("a", "en"): made}, parts=Parts("a", "a", "")), Path())
    said = ("error", "no rows are left for train; name other splits for its parts")
    assert said in [(finding.level, finding.text) for finding in report.findings]
