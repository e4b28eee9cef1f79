"""The engine on toys: packing, dropout, schedules, every kind from training to answers, resuming to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from engine_maker import make_model, make_tokenizer, rows_of, toy_rows, toy_task
from xstilts.engine import batch as batches
from xstilts.engine import classify, dropout, hf, mask, packed, span, tag, vocabulary
from xstilts.engine import predict as predicting
from xstilts.engine import train as training
from xstilts.engine.adapters import weights
from xstilts.engine.batch import batch_of, by_length, columns, load_columns, save_columns, schedule
from xstilts.engine.predict import predict
from xstilts.engine.train import train
from xstilts.errors import DataError, ModelError, Stopped, TrainingError
from xstilts.examples import Answer, Example, Passage, Words
from xstilts.metrics.mining import nearest
from xstilts.stages import Predict, Pretrained, Recipe, Rows, Runtime, Share, Train
from xstilts.task import Kind, Task

KINDS: tuple[Kind, ...] = ("classify", "choose", "tag", "span", "mask")
RECIPE = Recipe(lr=3e-3, steps=60, batch=8, max_length=24, stride=4, dropout=0.1)


def fit(
    task: Task, start: Path, draft: Path, recipe: Recipe = RECIPE, seed: int = 1, stop: Callable[[], bool] = lambda: False,
    select: bool = True,
) -> tuple[Train, Path]:  # fmt: skip
    """Train on a toy task; the stage and the folder that holds the entry."""
    wanted = (rows_of(task, "dev"),) if select and task.metrics else ()
    stage = Train(Pretrained("toy"), (Share(rows_of(task)),), wanted, recipe, seed, Runtime())
    model = weights(stage.start, lambda _: start)
    train(stage, model, lambda _: task, lambda _: given(task), draft, draft.parent / "cache", lambda _: None, stop)
    return stage, draft / "out"


def given(task: Task) -> list[Example]:
    return list(task.source.read(Path(), "train", "en"))


def answers(stage: Train | Pretrained, folder: Path, task: Task, out: Path, most: int = 24) -> dict[str, list[list[str]]]:
    from pyarrow import parquet

    asked = Predict(stage, rows_of(task, "test"), most, 4, Runtime())
    predict(asked, weights(stage, lambda _: folder), task, lambda _: given(task), out, out.parent / "cache")
    return parquet.read_table(out / "predictions.parquet").to_pydict()


@pytest.mark.parametrize("family", ["xlm-roberta", "bert"])
def test_packed_rows_get_the_states_of_padded_rows(tmp_path: Path, family: str) -> None:
    folder = make_model(tmp_path / "m", family)
    tokenizer = make_tokenizer(types=family == "bert")
    made = classify.encode(tokenizer, toy_rows("classify"), toy_task("classify"), 24, 0)
    rows = np.arange(len(made.example))
    with torch.no_grad():
        packed = hf.hidden_states(hf.load_encoder(folder).eval(), batch_of(made, rows, "cpu"))
        texts = [(e.text, e.pair) for e in toy_rows("classify")]
        padded = tokenizer([a for a, _ in texts], [b for _, b in texts], padding=True, return_tensors="pt")
        plain = AutoModel.from_pretrained(folder).eval()(**padded).last_hidden_state
    torch.testing.assert_close(packed, plain[padded["attention_mask"].bool()], atol=1e-5, rtol=1e-5)


def test_padded_families_get_the_same_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(tmp_path / "m")
    made = classify.encode(make_tokenizer(), toy_rows("classify"), toy_task("classify"), 24, 0)
    batch = batch_of(made, np.arange(len(made.example)), "cpu")
    with torch.no_grad():
        packed = hf.hidden_states(hf.load_encoder(folder).eval(), batch, layer=1)
        monkeypatch.setattr(hf, "packs", lambda _: False)
        padded = hf.hidden_states(hf.load_encoder(folder).eval(), batch, layer=1)
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-5)


def test_packed_attention_has_the_gradients_of_attention_row_by_row() -> None:
    plan = packed.layout(np.array([150, 145, 48, 48, 9, 1]), "cpu")
    assert [(group.shape, group.mask is None) for group in plan.groups] == [((2, 160), False), ((2, 48), True), ((2, 16), False)]
    lengths = np.array([40, 39, 12, 12])
    plan = packed.layout(lengths, "cpu")
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(1, 2, 103, 4, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weight = torch.randn(1, 103, 2, 4, generator=draw, dtype=torch.float64)

    def gradients(mixed: torch.Tensor) -> list[torch.Tensor]:
        return [mixed.detach(), *torch.autograd.grad((mixed * weight).sum(), values)]

    ours = gradients(packed.attention(torch.nn.Module(), *values, None, packed=plan)[0])
    rows = [x.split(lengths.tolist(), dim=2) for x in values]
    plain = [torch.nn.functional.scaled_dot_product_attention(q, k, v) for q, k, v in zip(*rows, strict=True)]
    theirs = gradients(torch.cat(plain, dim=2).transpose(1, 2))
    fused = gradients(packed._fused(*(x[0].transpose(0, 1) * f for x, f in zip(values, (0.5, 1, 1), strict=True)), plan, None)[None])
    for one, other, third in zip(ours, theirs, fused, strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(third, other)


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 5), (False, 5)])
def test_attention_of_variable_length_is_told_where_rows_begin_and_what_they_see(
    monkeypatch: pytest.MonkeyPatch, causal: bool, window: int | None
) -> None:
    """torch's own runs on GPUs alone (tests/test_cuda.py); here a slow one after its description stands for it."""

    def slow(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, other: Tensor, *longest: int, scale: float, window_size: Any) -> Tensor:
        assert longest == (int(bounds.diff().max()),) * 2 and torch.equal(bounds, other)
        rows = []
        for a, b in pairwise(bounds.tolist()):
            apart = torch.arange(b - a)[None] - torch.arange(b - a)[:, None]  # of the key from the query
            left, right = (b - a if side < 0 else side for side in window_size)
            seen = (apart >= -left) & (apart <= right)
            own = (x[a:b].transpose(0, 1) for x in (q, k, v))
            rows.append(torch.nn.functional.scaled_dot_product_attention(*own, attn_mask=seen, scale=scale).transpose(0, 1))
        return torch.cat(rows)

    monkeypatch.setattr(packed, "_of_variable_length", lambda: slow)
    plan = packed.layout(np.array([21, 20, 9, 3]), "cpu", causal)
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(packed.filled(53), 2, 8, generator=draw, dtype=torch.float64) for _ in range(3)]
    flat, fused = packed._flat(*values, plan, window), packed._fused(*values, plan, window)
    torch.testing.assert_close(flat[:53], fused[:53])
    assert flat[53:].isfinite().all() and packed.layout(np.array([16]), "cpu").bounds[0].tolist() == [0, 16, 16]


