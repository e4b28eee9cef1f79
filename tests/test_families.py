"""Every architecture through every task kind on small random weights: train, stop and resume, predict, save, load again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from engine_maker import make_model, rows_of, toy_rows, toy_task
from families_maker import TINY, make, tokenizer
from xstilts.engine import dropout, hf, mask, packed, pieces, span, tag, vocabulary
from xstilts.engine import predict as predicting
from xstilts.engine import train as training
from xstilts.engine.adapters import weights
from xstilts.engine.batch import Columns, batch_of
from xstilts.engine.model import load_head, vocabulary_head
from xstilts.engine.predict import predict
from xstilts.engine.train import train
from xstilts.errors import ModelError, Stopped, StudyError
from xstilts.examples import Passage, Words
from xstilts.families import FAMILIES, OTHER, OTHER_DECODER, SEEN, TUNINGS, Family, family_of, matrix, refusal
from xstilts.models import known, size
from xstilts.stages import Predict, Pretrained, Recipe, Runtime, Share, Train
from xstilts.study import parse_study
from xstilts.task import KINDS, Kind, Task

RECIPE = Recipe(lr=1e-2, steps=2, batch=8, max_length=24, stride=4, dropout=0.1)
SHAPES = ("modernbert", "mt5", "qwen2", "blip")  # one of each, for the fast suite


@pytest.fixture(autouse=True)
def small_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of dropout bits, which are drawn for every training."""
    monkeypatch.setattr(dropout, "TABLE", 1 << 12)
    predicting._loaded.cache_clear()
    yield
    predicting._loaded.cache_clear()


def family_at(folder: Path) -> Family:
    return family_of(json.loads((folder / "config.json").read_text()))


def stage_of(task: Task, pool: str, precision: str = "fp32", recipe: Recipe = RECIPE) -> Train:
    select = (rows_of(task, "dev"),) if task.metrics else ()
    return Train(Pretrained("toy", pool), (Share(rows_of(task)),), select, recipe, 1, Runtime(precision))


def fit(stage: Train, start: Path, task: Task, draft: Path, halt: bool = False) -> Path:
    model = weights(stage.start, lambda _: start)
    train(stage, model, lambda _: task, lambda _: given(task), draft, draft.parent / "cache", lambda _: None, lambda: halt)
    return draft / "out"


def given(task: Task) -> list[Any]:
    return list(task.source.read(Path(), "train", "en"))


def answers(stage: Train | Pretrained, folder: Path, task: Task, out: Path) -> dict[str, Any]:
    predicting._loaded.cache_clear()
    asked = Predict(stage, rows_of(task, "test"), 24, 4, Runtime())
    predict(asked, weights(stage, lambda _: folder), task, lambda _: given(task), out, out.parent / "cache")
    table: dict[str, Any] = parquet.read_table(out / "predictions.parquet").to_pydict()
    return table


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["pred"] == other["pred"]
    np.testing.assert_allclose(np.concatenate(one["scores"]), np.concatenate(other["scores"]), atol=1e-5)


def cell(
    start: Path, family: Family, kind: Kind, room: Path, monkeypatch: pytest.MonkeyPatch, halts: bool = True
) -> Path | None:
    """One cell of the matrix: its entry, or None where it was refused, for the reason that is written down."""
    task = toy_task(kind, toy_rows(kind, 8))
    stage = stage_of(task, family.pool)
    if reason := refusal(family, kind):
        with pytest.raises(ModelError, match=f"{task.name} cannot be trained on .*: {reason}"):
            fit(stage, start, task, room / kind)
        return None
    whole = fit(stage, start, task, room / kind)
    if halts:
        with pytest.raises(Stopped):
            fit(stage, start, task, room / f"{kind}-halted", halt=True)
        resumed = fit(stage, start, task, room / f"{kind}-halted")
        for name in ("encoder/model.safetensors", f"heads/{task.name}.safetensors"):
            assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    before, after = hf.load_encoder(start).state_dict(), hf.load_encoder(whole / "encoder").state_dict()
    assert before.keys() == after.keys() and any(not torch.equal(value, after[name]) for name, value in before.items())
    if kind == "mask":
        return whole
    table = answers(stage, whole, task, room / f"{kind}-one")
    assert len(table["pred"]) == 8
    if kind != "tag":  # tags have no scores; their states are compared below
        with monkeypatch.context() as patch:
            patch.setattr(predicting, "BATCH", 1)  # every row in a batch of its own
            same(answers(stage, whole, task, room / f"{kind}-alone"), table)
    return whole


