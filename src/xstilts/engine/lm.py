"""Models that write: encoder-decoders and decoders of transformers, as what they give the tokens of a target, and what they write.

A row is input tokens, then target tokens. An encoder-decoder reads the first and is asked for the second; a decoder reads both and is
asked from the last input token on. Rows are padded on the right where targets are scored, so that positions are the default ones of
every family; on the left where a decoder writes, so that every row's next token stands in one column, and handed in are the attention
mask and positions that leave the padding out. Neither changes a row's values beyond rounding.

Shape suffixes: B rows, T tokens of the longest row, K target tokens of all rows, V the vocabulary, H the hidden width.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from xstilts.engine import hf
from xstilts.errors import ModelError

# what configs call the dropout of hidden states; any other dropout cannot take our masks and is off
_HIDDEN_DROPOUT = ("dropout_rate", "dropout", "hidden_dropout", "hidden_dropout_prob", "resid_pdrop", "embd_pdrop", "embed_dropout")


class Rule(Protocol):
    """What may be written next."""

    def allowed(self, row: int) -> Sequence[int]:
        """The tokens that row number `row` may go on with."""
        ...

    def take(self, row: int, token: int) -> None:
        """Say what it went on with."""
        ...


def load(folder: Path, dropout: float = 0.0, device: str = "cpu") -> PreTrainedModel:
    """The whole model of a folder in fp32, its hidden dropout at the given rate where that is a module. Raises ModelError."""
    try:
        config = AutoConfig.from_pretrained(folder)
        for name, value in list(vars(config).items()):
            if isinstance(value, float) and ("drop" in name) and "classifier" not in name:
                setattr(config, name, dropout if name in _HIDDEN_DROPOUT else 0.0)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model, info = kind.from_pretrained(folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f'{folder}: cannot be loaded as a model that writes (form = "text"): {error}') from None
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(f'{folder}: the weights lack {len(missing)} tensors that form = "text" needs, {missing[0]} among them')
    if model.config.is_encoder_decoder and model.config.decoder_start_token_id is None:
        raise ModelError(f"{folder}: the config names no decoder_start_token_id")
    for module in model.modules():  # dropout within functions draws from a running generator: off
        for name, value in list(vars(module).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    loaded: PreTrainedModel = nn.Module.to(model, device)
    return loaded


def is_decoder(model: PreTrainedModel) -> bool:
    """True for a model that reads input and target as one text."""
    return not model.config.is_encoder_decoder


def longest_input(model: PreTrainedModel, asked: int) -> int:
    """The most tokens of an input: `asked`, and of a decoder's positions half, as the target takes the others."""
    return min(asked, hf.max_positions(model) // 2 if is_decoder(model) else hf.max_positions(model))


def target_logits(model: PreTrainedModel, inputs: Sequence[Tensor], targets: Sequence[Tensor], shared: Sequence[int]) -> Tensor:
    """[K, V] logits of every target token, row by row. `shared[b]` is the first row whose input row b has: it is encoded once."""
    if is_decoder(model):
        rows = [torch.cat(pair) for pair in zip(inputs, targets, strict=True)]
        ids, mask = _padded(rows)
        places = [
            b * ids.shape[1] + torch.arange(len(i) - 1, len(i) + len(t) - 1) for b, (i, t) in enumerate(zip(inputs, targets, strict=True))
        ]
        with _only(model, torch.cat(places).to(ids.device)):
            logits: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits
    states, mask = _encoded(model, inputs, shared)
    start = targets[0].new_full((1,), model.config.decoder_start_token_id)
    before, inside = _padded([torch.cat([start, t[:-1]]) for t in targets])
    with _only(model, inside.flatten().nonzero()[:, 0]):
        logits = model(encoder_outputs=states, attention_mask=mask, decoder_input_ids=before, use_cache=False).logits
    return logits


def _encoded(model: PreTrainedModel, inputs: Sequence[Tensor], shared: Sequence[int]) -> tuple[BaseModelOutput, Tensor]:
    own = list(dict.fromkeys(shared))
    ids, mask = _padded([inputs[b] for b in own])
    states: Tensor = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    if len(own) < len(inputs):
        at = torch.tensor([own.index(b) for b in shared], device=ids.device)
        states, mask = states[at], mask[at]
    return BaseModelOutput(last_hidden_state=states), mask


@contextmanager
def _only(model: PreTrainedModel, places_K: Tensor) -> Iterator[None]:
    """Let the output layer see these places of the flat [B * T, H] only: [B, T, V] of a large vocabulary would not fit."""

    def chosen(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0].flatten(0, 1)[places_K], *given[1:])

    output = model.get_output_embeddings()
    if output is None:
        raise ModelError(f"{type(model).__name__} has no output layer over the vocabulary")
    handle = output.register_forward_pre_hook(chosen)
    try:
        yield
    finally:
        handle.remove()


def _padded(rows: Sequence[Tensor], left: bool = False) -> tuple[Tensor, Tensor]:
    """([B, T] ids, [B, T] 1 where they are real). What stands in the padding is never looked at."""
    side = "left" if left else "right"
    ids = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_side=side)
    return ids, nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)


def written(
    model: PreTrainedModel, inputs: Sequence[Tensor], most: Sequence[int], end: int, rule: Rule | None = None
) -> tuple[list[list[int]], list[float]]:
    """What the model writes after each input, the likeliest token at a time, and its log-likelihood, `end` included.

    Row b has at most `most[b]` tokens, without `end`. A `rule` that allows some tokens only is exact: no other is ever written.
    """
    device = inputs[0].device
    decoder = is_decoder(model)
    fed: dict[str, Any] = {"use_cache": True}
    if decoder:
        ids, mask = _padded(inputs, left=True)
        handed_in = "position_ids" in inspect.signature(model.forward).parameters
        positions = (mask.cumsum(1) - 1).clamp(min=0)
    else:
        fed["encoder_outputs"], mask = _encoded(model, inputs, range(len(inputs)))
        ids, handed_in = torch.full((len(inputs), 1), model.config.decoder_start_token_id, device=device), False
        positions = torch.zeros_like(ids)
    fed["attention_mask"] = mask
    outputs: list[list[int]] = [[] for _ in inputs]
    likely = [0.0] * len(inputs)
    going = set(range(len(inputs)))
    while going:
        fed["input_ids" if decoder else "decoder_input_ids"] = ids
        if handed_in:
            fed["position_ids"] = positions
        last = torch.arange(1, len(inputs) + 1, device=device) * ids.shape[1] - 1
        with _only(model, last):
            out = model(**fed)
        shares = out.logits.float().log_softmax(-1)
        if rule is not None:
            for row in going:
                tokens = list(rule.allowed(row))
                kept = shares[row, tokens]
                shares[row] = float("-inf")
                shares[row, tokens] = kept
        best = shares.max(-1)
        chosen, value = best.indices.tolist(), best.values.tolist()
        for row in sorted(going):
            likely[row] += value[row]
            if rule is not None:
                rule.take(row, chosen[row])
            if chosen[row] != end:
                outputs[row].append(chosen[row])
            if chosen[row] == end or len(outputs[row]) == most[row]:
                going.discard(row)
        fed["past_key_values"] = out.past_key_values
        ids = best.indices[:, None]
        if decoder:
            fed["attention_mask"] = torch.cat([fed["attention_mask"], mask.new_ones(len(inputs), 1)], dim=1)
            positions = positions[:, -1:] + 1
    return outputs, likely
