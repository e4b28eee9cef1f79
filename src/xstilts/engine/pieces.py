"""From texts to rows of token ids: what every task kind needs of a tokenizer.

A row is what the tokenizer's own template makes of one text or a pair, with two things put in where the template has
none, as those of generating models have none: something between the texts of a pair (its separator token, else a line
break), and a special token at the end (its end-of-text token), which is never cut. So a row is never empty, and in a
causal model its last token has seen all of it. Which side a tokenizer pads does not matter: nothing is padded here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

Owners = Sequence[int | None]  # of each token of a row: 0 or 1, the text that it is of; None for special tokens


@dataclass(frozen=True)
class Marks:
    """Token ids that rows get beside those of the tokenizer's template; () where that has its own."""

    between: tuple[int, ...]
    after: tuple[int, ...]

    def put(self, row: Sequence[Any], owners: Owners, between: Any = None, after: Any = None) -> list[Any]:
        """A row of token ids with the marks in it, or a row that goes with one, with these values at their places."""
        middle = owners.index(1) if 1 in owners else len(row)
        inner = list(self.between if between is None else [between] * len(self.between)) if 1 in owners else []
        outer = list(self.after if after is None else [after] * len(self.after))
        return [*row[:middle], *inner, *row[middle:], *outer]


def marks(tokenizer: PreTrainedTokenizerBase) -> Marks:
    """What a tokenizer's template lacks, found by looking at a pair."""
    owners: Owners = tokenizer("a", "a").sequence_ids(0)
    texts = [place for place, owner in enumerate(owners) if owner is not None]
    parted = any(owners[place] is None for place in range(texts[0], texts[-1])) if texts else True
    after = () if owners and owners[-1] is None and texts and texts[-1] < len(owners) - 1 else (_end(tokenizer),)
    if parted:
        return Marks((), after)
    if tokenizer.sep_token_id is not None:
        return Marks((int(tokenizer.sep_token_id),), after)
    line = [int(i) for i in tokenizer("\n", add_special_tokens=False)["input_ids"] if i != tokenizer.unk_token_id]
    return Marks(tuple(line) or (_end(tokenizer),), after)


def _end(tokenizer: PreTrainedTokenizerBase) -> int:
    known = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, 0)
    return next(int(number) for number in known if number is not None)


def rows(
    tokenizer: PreTrainedTokenizerBase, first: Sequence[str], second: Sequence[str] | None, max_length: int, **more: Any
) -> tuple[Any, Callable[..., list[list[Any]]]]:
    """The tokenizer's own output for texts or pairs cut to leave room for the marks, and what puts the marks into a column of it."""
    own = marks(tokenizer)
    room = max_length - len(own.after) - (len(own.between) if second is not None else 0)
    made = tokenizer(
        list(first), None if second is None else list(second), max_length=room, padding=False, return_attention_mask=False,
        **{"truncation": "longest_first", **more},
    )  # fmt: skip

    def put(column: Sequence[Sequence[Any]], between: Any = None, after: Any = None) -> list[list[Any]]:
        if not own.between and not own.after:
            return list(map(list, column))
        return [own.put(row, made.sequence_ids(number), between, after) for number, row in enumerate(column)]

    return made, put


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, first: Sequence[str], second: Sequence[str] | None, max_length: int
) -> tuple[list[list[int]], dict[str, list[list[int]]]]:
    """Rows of token ids with special tokens, the longer text of a pair cut first; and their type ids where used."""
    if not first:
        return [], {}
    made, put = rows(tokenizer, first, second, max_length)
    return put(made["input_ids"]), types_of(made, put, second is not None)


def types_of(made: Mapping[str, Any], put: Callable[..., list[list[Any]]], pairs: bool) -> dict[str, list[list[int]]]:
    """The type ids of rows where the tokenizer gives them: a mark between is of the first text, one after of the last."""
    return {"types": put(made["token_type_ids"], 0, int(pairs))} if "token_type_ids" in made else {}


def special_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that stand before and after one text."""
    made = tokenizer("a")
    owners, ids = made.sequence_ids(0), made["input_ids"]
    texts = [place for place, owner in enumerate(owners) if owner is not None]
    begins, ends = (texts[0], texts[-1] + 1) if texts else (1, 1)
    return ids[:begins], [*ids[ends:], *marks(tokenizer).after]


def encode_words(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """Per sentence, per word its token ids; a word that the tokenizer drops becomes the unknown token.

    A word inside a sentence is read with the space before it where the tokenizer keeps spaces (byte-level ones, Gemma's).
    """
    if not sentences:
        return []
    two, one = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a a", "a"))
    space = "" if two == one * 2 else " "
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    spaced = [[word if place == 0 else space + word for place, word in enumerate(sentence)] for sentence in sentences]
    dropped = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else _end(tokenizer)
    result = []
    for sentence, made in zip(sentences, backend.encode_batch(spaced, is_pretokenized=True, add_special_tokens=False), strict=True):
        pieces: list[list[int]] = [[] for _ in sentence]
        for token, word in zip(made.ids, made.word_ids, strict=True):
            if word is not None:
                pieces[word].append(token)
        result.append([p or [int(dropped)] for p in pieces])
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