def check_states(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a row alone, among others, packed and padded: the same at every layer."""
    encoder, reader = hf.load_encoder(folder).eval(), hf.load_tokenizer(folder)
    made = tag.encode(reader, toy_rows("tag"), toy_task("tag"), 24, 0)
    rows, layers = np.arange(len(made.example)), (0, 1, -1)
    with torch.no_grad():
        together = hf.layers_of(encoder, batch_of(made, rows, "cpu"), layers)
        for row in rows[:6]:
            at = slice(made.bounds[row], made.bounds[row + 1])
            for one, all_ in zip(hf.layers_of(encoder, batch_of(made, rows[row : row + 1], "cpu"), layers), together, strict=True):
                torch.testing.assert_close(one, all_[at], atol=1e-5, rtol=1e-5)
        if hf.packs(encoder):
            with monkeypatch.context() as patch:
                patch.setattr(hf, "packs", lambda _: False)
                padded = hf.layers_of(hf.load_encoder(folder).eval(), batch_of(made, rows, "cpu"), layers)
            torch.testing.assert_close(together, padded, atol=1e-5, rtol=1e-5)


def check_speed_ups(start: Path, family: Family, folder: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small micro-batches and the whole vocabulary train to what large ones and the rows in use do: dropout goes by row."""
    task = toy_task("classify", toy_rows("classify", 8))
    with monkeypatch.context() as patch:
        patch.setattr(training, "MICRO", 8)
        patch.setattr(vocabulary, "refusal", lambda *_, **__: "no: a test")
        plain = fit(stage_of(task, family.pool), start, task, room / "plain")
    losses = [json.loads((entry / "log.json").read_text())["losses"] for entry in (folder, plain)]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-5)
    ours, theirs = (load_file(entry / "encoder" / "model.safetensors") for entry in (folder, plain))
    # Adam turns the rounding of a gradient near zero into a step of the rate's size: the first loss alone, and the bulk of the weights
    apart = torch.cat([(value - theirs[name]).abs().flatten() for name, value in ours.items()])
    assert float(apart.median()) < 1e-5


def check_padding_side(start: Path, folder: Path, room: Path) -> None:
    """The side that the tokenizer pads does not show in an answer."""
    task = toy_task("classify", toy_rows("classify", 8))
    stage, tables = stage_of(task, family_at(start).pool), []
    for side in ("left", "right"):
        shutil.copytree(folder, room / side)
        path = room / side / "encoder" / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "padding_side": side}))
        assert hf.load_tokenizer(room / side / "encoder").padding_side == side
        tables.append(answers(stage, room / side, task, room / f"{side}-answers"))
    same(*tables)


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY)
def test_every_cell_of_the_matrix_runs_or_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    start = make(tmp_path / "m", family)
    own = family_at(start)
    check_states(start, monkeypatch)
    trained = {kind: cell(start, own, kind, tmp_path, monkeypatch) for kind in ("classify", "choose", "tag", "span", "mask")}
    first = trained["classify"]
    assert first is not None
    check_padding_side(start, first, tmp_path)
    check_speed_ups(start, own, first, tmp_path, monkeypatch)
    retrieve = toy_task("retrieve", toy_rows("retrieve", 8))
    assert len(answers(stage_of(toy_task("classify"), own.pool), first, retrieve, tmp_path / "found")["pred"]) == 8
    assert cell(first / "encoder", own, "tag", tmp_path / "again", monkeypatch, halts=False) is not None  # a second phase
    loaded = getattr(transformers, type(hf.load_encoder(first / "encoder")).__name__).from_pretrained(first / "encoder")
    for name, value in hf.load_encoder(first / "encoder").state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("family", SHAPES)
