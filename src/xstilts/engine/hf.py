"""transformers, through its public names only: load, run and save an encoder and its tokenizer."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from xstilts.engine.batch import Batch
from xstilts.errors import ModelError

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# attention dropout lives inside the fused attention kernel, where no mask of ours can be handed in: it is off
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def load_encoder(folder: Path) -> PreTrainedModel:
    """The bare encoder of a folder in fp32, without a pooling layer. Raises ModelError."""
    try:
        config = AutoConfig.from_pretrained(folder)
        for name in _ATTENTION_DROPOUT:
            if hasattr(config, name):
                setattr(config, name, 0.0)
        kind = transformers.MODEL_MAPPING[type(config)]
        extra = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
        model, info = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **extra
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a transformers encoder: {error}") from None
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(f"{folder}: the weights lack {len(missing)} tensors of the encoder, {missing[0]} among them")
    return model


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


def max_positions(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest row that the model can take (XLM-R's positions start after the padding index)."""
    limit = int(getattr(model.config, "max_position_embeddings", 1 << 30))
    if model.config.model_type in ("xlm-roberta", "roberta", "camembert", "xlm-roberta-xl"):
        limit -= int(model.config.pad_token_id) + 1
    return limit


def hidden_states(model: PreTrainedModel, batch: Batch, layer: int = -1) -> Tensor:
    """[B, T, H] hidden states of a layer: 0 is the embeddings, -1 the last."""
    inputs = {"input_ids": batch.ids_BT, "attention_mask": batch.mask_BT}
    if "types" in batch.tokens:
        inputs["token_type_ids"] = batch.tokens["types"]
    if layer == -1:
        return model(**inputs).last_hidden_state
    states = model(**inputs, output_hidden_states=True).hidden_states
    if not -len(states) <= layer < len(states):
        raise ModelError(f"layer {layer}: this encoder has hidden states 0 to {len(states) - 1}")
    return states[layer]


def pooled(hidden_BTH: Tensor, mask_BT: Tensor, pool: str) -> Tensor:
    """[B, H]: the first token's state, or the mean over the attended tokens (in fp32)."""
    if pool == "first":
        return hidden_BTH[:, 0]
    weights = mask_BT.unsqueeze(-1).to(hidden_BTH.dtype)
    return (hidden_BTH * weights).sum(1) / weights.sum(1)


def autocast(device: str, precision: str) -> torch.autocast:
    """bf16 autocast where the stage asks for it; otherwise a context that does nothing."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


def tokenizer_facts(folder: Path) -> str:
    """The tokenizer's definition as text, for cache keys."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            return (folder / name).read_text("utf-8")
    raise ModelError(f"{folder}: no tokenizer files")


def type_ids(tokenizer: PreTrainedTokenizerBase) -> bool:
    """True when the model tells the two texts of a pair apart by token types."""
    return "token_type_ids" in tokenizer.model_input_names


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills rows up. Raises ModelError when the tokenizer has none."""
    if tokenizer.pad_token_id is None:
        raise ModelError("the tokenizer has no padding token")
    return int(tokenizer.pad_token_id)


def config_of(folder: Path) -> dict[str, object]:
    """The model folder's config.json."""
    loaded: dict[str, object] = json.loads((folder / "config.json").read_text("utf-8"))
    return loaded


def parameters_of(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in model.parameters())
