"""What a model costs, by arithmetic on its config.json: parameters, floating-point operations, bytes of memory.

Operations. A product of an [a, b] and a [b, c] matrix counts 2abc (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Counted are the
layers' matrices, the scores of attention and what is mixed by them, and a softmax over the vocabulary (as in Hoffmann et al. 2022,
arXiv 2203.15556, appendix F); looking up an embedding, norms and activations are not. Backward costs one forward pass for the gradients
of the inputs of whatever has something trained below it, and one for those of the matrices that are trained.

Memory of a training. Weights, gradients and Adam's two moments are 16 bytes for a number that is trained, all in fp32 (Rajbhandari
et al. 2020, ZeRO, arXiv 1910.02054, section 3.1, where half of it is fp16; sharding divides them by the number of processes). What the
forward pass keeps for the backward pass is counted as in Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1), whose
34 h + 5 a s bytes a token and layer hold for their fp16 layers; `KEPT` holds the same count for the layers that are run here. The tests
count the tensors that torch saves.

Widths: h hidden, q all query heads, k all key heads, f feed-forward, a heads, l tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from xstilts.errors import ModelError
from xstilts.stages import ALONE, Layout

MICRO = 4096  # tokens a micro-batch of a training on a CPU: changes speed and memory, not results beyond rounding
MICRO_GPU = 16384
BATCH = 8192  # tokens a batch of a prediction: changes speed and memory, not answers
SEEING = 16  # rows with images have so many times fewer tokens: each attends to hundreds of places of its image
WIDE = 4  # as text both have so many times fewer tokens: a logit for every piece at every target token, keys and values of every layer

FP32, BF16 = 4, 2  # bytes
FOUR_BIT = 0.5 + 4 / 64  # bytes a weight of four bits with one fp32 scale for 64 of them (Dettmers et al. 2023, arXiv 2305.14314)

# What a worker holds before any model (measured by `benchmarks/estimate.py`): torch, transformers, a tokenizer, kernels of the first step.
PROCESS = 470 << 20
PIECE = 570  # and for every piece of a tokenizer
# On a CPU what comes and goes takes so many times its size: the C library keeps what it was given (`executors.local`), steps differ in
# their tokens, and blocks seldom fit into what has become free (measured after 40 steps, docs/lab-notebook.md).
SPARE = 1.2  # of a training
SPARE_PREDICTING = 2.0
# Of a GPU's memory: CUDA's context and the libraries' workspaces (what a prediction on one GPU held fits it, docs/lab-notebook.md).
PROCESS_GPU = 700 << 20


@dataclass(frozen=True, slots=True)
class Stack:
    """Like layers, one after the other; `matrices`, `parameters` and `source` are of one layer."""

    layers: int
    hidden: int
    heads: int
    queries: int  # width of all query heads
    keys: int  # width of all key heads; the values have the same
    inner: int  # width of the feed-forward part
    matrices: int  # numbers that every token is multiplied with
    parameters: int  # these, biases and norms
    source: int = 0  # of a decoder that looks at an encoder: numbers that every token of the encoder is multiplied with


@dataclass(frozen=True, slots=True)
class Sight:
    """The vision tower of a checkpoint: what the text layers attend to of one image."""

    places: int  # patches, and one for the whole
    tower: Stack

    @property
    def bytes(self) -> int:
        """Of the states of one image, which the cache keeps."""
        return FP32 * self.places * self.tower.hidden


@dataclass(frozen=True, slots=True)
class Shape:
    """A model: one stack, or encoder and decoder. `rest` is what stands outside embeddings and layers (norms, relative positions)."""

    family: str  # model_type of the config
    vocabulary: int
    width: int  # of the word table
    embedding: int  # parameters of all embeddings: words, positions, types, their norm
    stacks: tuple[Stack, ...]
    rest: int
    output: int = 0  # parameters of an output matrix over the vocabulary that is not the word table
    span: int = 0  # relative positions that every row is multiplied with (DeBERTa)
    sight: Sight | None = None  # of a model whose text layers can attend to images

    @property
    def words(self) -> int:
        """Parameters of the word table."""
        return self.vocabulary * self.width

    @property
    def layers(self) -> int:
        """Parameters of all layers."""
        return sum(stack.layers * stack.parameters for stack in self.stacks)

    @property
    def parameters(self) -> int:
        """All parameters but those of a task's head."""
        return self.embedding + self.layers + self.rest + self.output

    @property
    def hidden(self) -> int:
        """The width of the states that a head sees."""
        return self.stacks[-1].hidden


