"""The stages of a study as values. A stage holds its parents; its key is a hash of its canonical JSON.

What changes a number is a field here: data hashes, precision, threads. What changes only
speed or place (store, jobs, micro-batch, device memory) is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from itertools import chain
from types import UnionType
from typing import ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from xstilts.canon import LATER, is_later, key_of
from xstilts.errors import StoreError
from xstilts.task import Part

# how pydantic reads the dataclasses that come from TOML: no unknown keys, no coercion
STRICT: dict[str, object] = {"extra": "forbid", "strict": True}


Form = Literal["heads", "text"]  # how tasks are put to a model
Heads = Literal["fresh", "kept"]  # what a training does with a task that its start brings a head for


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a task: a split in one language, cut by group, capped; `data` is the SHA-256 of the files read.

    `cut=(a, b)` keeps the groups whose hash lies in [a, b); `without` removes the rows whose
    group occurs in those other rows; `cap` then keeps the `cap` rows that come first in hash order. Rows of a
    `translation` are read from its entry in place of files; `cap` alone is left to do there.
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
    translation: Translate | None = field(default=None, metadata=LATER)

    @property
    def original(self) -> Rows:
        """The rows that a translation is of, at most `cap` of them; the rows themselves where they are no translation.

        A translation may hold fewer: what did not come back whole is left out.
        """
        if self.translation is None:
            return self
        source = self.translation.rows
        return source if self.cap is None else replace(source, cap=min(self.cap, source.cap or self.cap))


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
    freeze_embeddings: bool = field(default=False, metadata=LATER)  # the embeddings keep the weights that they start with
    freeze_layers: int = field(default=0, metadata=LATER)  # so do the first layers, this many
    average: int = field(default=0, metadata=LATER)  # the mean of the states at the last `average` selections is kept, not the best
    # what is trained of the encoder: all of it; LoRA (Hu et al. 2021) on its linear layers; the same on weights of four bits (QLoRA,
    # Dettmers et al. 2023); keys and values before every layer's own (deep soft prompts: arXiv 2210.12360); nothing
    tuning: Literal["full", "lora", "qlora", "prompt", "head"] = field(default="full", metadata=LATER)
    # what becomes of the adapter that the model starts with: put into its weights, trained on, or left below a fresh one
    adapter: Literal["merge", "continue", "fresh"] = field(default="merge", metadata=LATER)
    rank: int = field(default=8, metadata=LATER)  # lora, qlora: of the update of each matrix
    alpha: float = field(default=16.0, metadata=LATER)  # lora, qlora: the update counts alpha / rank times
    prompt_length: int = field(default=16, metadata=LATER)  # prompt: keys and values a layer


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a running stage stands: optimizer steps, mean loss since the last report, examples and seconds so far."""

    step: int
    steps: int
    loss: float
    examples: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Layout:
    """How a run spreads its trainings out: speed, place and memory, no number beyond rounding, so that it is in no key."""

    processes: int = 1  # of one training, on each host
    parallel: Literal["ddp", "fsdp"] = "ddp"  # whole model in each process, or a part of it
    nodes: int = 1  # hosts
    node_rank: int = 0  # this host's number; 0 is the one that runs the study
    rendezvous: str = ""  # "host:port" on host 0, where several hosts meet
    checkpointing: bool = False  # activations within a layer are computed again in the backward pass, not kept
    micro_tokens: int | None = None  # tokens a micro-batch; None: the engine's own number

    @property
    def size(self) -> int:
        """The number of processes on all hosts."""
        return self.processes * self.nodes


ALONE = Layout()  # each training in one process


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
    pool: str = "first"  # sentence vector: "first" or "last" token, or "mean" over attended tokens
    layer: int = -1  # hidden state used for retrieval (-1: last)
    form: Form = field(default="heads", metadata=LATER)  # "text": every task is read and answered as text, see `textform`


