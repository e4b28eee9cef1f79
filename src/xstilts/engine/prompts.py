"""Soft prompts: learnt keys and values that stand before every row's own in every layer; the encoder itself is not trained.

These are the deep prompts of P-Tuning v2 (Liu et al. 2022) and prefix tuning (Li and Liang 2021), without a network that makes them,
as Tu et al. 2022 (arXiv 2210.12360) train them for cross-lingual transfer. They are drawn from N(0, 1), as in the authors' code, so that
they change the model's answers from the start. Prompts that stand on others follow them. Where rows are packed, `packed` reads the
prompts of its attention module; everywhere else the attention function below does, for every family whose attention goes through
transformers' interface. Prompts have no positions: rotations and relative biases are of the text alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from xstilts.errors import ModelError

NAME = "xstilts_prompted"


class Prompt(nn.Module):
    """The keys and values of one layer: [h, P, D] for h heads of width D and P places."""

    def __init__(self, heads: int, length: int, width: int) -> None:
        super().__init__()
        self.key, self.value = (nn.Parameter(torch.zeros(heads, length, width)) for _ in range(2))


def prefix_of(module: nn.Module, heads: int) -> tuple[Tensor, Tensor] | None:
    """[heads, P, D] keys and values of all prompts of an attention module, the lowest first; None where it has none.

    Where several heads of queries share one of keys, it is repeated for each of them.
    """
    prompts = getattr(module, "prompts", None)
    if prompts is None:
        return None
    key, value = (torch.cat([getattr(each, name) for each in prompts.values()], 1) for name in ("key", "value"))
    shared = heads // len(key)
    return key.repeat_interleave(shared, 0), value.repeat_interleave(shared, 0)


def refused(encoder: PreTrainedModel) -> ModelError:
    """The error for an encoder whose attention takes no prompts."""
    return ModelError(
        f'tuning = "prompt": the attention of {encoder.config.model_type} does not go through transformers\' interface, so that no '
        'prompts can be put before its keys; use "lora"'
    )


def _layers(encoder: PreTrainedModel) -> list[nn.Module]:
    """The attention modules, one a layer."""
    found = [module for module in encoder.modules() if hasattr(module, "is_causal")]
    if len(found) != int(encoder.config.num_hidden_layers):
        raise refused(encoder)
    return found


def add(encoder: PreTrainedModel, name: str, length: int) -> None:
    """Put prompts of zeros before every layer's keys and values, after those that are there. Raises ModelError; see `refused`."""
    config: Any = encoder.config
    heads = _first(config, "num_key_value_heads", "num_attention_heads", "num_heads")
    for module in _layers(encoder):
        own: Any = getattr(module, "prompts", None)
        if own is None:
            own = module.prompts = nn.ModuleDict()
        own[name] = Prompt(heads, length, _first(module, "head_dim", "attention_head_size", "head_size", "key_value_proj_dim"))


def _first(holder: Any, *names: str) -> int:
    return next(int(value) for name in names if (value := getattr(holder, name, None)) is not None)


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, position_bias: Tensor | None = None, softcap: float | None = None, **_: object,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of padded rows with prompts: [B, h, T, D] (keys and values may have fewer heads); returns [B, T, h, D]."""
    if softcap is not None:
        raise ModelError(f'tuning = "prompt": {type(module).__name__} caps its attention scores, which is not done here; use "lora"')
    mask = attention_mask
    if position_bias is not None:
        mask = position_bias if mask is None else position_bias + mask
    if (prefix := prefix_of(module, key.shape[1])) is not None:
        key, value = (
            torch.cat([own.to(x.dtype).expand(len(x), -1, -1, -1), x], 2) for own, x in zip(prefix, (key, value), strict=True)
        )
        mask = mask if mask is None else nn.functional.pad(mask, (prefix[0].shape[1], 0))
    grouped = query.shape[1] != key.shape[1]
    mask = mask if mask is None else mask.to(query.dtype)
    out = nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, AttentionMaskInterface()["eager"])  # always written out, so that prompts can be put before it
