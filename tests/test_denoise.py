"""Span corruption and next tokens: rows by hand, losses against transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from xstilts.engine import denoise, hf
from xstilts.engine.batch import Batch
from xstilts.engine.pieces import special_ids
from xstilts.engine.tokenizer import FAMILIES, SENTINELS, train_tokenizer
from xstilts.engine.warm import warm
from xstilts.pretraining import Family, Model, Objective, Tokenizer
from xstilts.stages import Runtime

TEXT = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]


def tokenizer_of(family: Family, folder: Path) -> PreTrainedTokenizerFast:
    """Words as pieces, written and read again as transformers does."""
    lines = [" ".join(TEXT), " ".join(TEXT[::-1])] * 3
    spec = Tokenizer(vocab=FAMILIES[family].many + 120, model="words")
    train_tokenizer({"en": lines}, spec, family=family).save_pretrained(folder)
    loaded: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    return loaded


def ids(words: list[str], tokenizer: PreTrainedTokenizerFast) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(tokenizer(" ".join(words), add_special_tokens=False)["input_ids"], np.int64)


def test_the_papers_example(tmp_path: Path) -> None:
    """Figure 2 of Raffel et al. 2020, `</s>` added."""
    tokenizer = tokenizer_of("mt5", tmp_path)
    hidden = np.isin(np.arange(len(TEXT)), [2, 3, 8])
    sentinels = tokenizer.convert_tokens_to_ids(list(SENTINELS))
    read, written = denoise.corrupted([ids(TEXT, tokenizer)], [hidden], sentinels, tokenizer.eos_token_id)
    told = [t.removeprefix("▁") for t in tokenizer.convert_ids_to_tokens(read)]
    assert told == [*["Thank", "you", "<extra_id_0>", "me", "to", "your", "party", "<extra_id_1>", "week", ".", "</s>"]]
    assert tokenizer.convert_ids_to_tokens(written) == [
        "<extra_id_0>", "▁for", "▁inviting", "<extra_id_1>", "▁last", "<extra_id_2>", "</s>",
    ]  # fmt: skip


def test_sentinels_count_on_over_the_two_sides_of_a_pair() -> None:
    one, two = np.array([10, 11, 12]), np.array([20, 21])
    gone = [np.array([False, True, True]), np.array([True, False])]
    read, written = denoise.corrupted([one, two], gone, [90, 91, 92, 93], 1)
    assert read.tolist() == [10, 90, 1, 91, 21, 1] and written.tolist() == [90, 11, 12, 91, 20, 92, 1]


@pytest.mark.parametrize(
    ("length", "rate", "mean", "number", "spans"), [(100, 0.15, 3.0, 15, 5), (40, 0.5, 2.0, 20, 10), (6, 0.15, 3.0, 1, 1)]
)
def test_so_many_tokens_are_hidden_in_so_many_spans(length: int, rate: float, mean: float, number: int, spans: int) -> None:
    draw = np.random.default_rng(0)
    times = np.zeros(length)
    for _ in range(400):
        hidden = denoise.hidden_spans(length, rate, mean, draw)
        starts = np.diff(np.concatenate([[0], hidden.astype(int)])) == 1
        assert (len(hidden), hidden.sum(), starts.sum()) == (length, number, spans)
        times += hidden
    assert times.min() > 0  # the first token and the last one too
    assert denoise.hidden_spans(1, 0.15, 3.0, draw).tolist() == [True]
    assert denoise.hidden_spans(2, 0.9, 3.0, draw).sum() == 1


def test_a_decoder_reads_a_row_and_what_follows_it(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("llama", tmp_path)
    a, b = ids(TEXT[:3], tokenizer), ids(TEXT[3:8], tokenizer)
    ((read, target),) = denoise.causal_rows(Objective("clm", max_length=9), [[a, b]], tokenizer)
    s, e = tokenizer.bos_token_id, tokenizer.eos_token_id
    whole = [s, *a, e, *b[:3], e]  # (9 - 1) // 2 tokens a side, the end among them
    assert read.tolist() == whole[:-1] and target.tolist() == whole[1:]


@pytest.mark.parametrize(("family", "one", "two", "begins"), [
    ("mt5", "a </s>", "a </s> b </s>", []),
    ("llama", "<s> a", "<s> a </s> b", ["<s>"]),
    ("xlm-roberta", "<s> a </s>", "<s> a </s> </s> b </s>", ["<s>"]),
])  # fmt: skip
def test_each_family_has_its_tokens_and_layout(
    family: Family, one: str, two: str, begins: list[str], tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(family, tmp_path)
    name = {"a": "▁you", "b": "▁me"}
    assert tokenizer.convert_ids_to_tokens(tokenizer("you")["input_ids"]) == [name.get(t, t) for t in one.split()]
    assert tokenizer.convert_ids_to_tokens(tokenizer("you", "me")["input_ids"]) == [name.get(t, t) for t in two.split()]
    before, after = special_ids(tokenizer)
    assert tokenizer.convert_ids_to_tokens(before) == begins and (family == "llama" or tokenizer.convert_ids_to_tokens(after) == ["</s>"])
    assert family == "xlm-roberta" or tokenizer.unk_token_id not in tokenizer("X_2: $$ 0")["input_ids"]  # formats can be spelled
    assert tokenizer.pad_token == "<pad>" and tokenizer.eos_token == "</s>" and tokenizer.is_fast
    if family == "mt5":
        assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
        assert tokenizer.convert_tokens_to_ids("<extra_id_0>") == len(tokenizer) - 1
        assert tokenizer("<extra_id_7>you")["input_ids"][0] == tokenizer.convert_tokens_to_ids("<extra_id_7>")


@pytest.mark.parametrize("family", ["mt5", "llama"])
def test_the_loss_is_transformers_own_over_all_rows(family: Family, tmp_path: Path) -> None:
    """In micro-batches, of rows of unlike lengths: mean cross-entropy over what is written, and its gradient."""
    tokenizer = tokenizer_of(family, tmp_path)
    torch.manual_seed(0)
    body = denoise.new_body(Model(family=family, hidden=16, heads=2, layers=1, ffn=32, dropout=0.0), tokenizer)
    warm(body, np.random.default_rng(0).normal(size=(len(tokenizer), 16)).astype(np.float32) / 4)
    segments = [[ids(TEXT, tokenizer)], [ids(TEXT[:4], tokenizer)], [ids(TEXT[2:9], tokenizer), ids(TEXT[5:], tokenizer)]]
    one = Objective("span" if family == "mt5" else "clm", mask_rate=0.4)
    made = denoise.span_rows(one, segments, tokenizer, np.random.default_rng(1)) if family == "mt5" else denoise.causal_rows(
        one, segments, tokenizer
    )  # fmt: skip
    loss, rows, tokens = denoise.written_step(made, body, lambda lengths: [[2], [0, 1]], Runtime())
    grads = [p.grad.clone() for p in body.parameters() if p.grad is not None]
    assert rows == 3 and tokens == sum(len(read) + len(written) for read, written in made)
    body.zero_grad()
    total, number = torch.zeros(()), sum(len(written) for _, written in made)
    for read, written in made:
        if family == "mt5":
            own = body(input_ids=torch.from_numpy(read)[None], labels=torch.from_numpy(written)[None]).loss
        else:  # a causal model shifts its labels itself
            whole = torch.from_numpy(np.append(read, written[-1]))[None]
            own = body(input_ids=whole, labels=whole).loss
        total = total + own * len(written) / number
    torch.autograd.backward(total)
    assert loss == pytest.approx(float(total.detach()), abs=1e-5)
    for one_grad, other in zip(grads, (p.grad for p in body.parameters() if p.grad is not None), strict=True):
        assert torch.allclose(one_grad, other, atol=1e-5)
    assert loss < 2 * np.log(len(tokenizer))  # states are scaled before the tied softmax: no start from nowhere


@pytest.mark.parametrize("family", ["mt5", "llama"])
def test_states_of_a_row_do_not_depend_on_its_neighbours(family: Family, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(family, tmp_path)
    torch.manual_seed(0)
    encoder = denoise.reader(denoise.new_body(Model(family=family, hidden=16, heads=2, layers=2, ffn=32, dropout=0.0), tokenizer))
    hf.pack(encoder)
    rows = [ids(TEXT, tokenizer), ids(TEXT[3:5], tokenizer), ids(TEXT[::-1], tokenizer)]

    def states(chosen: list[Any]) -> torch.Tensor:
        lengths, numbers = np.array([len(row) for row in chosen]), np.arange(len(chosen))
        return hf.hidden_states(encoder, Batch(torch.from_numpy(np.concatenate(chosen)), lengths, {}, {}, numbers, numbers))

    assert torch.allclose(states(rows), torch.cat([states([row]) for row in rows]), atol=1e-5)


def test_the_reader_of_a_body() -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 20}
    t5 = MT5ForConditionalGeneration(MT5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    llama = LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=8))
    assert denoise.reader(t5) is t5.encoder and denoise.reader(llama) is llama.model and denoise.reader(llama.model) is llama.model