@dataclass(frozen=True, slots=True)
class Tuning:
    """What of a model is trained. The default: all of it."""

    embeddings: bool = True
    frozen: int = 0  # the first layers, this many, are not trained
    rows: int | None = None  # rows of the word table that take part (`engine.vocabulary`); None: all
    body: bool = True  # False: no weight of the model itself is trained, adapters and heads alone
    rank: int = 0  # of LoRA's update of every matrix of the layers (Hu et al. 2021, arXiv 2106.09685); 0: none
    prompt: int = 0  # keys and values that are trained before every layer's own
    weight: float = FP32  # bytes of a weight that is not trained


@dataclass(frozen=True, slots=True)
class Passes:
    """What goes through a model at once: `tokens` of a micro-batch in rows of `length` tokens (the longest); `many` of them are a step."""

    tokens: int
    length: int
    many: int = 1
    logits: float = 0.0  # positions of a micro-batch that have a logit for every piece of the vocabulary
    written: int = 0  # tokens in the decoder of a model that has an encoder too
    images: int = 0  # rows of a micro-batch that have an image


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process at its peak, and what they are."""

    process: int
    weights: int
    gradients: int
    moments: int
    best: int  # a copy of the best state so far
    kept: int  # what the forward pass keeps for the backward pass, and the largest thing that comes and goes beside it
    logits: int  # over the vocabulary
    table: int  # the full word table, put back at the end
    shared: bool  # gradients take the room of what was kept, as it goes

    @property
    def peak(self) -> int:
        """The most that is held at one time."""
        passing = self.kept + self.logits
        passing = max(passing, self.gradients) if self.shared else passing + self.gradients
        return self.process + self.weights + self.moments + self.best + passing + self.table


# ---- shapes ----


def shape(config: Mapping[str, object], whole: bool = False) -> Shape:
    """The shape of the model that a config.json describes; of T5 its encoder, or encoder, decoder and output (`whole`).

    `whole` of a decoder adds the output matrix where it is not the word table. A model with a text tower stands for that tower.
    An architecture that is not known here is taken for a BERT, or for a Llama where it says how many key heads it has: its parameters
    are then a rule of thumb. Raises ModelError when the config lacks sizes.
    """
    if isinstance(text := config.get("text_config"), Mapping) and "hidden_size" not in config:
        names = {"clip": "clip_text_model", "siglip": "siglip_text_model", "blip": "blip_text_model"}
        own = text.get("model_type") or names.get(str(config.get("model_type")), "")
        config = {**text, "model_type": own, "vision_config": config.get("vision_config")}
    read = _Read(config)
    family = read.family
    if family in ("t5", "mt5", "umt5"):
        return _t5(read, whole)
    if family == "modernbert":
        made = _modernbert(read)
    elif family == "bloom":
        made = _bloom(read)
    elif family == "xglm":
        made = _xglm(read)
    elif family in ("clip_text_model", "siglip_text_model"):
        made = _tower(read)
    elif family in _LLAMA or (family not in _BERT and "num_key_value_heads" in config):
        made = _llama(read)
    else:
        made = _bert(read)
    tied = read.flag("tie_word_embeddings", family.startswith(("gemma", "bloom", "xglm")))
    vision = config.get("vision_config") if family == "blip_text_model" else None
    sight = _sight(_Read(vision)) if isinstance(vision, Mapping) else None
    return replace(made, output=made.words if whole and not tied and family in _LLAMA else 0, sight=sight)


_BERT = (
    "bert", "roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "electra", "rembert", "deberta-v2", "distilbert", "blip_text_model",
)  # fmt: skip
_LLAMA = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")


class _Read:
    """A config's numbers under whichever of their names it has."""

    def __init__(self, config: Mapping[str, object]) -> None:
        self.config = config
        self.family = str(config.get("model_type", ""))

    def number(self, *names: str, default: int | None = None) -> int:
        for name in names:
            value = self.config.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return int(value)
        if default is None:
            raise ModelError(f'config.json of a "{self.family}" model: no "{names[0]}", so that its size is not known')
        return default

    def flag(self, name: str, default: bool) -> bool:
        value = self.config.get(name)
        return default if value is None else bool(value)