@dataclass(frozen=True)
class Pretrain(Keyed):
    """Make an encoder: the canonical form of a pretraining config with the hashes of its texts."""

    VERSION: ClassVar[int] = 1
    config: str  # canonical JSON of the config
    data: tuple[str, ...]  # SHA-256 of every file read, in the config's order
    runtime: Runtime
    pool: str = "first"
    layer: int = -1
    form: Form = field(default="heads", metadata=LATER)  # for what comes after: the pretraining is the same


@dataclass(frozen=True, slots=True)
class Share:
    """One ingredient of a training mix: rows of one task, their weight in the mix."""

    rows: Rows
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Given:
    """Translations that were made elsewhere: files in the task's own format."""

    data: str  # SHA-256 of the files


@dataclass(frozen=True, slots=True)
class Apertium:
    """Apertium, rule-based translation (Forcada et al. 2011): its release, the mode (a direction, "eng-spa"), the pair's data."""

    release: str
    mode: str
    data: str  # SHA-256 of the mode and the files that it names


@dataclass(frozen=True, slots=True)
class Seq2Seq:
    """A sequence-to-sequence model of transformers; `source` and `target` are the languages as its tokenizer names them."""

    model: Pretrained
    source: str  # "" where the model has no language tokens
    target: str  # token that the output begins with; "" where the model needs none
    prefix: str  # text before every sentence: T5's "translate English to German: ", Marian's ">>deu<< "
    beams: int  # 1: greedy


@dataclass(frozen=True)
class Translate(Keyed):
    """Training rows put into another language; see `translations` for what is translated and which rows stay."""

    VERSION: ClassVar[int] = 1
    rows: Rows
    language: str
    by: Given | Apertium | Seq2Seq
    runtime: Runtime


@dataclass(frozen=True)
class Train(Keyed):
    """Fine-tune `start` on a mix (intermediate or target: the same thing with another parent)."""

    VERSION: ClassVar[int] = 1
    start: Start
    mix: tuple[Share, ...]
    select: tuple[Rows, ...]  # one a share, () to keep the last state
    recipe: Recipe
    seed: int
    runtime: Runtime
    # "kept": a task that `start` brings a head for goes on with it (see `heads_of`); "fresh": every task begins with a new one
    heads: Heads = field(default="fresh", metadata=LATER)
    processor: str = field(default="", metadata=LATER)  # SHA-256 of how images become numbers, where a folder's model is to see some


@dataclass(frozen=True)
class Merge(Keyed):
    """Put trained encoders together without training (heads are left behind); see `engine.merge` for the formulas."""

    VERSION: ClassVar[int] = 1
    base: Start  # what the parts were trained from: task vectors are differences to it
    parts: tuple[Start, ...]
    weights: tuple[float, ...]  # one a part
    method: Literal["average", "arithmetic", "ties"]
    scale: float  # of the summed or merged task vector (arithmetic, ties)
    density: float  # share of each task vector that is kept (ties)
    runtime: Runtime


@dataclass(frozen=True)
class Choose(Keyed):
    """The one among several trainings with the highest score on its English dev part, the first of equals."""

    VERSION: ClassVar[int] = 1
    among: tuple[Train, ...]
    runtime: Runtime


@dataclass(frozen=True)
class Predict(Keyed):
    """Answers of a model for rows of one task in one language."""

    VERSION: ClassVar[int] = 1
    model: Start
    rows: Rows
    max_length: int
    stride: int
    runtime: Runtime
    layer: str = field(default="", metadata=LATER)  # retrieval: hidden state to embed with; see `layer_of`, or "dev"
    pool: str = field(default="", metadata=LATER)  # retrieval: "first" or "last" token, "mean" (also "")
    tune: Rows | None = field(default=None, metadata=LATER)  # mining: rows that the threshold is tuned on; None: two folds
    chosen_on: tuple[Rows, ...] = field(default=(), metadata=LATER)  # layer "dev": rows that choose it; (): they are `rows` themselves
    processor: str = field(default="", metadata=LATER)  # as in `Train`
    head: Train | Choose | None = field(default=None, metadata=LATER)  # the training whose head for the task answers; None: the model's own

    @cached_property
    def choosers(self) -> tuple[Predict, ...]:
        """The predictions for the rows that choose the layer: each measures every layer, see `best_layer`."""
        return tuple(replace(self, rows=rows, tune=None, chosen_on=()) for rows in self.chosen_on)


Start = Pretrained | Pretrain | Train | Merge | Choose
Stage = Pretrain | Translate | Train | Merge | Choose | Predict


def parents(stage: Stage | Pretrained) -> tuple[Start | Translate | Predict, ...]:
    """What a stage stands on, in the order of its fields."""
    match stage:
        case Train():
            made = (share.rows.translation for share in stage.mix)
            return (stage.start, *dict.fromkeys(each for each in made if each is not None))
        case Predict():
            return (stage.model, *((stage.head,) if stage.head is not None else ()), *stage.choosers)
        case Merge():
            return (stage.base, *stage.parts)
        case Choose():
            return stage.among
        case Pretrain() | Pretrained() | Translate():
            return ()


@dataclass(frozen=True, slots=True)
class Makeup:
    """What the weights of a model are made of: an encoder, and adapters in groups, lowest first.

    The adapters of a group stand on the same weights: the encoder's, with all groups before it put into them.
    """

    base: Start
    groups: tuple[tuple[Train | Choose, ...], ...] = ()


def recipe_of(model: Train | Choose) -> Recipe:
    """How a model was trained; the candidates of a choice differ in their rate alone."""
    return model.recipe if isinstance(model, Train) else model.among[0].recipe


def heads_of(model: Start) -> frozenset[str]:
    """The tasks that a model has a head for: those of its last training. Merging and the form "text" leave none."""
    if root(model).form == "text" or not isinstance(model, Train | Choose):
        return frozenset()
    return frozenset(share.rows.task for share in (model if isinstance(model, Train) else model.among[0]).mix)


def makeup(model: Start) -> Makeup:
    """What a model's weights are made of: an adapter is stored without what it stands on, and "head" leaves none."""
    if not isinstance(model, Train | Choose) or recipe_of(model).tuning == "full":
        return Makeup(model)
    below = makeup(model.start if isinstance(model, Train) else model.among[0].start)
    if recipe_of(model).tuning == "head":
        return below
    *before, last = below.groups or ((),)
    match recipe_of(model).adapter:
        case "merge":
            return Makeup(below.base, (*below.groups, (model,)))
        case "continue":
            return Makeup(below.base, (*before, (*last[:-1], model)))
        case "fresh":
            return Makeup(below.base, (*before, (*last, model)))


def stands_on(stage: Stage) -> tuple[Start | Translate | Predict, ...]:
    """What must lie in the store when a stage is carried out: its parents, and what the weights of those are made of."""
    found: dict[str, Start | Translate | Predict] = {}
    for parent in parents(stage):
        if not isinstance(parent, Translate | Predict):
            made = makeup(parent)
            found |= {each.key: each for each in (made.base, *chain(*made.groups))}
        found[parent.key] = parent
    return tuple(found.values())


def starts(stage: Stage | Pretrained) -> tuple[Start, ...]:
    """The models that a stage stands on."""
    return tuple(parent for parent in parents(stage) if not isinstance(parent, Translate | Predict))


def root(stage: Start | Predict) -> Pretrained | Pretrain:
    """The pretrained model that a model or its answers stand on."""
    while not isinstance(stage, Pretrained | Pretrain):
        stage = starts(stage)[0]
    return stage


def lineage(stage: Stage | Pretrained) -> Iterator[Stage]:
    """A stage and the stages that it stands on, parents first; one that several stand on comes several times."""
    for parent in parents(stage):
        yield from lineage(parent)
    if not isinstance(stage, Pretrained):
        yield stage


def rows_read(model: Start) -> tuple[Rows, ...]:
    """The rows that were trained on on the way to a model, once for every training that read them; a search read them once."""
    match model:
        case Train():
            return (*rows_read(model.start), *(share.rows for share in model.mix))
        case Merge():
            return tuple(rows for part in model.parts for rows in rows_read(part))
        case Choose():
            return rows_read(model.among[0])
        case Pretrain() | Pretrained():
            return ()


