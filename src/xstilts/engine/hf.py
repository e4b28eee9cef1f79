"""transformers, through its public names only: load, run and save an encoder and its tokenizer."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from xstilts.engine import packed
from xstilts.engine.batch import Batch
from xstilts.errors import ModelError
from xstilts.families import FAMILIES, OTHER, OTHER_DECODER, Family, family_of

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# config fields of every dropout that transformers' encoders have, attention's among them
_DROPOUTS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop",
    "embed_dropout", "embedding_dropout", "mlp_dropout", "resid_dropout", "activation_dropout", "hidden_dropout", "dropout",
    "dropout_rate", "layerdrop",
)  # fmt: skip
_CAUSAL, _MASKED = transformers.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.MODEL_FOR_MASKED_LM_MAPPING


def load_encoder(folder: Path, dropout: float = 0.0, device: str = "cpu", images: Path | None = None) -> PreTrainedModel:
    """The bare encoder of a folder in fp32, without a pooling layer, its hidden dropout at the given rate.

    Of an encoder-decoder or an image-text model it is the encoder of texts. With `images`, the whole checkpoint that the folder
    is or came of, it keeps the attention to images: the folder's, or the checkpoint's where the folder was trained on texts alone.
    Raises ModelError.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
        family = FAMILIES.get(config.model_type, OTHER)
        source: dict[str, Any] = {"pretrained_model_name_or_path": folder}
        if images is not None:
            config, state = _seeing(folder, images)
            source = {"pretrained_model_name_or_path": None, "state_dict": state}
        elif hasattr(config, "text_config"):
            config, state = _part(folder, config, family)
            source = {"pretrained_model_name_or_path": None, "state_dict": state}
        elif getattr(config, "is_encoder_decoder", False) and not family.tensors:
            raise ModelError(f"{folder}: {config.model_type} is an encoder-decoder whose encoder is not known here (T5, mT5, umT5 are)")
        _as_encoder(config, family, dropout, images is not None)
        kind: Any = transformers.MODEL_MAPPING[type(config)] if family.loads == "AutoModel" else getattr(transformers, family.loads)
        if "add_pooling_layer" in inspect.signature(kind).parameters:
            source["add_pooling_layer"] = False
        loader = AutoModel if family.loads == "AutoModel" else kind
        source |= {"use_safetensors": True, "ignore_mismatched_sizes": True}  # they are named below
        model, info = loader.from_pretrained(config=config, dtype=torch.float32, output_loading_info=True, **source)
    except SafetensorError as error:
        raise ModelError(f"{folder}: model.safetensors is cut short or damaged; fetch it again ({error})") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a transformers encoder: {error}") from None
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(f"{folder}: the weights lack {len(missing)} tensors of the encoder, {missing[0]} among them")
    if info["mismatched_keys"]:
        name, stored, wanted = min(info["mismatched_keys"])
        raise ModelError(
            f"{folder}: {name} has the shape {list(stored)}, and by config.json it would have {list(wanted)}; "
            "weights and config are not of one model"
        )
    _still(model)
    pack(model)
    loaded: PreTrainedModel = nn.Module.to(model, device)
    return loaded


def _part(folder: Path, config: Any, family: Family) -> tuple[Any, dict[str, Tensor]]:
    """The config and weights of the texts' encoder in a larger checkpoint, under its own names. Raises ModelError.

    transformers can rename tensors while it loads, but then writes the old names back when the encoder is saved.
    """
    if not family.tensors:
        raise ModelError(f"{folder}: {config.model_type} holds several models, and which of them reads texts is not known here")
    text = config.text_config
    if family.becomes:
        text = transformers.CONFIG_MAPPING[family.becomes].from_dict({**text.to_dict(), "model_type": family.becomes})
    state = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                begins = next((pair for pair in family.tensors if name.startswith(pair[0])), None)
                if begins is not None:
                    state[begins[1] + name.removeprefix(begins[0])] = file.get_tensor(name)
    if not state:
        expected = " or ".join(f'"{theirs}"' for theirs, _ in family.tensors)
        raise ModelError(f"{folder}: no tensors of {family.name} ({expected}...); this checkpoint holds other parts of the model only")
    return text, state


