"""Pretraining: objectives as values, one loop, resumable to the bit.

What happens at a step depends on (stage, step) alone: the objective, the rows, the
masks and dropout are drawn from generators keyed by seed and step. So the state is
the weights, Adam's moments and a number. `python -m xstilts.engine.pretrain CONFIG --out FOLDER`
runs a config without a store.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase, XLMRobertaConfig

from xstilts import machine
from xstilts.engine import hf
from xstilts.engine.batch import Batch, rng
from xstilts.engine.denoise import causal_rows, new_body, reader, span_rows, written_step
from xstilts.engine.embeddings import aligned, from_pieces, translation_table
from xstilts.engine.heads import VocabularyHead, fresh
from xstilts.engine.mask import hide
from xstilts.engine.pieces import special_ids
from xstilts.engine.tokenizer import train_tokenizer
from xstilts.engine.warm import near_identity, piece_vectors, warm
from xstilts.errors import Stopped, TrainingError
from xstilts.pretraining import (
    KNOWN,
    MIXED,
    WRITTEN,
    Bitext,
    Config,
    Corpus,
    Model,
    Objective,
    config_of,
    corpus,
    model_folder,
    read_config,
)
from xstilts.pretraining import stage as stage_of
from xstilts.stages import Pretrain, Progress, Runtime

MICRO = 4096  # tokens a micro-batch
MASKED = ("mlm", "recall", "tlm")  # the objectives that train the MLM head
SAVE_EVERY = 60.0
REPORT_EVERY = 1.0
LONGEST = 300  # characters of an English line that stands alone in distillation: longer ones are cut into sentences

Ints = NDArray[np.int64]


@dataclass
class State:
    """Where a pretraining stands, beside weights and moments."""

    step: int = 0
    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[list[float]] = field(default_factory=list)  # [step, mean loss since the last entry], all objectives
    held_out: list[dict[str, float]] = field(default_factory=list)  # {"step": ..., language: accuracy on 0-100}


@dataclass(frozen=True)
class Side:
    """One language of a bitext as token ids without specials; an empty row is a missing line."""

    language: str
    rows: Sequence[Ints]
    present: Ints  # row numbers that are there and may be trained on


@dataclass(frozen=True)
class Tokens:
    """The corpus as token ids. `teacher` rows belong to the strings that `english` numbers."""

    texts: Mapping[str, Sequence[Ints]]
    bitexts: Sequence[tuple[float, Sequence[Side]]]


@dataclass(frozen=True)
class Lesson:
    """What a distillation reads: `pairs` = (bitext weight, sides with the number of each row's English line, -1 where none)."""

    pairs: Sequence[tuple[float, Sequence[tuple[Side, Ints]]]]
    english: Sequence[Ints]  # the student's token ids of every English line
    alone: Ints  # numbers of the lines without translation
    vectors_NH: Tensor  # the teacher's vector of every English line


def pretrain(stage: Pretrain, data: Path, draft: Path, emit: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
    """Make the encoder of `stage`: files of the entry into `draft/out`, resumable state into `draft/state`.

    `out/encoder` is a transformers folder, `out/heads/mask.safetensors` the MLM head where one was trained,
    `out/log.json` losses and held-out retrieval accuracies, `out/provenance.json` what teacher and texts were.
    Raises Stopped after saving when `stop()` turns true, TrainingError when the loss is not finite.
    """
    config = config_of(stage)
    device, state_folder = stage.runtime.device, draft / "state"
    state_folder.mkdir(parents=True, exist_ok=True)
    read = corpus(config, data)
    tokenizer = _tokenizer(config, read, state_folder)
    tokens = _encode(config, read, tokenizer)
    torch.manual_seed(config.seed)
    resumed = (state_folder / "state.safetensors").is_file()
    body = _body(config, read, tokenizer, tokens, fresh_rows=not resumed)
    encoder = reader(body)
    hf.pack(encoder)
    head = VocabularyHead(hf.hidden_size(encoder), len(tokenizer))
    fresh(head, torch.Generator().manual_seed(config.seed))
    if config.model.embeddings == "parallel":
        near_identity(head.dense)
    masked = any(one.kind in MASKED for one in config.objective)
    whole = nn.ModuleDict({"encoder": body, **({"mask": head} if masked else {})})
    whole.to(device).train()
    distilled = [i for i, one in enumerate(config.objective) if one.kind == "distill"]
    lessons = {i: _lesson(config.objective[i], read, tokens, tokenizer, state_folder, stage.runtime) for i in distilled}
    optimizer = _optimizer(whole, encoder, config)
    state = _resume(state_folder, whole, optimizer)
    weights = np.array([one.weight for one in config.objective])
    params = [p for p in whole.parameters() if p.requires_grad]
    started = time.perf_counter() - state.seconds
    saved = reported = time.perf_counter()
    recent: list[float] = []
    if state.step == 0:
        _check_held_out(state, read, encoder, tokenizer, stage.runtime)
    while state.step < config.steps:
        number = int(rng(config.seed, "objective", state.step).choice(len(weights), p=weights / weights.sum()))
        one = config.objective[number]
        draw = rng(config.seed, "rows", state.step)
        torch.manual_seed(config.seed * 1_000_003 + state.step)  # dropout
        factor = _factor(config, state.step)
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor
        if one.kind == "distill":
            loss, examples, count = _distill_step(one, config, lessons[number], encoder, tokenizer, draw, stage.runtime)
        elif one.kind == "align":
            loss, examples, count = _align_step(one, config, tokens, encoder, tokenizer, draw, stage.runtime)
        else:
            rows = _mlm_rows(one, config, tokens, draw) if one.monolingual else _tlm_rows(one, config, tokens, draw)
            if one.kind in WRITTEN:
                made = span_rows(one, rows, tokenizer, draw) if one.kind == "span" else causal_rows(one, rows, tokenizer)
                loss, examples, count = written_step(made, body, lambda lengths: _chunks(lengths, 2 * MICRO), stage.runtime)
            else:
                loss, examples, count = _mask_step(one, rows, encoder, head, tokenizer, draw, stage.runtime)
        if not np.isfinite(loss):
            raise TrainingError(f"{config.name}: the loss of {one.kind} is {loss} at step {state.step}; lower lr or use precision fp32")
        nn.utils.clip_grad_norm_(params, config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss)
        state.step += 1
        state.examples += examples
        state.tokens += count
        if state.step == config.steps:
            _check_held_out(state, read, encoder, tokenizer, stage.runtime)
        now = time.perf_counter()
        state.seconds = now - started
        if state.step % max(1, config.steps // 100) == 0 or state.step == config.steps:
            state.losses.append([state.step, float(np.mean(recent))])
            recent = []
        if now - reported > REPORT_EVERY or state.step == config.steps:
            reported = now
            emit(Progress(state.step, config.steps, loss, state.examples, state.seconds))
        stopping = stop() and state.step < config.steps
        if stopping or now - saved > SAVE_EVERY:
            saved = now
            _save(state_folder, whole, optimizer, state)
        if stopping:
            raise Stopped(f"stopped at step {state.step} of {config.steps}; the next run goes on from there")
    _write(draft / "out", config, read, stage, body, tokenizer, head if masked else None, state)


def _tokenizer(config: Config, read: Corpus, folder: Path) -> PreTrainedTokenizerBase:
    """The vocabulary, learnt once and kept in the state folder."""
    kept = folder / "tokenizer"
    if not (kept / "tokenizer.json").is_file():
        texts = {language: list(lines) for language, lines in read.texts.items()}
        for bitext in read.bitexts:
            held = set(bitext.held_out)
            for language, lines in bitext.sides:
                texts.setdefault(language, []).extend(line for i, line in enumerate(lines) if line and i not in held)
        limit = config.model.max_positions
        if config.model.init:
            limit = int(AutoConfig.from_pretrained(model_folder(config.model.init)).max_position_embeddings)
        made = train_tokenizer(texts, config.tokenizer, limit, config.model.family)
        pending = folder / "tokenizer.part"
        pending.mkdir(exist_ok=True)
        made.save_pretrained(pending)
        os.replace(pending, kept)
    return hf.load_tokenizer(kept)


def _encode(config: Config, read: Corpus, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """All texts as token ids. Raw text is read where an objective reads texts alone; distillation encodes its own lines."""

    def ids(lines: Sequence[str]) -> list[Ints]:
        if not lines:
            return []
        return [np.asarray(row, np.int64) for row in tokenizer(list(lines), add_special_tokens=False)["input_ids"]]

    alone = any(one.monolingual for one in config.objective)
    texts = {language: ids(lines) for language, lines in read.texts.items()} if alone else {}
    bitexts = []
    for bitext in read.bitexts:
        held = set(bitext.held_out)
        sides = []
        for language, lines in bitext.sides:
            present = np.array([i for i, line in enumerate(lines) if line and i not in held], np.int64)
            sides.append(Side(language, ids(lines), present))
        bitexts.append((bitext.weight, sides))
    return Tokens(texts, bitexts)


def _body(config: Config, read: Corpus, tokenizer: PreTrainedTokenizerBase, tokens: Tokens, fresh_rows: bool) -> PreTrainedModel:
    """The model before the first step: new, or a taken-over body with a new embedding matrix."""
    spec = config.model
    if not spec.init:
        fresh_body = _xlm_r(spec, len(tokenizer)) if spec.family == "xlm-roberta" else new_body(spec, tokenizer)
        if spec.embeddings == "parallel" and fresh_rows:
            lines = [[side.rows[i] for side in sides] for _, sides in tokens.bitexts for i in sides[0].present]
            warm(fresh_body, piece_vectors(lines, len(tokenizer), spec.hidden, rng(config.seed, "pieces")))
        return fresh_body
    folder = model_folder(spec.init)
    body, old = hf.load_encoder(folder), hf.load_tokenizer(folder)
    if spec.take:
        hf.take_layers(body, spec.take)
    rows_EH = hf.embedding_of(body).detach().numpy().copy()
    body.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    body.config.pad_token_id = tokenizer.pad_token_id
    body.config.hidden_dropout_prob = spec.dropout
    for module in body.modules():
        if isinstance(module, nn.Dropout):
            module.p = spec.dropout
    embedding = body.get_input_embeddings()
    if isinstance(embedding, nn.Embedding):
        embedding.padding_idx = tokenizer.pad_token_id
    if fresh_rows:
        rows_VH = from_pieces(tokenizer, old, rows_EH)
        if spec.embeddings == "aligned":
            rows_VH = _aligned_rows(read, tokenizer, tokens, old, rows_EH, rows_VH)
        with torch.no_grad():
            hf.embedding_of(body).copy_(torch.from_numpy(rows_VH))
    return body


def _xlm_r(spec: Model, vocabulary: int) -> PreTrainedModel:
    made = XLMRobertaConfig(
        vocab_size=vocabulary, hidden_size=spec.hidden, num_hidden_layers=spec.layers, num_attention_heads=spec.heads,
        intermediate_size=spec.ffn, max_position_embeddings=spec.max_positions + 2, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
        eos_token_id=2, hidden_dropout_prob=spec.dropout, attention_probs_dropout_prob=0.0,
        **({"initializer_range": spec.hidden**-0.5} if spec.embeddings == "parallel" else {}),
    )  # fmt: skip
    fresh_body: PreTrainedModel = AutoModel.from_config(made, add_pooling_layer=False)
    return fresh_body


def _aligned_rows(
    read: Corpus, tokenizer: PreTrainedTokenizerBase, tokens: Tokens, old: PreTrainedTokenizerBase, rows_EH: NDArray[np.float32],
    start_VH: NDArray[np.float32],
) -> NDArray[np.float32]:  # fmt: skip
    by_language: dict[str, tuple[list[Ints], list[list[int]]]] = {}
    english = np.zeros(len(tokenizer), np.int64)
    for bitext, (_, sides) in zip(read.bitexts, tokens.bitexts, strict=True):
        lines = next(lines for language, lines in bitext.sides if language == "en")
        old_ids = [row[:64] for row in old(list(lines), add_special_tokens=False, truncation=False, padding=False)["input_ids"]]
        for side in sides:
            if side.language == "en":
                english += np.bincount(np.concatenate([side.rows[i] for i in side.present]), minlength=len(tokenizer))
                continue
            f_rows, e_rows = by_language.setdefault(side.language, ([], []))
            for i in side.present:
                if lines[i]:
                    f_rows.append(side.rows[i][:80])
                    e_rows.append(old_ids[i])
    tables = [translation_table(pairs, len(tokenizer), len(rows_EH)) for _, pairs in sorted(by_language.items())]
    return aligned(rows_EH, start_VH, tables, english)


def _lesson(
    one: Objective, read: Corpus, tokens: Tokens, tokenizer: PreTrainedTokenizerBase, folder: Path, runtime: Runtime
) -> Lesson:
    """The English lines, their teacher vectors (kept in the state folder) and the sides that point to them."""
    numbers: dict[str, int] = {}
    pairs = []
    for bitext, (weight, sides) in zip(read.bitexts, tokens.bitexts, strict=True):
        lines = next(lines for language, lines in bitext.sides if language == "en")
        held = set(bitext.held_out)
        of_row = np.array([numbers.setdefault(line, len(numbers)) if line and i not in held else -1 for i, line in enumerate(lines)])
        foreign = []
        for side in sides:
            if side.language != "en":
                kept = side.present[of_row[side.present] >= 0]
                foreign.append((Side(side.language, side.rows, kept), of_row))
        pairs.append((weight, foreign))
    first = len(numbers)
    for line in read.texts.get("en", ()):
        parts = [line] if len(line) <= LONGEST else [part for part in _sentences(line) if 20 <= len(part) <= LONGEST]
        for part in parts:
            numbers.setdefault(part, len(numbers))
    lines_N = list(numbers)
    english = [np.asarray(row, np.int64) for row in tokenizer(lines_N, add_special_tokens=False)["input_ids"]]
    path = folder / f"teacher-{one.teacher.replace('/', '_')[-80:]}-{one.max_length}.npy"
    if not path.is_file():
        made = _teacher_vectors(one, lines_N, runtime)
        pending = path.with_suffix(".part.npy")
        np.save(pending, made, allow_pickle=False)
        os.replace(pending, path)
    vectors = torch.from_numpy(np.load(path, allow_pickle=False)).to(runtime.device)
    return Lesson(pairs, english, np.arange(first, len(lines_N)), vectors)


def _sentences(text: str) -> list[str]:
    found, start = [], 0
    for i, char in enumerate(text[:-1]):
        if char in ".!?" and text[i + 1] == " ":
            found.append(text[start : i + 1].strip())
            start = i + 2
    return [*found, text[start:].strip()]


def _teacher_vectors(one: Objective, lines: Sequence[str], runtime: Runtime) -> NDArray[np.float32]:
    """[N, H] mean-pooled vectors of the teacher."""
    folder = model_folder(one.teacher)
    teacher, old = hf.load_encoder(folder, device=runtime.device).eval(), hf.load_tokenizer(folder)
    rows = [np.asarray(row, np.int64) for row in old(list(lines), truncation=True, max_length=one.max_length, padding=False)["input_ids"]]
    out = np.empty((len(rows), hf.hidden_size(teacher)), np.float32)
    with torch.inference_mode():
        for chunk in _chunks([len(row) for row in rows], 4 * MICRO):
            out[chunk] = _pooled(teacher, [rows[i] for i in chunk], runtime).cpu().numpy()
    return out


def _distill_step(
    one: Objective, config: Config, lesson: Lesson, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, draw: np.random.Generator,
    runtime: Runtime,
) -> tuple[float, int, int]:  # fmt: skip
    """Gradient of one batch; (loss, rows, tokens)."""
    weights = np.array([weight for weight, _ in lesson.pairs])
    which = np.sort(draw.choice(len(weights), one.batch, p=weights / weights.sum()))
    rows: list[Ints] = []
    target: list[int] = []
    seen: set[int] = set()
    for b in which:
        sides = lesson.pairs[b][1]
        chances = _smooth([len(side.present) for side, _ in sides], [side.language for side, _ in sides], config)
        side, numbers = sides[int(draw.choice(len(sides), p=chances))]
        i = int(draw.choice(side.present))
        if int(numbers[i]) in seen:
            continue  # a line twice would be its own wrong answer
        seen.add(int(numbers[i]))
        rows.append(side.rows[i])
        target.append(int(numbers[i]))
    many = round(one.english * one.batch)
    alone = round(one.alone * many) if len(lesson.alone) else 0
    every = max(1, len(target) // max(1, many - alone))
    own = [*target[::every][: many - alone], *map(int, draw.choice(lesson.alone, alone) if alone else ())]
    rows += [lesson.english[number] for number in own]
    target += own
    full = _with_specials(rows, tokenizer, one.max_length)
    vectors, order, count = [], [], 0
    for chunk in _chunks([len(row) for row in full], MICRO):
        vectors.append(_pooled(encoder, [full[i] for i in chunk], runtime))
        order.extend(chunk)
        count += sum(len(full[i]) for i in chunk)
    student_BH = torch.cat(vectors)
    unique, place = np.unique(np.asarray(target)[order], return_inverse=True)
    teacher_UH = lesson.vectors_NH[torch.from_numpy(unique).to(runtime.device)]
    place_B = torch.from_numpy(place).to(runtime.device)
    loss = one.mse * nn.functional.mse_loss(student_BH, teacher_UH[place_B])
    if one.contrastive:
        cosine_BU = nn.functional.normalize(student_BH, dim=-1) @ nn.functional.normalize(teacher_UH, dim=-1).T
        loss = loss + one.contrastive * nn.functional.cross_entropy(one.scale * cosine_BU, place_B)
    loss.backward()
    return float(loss.detach()), len(full), count


def _align_step(
    one: Objective, config: Config, tokens: Tokens, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, draw: np.random.Generator,
    runtime: Runtime,
) -> tuple[float, int, int]:  # fmt: skip
    """Gradient of one batch of translation ranking, both ways; (loss, rows, tokens)."""
    weights = np.array([weight for weight, _ in tokens.bitexts])
    pairs: dict[tuple[int, int], tuple[Ints, Ints]] = {}
    together = 2 if one.neighbours else 1
    for b in draw.choice(len(weights), one.batch // together, p=weights / weights.sum()):
        sides = tokens.bitexts[b][1]
        chances = _smooth([len(side.present) for side in sides], [side.language for side in sides], config)
        first, second = (sides[int(k)] for k in draw.choice(len(sides), 2, replace=False, p=chances))
        at = int(draw.integers(len(first.present)))
        for i in map(int, first.present[at : at + together]):
            if len(second.rows[i]):
                pairs[int(b), i] = (first.rows[i], second.rows[i])  # a line twice would be its own wrong answer
    full = _with_specials([pair[k] for k in (0, 1) for pair in pairs.values()], tokenizer, one.max_length)
    vectors, order = [], []
    for chunk in _chunks([len(row) for row in full], MICRO):
        vectors.append(_pooled(encoder, [full[i] for i in chunk], runtime))
        order.extend(chunk)
    back = torch.from_numpy(np.argsort(np.asarray(order))).to(runtime.device)
    unit_BH = nn.functional.normalize(torch.cat(vectors)[back].float(), dim=-1)
    scores_PP = one.scale * unit_BH[: len(pairs)] @ unit_BH[len(pairs) :].T
    place_P = torch.arange(len(pairs), device=runtime.device)
    loss = (nn.functional.cross_entropy(scores_PP, place_P) + nn.functional.cross_entropy(scores_PP.T, place_P)) / 2
    loss.backward()
    return float(loss.detach()), len(full), sum(map(len, full))


def _mlm_rows(one: Objective, config: Config, tokens: Tokens, draw: np.random.Generator) -> list[list[Ints]]:
    """Rows of one segment each: `join` consecutive lines of a text."""
    languages = [language for language, rows in tokens.texts.items() if rows]
    chances = _smooth([len(tokens.texts[language]) for language in languages], languages, config)
    found = []
    for k in draw.choice(len(languages), one.batch, p=chances):
        lines = tokens.texts[languages[k]]
        start = int(draw.integers(max(1, len(lines) - one.join + 1)))
        found.append([np.concatenate(lines[start : start + one.join])])
    return found


def _tlm_rows(one: Objective, config: Config, tokens: Tokens, draw: np.random.Generator) -> list[list[Ints]]:
    """Rows of two segments: the same lines in two languages (or, by `same`, twice in one)."""
    weights = np.array([weight for weight, _ in tokens.bitexts])
    found = []
    for b in draw.choice(len(weights), one.batch, p=weights / weights.sum()):
        sides = tokens.bitexts[b][1]
        chances = _smooth([len(side.present) for side in sides], [side.language for side in sides], config)
        if draw.random() < one.same:
            first = second = sides[int(draw.choice(len(sides), p=chances))]
        else:
            first, second = (sides[int(k)] for k in draw.choice(len(sides), 2, replace=False, p=chances))
        start = int(draw.choice(first.present))
        lines = range(start, min(start + one.join, len(first.rows)))
        segments = [np.concatenate([side.rows[i] for i in lines]) for side in (first, second)]
        found.append([segment for segment in segments if len(segment)])
    return found


def _mask_step(
    one: Objective, rows: Sequence[Sequence[Ints]], encoder: PreTrainedModel, head: nn.Module, tokenizer: PreTrainedTokenizerBase,
    draw: np.random.Generator, runtime: Runtime,
) -> tuple[float, int, int]:  # fmt: skip
    """Gradient of one batch of masked rows: mean cross-entropy over the hidden tokens; (loss, rows, tokens)."""
    bos, eos, mask = int(tokenizer.cls_token_id or 0), int(tokenizer.sep_token_id or 0), int(tokenizer.mask_token_id or 0)
    again = one.kind == "recall"
    made = [masked_row(segments, one.mask_rate, one.max_length, bos, eos, mask, len(tokenizer), draw, again) for segments in rows]
    hidden, targets = [ids for ids, _ in made], [target for _, target in made]
    number = sum(int((target != -100).sum()) for target in targets)
    total, count = 0.0, 0
    for chunk in _chunks([len(row) for row in hidden], 2 * MICRO):
        batch = _batch([hidden[i] for i in chunk], runtime.device)
        wanted_N = torch.from_numpy(np.concatenate([targets[i] for i in chunk])).to(runtime.device)
        with hf.autocast(runtime.device, runtime.precision):
            states_NH = hf.hidden_states(encoder, batch)
            logits_MV = head(states_NH[wanted_N != -100], encoder.get_input_embeddings().weight)
        loss = nn.functional.cross_entropy(logits_MV.float(), wanted_N[wanted_N != -100], reduction="sum") / number
        loss.backward()
        total += float(loss.detach())
        count += batch.size
    return total, len(rows), count


def masked_row(
    segments: Sequence[Ints], rate: float, longest: int, bos: int, eos: int, mask: int, vocabulary: int, draw: np.random.Generator,
    again: bool = False,
) -> tuple[Ints, Ints]:  # fmt: skip
    """(ids, target) of `<s> a </s></s> b </s>`: `rate` of the tokens hidden (one at least); `target` holds them, -100 elsewhere.

    With `again`, only tokens that stood earlier in the row are hidden, if there are any; two in five become a random token,
    so that what stands there is looked up elsewhere even where no mask says so.
    """
    room = (longest - 2 * len(segments)) // len(segments)
    parts: list[Ints] = [np.array([bos])]
    for k, segment in enumerate(segments):
        parts += [np.array([eos, eos])] if k else []
        parts.append(segment[:room])
    ids = np.concatenate([*parts, [eos]]).astype(np.int64)
    free = np.flatnonzero((ids != bos) & (ids != eos))
    if again:
        first = np.unique(ids, return_index=True)[1]
        repeated = free[~np.isin(free, first)]
        free = repeated if len(repeated) else free
    chosen = draw.choice(free, max(1, round(rate * len(free))), replace=False)
    target = np.full_like(ids, -100)
    target[chosen] = ids[chosen]
    ids[chosen] = hide(ids[chosen], mask, vocabulary, draw, masked=0.5 if again else 0.8)
    return ids, target


def _smooth(sizes: Sequence[int], languages: Sequence[str], config: Config) -> NDArray[np.float64]:
    """Chances of the languages: size ** smoothing, twice that for those in `more`."""
    raw = np.asarray(sizes, np.float64) ** config.smoothing
    raw *= [2.0 if language in config.more else 1.0 for language in languages]
    return np.asarray(raw / raw.sum(), np.float64)


def _with_specials(rows: Sequence[Ints], tokenizer: PreTrainedTokenizerBase, longest: int) -> list[Ints]:
    before, after = special_ids(tokenizer)
    room = longest - len(before) - len(after)
    return [np.concatenate([before, row[:room], after]).astype(np.int64) for row in rows]


def _chunks(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Row numbers, longest rows first, in chunks of at most `budget` tokens when padded (one row at least)."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found: list[list[int]] = []
    for i in order:
        if found and (len(found[-1]) + 1) * lengths[found[-1][0]] <= budget:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def _batch(rows: Sequence[Ints], device: str) -> Batch:
    """Rows of ids as a batch."""
    numbers = np.arange(len(rows))
    ids_N = torch.from_numpy(np.concatenate(rows).astype(np.int64)).to(device)
    return Batch(ids_N, np.asarray([len(row) for row in rows], np.int64), {}, {}, numbers, numbers)


def _pooled(encoder: PreTrainedModel, rows: Sequence[Ints], runtime: Runtime) -> Tensor:
    """[B, H] mean-pooled vectors in fp32."""
    batch = _batch(rows, runtime.device)
    with hf.autocast(runtime.device, runtime.precision):
        states_NH = hf.hidden_states(encoder, batch)
    return hf.pooled(states_NH, batch, "mean")


def _check_held_out(
    state: State, read: Corpus, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, runtime: Runtime
) -> None:
    """Adds the accuracies of this step to the log, once."""
    found = _retrieval(read, encoder, tokenizer, runtime)
    if found and all(entry["step"] != state.step for entry in state.held_out):
        state.held_out.append({"step": state.step, **found})


def _retrieval(read: Corpus, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, runtime: Runtime) -> dict[str, float]:
    """Accuracy (0-100) of finding a held-out line's English source among all held-out English lines, by language."""
    found: dict[str, float] = {}
    encoder.eval()
    for bitext in read.bitexts:
        sides = dict(bitext.sides)
        if not bitext.held_out or "en" not in sides:
            continue
        english = _vectors([sides["en"][i] for i in bitext.held_out], encoder, tokenizer, runtime)
        for language, lines in sides.items():
            if language != "en":
                mine = _vectors([lines[i] for i in bitext.held_out], encoder, tokenizer, runtime)
                best = (mine @ english.T).argmax(1)
                found[language] = 100.0 * float((best == np.arange(len(best))).mean())
    encoder.train()
    return found


def _vectors(
    lines: Sequence[str], encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, runtime: Runtime
) -> NDArray[np.float32]:
    """[N, H] unit vectors, mean-pooled."""
    own = [np.asarray(row, np.int64) for row in tokenizer(list(lines), add_special_tokens=False)["input_ids"]]
    rows = _with_specials(own, tokenizer, 64)
    out = np.empty((len(rows), hf.hidden_size(encoder)), np.float32)
    with torch.inference_mode():
        for chunk in _chunks([len(row) for row in rows], 2 * MICRO):
            out[chunk] = _pooled(encoder, [rows[i] for i in chunk], runtime).cpu().numpy()
    return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9), np.float32)


def _factor(config: Config, step: int) -> float:
    """Linear warm-up, then linear decay to zero."""
    warm = round(config.warmup * config.steps)
    return (step + 1) / warm if step < warm else (config.steps - step) / max(1, config.steps - warm)


def _optimizer(whole: nn.Module, encoder: PreTrainedModel, config: Config) -> torch.optim.AdamW:
    """AdamW in three groups: word embeddings (own rate), matrices, and vectors (no decay)."""
    words = encoder.get_input_embeddings().weight
    others = [p for p in whole.parameters() if p is not words]
    groups = [
        {"params": [words], "base": config.lr_embeddings, "weight_decay": 0.0},
        {"params": [p for p in others if p.ndim > 1], "base": config.lr, "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "base": config.lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), eps=1e-6, fused=True)


def _save(folder: Path, whole: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """One file, replaced by one rename: weights, moments, and the position in its header."""
    tensors = {f"weights/{name}": p.detach().cpu().contiguous() for name, p in whole.named_parameters()}  # tied ones once
    for number, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for name, value in optimizer.state.get(p, {}).items():
            tensors[f"adam/{number}/{name}"] = value.detach().cpu().contiguous()
    pending = folder / "state.part"
    save_file(tensors, pending, metadata={"state": json.dumps(asdict(state))})
    os.replace(pending, folder / "state.safetensors")


def _resume(folder: Path, whole: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """The saved position, weights and moments put back; a fresh State where nothing is saved."""
    path = folder / "state.safetensors"
    if not path.is_file():
        return State()
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        state = State(**json.loads(file.metadata()["state"]))
        with torch.no_grad():
            for name, p in whole.named_parameters():
                p.copy_(file.get_tensor(f"weights/{name}"))
        for number, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
            prefix = f"adam/{number}/"
            own = {name.removeprefix(prefix): file.get_tensor(name) for name in names if name.startswith(prefix)}
            if own:
                optimizer.state[p] = {name: value.to(p.device) for name, value in own.items()}
    return state


def _write(
    out: Path, config: Config, read: Corpus, stage: Pretrain, body: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
    head: nn.Module | None, state: State,
) -> None:  # fmt: skip
    body.set_attn_implementation("sdpa")
    hf.save_encoder(body, tokenizer, out / "encoder")
    if head is not None:
        (out / "heads").mkdir(exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
        save_file(tensors, out / "heads" / "mask.safetensors")
        (out / "heads" / "mask.json").write_text(json.dumps({"kind": "mask", "labels": []}) + "\n", "utf-8")
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    log = {
        "steps": state.step,
        "examples": state.examples,
        "tokens": state.tokens,
        "seconds": state.seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale,
        "parameters": hf.parameters_of(body),
        "losses": state.losses,
        "held_out": state.held_out,
        "threads": stage.runtime.threads,
        "precision": stage.runtime.precision,
        "machine": machine.kind(),
    }
    (out / "log.json").write_text(json.dumps(log, indent=1) + "\n", "utf-8")
    (out / "provenance.json").write_text(json.dumps(_provenance(config, read, stage), ensure_ascii=False, indent=1) + "\n", "utf-8")


def _provenance(config: Config, read: Corpus, stage: Pretrain) -> dict[str, object]:
    """What reports on this encoder must be able to say."""
    aligned_by = config.model.embeddings == "parallel" or any(not one.monolingual for one in config.objective)
    models = dict.fromkeys(name for name in (config.model.init, *(one.teacher for one in config.objective)) if name)
    return {
        "config": config.name,
        "key": stage.key,
        "objectives": [one.kind for one in config.objective],
        "init": config.model.init or None,
        "models": {name: KNOWN.get(name, {"name": name, "tuned_on": "not known"}) for name in models},
        "parallel": sorted({bitext.name for bitext in read.bitexts if aligned_by} | {"mini" for text in config.text if text.path == MIXED}),
        "parallel_lines": {bitext.name: _lines(bitext) for bitext in read.bitexts},
        "text_lines": {language: len(lines) for language, lines in read.texts.items()},
        "dropped_as_evaluation": dict(read.dropped),
        "transductive": config.transductive,
    }


def _lines(bitext: Bitext) -> dict[str, int]:
    counts: dict[str, int] = {}
    for language, lines in bitext.sides:
        counts[language] = counts.get(language, 0) + sum(1 for line in lines if line)
    return counts


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m xstilts.engine.pretrain", description="Make an encoder without a store.")
    parser.add_argument("config", help="a TOML file or the name of a ready-made pretraining")
    parser.add_argument("--out", type=Path, required=True, help="draft folder: out/encoder is the result, state/ is resumed from")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XSTILTS_DATA", "~/.cache/xstilts/data")).expanduser())
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    made = stage_of(read_config(given.config), given.data, Runtime(given.precision, given.threads))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "stage.json").write_text(json.dumps({"key": made.key, **asdict(made)}, indent=1) + "\n", "utf-8")
    print(f"{made.key}", flush=True)
    shown = [0.0]

    def emit(progress: Progress) -> None:
        if progress.seconds - shown[0] > 15 or progress.step == progress.steps:
            shown[0] = progress.seconds
            print(
                f"step {progress.step}/{progress.steps} loss {progress.loss:.4f} {progress.examples / progress.seconds:.0f} rows/s "
                f"{progress.seconds:.0f} s",
                flush=True,
            )

    pretrain(made, given.data, given.out, emit, lambda: False)


if __name__ == "__main__":
    _main()
