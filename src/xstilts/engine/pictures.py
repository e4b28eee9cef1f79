"""Images as text layers attend to them: the last states of the checkpoint's vision tower, which is never trained, once an image.

An image goes alone through the tower, in fp32, so that its states depend on no neighbour, and they are kept in the cache by what made
them: the tower's weights, the image processor's config, device and threads, and the image file's bytes. BLIP's text tower takes them
as it does in matching and question answering (Li et al. 2022, arXiv 2201.12086, section 3.1): every layer attends to all places of the
image. As in transformers, a row begins with [CLS] there; the authors' own code puts [ENC] in its place.

Shape suffixes: B rows, P places of an image (patches and one for the whole), W width of the vision tower.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, BlipVisionModel, PreTrainedModel

from xstilts.canon import key_of
from xstilts.errors import DataError, ModelError, Stopped
from xstilts.examples import Example, Text
from xstilts.models import PROCESSOR
from xstilts.stages import Runtime

FORMAT = 1  # raise when the states of an image change
_TOWER = "vision_model."  # what the names of its tensors begin with in a whole checkpoint


@dataclass(frozen=True)
class Tower:
    """A vision tower and how its images are made. `key` says what decides the states of an image beside its file."""

    model: PreTrainedModel
    processor: Any
    key: str
    device: str

    @torch.no_grad()
    def states(self, image: Any) -> Tensor:
        """[P, W] fp32, on the CPU: the last states of one decoded image."""
        pixels = self.processor(image, return_tensors="pt")["pixel_values"].to(self.device, torch.float32)
        last: Tensor = self.model(pixel_values=pixels).last_hidden_state
        return last[0].cpu()


@lru_cache(maxsize=1)
def tower(folder: Path, device: str, threads: int) -> Tower:
    """The vision tower of a whole checkpoint. Raises ModelError for one without tower or image processor."""
    if not (folder / PROCESSOR).is_file():
        raise ModelError(f"{folder}: no {PROCESSOR}, which says how an image becomes numbers; take it from the checkpoint's repository")
    try:
        config = AutoConfig.from_pretrained(folder)
        state: dict[str, Tensor] = {}
        for path in sorted(folder.glob("model*.safetensors")):
            with safe_open(path, "pt") as file:
                state |= {name.removeprefix(_TOWER): file.get_tensor(name) for name in file.keys() if name.startswith(_TOWER)}  # noqa: SIM118
        if not state:
            raise ModelError(f'{folder}: no tensors of a vision tower ("{_TOWER}..."); give the whole checkpoint')
        kind: Any = BlipVisionModel
        model, info = kind.from_pretrained(
            None, config=config.vision_config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, ImportError) as error:
        raise ModelError(f"{folder}: no usable vision tower or image processor: {error}") from None
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(f"{folder}: the weights lack {len(missing)} tensors of the vision tower, {missing[0]} among them")
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}\n".encode())
        digest.update(state[name].contiguous().view(torch.uint8).numpy().tobytes())
    made = {
        "format": FORMAT, "weights": digest.hexdigest(), "config": config.vision_config.to_json_string(use_diff=False),
        "processor": (folder / PROCESSOR).read_text("utf-8"), "device": device, "threads": threads,
    }  # fmt: skip
    placed: PreTrainedModel = model.to(device).eval()
    return Tower(placed, processor, key_of(made), device)


@dataclass(frozen=True)
class Gallery:
    """The images of examples, their states in files of the cache."""

    files: tuple[Path, ...]  # of each distinct image
    image: NDArray[np.int64]  # [E] which of them an example has

    def of(self, examples: NDArray[np.int64]) -> Tensor:
        """[B, P, W] fp32 states of the images of these examples, on the CPU."""
        wanted, place = np.unique(self.image[examples], return_inverse=True)
        found = torch.stack([load_file(self.files[number])["states"] for number in wanted])
        return found[torch.from_numpy(place)]


def gallery(
    examples: Sequence[Example], checkpoint: Path | None, runtime: Runtime, cache: Path, stop: Callable[[], bool] = lambda: False
) -> Gallery:
    """The images of `examples`, each through the tower of `checkpoint` unless the cache knows its states.

    Raises DataError, with file and row, for an image that is not there or cannot be decoded, ModelError for a checkpoint without
    vision tower, Stopped when `stop()` turns true; what is computed by then stays in the cache.
    """
    if checkpoint is None:
        raise ModelError("these rows have images, and the model comes of no checkpoint with a vision tower")
    sees = tower(checkpoint, runtime.device, runtime.threads)
    folder = cache / "images" / sees.key
    folder.mkdir(parents=True, exist_ok=True)
    number: dict[str, int] = {}
    files: list[Path] = []
    for example in examples:
        if not isinstance(example, Text) or not example.image:
            raise DataError(f'row "{example.id}" has no image; this task\'s rows have one each')
        if example.image not in number:
            if stop():
                raise Stopped(f"stopped after the states of {len(files):,} images; the next run goes on from there")
            number[example.image] = len(files)
            files.append(_states(example, sees, folder))
    return Gallery(tuple(files), np.array([number[e.image] for e in examples if isinstance(e, Text)], np.int64))


def _states(example: Text, sees: Tower, folder: Path) -> Path:
    """The file with the states of an example's image, made if it is not there; it appears by one rename."""
    try:
        raw = Path(example.image).read_bytes()
    except OSError as error:
        raise DataError(f'{example.image}: row "{example.id}": the image cannot be read ({error.strerror}); put it there') from None
    path = folder / f"{hashlib.sha256(raw).hexdigest()}.safetensors"
    if not path.is_file():
        states = sees.states(decoded(raw, example))
        draft = path.with_suffix(f".{os.getpid()}")
        save_file({"states": states.contiguous()}, draft)
        draft.rename(path)
    return path


def decoded(raw: bytes, example: Text) -> Any:
    """The image of an example in RGB. Raises DataError, with file and row, for what is no whole image, or too large a one."""
    try:
        from PIL import Image
    except ImportError:
        raise ModelError('images need Pillow: pip install "xstilts[images]"') from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(raw)) as image:
                return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f'{example.image}: row "{example.id}": no whole image ({error}); get the file again') from None
