"""Tiny models that write, made on the spot: encoder-decoders and decoders over one small vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    LlamaConfig,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    T5Config,
    T5ForConditionalGeneration,
    XGLMConfig,
)

from xstilts.examples import Choice, Passage, Text, Words

SPECIALS = ["<pad>", "</s>", "<unk>", "<s>"]
DECODERS = ("llama", "qwen2", "gemma2", "bloom", "xglm")
WRITERS = ("mt5", "t5", *DECODERS)


def make_tokenizer(texts: Sequence[str], end: bool, begin: bool = False, extra: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Words cut before each space and each sign, in the manner of sentencepiece: what it decodes is what it read.

    `end` puts the end token after every text (encoder-decoders), `begin` the beginning token before it (some decoders).
    """
    from tokenizers import processors

    steps = [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace("▁"), pre_tokenizers.Punctuation("isolated")]
    cut = pre_tokenizers.Sequence(steps)
    pieces: dict[str, None] = dict.fromkeys([*SPECIALS, *extra])
    for text in [*texts, *(f"{text} {text}" for text in texts)]:
        pieces |= dict.fromkeys(piece for piece, _ in cut.pre_tokenize_str(text))
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    inner.pre_tokenizer = cut
    inner.decoder = decoders.Metaspace("▁")
    if end or begin:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{'<s> ' if begin else ''}$A{' </s>' if end else ''}", special_tokens=[("</s>", 1), ("<s>", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", **({"pad_token": "<pad>"} if end else {"bos_token": "<s>"}),
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def make_writer(folder: Path, family: str, texts: Sequence[str], width: int = 32, seed: int = 0) -> Path:
    """A two-layer model of a family in the plain transformers layout."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(texts, end=family in ("mt5", "t5"), begin=family in ("llama", "gemma2"))
    shape = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1}
    layers = {"d_model": width, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    seq2seq = {**shape, **layers, "decoder_start_token_id": 0, "dropout_rate": 0.1}
    deep = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
    causal = {**shape, **deep, "bos_token_id": 3}
    wide = {"intermediate_size": 64, "num_key_value_heads": 2}
    match family:
        case "mt5":
            model = MT5ForConditionalGeneration(MT5Config(**seq2seq, tie_word_embeddings=False))
        case "t5":
            model = T5ForConditionalGeneration(T5Config(**seq2seq))
        case "llama":
            model = AutoModelForCausalLM.from_config(LlamaConfig(**causal, **wide))
        case "qwen2":
            model = AutoModelForCausalLM.from_config(Qwen2Config(**causal, **wide))
        case "gemma2":  # a window of 6 tokens in every other layer, logits that are capped
            model = AutoModelForCausalLM.from_config(Gemma2Config(**causal, **wide, head_dim=8, sliding_window=6))
        case "bloom":
            model = AutoModelForCausalLM.from_config(BloomConfig(**shape, bos_token_id=3, hidden_size=width, n_layer=2, n_head=4))
        case _:
            sized = {"d_model": width, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4, "max_position_embeddings": 128}
            model = AutoModelForCausalLM.from_config(XGLMConfig(**shape, bos_token_id=3, **sized))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def texts_of(rows: Sequence[object], labels: Sequence[str] = ()) -> list[str]:
    """Every text that rows and the words around them hold."""
    found = [*labels, ": :", "\nanswer:", "\nAnswer:", "question: context: tag: choice1: choice2: premise: sentence1: sentence2: sentence:"]
    found += ["Text: Question: Which label fits, or ? Sentence 1: 2: $$ toy-classify toy-choose toy-tag toy-span choice1 choice2"]
    for each in rows:
        match each:
            case Text():
                found += [each.text, each.pair or ""]
            case Choice():
                found += [each.context, each.question, *each.options]
            case Words():
                found += [" ".join(each.words), *(f"{tag[2:]}: {word}" for tag, word in zip(each.tags or (), each.words, strict=False))]
            case Passage():
                found += [each.question, each.context]
    return found
