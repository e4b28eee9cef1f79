"""Translation with a sequence-to-sequence model of transformers: Marian, M2M100 and NLLB, mBART, T5 and mT5.

Sentences of like length go together, so that little is padded; greedy or beam search, never sampled. A sentence that is
longer than the model takes, and a translation that does not end, come back as "" (its row then stays out).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from xstilts.engine import hf
from xstilts.errors import ModelError
from xstilts.examples import CLOSE, OPEN
from xstilts.stages import Seq2Seq
from xstilts.translations import Translator

TOKENS = 2048  # of a batch, padding and beams included
LONGER = 2.0  # a translation may have this many times the tokens of its original, and
MORE = 20  # so many more
_BRACKETS = re.compile(r"[\[\]]")


def translator(by: Seq2Seq, folder: Path, device: str = "cpu", precision: str = "fp32") -> Translator:
    """The translator of a model folder. Raises ModelError for a folder or a language token that the model does not have."""
    model, tokenizer = _load(folder)
    begin = _tokens(by, tokenizer, folder)
    model = model.to(device).eval()
    config = model.config
    longest = int(getattr(config, "max_position_embeddings", 0) or getattr(config, "n_positions", 0) or 512)

    def encoded(texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        found: list[list[int]] = tokenizer([by.prefix + _bracketed(text) for text in texts], return_attention_mask=False)["input_ids"]
        return found

    def batches(texts: Sequence[str]) -> list[list[int]]:
        lengths = [len(ids) for ids in encoded(texts)]
        order = sorted(range(len(texts)), key=lambda place: (-lengths[place], place))
        found: list[list[int]] = []
        room = 0
        for place in order:  # from the longest down: a batch's first decides its width
            if not found or room < 1:
                found.append([])
                room = max(1, TOKENS // (max(1, lengths[place]) * by.beams))
            found[-1].append(place)
            room -= 1
        return found

    def translate(texts: Sequence[str]) -> list[str]:
        rows = encoded(texts)
        fits = [place for place, ids in enumerate(rows) if len(ids) <= longest]
        out = [""] * len(texts)
        if not fits:
            return out
        padded = tokenizer.pad({"input_ids": [rows[place] for place in fits]}, return_tensors="pt").to(device)
        most = min(longest - 1, int(LONGER * padded["input_ids"].shape[1]) + MORE)
        with torch.inference_mode(), hf.autocast(device, precision):
            made = model.generate(
                input_ids=padded["input_ids"], attention_mask=padded["attention_mask"], num_beams=by.beams, do_sample=False,
                max_new_tokens=most, max_length=None, forced_eos_token_id=None, **begin,
            )  # fmt: skip
        for place, ids in zip(fits, made.tolist(), strict=True):
            if tokenizer.eos_token_id in ids[1:]:
                text = tokenizer.decode(ids, skip_special_tokens=True).strip()
                out[place] = _marked(texts[place], text)
        return out

    return Translator(batches, translate)


def _load(folder: Path) -> tuple[Any, Any]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a sequence-to-sequence model: {error}") from None
    return model, tokenizer


def _tokens(by: Seq2Seq, tokenizer: Any, folder: Path) -> dict[str, int]:
    """Tells the tokenizer the source language; what `generate` needs for the target language."""
    for name, code in (("source", by.source), ("target", by.target)):
        if code and _token(tokenizer, code) is None:
            known = [token for token in tokenizer.get_added_vocab() if not token.startswith("<")]
            some = f" (some of its tokens: {', '.join(sorted(known)[:6])})" if known else ""
            raise ModelError(f'{folder}: the model has no language "{code}" for {name}{some}')
    if by.source:
        tokenizer.src_lang = by.source
    return {"forced_bos_token_id": int(_token(tokenizer, by.target) or 0)} if by.target else {}


def _token(tokenizer: Any, code: str) -> int | None:
    """The id of a language's token: "spa_Latn" (NLLB), "es_XX" (mBART), "__es__" (M2M100)."""
    for name in (code, f"__{code}__"):
        found = tokenizer.convert_tokens_to_ids(name)
        if isinstance(found, int) and found != tokenizer.unk_token_id:
            return found
    return None


def _bracketed(text: str) -> str:
    """A marked span in square brackets, as Chen et al. 2023 (EasyProject, arXiv 2211.15613) mark it."""
    return text.replace(OPEN, "[").replace(CLOSE, "]")


def _marked(source: str, text: str) -> str:
    """The translation with the marks back in place of its brackets; without marks where the source had brackets of its own."""
    if OPEN not in source or _BRACKETS.search(source):
        return text
    return text.replace("[", OPEN).replace("]", CLOSE)