def _seeing(folder: Path, whole: Path) -> tuple[Any, dict[str, Tensor]]:
    """The config and weights of a text tower that attends to images; what `folder` lacks of it is the whole checkpoint's."""
    config = AutoConfig.from_pretrained(whole)
    family = FAMILIES.get(config.model_type, OTHER)
    if family.no_images:
        raise ModelError(f"{whole}: no images go with {config.model_type}: {family.no_images}")
    text, state = _part(whole, config, family)
    if not any(".crossattention." in name for name in state):
        raise ModelError(f"{whole}: the text tower has no attention to images; checkpoints for matching or question answering have")
    if folder != whole:
        for path in sorted(folder.glob("model*.safetensors")):
            state |= load_file(path)
    return text, state


def _as_encoder(config: Any, family: Family, rate: float, sees: bool = False) -> None:
    """Set up a config for heads. Dropouts that are modules get the rate; others (inside attention, or functions) have no rows: 0."""
    for name in _DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, rate if name in family.dropout else 0.0)
    if family.causal:
        config.use_cache = False  # of what generating keeps
    elif getattr(config, "is_decoder", False):
        config.is_decoder = sees  # BLIP's reads images through layers of its own, which texts alone do not use


def _still(model: nn.Module) -> None:
    """Turn off what one config field sets together with the dropouts of rows: T5's inside attention, DeBERTa's of shared positions."""
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            vars(module)["dropout"] = 0.0
        if isinstance(shared := getattr(module, "pos_dropout", None), nn.Dropout):
            shared.p = 0.0


def family(model: PreTrainedModel) -> Family:
    """The family of a loaded model; one without a row in the table is a decoder where transformers knows it as nothing else."""
    config = model.config
    if config.model_type not in FAMILIES:
        return OTHER_DECODER if type(config) in _CAUSAL and type(config) not in _MASKED else OTHER
    return family_of({"model_type": config.model_type, "use_bidirectional_attention": getattr(config, "use_bidirectional_attention", None)})


def check_pool(model: PreTrainedModel, pool: str) -> None:
    """Raise ModelError for the first token's state of a causal model, which has seen nothing but that token."""
    if pool == "first" and family(model).causal:
        raise ModelError(f'{model.config.model_type} is causal: its first token has seen no other; use pool = "last" or "mean"')


def check_ids(model: PreTrainedModel, highest: int, folder: Path) -> None:
    """Raise ModelError for a token id without a row in the embedding. Tokenizers may have more ids than are ever in use."""
    rows = len(embedding_of(model))
    if highest >= rows:
        raise ModelError(f"{folder}: the tokenizer gives the id {highest} and the embedding has {rows} rows; they are not of one model")


def packs(model: PreTrainedModel) -> bool:
    """True when the model's family can take rows without padding."""
    return family(model).packs


def pack(model: PreTrainedModel) -> None:
    """Let the model take rows without padding, where its family can."""
    if packs(model):
        model.set_attn_implementation(packed.NAME)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a folder. Raises ModelError when there is none (slow ones give no offsets)."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{folder}: no usable tokenizer: {error}") from None
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: the tokenizer has no fast form (tokenizer.json), which spans and tags need")
    tokenizer.truncation_side = "right"  # some of generating models cut the beginning
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
    """The longest row that the model can take (RoBERTa's positions start after the padding index)."""
    return int(getattr(model.config, "max_position_embeddings", 1 << 30)) - _counts_from(model)


def first_position(model: PreTrainedModel) -> int | None:
    """The number of a row's first position; None for families that count positions themselves."""
    return _counts_from(model) if packs(model) else None


def _counts_from(model: PreTrainedModel) -> int:
    if model.config.model_type in FAMILIES:
        return int(model.config.pad_token_id) + 1 if family(model).after_padding else 0
    table = _at(model, "embeddings.position_embeddings")
    padding = table.padding_idx if isinstance(table, nn.Embedding) else None
    return 0 if padding is None else padding + 1


def depth(model: PreTrainedModel) -> int:
    """The number of layers."""
    return int(model.config.num_hidden_layers)


