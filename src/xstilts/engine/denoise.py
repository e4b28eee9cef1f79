"""Models that write, made new: span corruption for an encoder-decoder (T5, mT5), next tokens for a decoder (Llama's kind).

Span corruption (Raffel et al. 2020, section 3.1.4; of multilingual text: Xue et al. 2021, mT5): spans of a row are hidden, each behind
a sentinel of its own; the decoder writes each sentinel and what it hides, then one more sentinel. Over a line and its translation it is
the translation span corruption of mT6 (Chi et al. 2021, arXiv 2104.08692). A decoder learns every next token of a row, of a line and
its translation likewise.

Shape suffixes: B rows, S tokens of the longest row that is read, T tokens of the longest row that is written,
N tokens of all rows, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, MT5Config, MT5ForConditionalGeneration, PreTrainedModel, PreTrainedTokenizerBase

from xstilts.engine import hf
from xstilts.engine.batch import Batch
from xstilts.engine.tokenizer import SENTINELS
from xstilts.engine.warm import scale_softmax
from xstilts.pretraining import Model, Objective
from xstilts.stages import Runtime

Ints = NDArray[np.int64]


def new_body(spec: Model, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A new model of the family: MT5ForConditionalGeneration or LlamaForCausalLM, input and output embeddings tied."""
    made = _new_mt5(spec, tokenizer) if spec.family == "mt5" else _new_llama(spec, tokenizer)
    made.set_attn_implementation("eager")  # on a CPU the fused kernel's gradient takes half as long again
    return made


