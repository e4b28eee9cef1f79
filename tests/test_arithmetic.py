"""What models cost: the arithmetic against real tensors, counted products and what torch keeps, on tiny models of every family."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from xstilts import arithmetic, models
from xstilts.arithmetic import Passes, Tuning
from xstilts.engine import heads, hf, packed
from xstilts.engine.batch import Batch
from xstilts.engine.dropout import Draws, replace_dropouts
from xstilts.errors import ModelError
from xstilts.stages import Layout

H, LAYERS, HEADS, INNER, PIECES = 64, 2, 4, 256, 96
ROWS, LENGTH = 4, 20

_PLAIN = {"hidden_size": H, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER}
_GROUPED = {**_PLAIN, "num_key_value_heads": 2, "intermediate_size": 150}
_T5 = {"d_model": H, "d_kv": 16, "d_ff": 128, "num_layers": LAYERS, "num_heads": HEADS}
_XLMR = {**_PLAIN, "pad_token_id": 1, "max_position_embeddings": 40}
_DEBERTA = {
    **_PLAIN, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
    "share_att_key": True, "type_vocab_size": 0, "position_biased_input": False,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _PLAIN,
    "xlm-roberta": _XLMR,
    "xlm-roberta-xl": _XLMR,
    "rembert": {**_PLAIN, "input_embedding_size": 24},
    "deberta-v2": _DEBERTA,
    "distilbert": {"dim": H, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER},
    "modernbert": {**_PLAIN, "intermediate_size": 128, "pad_token_id": 0},
    "mt5": _T5,
    "t5": {**_T5, "d_ff": INNER},
    "umt5": _T5,
    "llama": _GROUPED,
    "mistral": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 32},
    "gemma": {**_GROUPED, "head_dim": 16},
    "gemma2": {**_GROUPED, "head_dim": 16},
    "gemma3_text": {**_GROUPED, "head_dim": 16},
    "bloom": {"hidden_size": H, "n_layer": LAYERS, "n_head": HEADS},
    "xglm": {"d_model": H, "num_layers": LAYERS, "attention_heads": HEADS, "ffn_dim": INNER},
    "clip_text_model": _PLAIN,
}
FAST = ("bert", "xlm-roberta", "mt5", "llama")  # the others run where there is time
ALL = [family if family in FAST else pytest.param(family, marks=pytest.mark.slow) for family in CONFIGS]


def made(family: str, whole: bool = False) -> tuple[Any, arithmetic.Shape]:
    """A random model of the family, and the shape of its config: of T5 the encoder's, or that of all of it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=PIECES, **CONFIGS[family])
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    if hasattr(config, "hidden_dropout_prob"):
        config.hidden_dropout_prob = 0.1
    config.use_cache = False  # as hf.load_encoder has it
    kind: Any = transformers.MODEL_MAPPING[type(config)]
    extra = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
    model = AutoModel.from_config(config, **extra)
    hf.pack(model)
    return model, arithmetic.shape(config.to_dict(), whole)


def run(model: Any, draws: Draws | None = None) -> Tensor:
    """The states of ROWS rows of LENGTH tokens, as the engine asks for them."""
    ids = torch.randint(3, PIECES, (ROWS * LENGTH,))
    rows, lengths = np.arange(ROWS), np.full(ROWS, LENGTH)
    if draws is not None:
        draws.at(0, rows, lengths)
    if model.config.is_encoder_decoder:
        own = {} if model.training else {"attention_mask": torch.ones(ROWS, LENGTH, dtype=torch.long)}
        states: Tensor = model.get_encoder()(input_ids=ids.view(ROWS, LENGTH), **own).last_hidden_state
        return states
    return hf.hidden_states(model, Batch(ids, lengths, {}, {}, rows, rows))


def numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(autouse=True)
def exact_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The formulas count the tokens that there are; batches are not filled up here."""
    monkeypatch.setattr(packed, "rounded", lambda size, parts: size)


@pytest.mark.parametrize("family", CONFIGS)
def test_parameters_are_those_of_the_tensors(family: str) -> None:
    model, shape = made(family, whole=True)
    assert shape.parameters - shape.output == numbers(model)
    assert shape.words == model.get_input_embeddings().weight.numel()
    for stack, module in zip(shape.stacks, _stacks(model), strict=True):
        layers = module[1:]  # the first layer holds what all share
        assert stack.parameters == numbers(layers[0]) if layers else True


def _stacks(model: Any) -> list[Any]:
    if model.config.is_encoder_decoder:
        return [model.encoder.block, model.decoder.block]
    inner = getattr(model, "encoder", None) or getattr(model, "transformer", None) or model
    return [next(getattr(inner, name) for name in ("layer", "layers", "h") if hasattr(inner, name))]




@pytest.mark.parametrize("family", ALL)
def test_operations_are_those_that_torch_counts(family: str) -> None:
    model, shape = made(family)
    if not hf.packs(model):
        model.set_attn_implementation("eager")  # torch does not count its fused kernel for CPUs
    tokens, pairs = ROWS * LENGTH, ROWS * LENGTH**2
    with FlopCounterMode(display=False) as counter:
        states = run(model)
    # DeBERTa projects its relative positions once a pass, whatever the tokens: little beside a batch of thousands, much here
    once = 2 * 2 * H * H * shape.span * LAYERS
    assert counter.get_total_flops() - once == pytest.approx(arithmetic.forward(shape, tokens, pairs), rel=0.03)
    with FlopCounterMode(display=False) as counter:
        states.sum().backward()
    both = arithmetic.training(shape, Tuning(), tokens, pairs)
    assert counter.get_total_flops() - 2 * once == pytest.approx(both - arithmetic.forward(shape, tokens, pairs), rel=0.05)


def kept(model: Any, precision: str) -> int:
    """Bytes of what autograd keeps of a forward pass, the weights and their cast copies apart."""
    storages: dict[int, tuple[int, Tensor]] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    shapes = {tuple(p.shape) for p in model.parameters()}
    shapes |= {shape[::-1] for shape in shapes}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        cast = tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shapes and tensor.shape[0] != ROWS * LENGTH
        if storage.data_ptr() not in weights and not cast:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    draws = Draws(0.1, 0)
    replace_dropouts(model.train(), draws)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), hf.autocast("cpu", precision):
        run(model, draws)
    return sum(size for size, _ in storages.values())


@pytest.mark.parametrize("family", ALL)
def test_what_is_kept_for_the_backward_pass_is_what_torch_saves(family: str) -> None:
    model, shape = made(family)
    for precision in ("fp32", "bf16"):
        counted = arithmetic.activations(shape, Tuning(), Passes(ROWS * LENGTH, LENGTH), precision)
        assert counted == pytest.approx(kept(model, precision), rel=0.08), precision


def test_operations_of_an_encoder_and_decoder_with_its_softmax() -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("mt5", vocab_size=PIECES, tie_word_embeddings=False, **_T5)
    model = transformers.MT5ForConditionalGeneration(config)
    shape = arithmetic.shape(config.to_dict(), whole=True)
    assert shape.parameters == numbers(model)
    target, ids = 6, torch.randint(3, PIECES, (ROWS, LENGTH))
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=ids, labels=ids[:, :target].contiguous()).loss
    tokens, pairs, written = ROWS * LENGTH, ROWS * LENGTH**2, ROWS * target
    both = (written, written * (target + LENGTH), written)
    assert counter.get_total_flops() == pytest.approx(arithmetic.forward(shape, tokens, pairs, *both), rel=0.01)
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    backward = arithmetic.training(shape, Tuning(), tokens, pairs, *both) - arithmetic.forward(shape, tokens, pairs, *both)
    assert counter.get_total_flops() == pytest.approx(backward, rel=0.05)


@pytest.mark.parametrize("embeddings, frozen", [(True, 1), (False, 0), (False, 1), (False, 2)])
def test_what_is_not_trained_is_not_counted(embeddings: bool, frozen: int) -> None:
    model, shape = made("bert")
    hf.freeze(model, not embeddings, frozen)
    tuning = Tuning(embeddings=embeddings, frozen=frozen)
    assert arithmetic.trained(shape, tuning) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    tokens, pairs = ROWS * LENGTH, ROWS * LENGTH**2
    states = run(model)
    if states.requires_grad:
        with FlopCounterMode(display=False) as counter:
            states.sum().backward()
        backward = arithmetic.training(shape, tuning, tokens, pairs) - arithmetic.forward(shape, tokens, pairs)
        assert counter.get_total_flops() == pytest.approx(backward, rel=0.12)  # the lowest matrices give no gradient to what is below
    else:
        assert arithmetic.training(shape, tuning, tokens, pairs) == arithmetic.forward(shape, tokens, pairs)
        assert arithmetic.activations(shape, tuning, Passes(tokens, LENGTH), "fp32") == 0
    # a frozen layer above something that is trained keeps no inputs of its matrices; it is reckoned as any other
    counted, real = arithmetic.activations(shape, tuning, Passes(tokens, LENGTH), "fp32"), kept(model, "fp32")
    assert 0.9 * real <= counted <= (1.2 if embeddings else 1.1) * real


def test_heads_are_those_of_the_engine() -> None:
    pairs = {
        "classify": heads.SentenceHead(H, 3, 0.1), "choose": heads.SentenceHead(H, 1, 0.1), "tag": heads.TokenHead(H, 3, 0.1),
        "span": heads.TokenHead(H, 2, 0.1), "mask": heads.VocabularyHead(H, PIECES),
    }  # fmt: skip
    for kind, head in pairs.items():
        assert arithmetic.head(kind, H, 3, PIECES) == numbers(head), kind
    assert arithmetic.head("retrieve", H, 0, PIECES) == 0


def test_published_numbers_of_parameters() -> None:
    # in millions: model cards and papers of the checkpoints (XLM-R and mBERT without the pooling layer of their cards' counts)
    published = {
        "google-bert/bert-base-multilingual-cased": 177.3, "FacebookAI/xlm-roberta-base": 277.5, "FacebookAI/xlm-roberta-large": 558.8,
        "facebook/xlm-roberta-xl": 3480, "facebook/xlm-roberta-xxl": 10700, "google/mt5-small": 300, "google/mt5-base": 580,
        "google/mt5-large": 1230, "google/mt5-xl": 3740, "google/mt5-xxl": 12900, "meta-llama/Llama-2-7b-hf": 6738.4,
        "meta-llama/Llama-2-13b-hf": 13015.9, "meta-llama/Llama-3.1-8B": 8030.3, "meta-llama/Llama-3.2-3B": 3212.7,
        "mistralai/Mistral-7B-v0.1": 7241.7, "Qwen/Qwen2.5-3B": 3085.9, "Qwen/Qwen2.5-7B": 7615.6, "google/gemma-2-2b": 2614.3,
        "google/gemma-2-9b": 9241.7, "bigscience/bloom-560m": 559.2, "bigscience/bloom-7b1": 7069.0, "facebook/xglm-564M": 564.5,
        "jhu-clsp/mmBERT-base": 307, "jhu-clsp/mmBERT-small": 140, "google/rembert": 576, "microsoft/mdeberta-v3-base": 278,
    }  # fmt: skip
    for name, millions in published.items():
        assert arithmetic.shape(models.checkpoints()[name], whole=True).parameters / 1e6 == pytest.approx(millions, rel=0.005), name


def test_the_text_tower_of_a_larger_model() -> None:
    text = {"hidden_size": H, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": INNER, "vocab_size": PIECES}
    tower = arithmetic.shape({"model_type": "clip", "text_config": text})
    assert tower.family == "clip_text_model" and tower.parameters == numbers(made("clip_text_model")[0])
    with pytest.raises(ModelError, match='no "hidden_size"'):
        arithmetic.shape({"model_type": "bert"})


def test_memory_by_hand() -> None:
    # 2 layers, 8 wide, 2 heads, 16 in the middle: a layer has 4 * 8 * 8 + 2 * 8 * 16 in matrices, 4 * 8 + 16 + 8 in biases, 4 * 8 in norms
    shape = arithmetic.shape({
        "model_type": "bert", "vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 10, "type_vocab_size": 2,
    })  # fmt: skip
    assert (shape.words, shape.embedding, shape.layers) == (800, (100 + 10 + 2) * 8 + 16, 2 * 600)
    parameters, kept = 912 + 1200, 5 * (2 * (24 * 8 + 16 * 8 + 8 * 16 + 4 * 2 * 3) + 8 * 8)
    passing, spare = 5 * 4 * 2 * (8 + 16), arithmetic.SPARE
    found = arithmetic.train_memory(shape, Tuning(), Passes(5, 3), "fp32", heads=4)
    assert (found.weights, found.gradients, found.moments) == (4 * (parameters + 4), 4 * (parameters + 4), 8 * (parameters + 4))
    assert (found.best, found.kept, found.table) == (4 * (parameters + 4), round(spare * (kept + passing)), 0)
    assert found.peak == found.process + 5 * found.weights + found.kept
    # 20 of the 100 rows take part; the whole table waits beside them
    trimmed = arithmetic.train_memory(shape, Tuning(rows=20), Passes(5, 3), "fp32", best=False)
    assert (trimmed.gradients, trimmed.weights, trimmed.table) == (4 * (parameters - 640), 4 * (parameters - 640) + 3200, 3200)
    # on a GPU gradients come as what was kept goes, unless there are some already
    gpu = [arithmetic.train_memory(shape, Tuning(), Passes(5, 3, many), "fp32", device="cuda") for many in (1, 2)]
    assert [each.peak for each in gpu] == [
        arithmetic.PROCESS_GPU + 12 * parameters + max(kept + passing, 4 * parameters),
        arithmetic.PROCESS_GPU + 16 * parameters + kept + passing,
    ]  # fmt: skip
    # bf16: cast copies of the matrices, and the table of `Kept`
    half = arithmetic.train_memory(shape, Tuning(), Passes(5, 3), "bf16")
    assert half.weights == 4 * parameters + 2 * 1024
    assert half.kept == round(spare * (5 * (2 * (20 * 8 + 8 * 8 + 4 * 16 + 2 * 2 * 3) + 8 * 8) + passing // 2))
    # adapters of rank 3 on all matrices; weights of four bits
    lora = arithmetic.train_memory(shape, Tuning(body=False, rank=3, weight=arithmetic.FOUR_BIT), Passes(5, 3), "fp32")
    own = 2 * 3 * (4 * (8 + 8) + 2 * (8 + 16))
    assert (lora.gradients, lora.weights) == (4 * own, round(arithmetic.FOUR_BIT * parameters + 4 * own))
    # two processes: the whole in each, or half of it in each
    copied, sharded = (
        arithmetic.train_memory(shape, Tuning(), Passes(5, 3), "fp32", device="cuda", layout=Layout(2, way)) for way in ("ddp", "fsdp")
    )
    assert copied.moments == 2 * sharded.moments == 8 * parameters and copied.weights == 2 * sharded.weights
    assert sharded.kept == copied.kept + 4 * (912 + 3 * 600) + 8 * 912  # gathered: all but the layers, three layers; a gradient, twice
    # checkpointing: the inputs of the layers, and one layer in full
    again = arithmetic.train_memory(shape, Tuning(), Passes(5, 3), "fp32", layout=Layout(checkpointing=True))
    assert again.kept == round(spare * (5 * (2 * 4 * 8 + 8 * 8 + (24 * 8 + 16 * 8 + 8 * 16 + 4 * 2 * 3)) + passing))
    # weights that are not trained have no cast copies then, see the test of autocast below
    frozen = [
        arithmetic.train_memory(shape, Tuning(body=False, rank=3), Passes(5, 3), precision, layout=Layout(checkpointing=again)).weights
        for precision, again in (("fp32", True), ("bf16", True), ("bf16", False))
    ]
    assert frozen == [frozen[0], frozen[0], frozen[0] + 2 * 1024]
    # a softmax over the vocabulary for 7 positions; a prediction
    assert arithmetic.train_memory(shape, Tuning(), Passes(5, 3, logits=7), "fp32").logits == 7 * 100 * 16
    answers = arithmetic.predict_memory(shape, Passes(5, 3), "fp32", heads=4)
    alive = 5 * (4 * 16 + 4 * (5 * 8 + 2 * 2 * 3))
    assert (answers.weights, answers.kept) == (4 * (parameters + 4), round(arithmetic.SPARE_PREDICTING * alive))
    chosen = arithmetic.train_memory(shape, Tuning(), Passes(5, 3), "fp32", chosen=Passes(5, 3))
    assert chosen.kept == round(spare * (kept + passing + alive))


@pytest.mark.parametrize("trained", [True, False])
def test_autocast_keeps_the_cast_copies_of_trained_matrices_alone(trained: bool) -> None:
    matrix, x = torch.nn.Linear(8, 8, bias=False).requires_grad_(trained), torch.zeros(3, 8, requires_grad=True)
    casts: list[object] = []

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "_to_copy" in str(func) and args[0].shape == (8, 8):
                casts.append(func)
            return func(*args, **(kwargs or {}))

    with Casts(), hf.autocast("cpu", "bf16"):
        for _ in range(3):
            matrix(x)
    assert len(casts) == (1 if trained else 3)