def layer_of(rule: str, depth: int, root_layer: int) -> int:
    """The hidden state that retrieval embeds with, for an encoder of `depth` layers (0: the embeddings).

    "" is the pretrained model's own value, "last" the last layer, "14/24" layer max(1, floor(14/24 * depth + 0.5)): X-STILTs
    (Phang et al. 2020) and XTREME take layer 14 of XLM-R Large's 24. Any other rule is a number, from the end below 0.
    """
    match rule:
        case "14/24":
            return max(1, (28 * depth + 24) // 48)
        case "last":
            return depth
        case _:
            layer = int(rule) if rule else root_layer
            return depth + 1 + layer if layer < 0 else layer


def best_layer(measured: Sequence[Mapping[str, float]]) -> int:
    """The layer with the highest mean score over what was measured on dev rows, the lowest of equals.

    Each holds a score as "layer_N" for every layer of one encoder; other entries are not looked at.
    """
    layers = sorted(int(name.removeprefix("layer_")) for name in measured[0] if name.startswith("layer_"))
    return max(layers, key=lambda layer: (sum(each[f"layer_{layer}"] for each in measured) / len(measured), -layer))


def from_plain(value: object) -> Start | Stage:
    """The stage whose `canon.plain` form `value` is: the closed union of stages, strict.

    Raises StoreError for an unknown type or version and for missing, unknown or ill-typed fields.
    """
    stage = _build(value, "stage")
    if not isinstance(stage, Pretrained | Pretrain | Translate | Train | Merge | Choose | Predict):
        raise StoreError(f"stage: {type(stage).__name__} is no stage")
    return stage


_PARTS = (Rows, Recipe, Runtime, Share, Given, Apertium, Seq2Seq)
_TYPES: Mapping[str, type] = {t.__name__: t for t in (*_PARTS, Pretrained, Pretrain, Translate, Train, Merge, Choose, Predict)}


@cache
def _hints(kind: type) -> Mapping[str, object]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _build(value: object, where: str) -> object:
    if not isinstance(value, Mapping) or value.get("type") not in _TYPES:
        kind = value.get("type") if isinstance(value, Mapping) else value
        raise StoreError(f"{where}: unknown type {kind!r}; was it made by a newer xstilts?")
    kind = _TYPES[value["type"]]
    version = getattr(kind, "VERSION", None)
    if value.get("version") != version:
        raise StoreError(f"{where}: version {value.get('version')} of {kind.__name__}, this xstilts knows {version}")
    hints = _hints(kind)
    later = {f.name for f in fields(kind) if is_later(f)}
    if odd := (set(value) - {"type", "version"} - later) ^ (set(hints) - later):
        raise StoreError(f'{where}: {kind.__name__} with a missing or unknown field "{min(odd)}"')
    built: object = kind(**{name: _fit(value[name], hint, f"{where}.{name}") for name, hint in hints.items() if name in value})
    return built


def _fit(value: object, hint: object, where: str) -> object:
    """`value` as the type hint says (whole floats come as ints, tuples as lists)."""
    origin, wanted = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and type(None) in wanted:
            return None
        wanted = tuple(option for option in wanted if option is not type(None))
        return _fit(value, wanted[0], where) if len(wanted) == 1 else _one_of(value, wanted, where)
    if origin is tuple and isinstance(value, list):
        hints = (wanted[0],) * len(value) if wanted[-1] is Ellipsis else wanted
        if len(hints) == len(value):
            return tuple(_fit(item, each, f"{where}.{place}") for place, (item, each) in enumerate(zip(value, hints, strict=True)))
    if origin is Literal and value in wanted:
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    if hint in _TYPES.values():
        return _one_of(value, (hint,), where)
    raise StoreError(f"{where}: {value!r} is not of the type it should have")


def _one_of(value: object, wanted: tuple[object, ...], where: str) -> object:
    built = _build(value, where)
    if type(built) not in wanted:
        raise StoreError(f"{where}: a {type(built).__name__} has no place here")
    return built
