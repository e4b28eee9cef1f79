"""Tasks as text on tiny models that write: losses, label scores, writing, training, resuming, the untuned baseline."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine_maker import rows_of, toy_rows, toy_task
from study_maker import file_hash
from text_maker import WRITERS, make_tokenizer, make_writer, texts_of
from xstilts.engine import lm, text
from xstilts.engine import train as training
from xstilts.engine.adapters import Weights
from xstilts.engine.batch import batch_of
from xstilts.engine.predict import predict
from xstilts.engine.train import train
from xstilts.errors import DataError, ModelError, Stopped, StudyError
from xstilts.examples import Answer, Example, Passage, Words
from xstilts.plan import make_plan
from xstilts.stages import Predict, Pretrained, Recipe, Runtime, Share, Start, Train
from xstilts.study import parse_study
from xstilts.task import Kind, Task

SOME = [family if family in ("mt5", "llama") else pytest.param(family, marks=pytest.mark.slow) for family in WRITERS]
RECIPE = Recipe(lr=5e-3, steps=60, batch=8, max_length=40, dropout=0.0)
ROOT = Pretrained("toy", form="text")
KINDS: tuple[Kind, ...] = ("classify", "choose", "tag", "span")
LABELS = ["red", "blue", "O", "RED", "BLUE", "PER: LOC:", *(f"choice{n}" for n in (1, 2))]
ALL: list[Example] = [row for kind in KINDS for row in toy_rows(kind)]
NAMES = [
    Words(f"n{i}", (f"w{i}", "Ada", "and", "Bo", "in", f"w{9 - i}"), ("B-LOC" if i % 2 else "O", "B-PER", "O", "B-PER", "O", "B-LOC"))
    for i in range(10)
]


def ner() -> Task:
    return replace(toy_task("tag", NAMES, "toy-ner"), labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), metrics=("f1",))


def given(task: Task) -> list[Example]:
    return list(task.source.read(Path(), "train", "en"))


def folder_of(tmp: Path, family: str) -> Path:
    return make_writer(tmp / family, family, texts_of([*ALL, *NAMES], LABELS))


def writer(tmp: Path, family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a folder, and its tokenizer as it was made (transformers has another for folders of some families)."""
    model = lm.load(folder_of(tmp, family)).eval()
    seq2seq = not lm.is_decoder(model)
    return model, make_tokenizer(texts_of([*ALL, *NAMES], LABELS), end=seq2seq, begin=family in ("llama", "gemma2"))


def weights_of(model: Start, folder: Path) -> Weights:
    return Weights(folder, folder if isinstance(model, Pretrained) else folder / "encoder", model.key, "text")


def fit(
    task: Task, start: Path, draft: Path, recipe: Recipe = RECIPE, stop: Callable[[], bool] = lambda: False, on: Start = ROOT,
) -> tuple[Train, Path]:  # fmt: skip
    stage = Train(on, (Share(rows_of(task)),), (rows_of(task, "dev"),), recipe, 1, Runtime())
    train(stage, weights_of(on, start), lambda _: task, lambda _: given(task), draft, draft.parent / "cache", lambda _: None, stop)
    return stage, draft / "out"


def asked(model: Start, folder: Path, task: Task, out: Path) -> tuple[dict[str, list[Any]], dict[str, float]]:
    from pyarrow import parquet

    stage = Predict(model, rows_of(task, "test"), 40, 4, Runtime())
    predict(stage, weights_of(model, folder), task, lambda _: given(task), out, out.parent / "cache")
    return parquet.read_table(out / "predictions.parquet").to_pydict(), json.loads((out / "facts.json").read_text())


def right(table: dict[str, list[Any]]) -> float:
    return float(np.mean([gold == pred for gold, pred in zip(table["gold"], table["pred"], strict=True)]))


