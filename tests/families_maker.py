"""Two-layer models of every architecture with random weights, as checkpoints of their kind come: encoders, encoder-decoders, towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from engine_maker import SPECIALS, WORDS, make_tokenizer

_SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32, "max_position_embeddings": 66}
_BERT = {**_SHAPE, "pad_token_id": 1, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
_LLAMA = {**_SHAPE, "num_key_value_heads": 2, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "attention_dropout": 0.1}
_GEMMA = {**_LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6}
_T5 = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0, "dropout_rate": 0.1}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 66, "bos_token_id": 0, "eos_token_id": 2}
_SEES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32, "image_size": 16, "patch_size": 8}
_TEXT = {**_BERT, "projection_dim": 16, "projection_size": 16, "bos_token_id": 0, "eos_token_id": 2, "attention_dropout": 0.1}


def _towers(config: str, text: Mapping[str, Any] = _TEXT, **more: Any) -> Callable[[int], Any]:
    sees = {key: value for key, value in _SEES.items() if config != "Siglip2Config" or key != "image_size"}
    return lambda vocabulary: getattr(transformers, config)(text_config={**text, "vocab_size": vocabulary}, vision_config=sees, **more)


def _plain(config: str, shape: Mapping[str, Any], **more: Any) -> Callable[[int], Any]:
    return lambda vocabulary: getattr(transformers, config)(vocab_size=vocabulary, **shape, **more)


@dataclass(frozen=True)
class Tiny:
    """How a family's checkpoint is made: config, class, and what its tokenizers look like."""

    config: Callable[[int], Any]
    kind: str
    tokenizer: str = "pairs"  # see `tokenizer`


