"""Fine-tuning, intermediate or target: one function, one loop, resumable to the bit.

Everything that happens at a step is a function of (stage, step): the examples from the schedule,
dropout and masking from (seed, step, row). So the state is weights, Adam's moments and a number.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from xstilts import metrics
from xstilts.arithmetic import MICRO, MICRO_GPU, WIDE
from xstilts.engine import adapters, hf, keep, mask, parallel, pictures, text, vocabulary
from xstilts.engine import model as models
from xstilts.engine.adapters import Weights
from xstilts.engine.batch import Batch, Columns, batch_of, rng, schedule
from xstilts.engine.dropout import Draws, replace_dropouts
from xstilts.engine.kinds import ANSWERS, TRAINS, Steps, encoded
from xstilts.engine.model import Model
from xstilts.engine.parallel import Alone, Whole
from xstilts.engine.predict import logits as predict_logits
from xstilts.errors import DataError, ModelError, Stopped, StoreError, TrainingError
from xstilts.examples import Example, gold_of
from xstilts.families import refusal
from xstilts.stages import ALONE, Layout, Progress, Recipe, Rows, Train, heads_of, root
from xstilts.task import Task

NO_HEAD = nn.Identity()
SAVE_EVERY = 60.0  # seconds between two saved states
SAVE_SHARE = 0.05  # of the time at most goes into saving: a state that takes long to write is written less often
REPORT_EVERY = 0.5
FORM = 2  # of a saved state; a state of another form is not resumed, the training starts anew
NO_DECAY = ("bias", "norm.weight", "LayerNorm.weight", "layer_norm.weight")


@dataclass
class State:
    """Where a training stands, beside weights and moments."""

    form: int = FORM
    step: int = 0
    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_step: int = -1
    best_score: float = -1.0
    losses: list[list[float]] = field(default_factory=list)  # [step, mean loss since the last entry]
    recent: list[float] = field(default_factory=list)  # the losses since that entry
    selections: list[list[float]] = field(default_factory=list)  # [step, score on the English dev part]


@dataclass(frozen=True)
class Material:
    """One share of the mix, ready to train on."""

    task: Task
    rows: Rows
    columns: Columns


def train(
    stage: Train, start: Weights, task_of: Callable[[str], Task], load: Callable[[Rows], list[Example]],
    draft: Path, cache: Path, emit: Callable[[Progress], None], stop: Callable[[], bool],
    layout: Layout = ALONE, team: Alone | None = None,
) -> None:  # fmt: skip
    """Train `stage` from the model in `start`; the entry's files go to `draft/out`, the resumable state to `draft/state`.

    Of several processes each calls this with its `team` (see `parallel`); the first writes.
    Raises Stopped after saving when `stop()` turns true, TrainingError for a loss that is not finite
    (naming step and examples), DataError for rows without label.
    """
    device, recipe = stage.runtime.device, stage.recipe
    team = team or Alone()
    if team.sharded and recipe.tuning == "qlora":
        raise ModelError('tuning = "qlora": weights of four bits cannot be split over processes; use --parallel ddp')
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    team.wait_for_turn()
    tokenizer = hf.load_tokenizer(start.encoder)
    generator = torch.Generator().manual_seed(int(rng(stage.seed, "adapter").integers(2**63)))
    encoder, adapter = adapters.prepared(start, recipe, stage.runtime.precision, generator)
    as_text, asked = (models.text_form(start.form, encoder, asks) for asks in (False, True))
    if as_text is None:
        hf.check_pool(encoder, root(stage).pool)
    if layout.checkpointing:
        hf.checkpoint(encoder)
    longest = models.longest(start.form, encoder, recipe.max_length)

    def columns_of(rows: Rows, form: text.Form | None) -> Columns:
        def labelled() -> list[Example]:
            examples = load(rows)
            _refuse_untrainable(examples, task_of(rows.task), rows)
            return examples

        task = task_of(rows.task)
        made = encoded(start.encoder, tokenizer, task, rows, labelled, longest, recipe.stride, cache, form)
        if task.images:
            made = replace(made, images=pictures.gallery(load(rows), start.images, stage.runtime, cache, stop))
        hf.check_ids(encoder, len(tokenizer) - 1 if task.kind == "mask" else int(made.ids.max(initial=0)), start.encoder)
        return made

    for task in (task_of(share.rows.task) for share in stage.mix):
        if reason := refusal(hf.family(encoder), task.kind, recipe.tuning):
            raise ModelError(f"{task.name} cannot be trained on {encoder.config.model_type}: {reason}")
    materials = [Material(task_of(share.rows.task), share.rows, columns_of(share.rows, as_text)) for share in stage.mix]
    dev = [(task_of(rows.task), columns_of(rows, asked), load(rows), rows.language) for rows in stage.select]
    tasks = {m.task.name: m.task for m in materials}
    generator = torch.Generator().manual_seed(stage.seed)
    headed = tasks if as_text is None else {}
    kept = heads_of(stage.start) if stage.heads == "kept" else frozenset()
    heads = {
        name: models.first_head(encoder, task, recipe.dropout, generator, start.folder, name in kept) for name, task in headed.items()
    }
    draws = Draws(recipe.dropout, stage.seed)
    whole = Whole(encoder, heads)
    size = {"parameters": hf.parameters_of(whole), "trained": sum(p.numel() for p in keep.trained(whole).values())}
    rows_trained = vocabulary.refusal(encoder, {task.kind for task in tasks.values()}, written=as_text is not None)
    trimmed = None
    if rows_trained is None:
        trimmed = vocabulary.trim(encoder, [*(material.columns for material in materials), *(made for _, made, _, _ in dev)])
        materials = [replace(material, columns=trimmed.columns(material.columns)) for material in materials]
        dev = [(task, trimmed.columns(made), examples, language) for task, made, examples, language in dev]
        rows_trained = f"{len(trimmed.kept):,} of {len(trimmed.table_VH):,} embedding rows"
        if recipe.tuning != "full":
            trimmed = None  # no table is stored: the full one need not stay in memory
    replace_dropouts(whole, draws)
    trained = team.spread(whole, hf.layers(encoder), device).train()
    model = Model(encoder, tokenizer, heads)

    plan = schedule(
        [m.columns.count for m in materials], [s.weight for s in stage.mix], recipe.epochs, recipe.steps, recipe.batch, stage.seed
    )
    optimizer = _optimizer(whole, recipe)
    state, best = _resume(draft / "state", whole, optimizer)
    if team.of_first(state.step) != state.step:
        raise StoreError(f"{draft}: the processes of this training find different states there; all hosts must share the store")
    at = _selection_steps(len(plan), recipe.selections if dev else 0)
    mean = keep.averaged(recipe.average, at)

    pool = root(stage).pool
    budget = layout.micro_tokens or (MICRO if device == "cpu" else MICRO_GPU) // (1 if as_text is None else WIDE)
    started = time.perf_counter() - state.seconds
    saved = reported = time.perf_counter()
    pause = SAVE_EVERY
    params = [*keep.trained(whole).values()]
    while state.step < len(plan):
        step = plan[state.step]
        material = materials[step.share]
        kind: Steps = TRAINS[material.task.kind] if as_text is None else text
        head = heads.get(material.task.name, NO_HEAD)
        for group in optimizer.param_groups:
            group["lr"] = _rate(recipe, state.step, len(plan))
        total, targets, tokens = 0.0, 0.0, 0.0
        own = parallel.passes(material.columns, step.examples, budget, team.rank, team.size)
        for number, (rows_B, counts) in enumerate(own, 1):
            batch = batch_of(material.columns, rows_B, device)
            if material.task.kind == "mask":
                batch = mask.masked(batch, tokenizer, recipe.mask_rate, stage.seed, state.step)
            # a model that reads input and target apart never sees a row of these lengths: it goes by whole rows
            draws.at(state.step, rows_B + (step.share << 40), batch.lengths if as_text is None else np.zeros_like(batch.lengths))
            with team.quiet(trained, last=number == len(own)):
                with hf.autocast(device, stage.runtime.precision, cache=not team.sharded):
                    summed, count = trained(partial(_summed, kind, encoder, head, batch, pool))
                (summed if counts else 0 * summed).backward()
            if counts:
                total += float(summed.detach())
                targets += count
                tokens += batch.size
        due = team.rank == 0 and time.perf_counter() - saved > pause
        total, targets, tokens, stopping, saving = team.sums(total, targets, tokens, stop(), due)
        state.tokens += int(tokens)
        if not np.isfinite(total):
            examples = load(material.rows)
            named = ", ".join(examples[e].id for e in step.examples[:4])
            raise TrainingError(
                f"{material.task.name}: the loss is {total} at step {state.step} (examples {named}, ...); "
                "lower recipe.lr or use precision fp32"
            )
        _step(optimizer, params, max(1, targets) / team.size, recipe.clip)
        state.recent.append(total / max(1, targets))
        state.step += 1
        state.examples += len(step.examples)
        now = time.perf_counter()
        state.seconds = now - started
        if state.step in at:
            whole.eval()
            score = team.of_first(_select(whole, model, dev, pool, device, stage.runtime.precision, asked))
            whole.train()
            state.selections.append([state.step, score])
            if team.keeps:
                best = keep.after(best, whole, state, score, mean, len(plan))
        if state.step % max(1, len(plan) // 100) == 0 or state.step == len(plan):
            state.losses.append([state.step, float(np.mean(state.recent))])
            state.recent = []
        if now - reported > REPORT_EVERY:
            reported = now
            loss = state.losses[-1][1] if state.losses else float(np.mean(state.recent))
            emit(Progress(state.step, len(plan), loss, state.examples, state.seconds))
        if state.step < len(plan) and (stopping or saving):
            _save(draft / "state", whole, optimizer, state, best, team.rank == 0)
            saved = time.perf_counter()
            pause = max(SAVE_EVERY, (saved - now) / SAVE_SHARE)
        if stopping and state.step < len(plan):
            raise Stopped(f"stopped at step {state.step} of {len(plan)}; the next run goes on from there")
    if best:
        keep.put(whole, best)
    if mean:
        whole.eval()
        state.best_score = team.of_first(_select(whole, model, dev, pool, device, stage.runtime.precision, asked))
    parallel.unshard(whole, keep=team.rank == 0)
    if team.rank != 0:
        return
    if trimmed is not None:
        taken = mean or (state.best_step if state.best_step >= 0 else len(plan),)
        vocabulary.restore(encoder, trimmed, float(np.mean([_decay(recipe, step, len(plan)) for step in taken])))
    out = draft / "out"
    out.mkdir(parents=True, exist_ok=True)
    if recipe.tuning == "full":
        hf.save_encoder(encoder, tokenizer, out / "encoder")
    elif adapter:
        adapters.save(encoder, adapter, recipe, start.base, out / adapters.FOLDER)
    models.save_heads(heads, tasks, out)
    size |= {  # the sums of the rows' squared lengths, which attention goes by, and what selections have read
        "squares": sum(int(_squares(m.columns)[drawn].sum()) for m, drawn in zip(materials, plan.streams, strict=True)),
        "selected": len(state.selections) * sum(len(made.ids) for _, made, _, _ in dev),
        "selected_squares": len(state.selections) * sum(int(_squares(made).sum()) for _, made, _, _ in dev),
    }
    (out / "log.json").write_text(json.dumps({**_log(state, stage, layout), **size, "trimmed": rows_trained}, indent=1) + "\n", "utf-8")


def _squares(made: Columns) -> NDArray[np.float64]:
    """[examples] the sum of the squared lengths of each example's rows."""
    return np.asarray(np.bincount(made.example, made.lengths**2, made.count), np.float64)


