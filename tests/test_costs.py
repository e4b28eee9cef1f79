"""What models cost: the arithmetic against real tensors, counted products and what torch keeps, on tiny models of every family."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from xstilts import costs
from xstilts.costs import Passes, Spread, Tuning
from xstilts.engine import heads, hf
from xstilts.engine.batch import Batch
from xstilts.engine.dropout import Draws, replace_dropouts

H, LAYERS, HEADS, INNER, PIECES = 64, 2, 4, 256, 96
ROWS, LENGTH = 4, 16

_PLAIN = {"hidden_size": H, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER}
_GROUPED = {**_PLAIN, "num_key_value_heads": 2, "intermediate_size": 150}
_T5 = {"d_model": H, "d_kv": 16, "d_ff": 128, "num_layers": LAYERS, "num_heads": HEADS}
_XLMR = {**_PLAIN, "pad_token_id": 1, "max_position_embeddings": 40}
_DEBERTA = {
    **_PLAIN, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
    "share_att_key": True, "type_vocab_size": 0, "position_biased_input": False,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _PLAIN,
    "xlm-roberta": _XLMR,
    "xlm-roberta-xl": _XLMR,
    "rembert": {**_PLAIN, "input_embedding_size": 24},
    "deberta-v2": _DEBERTA,
    "distilbert": {"dim": H, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER},
    "modernbert": {**_PLAIN, "intermediate_size": 128, "pad_token_id": 0},
    "mt5": _T5,
    "t5": {**_T5, "d_ff": INNER},
    "umt5": _T5,
    "llama": _GROUPED,
    "mistral": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 32},
    "gemma": {**_GROUPED, "head_dim": 16},
    "gemma2": {**_GROUPED, "head_dim": 16},
    "gemma3_text": {**_GROUPED, "head_dim": 16},
    "bloom": {"hidden_size": H, "n_layer": LAYERS, "n_head": HEADS},
    "xglm": {"d_model": H, "num_layers": LAYERS, "attention_heads": HEADS, "ffn_dim": INNER},
    "clip_text_model": _PLAIN,
}
UNMASKED = ("gemma2", "deberta-v2")  # whose own attention makes further products, of positions


def made(family: str) -> tuple[Any, costs.Shape]:
    """A random model of the family, the encoder alone of T5, and the shape of its config."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=PIECES, **CONFIGS[family])
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    kind: Any = transformers.MODEL_MAPPING[type(config)]
    extra = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
    model = AutoModel.from_config(config, **extra)
    hf.pack(model)
    return model, costs.shape(config.to_dict(), whole=True)


def run(model: Any, draws: Draws | None = None) -> Tensor:
    """The states of ROWS rows of LENGTH tokens, as the engine asks for them."""
    ids = torch.randint(3, PIECES, (ROWS * LENGTH,))
    rows, lengths = np.arange(ROWS), np.full(ROWS, LENGTH)
    if draws is not None:
        draws.at(0, rows, lengths)
    if model.config.is_encoder_decoder:
        own = {} if model.training else {"attention_mask": torch.ones(ROWS, LENGTH, dtype=torch.long)}
        states: Tensor = model.get_encoder()(input_ids=ids.view(ROWS, LENGTH), **own).last_hidden_state
        return states
    return hf.hidden_states(model, Batch(ids, lengths, {}, {}, rows, rows))


def numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("family", CONFIGS)
def test_parameters_are_those_of_the_tensors(family: str) -> None:
    model, shape = made(family)
    assert shape.parameters - shape.output == numbers(model)
    assert shape.words == model.get_input_embeddings().weight.numel()
    for stack, module in zip(shape.stacks, _stacks(model), strict=True):
        layers = module[1:]  # the first layer holds what all share
        assert stack.parameters == numbers(layers[0]) if layers else True


def _stacks(model: Any) -> list[Any]:
    if model.config.is_encoder_decoder:
        return [model.encoder.block, model.decoder.block]
    inner = getattr(model, "encoder", None) or getattr(model, "transformer", None) or model
    return [next(getattr(inner, name) for name in ("layer", "layers", "h") if hasattr(inner, name))]


if __name__ == "__main__":
    for f in CONFIGS:
        try:
            test_parameters_are_those_of_the_tensors(f)
        except Exception as e:
            m, s = made(f)
            print(f, type(e), e, s, numbers(m))
            for n, p in m.named_parameters(): print("   ", n, tuple(p.shape))
