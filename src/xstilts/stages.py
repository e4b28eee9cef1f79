"""The stages of a study as values. A stage holds its parents; its key is a hash of its canonical JSON.

What changes a number is a field here: data hashes, precision, threads. What changes only
speed or place (store, jobs, micro-batch, device memory) is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from xstilts.canon import key_of
from xstilts.task import Part


# how pydantic reads the dataclasses that come from TOML: no unknown keys, no coercion
STRICT: dict[str, object] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a task: a split in one language, cut by group, capped; `data` is the SHA-256 of the files read.

    `cut=(a, b)` keeps the groups whose hash lies in [a, b); `without` removes the rows whose
    group occurs in those other rows; `cap` then keeps the `cap` rows that come first in hash order.
    """

    task: str
    task_version: int
    part: Part
    split: str
    language: str
    data: str
    cut: tuple[float, float] = (0.0, 1.0)
    cap: int | None = None
    without: tuple[Rows, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one task is trained. Adam's epsilon and the clip at norm 1 are those of Phang et al. 2020."""

    __pydantic_config__: ClassVar = STRICT
    lr: float = 3e-5
    epochs: float = 3.0
    steps: int | None = None  # overrides epochs
    batch: int = 32  # examples an optimizer step (choices: questions)
    max_length: int = 128  # tokens a row, special tokens included
    stride: int = 64  # tokens that neighbouring windows of one passage share (span)
    warmup: float = 0.1  # share of the steps with a linearly growing rate; then linear decay to zero
    weight_decay: float = 0.0
    dropout: float = 0.1
    clip: float = 1.0
    eps: float = 1e-8
    selections: int = 1  # how often the English dev part is scored; the best state is kept
    mask_rate: float = 0.15  # mask: share of the tokens to predict


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a running stage stands: optimizer steps, mean loss since the last report, examples and seconds so far."""

    step: int
    steps: int
    loss: float
    examples: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Runtime:
    """What changes the rounding of a stage: resolved when the plan is made."""

    precision: str = "fp32"  # "fp32" or "bf16" (autocast; weights stay fp32)
    threads: int = 1
    device: str = "cpu"  # "cpu" or "cuda"


class Keyed:
    """Gives a frozen dataclass its key."""

    @cached_property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of this stage and all that it stands on."""
        return key_of(self)


@dataclass(frozen=True)
class Pretrained(Keyed):
    """Weights that are already there: the hash of a model folder's files, however it was come by."""

    VERSION: ClassVar[int] = 1
    weights: str  # SHA-256 over names and contents of config, tokenizer and weights
    pool: str = "first"  # sentence vector: "first" token or "mean" over attended tokens
    layer: int = -1  # hidden state used for retrieval (-1: last)


@dataclass(frozen=True)
class Pretrain(Keyed):
    """Make an encoder: the canonical form of a pretraining config with the hashes of its texts."""

    VERSION: ClassVar[int] = 1
    config: str  # canonical JSON of the config
    data: tuple[str, ...]  # SHA-256 of every file read, in the config's order
    runtime: Runtime
    pool: str = "first"
    layer: int = -1


@dataclass(frozen=True, slots=True)
class Share:
    """One ingredient of a training mix: rows of one task, their weight in the mix."""

    rows: Rows
    weight: float = 1.0


@dataclass(frozen=True)
class Train(Keyed):
    """Fine-tune `start` on a mix (intermediate or target: the same thing with another parent), fresh heads."""

    VERSION: ClassVar[int] = 1
    start: Pretrained | Pretrain | Train
    mix: tuple[Share, ...]
    select: tuple[Rows, ...]  # one a share, () to keep the last state
    recipe: Recipe
    seed: int
    runtime: Runtime


@dataclass(frozen=True)
class Predict(Keyed):
    """Answers of a model for rows of one task in one language."""

    VERSION: ClassVar[int] = 1
    model: Pretrained | Pretrain | Train
    rows: Rows
    max_length: int
    stride: int
    runtime: Runtime


Start = Pretrained | Pretrain | Train
Stage = Pretrain | Train | Predict
