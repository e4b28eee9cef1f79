"""The architectures that heads can be put on: what is true of each, by the `model_type` of its config.

What is not here and has a plain encoder in transformers is loaded as one (`OTHER`), more slowly: rows are padded and the whole
vocabulary is trained. Nothing here loads a library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from xstilts.task import KINDS

Pool = Literal["first", "mean", "last"]
POOLS: tuple[Pool, ...] = ("first", "mean", "last")
TUNINGS = ("full", "lora", "qlora", "prompt", "head")  # see `stages.Recipe.tuning`


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture. The defaults are those of BERT-like encoders."""

    name: str
    shape: Literal["encoder", "encoder of an encoder-decoder", "decoder", "text tower"] = "encoder"
    loads: str = "AutoModel"  # the class of transformers that takes the folder
    causal: bool = False  # a token sees only what stands before it
    pool: Pool = "first"  # the sentence vector where nobody asks for another
    packs: bool = False  # takes rows without padding: positions can be handed in, and attention goes through transformers' interface
    after_padding: bool = False  # positions count from the padding token's id on
    embeddings: tuple[str, ...] = ("embeddings",)  # the modules of words and positions
    layers: str = "encoder.layer"  # the stack of layers
    dropout: tuple[str, ...] = ("hidden_dropout_prob",)  # config fields whose dropouts are modules; no other dropout is used
    tensors: tuple[tuple[str, str], ...] = ()  # of a larger checkpoint: its names of this part begin so, ours so
    becomes: str = ""  # the model_type that the part is a plain model of
    no_mask: str = ""  # why masked language modelling cannot be trained; "" where it can
    no_lora: str = ""  # why LoRA cannot be trained on it
    no_prompts: str = ""  # why soft prompts cannot
    no_images: str = "its text layers do not attend to images; the whole checkpoints of BLIP's do"  # "" where they do
    note: str = ""  # what a reader of any result must know


_APART = "its attention does not go through transformers' interface, where prompts are put before the keys"
_ROBERTA = Family("RoBERTa", packs=True, after_padding=True)
_T5 = Family(
    "T5", "encoder of an encoder-decoder", "T5EncoderModel", pool="mean", embeddings=("shared",), layers="encoder.block",
    dropout=("dropout_rate",), tensors=(("shared.", "shared."), ("encoder.", "encoder.")),
    no_mask="an encoder without its decoder has no head over the vocabulary, and T5 fills in spans with the decoder",
)  # fmt: skip
_LLAMA = Family(
    "Llama", "decoder", causal=True, pool="last", packs=True, embeddings=("embed_tokens",), layers="layers", dropout=(),
    no_mask="in a causal model a hidden token's own place sees nothing to the right of it",
)  # fmt: skip
_CLIP = replace(
    _LLAMA, name="CLIP's text tower", shape="text tower", loads="CLIPTextModel", packs=False, embeddings=("embeddings",),
    layers="encoder.layers",
)  # fmt: skip
# SigLIP's own sentence vector is the state of the last place (transformers' SiglipTextModel)
_SIGLIP = replace(
    _CLIP, name="SigLIP's text tower", loads="SiglipTextModel", causal=False, no_mask="its tokenizer has no mask token",
    note="SigLIP's text tower was trained on rows padded to 64 tokens that attend to the padding; here rows are read without padding.",
)  # fmt: skip
_SIGLIP2 = replace(_SIGLIP, name="SigLIP 2's text tower", loads="Siglip2TextModel")
_BLIP = Family(
    "BLIP's text tower", "text tower", "BlipTextModel",
    note="BLIP's text tower is one 12-layer English encoder, with an English vocabulary, in BLIP base and BLIP large alike: "
    "text tasks say nothing about model size, and where most words of a language are unknown tokens, little about that language.",
    no_prompts=_APART, no_images="a text tower alone has no vision tower; give the whole checkpoint",
)  # fmt: skip
_GPT2 = replace(_LLAMA, name="GPT-2", embeddings=("wte", "wpe"), layers="h", dropout=("resid_pdrop", "embd_pdrop"))

