"""Where a model's files lie, and encoders with adapters: loaded, made ready to be trained as a recipe says, stored, put into the weights.

A training that leaves an adapter stores that alone, in `adapter/` of its entry: LoRA in peft's own layout (adapter_config.json,
adapter_model.safetensors), soft prompts as prompts.json and prompts.safetensors. What a model is made of follows from its stage
(`stages.makeup`). Adapters of one model stand on each other in this order, and all act at once; put into the weights, LoRA gives the
same answers up to rounding. What stands on weights of four bits is put into those weights as they were rounded, made 32 bits wide again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from xstilts.engine import hf, lm, lora, prompts
from xstilts.engine.batch import Batch
from xstilts.errors import ModelError
from xstilts.stages import Form, Pretrained, Recipe, Start, makeup, recipe_of, root

FOLDER = "adapter"
_SEES = ".crossattention."  # in the names of what attends to images
_PROMPTS, _PROMPT_WEIGHTS = "prompts.json", "prompts.safetensors"


@dataclass(frozen=True)
class Adapter:
    """A stored adapter and the way of tuning that it came of."""

    folder: Path
    tuning: str


@dataclass(frozen=True)
class Weights:
    """Where a model's files lie."""

    folder: Path  # its entry, with its heads; of pretrained weights their folder
    encoder: Path  # a plain transformers folder
    base: str  # key of the stage that made `encoder`
    form: Form = "heads"  # "text": the folder's whole model, as it writes
    groups: tuple[tuple[Adapter, ...], ...] = ()  # adapters as in `stages.Makeup`: the last group stands, those before are put in
    images: Path | None = None  # the whole checkpoint with the vision tower, where the encoder is to attend to images


def weights(model: Start, folder_of: Callable[[Start], Path], images: Path | None = None) -> Weights:
    """The files of a model; `folder_of` gives the folder of pretrained weights or of an entry. `images`: see `Weights`."""
    made = makeup(model)
    below = folder_of(made.base)
    groups = tuple(tuple(Adapter(folder_of(each) / FOLDER, recipe_of(each).tuning) for each in group) for group in made.groups)
    encoder = below if isinstance(made.base, Pretrained) else below / "encoder"
    return Weights(folder_of(model), encoder, made.base.key, root(model).form, groups, images)


def loaded(model: Weights, precision: str = "fp32", dropout: float = 0.0) -> PreTrainedModel:
    """The encoder with its adapters standing on it. Raises ModelError for one that is of another base, or cannot be read."""
    encoder = _folded(model, model.groups[:-1], dropout)
    for group in model.groups[-1:]:
        _attach(encoder, group, model.base, precision)
    return encoder


def folded(model: Weights, dropout: float = 0.0) -> PreTrainedModel:
    """The encoder with its adapters put into its weights. Raises ModelError as `loaded` does, and for soft prompts."""
    return _folded(model, model.groups, dropout)


def prepared(model: Weights, recipe: Recipe, precision: str, generator: torch.Generator) -> tuple[PreTrainedModel, str]:
    """The encoder with what `recipe` trains of it set to be trained, and the name of the adapter that is; "" where none is.

    Raises ModelError as `folded` does, and where the recipe does not fit the encoder.
    """
    if recipe.tuning == "full":
        encoder = folded(model, recipe.dropout)
        hf.freeze(cast(PreTrainedModel, encoder.base_model), recipe.freeze_embeddings, recipe.freeze_layers)
        return encoder, ""
    goes_on = recipe.tuning == "head" or recipe.adapter != "merge"
    below = model.groups[-1] if goes_on and model.groups else ()
    encoder = _folded(model, model.groups[:-1] if goes_on else model.groups, recipe.dropout)
    targets = lora.linear(encoder)
    _attach(encoder, below, model.base, precision)
    own = _name(len(below))
    if recipe.tuning != "head" and recipe.adapter == "continue" and below:
        own = _name(len(below) - 1)
    elif recipe.tuning in ("lora", "qlora"):
        if recipe.tuning == "qlora" and not below:
            lora.quantise(encoder, precision)
        lora.add(encoder, own, recipe.rank, recipe.alpha, targets)
        lora.draw(encoder, own, generator)
    elif recipe.tuning == "prompt":
        _prompt(encoder, own, recipe.prompt_length)
        for tensor in _tensors(encoder, own).values():
            nn.init.normal_(tensor, generator=generator)
    encoder.requires_grad_(False)
    if recipe.tuning == "head":
        return encoder, ""
    for tensor in _tensors(encoder, own).values():
        tensor.requires_grad_(True)
    return encoder, own