def test_one_of_each_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    start = make(tmp_path / "m", family)
    check_states(start, monkeypatch)
    trained = cell(start, family_at(start), "classify", tmp_path, monkeypatch)
    assert trained is not None
    check_padding_side(start, trained, tmp_path)


def test_the_tests_and_the_known_models_cover_the_table() -> None:
    """`known` says that every family ran on random weights: those are the ones in TINY, by the type of their checkpoint."""
    parts = {name for name in FAMILIES if name.endswith("_text_model")}  # what a tower is saved as; TINY holds the whole checkpoint
    assert set(FAMILIES) - parts <= set(TINY) and {row.family for row in known()} <= set(TINY)
    assert [name for name in TINY if name not in FAMILIES] == ["electra", "olmo2"]  # an encoder and a decoder without a row
    assert len({row.name for row in known()}) == len({row.repository for row in known()}) == len(known())


def test_what_is_refused_says_why() -> None:
    everything = list(matrix())
    families = {family.name for family in (*FAMILIES.values(), OTHER, OTHER_DECODER)}
    assert families - {name for name, kind, _, reason in everything if kind == SEEN and reason} == set()  # soft prompts nowhere
    assert {name for name, kind, _, reason in everything if kind == SEEN and not reason} == {"BLIP's text tower"}
    refused = {(name, kind) for name, kind, tuning, reason in everything if reason and tuning == "full" and kind != SEEN}
    assert {kind for _, kind in refused} == {"mask"}
    assert {"mT5", "Llama", "BLOOM", "RemBERT", "CLIP's text tower"} <= {name for name, _ in refused}
    assert not {"XLM-R", "ModernBERT", "DeBERTa-v2/v3", "BLIP's text tower", OTHER.name} & {name for name, _ in refused}
    assert len(everything) == len(families) * (len(KINDS) + 1) * len(TUNINGS)
    ways = {(name, tuning) for name, kind, tuning, reason in everything if reason and kind == "classify"}
    assert ("GPT-2", "qlora") in ways and ("BLOOM", "prompt") in ways and not {"full", "head"} & {tuning for _, tuning in ways}


def test_the_family_of_a_config() -> None:
    assert family_of({"model_type": "xlm-roberta"}).pool == "first" and family_of({"model_type": "umt5"}).pool == "mean"
    assert family_of({"model_type": "bloom"}).pool == "last"
    assert family_of({"model_type": "electra", "architectures": ["ElectraForPreTraining"]}) is OTHER
    assert family_of({"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"]}) is OTHER_DECODER
    encoder = family_of({"model_type": "gemma3_text", "use_bidirectional_attention": True})
    assert (encoder.causal, encoder.pool) == (False, "mean")


# ---- rows of tokenizers that generate ----


def texts_of(made: Columns) -> list[list[int]]:
    return [made.ids[a:b].tolist() for a, b in zip(made.bounds[:-1], made.bounds[1:], strict=True)]


def test_templates_without_separator_or_end_get_them() -> None:
    marks = {like: pieces.marks(tokenizer(like)) for like in ("types", "pairs", "ends", "begins", "bytes", "bare")}
    own = tokenizer("bytes")
    line = own("\n", add_special_tokens=False)["input_ids"]
    assert marks["types"] == marks["pairs"] == marks["ends"] == pieces.Marks((), ())
    assert marks["begins"] == pieces.Marks((), (2,))  # <s> stands between
    assert marks["bytes"] == pieces.Marks(tuple(line), (own.eos_token_id,)) and len(line) == 1
    assert marks["bare"] == pieces.Marks((3,), (3,))  # nothing but an unknown token to part texts with
    assert [pieces.special_ids(tokenizer(like)) for like in ("pairs", "ends", "begins", "bytes")] == [
        ([0], [2]), ([], [2]), ([0], [2]), ([], [own.eos_token_id])
    ]  # fmt: skip