def _dense(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + (outputs if bias else 0)


def _plain(layers: int, hidden: int, heads: int, inner: int, extra: int = 0, matrices: int = 0) -> Stack:
    """Layers of the first Transformer: four square matrices, two of the feed-forward part, all with biases, two norms."""
    own = 4 * _dense(hidden, hidden) + _dense(hidden, inner) + _dense(inner, hidden) + 4 * hidden
    return Stack(layers, hidden, heads, hidden, hidden, inner, 4 * hidden * hidden + 2 * hidden * inner + matrices, own + extra)


def _bert(read: _Read) -> Shape:
    hidden = read.number("hidden_size", "dim", "d_model", "n_embd")
    layers = read.number("num_hidden_layers", "n_layers", "num_layers", "n_layer")
    heads = read.number("num_attention_heads", "n_heads", "num_heads", "n_head", default=max(1, hidden // 64))
    inner = read.number("intermediate_size", "hidden_dim", "d_ff", "ffn_dim", default=4 * hidden)
    vocabulary = read.number("vocab_size")
    width = read.number("input_embedding_size", "embedding_size", default=hidden)
    positions = read.number("max_position_embeddings", default=512)
    types = read.number("type_vocab_size", default=0 if read.family in ("distilbert", "blip_text_model", "deberta-v2") else 2)
    norm, rest, span, extra, cross = 2 * width, 0, 0, 0, 0
    if read.family == "xlm-roberta-xl":
        norm, rest = 0, 2 * hidden  # the norm comes after the last layer
    if read.family == "blip_text_model" and read.flag("is_decoder", True):
        seen = read.number("encoder_hidden_size", default=hidden)
        extra = 2 * _dense(hidden, hidden) + 2 * _dense(seen, hidden) + 2 * hidden  # attention to an image, unused for text
    if read.family == "deberta-v2" and read.flag("relative_attention", False):
        most = read.number("max_relative_positions", default=-1)
        span = 2 * max(read.number("position_buckets", default=-1), 0) or 2 * (most if most > 0 else positions)
        rest += span * hidden + (2 * hidden if "layer_norm" in str(read.config.get("norm_rel_ebd", "none")) else 0)
        cross = 0 if read.flag("share_att_key", False) else 2 * _dense(hidden, hidden)
        positions = positions if read.flag("position_biased_input", True) else 0
    if width != hidden:  # a projection between the table and the layers
        rest += _dense(width, hidden, bias=read.family != "deberta-v2")
    return Shape(
        read.family, vocabulary, width, (vocabulary + positions + types) * width + norm,
        (_plain(layers, hidden, heads, inner, extra + cross),), rest, span=span,
    )  # fmt: skip


def _sight(read: _Read) -> Sight:
    """BLIP's vision tower; the numbers that a config leaves out are those of transformers' BlipVisionConfig."""
    hidden = read.number("hidden_size", default=768)
    layers, heads = read.number("num_hidden_layers", default=12), read.number("num_attention_heads", default=12)
    stack = _plain(layers, hidden, heads, read.number("intermediate_size", default=4 * hidden))
    return Sight((read.number("image_size", default=384) // read.number("patch_size", default=16)) ** 2 + 1, stack)


def _tower(read: _Read) -> Shape:
    hidden = read.number("hidden_size")
    stack = _plain(read.number("num_hidden_layers"), hidden, read.number("num_attention_heads"), read.number("intermediate_size"))
    positions = read.number("max_position_embeddings", default=77 if read.family == "clip_text_model" else 64)
    rest = 2 * hidden + (_dense(hidden, read.number("projection_size", default=hidden)) if read.family == "siglip_text_model" else 0)
    vocabulary = read.number("vocab_size")
    return Shape(read.family, vocabulary, hidden, (vocabulary + positions) * hidden, (stack,), rest)


def _modernbert(read: _Read) -> Shape:
    hidden, layers, inner = read.number("hidden_size"), read.number("num_hidden_layers"), read.number("intermediate_size")
    vocabulary = read.number("vocab_size")
    attention, mlp, norm = read.flag("attention_bias", False), read.flag("mlp_bias", False), hidden * (1 + read.flag("norm_bias", False))
    own = _dense(hidden, 3 * hidden, attention) + _dense(hidden, hidden, attention)
    own += _dense(hidden, 2 * inner, mlp) + _dense(inner, hidden, mlp) + 2 * norm
    matrices = 4 * hidden * hidden + 3 * hidden * inner
    stack = Stack(layers, hidden, read.number("num_attention_heads"), hidden, hidden, inner, matrices, own)
    # a norm after the embeddings, one after the last layer; the first layer has none before its attention
    return Shape(read.family, vocabulary, hidden, vocabulary * hidden + norm, (stack,), 0)


def _t5(read: _Read, whole: bool) -> Shape:
    hidden, inner, vocabulary = read.number("d_model"), read.number("d_ff"), read.number("vocab_size")
    heads, layers = read.number("num_heads"), read.number("num_layers")
    queries = heads * read.number("d_kv")
    gated = str(read.config.get("feed_forward_proj", "relu" if read.family == "t5" else "gated-gelu")).startswith("gated")
    attention, feed = 4 * hidden * queries, (3 if gated else 2) * hidden * inner
    positions = read.number("relative_attention_num_buckets", default=32) * heads
    each = positions if read.family == "umt5" else 0  # umT5's layers have relative positions of their own, the others share the first's
    encoder = Stack(layers, hidden, heads, queries, queries, inner, attention + feed, attention + feed + 2 * hidden + each)
    rest = hidden + (0 if each else positions)
    if not whole:
        return Shape(read.family, vocabulary, hidden, vocabulary * hidden, (encoder,), rest)
    below = read.number("num_decoder_layers", default=layers)
    both = 2 * attention + feed
    decoder = Stack(below, hidden, heads, queries, queries, inner, both - attention // 2, both + 3 * hidden + each, source=attention // 2)
    output = 0 if read.flag("tie_word_embeddings", True) else vocabulary * hidden
    return Shape(read.family, vocabulary, hidden, vocabulary * hidden, (encoder, decoder), 2 * rest, output)


def _llama(read: _Read) -> Shape:
    hidden, inner, vocabulary = read.number("hidden_size"), read.number("intermediate_size"), read.number("vocab_size")
    heads = read.number("num_attention_heads")
    usual = {"gemma": 256, "gemma2": 256, "gemma3_text": 256, "qwen3": 128}.get(read.family, hidden // heads)
    width = read.number("head_dim", default=usual)
    queries, keys = heads * width, read.number("num_key_value_heads", default=heads) * width
    bias = read.flag("attention_bias", read.family == "qwen2")
    out_bias = bias and read.family != "qwen2"
    own = _dense(hidden, queries, bias) + 2 * _dense(hidden, keys, bias) + _dense(queries, hidden, out_bias)
    mlp = read.flag("mlp_bias", False)
    own += 2 * _dense(hidden, inner, mlp) + _dense(inner, hidden, mlp)
    own += (4 if read.family in ("gemma2", "gemma3_text") else 2) * hidden
    own += 2 * width if read.family in ("qwen3", "gemma3_text") else 0
    matrices = 2 * hidden * (queries + keys) + 3 * hidden * inner
    stack = Stack(read.number("num_hidden_layers"), hidden, heads, queries, keys, inner, matrices, own)
    return Shape(read.family, vocabulary, hidden, vocabulary * hidden, (stack,), hidden)


def _bloom(read: _Read) -> Shape:
    hidden, vocabulary = read.number("hidden_size", "n_embed"), read.number("vocab_size")
    stack = _plain(read.number("n_layer", "num_hidden_layers"), hidden, read.number("n_head", "num_attention_heads"), 4 * hidden)
    return Shape(read.family, vocabulary, hidden, vocabulary * hidden + 2 * hidden, (stack,), 2 * hidden)


def _xglm(read: _Read) -> Shape:
    hidden, vocabulary = read.number("d_model"), read.number("vocab_size")
    stack = _plain(read.number("num_layers"), hidden, read.number("attention_heads"), read.number("ffn_dim"))
    return Shape(read.family, vocabulary, hidden, vocabulary * hidden, (stack,), 2 * hidden)  # positions are waves


# ---- parameters ----


def head(kind: str, hidden: int, outputs: int, vocabulary: int) -> int:
    """Parameters of the head of a task kind (`engine.heads`); `outputs` are its labels."""
    match kind:
        case "classify":
            return _dense(hidden, hidden) + _dense(hidden, outputs)
        case "choose":
            return _dense(hidden, hidden) + _dense(hidden, 1)
        case "tag":
            return _dense(hidden, outputs)
        case "span":
            return _dense(hidden, 2)
        case "mask":
            return _dense(hidden, hidden) + 2 * hidden + vocabulary
        case _:
            return 0


def trained(model: Shape, tuning: Tuning, heads: int = 0) -> int:
    """Numbers that a training changes, `heads` of them in heads."""
    if not tuning.body:
        adapters = 0
        for stack in model.stacks:
            adapters += stack.layers * (tuning.rank * _sides(stack) + 2 * tuning.prompt * stack.keys)
        return adapters + heads
    first = model.stacks[0]
    found = model.layers - tuning.frozen * first.parameters + model.rest + model.output + heads
    if tuning.embeddings:
        found += model.embedding - model.words + _rows(model, tuning) * model.width
    return found


def _below(model: Shape, tuning: Tuning) -> float:
    """The share of the first stack's layers that nothing trained stands in or below: no gradient goes through them."""
    if tuning.rank or tuning.prompt:
        return 0.0
    if not tuning.body:
        return 1.0
    return 0.0 if tuning.embeddings else tuning.frozen / model.stacks[0].layers


def _rows(model: Shape, tuning: Tuning) -> int:
    return model.vocabulary if tuning.rows is None else min(tuning.rows, model.vocabulary)


def _sides(stack: Stack) -> int:
    """Rows and columns of all matrices of a layer: a LoRA of rank r has r times as many numbers."""
    square = 2 * stack.hidden + 2 * stack.queries + 2 * (stack.hidden + stack.keys)
    feed = (stack.matrices - 2 * stack.hidden * (stack.queries + stack.keys)) // (stack.hidden * stack.inner)
    return square + feed * (stack.hidden + stack.inner)


# ---- operations ----


def forward(model: Shape, tokens: float, pairs: float, target: float = 0.0, target_pairs: float = 0.0, logits: float = 0.0) -> float:
    """Operations of a forward pass over rows with `tokens` in all and `pairs`, the sum of their squared lengths.

    Of a model with a decoder: `target` tokens in it, `target_pairs` the sum of their squared lengths and of their products with the rows'
    own. `logits`: positions with a logit for every piece.
    """
    own, *others = model.stacks
    count = own.layers * (2 * own.matrices * tokens + 4 * own.queries * (pairs + model.span * tokens))
    for stack in others:
        count += stack.layers * (2 * stack.matrices * target + 2 * stack.source * tokens + 4 * stack.queries * target_pairs)
    return count + 2 * logits * model.hidden * model.vocabulary


def training(
    model: Shape, tuning: Tuning, tokens: float, pairs: float, target: float = 0.0, target_pairs: float = 0.0, logits: float = 0.0,
    checkpointing: bool = False,
) -> float:  # fmt: skip
    """Operations of forward and backward; arguments as `forward` has them. `checkpointing` computes the layers' forward pass twice."""
    own = model.stacks[0]
    once = forward(model, tokens, pairs, target, target_pairs)
    pairs += model.span * tokens
    below = _below(model, tuning)
    untouched = below * own.layers * (2 * own.matrices * tokens + 4 * own.queries * pairs)
    touched = once - untouched
    # attention has no matrices: its backward pass is two forward passes wherever it is gone through at all
    attention = 4 * own.queries * pairs * own.layers * (1 - below) + sum(4 * s.queries * target_pairs * s.layers for s in model.stacks[1:])
    frozen = 0.0 if below else tuning.frozen * 2 * own.matrices * tokens
    matrices = touched - attention - frozen if tuning.body else 0.0
    count = once + touched + attention + matrices + (touched if checkpointing else 0.0)
    for stack, own_tokens in zip(model.stacks, (tokens, target), strict=False):
        count += 3 * 2 * tuning.rank * _sides(stack) * stack.layers * own_tokens
    return count + 3 * 2 * logits * model.hidden * model.vocabulary


def looked(model: Shape, tokens: float, rows: float) -> tuple[float, float, float]:
    """Operations of text layers on images, forward, of `rows` rows with `tokens` in all: on the text, on the images, between the two.

    (0, 0, 0) where the model has no vision tower.
    """
    if model.sight is None:
        return 0.0, 0.0, 0.0
    own, places = model.stacks[0], model.sight.places
    of_text, of_images = 4 * own.hidden * own.queries * tokens, 4 * model.sight.tower.hidden * own.keys * rows * places
    return own.layers * of_text, own.layers * of_images, own.layers * 4 * own.queries * tokens * places


def learning_to_look(model: Shape, tuning: Tuning, tokens: float, rows: float) -> float:
    """The same forward and backward; images need no gradient. With adapters it is that of whole matrices, a little too much."""
    text, images, between = looked(model, tokens, rows)
    return text + images + between if _below(model, tuning) == 1 else 3 * text + 2 * images + 3 * between


def seeing(model: Shape, images: float) -> float:
    """Operations of the vision tower on so many images (its first layer, of pixels, apart)."""
    if model.sight is None:
        return 0.0
    tower, places = model.sight.tower, model.sight.places
    return images * tower.layers * (2 * tower.matrices * places + 4 * tower.queries * places**2)


# ---- memory ----


class Looked(NamedTuple):
    """Bytes that attention to images leaves in a layer for the backward pass, as `Kept` has them.

    `hidden` a token, `key` a place of an image and unit of the keys, `seen` the same of the vision tower's width, `score` a head, token
    and place; `once` a place and unit of the vision tower's width outside the layers.
    """

    hidden: float
    key: float
    seen: float
    score: float
    once: float


LOOKED = (Looked(20, 8, 0, 4, 4), Looked(12, 4, 4, 2, 0))  # in fp32, under bf16 autocast


class Kept(NamedTuple):
    """Bytes that a token leaves in a layer for the backward pass, a unit of each width; `score` a head and token of its row.

    `once` is a unit of the hidden width outside the layers: embeddings, last norm. `span`: see `Shape`, for every row.
    """

    hidden: float
    query: float
    key: float
    inner: float
    score: float
    once: float
    span: float = 0.0


# In fp32 and under bf16 autocast, which keeps norms in fp32 and a cast copy of an input for every matrix that reads it.
KEPT: Mapping[str, tuple[Kept, Kept]] = {
    "bert": (Kept(24, 8, 8, 8, 4, 8), Kept(20, 4, 4, 4, 2, 8)),
    "distilbert": (Kept(20, 8, 8, 8, 0, 8), Kept(18, 4, 4, 4, 0, 8)),
    "xlm-roberta-xl": (Kept(20, 8, 8, 8, 4, 8), Kept(18, 4, 4, 4, 2, 8)),
    "rembert": (Kept(24, 8, 8, 8, 4, 8), Kept(12, 4, 4, 4, 2, 3)),  # a projection before the first layer makes all of it bf16
    "deberta-v2": (Kept(24, 8, 8, 8, 12, 8, 16), Kept(20, 4, 4, 4, 6, 8, 9)),
    "modernbert": (Kept(16, 8, 8, 16, 4, 4), Kept(14, 4, 4, 8, 2, 4)),
    "clip_text_model": (Kept(16, 8, 8, 12, 4, 4), Kept(16, 4, 4, 6, 2, 4)),
    "siglip_text_model": (Kept(16, 8, 8, 8, 4, 4), Kept(16, 4, 4, 4, 2, 4)),
    "t5": (Kept(32, 8, 8, 12, 12, 10), Kept(30, 8, 8, 6, 12, 10)),
    "mt5": (Kept(32, 8, 8, 32, 12, 10), Kept(30, 8, 8, 16, 12, 10)),
    "llama": (Kept(24, 12, 8, 16, 4, 8), Kept(26, 6, 4, 8, 2, 8)),
    "qwen3": (Kept(24, 20, 16, 16, 4, 8), Kept(26, 12, 10, 8, 2, 8)),
    "gemma2": (Kept(40, 16, 0, 16, 8, 8), Kept(42, 8, 0, 8, 8, 8)),
    "gemma3_text": (Kept(40, 20, 16, 16, 4, 8), Kept(42, 12, 10, 8, 2, 8)),
    "bloom": (Kept(16, 8, 8, 8, 4, 8), Kept(12, 4, 4, 4, 6, 8)),
    "xglm": (Kept(24, 8, 8, 8, 10, 4), Kept(20, 4, 4, 4, 12, 4)),
}
_LIKE = {"umt5": "mt5", "mistral": "llama", "qwen2": "llama", "gemma": "llama"}
# A logit of a softmax over the vocabulary, while its gradient is made: itself, its log-probability, two gradients.
LOGIT = 16


def kept_by(model: Shape, precision: str) -> Kept:
    """What a token of this family leaves for the backward pass; of one that is not known, what BERT's or Llama's does."""
    family = _LIKE.get(model.family, model.family)
    gated = model.stacks[0].keys != model.stacks[0].queries
    return KEPT.get(family, KEPT["llama" if gated else "bert"])[precision == "bf16"]


def activations(model: Shape, tuning: Tuning, passes: Passes, precision: str, checkpointing: bool = False) -> float:
    """Bytes that the forward pass over a micro-batch keeps for the backward pass (its logits apart)."""
    kept = kept_by(model, precision)
    layers, largest, below = 0.0, 0.0, _below(model, tuning)  # bytes of all tokens; of one token
    for number, stack in enumerate(model.stacks):
        tokens = passes.written if number else passes.tokens
        token = kept.hidden * stack.hidden + kept.query * stack.queries + kept.key * stack.keys + kept.inner * stack.inner
        token += kept.score * stack.heads * passes.length + kept.span * model.span * stack.hidden / passes.length
        through = stack.layers * (1 - below if number == 0 else 1)
        token += _looking(model, passes, precision) if number == 0 else 0.0
        layers += tokens * through * (FP32 * stack.hidden if checkpointing else token)
        largest = max(largest, token)
    once = 0.0 if below else kept.once * model.hidden
    if model.sight is not None and passes.images:
        layers += LOOKED[precision == "bf16"].once * passes.images * model.sight.places * model.sight.tower.hidden
    return layers + (passes.tokens + passes.written) * once + (passes.tokens * largest if checkpointing else 0.0)


def _watching(model: Shape, passes: Passes) -> int:
    """Bytes of the vision tower, which stays beside a model that is shown images."""
    return FP32 * model.sight.tower.layers * model.sight.tower.parameters if model.sight is not None and passes.images else 0


def _looking(model: Shape, passes: Passes, precision: str) -> float:
    """Bytes that attention to images leaves in a layer, a token of the micro-batch."""
    if model.sight is None or not passes.images:
        return 0.0
    kept, own, sight = LOOKED[precision == "bf16"], model.stacks[0], model.sight
    places = passes.images * sight.places * (kept.key * own.keys + kept.seen * sight.tower.hidden)
    return kept.hidden * own.hidden + kept.score * own.heads * sight.places + places / passes.tokens


def train_memory(
    model: Shape, tuning: Tuning, passes: Passes, precision: str, heads: int = 0, best: bool = True, device: str = "cpu",
    layout: Layout = ALONE, chosen: Passes | None = None,
) -> Memory:  # fmt: skip
    """The peak of a training's process: on a CPU all of it; on a GPU what lies in its memory (`host_memory` is the rest).

    `chosen` are the batches that a selection predicts. A best state that is kept lies on the host. Where the word table is trimmed, its
    full form waits there for the end too. On a CPU nothing takes the room of anything else, see `SPARE`; on a GPU gradients come as what
    was kept goes, unless those of an earlier micro-batch are there already.
    """
    sharded = layout.parallel == "fsdp" and layout.size > 1
    share = layout.size if sharded else 1
    changed = trained(model, tuning, heads)
    table = _rows(model, tuning) * model.width
    held = model.parameters + heads - model.words + table
    weights = (FP32 * changed + tuning.weight * (held - (changed if tuning.body else heads))) / share
    weights += _watching(model, passes)
    if precision == "bf16" and not (layout.checkpointing and (sharded or not tuning.body)):
        # cast copies live until the backward pass has used them; autocast keeps none of weights that are not trained for the next layer
        weights += BF16 * _matrices(model)
    widest = max(model.stacks, key=lambda stack: stack.hidden + stack.inner)
    passing = passes.tokens * (BF16 if precision == "bf16" else FP32) * 2 * (widest.hidden + _feeds(widest) * widest.inner)
    if sharded:
        # what stands outside the layers stays gathered; a layer, the next one and a buffer to copy from (Zhao et al. 2023, arXiv
        # 2304.11277, section 3.3); a whole gradient and the buffer that it is reduced from
        outside = held - model.layers
        passing += FP32 * (outside + 3 * widest.parameters + (2 * max(outside, widest.parameters) if tuning.body else 0))
    kept = activations(model, tuning, passes, precision, layout.checkpointing) + passing
    selecting = _alive(model, chosen, precision) if chosen is not None else 0.0
    kept = SPARE * (kept + selecting) if device == "cpu" else max(kept, selecting)
    put_back = device == "cpu" and tuning.rows is not None and tuning.body
    return Memory(
        process=_process(model, device),
        weights=round(weights + (FP32 * model.words if put_back else 0)),  # the file of the full table is mapped
        gradients=round(FP32 * changed / share),
        moments=round(2 * FP32 * changed / share),
        best=round(FP32 * (held if tuning.body else changed) / share) if best and device == "cpu" else 0,
        kept=round(kept),
        logits=round(passes.logits * model.vocabulary * LOGIT),
        table=FP32 * model.words if put_back else 0,
        shared=device != "cpu" and passes.many == 1,
    )


def _process(model: Shape, device: str) -> int:
    return PROCESS + PIECE * model.vocabulary if device == "cpu" else PROCESS_GPU


def _feeds(stack: Stack) -> int:
    """1, or 2 where the feed-forward part is gated: so many more of its states are alive at once."""
    return max(1, (stack.matrices - 2 * stack.hidden * (stack.queries + stack.keys)) // (stack.hidden * stack.inner) - 1)


def _matrices(model: Shape) -> int:
    return sum(stack.layers * (stack.matrices + stack.source) for stack in model.stacks)


def predict_memory(model: Shape, passes: Passes, precision: str, heads: int = 0, device: str = "cpu", weight: float = FP32) -> Memory:
    """The peak of a prediction's process (on a GPU: of its memory): the weights, and what is alive inside one layer."""
    copies = BF16 * _matrices(model) if precision == "bf16" else 0
    return Memory(
        process=_process(model, device),
        weights=round(weight * model.parameters + FP32 * heads + copies + _watching(model, passes)),
        gradients=0,
        moments=0,
        best=0,
        kept=round((SPARE_PREDICTING if device == "cpu" else 1) * _alive(model, passes, precision)),
        logits=round(passes.logits * model.vocabulary * 2 * FP32),
        table=0,
        shared=False,
    )


def _alive(model: Shape, passes: Passes, precision: str) -> float:
    """Bytes of the states that are alive at once inside the widest layer of a prediction."""
    each, most = FP32 if precision == "fp32" else BF16, 0.0
    for stack in model.stacks:
        attention = 2 * stack.hidden * FP32 + each * (3 * stack.queries + 2 * stack.keys + 2 * stack.heads * passes.length)
        most = max(most, attention, 2 * stack.hidden * FP32 + each * 2 * _feeds(stack) * stack.inner)
    if model.sight is not None and passes.images:
        own, sight = model.stacks[0], model.sight
        places = passes.images * sight.places * (FP32 * sight.tower.hidden + 2 * each * own.keys)
        most = max(most, 2 * own.hidden * FP32 + each * (own.queries + 2 * own.heads * sight.places) + places / passes.tokens)
    return passes.tokens * most


def host_memory(model: Shape, tuning: Tuning, heads: int = 0, best: bool = True) -> int:
    """Bytes of a training's process beside a GPU: the weights as they were read, the best state, the full word table at the end."""
    held = model.parameters + heads - model.words + _rows(model, tuning) * model.width
    copies = (held if best and tuning.body else 0) + (model.words if tuning.rows is not None else 0)
    return _process(model, "cpu") + FP32 * (model.parameters + copies)
