"""From texts to rows of token ids: what every task kind needs of a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, first: Sequence[str], second: Sequence[str] | None, max_length: int
) -> tuple[list[list[int]], dict[str, list[list[int]]]]:
    """Rows of token ids with special tokens, the longer text of a pair cut first; and their type ids where used."""
    if not first:
        return [], {}
    made = tokenizer(
        list(first), None if second is None else list(second), truncation="longest_first", max_length=max_length,
        padding=False, return_attention_mask=False,
    )  # fmt: skip
    return made["input_ids"], {"types": made["token_type_ids"]} if "token_type_ids" in made else {}


def special_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that stand before and after one text."""
    made = tokenizer("a")
    texts = [place for place, owner in enumerate(made.sequence_ids(0)) if owner is not None]
    return made["input_ids"][: texts[0]], made["input_ids"][texts[-1] + 1 :]


def encode_words(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """Per sentence, per word its token ids; a word that the tokenizer drops becomes the unknown token."""
    if not sentences:
        return []
    made = tokenizer([list(s) for s in sentences], is_split_into_words=True, add_special_tokens=False, padding=False)
    result = []
    for number, sentence in enumerate(sentences):
        pieces: list[list[int]] = [[] for _ in sentence]
        for token, word in zip(made["input_ids"][number], made.word_ids(number), strict=True):
            if word is not None:
                pieces[word].append(token)
        result.append([p or [int(tokenizer.unk_token_id)] for p in pieces])
    return result


def runs(pieces: Sequence[Sequence[int]], room: int) -> list[list[int]]:
    """Word numbers in runs whose pieces fit into `room`; runs of about equal length, so that none is a bare rest."""
    total = sum(min(len(p), room) for p in pieces)
    aim = -(-total // max(1, -(-total // room)))
    runs: list[list[int]] = []
    used = room + 1
    for w, p in enumerate(pieces):
        need = min(len(p), room)
        if used + need > room or used >= aim:
            runs.append([])
            used = 0
        runs[-1].append(w)
        used += need
    return runs