def test_tokens_that_fill_a_batch_up_take_no_part_in_attention() -> None:
    assert [packed.filled(n) for n in (0, 1, 16, 17, 103, 256, 257, 1071, 2049)] == [0, 16, 16, 32, 112, 256, 272, 1088, 2176]
    plan = packed.layout(np.array([40, 39, 12, 12]), "cpu")
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(1, 2, packed.filled(103), 4, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mixed = packed.attention(torch.nn.Module(), *values, None, packed=plan)[0]
    exact = packed.attention(torch.nn.Module(), *(x[:, :, :103] for x in values), None, packed=plan)[0]
    torch.testing.assert_close(mixed, torch.nn.functional.pad(exact, (0, 0, 0, 0, 0, 9)))
    for gradient in torch.autograd.grad(mixed.sum() + mixed[:, 103:].exp().sum(), values):
        assert gradient[:, :, :103].any() and not gradient[:, :, 103:].any()


def test_a_layer_that_is_not_there_is_named(tmp_path: Path) -> None:
    encoder = hf.load_encoder(make_model(tmp_path / "m"))
    made = classify.encode(make_tokenizer(), toy_rows("classify"), toy_task("classify"), 24, 0)
    with pytest.raises(ModelError, match="layer 5: this encoder has hidden states 0 to 2"):
        hf.hidden_states(encoder, batch_of(made, np.arange(2), "cpu"), layer=5)


def test_losses_are_those_of_transformers(tmp_path: Path) -> None:
    """Same weights, same rows: our summed loss over its count is the mean loss of transformers' own heads."""
    folder = make_model(tmp_path / "m")
    encoder, tokenizer = hf.load_encoder(folder).eval(), make_tokenizer()
    task, rows = toy_task("classify"), toy_rows("classify")
    theirs = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    ours = classify.head(encoder, task, 0.0).eval()
    ours.load_state_dict({"dense.weight": theirs.classifier.dense.weight, "dense.bias": theirs.classifier.dense.bias,
                          "out.weight": theirs.classifier.out_proj.weight, "out.bias": theirs.classifier.out_proj.bias})  # fmt: skip
    made = classify.encode(tokenizer, rows, task, 24, 0)
    batch = batch_of(made, np.arange(len(rows)), "cpu")
    padded = tokenizer([e.text for e in rows], [e.pair for e in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        total, count = classify.loss(classify.logits(encoder, ours, batch, "first"), batch)
        expected = theirs(**padded, labels=batch.rows["label"]).loss
    assert count == len(rows)
    torch.testing.assert_close(total / count, expected, atol=1e-5, rtol=1e-5)

    task, passages = toy_task("span"), toy_rows("span")
    asked = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    ours = span.head(encoder, task, 0.0).eval()
    ours.load_state_dict({"out.weight": asked.qa_outputs.weight, "out.bias": asked.qa_outputs.bias})
    made = span.encode(tokenizer, passages, task, 24, 4)
    batch = batch_of(made, np.arange(len(made.example)), "cpu")
    with torch.no_grad():
        logits = span.logits(encoder, ours, batch, "first")
        padded = tokenizer([p.question for p in passages], [p.context for p in passages], padding=True, return_tensors="pt")
        theirs_out = asked(**padded)
    best = [span.best_span(row.numpy()) for row in logits.split(batch.lengths.tolist())]
    for row, (score, a, b) in enumerate(best):
        assert score == pytest.approx(float(theirs_out.start_logits[row, a] + theirs_out.end_logits[row, b]), abs=1e-4)


def test_dropout_of_a_row_depends_on_seed_step_and_row_alone() -> None:
    draws = dropout.Draws(0.25, seed=3)
    rows, lengths = np.array([5, 9, 2]), np.array([4, 7, 3])
    draws.at(10, rows, lengths)
    whole = draws.mask(1, torch.ones(14, 8))
    draws.at(10, np.array([9]), np.array([7]))
    torch.testing.assert_close(draws.mask(1, torch.ones(7, 8)), whole[4:11])
    draws.at(10, np.array([9]), np.array([5]))
    torch.testing.assert_close(draws.mask(1, torch.ones(5, 8)), whole[4:9])
    draws.at(11, np.array([9]), np.array([7]))
    assert not torch.equal(draws.mask(1, torch.ones(7, 8)), whole[4:11])
    draws.at(10, np.array([9]), np.array([7]))
    assert not torch.equal(draws.mask(2, torch.ones(7, 8)), whole[4:11])
    draws.at(0, np.arange(2000), np.full(2000, 2))
    kept = (draws.mask(0, torch.ones(4000, 32)) > 0).float().mean()
    assert abs(float(kept) - 0.75) < 0.005
    assert float(draws.mask(0, torch.ones(4000, 32)).max()) == pytest.approx(1 / 0.75)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_move_only_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    start, task = make_model(tmp_path / "m"), toy_task(kind)
    recipe = replace(RECIPE, steps=3)
    _, one = fit(task, start, tmp_path / "one", recipe, select=False)
    monkeypatch.setattr(training, "MICRO", 16)
    _, many = fit(task, start, tmp_path / "many", recipe, select=False)
    losses = [json.loads((folder / "log.json").read_text())["losses"] for folder in (one, many)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    ours, theirs = (load_file(folder / "encoder" / "model.safetensors") for folder in (one, many))
    for name, value in ours.items():
        # Adam turns a rounding of a gradient near zero into a step of the rate's size: compare the bulk
        assert float((value - theirs[name]).abs().mean()) < 1e-5, name


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["classify", "span"])
def test_a_trimmed_table_trains_to_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, decay: float) -> None:
    start, task = make_model(tmp_path / "m"), toy_task(kind, toy_rows(kind, 6))
    recipe = replace(RECIPE, steps=12, weight_decay=decay, selections=1)
    trims = []
    trim = vocabulary.trim
    monkeypatch.setattr(vocabulary, "trim", lambda *given: trims.append(trim(*given)) or trims[-1])
    stage, small = fit(task, start, tmp_path / "small", recipe)
    monkeypatch.setattr(vocabulary, "refusal", lambda *_, **__: "no: to compare with")
    _, full = fit(task, start, tmp_path / "full", recipe)
    name = "embeddings.word_embeddings.weight"
    before, ours, theirs = (load_file(f / "model.safetensors") for f in (start, small / "encoder", full / "encoder"))
    assert all(value.shape == theirs[key].shape for key, value in ours.items())
    untouched = np.setdiff1d(np.arange(len(before[name])), trims[0].kept)
    assert 20 < len(untouched) < 60
    if decay:
        torch.testing.assert_close(ours[name][untouched], theirs[name][untouched], rtol=1e-6, atol=0)
        assert not torch.equal(ours[name][untouched], before[name][untouched])
    else:  # a row that no batch looks up stays what it was, to the bit, either way
        assert torch.equal(ours[name][untouched], before[name][untouched])
        assert torch.equal(theirs[name][untouched], before[name][untouched])
    for key, value in ours.items():  # the norm of the clip is summed in another order: rounding
        assert float((value - theirs[key]).abs().mean()) < 1e-5, key
    one, two = (answers(stage, folder, task, tmp_path / folder.parent.name / "p") for folder in (small, full))
    assert one["pred"] == two["pred"]
    np.testing.assert_allclose(np.concatenate(one["scores"]), np.concatenate(two["scores"]), rtol=0, atol=1e-5)
    said = [json.loads((folder / "log.json").read_text())["trimmed"] for folder in (small, full)]
    assert said == [f"{len(trims[0].kept)} of {len(before[name])} embedding rows", "no: to compare with"]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_trimmed_training_is_the_same_to_the_bit_where_no_gradient_is_clipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decay: float
) -> None:
    start, task = make_model(tmp_path / "m"), toy_task("classify", toy_rows("classify", 6))
    recipe = replace(RECIPE, steps=6, weight_decay=decay, clip=1e9)
    _, small = fit(task, start, tmp_path / "small", recipe, select=False)
    monkeypatch.setattr(vocabulary, "refusal", lambda *_, **__: "no: to compare with")
    _, full = fit(task, start, tmp_path / "full", recipe, select=False)
    ours, theirs = (load_file(folder / "encoder/model.safetensors") for folder in (small, full))
    table = "embeddings.word_embeddings.weight"
    assert {key for key, value in ours.items() if not torch.equal(value, theirs[key])} <= ({table} if decay else set())
    torch.testing.assert_close(ours[table], theirs[table], rtol=1e-6, atol=0)


def test_nothing_is_trimmed_where_all_rows_take_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "trim", lambda *_: pytest.fail("masked language modelling scores every row"))
    _, out = fit(toy_task("mask"), make_model(tmp_path / "m"), tmp_path / "d", replace(RECIPE, steps=1))
    assert json.loads((out / "log.json").read_text())["trimmed"].startswith("no: masked language modelling trains a softmax")


