"""Zero-shot answers: a model, the rows of one task in one language, a table of answers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xstilts import metrics
from xstilts.arithmetic import BATCH, WIDE
from xstilts.engine import adapters, hf, pictures, retrieve, text
from xstilts.engine import model as models
from xstilts.engine.adapters import Weights
from xstilts.engine.answers import Answered
from xstilts.engine.batch import Batch, Columns, batch_of, by_length
from xstilts.engine.kinds import ANSWERS, TRAINS, encoded
from xstilts.engine.model import Model, load_head
from xstilts.errors import DataError
from xstilts.examples import Example, Parallel, gold_of, group_of, is_candidate
from xstilts.scores import PREDICTIONS, write_predictions
from xstilts.stages import Predict, Pretrain, Pretrained, Rows, best_layer, layer_of, root
from xstilts.task import Task
from xstilts.textform import Found, names_entities


@lru_cache(maxsize=1)
def _loaded(model: Weights, device: str, precision: str) -> Model:
    """The last model used: a target model predicts in many languages one after the other."""
    encoder = nn.Module.to(adapters.loaded(model, precision), device).eval()
    return Model(encoder, hf.load_tokenizer(model.encoder), {})


def predict(
    stage: Predict, model: Weights, task: Task, load: Callable[[Rows], list[Example]], out: Path, cache: Path,
    measured: Sequence[Mapping[str, float]] = (), head_at: Path | None = None,
) -> None:  # fmt: skip
    """Write predictions.parquet and facts.json into `out`. `model` is where stage.model lies, `head_at` the entry of stage.head.

    `measured` are the facts of stage.choosers, in order: with layer "dev" they say which layer to take.
    Raises DataError for rows without label, ModelError when model and task do not fit.
    """
    started = time.perf_counter()
    examples = load(stage.rows)
    _refuse_unlabelled(examples, task, stage.rows)
    device = stage.runtime.device
    loaded = _loaded(model, device, stage.runtime.precision)
    longest = models.longest(model.form, loaded.encoder, stage.max_length)
    untuned = isinstance(stage.model, Pretrained | Pretrain)
    form = models.text_form(model.form, loaded.encoder, asks=True, natural=untuned)
    if form is None:
        hf.check_pool(loaded.encoder, (stage.pool or "mean") if task.kind == "retrieve" else root(stage).pool)

    def columns_of(rows: Rows, own: Callable[[], Sequence[Example]]) -> Columns:
        made = encoded(model.encoder, loaded.tokenizer, task, rows, own, longest, stage.stride, cache, form)
        if task.images:
            made = replace(made, images=pictures.gallery(own(), model.images, stage.runtime, cache))
        hf.check_ids(loaded.encoder, int(made.ids.max(initial=0)), model.encoder)
        return made

    made = columns_of(stage.rows, lambda: examples)
    more: dict[str, float] = {}
    if form is not None:
        language, precision = stage.rows.language, stage.runtime.precision
        answered, found = text.answers(
            loaded.encoder, loaded.tokenizer, form, made, examples, task, language, device, precision, BATCH // WIDE
        )
        more = {"cut_rate": float(np.mean(made.rows["cut"])), **outputs(task, found)}
    elif task.kind == "retrieve":
        tune = None
        if stage.tune is not None:
            labelled = load(stage.tune)
            _refuse_unlabelled(labelled, task, stage.tune)
            tune = (labelled, columns_of(stage.tune, lambda: labelled))
        answered, more = _retrieved(loaded, stage, task, examples, made, tune, measured)
    else:
        head = load_head(head_at or model.folder, loaded.encoder, task).to(device).eval()
        rows = list(logits(loaded, head, task, made, root(stage).pool, device, stage.runtime.precision))
        answered = ANSWERS[task.kind].answers(rows, made, examples, task)
    out.mkdir(parents=True, exist_ok=True)
    asked = scored(examples)
    write_predictions(
        out / PREDICTIONS,
        [e.id for e in asked],
        [group_of(e) for e in asked],
        [gold_of(e) for e in asked],
        [a.pred for a in answered],
        [a.scores for a in answered],
    )
    unknown = int((made.ids == loaded.tokenizer.unk_token_id).sum()) if loaded.tokenizer.unk_token_id is not None else 0
    facts = {
        "seconds": time.perf_counter() - started,
        "tokens": len(made.ids),
        "rows": len(made.example),
        "squares": int((made.lengths**2).sum()),
        "unk_rate": unknown / max(1, len(made.ids)),
        **more,
    }
    (out / "facts.json").write_text(json.dumps(facts) + "\n", "utf-8")


def outputs(task: Task, found: Found) -> dict[str, float]:
    """Shares of what was written: names (or answers that are not empty) that do not stand in the input, and that are in a wrong script.

    {} where nothing is written freely: labels and options are scored, one tag a word is chosen among the tags.
    """
    if task.kind not in ("span", "tag") or (task.kind == "tag" and not names_entities(task)):
        return {}
    many = max(1, found.many)
    return {"outputs": found.many, "not_in_input": 1 - found.right / many if found.many else 0.0, "wrong_script": found.foreign / many}


def _retrieved(
    model: Model, stage: Predict, task: Task, examples: Sequence[Example], made: Columns, tune: tuple[Sequence[Example], Columns] | None,
    measured: Sequence[Mapping[str, float]],
) -> tuple[list[Answered], dict[str, float]]:  # fmt: skip
    """The answers at the stage's layer, and the headline score on 0-100 at every layer that was measured.

    One pass through the encoder gives all of them; of mining, whose texts are large, the stage's and the last alone. A stage
    that names no layer is the model's own and measures nothing beside. Where dev rows choose the layer, they measure all.
    """
    depth = hf.depth(model.encoder)
    choosing = stage.layer == "dev" and not stage.chosen_on
    if choosing:
        layer = depth  # until all are measured
    else:
        layer = best_layer(measured) if stage.layer == "dev" else layer_of(stage.layer, depth, root(stage).layer)
    beside = range(depth + 1) if task.retrieval != "mining" or choosing else (layer, depth)
    wanted = sorted({layer, *(beside if stage.layer else ())})
    pool, device, precision = stage.pool or "mean", stage.runtime.device, stage.runtime.precision
    one_pool = task.retrieval == "map20"
    rows = (_beside_pool(model, made, examples, wanted, pool, device, precision) if one_pool
            else list(vectors(model, made, wanted, pool, device, precision)))  # fmt: skip
    tuned = list(vectors(model, tune[1], wanted, pool, device, precision)) if tune is not None else []
    found: dict[int, list[Answered]] = {}
    for at, each in enumerate(wanted):
        own = [row[at] for row in rows]
        if task.retrieval == "mining":
            threshold = retrieve.threshold([row[at] for row in tuned], tune[0]) if tune is not None else None
            found[each] = retrieve.mined(own, examples, threshold)
        else:
            found[each] = retrieve.answers(own, made, examples, task)
    scores: dict[str, float] = {}
    for each in wanted if stage.layer else ():
        gold, pred = [gold_of(e) for e in scored(examples)], [a.pred for a in found[each]]
        scores[f"layer_{each}"] = metrics.items(task.metrics[0], task, stage.rows.language, gold, pred).value
    layer = best_layer([scores]) if choosing else layer
    return found[layer], {"layer": layer, **scores}


def _beside_pool(
    model: Model, made: Columns, examples: Sequence[Example], layers: Sequence[int], pool: str, device: str, precision: str
) -> list[Tensor]:
    """The vectors of queries and of candidates, which are those of all languages: they are embedded once and remembered.

    Candidates go through the encoder apart from the queries, so that their rounding does not depend on the language.
    """
    of_pool = np.array([is_candidate(e) for e in examples])
    queries, candidates = np.flatnonzero(~of_pool), np.flatnonzero(of_pool)
    digest = hashlib.sha256(json.dumps([*layers, pool, device, precision, made.lengths[of_pool].tolist()]).encode())
    for own in made.rows_of(candidates):
        digest.update(made.ids[made.bounds[own[0]] : made.bounds[own[0] + 1]].tobytes())
    name = digest.hexdigest()
    if name not in model.pools:
        model.pools[name] = list(vectors(model, made, layers, pool, device, precision, candidates))
    found = dict(zip(queries.tolist(), vectors(model, made, layers, pool, device, precision, queries), strict=True))
    found |= zip(candidates.tolist(), model.pools[name], strict=True)
    return [found[row] for row in range(len(examples))]


def scored(examples: Sequence[Example]) -> list[Example]:
    """The examples that get an answer: all but retrieval's candidates."""
    return [e for e in examples if not is_candidate(e)]