@pytest.mark.parametrize("side", ["left", "right"])
def test_pairs_are_cut_to_fit_and_keep_separator_and_end(side: str) -> None:
    own = tokenizer("bytes")
    own.padding_side = side
    end, line = own.eos_token_id, own("\n", add_special_tokens=False)["input_ids"][0]
    rows, types = pieces.encode_pairs(own, ["red " * 30, "", "blue"], ["the blue", "red", ""], 16)
    assert not types and len(rows[0]) == 16
    assert all(row[-1] == end and row.count(line) == 1 for row in rows[:2])
    assert own.decode(rows[0][rows[0].index(line) + 1 : -1]) == "the blue"
    assert pieces.encode_pairs(own, ["", "red"], None, 8)[0][0] == [end]  # never empty


def test_words_inside_a_sentence_keep_their_space() -> None:
    own = tokenizer("bytes")
    (made,) = pieces.encode_words(own, [("the", "blue", "", "is")])
    assert [own.decode(p) for p in made] == ["the", " blue", " ", " is"]
    words = tokenizer("pairs")
    assert pieces.encode_words(words, [("the", "blue")])[0] == [[number] for number in words("the blue")["input_ids"][1:-1]]


def test_answers_come_back_as_they_stand_without_a_template() -> None:
    own, context = tokenizer("bytes"), "w1 the blue is red . " * 6
    row = Passage("p", "who is the ?", context, ())
    made = span.encode(own, [row], toy_task("span"), 40, 8)
    assert made.count == 1 and len(made.example) > 1
    for ids, start, end in zip(texts_of(made), *(np.split(made.tokens[name], made.bounds[1:-1]) for name in ("start", "end")), strict=True):
        assert len(ids) <= 40 and ids[-1] == own.eos_token_id and start[-1] == -100
        for token, a, b in zip(ids, start, end, strict=True):
            if a >= 0:
                assert own.decode([token]).strip() == context[a:b].strip()


def test_a_causal_model_answers_from_where_it_has_read_all(tmp_path: Path) -> None:
    """A word's tag comes from its last piece, "no answer" from the row's last token."""
    folder = make(tmp_path / "m", "qwen2")
    encoder, own = hf.load_encoder(folder).eval(), hf.load_tokenizer(folder)
    assert (tokenizer("bytes").truncation_side, own.truncation_side) == ("left", "right")
    task = toy_task("tag", [Words("s", ("w1w2w3", "red"), ("O", "RED"))])
    made = tag.encode(own, given(task), task, 24, 0)
    batch = batch_of(made, np.arange(1), "cpu")
    head = tag.head(encoder, task, 0.0).eval()
    with torch.no_grad():
        plain, found = head(hf.hidden_states(encoder, batch)), tag.logits(encoder, head, batch, "last")
    words = made.tokens["word"].tolist()
    second = words.index(1)
    assert second > 3 and words[-1] == -101
    torch.testing.assert_close(found[0], plain[second - 1])
    torch.testing.assert_close(found[second], plain[-2])
    asked = toy_task("span")
    made = span.encode(own, toy_rows("span", 2), asked, 40, 8)
    batch = batch_of(made, np.arange(2), "cpu")
    head = span.head(encoder, asked, 0.0).eval()
    with torch.no_grad():
        plain, found = head(hf.hidden_states(encoder, batch)), span.logits(encoder, head, batch, "last")
    torch.testing.assert_close(found[batch.starts], plain[batch.ends])
    states = torch.randn(batch.size, 4)
    torch.testing.assert_close(hf.pooled(states, batch, "last"), states[batch.ends])


# ---- packed rows with a causal mask or a window ----