def freeze(model: PreTrainedModel, embeddings: bool, layers: int) -> None:
    """Take the embeddings (positions and their norm included) or the first layers out of training. Raises ModelError."""
    own = family(model)
    if embeddings:
        for module in [_at(model, path) for path in own.embeddings] + [model.get_input_embeddings()]:
            if module is not None:
                module.requires_grad_(False)
    stack = _at(model, own.layers) or ()
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


def _at(model: nn.Module, path: str) -> Any:
    """The submodule at a dotted path, None where there is none."""
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def hidden_states(model: PreTrainedModel, batch: Batch, layer: int = -1) -> Tensor:
    """[N, H] hidden states of a layer: 0 is the embeddings, -1 the last. Raises ModelError for a layer that is not there."""
    return layers_of(model, batch, (layer,))[0]


def layers_of(model: PreTrainedModel, batch: Batch, layers: Sequence[int]) -> list[Tensor]:
    """[N, H] hidden states of each of the layers, out of one pass. Raises ModelError for a layer that is not there."""
    device = str(batch.ids_N.device)
    within = np.concatenate([np.arange(n) for n in batch.lengths])
    inputs: dict[str, Any] = {"output_hidden_states": any(layer != -1 for layer in layers)}
    typed = "types" in batch.tokens and _takes_types(model)
    if model.config._attn_implementation == packed.NAME:  # pretraining may have set another
        fill = (0, packed.filled(batch.size) - batch.size)
        positions = torch.from_numpy(np.pad(within, fill) + _counts_from(model)).to(device)
        inputs |= {"input_ids": nn.functional.pad(batch.ids_N, fill)[None], "position_ids": positions[None]}
        inputs |= {"packed": packed.layout(batch.lengths, device, family(model).causal)}
        if typed:
            inputs["token_type_ids"] = nn.functional.pad(batch.tokens["types"], fill)[None]
        output = model(**inputs)
        found = [_layer(output, layer)[0, : batch.size] for layer in layers]
    else:
        row = np.repeat(np.arange(len(batch.lengths)), batch.lengths)
        at = torch.from_numpy(row * int(batch.lengths.max()) + within).to(device)
        shape = (len(batch.lengths), int(batch.lengths.max()))

        def padded(flat: Tensor) -> Tensor:
            return flat.new_zeros(shape[0] * shape[1]).index_copy(0, at, flat).view(shape)

        inputs |= {"input_ids": padded(batch.ids_N), "attention_mask": padded(torch.ones_like(batch.ids_N))}
        if typed:
            inputs["token_type_ids"] = padded(batch.tokens["types"])
        if batch.images_BPW is not None:
            inputs["encoder_hidden_states"] = batch.images_BPW
        output = model(**inputs)
        found = [_layer(output, layer).flatten(0, 1)[at] for layer in layers]
    return found


def _takes_types(model: PreTrainedModel) -> bool:
    """True where the model has more than one token type; tokenizers may give types to models that know none."""
    known = "token_type_ids" in inspect.signature(model.forward).parameters
    return known and int(getattr(model.config, "type_vocab_size", 2)) > 1


def _layer(output: Any, layer: int) -> Tensor:
    if layer == -1:
        last: Tensor = output.last_hidden_state
        return last
    states: tuple[Tensor, ...] = output.hidden_states
    if not -len(states) <= layer < len(states):
        raise ModelError(f"layer {layer}: this encoder has hidden states 0 to {len(states) - 1}")
    return states[layer]


def pooled(hidden_NH: Tensor, batch: Batch, pool: str) -> Tensor:
    """[B, H]: each row's first token's state, its last token's, or the mean over its tokens (in fp32)."""
    device = hidden_NH.device
    if pool != "mean":
        return hidden_NH[torch.from_numpy(batch.starts if pool == "first" else batch.ends).to(device)]
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
    binary = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
    found += [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in binary if (folder / name).is_file()]
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
    """The number of parameters; of matrices of four bits, that of the numbers that they stand for."""
    return sum(math.prod(p.quant_state.shape) if hasattr(p, "quant_state") else p.numel() for p in model.parameters())
