"""The card of a trained encoder: terms and citations of every data set in its chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine_maker import make_model
from study_maker import file_hash
from xstilts.canon import canonical
from xstilts.card import CARD, TRAINED_ON, Source, card, read_sources, sources, terms
from xstilts.errors import StoreError
from xstilts.plan import make_plan
from xstilts.pretraining import read_config
from xstilts.run import run
from xstilts.stages import Choose, Merge, Pretrain, Pretrained, Recipe, Rows, Runtime, Share, Start, Train
from xstilts.store import Store
from xstilts.study import parse_study
from xstilts.task import Part
from xstilts.tasks import names, task


def rows(name: str, part: Part = "train", language: str = "en") -> Rows:
    return Rows(name, 1, part, part, language, "00")


def train(start: Start, *tasks: str, select: tuple[Rows, ...] = ()) -> Train:
    return Train(start, tuple(Share(rows(name)) for name in tasks), select, Recipe(), 1, Runtime())


WEIGHTS = Pretrained("a/model@" + "0" * 40)


def test_terms_are_read_from_the_words_of_a_licence() -> None:
    marked = {name: terms(task(name).licence) for name in names() if terms(task(name).licence)}
    assert marked == dict.fromkeys(("anli", "anli_plus", "dream", "qqp", "sick", "udpos", "xnli"), ("NC",))
    assert terms("CC BY-NC-ND 4.0") == ("NC", "ND")
    assert terms("CC BY-SA 4.0") == terms("none stated (text of Wikipedia)") == terms("under its own terms; and others") == ()


def test_a_chain_passes_its_terms_on_and_cites_every_data_set(tmp_path: Path) -> None:
    nc = train(WEIGHTS, "sick")
    stage = Choose((train(Merge(WEIGHTS, (nc, train(WEIGHTS, "squad")), (1, 1), "average", 1, 1, Runtime()), "xquad",
                          select=(rows("xquad", "dev"),)),), Runtime())  # fmt: skip
    found = sources(stage, tmp_path)
    assert [(each.name, each.use) for each in found] == [
        ("sick", "trained on"), ("squad", "trained on"), ("xquad", "trained on"), ("xquad", "selected on"),
    ]  # fmt: skip
    text = card(stage, found)
    assert "**Non-commercial data (NC).**" in text and "sick (CC BY-NC-SA 3.0)." in text and "No derivatives" not in text
    for name in ("sick", "squad", "xquad"):
        assert task(name).citation in text and task(name).licence in text
    assert text.count(task("xquad").citation) == 1
    assert "1. pretrained weights `a/model@0000" in text and "merging 2 encoders (average)" in text
    clean = card(train(WEIGHTS, "squad"), sources(train(WEIGHTS, "squad"), tmp_path))
    assert "NC" not in clean and "CC BY-SA 4.0" in clean


def test_the_data_sets_behind_a_tasks_training_rows_are_cited(tmp_path: Path) -> None:
    found = sources(train(WEIGHTS, "xnli", select=(rows("xnli", "dev"),)), tmp_path)
    assert [(each.name, each.use) for each in found] == [
        ("xnli", "trained on"), ("mnli", "trained on"), ("snli", "trained on"), ("xnli", "selected on"),
    ]  # fmt: skip


def test_an_encoder_pretrained_on_nd_text_carries_that(tmp_path: Path) -> None:
    config = read_config("distill-minilm")
    made = train(Pretrain(canonical(config), (), Runtime()), "squad")
    found = {each.name: each for each in sources(made, tmp_path)}
    assert found["quran_verbatim"].terms == ("NC", "ND") and found["lafand_mt"].terms == ("NC",)
    assert found["ntrex"].terms == () and found["all-MiniLM-L6-v2"].use == "made from"
    text = card(made, tuple(found.values()))
    assert "**No derivatives (ND).**" in text and "quran_verbatim (CC BY-NC-ND 4.0)" in text
    assert "pretraining `distill-minilm`, 600 updates, seed 1: Multilingual knowledge distillation" in text
    assert "all-MiniLM-L6-v2 (English sentence encoder" in text and "itself tuned on about one thousand million" in text


def test_raw_text_beside_a_task_is_named_by_its_folders(tmp_path: Path) -> None:
    for folder in ("lafand_mt", "mine", "wiki_contexts_unlabelled"):
        (tmp_path / "text" / folder).mkdir(parents=True)
        (tmp_path / "text" / folder / "sw.txt").write_text("Habari.\n")
    made = Train(WEIGHTS, (Share(rows("squad")), Share(rows("text", language="sw"))), (), Recipe(), 1, Runtime())
    found = sources(made, tmp_path)
    assert [each.name for each in found] == ["squad", "lafand_mt", "mine"]
    assert found[1].terms == ("NC",) and found[2].licence.startswith("not known to xstilts")


@pytest.mark.slow
def test_trained_entries_hold_their_card_and_pass_it_on(tmp_path: Path) -> None:
    """Study -> store: every encoder that is kept has one; weights that came with a list pass it on."""
    make_model(tmp_path / "m")
    before = Source("elsewhere", "trained on", "CC BY-ND 4.0", "", "@misc{elsewhere}")
    (tmp_path / "m" / TRAINED_ON).write_text(json.dumps([{"name": before.name, "use": before.use, "licence": before.licence,
                                                          "homepage": "", "citation": before.citation}]))  # fmt: skip
    study = parse_study(
        {
            "name": "s", "models": ["m"], "targets": ["mini-pos"], "seeds": [1], "languages": ["en"], "keep": "all",
            "intermediates": ["mini-ner", "soup"], "encoders": {"m": {"path": "m"}},
            "merges": {"soup": {"of": ["mini-ner", "mini-pos"]}}, "search": {"mini-pos": {"lr": [1e-4, 1e-3]}},
            "recipe": {"steps": 1, "batch": 2, "max_length": 24, "stride": 4}, "caps": {"all": {"train": 4, "dev": 4, "test": 4}},
        }
    )  # fmt: skip
    plan = make_plan(study, tmp_path, file_hash, base=tmp_path)
    store = Store.open(tmp_path / "store")
    assert not run(plan.stages, plan.where, store, tmp_path, jobs=1, offline=True).failed
    trained = [stage for stage in plan.stages if plan.kind(stage) != "predict"]
    assert {type(stage) for stage in trained} == {Train, Merge, Choose}
    for each in trained:
        folder = store.entry(each.key) / "encoder"
        assert before in read_sources(folder)
        assert "**No derivatives (ND).**" in (folder / CARD).read_text() and "@misc{elsewhere}" in (folder / CARD).read_text()
    last = store.entry(plan.cells[-1].predict.model.key) / "encoder"
    assert [each.name for each in read_sources(last)] == ["elsewhere", "mini-ner", "mini-ner", "mini-pos", "mini-pos"]
    (tmp_path / "m" / TRAINED_ON).write_text("[{]")
    with pytest.raises(StoreError, match="cannot be read as a list of data sets"):
        read_sources(tmp_path / "m")