@pytest.mark.parametrize(("causal", "window"), [(True, None), (True, 5), (False, 5)])
def test_masked_packed_attention_has_the_gradients_of_attention_row_by_row(causal: bool, window: int | None) -> None:
    lengths = np.array([21, 20, 9, 3])
    plan = packed.layout(lengths, "cpu", causal)
    assert any(group.mask is not None for group in plan.groups)
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 53, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(1, 2, 53, 4, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.randn(1, 53, 4, 4, generator=draw, dtype=torch.float64)

    def gradients(mixed: torch.Tensor) -> list[torch.Tensor]:
        return [mixed.detach(), *torch.autograd.grad((mixed * weight).sum(), (query, key, value))]

    ours = gradients(packed.attention(torch.nn.Module(), query, key, value, None, sliding_window=window, packed=plan)[0])
    rows = []
    for q, k, v in zip(*(x.split(lengths.tolist(), dim=2) for x in (query, key, value)), strict=True):
        place = torch.arange(q.shape[2])
        apart = place[:, None] - place[None]
        seen = (apart >= 0 if causal else torch.ones_like(apart, dtype=torch.bool)) & (apart.abs() < (window or 99))
        rows.append(torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True))
    for one, other in zip(ours, gradients(torch.cat(rows, dim=2).transpose(1, 2)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)  # one sum of the backward pass is kept in fp32
    every = (query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1))
    flat = (x[0].transpose(0, 1) * f for x, f in zip(every, (0.5, 1, 1), strict=True))
    for one, third in zip(ours, gradients(packed._fused(*flat, plan, window)[None]), strict=True):
        torch.testing.assert_close(one, third, atol=1e-6, rtol=1e-6)


# ---- what checkpoints hold ----


def test_an_encoder_is_taken_out_of_a_whole_checkpoint(tmp_path: Path) -> None:
    """The states are those of transformers' own class; only the part that reads texts counts as parameters."""
    whole = make(tmp_path / "mt5", "mt5")
    (tmp_path / "half").mkdir()
    for path in whole.iterdir():  # kept in fp16, as published ones may be; computed in fp32
        if path.suffix == ".json":
            shutil.copy(path, tmp_path / "half")
    save_file({k: v.half() for k, v in load_file(whole / "model.safetensors").items()}, tmp_path / "half" / "model.safetensors")
    encoder = hf.load_encoder(tmp_path / "half", dropout=0.1)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert size(whole)["parameters"] == hf.parameters_of(encoder) < sum(v.numel() for v in load_file(whole / "model.safetensors").values())
    assert encoder.encoder.block[0].layer[0].SelfAttention.dropout == 0.0 and encoder.encoder.dropout.p == 0.1
    tower = make(tmp_path / "alt", "altclip")
    ids = torch.tensor([[0, 5, 7, 9, 2]])
    theirs = transformers.AltCLIPModel.from_pretrained(tower).eval().text_model.roberta
    ours = transformers.AutoModel.from_pretrained(_saved(hf.load_encoder(tower), tmp_path / "ours"), add_pooling_layer=False).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).last_hidden_state, theirs(ids).last_hidden_state)
    blip = make(tmp_path / "blip", "blip")
    assert size(blip) == {"hidden": 16, "layers": 2, "parameters": hf.parameters_of(hf.load_encoder(blip))}


def _saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def test_modernberts_own_head_over_the_vocabulary_is_taken_over(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "modernbert")
    encoder, task = hf.load_encoder(folder).eval(), toy_task("mask")
    head = mask.head(encoder, task, 0.0)
    found = vocabulary_head(folder)
    assert found is not None
    head.load_state_dict(found)
    made = mask.encode(hf.load_tokenizer(folder), toy_rows("mask", 2), task, 24, 0)
    batch = mask.masked(batch_of(made, np.arange(1), "cpu"), hf.load_tokenizer(folder), 0.15, 1, 0)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = theirs(batch.ids_N[None]).logits[0][batch.tokens["target"] != -100]
        torch.testing.assert_close(mask.logits(encoder, head, batch, "first"), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["deberta-v2", "t5", "qwen3", "gpt2", "bloom"])
def test_embeddings_and_layers_can_be_frozen(tmp_path: Path, family: str) -> None:
    encoder = hf.load_encoder(make(tmp_path / "m", family))
    hf.freeze(encoder, embeddings=True, layers=2)
    left = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    assert all("norm" in name.lower() or "ln_f" in name for name in left) and len(left) <= 2, left
    with pytest.raises(ModelError, match="freeze_layers = 3: this .* encoder has 2 layers to freeze"):
        hf.freeze(encoder, embeddings=False, layers=3)