# ---- the model ----


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_losses_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    model, tokenizer = writer(tmp_path, family)
    task, rows = toy_task("classify"), toy_rows("classify", 5)
    made = text.Form(lm.is_decoder(model)).encode(tokenizer, rows, task, 40, 0)
    batch = batch_of(made, np.arange(5), "cpu")
    with torch.no_grad():
        total, count = text.loss(text.logits(model, torch.nn.Identity(), batch, ""), batch)
        theirs, tokens = 0.0, 0
        for ids, mark in zip(batch.ids_N.split(batch.lengths.tolist()), batch.tokens["target"].split(batch.lengths.tolist()), strict=True):
            if lm.is_decoder(model):
                out = model(input_ids=ids[None], labels=ids.where(mark == 1, -100)[None])
            else:
                out = model(input_ids=ids[mark == 0][None], labels=ids[mark == 1][None].contiguous())
            theirs += float(out.loss) * int(mark.sum())
            tokens += int(mark.sum())
    assert count == tokens == 10  # a label and the end token each
    assert float(total) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("family", SOME)
def test_label_scores_are_those_of_a_slow_loop_whatever_stands_beside(tmp_path: Path, family: str) -> None:
    model, tokenizer = writer(tmp_path, family)
    for kind in ("classify", "choose"):
        task, rows = toy_task(kind), toy_rows(kind, 6)
        form = text.Form(lm.is_decoder(model), asks=True)
        made = form.encode(tokenizer, rows, task, 40, 0)
        answered, _ = text.answers(model, tokenizer, form, made, rows, task, "en", "cpu", "fp32", 150)
        slow = [[] for _ in rows]
        for row, example in enumerate(made.example):
            ids = torch.from_numpy(made.ids[made.bounds[row] : made.bounds[row + 1]].astype(np.int64))
            mark = made.tokens["target"][made.bounds[row] : made.bounds[row + 1]]
            slow[example].append(_slow(model, ids[mark == 0].tolist(), ids[mark == 1].tolist()))
        for one, scores in zip(answered, slow, strict=True):
            np.testing.assert_allclose(one.scores, scores, atol=1e-4)
            assert one.pred == ((task.labels or ("0", "1"))[int(np.argmax(scores))],)


def _slow(model: PreTrainedModel, ids: Sequence[int], target: Sequence[int]) -> float:
    """The log-likelihood of a target, one token and one forward pass at a time."""
    total = 0.0
    with torch.no_grad():
        for n, token in enumerate(target):
            if lm.is_decoder(model):
                logits = model(input_ids=torch.tensor([[*ids, *target[:n]]])).logits
            else:
                logits = model(input_ids=torch.tensor([list(ids)]), decoder_input_ids=torch.tensor([[0, *target[:n]]])).logits
            total += float(logits[0, -1].log_softmax(-1)[token])
    return total


@pytest.mark.parametrize("family", SOME)
def test_what_is_written_is_what_each_row_gets_alone_without_a_cache(tmp_path: Path, family: str) -> None:
    model, tokenizer = writer(tmp_path, family)
    rows = toy_rows("span", 5)
    made = text.Form(lm.is_decoder(model), asks=True).encode(tokenizer, rows, toy_task("span"), 40, 0)
    inputs = [torch.from_numpy(made.ids[a:b].astype(np.int64)) for a, b in zip(made.bounds, made.bounds[1:], strict=False)]
    assert len({len(ids) for ids in inputs}) > 2
    with torch.no_grad():
        together, likely = lm.written(model, inputs, [6, 5, 7, 6, 6], end=1)
        for ids, most, out, score in zip(inputs, [6, 5, 7, 6, 6], together, likely, strict=True):
            alone: list[int] = []
            while len(alone) < most:
                if lm.is_decoder(model):
                    logits = model(input_ids=torch.tensor([[*ids.tolist(), *alone]]), use_cache=False).logits
                else:
                    logits = model(input_ids=ids[None], decoder_input_ids=torch.tensor([[0, *alone]]), use_cache=False).logits
                token = int(logits[0, -1].argmax())
                if token == 1:
                    break
                alone.append(token)
            assert out == alone
            assert score == pytest.approx(_slow(model, ids.tolist(), alone if len(alone) == most else [*alone, 1]), abs=1e-3)


def test_tags_are_one_a_word_and_nothing_else(tmp_path: Path) -> None:
    labels = ("A", "A B", "B B B", "C")  # one begins another, another is three tokens long
    task = replace(toy_task("tag"), labels=labels)
    for family in ("mt5", "llama"):
        model, _ = writer(tmp_path, family)
        spell = text._Spelling(make_tokenizer([*texts_of(ALL, LABELS), *labels], end=family == "mt5"), lm.is_decoder(model))
        model.resize_token_embeddings(len(spell.tokenizer))
        for seed in range(3):
            torch.manual_seed(seed)
            torch.nn.init.normal_(model.get_output_embeddings().weight)
            words = [1, 4, 2, 7]
            rule = text._Tags(spell, task, words)
            with torch.no_grad():
                lm.written(model, [torch.tensor([5, 6, 7, 1])] * 4, rule.most, spell.end, rule)
            assert [len(own) for own in rule.tags] == words
            assert {tag for own in rule.tags for tag in own} <= set(labels)