def _new_mt5(spec: Model, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    made = MT5ForConditionalGeneration(
        MT5Config(
            vocab_size=len(tokenizer), d_model=spec.hidden, d_kv=spec.hidden // spec.heads, d_ff=spec.ffn, num_layers=spec.layers,
            num_decoder_layers=spec.layers, num_heads=spec.heads, dropout_rate=spec.dropout, pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    scale_softmax(made.decoder.final_layer_norm.weight)
    return made


def _new_llama(spec: Model, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=spec.hidden, intermediate_size=spec.ffn, num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads, max_position_embeddings=spec.max_positions, pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True,
            **({"initializer_range": spec.hidden**-0.5} if spec.embeddings == "parallel" else {}),
        )
    )  # fmt: skip


def reader(body: PreTrainedModel) -> PreTrainedModel:
    """The part of a body whose states stand for a text: the encoder of an encoder-decoder, a decoder below its softmax, or all of it."""
    match body:
        case MT5ForConditionalGeneration():
            return body.encoder
        case LlamaForCausalLM():
            return body.model
        case _:
            return body


def hidden_spans(length: int, rate: float, mean: float, draw: np.random.Generator) -> NDArray[np.bool_]:
    """[length] true where a token is hidden: `rate` of the tokens (one at least) in spans of `mean` tokens on average.

    As Raffel et al. 2020 draw them: hidden and kept tokens are each cut into parts at random places, which take turns. Unlike theirs a
    row can begin with a hidden span and end with a kept one: of a row with one span they would always hide the end.
    """
    hidden = min(max(1, round(rate * length)), max(1, length - 1))
    kept = length - hidden
    spans = min(max(1, round(hidden / mean)), kept + 1)
    own = _parts(hidden, spans, draw)
    between = _parts(kept + 2, spans + 1, draw)
    between[0] -= 1
    between[-1] -= 1
    turns = np.empty(2 * spans + 1, np.int64)
    turns[0::2], turns[1::2] = between, own
    return np.repeat(np.arange(len(turns)) % 2 == 1, turns)


def _parts(many: int, parts: int, draw: np.random.Generator) -> Ints:
    """`many` things cut into `parts`, none of them empty, every cut as likely as any other."""
    cuts = np.sort(draw.choice(many - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [many]]))


def corrupted(segments: Sequence[Ints], hidden: Sequence[NDArray[np.bool_]], sentinels: Sequence[int], end: int) -> tuple[Ints, Ints]:
    """(what is read, what is written): sentinels in place of the hidden spans, `end` after each segment; then sentinels, each with its
    span, one more and `end`."""
    read: list[int] = []
    written: list[int] = []
    number = 0
    for segment, gone in zip(segments, hidden, strict=True):
        before = False
        for token, now in zip(segment.tolist(), gone.tolist(), strict=True):
            if now and not before:
                read.append(sentinels[number])
                written.append(sentinels[number])
                number += 1
            (written if now else read).append(token)
            before = now
        read.append(end)
    return np.array(read, np.int64), np.array([*written, sentinels[number], end], np.int64)


def span_rows(
    one: Objective, rows: Sequence[Sequence[Ints]], tokenizer: PreTrainedTokenizerBase, draw: np.random.Generator
) -> list[tuple[Ints, Ints]]:
    """Each row (one segment, or two of a pair) as what is read and what is written."""
    sentinels = [len(tokenizer) - 1 - i for i in range(len(SENTINELS))]  # the first is the last piece
    made = []
    for segments in rows:
        room = one.max_length // len(segments) - 1
        cut = [segment[:room] for segment in segments]
        gone = [hidden_spans(len(segment), one.mask_rate, one.mean_span, draw) for segment in cut]
        made.append(corrupted(cut, gone, sentinels, int(tokenizer.eos_token_id)))
    return made


def causal_rows(one: Objective, rows: Sequence[Sequence[Ints]], tokenizer: PreTrainedTokenizerBase) -> list[tuple[Ints, Ints]]:
    """Each row `<s> a </s> b </s>` as what is read and the token that follows each of it."""
    made = []
    for segments in rows:
        room = (one.max_length - 1) // len(segments) - 1
        parts = [np.append(segment[:room], tokenizer.eos_token_id) for segment in segments]
        ids = np.concatenate([[tokenizer.bos_token_id], *parts]).astype(np.int64)
        made.append((ids[:-1], ids[1:]))
    return made


def written_step(
    rows: Sequence[tuple[Ints, Ints]], body: PreTrainedModel, cut: Callable[[Sequence[int]], list[list[int]]], runtime: Runtime
) -> tuple[float, int, int]:
    """Gradient of one batch: mean cross-entropy over the tokens that are written; (loss, rows, tokens read and written).

    `cut` makes micro-batches of rows out of their lengths.
    """
    number = sum(len(target) for _, target in rows)
    total = 0.0
    for chunk in cut([len(read) + len(target) for read, target in rows]):
        own = [rows[i] for i in chunk]
        with hf.autocast(runtime.device, runtime.precision):
            logits_NV = (_decoded if body.config.is_encoder_decoder else _followed)(own, body, runtime.device)
        wanted_N = torch.from_numpy(np.concatenate([target for _, target in own])).to(runtime.device)
        loss = nn.functional.cross_entropy(logits_NV.float(), wanted_N, reduction="sum") / number
        loss.backward()
        total += float(loss.detach())
    return total, len(rows), sum(len(read) + len(target) for read, target in rows)


def _decoded(rows: Sequence[tuple[Ints, Ints]], body: Any, device: str) -> Tensor:
    """[N, V] for every token that an encoder-decoder writes; its decoder reads the start token, then what it has written."""
    written = [np.concatenate([[body.config.decoder_start_token_id], target[:-1]]).astype(np.int64) for _, target in rows]
    read_BS, there_BS = _padded([read for read, _ in rows], body.config.pad_token_id, device)
    written_BT, used_BT = _padded(written, body.config.pad_token_id, device)
    output = body(input_ids=read_BS, attention_mask=there_BS.long(), decoder_input_ids=written_BT, use_cache=False)
    logits_BTV: Tensor = output.logits
    return logits_BTV[used_BT]


def _followed(rows: Sequence[tuple[Ints, Ints]], body: Any, device: str) -> Tensor:
    """[N, V] for every token that a decoder reads: which one follows."""
    numbers = np.arange(len(rows))
    ids_N = torch.from_numpy(np.concatenate([read for read, _ in rows])).to(device)
    batch = Batch(ids_N, np.asarray([len(read) for read, _ in rows], np.int64), {}, {}, numbers, numbers)
    logits_NV: Tensor = body.get_output_embeddings()(hf.hidden_states(reader(body), batch))
    return logits_NV


def _padded(rows: Sequence[Ints], filler: int, device: str) -> tuple[Tensor, Tensor]:
    """[B, T] the rows, `filler` after their ends; and where they are."""
    out_BT = np.full((len(rows), max(map(len, rows))), filler, np.int64)
    there_BT = np.zeros(out_BT.shape, np.bool_)
    for row, into_T, there_T in zip(rows, out_BT, there_BT, strict=True):
        into_T[: len(row)], there_T[: len(row)] = row, True
    return torch.from_numpy(out_BT).to(device), torch.from_numpy(there_BT).to(device)