def test_a_saved_state_of_another_form_is_not_resumed(tmp_path: Path) -> None:
    task, start = toy_task("classify"), make_model(tmp_path / "m")
    calls = iter(range(100))
    with pytest.raises(Stopped):
        fit(task, start, tmp_path / "d", stop=lambda: next(calls) >= 9)
    saved = tmp_path / "d/state/state.json"
    saved.write_text(json.dumps({**json.loads(saved.read_text()), "form": 1}))
    fit(task, start, tmp_path / "d")
    fit(task, start, tmp_path / "whole")
    assert (tmp_path / "d/out/encoder/model.safetensors").read_bytes() == (tmp_path / "whole/out/encoder/model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["classify", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_every_kind_learns_and_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path, kind: Kind) -> None:
    start, task = make_model(tmp_path / "m"), toy_task(kind)
    recipe = replace(RECIPE, selections=3)
    _, whole = fit(task, start, tmp_path / "whole", recipe)
    log = json.loads((whole / "log.json").read_text())
    assert log["losses"][-1][1] < 0.7 * log["losses"][0][1]

    calls = iter(range(10_000))
    for halt in (7, 31):  # two stops, at different places
        with pytest.raises(Stopped):
            fit(task, start, tmp_path / "halted", recipe, stop=lambda halt=halt: next(calls) >= halt)
    _, resumed = fit(task, start, tmp_path / "halted", recipe)
    for name in ("encoder/model.safetensors", f"heads/{task.name}.safetensors"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    again = json.loads((resumed / "log.json").read_text())
    for name in ("steps", "examples", "tokens", "selections"):
        assert again[name] == log[name]


@pytest.mark.parametrize("kind", ["classify", "choose", "tag", "span"])
def test_a_trained_model_answers_its_rows(tmp_path: Path, kind: Kind) -> None:
    start, task = make_model(tmp_path / "m"), toy_task(kind)
    stage, folder = fit(task, start, tmp_path / "d", replace(RECIPE, steps=150, dropout=0.0))
    table = answers(stage, folder, task, tmp_path / "p")
    assert table["id"] == [e.id for e in given(task)]
    right = [gold == pred for gold, pred in zip(table["gold"], table["pred"], strict=True)]
    assert sum(right) >= 0.9 * len(right)


def test_retrieval_finds_equal_sentences_without_training(tmp_path: Path) -> None:
    task = toy_task("retrieve")
    table = answers(Pretrained("toy"), make_model(tmp_path / "m"), task, tmp_path / "p")
    assert len(table["id"]) == 24
    assert [p[0] for p in table["pred"]] == [g[0] for g in table["gold"]]
    assert all(len(p) == 20 for p in table["pred"])


def test_candidates_of_all_languages_go_through_the_encoder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(tmp_path / "m")
    both = toy_rows("retrieve")
    queries, pool = both[::2], both[1::2]
    asked = {"en": queries[:7], "de": queries[7:]}  # each language has its queries, and the one pool
    sizes: list[int] = []
    through = predicting.vectors
    monkeypatch.setattr(predicting, "vectors", lambda *given: sizes.append(len(given[-1])) or through(*given))

    def answered(language: str) -> bytes:
        rows = [*asked[language], *pool]
        task = replace(toy_task("retrieve", rows), metrics=("map@20", "accuracy"), retrieval="map20")
        stage = Predict(Pretrained("toy"), replace(rows_of(task, "test"), language=language, data=language), 24, 4, Runtime(), "last")
        out = tmp_path / f"{language}{len(sizes)}"
        predict(stage, weights(stage.model, lambda _: folder), task, lambda _: rows, out, tmp_path / "cache")
        return (out / "predictions.parquet").read_bytes()

    predicting._loaded.cache_clear()
    after_en = [answered("en"), answered("de")][1]
    assert sorted(sizes) == sorted([len(pool), 7, len(queries) - 7])
    predicting._loaded.cache_clear()
    assert answered("de") == after_en  # the same, whichever language came first
    assert sizes[3:] == [len(pool), len(queries) - 7]


def test_nearest_is_exact_and_ordered() -> None:
    draw = np.random.default_rng(0)
    queries, candidates = draw.normal(size=(50, 8)).astype(np.float32), draw.normal(size=(40, 8)).astype(np.float32)
    found, scores = nearest(queries, candidates, 5)
    expected = np.argsort(-(queries @ candidates.T), axis=1)[:, :5]
    assert (found == expected).all()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_long_sentences_are_split_and_every_word_keeps_a_tag(tmp_path: Path) -> None:
    words = tuple(f"w{i % 60}" for i in range(100))
    sentence = Words("long", words, ("O",) * 100)
    task = toy_task("tag", [sentence, Words("short", ("red",), ("RED",))])
    made = tag.encode(make_tokenizer(), given(task), task, 24, 0)
    assert made.lengths.max() <= 24
    seen = made.tokens["word"][np.repeat(made.example, made.lengths) == 0]
    assert sorted(seen[seen >= 0].tolist()) == list(range(100))
    stage, folder = fit(task, make_model(tmp_path / "m"), tmp_path / "d", replace(RECIPE, steps=2))
    table = answers(stage, folder, task, tmp_path / "p")
    assert [len(p) for p in table["pred"]] == [100, 1]
    assert all(p in task.labels for row in table["pred"] for p in row)


def test_windows_cover_a_long_context_and_the_answer_comes_back_as_it_stands() -> None:
    context = " ".join(f"w{i % 60}" for i in range(80)) + " red w1 ."
    passage = Passage("p", "who is the ?", context, (Answer("red w1", context.index("red w1")),))
    task = toy_task("span", [passage])
    made = span.encode(make_tokenizer(), [passage], task, 24, 6)
    assert len(made.example) > 4
    hits = np.flatnonzero(made.rows["first"] > 0)
    assert len(hits) >= 1
    for row in hits:
        at = made.bounds[row]
        a, b = at + made.rows["first"][row], at + made.rows["last"][row]
        assert context[made.tokens["start"][a] : made.tokens["end"][b]] == "red w1"
    perfect = []
    for row in range(len(made.example)):
        logits = torch.full((int(made.lengths[row]), 2), -5.0)
        logits[made.rows["first"][row], 0] = logits[made.rows["last"][row], 1] = 9.0
        perfect.append(logits)
    assert span.answers(perfect, made, [passage], task)[0].pred == ("red w1",)
    assert span.answers(perfect, made, [passage], replace(task, no_answer=True))[0].pred == ("red w1",)
    nothing = []
    for a, b in zip(made.bounds[:-1], made.bounds[1:], strict=True):  # `logits` shuts the question's tokens out
        inside = torch.from_numpy(np.asarray(made.tokens["start"][a:b])) >= 0
        nothing.append(torch.where(inside, 0.0, -1e9).unsqueeze(-1).repeat(1, 2))
        nothing[-1][0] = 9.0
    assert span.answers(nothing, made, [passage], replace(task, no_answer=True))[0].pred == ("",)
    assert span.answers(nothing, made, [passage], task)[0].pred != ("",)


def test_releases_of_tokenizers_that_lose_windows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "__version__", "0.23.2")
    with pytest.raises(ModelError, match=r"tokenizers 0\.23\.2 loses the end of long contexts; pip install 'tokenizers>=0\.23\.3'"):
        span.encode(make_tokenizer(), toy_rows("span"), toy_task("span"), 24, 6)


def test_best_span_is_the_best_of_all_spans() -> None:
    draw = np.random.default_rng(1)
    for _ in range(20):
        logits = draw.normal(size=(45, 2)).astype(np.float32)
        every = {(a, b): logits[a, 0] + logits[b, 1] for a in range(1, 45) for b in range(a, min(45, a + span.LONGEST_ANSWER))}
        score, a, b = span.best_span(logits)
        assert (a, b) == max(every, key=lambda k: every[k])
        assert score == pytest.approx(float(every[a, b]))


def test_masking_is_drawn_by_seed_step_and_row(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    made = mask.encode(tokenizer, toy_rows("mask", 40), toy_task("mask"), 24, 0)
    whole = mask.masked(batch_of(made, np.arange(40), "cpu"), tokenizer, 0.3, seed=1, step=4)
    part = mask.masked(batch_of(made, np.arange(7, 9), "cpu"), tokenizer, 0.3, seed=1, step=4)
    a, b = int(made.bounds[7]), int(made.bounds[9])
    assert torch.equal(whole.ids_N[a:b], part.ids_N)
    assert torch.equal(whole.tokens["target"][a:b], part.tokens["target"])
    hidden = whole.tokens["target"] != -100
    plain = torch.from_numpy(np.asarray(made.ids, np.int64))
    assert torch.equal(whole.tokens["target"][hidden], plain[hidden])
    assert not set(plain[hidden].tolist()) & {0, 1, 2}
    ids = np.arange(20_000) % 50 + 10
    fate = mask.hide(ids, 4, 72, np.random.default_rng(0))
    assert abs((fate == 4).mean() - 0.8) < 0.02
    assert abs(((fate != 4) & (fate == ids)).mean() - 0.1) < 0.02


def test_schedules_see_every_example_once_a_pass_and_mix_in_proportion() -> None:
    made = schedule([30, 10], [1.0, 1.0], epochs=2, steps=None, batch=4, seed=5)
    seen: dict[int, list[int]] = {0: [], 1: []}
    for number in range(len(made)):
        seen[made[number].share] += made[number].examples.tolist()
    assert sorted(seen[0]) == sorted(list(range(30)) * 2)
    assert sorted(seen[1]) == sorted(list(range(10)) * 2)
    assert sorted(seen[0][:30]) == list(range(30))
    again = schedule([30, 10], [1.0, 1.0], epochs=2, steps=None, batch=4, seed=5)
    assert all((made[n].examples == again[n].examples).all() for n in range(len(made)))
    other = schedule([30, 10], [1.0, 1.0], epochs=2, steps=None, batch=4, seed=6)
    assert any(made[n].examples.tolist() != other[n].examples.tolist() for n in range(len(made)))
    capped = schedule([100, 100], [3.0, 1.0], epochs=1, steps=40, batch=4, seed=5)
    assert len(capped) == 40
    assert np.bincount(capped.order).tolist() == [30, 10]


def test_micro_batches_keep_the_rows_of_an_example_together() -> None:
    made = columns([[1] * n for n in (3, 5, 2, 9, 4)], [0, 0, 1, 2, 2])
    parts = list(by_length(made, np.array([0, 1, 2]), budget=10))
    assert sorted(int(r) for p in parts for r in p) == [0, 1, 2, 3, 4]
    for pair in ([0, 1], [3, 4]):
        assert any(set(pair) <= set(p.tolist()) for p in parts)


def test_columns_come_back_from_disk(tmp_path: Path) -> None:
    made = columns([[1, 2, 3], [4, 5]], [0, 1], {"word": [[0, 1, -100], [0, -100]]}, {"label": [1, -100]})
    save_columns(made, tmp_path / "c")
    save_columns(made, tmp_path / "c")  # a second process is not an error
    back = load_columns(tmp_path / "c")
    assert back is not None
    assert back.ids.tolist() == [1, 2, 3, 4, 5]
    assert back.tokens["word"].tolist() == [0, 1, -100, 0, -100]
    assert back.rows["label"].tolist() == [1, -100]
    assert load_columns(tmp_path / "none") is None
    assert not list(tmp_path.glob("c.*"))


def test_a_mix_trains_a_head_a_task(tmp_path: Path) -> None:
    start = make_model(tmp_path / "m")
    tasks = {t.name: t for t in (toy_task("classify"), toy_task("tag"), toy_task("mask"))}
    shares = tuple(Share(rows_of(t), w) for t, w in zip(tasks.values(), (1.0, 2.0, 0.5), strict=True))
    stage = Train(Pretrained("toy"), shares, (), replace(RECIPE, steps=12), 1, Runtime())

    def load(rows: Rows) -> list[Example]:
        return given(tasks[rows.task])

    model = weights(stage.start, lambda _: start)
    train(stage, model, tasks.__getitem__, load, tmp_path / "d", tmp_path / "cache", lambda _: None, lambda: False)
    assert {p.name for p in (tmp_path / "d/out/heads").glob("*.safetensors")} == {f"{name}.safetensors" for name in tasks}
    plain = AutoModel.from_pretrained(tmp_path / "d/out/encoder")
    assert plain.config.hidden_size == 32


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_a_second_training_of_a_task_goes_on_with_its_head(tmp_path: Path, kind: Kind) -> None:
    task = toy_task(kind)
    first, folder = fit(task, make_model(tmp_path / "m"), tmp_path / "first")
    stage = replace(first, start=first, recipe=replace(RECIPE, steps=1, lr=1e-12), heads="kept")
    heads = {}
    for kept in ("kept", "fresh"):
        again = replace(stage, heads=kept)
        train(again, weights(first, lambda _: folder), lambda _: task, lambda _: given(task), tmp_path / kept, tmp_path / "cache",
              lambda _: None, lambda: False)  # fmt: skip
        heads[kept] = load_file(tmp_path / kept / "out/heads" / f"{task.name}.safetensors")
    before = load_file(folder / "heads" / f"{task.name}.safetensors")
    for name, value in before.items():
        torch.testing.assert_close(heads["kept"][name], value, atol=1e-9, rtol=0)
    assert (heads["fresh"]["out.weight"] - before["out.weight"]).abs().max() > 1e-3


def test_a_loss_that_is_not_finite_names_step_and_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(training, "SAVE_SHARE", 1e9)  # a state after every step
    with pytest.raises(TrainingError, match=r"toy-classify: the loss is (nan|inf) at step \d+ \(examples e\d+") as told:
        fit(toy_task("classify"), make_model(tmp_path / "m"), tmp_path / "d", replace(RECIPE, lr=1e30, clip=1e30, warmup=0.0), select=False)
    assert not (tmp_path / "d/out").exists()
    kept = json.loads((tmp_path / "d/state/state.json").read_text())  # the last whose step had a finite loss
    assert f"at step {kept['step']} " in str(told.value) and np.isfinite(kept["recent"]).all()


@pytest.mark.parametrize("kind", ["classify", "choose", "tag", "span"])
def test_unlabelled_rows_are_refused_in_training_and_prediction(tmp_path: Path, kind: Kind) -> None:
    label = {"classify": "label", "choose": "label", "tag": "tags", "span": "answers"}[kind]
    rows = toy_rows(kind)
    start = make_model(tmp_path / "m")
    stage, folder = fit(toy_task(kind), start, tmp_path / "ok", replace(RECIPE, steps=1))
    bare = toy_task(kind, [*rows[:3], replace(rows[3], **{label: None}), *rows[4:]])
    with pytest.raises(DataError, match="row e3 is unlabelled"):
        fit(bare, start, tmp_path / "bad" / "d", replace(RECIPE, steps=1), select=False)
    with pytest.raises(DataError, match="row e3 is unlabelled"):
        answers(stage, folder, bare, tmp_path / "bad" / "p")


def test_labels_outside_the_set_are_refused() -> None:
    rows = toy_rows("classify")
    with pytest.raises(DataError, match=r'row e1 has the label "green" \(known: red, blue\)'):
        classify.encode(make_tokenizer(), [rows[0], replace(rows[1], label="green")], toy_task("classify"), 24, 0)


def test_the_best_state_by_the_dev_part_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([50.0, 80.0, 60.0])
    monkeypatch.setattr(training, "_select", lambda *_: next(scores))
    task, start = toy_task("classify"), make_model(tmp_path / "m")
    _, picked = fit(task, start, tmp_path / "picked", replace(RECIPE, steps=30, selections=3))
    log = json.loads((picked / "log.json").read_text())
    assert (log["best_step"], log["dev"]) == (20, 80.0)
    # 30 steps of 8 are ten epochs of the 24 rows, which are also the dev part
    squares = int((classify.encode(make_tokenizer(), toy_rows("classify"), task, 24, 4).lengths ** 2).sum())
    assert (log["squares"], log["selected_squares"], log["selected"]) == (10 * squares, 3 * squares, log["tokens"] * 3 // 10)
    scores = iter([50.0, 80.0, 90.0])
    _, last = fit(task, start, tmp_path / "last", replace(RECIPE, steps=30, selections=3))
    assert json.loads((last / "log.json").read_text())["best_step"] == 30
    assert (picked / "encoder/model.safetensors").read_bytes() != (last / "encoder/model.safetensors").read_bytes()


def test_a_step_divides_by_its_own_count_and_clips_once() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    weight.grad = torch.tensor([6.0, 0.0, 8.0])
    training._step(optimizer, [weight], targets=2, clip=100.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([-3.0, 0.0, -4.0]))
    weight.grad = torch.tensor([6.0, 0.0, 8.0])
    training._step(optimizer, [weight], targets=2, clip=1.0)  # the norm of the mean is 5
    torch.testing.assert_close(weight.detach(), torch.tensor([-3.6, 0.0, -4.8]), atol=1e-5, rtol=1e-5)


def test_model_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="model.safetensors is cut short or damaged; fetch it again"):
        hf.load_encoder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        hf.load_encoder(folder)


def test_every_cache_entry_belongs_to_one_tokenizer(tmp_path: Path) -> None:
    """Two tokenizers over the same rows never share columns."""
    from xstilts.engine.kinds import encoded

    task, rows = toy_task("classify"), toy_rows("classify")
    one, two = make_model(tmp_path / "one"), make_model(tmp_path / "two", "bert")
    for folder in (one, two):
        encoded(folder, hf.load_tokenizer(folder), task, rows_of(task), lambda: rows, 24, 0, tmp_path / "cache")
    assert len(list((tmp_path / "cache/tokens").iterdir())) == 2
    known = encoded(one, hf.load_tokenizer(one), task, rows_of(task), lambda: pytest.fail("read twice"), 24, 0, tmp_path / "cache")
    assert known.count == len(rows)
    assert batches.load_columns(tmp_path / "cache" / "nothing") is None