def _refuse_unlabelled(examples: Sequence[Example], task: Task, rows: Rows) -> None:
    where = f"{task.name} {rows.split} {rows.language}"
    if not examples:
        raise DataError(f"{where}: no rows to predict")
    label = {"classify": "label", "choose": "label", "tag": "tags", "span": "answers", "retrieve": "gold"}[task.kind]
    if task.retrieval == "mining":
        if all(e.gold is None for e in scored(examples) if isinstance(e, Parallel)):
            raise DataError(f"{where}: no gold pairs, so that what is mined cannot be scored")
        return
    for e in scored(examples):
        if getattr(e, label) is None:
            raise DataError(f"{where}: row {e.id} is unlabelled, so that it cannot be scored")


@torch.inference_mode()
def logits(model: Model, head: nn.Module, task: Task, made: Columns, pool: str, device: str, precision: str) -> Iterator[Tensor]:
    """The logits of every row, in the order of the columns, on the CPU in fp32 and without padding."""
    kind = TRAINS[task.kind]

    def forward(batch: Batch) -> Tensor:
        return kind.logits(model.encoder, head, batch, pool)

    return _in_order(model, made, forward, device, precision, one_a_row=task.kind not in ("tag", "span"))


@torch.inference_mode()
def vectors(
    model: Model, made: Columns, layers: Sequence[int], pool: str, device: str, precision: str, among: NDArray[np.int64] | None = None
) -> Iterator[Tensor]:
    """[len(layers), H] each row's sentence vector, pooled as `pool` says, at each of the layers; of the examples in `among`, or all."""
    last = hf.depth(model.encoder)
    asked = [-1 if layer == last else layer for layer in layers]

    def forward(batch: Batch) -> Tensor:
        return torch.stack([hf.pooled(s.float(), batch, pool) for s in hf.layers_of(model.encoder, batch, asked)], dim=1)

    return _in_order(model, made, forward, device, precision, one_a_row=True, among=among)


def _in_order(
    model: Model, made: Columns, forward: Callable[[Batch], Tensor], device: str, precision: str, one_a_row: bool,
    among: NDArray[np.int64] | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    results: list[Tensor | None] = [None] * len(made.example)
    for rows_B in by_length(made, np.arange(made.count) if among is None else among, BATCH):
        batch = batch_of(made, rows_B, device)
        with torch.inference_mode(), hf.autocast(device, precision):
            out = forward(batch).float().cpu()
        for row, own in zip(rows_B, out if one_a_row else out.split(batch.lengths.tolist()), strict=True):
            results[row] = own
    return (r for r in results if r is not None)
