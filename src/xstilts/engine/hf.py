"""transformers, through its public names only: load, run and save an encoder and its tokenizer."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from xstilts.engine import packed
from xstilts.engine.batch import Batch
from xstilts.errors import ModelError

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# attention dropout lives inside the fused attention kernel, where no mask of ours can be handed in: it is off
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def _after_padding(config: Any) -> int:
    return int(config.pad_token_id) + 1


# the families whose rows can be packed (absolute positions handed in, attention through the interface), and their first position
_FIRST_POSITION: dict[str, Callable[[Any], int]] = {
    "bert": lambda _: 0,
    "xlm-roberta": _after_padding,
    "roberta": _after_padding,
    "camembert": _after_padding,
    "xlm-roberta-xl": _after_padding,
}


def load_encoder(folder: Path, dropout: float = 0.0, device: str = "cpu") -> PreTrainedModel:
    """The bare encoder of a folder in fp32, without a pooling layer, its hidden dropout at the given rate. Raises ModelError."""
    try:
        config = AutoConfig.from_pretrained(folder)
        for name in _ATTENTION_DROPOUT:
            if hasattr(config, name):
                setattr(config, name, 0.0)
        if hasattr(config, "hidden_dropout_prob"):
            config.hidden_dropout_prob = dropout
        kind: Any = transformers.MODEL_MAPPING[type(config)]
        extra = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
        model, info = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **extra
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a transformers encoder: {error}") from None
    pack(model)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(f"{folder}: the weights lack {len(missing)} tensors of the encoder, {missing[0]} among them")
    loaded: PreTrainedModel = nn.Module.to(model, device)
    return loaded


def packs(model: PreTrainedModel) -> bool:
    """True when the model's family can take rows without padding."""
    return model.config.model_type in _FIRST_POSITION


def pack(model: PreTrainedModel) -> None:
    """Let the model take rows without padding, where its family can."""
    if packs(model):
        model.set_attn_implementation(packed.NAME)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a folder. Raises ModelError when there is none (slow ones give no offsets)."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: no usable tokenizer: {error}") from None
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: the tokenizer has no fast form (tokenizer.json), which spans and tags need")
    return tokenizer


def save_encoder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the plain transformers layout: config, safetensors weights, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def hidden_size(model: PreTrainedModel) -> int:
    """The width of the hidden states."""
    return int(model.config.hidden_size)


def embedding_of(model: PreTrainedModel) -> Tensor:
    """[V, H] the word embedding matrix."""
    weight = model.get_input_embeddings().weight
    if not isinstance(weight, Tensor):
        raise ModelError(f"{type(model).__name__} has no embedding matrix")
    return weight


def max_positions(model: PreTrainedModel) -> int:
    """The longest row that the model can take (XLM-R's positions start after the padding index)."""
    first = _FIRST_POSITION.get(model.config.model_type, lambda _: 0)(model.config)
    return int(getattr(model.config, "max_position_embeddings", 1 << 30)) - first


def first_position(model: PreTrainedModel) -> int | None:
    """The number of a row's first position; None for families that count positions themselves."""
    first = _FIRST_POSITION.get(model.config.model_type)
    return None if first is None else first(model.config)


def depth(model: PreTrainedModel) -> int:
    """The number of layers."""
    return int(model.config.num_hidden_layers)


def freeze(model: PreTrainedModel, embeddings: bool, layers: int) -> None:
    """Take the embeddings (positions and their norm included) or the first layers out of training. Raises ModelError."""
    if embeddings:
        getattr(model, "embeddings", model.get_input_embeddings()).requires_grad_(False)
    stack: Any = getattr(getattr(model, "encoder", None), "layer", ())
    if layers > len(stack):
        raise ModelError(f"recipe.freeze_layers = {layers}: this {model.config.model_type} encoder has {len(stack)} layers to freeze")
    for layer in stack[:layers]:
        layer.requires_grad_(False)