def save(encoder: PreTrainedModel, name: str, recipe: Recipe, base: str, folder: Path) -> None:
    """Write the adapter `name` into a new folder; `base` is the key of the stage that made the encoder that it stands on."""
    folder.mkdir()
    tensors = {key: value.detach().cpu().contiguous() for key, value in _tensors(encoder, name).items()}
    if recipe.tuning == "prompt":
        save_file(tensors, folder / _PROMPT_WEIGHTS)
        (folder / _PROMPTS).write_text(json.dumps({"length": recipe.prompt_length, "base": base}, indent=1) + "\n", "utf-8")
    else:
        lora.save(encoder, name, tensors, base, folder)


def _folded(model: Weights, groups: Sequence[Sequence[Adapter]], dropout: float) -> PreTrainedModel:
    for adapter in chain(*groups):
        if adapter.tuning == "prompt":
            raise ModelError(f"{adapter.folder}: soft prompts are no weights, so that they cannot be put into an encoder's")
    encoder = lm.load(model.encoder, dropout) if model.form == "text" else hf.load_encoder(model.encoder, dropout, images=model.images)
    for group in groups:
        _attach(encoder, group, model.base, "fp32")
        lora.fold(encoder)
    return encoder


def _attach(encoder: PreTrainedModel, group: Sequence[Adapter], base: str, precision: str) -> None:
    """Put the stored adapters of one group on the encoder. They are of one way of tuning."""
    if group and group[0].tuning == "qlora":
        lora.quantise(encoder, precision)
    for number, adapter in enumerate(group):
        prompted = adapter.tuning == "prompt"
        try:
            facts = json.loads((adapter.folder / (_PROMPTS if prompted else lora.CONFIG)).read_text("utf-8"))
            found = lora.read(adapter.folder) if not prompted else load_file(adapter.folder / _PROMPT_WEIGHTS)
            told = facts["base"] if prompted else facts["base_model_name_or_path"]
            if prompted:
                _prompt(encoder, _name(number), facts["length"])
            else:
                # one that was trained on texts stands on no attention to images
                without = None if any(_SEES in key for key in found) or not _sees(encoder) else rf".*{re.escape(_SEES)}.*"
                lora.add(encoder, _name(number), facts["r"], facts["lora_alpha"], tuple(facts["target_modules"]), without)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(f"{adapter.folder}: cannot be read as an adapter: {error}") from None
        wanted = _tensors(encoder, _name(number))
        odd = [key for key in sorted({*found, *wanted}) if key not in found or key not in wanted or found[key].shape != wanted[key].shape]
        if told != base or odd:
            why = f"it was trained on {told[:12]}, and this is {base[:12]}" if told != base else f"{odd[0]} does not fit"
            raise ModelError(f"{adapter.folder}: this adapter is of another base: {why}")
        with torch.no_grad():
            for key, tensor in wanted.items():
                tensor.copy_(found[key])


def _sees(encoder: PreTrainedModel) -> bool:
    return any(_SEES in name for name, _ in encoder.named_modules())


def _prompt(encoder: PreTrainedModel, name: str, length: int) -> None:
    prompts.add(encoder, name, length)
    if not hf.packs(encoder):
        encoder.set_attn_implementation(prompts.NAME)
    nothing = np.zeros(1, np.int64)
    states = hf.hidden_states(encoder, Batch(torch.zeros(2, dtype=torch.int64), np.array([2]), {}, {}, nothing, nothing))
    reached = torch.autograd.grad(states.sum(), [*_tensors(encoder, name).values()], allow_unused=True)
    if any(gradient is None for gradient in reached):  # a family that would leave them without effect, and not say so
        raise prompts.refused(encoder)


def _name(number: int) -> str:
    return f"adapter{number}"


def _tensors(encoder: PreTrainedModel, name: str) -> dict[str, nn.Parameter]:
    """What adapter `name` is made of; its own name is left out of the tensors' names, as in stored files."""
    return {key.replace(f".{name}", ""): tensor for key, tensor in encoder.named_parameters() if f".{name}." in f"{key}."}
