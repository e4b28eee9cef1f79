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
from xstilts.costs import Passes, Tuning
from xstilts.engine import hf
from xstilts.engine.batch import Batch
from xstilts.engine.dropout import Draws, replace_dropouts

H, LAYERS, HEADS, INNER, PIECES = 64, 2, 4, 256, 96
ROWS, LENGTH = 4, 20

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
def made(family: str, whole: bool = False) -> tuple[Any, costs.Shape]:
    """A random model of the family, and the shape of its config: of T5 the encoder's, or that of all of it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=PIECES, **CONFIGS[family])
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    if hasattr(config, "hidden_dropout_prob"):
        config.hidden_dropout_prob = 0.1
    kind: Any = transformers.MODEL_MAPPING[type(config)]
    extra = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
    model = AutoModel.from_config(config, **extra)
    hf.pack(model)
    return model, costs.shape(config.to_dict(), whole)


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
    model, shape = made(family, whole=True)
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




@pytest.mark.parametrize("family", CONFIGS)
def test_operations_are_those_that_torch_counts(family: str) -> None:
    model, shape = made(family)
    if not hf.packs(model):
        model.set_attn_implementation("eager")  # torch does not count its fused kernel for CPUs
    tokens, pairs = ROWS * LENGTH, ROWS * LENGTH**2
    with FlopCounterMode(display=False) as counter:
        states = run(model)
    # DeBERTa projects its relative positions once a pass, whatever the tokens: little beside a batch of thousands, much here
    once = 2 * 2 * H * H * shape.span * LAYERS
    assert counter.get_total_flops() - once == pytest.approx(costs.forward(shape, tokens, pairs), rel=0.03)
    with FlopCounterMode(display=False) as counter:
        states.sum().backward()
    both = costs.training(shape, Tuning(), tokens, pairs)
    assert counter.get_total_flops() - 2 * once == pytest.approx(both - costs.forward(shape, tokens, pairs), rel=0.05)


def kept(model: Any, precision: str) -> int:
    """Bytes of what autograd keeps of a forward pass, the weights and their cast copies apart."""
    storages: dict[int, tuple[int, Tensor]] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    shapes = {tuple(p.shape) for p in model.parameters()}
    shapes |= {shape[::-1] for shape in shapes}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        cast = tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shapes and tensor.shape[0] != ROWS * LENGTH
        if storage.data_ptr() not in weights and not cast:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    draws = Draws(0.1, 0)
    replace_dropouts(model.train(), draws)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), hf.autocast("cpu", precision):
        run(model, draws)
    return sum(size for size, _ in storages.values())


@pytest.mark.parametrize("family", [f for f in CONFIGS if f not in ("mistral", "qwen2", "umt5", "distilbert")])
def test_what_is_kept_for_the_backward_pass_is_what_torch_saves(family: str) -> None:
    model, shape = made(family)
    for precision in ("fp32", "bf16"):
        counted = costs.activations(shape, Tuning(), Passes(ROWS * LENGTH, LENGTH), precision)
        assert counted == pytest.approx(kept(model, precision), rel=0.08), precision