def take_layers(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Keep these of the model's layers, in this order. Raises ModelError for a family whose layers are not in `encoder.layer`."""
    body: Any = model
    stack = getattr(getattr(model, "encoder", None), "layer", None)
    if not isinstance(stack, nn.ModuleList):
        raise ModelError(f"model.take: layers of a {model.config.model_type} model cannot be taken; BERT's and XLM-R's can")
    body.encoder.layer = nn.ModuleList(stack[i] for i in layers)
    body.config.num_hidden_layers = len(layers)


def layers(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The layers (blocks of attention and feed-forward) of all the model's stacks; [] where transformers does not mark them."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def checkpoint(model: PreTrainedModel) -> None:
    """Keep only the input of every layer for the backward pass, which computes the rest again (Chen et al. 2016, arXiv 1604.06174).

    Raises ModelError for a model that cannot.
    """
    if not layers(model) or not model.supports_gradient_checkpointing:
        raise ModelError(f"a {model.config.model_type} model of transformers cannot compute its layers again; leave --checkpointing away")
    # The method of the model, whose name has changed, would also ask for gradients of frozen embeddings.
    for layer in layers(model):
        layer.gradient_checkpointing = True
        setattr(layer, "_gradient_checkpointing_func", partial(recomputed, use_reentrant=False))  # noqa: B010 (it is not declared)


def hidden_states(model: PreTrainedModel, batch: Batch, layer: int = -1) -> Tensor:
    """[N, H] hidden states of a layer: 0 is the embeddings, -1 the last. Raises ModelError for a layer that is not there."""
    return layers_of(model, batch, (layer,))[0]


def layers_of(model: PreTrainedModel, batch: Batch, layers: Sequence[int]) -> list[Tensor]:
    """[N, H] hidden states of each of the layers, out of one pass. Raises ModelError for a layer that is not there."""
    device = str(batch.ids_N.device)
    within = np.concatenate([np.arange(n) for n in batch.lengths])
    inputs: dict[str, Any] = {"output_hidden_states": any(layer != -1 for layer in layers)}
    if packs(model):
        first = _FIRST_POSITION[model.config.model_type](model.config)
        inputs |= {"input_ids": batch.ids_N[None], "position_ids": torch.from_numpy(within + first).to(device)[None]}
        inputs |= {"packed": packed.layout(batch.lengths, device)}
        if "types" in batch.tokens:
            inputs["token_type_ids"] = batch.tokens["types"][None]
        output = model(**inputs)
        found = [_layer(output, layer)[0] for layer in layers]
    else:
        row = np.repeat(np.arange(len(batch.lengths)), batch.lengths)
        at = torch.from_numpy(row * int(batch.lengths.max()) + within).to(device)
        shape = (len(batch.lengths), int(batch.lengths.max()))

        def padded(flat: Tensor) -> Tensor:
            return flat.new_zeros(shape[0] * shape[1]).index_copy(0, at, flat).view(shape)

        inputs |= {"input_ids": padded(batch.ids_N), "attention_mask": padded(torch.ones_like(batch.ids_N))}
        if "types" in batch.tokens:
            inputs["token_type_ids"] = padded(batch.tokens["types"])
        output = model(**inputs)
        found = [_layer(output, layer).flatten(0, 1)[at] for layer in layers]
    return found


def _layer(output: Any, layer: int) -> Tensor:
    if layer == -1:
        last: Tensor = output.last_hidden_state
        return last
    states: tuple[Tensor, ...] = output.hidden_states
    if not -len(states) <= layer < len(states):
        raise ModelError(f"layer {layer}: this encoder has hidden states 0 to {len(states) - 1}")
    return states[layer]


def pooled(hidden_NH: Tensor, batch: Batch, pool: str) -> Tensor:
    """[B, H]: each row's first token's state, or the mean over its tokens (in fp32)."""
    device = hidden_NH.device
    if pool == "first":
        return hidden_NH[torch.from_numpy(batch.starts).to(device)]
    row = torch.from_numpy(np.repeat(np.arange(len(batch.lengths)), batch.lengths)).to(device)
    sums = hidden_NH.new_zeros((len(batch.lengths), hidden_NH.shape[1]), dtype=torch.float32).index_add(0, row, hidden_NH.float())
    return sums / torch.from_numpy(batch.lengths).to(device, torch.float32).unsqueeze(-1)


def autocast(device: str, precision: str, cache: bool = True) -> torch.autocast:
    """bf16 autocast where the stage asks for it; otherwise a context that does nothing. `cache` keeps the weights' bf16 copies."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=cache)


def tokenizer_facts(folder: Path) -> str:
    """The tokenizer's definition as text, for cache keys."""
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
    found = [(folder / name).read_text("utf-8") for name in names if (folder / name).is_file()]
    if not found:
        raise ModelError(f"{folder}: no tokenizer files")
    return "\0".join(found)


def type_ids(tokenizer: PreTrainedTokenizerBase) -> bool:
    """True when the model tells the two texts of a pair apart by token types."""
    return "token_type_ids" in tokenizer.model_input_names


def config_of(folder: Path) -> dict[str, object]:
    """The model folder's config.json."""
    loaded: dict[str, object] = json.loads((folder / "config.json").read_text("utf-8"))
    return loaded


def parameters_of(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in model.parameters())