# mean pooling of T5's encoder: Ni et al. 2022, Sentence-T5, arXiv 2108.08877
FAMILIES: Mapping[str, Family] = {
    "bert": Family("BERT", packs=True),
    "distilbert": Family("DistilBERT", layers="transformer.layer", dropout=("dropout",)),
    "roberta": _ROBERTA,
    "camembert": replace(_ROBERTA, name="CamemBERT"),
    "xlm-roberta": replace(_ROBERTA, name="XLM-R"),
    "xlm-roberta-xl": replace(_ROBERTA, name="XLM-R XL"),
    "deberta-v2": Family("DeBERTa-v2/v3", embeddings=("embeddings", "encoder.rel_embeddings"), no_prompts=_APART),
    "rembert": Family(
        "RemBERT", no_prompts=_APART,
        no_mask="its output embeddings are not its input embeddings, and an encoder's folder does not hold them",
    ),
    "modernbert": Family("ModernBERT", packs=True, layers="layers", dropout=("embedding_dropout", "mlp_dropout")),
    "t5": _T5,
    "mt5": replace(_T5, name="mT5", loads="MT5EncoderModel"),
    "umt5": replace(_T5, name="umT5", loads="UMT5EncoderModel"),
    "llama": _LLAMA,
    "mistral": replace(_LLAMA, name="Mistral"),
    "qwen2": replace(_LLAMA, name="Qwen2"),
    "qwen3": replace(_LLAMA, name="Qwen3"),
    "gemma": replace(_LLAMA, name="Gemma"),
    "gemma2": replace(_LLAMA, name="Gemma 2", packs=False, no_prompts="it caps the attention scores"),
    "gemma3_text": replace(_LLAMA, name="Gemma 3"),
    "gemma3": replace(_LLAMA, name="Gemma 3", loads="Gemma3TextModel", tensors=(("language_model.model.", ""),)),
    "bloom": replace(
        _LLAMA, name="BLOOM", packs=False, no_prompts=_APART, embeddings=("word_embeddings", "word_embeddings_layernorm"), layers="h",
    ),
    "xglm": replace(_LLAMA, name="XGLM", packs=False, no_prompts=_APART),
    "gpt2": replace(_GPT2, no_lora="its matrices are no linear layers of torch"),
    "gpt_neo": replace(_GPT2, name="GPT-Neo", packs=False, no_prompts=_APART, dropout=("resid_dropout", "embed_dropout")),
    "gpt_neox": replace(_LLAMA, name="GPT-NeoX", embeddings=("embed_in",), dropout=("hidden_dropout",)),
    "blip_text_model": _BLIP,
    "blip": replace(_BLIP, no_images="", tensors=(("text_model.", ""), ("text_encoder.", ""))),
    "clip_text_model": _CLIP,
    "clip": replace(_CLIP, tensors=(("text_model.", ""),)),
    "siglip_text_model": _SIGLIP,
    "siglip": replace(_SIGLIP, tensors=(("text_model.", ""),)),
    "siglip2_text_model": _SIGLIP2,
    "siglip2": replace(_SIGLIP2, tensors=(("text_model.", ""),)),
    "altclip": replace(
        _ROBERTA, name="AltCLIP's text tower", shape="text tower", loads="XLMRobertaModel", tensors=(("text_model.roberta.", ""),),
        becomes="xlm-roberta",
    ),
}  # fmt: skip

OTHER = Family("an encoder that has no row in the table")
OTHER_DECODER = replace(_LLAMA, name="a decoder that has no row in the table", packs=False)
_DECODES = ("ForCausalLM", "LMHeadModel")


def family_of(config: Mapping[str, object]) -> Family:
    """The family of a model folder's config. Without a row, it is a decoder when the config says that it writes text."""
    found = FAMILIES.get(str(config.get("model_type")))
    if found is None:
        written = config.get("architectures")
        named = [str(each) for each in written] if isinstance(written, list | tuple) else []
        return OTHER_DECODER if any(name.endswith(_DECODES) for name in named) else OTHER
    if config.get("use_bidirectional_attention"):  # Gemma as an encoder
        return replace(found, causal=False, pool="mean", packs=False, no_mask="its tokenizer has no mask token")
    return found


def refusal(family: Family, kind: str, tuning: str = "full", images: bool = False) -> str | None:
    """Why a task kind cannot be trained or scored on a family in a way of tuning (one of TUNINGS); None where it can.

    `images`: of a task whose rows have images.
    """
    if images and family.no_images:
        return family.no_images
    if kind == "mask" and family.no_mask:
        return family.no_mask
    reasons = {"lora": family.no_lora, "qlora": family.no_lora, "prompt": family.no_prompts}
    return reasons.get(tuning) or None


SEEN = "classify, with images"  # in the matrix


def matrix() -> Iterator[tuple[str, str, str, str | None]]:
    """Every cell of architecture x task kind x way of tuning: the architecture's name, the kind, the way, why it is refused.

    Classification of rows that have images (`SEEN`) counts as a kind here.
    """
    families = {family.name: family for family in (*FAMILIES.values(), OTHER, OTHER_DECODER)}
    for name, family in families.items():
        for kind in (*KINDS, SEEN):
            for tuning in TUNINGS:
                yield name, kind, tuning, refusal(family, kind, tuning, images=kind == SEEN)
