"""Every task kind as text: rows of input and target tokens, the loss over targets, labels by their likelihood, other answers as written.

The formats are `textform`'s. A label is never written: every label's text is scored in full, with the end token, so that none can be
misspelt: what writing constrained to the labels would find, were its search exact. A tag a word is written, held to as many tags as there
are words, the likeliest token at a time.

Nothing of the vocabulary is trimmed here: each target token is a softmax over all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from xstilts import textform
from xstilts.engine import hf, lm
from xstilts.engine.answers import Answered
from xstilts.engine.batch import Batch, Columns, batch_of, by_length, columns
from xstilts.engine.pieces import runs
from xstilts.errors import DataError, ModelError
from xstilts.examples import Choice, Example, Passage, Text, Words
from xstilts.task import Task
from xstilts.textform import Found, Prompt

LONGEST_ANSWER = 64  # tokens; 30 is usual where they come from a context, but scripts are cut finer by some tokenizers
CUE = "\nanswer:"  # ends the input of a decoder that is trained, as "Answer:" ends a prompt
_MARK = ":"  # what both end with: a target's tokens are those that follow it


@dataclass(frozen=True)
class Form:
    """How rows are made for a model; a part of their key. `asks`: to be answered, not trained on; `natural`: in plain words."""

    decoder: bool
    asks: bool = False
    natural: bool = False

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], task: Task, max_length: int, stride: int
    ) -> Columns:
        """Rows of an input of at most `max_length` tokens and a target; per token `target` (1 or 0), per row `input` and `cut`.

        `input` is the number of the first row with the same input; `cut` is 1 where the input was too long. To be answered, a
        labelled example has a row for each label (or option); a sentence has rows of whole words from word `first` on, `words`
        of them; what is to be written has no target. Raises DataError for an unknown label, or an input that cannot be cut so
        far, ModelError for a tokenizer without end token or to which two labels are the same. The words of a plain question come on
        top of `max_length`, so that the example has the room that it has in training.
        """
        spell = _Spelling(tokenizer, self.decoder, "" if self.natural or not self.decoder else CUE)
        parts = [part for number, each in enumerate(examples) for part in self._parts(spell, number, each, task, max_length)]
        prompts = [textform.prompt(each, task, self.natural) for _, each, _ in parts]
        inputs, cut = spell.inputs(prompts, [max_length + (spell.around(prompt) if self.natural else 0) for prompt in prompts])
        rows, marks, example = list[list[int]](), list[list[int]](), list[int]()
        told: dict[str, list[int]] = {"input": [], "cut": [], "first": [], "words": []}
        for (number, each, first), ids, short in zip(parts, inputs, cut, strict=True):
            shared, words = len(rows), len(each.words) if isinstance(each, Words) else 0
            for target in self._targets(spell, each, task):
                rows.append([*ids, *target])
                marks.append([0] * len(ids) + [1] * len(target))
                example.append(number)
                for name, value in (("input", shared), ("cut", int(short)), ("first", first), ("words", words)):
                    told[name].append(value)
        return columns(rows, example, {"target": marks}, told)

    def _targets(self, spell: _Spelling, example: Example, task: Task) -> list[list[int]]:
        if not self.asks:
            return [spell.gold(example, task)]
        match example:
            case Text() | Choice():
                return spell.labels(textform.candidates(example, task, self.natural), task, ended=not self.natural)
            case _:
                return [[]]

    def _parts(self, spell: _Spelling, number: int, example: Example, task: Task, room: int) -> Iterator[tuple[int, Example, int]]:
        """The example's number, itself and 0; of a long sentence parts of whole words, and the number of each part's first word."""
        if not isinstance(example, Words):
            yield number, example, 0
            return
        around = 0 if self.natural else spell.around(textform.prompt(example, task))
        lengths = [[0] * n for n in _lengths(spell.tokenizer, example.words)]
        for run in runs(lengths, max(1, room - around)):
            a, b = run[0], run[-1] + 1
            yield number, replace(example, words=example.words[a:b], tags=example.tags and example.tags[a:b]), a


def _lengths(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[int]:
    """How many tokens of the sentence begin in each word, the space after it included; at least 1."""
    offsets = tokenizer(" ".join(words), add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    ends = np.cumsum([len(word) + 1 for word in words])
    at = np.minimum(np.searchsorted(ends, [start for start, _ in offsets], side="right"), len(words) - 1)
    return [max(1, int(n)) for n in np.bincount(at, minlength=len(words))]


class _Spelling:
    """Inputs and targets as tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, decoder: bool, cue: str = "") -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError('the tokenizer names no end token (eos_token), which form = "text" needs')
        self.tokenizer, self.decoder, self.cue = tokenizer, decoder, cue
        self.end = int(tokenizer.eos_token_id)
        begin = tokenizer.bos_token_id
        self._begin = [int(begin)] if begin is not None and tokenizer("")["input_ids"][:1] == [begin] else []
        self._known: dict[str, list[int]] = {}
        self._around: dict[str, int] = {}

    # ---- inputs ----

    def inputs(self, prompts: Sequence[Prompt], most: Sequence[int]) -> tuple[list[list[int]], list[bool]]:
        """Token ids of the inputs, and which were cut to have at most so many."""
        made = self._inputs([prompt.text for prompt in prompts])
        cut = [len(ids) > room for ids, room in zip(made, most, strict=True)]
        return [self._cut(p, room) if long else ids for p, ids, room, long in zip(prompts, made, most, cut, strict=True)], cut

    def around(self, prompt: Prompt) -> int:
        """The tokens of an input that are not the example's own."""
        text = "".join(part for part, free in zip(prompt.parts, prompt.free, strict=True) if not free)
        if text not in self._around:
            self._around[text] = len(self._inputs([text])[0])
        return self._around[text]

    def _inputs(self, texts: Sequence[str]) -> list[list[int]]:
        """With the end token where the model reads inputs apart; with the beginning token where the tokenizer puts one."""
        if not texts:
            return []
        ids: list[list[int]]
        if not self.decoder:
            ids = self.tokenizer(list(texts))["input_ids"]
            return ids
        ids = self.tokenizer([text + self.cue for text in texts], add_special_tokens=False)["input_ids"]
        return [[*self._begin, *row] for row in ids]

    def _cut(self, prompt: Prompt, most: int) -> list[int]:
        """The ids of a prompt whose longest own parts lose their ends until it fits."""
        spans = [
            self.tokenizer(part, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"] if free else []
            for part, free in zip(prompt.parts, prompt.free, strict=True)
        ]
        sizes = [len(span) for span in spans]
        ids = self._inputs([prompt.text])[0]
        while (over := len(ids) - most) > 0:
            if not any(sizes):
                raise DataError(f"recipe.max_length = {most}: the words around an example alone take {len(ids)} tokens; raise it")
            for _ in range(min(over, sum(sizes))):
                sizes[max(range(len(sizes)), key=sizes.__getitem__)] -= 1
            parts = (
                part if not free else part[: span[size - 1][1]] if size else ""
                for part, free, span, size in zip(prompt.parts, prompt.free, spans, sizes, strict=True)
            )
            ids = self._inputs(["".join(parts)])[0]
        return ids

    # ---- targets ----

    def ids(self, text: str) -> list[int]:
        """The tokens of a target without its end: for a decoder those that follow the colon that its input ends with."""
        if text not in self._known:
            before, after = (self._bare(_MARK), self._bare(f"{_MARK} {text}")) if self.decoder and text else ([], self._bare(text))
            self._known[text] = after[len(before) :] if after[: len(before)] == before else self._bare(text)
        return self._known[text]

    def _bare(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def labels(self, texts: Sequence[str], task: Task, ended: bool) -> list[list[int]]:
        """The tokens of every label. Raises ModelError where two of a task's labels have the same.

        `ended` with the end token, which a model that was not tuned has no reason to write there.
        """
        if task.kind == "classify" or ended:  # options that a model is asked to go on with may be alike
            self._distinct({text: tuple(self.ids(text)) for text in texts}, task)
        return [[*self.ids(text), self.end] if ended or not self.ids(text) else self.ids(text) for text in texts]

    def tags(self, task: Task, first: bool) -> dict[str, tuple[int, ...]]:
        """The tokens of each tag where it stands first, or after another. Raises ModelError where two have the same, or one has none."""
        found = {tag: tuple(self._tag(tag, first)) for tag in task.labels}
        self._distinct(found, task)
        return found

    def _tag(self, tag: str, first: bool) -> list[int]:
        alone = self.ids(tag)
        return alone if first else self.ids(f"{tag} {tag}")[len(alone) :]

    def _distinct(self, spelt: Mapping[str, tuple[int, ...]], task: Task) -> None:
        names: dict[tuple[int, ...], str] = {(): "nothing"}
        for name, path in spelt.items():
            if (other := names.setdefault(path, name)) != name:
                raise ModelError(f'{task.name}: to this tokenizer "{name}" is the same as {other}; form = "text" cannot tell them apart')

    def gold(self, example: Example, task: Task) -> list[int]:
        """The tokens of what an example is trained on, its end included."""
        text = textform.target(example, task)
        if isinstance(example, Words) and not textform.names_entities(task):
            tags = text.split()
            return [*(token for place, tag in enumerate(tags) for token in self._tag(tag, place == 0)), self.end]
        return [*self.ids(text), self.end]


# ---- training ----


def logits(model: PreTrainedModel, head: nn.Module, batch: Batch, pool: str) -> Tensor:
    """[K, V] logits of every target token; there is no head and nothing is pooled."""
    inputs, targets = _split(batch)
    order = {int(number): b for b, number in reversed(list(enumerate(batch.rows["input"].tolist())))}
    return lm.target_logits(model, inputs, targets, [order[number] for number in batch.rows["input"].tolist()])


def loss(logits_KV: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """Summed cross-entropy of the target tokens, end tokens included, and their number."""
    targets = batch.ids_N[batch.tokens["target"] == 1]
    return nn.functional.cross_entropy(logits_KV.float(), targets, reduction="sum"), len(targets)


def _split(batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """The input and the target of each row."""
    lengths = batch.lengths.tolist()
    pairs = zip(batch.ids_N.split(lengths), batch.tokens["target"].split(lengths), strict=True)
    inputs, targets = zip(*((ids[mark == 0], ids[mark == 1]) for ids, mark in pairs), strict=True)
    return list(inputs), list(targets)


# ---- answers ----


@torch.inference_mode()
def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, form: Form, made: Columns, examples: Sequence[Example], task: Task,
    language: str, device: str, precision: str, budget: int,
) -> tuple[list[Answered], Found]:  # fmt: skip
    """The answer of each example, in `language`, and what of the outputs could be used.

    Scores: the log-likelihood of each label or option in order (their softmax is the probability of each, given that it is one
    of them), or of the answer written; none of tags.
    """
    groups = made.rows_of(np.arange(made.count))
    if task.kind in ("classify", "choose"):
        likely = np.zeros(len(made.example))
        for rows_B in by_length(made, np.arange(made.count), budget):
            batch = batch_of(made, rows_B, device)
            with hf.autocast(device, precision):
                likely[rows_B] = _likelihoods(logits(model, nn.Identity(), batch, ""), batch)
        return [_best(likely[rows], task) for rows in groups], Found()
    spell = _Spelling(tokenizer, form.decoder)
    wrote: list[_Wrote | None] = [None] * len(made.example)
    for rows_B in by_length(made, np.arange(made.count), budget):
        batch = batch_of(made, rows_B, device)
        with hf.autocast(device, precision):
            for row, each in zip(rows_B.tolist(), _written(model, spell, batch, task), strict=True):
                wrote[row] = each
    result, seen = list[Answered](), Found()
    for example, rows in zip(examples, groups, strict=True):
        own = [(each, made.rows["first"][row], made.rows["words"][row]) for row in rows.tolist() if (each := wrote[row]) is not None]
        answered, found = _answered(example, own, task, language, form.natural)
        result.append(answered)
        seen += found
    return result, seen


@dataclass(frozen=True)
class _Wrote:
    """What a model wrote after one input, its log-likelihood, and the tags where it was held to tags."""

    text: str
    score: float
    tags: tuple[str, ...]


def _written(model: PreTrainedModel, spell: _Spelling, batch: Batch, task: Task) -> list[_Wrote]:
    inputs, _ = _split(batch)
    rule = None
    most = [LONGEST_ANSWER] * len(inputs)
    if task.kind == "tag":
        most = [2 * len(ids) + 16 for ids in inputs]
        if not textform.names_entities(task):
            rule = _Tags(spell, task, batch.rows["words"].tolist())
            most = rule.most
    outputs, likely = lm.written(model, inputs, most, spell.end, rule)
    texts = [str(spell.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip() for ids in outputs]
    tags = rule.tags if rule is not None else [[] for _ in texts]
    return [_Wrote(text, score, tuple(own)) for text, score, own in zip(texts, likely, tags, strict=True)]


def _answered(
    example: Example, wrote: Sequence[tuple[_Wrote, int, int]], task: Task, language: str, natural: bool
) -> tuple[Answered, Found]:
    """An example's answer out of what was written for its rows: (what, first word, words)."""
    match example:
        case Passage():
            text, found = textform.answer(example, wrote[0][0].text, task, language, natural)
            return Answered((text,), (wrote[0][0].score,)), found
        case Words():
            tags, seen = list[str](), Found()
            for each, first, words in wrote:
                own, found = each.tags, Found()
                if textform.names_entities(task):
                    own, found = textform.tags(example.words[first : first + words], each.text, task, language, natural)
                tags += own
                seen += found
            return Answered(tuple(tags), ()), seen
    raise TypeError(f"{type(example).__name__} is not written")


def _likelihoods(logits_KV: Tensor, batch: Batch) -> NDArray[np.float64]:
    """[B] the log-likelihood of each row's target."""
    mark = batch.tokens["target"] == 1
    each_K = -nn.functional.cross_entropy(logits_KV.float(), batch.ids_N[mark], reduction="none").double()
    row_N = torch.from_numpy(np.repeat(np.arange(len(batch.lengths)), batch.lengths)).to(mark.device)
    sums: NDArray[np.float64] = each_K.new_zeros(len(batch.lengths)).index_add(0, row_N[mark], each_K).cpu().numpy()
    return sums


def _best(likely: NDArray[np.float64], task: Task) -> Answered:
    best = int(likely.argmax())
    return Answered((task.labels[best] if task.kind == "classify" else str(best),), tuple(likely.tolist()))


class _Tags:
    """A rule for `lm.written`: so many tags of a task, one after the other, then the end.

    A tag is a path of tokens. Where one tag's path goes on as another's, the longer is taken if the next token can belong to it.
    """

    def __init__(self, spell: _Spelling, task: Task, words: Sequence[int]) -> None:
        self.end, self.words = spell.end, words
        spelt = [spell.tags(task, first) for first in (True, False)]
        self._names = [{path: tag for tag, path in each.items()} for each in spelt]
        self._steps = [_steps(each.values()) for each in spelt]
        longest = max(len(path) for each in self._names for path in each)
        self.most = [(longest + 1) * n for n in words]  # never reached: the end comes before
        self.tags: list[list[str]] = [[] for _ in words]
        self._at: list[tuple[int, ...]] = [() for _ in words]

    def allowed(self, row: int) -> Sequence[int]:
        """The tokens that go on with the tag begun, and those that come after it where it can be whole."""
        table, at = min(1, len(self.tags[row])), self._at[row]
        found = list(self._steps[table].get(at, ()))
        if at in self._names[table]:
            found += [self.end] if len(self.tags[row]) + 1 == self.words[row] else self._steps[1][()]
        return found

    def take(self, row: int, token: int) -> None:
        """Go on with `token`; where it does not belong to the tag begun, that one is whole."""
        table, at = min(1, len(self.tags[row])), self._at[row]
        if token in self._steps[table].get(at, ()):
            self._at[row] = (*at, token)
        else:
            self.tags[row].append(self._names[table][at])
            self._at[row] = (token,)


def _steps(paths: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    """For every beginning of a path the tokens that it can go on with."""
    found: dict[tuple[int, ...], dict[int, None]] = {}
    for path in paths:
        for place, token in enumerate(path):
            found.setdefault(path[:place], {})[token] = None
    return {at: list(tokens) for at, tokens in found.items()}