# ---- rows ----


def test_long_sentences_keep_every_word_and_long_texts_lose_the_end_of_the_longest(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(texts_of([*ALL, *NAMES], LABELS), end=True)
    form = text.Form(decoder=False, asks=True)
    long = Words("long", tuple(f"w{i % 60}" for i in range(100)), ("O",) * 100)
    made = form.encode(tokenizer, [long, NAMES[0]], ner(), 24, 0)
    assert made.lengths.max() <= 24 and made.rows["words"][:-1].sum() == 100 and made.rows["words"][-1] == 6
    assert made.rows["first"].tolist()[:-1] == np.cumsum([0, *made.rows["words"][:-2]]).tolist() and not made.rows["cut"].any()

    passage = Passage("p", "who is the ?", " ".join(f"w{i % 60}" for i in range(80)), (Answer("w0", 0),))
    made = form.encode(tokenizer, [passage, toy_rows("span")[0]], toy_task("span"), 24, 0)
    assert made.lengths[0] == 24 and made.rows["cut"].tolist() == [1, 0]
    kept = tokenizer.decode(made.ids[:24])
    assert kept.startswith("question: who is the ? context: w0 w1") and kept.endswith("</s>")
    decoder = text.Form(decoder=True).encode(make_tokenizer(texts_of(ALL, LABELS), end=False), [passage], toy_task("span"), 24, 0)
    assert int((decoder.tokens["target"] == 0).sum()) == 24  # the cue that the answer follows is not cut
    asked = text.Form(decoder=False, asks=True, natural=True).encode(tokenizer, [passage], toy_task("span"), 24, 0)
    assert asked.lengths[0] > 24 and "Answer:" in tokenizer.decode(asked.ids) and asked.rows["cut"].tolist() == [1]
    with pytest.raises(DataError, match=r"max_length = 5: the words around an example alone take"):
        form.encode(tokenizer, [passage], toy_task("span"), 5, 0)


def test_a_tokenizer_that_will_not_do_is_refused() -> None:
    bare = make_tokenizer(["sentence1:"], end=True)
    with pytest.raises(ModelError, match='toy-classify: to this tokenizer "blue" is the same as red; form = "text" cannot tell'):
        text.Form(False, asks=True).encode(bare, toy_rows("classify", 2), toy_task("classify"), 40, 0)
    bare.eos_token = None
    with pytest.raises(ModelError, match="names no end token"):
        text.Form(False).encode(bare, toy_rows("classify", 2), toy_task("classify"), 40, 0)


# ---- training ----


@pytest.mark.parametrize("family", [pytest.param("mt5", marks=pytest.mark.slow), "llama"])
def test_a_handful_of_rows_is_learnt_by_heart(tmp_path: Path, family: str) -> None:
    task = toy_task("classify", toy_rows("classify", 8))
    stage, folder = fit(task, folder_of(tmp_path, family), tmp_path / "d", replace(RECIPE, steps=60 if family == "mt5" else 30))
    table, facts = asked(stage, folder, task, tmp_path / "p")
    assert right(table) == 1.0
    assert json.loads((folder / "log.json").read_text())["dev"] == 100.0
    assert facts["cut_rate"] == 0.0 and "wrong_script" not in facts
    assert not list((folder / "heads").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mt5", "llama"])
@pytest.mark.parametrize("kind", ["choose", "tag", "ner", "span"])
def test_every_kind_is_learnt_by_heart(tmp_path: Path, family: str, kind: Kind) -> None:
    task = ner() if kind == "ner" else toy_task(kind, toy_rows(kind, 10))
    stage, folder = fit(task, folder_of(tmp_path, family), tmp_path / "d", replace(RECIPE, steps=300 if kind == "ner" else 200))
    table, facts = asked(stage, folder, task, tmp_path / "p")
    assert right(table) >= 0.9
    if kind in ("ner", "span"):
        assert facts["outputs"] >= 10 and facts["not_in_input"] < 0.2 and facts["wrong_script"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "llama"])
def test_a_stopped_training_goes_on_to_the_same_bits_and_micro_batches_move_only_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """T5's table is tied to its output layer: the saved state holds it once."""
    task, start = toy_task("classify"), folder_of(tmp_path, family)
    recipe = replace(RECIPE, steps=8, selections=2, dropout=0.1, lr=1e-3)
    _, whole = fit(task, start, tmp_path / "whole", recipe)
    calls = iter(range(100))
    with pytest.raises(Stopped):
        fit(task, start, tmp_path / "halted", recipe, stop=lambda: next(calls) >= 4)
    _, resumed = fit(task, start, tmp_path / "halted", recipe)
    assert (whole / "encoder/model.safetensors").read_bytes() == (resumed / "encoder/model.safetensors").read_bytes()
    monkeypatch.setattr(training, "MICRO", 480)
    _, small = fit(task, start, tmp_path / "small", recipe)
    one, many = (json.loads((folder / "log.json").read_text()) for folder in (whole, small))
    np.testing.assert_allclose(one["losses"], many["losses"], rtol=1e-5)
    assert (one["tokens"], one["selections"]) == (many["tokens"], many["selections"])


def test_a_model_as_text_starts_the_next_training_and_nothing_is_trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xstilts.engine import vocabulary

    monkeypatch.setattr(vocabulary, "trim", lambda *_: pytest.fail("a target token is a softmax over every row"))
    first, folder = fit(toy_task("choose"), folder_of(tmp_path, "mt5"), tmp_path / "one", replace(RECIPE, steps=2))
    second, out = fit(toy_task("classify"), folder, tmp_path / "two", replace(RECIPE, steps=2), on=first)
    assert second.start is first
    table, _ = asked(second, out, toy_task("classify"), tmp_path / "p")
    assert all(pred in (["red"], ["blue"]) for pred in table["pred"])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "llama"])
