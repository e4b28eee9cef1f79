"""LoRA through peft, and linear layers of four bits through bitsandbytes. Both are loaded only when a recipe asks for them.

LoRA adds alpha / rank * B A to the matrix of every linear layer of the encoder, attention and feed-forward alike: Dettmers et al. 2023
(arXiv 2305.14314, section 4) find that this, and not the rank, is what full tuning is matched with. A is drawn as peft draws it
(Kaiming), from a generator that is handed in; B is zero, so that a fresh adapter changes nothing before its first step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from xstilts.errors import ModelError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
_BEFORE = "base_model.model."  # what peft's files put before a name
_KEPT = ("wo",)  # T5 gives this layer its input in the type of its matrix, which must not be that of four bits; transformers keeps it too
_SMALL = "is_loaded_in_4bit"  # what peft asks an encoder whether to look for layers of four bits


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ModelError('tuning = "lora" and "qlora" need peft and bitsandbytes: pip install "xstilts[tuning]"') from None
    return peft


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise ModelError('tuning = "qlora" needs bitsandbytes: pip install "xstilts[tuning]"') from None
    return bitsandbytes


def linear(encoder: PreTrainedModel) -> tuple[str, ...]:
    """The last names of the encoder's linear layers: "query", "dense", ...; what an adapter's config lists.

    An output layer over the vocabulary is none of them: it may be the table of embeddings.
    """
    layers = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    return tuple(sorted({name.rpartition(".")[2] for name, module in layers.items() if module is not _output(encoder)}))


def _output(encoder: PreTrainedModel) -> nn.Module | None:
    """The layer of logits of a model that writes; None for an encoder."""
    found: nn.Module | None = encoder.get_output_embeddings()
    return found


def add(encoder: PreTrainedModel, name: str, rank: int, alpha: float, targets: tuple[str, ...], without: str | None = None) -> None:
    """Put an adapter of this name, B = 0, beside those that are there, all of them active. Raises ModelError where it has no place.

    Layers whose whole name matches `without`, a regular expression, get none.
    """
    peft = _peft()
    if not targets:
        raise ModelError(f'{encoder.config.model_type} has no linear layers of torch for "lora" to stand on; use "prompt" or "full"')
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=list(targets), exclude_modules=without, lora_dropout=0.0, bias="none"
    )
    known = encoder.__dict__.pop("peft_config", {})  # peft would warn of it, though several adapters are what is wanted here
    peft.inject_adapter_in_model(config, encoder, name)
    encoder.peft_config = {**known, name: config}
    for _, layer in _layers(encoder):
        layer.set_adapter([*layer.lora_A])


def draw(encoder: PreTrainedModel, name: str, generator: torch.Generator) -> None:
    """First values of A, layer by layer in the encoder's order."""
    with torch.no_grad():
        for _, layer in _layers(encoder):
            nn.init.kaiming_uniform_(layer.lora_A[name].weight, a=math.sqrt(5), generator=generator)


def save(encoder: PreTrainedModel, name: str, tensors: dict[str, Tensor], base: str, folder: Path) -> None:
    """Write the adapter as peft does; `base` is what it stands on."""
    config = encoder.peft_config[name]
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(folder)
    save_file({_BEFORE + key: value for key, value in tensors.items()}, folder / WEIGHTS)


def read(folder: Path) -> dict[str, Tensor]:
    """The tensors of a stored adapter, without what peft puts before their names."""
    return {key.removeprefix(_BEFORE): value for key, value in load_file(folder / WEIGHTS).items()}


def fold(encoder: PreTrainedModel) -> None:
    """Put all adapters into the weights of plain linear layers; those of four bits become whole first."""
    with torch.no_grad():
        for name, layer in list(_layers(encoder)):
            base = layer.get_base_layer()
            plain = nn.Linear(base.in_features, base.out_features, base.bias is not None, device="meta")
            weight = _whole(base)
            for adapter in layer.lora_A:
                weight = weight + layer.get_delta_weight(adapter)
            plain.weight, plain.bias = nn.Parameter(weight), base.bias
            _replace(encoder, name, plain)
    del encoder.peft_config
    setattr(encoder, _SMALL, False)


def quantise(encoder: PreTrainedModel, precision: str) -> None:
    """Make the weights of linear layers normal floats of four bits with quantised constants (QLoRA); it computes in `precision`."""
    bnb = _bitsandbytes()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for name, module in list(encoder.named_modules()):
        if type(module) is nn.Linear and name.rpartition(".")[2] not in _KEPT and module is not _output(encoder):
            small = bnb.nn.Linear4bit(module.in_features, module.out_features, module.bias is not None, dtype, device="meta")
            small.weight = bnb.nn.Params4bit(module.weight.detach(), False, quant_type="nf4", compress_statistics=True)
            small.bias = module.bias
            small.support_avx512bf16_for_cpu = False  # else it would answer in bf16 outside of training, and fail for narrow layers
            _replace(encoder, name, small.to(module.weight.device))
    setattr(encoder, _SMALL, True)


def _whole(layer: Any) -> Tensor:
    """[out, in] fp32: the matrix of a linear layer, of 32 or four bits."""
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        weight: Tensor = layer.weight.detach()
        return weight
    whole: Tensor = _bitsandbytes().functional.dequantize_4bit(layer.weight.data, state)
    return whole.float()


def _layers(encoder: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    """The layers that adapters stand on, by name."""
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in encoder.named_modules() if isinstance(module, LoraLayer))


def _replace(encoder: PreTrainedModel, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(encoder.get_submodule(parent), own, module)
