"""Where pretrained weights are: a folder, a pinned commit on the hub, or an encoder that comes with the package."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from xstilts.errors import ModelError, nearest
from xstilts.families import FAMILIES, Family, family_of

# what a plain transformers folder may hold; everything else (pickles among them) is neither hashed nor fetched
FILES = ("config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
         "special_tokens_map.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.txt")  # fmt: skip


# what a sequence-to-sequence folder may hold beside them; a list of its own, so that the hash of an encoder's folder stays what it was
SEQ2SEQ = (*FILES, "generation_config.json", "source.spm", "target.spm", "vocab.json", "target_vocab.json", "merges.txt")


# how an image becomes the numbers that a vision tower reads; hashed apart, and only where images are read
PROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of the model hub at a full commit."""

    repository: str
    revision: str


Where = Path | Hub


@cache
def shipped() -> dict[str, Path]:
    """The encoders that come with the package, by name."""
    home = Path(str(files("xstilts"))) / "mini" / "encoders"
    return {p.parent.name: p.parent for p in sorted(home.glob("*/config.json"))}


def weights_hash(folder: Path, file_hash: Callable[[Path], str], names: Sequence[str] = FILES) -> str:
    """SHA-256 over the names and hashes of a model folder's files. Raises ModelError when it is no such folder."""
    check_folder(folder, names)
    shards = sorted(p.name for p in folder.glob("model-*.safetensors"))
    lines = [f"{name} {file_hash(folder / name)}" for name in (*names, *shards) if (folder / name).is_file()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_folder(folder: Path, names: Sequence[str] = FILES) -> None:
    """Raise ModelError unless `folder` holds a transformers model with safetensors weights and a tokenizer."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: an adapter without its encoder; put it into the encoder's weights first (peft's merge_and_unload)")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json; a model folder is what transformers' save_pretrained writes")
    if not any(folder.glob("model*.safetensors")):
        raise ModelError(f"{folder}: no model.safetensors (other weight formats are not read; convert them first)")
    if not any((folder / name).is_file() for name in names[3:] if name != "generation_config.json"):
        raise ModelError(f"{folder}: no tokenizer files beside the model")


def fetch(where: Where, offline: bool, names: Sequence[str] = FILES) -> Path:
    """The local folder of a model. Raises ModelError when the hub does not give it, or is not to be asked."""
    if isinstance(where, Path):
        check_folder(where, names)
        return where
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [*names, "model-*.safetensors"]
    try:
        found = snapshot_download(
            where.repository, revision=where.revision, allow_patterns=wanted, local_files_only=offline
        )
    except LocalEntryNotFoundError:
        hint = "run once without --offline" if offline else "the hub cannot be reached; check the network"
        raise ModelError(f"{where.repository}@{where.revision[:12]} is not in the local hub cache; {hint}") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(f"{where.repository}@{where.revision[:12]}: {error}") from None
    check_folder(Path(found), names)
    return Path(found)


def config_of(where: Where, offline: bool) -> Mapping[str, object] | None:
    """config.json of a model; None for a repository that is not in the local hub cache and is not to be, or cannot be, asked.

    Raises ModelError for a folder without a readable one.
    """
    if isinstance(where, Path):
        path = where / "config.json"
    else:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            path = Path(hf_hub_download(where.repository, "config.json", revision=where.revision, local_files_only=offline))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
            return None
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: no table of names and values")
    return found


def config(where: Where) -> Mapping[str, object] | None:
    """The config.json of a model: of its folder, of the local hub cache, or of the table of known checkpoints; None where it is in none.

    Nothing is fetched. Raises ModelError for a folder's config that cannot be read.
    """
    found = config_of(where, offline=True)
    return checkpoints().get(where.repository) if found is None and isinstance(where, Hub) else found


@cache
def checkpoints() -> Mapping[str, Mapping[str, object]]:
    """Sizes of well-known checkpoints of the hub, by repository, under the names that their config.json has for them."""
    table = tomllib.loads((files("xstilts") / "checkpoints.toml").read_text("utf-8"))
    return {name: {**table["like"].get(own.get("like", ""), {}), **own} for name, own in table["checkpoint"].items()}


def family_at(where: Where, offline: bool) -> Family | None:
    """The family of a model, by its config or, for a repository whose config is not at hand, by the list of known models.

    The hub is asked last, and never where `offline`. None where nothing tells it.
    """
    config = config_of(where, offline=True)
    if config is None and isinstance(where, Hub):
        if (row := next((row for row in known() if row.repository == where.repository), None)) is not None:
            return FAMILIES[row.family]
        config = config_of(where, offline)
    return None if config is None else family_of(config)


def size(folder: Path) -> dict[str, int]:
    """`hidden` and `layers` of a model folder's config, as far as it names them, and `parameters` by its weight files.

    Of a larger checkpoint they are those of the part that reads texts.
    """
    config, begins = _reads(folder)
    hidden = config.get("hidden_size") or config.get("d_model") or 0
    layers = config.get("num_hidden_layers") or config.get("num_layers") or 0
    return {"hidden": int(hidden), "layers": int(layers), "parameters": parameters(folder, begins)}


def _reads(folder: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Of the part of a checkpoint that reads texts: its config, and how the names of its tensors begin."""
    config: Mapping[str, Any] = config_of(folder, offline=True) or {}
    begins = tuple(theirs for theirs, _ in family_of(config).tensors) or ("",)
    return config.get("text_config", config), begins


def parameters(folder: Path, begins: tuple[str, ...] = ("",)) -> int:
    """The number of parameters in a folder's safetensors files, from their headers (nothing is loaded); of names that begin so."""
    total = 0
    for path in folder.glob("model*.safetensors"):
        for name, tensor in _header(path).items():
            if name != "__metadata__" and name.startswith(begins) and ".crossattention." not in name:
                count = 1
                for extent in tensor["shape"]:
                    count *= extent
                total += count
    return total


def _header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of each of its tensors. Raises ModelError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            found: dict[str, Any] = json.loads(file.read(length))
        except ValueError:
            raise ModelError(f"{path}: not a safetensors file, or truncated") from None
    return found


def unseeing(folder: Path) -> str | None:
    """What a model folder lacks to be shown images; None where nothing. Only the headers of its weights are read."""
    if not (folder / PROCESSOR).is_file():
        return f"{folder} has no {PROCESSOR}, which says how an image becomes numbers; take it from the checkpoint's repository"
    names = [name for path in sorted(folder.glob("model*.safetensors")) for name in _header(path)]
    if not any(name.startswith("vision_model.") for name in names):
        return f"{folder} has no tensors of a vision tower; give the whole checkpoint"
    if not any(".crossattention." in name and name.startswith(("text_model.", "text_encoder.")) for name in names):
        return f"{folder} has no text tower that attends to images; BLIP's checkpoints for matching or question answering have"
    return None


@dataclass(frozen=True, slots=True)
class Known:
    """A model of the field: where it is, how large, under which terms, and what of it has been run here.

    `parameters` are those that are trained with heads, in millions: of an encoder-decoder its encoder, of an image-text model
    its text tower. `ran` says what ran with its trained weights ("": nothing; only small random weights of its family did).
    """

    name: str
    family: str  # model_type
    repository: str
    parameters: float
    layers: int
    hidden: int
    licence: str = ""  # "": see the repository
    ran: str = ""

    @property
    def shape(self) -> str:
        """What kind of model it is."""
        return FAMILIES[self.family].shape

    @property
    def note(self) -> str:
        """What a reader of any result of it must know."""
        return FAMILIES[self.family].note


@cache
def known() -> tuple[Known, ...]:
    """The models that this package was made for, in the order of its file."""
    table = tomllib.loads(files("xstilts").joinpath("known_models.toml").read_text("utf-8"))
    return tuple(Known(name=name, **row) for name, row in table.items())


def unknown(name: str, known: tuple[str, ...]) -> ModelError:
    """The error for a model name that nothing defines."""
    listed = ", ".join(known) or "none"
    return ModelError(f'unknown model "{name}" (known: {listed}; or define [encoders.{name}]){nearest(name, known)}')