def test_an_adapter_is_trained_as_text_and_comes_back(tmp_path: Path, family: str) -> None:
    """The output layer over the vocabulary stays as it is: T5's is the table of embeddings."""
    from safetensors.torch import load_file

    from xstilts.engine.adapters import Adapter, loaded

    task, start = toy_task("classify", toy_rows("classify", 8)), folder_of(tmp_path, family)
    stage, out = fit(task, start, tmp_path / "d", replace(RECIPE, steps=120, lr=2e-2, tuning="lora"))
    assert not (out / "encoder").exists()
    assert not any("lm_head" in name for name in load_file(out / "adapter/adapter_model.safetensors"))
    model = Weights(out, start, ROOT.key, "text", ((Adapter(out / "adapter", "lora"),),))
    predict(Predict(stage, rows_of(task, "test"), 40, 4, Runtime()), model, task, lambda _: given(task), tmp_path / "p", tmp_path / "cache")
    from pyarrow import parquet

    assert right(parquet.read_table(tmp_path / "p/predictions.parquet").to_pydict()) > 0.8
    assert loaded(model).get_output_embeddings().weight.shape[0] == len(lm.load(start).get_output_embeddings().weight)


def test_a_decoders_first_layers_can_be_frozen(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    start = folder_of(tmp_path, "llama")
    _, out = fit(toy_task("classify"), start, tmp_path / "d", replace(RECIPE, steps=2, freeze_embeddings=True, freeze_layers=1))
    before, after = (load_file(folder / "model.safetensors") for folder in (start, out / "encoder"))
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert "model.embed_tokens.weight" in still and {name for name in before if ".layers.0." in name} <= still
    assert not any(".layers.1." in name for name in still) and "lm_head.weight" not in still


# ---- untuned ----


@pytest.mark.parametrize("family", [pytest.param("mt5", marks=pytest.mark.slow), "llama"])
def test_an_untuned_model_is_asked_in_plain_words(tmp_path: Path, family: str) -> None:
    folder = folder_of(tmp_path, family)
    for kind in KINDS:
        task = toy_task(kind, toy_rows(kind, 6))
        table, facts = asked(ROOT, folder, task, tmp_path / kind)
        assert len(table["pred"]) == 6 and all(len(p) == len(g) for p, g in zip(table["pred"], table["gold"], strict=True))
        assert ("wrong_script" in facts) == (kind == "span")
    form = text.Form(lm.is_decoder(lm.load(folder)), asks=True, natural=True)
    tokenizer = make_tokenizer(texts_of(ALL, LABELS), end=family == "mt5")
    made = form.encode(tokenizer, toy_rows("choose", 1), toy_task("choose"), 60, 0)
    first = tokenizer.decode(made.ids[: made.bounds[1]][made.tokens["target"][: made.bounds[1]] == 1])
    assert first == toy_rows("choose", 1)[0].options[0]  # no end token: it was never taught to end there


def plan_of(folder: Path, **changes: object) -> Any:
    study = {
        "name": "s", "models": ["m"], "intermediates": ["untuned", "none", "mini-nli"], "targets": ["mini-paraphrase"], "seeds": [0, 1],
        "languages": ["en", "de"], "encoders": {"m": {"path": "llama", "form": "text"}}, **changes,
    }  # fmt: skip
    return make_plan(parse_study(study), folder, file_hash, base=folder)


def test_the_untuned_baseline_is_made_once_and_is_after_no_task(tmp_path: Path) -> None:
    folder_of(tmp_path, "llama")
    plan = plan_of(tmp_path)
    bare = [cell for cell in plan.cells if cell.intermediate == "untuned"]
    assert len(bare) == 4 and len({cell.predict.key for cell in bare}) == 2  # two seeds, one answer a language
    assert all(cell.predict.model is plan.models["m"] and not cell.same_data for cell in bare)
    assert plan.models["m"].form == "text"
    heads = plan_of(tmp_path, intermediates=["none"], encoders={"m": {"path": "llama"}})
    assert heads.models["m"] == Pretrained(plan.models["m"].weights, "last")  # the key of a model with heads is what it always was
    assert heads.models["m"].key != plan.models["m"].key


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoders": {"m": {"path": "llama"}}}, '"untuned" cannot be asked of "m": untrained heads say nothing'),
        ({"targets": ["mini-retrieval"]}, 'encoders.m.form: "mini-retrieval" has no text form'),
        ({"intermediates": ["untuned > mini-nli"]}, '"untuned" is no step of a chain'),
        ({"mixes": {"untuned": {"tasks": ["mini-nli"]}}}, "mixes.untuned: not a name that a step can have"),
        (
            {"mixes": {"both": {"tasks": ["mini-nli", "mini-text"]}}, "intermediates": ["both"]},
            'encoders.m.form: "mini-text" has no text form',
        ),
        ({"recipe": {"tuning": "prompt"}}, 'recipe.tuning: "prompt" does not go with form = "text" of encoders.m'),
        ({"encoders": {"m": {"path": "llama", "form": "texts"}}}, "encoders.m.form: expected 'heads' or 'text', got \"texts\""),
    ],
)
def test_what_cannot_be_asked_is_refused_when_the_plan_is_made(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    folder_of(tmp_path, "llama")
    with pytest.raises(StudyError) as error:
        plan_of(tmp_path, **changes)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_encoder_cannot_write(tmp_path: Path) -> None:
    from engine_maker import make_model

    with pytest.raises(ModelError, match='cannot be loaded as a model that writes|lack .* tensors that form = "text" needs'):
        lm.load(make_model(tmp_path / "m"))


def test_a_pretraining_is_not_done_again_for_the_other_form(tmp_path: Path) -> None:
    from xstilts.executors.carry import Place, carry_out
    from xstilts.stages import Pretrain
    from xstilts.store import Store

    store = Store.open(tmp_path / "store")
    heads = Pretrain('{"name": "p"}', (), Runtime())
    with store.claim(heads.key) as draft:
        assert draft is not None
        (draft / "out/encoder").mkdir()
        (draft / "out/encoder/README.md").write_text("weights")
        store.finish(heads, 1.0, {})
    text_form = replace(heads, form="text")
    assert text_form.key != heads.key
    with store.claim(text_form.key) as draft:
        assert draft is not None
        carry_out(text_form, Place(store, tmp_path, draft, {}, True, lambda _: None, lambda: False))
        store.finish(text_form, 0.0, {})
    assert (store.entry(text_form.key) / "encoder/README.md").read_text() == "weights"