@pytest.mark.parametrize("family", ["llama", "modernbert", "mt5"])
def test_bf16_trains(tmp_path: Path, family: str) -> None:
    """Rotary positions leave fp32 queries beside bf16 values; T5 never runs in fp16, which no study can name."""
    task = toy_task("classify", toy_rows("classify", 8))
    start = make(tmp_path / "m", family)
    folder = fit(stage_of(task, family_at(start).pool, "bf16"), start, task, tmp_path / "d")
    assert np.isfinite([loss for _, loss in json.loads((folder / "log.json").read_text())["losses"]]).all()
    with pytest.raises(StudyError, match="precision: expected 'auto', 'fp32' or 'bf16', got \"fp16\""):
        parse_study({"name": "s", "models": ["m"], "intermediates": ["none"], "targets": ["xnli"], "seeds": [0], "precision": "fp16"})


# ---- bad input: one line each ----


def _config(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_checkpoints_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    def refused(folder: Path, words: str) -> None:
        with pytest.raises(ModelError, match=words) as error:
            hf.load_encoder(folder)
        assert "\n" not in str(error.value) and str(folder) in str(error.value)

    refused(_config(make_model(tmp_path / "a"), model_type="martian"), "cannot be loaded as a transformers encoder: .*martian")
    other = _config(make_model(tmp_path / "b"), model_type="bert", hidden_size=64)
    refused(other, r"has the shape \[32.*\], and by config.json it would have \[64.*\]; weights and config are not of one model")
    lacking = make(tmp_path / "c", "qwen2")
    save_file({k: v for k, v in load_file(lacking / "model.safetensors").items() if "layers.1" not in k}, lacking / "model.safetensors")
    refused(lacking, "the weights lack 12 tensors of the encoder, layers.1.input_layernorm.weight among them")
    captions = tmp_path / "d"
    shutil.copytree(make(tmp_path / "whole", "blip"), captions)
    save_file({"text_decoder.bert.x": torch.zeros(1)}, captions / "model.safetensors")
    refused(captions, 'no tensors of BLIP\'s text tower \\("text_model." or "text_encoder."...\\)')
    shape = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "ffn_dim", "attention_heads")}
    bart = transformers.BartModel(transformers.BartConfig(vocab_size=72, d_model=16, **shape))
    refused(_saved(bart, tmp_path / "e"), "bart is an encoder-decoder whose encoder is not known here")
    narrow = transformers.AlbertConfig(vocab_size=72, embedding_size=8, hidden_size=16, num_attention_heads=2, intermediate_size=16)
    albert = hf.load_encoder(_saved(transformers.AlbertModel(narrow), tmp_path / "f"))
    with pytest.raises(ModelError, match="albert has embeddings of width 8 and states of width 16"):
        mask.head(albert, toy_task("mask"), 0.0)


def test_a_tokenizer_of_another_model_is_named(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    other = tokenizer("bytes")
    other.add_special_tokens({"mask_token": "<mask>"})
    other.save_pretrained(folder)
    task, text = toy_task("classify"), toy_task("mask")
    for act in (
        lambda: fit(stage_of(task, "first"), folder, task, tmp_path / "d"),
        lambda: fit(stage_of(text, "first"), folder, text, tmp_path / "d"),
        lambda: answers(Pretrained("toy"), folder, toy_task("retrieve"), tmp_path / "p"),
    ):
        with pytest.raises(ModelError, match=r"gives the id \d+ and the embedding has 72 rows; they are not of one model"):
            act()


def test_the_first_token_of_a_causal_model_is_no_sentence_vector(tmp_path: Path) -> None:
    start, task = make(tmp_path / "m", "olmo2"), toy_task("classify")
    with pytest.raises(ModelError, match="olmo2 is causal: its first token has seen no other"):
        fit(stage_of(task, "first"), start, task, tmp_path / "d")
    entry = fit(stage_of(task, "last"), start, task, tmp_path / "e")
    assert hf.family(hf.load_encoder(entry / "encoder")).causal  # known by its type, where the config no longer says what it was
    assert load_head(entry, hf.load_encoder(entry / "encoder"), task)