def _refuse_untrainable(examples: Sequence[Example], task: Task, rows: Rows) -> None:
    label = {"classify": "label", "choose": "label", "tag": "tags", "span": "answers"}.get(task.kind)
    if not examples:
        raise DataError(f"{task.name} {rows.split} {rows.language}: no rows to train on")
    for e in examples if label else ():
        if getattr(e, str(label)) is None:
            raise DataError(f"{task.name} {rows.split} {rows.language}: row {e.id} is unlabelled, so that it cannot be trained on")


def _summed(kind: Steps, encoder: PreTrainedModel, head: nn.Module, batch: Batch, pool: str) -> tuple[Tensor, int]:
    """The loss summed over a micro-batch's targets, and their number."""
    return kind.loss(kind.logits(encoder, head, batch, pool), batch)


def _optimizer(whole: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    named = [*keep.trained(whole).items()]
    groups = [
        {"params": [p for n, p in named if not n.endswith(NO_DECAY)], "weight_decay": recipe.weight_decay},
        {"params": [p for n, p in named if n.endswith(NO_DECAY)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, eps=recipe.eps, fused=True)


def _rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step: linear warm-up over the first share of the steps, then linear decay to zero."""
    warm = round(recipe.warmup * steps)
    return recipe.lr * ((step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm))


def _decay(recipe: Recipe, step: int, steps: int) -> float:
    """What decoupled weight decay (Loshchilov and Hutter 2019) has left of a weight without gradient after `step` steps."""
    return float(np.prod([1 - _rate(recipe, s, steps) * recipe.weight_decay for s in range(step)]))


def _step(optimizer: torch.optim.Optimizer, params: Sequence[nn.Parameter], targets: float, clip: float) -> None:
    """Divide the summed gradients by the step's count, clip once at norm `clip`, update.

    Where gradients are means over processes of their sums, `targets` is the count over the number of processes.
    """
    grads = [p.grad for p in params if p.grad is not None]
    norm = parallel.norm(grads) / targets
    torch._foreach_mul_([parallel.local(grad) for grad in grads], min(1.0, clip / (norm + 1e-6)) / targets)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _selection_steps(steps: int, selections: int) -> frozenset[int]:
    return frozenset(max(1, round(steps * (i + 1) / selections)) for i in range(selections))


def _select(
    whole: Whole, model: Model, dev: Sequence[tuple[Task, Columns, list[Example], str]], pool: str, device: str, precision: str,
    asked: text.Form | None,
) -> float:  # fmt: skip
    """The mean headline score over the tasks of the mix on their English dev parts, on 0-100."""
    scores = []
    for task, made, examples, language in dev:
        if asked is not None:
            body, budget = model.encoder, MICRO // WIDE
            written = partial(text.answers, body, model.tokenizer, asked, made, examples, task, language, device, precision, budget)
            answered, _ = whole(written)
        else:
            head = model.heads[task.name]
            rows = list(whole(partial(predict_logits, model, head, task, made, pool, device, precision)))
            answered = ANSWERS[task.kind].answers(rows, made, examples, task)
        gold, pred = [gold_of(e) for e in examples], [a.pred for a in answered]
        scores.append(metrics.items(task.metrics[0], task, language, gold, pred).value)
    return float(np.mean(scores))


def _save(
    folder: Path, whole: nn.Module, optimizer: torch.optim.Optimizer, state: State, best: Mapping[str, Tensor], writes: bool
) -> None:
    """Save the weights that are trained, moments and position; the JSON that names the tensors' file is replaced last, by one rename.

    The file holds whole tensors, however many processes there are: all have to call, one writes.
    """
    tensors = {name: t.cpu().contiguous() for name, t in _tensors(whole, optimizer, best) if writes}
    if not writes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{state.step}.safetensors"
    save_file(tensors, folder / f"{name}.part")
    (folder / f"{name}.part").rename(folder / name)
    pending = folder / "state.json.part"
    pending.write_text(json.dumps({**asdict(state), "tensors": name}), "utf-8")
    pending.rename(folder / "state.json")
    for old in folder.glob("*.safetensors*"):
        if old.name != name:
            old.unlink()


def _tensors(
    whole: nn.Module, optimizer: torch.optim.Optimizer, best: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state, one whole one after the other."""
    weights: dict[str, Tensor] = {**keep.trained(whole)}
    again = models.tied(whole)
    for name, value in weights.items():
        if name not in again:
            yield f"weights/{name}", parallel.full(value)
    for number, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for name, value in optimizer.state.get(p, {}).items():
            yield f"adam/{number}/{name}", parallel.full(value)
    for name, value in best.items():
        yield f"best/{name}", parallel.full(parallel.sharded(value, weights[name]))


def _resume(folder: Path, whole: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[State, dict[str, Tensor]]:
    """The saved position and best weights, with weights and moments put back; a fresh State where nothing is saved.

    Where the model is sharded, each process takes its part out of the whole tensors.
    """
    try:
        saved = json.loads((folder / "state.json").read_text("utf-8"))
    except FileNotFoundError:
        return State(), {}
    if saved.get("form") != FORM:
        return State(), {}
    tensors = load_file(folder / saved.pop("tensors"))
    weights, again = keep.trained(whole), models.tied(whole)
    kept = {name: tensors[f"weights/{again.get(name, name)}"] for name in weights}
    keep.put(whole, {name: parallel.part(kept[name], like) for name, like in weights.items()})
    for number, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        prefix = f"adam/{number}/"
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        if own:
            moments = {name: parallel.sharded(parallel.part(t, p), p) for name, t in own.items() if name != "step"}
            optimizer.state[p] = {"step": own["step"].to(p.device), **moments}
    best = {name.removeprefix("best/"): t for name, t in tensors.items() if name.startswith("best/")}
    return State(**saved), {name: parallel.part(t, weights[name]) for name, t in best.items()}


def _log(state: State, stage: Train, layout: Layout) -> dict[str, object]:
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return {
        "steps": state.step,
        "examples": state.examples,
        "tokens": state.tokens,
        "seconds": state.seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale,
        **({"gpu_mb": torch.cuda.max_memory_allocated() / (1 << 20)} if stage.runtime.device == "cuda" else {}),
        "best_step": state.best_step if state.best_step >= 0 else state.step,
        "dev": state.best_score if state.selections else None,
        "selections": state.selections,
        "losses": state.losses,
        "threads": stage.runtime.threads,
        "precision": stage.runtime.precision,
        **({"processes": layout.size, "parallel": layout.parallel} if layout.size > 1 else {}),
        **({"checkpointing": True} if layout.checkpointing else {}),
        **({"micro_tokens": layout.micro_tokens} if layout.micro_tokens else {}),
    }