TINY: Mapping[str, Tiny] = {
    "bert": Tiny(_plain("BertConfig", _BERT), "BertModel", "types"),
    "distilbert": Tiny(
        _plain("DistilBertConfig", {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 32, "max_position_embeddings": 66}),
        "DistilBertModel", "types",
    ),
    "roberta": Tiny(_plain("RobertaConfig", _BERT, type_vocab_size=1), "RobertaModel"),
    "camembert": Tiny(_plain("CamembertConfig", _BERT, type_vocab_size=1), "CamembertModel"),
    "xlm-roberta": Tiny(_plain("XLMRobertaConfig", _BERT, type_vocab_size=1), "XLMRobertaForMaskedLM"),
    "xlm-roberta-xl": Tiny(_plain("XLMRobertaXLConfig", _BERT, type_vocab_size=1), "XLMRobertaXLModel"),
    "deberta-v2": Tiny(
        _plain("DebertaV2Config", _BERT, type_vocab_size=0, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"],
               norm_rel_ebd="layer_norm", share_att_key=True, position_biased_input=False), "DebertaV2Model", "types",
    ),
    "rembert": Tiny(_plain("RemBertConfig", _BERT, input_embedding_size=8, output_embedding_size=24), "RemBertModel", "types"),
    "modernbert": Tiny(
        _plain("ModernBertConfig", _SHAPE, pad_token_id=1, global_attn_every_n_layers=2, local_attention=8), "ModernBertForMaskedLM"
    ),
    "electra": Tiny(_plain("ElectraConfig", _BERT, embedding_size=16), "ElectraModel", "types"),  # without a row in the table
    "t5": Tiny(_plain("T5Config", _T5), "T5ForConditionalGeneration", "ends"),
    "mt5": Tiny(_plain("MT5Config", _T5), "MT5ForConditionalGeneration", "ends"),
    "umt5": Tiny(_plain("UMT5Config", _T5), "UMT5ForConditionalGeneration", "ends"),
    "llama": Tiny(_plain("LlamaConfig", _LLAMA), "LlamaForCausalLM", "begins"),
    "mistral": Tiny(_plain("MistralConfig", _LLAMA, sliding_window=6), "MistralForCausalLM", "begins"),
    "qwen2": Tiny(_plain("Qwen2Config", _LLAMA), "Qwen2ForCausalLM", "bytes"),
    "qwen3": Tiny(_plain("Qwen3Config", _LLAMA, head_dim=8), "Qwen3ForCausalLM", "bytes"),
    "gemma": Tiny(_plain("GemmaConfig", _LLAMA, head_dim=8), "GemmaForCausalLM", "begins"),
    "gemma2": Tiny(_plain("Gemma2Config", _GEMMA), "Gemma2ForCausalLM", "begins"),
    "gemma3_text": Tiny(_plain("Gemma3TextConfig", _GEMMA), "Gemma3ForCausalLM", "begins"),
    "gemma3": Tiny(_towers("Gemma3Config", _GEMMA, mm_tokens_per_image=4), "Gemma3ForConditionalGeneration", "begins"),
    "bloom": Tiny(
        _plain("BloomConfig", {"hidden_size": 16, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.1}, bos_token_id=0, eos_token_id=2),
        "BloomForCausalLM", "bytes",
    ),
    "xglm": Tiny(
        _plain("XGLMConfig", {"d_model": 16, "num_layers": 2, "attention_heads": 4, "ffn_dim": 32, "max_position_embeddings": 66}),
        "XGLMForCausalLM", "begins",
    ),
    "gpt2": Tiny(_plain("GPT2Config", _GPT), "GPT2LMHeadModel", "bytes"),
    "gpt_neo": Tiny(
        _plain("GPTNeoConfig", {"hidden_size": 16, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
                                "window_size": 6, "max_position_embeddings": 66}, bos_token_id=0, eos_token_id=2),
        "GPTNeoForCausalLM", "bytes",
    ),
    "gpt_neox": Tiny(_plain("GPTNeoXConfig", _SHAPE, hidden_dropout=0.1, bos_token_id=0, eos_token_id=2), "GPTNeoXForCausalLM", "bytes"),
    "olmo2": Tiny(_plain("Olmo2Config", _LLAMA), "Olmo2ForCausalLM", "bytes"),  # without a row in the table
    "blip": Tiny(_towers("BlipConfig", {**_TEXT, "encoder_hidden_size": 16}, projection_dim=16), "BlipForImageTextRetrieval", "types"),
    "clip": Tiny(_towers("CLIPConfig", projection_dim=16), "CLIPModel", "pairs"),
    "siglip": Tiny(_towers("SiglipConfig"), "SiglipModel", "ends"),
    "siglip2": Tiny(_towers("Siglip2Config"), "Siglip2Model", "ends"),
    "altclip": Tiny(_towers("AltCLIPConfig", {**_TEXT, "project_dim": 16, "type_vocab_size": 1}, projection_dim=16), "AltCLIPModel"),
}  # fmt: skip


def tokenizer(like: str) -> PreTrainedTokenizerFast:
    """A tokenizer with a template like BERT's ("types"), XLM-R's ("pairs"), T5's ("ends"), Llama's ("begins"), Qwen's byte-level
    one without any ("bytes"), or of words without any special token but unknown ("bare"). Those of generating models pad left.
    """
    if like in ("types", "pairs"):
        return make_tokenizer(types=like == "types")
    if like == "bytes":
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        inner.add_special_tokens([AddedToken(token, special=True) for token in ("<s>", "<pad>", "<|end|>")])
        learn = trainers.BpeTrainer(
            vocab_size=330, special_tokens=["<s>", "<pad>", "<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )  # fmt: skip
        inner.train_from_iterator([" ".join(WORDS), "the red the blue is red is blue"], learn)
        return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", padding_side="left", truncation_side="left")
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIALS, *WORDS])}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if like == "bare":
        return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    single, pair, marks = {
        "ends": ("$A </s>", "$A </s> $B:1 </s>:1", [("</s>", 2)]),
        "begins": ("<s> $A", "<s> $A <s> $B:1", [("<s>", 0)]),
    }[like]
    inner.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=marks)
    more = {"bos_token": "<s>", "padding_side": "left"} if like == "begins" else {"pad_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", **more)


def make(folder: Path, family: str, like: str = "") -> Path:
    """A checkpoint of a family, weights drawn wide enough for answers to differ."""
    tiny = TINY[family]
    made = tokenizer(like or tiny.tokenizer)
    torch.manual_seed(0)
    model = getattr(transformers, tiny.kind)(tiny.config(len(made) + 3))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder
