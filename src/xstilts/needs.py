"""What each stage of a plan needs: tokens, operations, memory; what of it is too big for a device, said before anything starts.

Token counts go by the bytes of the text, so that nothing has to be tokenised. The arithmetic of models is in `arithmetic`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from xstilts import arithmetic, machine, models
from xstilts.arithmetic import Memory, Passes, Shape, Tuning
from xstilts.canon import key_of
from xstilts.errors import DataError, ModelError
from xstilts.examples import Example
from xstilts.families import FAMILIES
from xstilts.machine import Device, Room
from xstilts.plan import Plan
from xstilts.rows import load, official, typical
from xstilts.sources import Pictured
from xstilts.stages import ALONE, Layout, Predict, Pretrain, Recipe, Rows, Stage, Train, root
from xstilts.store import Store, write_json
from xstilts.task import Task
from xstilts.tasks import task as find_task

BYTES_A_TOKEN = 4.0  # of UTF-8, before anything was measured
SPECIAL = 3  # special tokens of a row
SHORT = 8.0  # tokens of a short sentence
WRITTEN = 6.0  # tokens of an answer as text, before anything was written; of tags as many as the row has


@dataclass(frozen=True, slots=True)
class Lengths:
    """Examples as an encoder reads them, in tokens."""

    examples: float
    mean: float  # of an example, all its rows (options, windows)
    deviation: float  # between examples
    most: float  # of the largest example
    longest: float  # of the longest row
    pairs: float  # mean over the examples of the sum of their rows' squared lengths


@dataclass(frozen=True, slots=True)
class Need:
    """What one stage needs on one device."""

    parameters: int
    trained: int
    tokens: float  # through the encoder; one that is trained on counts once
    operations: float
    memory: Memory  # of its process, or of the GPU's
    host: int  # bytes of its process beside a GPU; 0 on a CPU
    steps: float  # of the optimizer
    passes: float  # micro-batches, forward or forward and backward
    layers: int


@dataclass(frozen=True, slots=True)
class Line:
    """Stages that do the same with the same model, and the need of the one that needs most."""

    kind: str  # "train" or "predict"
    model: str
    what: str  # the tasks
    stages: tuple[str, ...]  # keys
    need: Need | None  # None: the model's size is not known
    fits: bool | None  # None: not known


# ---- rows ----


class Measures(Protocol):
    """Says how long rows are."""

    def of(self, rows: Rows, max_length: int, stride: int, /) -> Lengths: ...

    def images(self, rows: Rows, /) -> int: ...


class Counts:
    """Rows and text lengths of the plan's rows: read once, then kept in the store's cache."""

    def __init__(self, store: Store, data: Path) -> None:
        self._path, self._data = store.cache / "rows.json", data
        self._like: dict[str, list[float]] = {}  # rows that stand for others; not kept, as no hash of files names them
        try:
            self._known: dict[str, list[float]] = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            self._known = {}
        self._new = False

    def count(self, rows: Rows) -> int:
        """The number of rows; of a translation: of its originals."""
        return int(self._lengths(rows.original)[0])

    def of(self, rows: Rows, max_length: int, stride: int) -> Lengths:
        """The lengths of rows that are cut at `max_length` tokens or read through windows of so many; of a translation: its originals'."""
        count, options, deciles = self._lengths(rows.original)
        span = find_task(rows.task).kind == "span"
        shared = min(stride, max_length // 4)
        each: list[tuple[float, float, float]] = []  # tokens, those of the longest row, rows
        for size in deciles:
            length = size / BYTES_A_TOKEN / options + SPECIAL
            if span and length > max_length:
                windows = 1 + math.ceil((length - max_length) / (max_length - shared))
                each.append((length + (windows - 1) * shared, max_length, windows))
            else:
                each.append((options * min(length, max_length), min(length, max_length), options))
        return Lengths(
            count,
            statistics.fmean(total for total, _, _ in each),
            statistics.pstdev(total for total, _, _ in each),
            max(total for total, _, _ in each),
            max(row for _, row, _ in each),
            statistics.fmean(total * total / rows for total, _, rows in each),
        )

    def images(self, rows: Rows) -> int:
        """How many images rows have, at most: those that their split names, and one a row."""
        source = find_task(rows.task).source
        if not isinstance(source, Pictured):
            return 0
        return min(len(source.images(self._data, rows.split, rows.language)), self.count(rows))

    def characters(self, rows: Rows) -> float:
        """About how many characters the rows hold."""
        count, _, deciles = self._lengths(rows)
        return count * statistics.fmean(deciles)

    def _lengths(self, rows: Rows) -> tuple[float, float, list[float]]:
        """The number of rows, the mean number of options of one, and the deciles of their bytes."""
        if not rows.data:
            return self._unseen(rows)
        key = key_of(rows)
        if len(self._known.get(key, ())) != 13:
            self._known[key] = _measured(load(rows, self._data))
            self._new = True
        count, options, *deciles = self._known[key]
        return count, options, deciles

    def _unseen(self, rows: Rows) -> tuple[float, float, list[float]]:
        """The same of rows that are not at hand: their official number, as long as rows that are."""
        number = official(rows)
        like = typical(rows, self._data)
        if like is None:
            raise DataError(f"{rows.task}: no rows of its kind are at hand, so that the length of its rows cannot be estimated")
        key = f"{like.task} {like.split} {like.language}"
        if key not in self._like:
            self._like[key] = _measured(load(like, self._data))
        _, options, *deciles = self._like[key]
        return float(min(number, rows.cap or number)), options, deciles

    def save(self) -> None:
        """Keep what was counted; a disk that refuses only costs the next plan some time."""
        if self._new:
            try:
                write_json(self._path, self._known)
            except OSError:
                return


def _measured(examples: Sequence[Example]) -> list[float]:
    """The number of rows, the mean number of options of one, and the deciles of their bytes."""
    lengths = sorted(_bytes(example) for example in examples)
    deciles = [float(lengths[min(len(lengths) - 1, round(q * (len(lengths) - 1) / 10))]) for q in range(11)]
    return [float(len(lengths)), statistics.fmean(len(getattr(example, "options", "1")) for example in examples), *deciles]


class Bounds:
    """In place of `Counts`: as many rows as there may be, as long as they may be. Nothing is read."""

    def of(self, rows: Rows, max_length: int, stride: int) -> Lengths:
        """No example is longer where an example is one row; where it is several, a micro-batch holds no more either but for one example."""
        return Lengths(1e9, max_length, 0.0, max_length, max_length, max_length**2)

    def images(self, rows: Rows) -> int:
        """None: an image goes alone through the vision tower, and more of them take no more memory."""
        return 0


def _bytes(example: object) -> int:
    """UTF-8 bytes of what the encoder reads of an example."""
    from xstilts.examples import Choice, Parallel, Passage, Text, Words

    match example:
        case Text() | Parallel():
            texts: Iterable[str] = (example.text, getattr(example, "pair", None) or "")
        case Words():
            texts = example.words
        case Passage():
            texts = (example.question, example.context)
        case Choice():
            texts = [text for option in example.options for text in (example.context, getattr(example, "question", ""), option)]
        case _:
            raise TypeError(f"{type(example).__name__} is no example")
    return sum(len(text.encode()) + 1 for text in texts)


def pieces(tokens: float, vocabulary: int) -> int:
    """How many pieces of a vocabulary a text of so many tokens touches, at most: Heaps' law, K n^b (Heaps 1978, section 7.5).

    K and b are for English text in a vocabulary of 250,000 pieces of a hundred languages, on the safe side.
    """
    return int(min(tokens, vocabulary, 165 * tokens**0.33))


# ---- models ----


def shapes(plan: Plan, store: Store) -> dict[str, Shape]:
    """The shape of every start of a plan, by its key; without those of which nothing says it before they are there."""
    found = {}
    for start in plan.models.values():
        made = store.find_weights(start.key) if isinstance(start, Pretrain) else None
        where = plan.where.get(start.key) if made is None else made / "encoder"
        config = models.config(where) if where is not None else _described(start) if isinstance(start, Pretrain) else None
        if config is not None:
            try:
                found[start.key] = arithmetic.shape(config, whole=root(start).form == "text")
            except ModelError:
                continue
    return found


def _described(start: Pretrain) -> Mapping[str, object] | None:
    """The config that a new encoder will have; None where it takes over the body of another."""
    config = json.loads(start.config)
    model = config.get("model", {})
    family = model.get("family", "xlm-roberta")
    if model.get("init") or "layers" not in model:
        return None
    vocabulary = config.get("tokenizer", {}).get("vocab", 0)
    if family == "mt5":
        return {
            "model_type": "mt5", "vocab_size": vocabulary, "d_model": model["hidden"], "d_kv": model["hidden"] // model["heads"],
            "d_ff": model["ffn"], "num_layers": model["layers"], "num_heads": model["heads"],
        }  # fmt: skip
    if family == "llama":
        return {
            "model_type": "llama", "vocab_size": vocabulary, "hidden_size": model["hidden"], "num_hidden_layers": model["layers"],
            "num_attention_heads": model["heads"], "intermediate_size": model["ffn"],
        }  # fmt: skip
    return {
        "model_type": "xlm-roberta", "vocab_size": vocabulary, "hidden_size": model["hidden"],
        "num_hidden_layers": model["layers"], "num_attention_heads": model["heads"], "intermediate_size": model["ffn"],
        "max_position_embeddings": model["max_positions"] + 2, "type_vocab_size": 1,
    }  # fmt: skip


# ---- stages ----


def need(stage: Train | Predict, shape: Shape, counts: Measures, device: str, layout: Layout = ALONE) -> Need:
    """What a training or a prediction needs on a "cpu" or a "cuda" device, in the precision of its runtime.

    Of a training that is spread over processes the memory is that of one of them, the operations are those of all.
    """
    return _training(stage, shape, counts, device, layout) if isinstance(stage, Train) else _prediction(stage, shape, counts, device)


def _training(stage: Train, shape: Shape, counts: Measures, device: str, layout: Layout) -> Need:
    recipe, precision = stage.recipe, stage.runtime.precision
    tasks = {share.rows.task: find_task(share.rows.task) for share in stage.mix}
    read = [(share.weight, counts.of(share.rows, recipe.max_length, recipe.stride)) for share in stage.mix]
    drawn = sum(weight * each.examples for weight, each in read)
    mean = sum(weight * each.examples * each.mean for weight, each in read) / max(1.0, drawn)
    square = sum(weight * each.examples * each.pairs for weight, each in read) / max(1.0, drawn)
    examples = recipe.steps * recipe.batch if recipe.steps else recipe.epochs * drawn
    dev = [counts.of(rows, recipe.max_length, recipe.stride) for rows in stage.select]
    chosen = recipe.selections * sum(each.examples * each.mean for each in dev)
    chosen_pairs = recipe.selections * sum(each.examples * each.pairs for each in dev)

    as_text = root(stage).form == "text"
    written = _written(tasks.values(), mean) if as_text else 0.0
    decoder = written if len(shape.stacks) > 1 else 0.0  # a model without encoder has what it writes in the row that it reads
    mean += written - decoder
    masks = any(task.kind == "mask" for task in tasks.values())
    text = examples * mean / max(1.0, recipe.epochs) + sum(each.examples * each.mean for each in dev)
    rows = pieces(text, shape.vocabulary) if shape.family in FAMILIES and not masks and not as_text else None
    tuning = tuning_of(recipe, rows)
    heads = 0 if as_text else sum(_head(task, shape) for task in tasks.values())
    sees = any(task.images for task in tasks.values())
    narrower = arithmetic.WIDE if as_text else 1
    budget = layout.micro_tokens or (arithmetic.MICRO if device == "cpu" else arithmetic.MICRO_GPU) // narrower
    budget = max(1, budget // arithmetic.SEEING) if sees else budget
    # The largest step of many: three deviations above the mean, but no more than all of its examples at their longest.
    step = max(min(recipe.batch * each.most, recipe.batch * each.mean + 3 * each.deviation * recipe.batch**0.5) for _, each in read)
    most = max(each.most for _, each in read)
    step = max(most, step / layout.size)
    tokens = math.ceil(min(step, max(budget, most)))
    longest = math.ceil(max(each.longest for _, each in read))
    if not (shape.family in FAMILIES and FAMILIES[shape.family].packs):  # rows of a micro-batch are padded to its longest
        tokens = math.ceil(tokens * (1 + (longest * mean / square - 1) / math.ceil(step / max(budget, most))))
    hidden = recipe.mask_rate if masks else 0.0
    logits = hidden + written / mean  # positions with logits for every token that is read
    images = math.ceil(min(recipe.batch, tokens / _short(mean, recipe.max_length))) if sees else 0
    passes = Passes(tokens, longest, math.ceil(step / max(budget, most)), logits * tokens, math.ceil(decoder / mean * tokens), images)
    looked_at = max((each.examples * each.mean for each in dev), default=0.0) if recipe.selections else 0.0
    chosen_at = math.ceil(min(looked_at, arithmetic.BATCH // (arithmetic.SEEING if sees else 1)))
    seen_at = math.ceil(chosen_at / _short(mean, recipe.max_length)) if sees else 0
    selecting = Passes(chosen_at, longest, images=seen_at) if looked_at else None
    # The last state is not copied when it is the best, and one selection is of the last.
    copied = bool(stage.select) and (recipe.selections > 1 or recipe.average > 0)
    memory = arithmetic.train_memory(shape, tuning, passes, precision, heads, copied, device, layout, selecting)
    images = sum(map(counts.images, (*(share.rows for share in stage.mix), *stage.select))) if sees else 0
    work = Work(examples, examples * mean, examples * square, chosen, chosen_pairs, images)
    operations = _training_operations(stage, shape, work, written, layout.checkpointing)
    steps = examples / recipe.batch
    return Need(
        shape.parameters + heads, arithmetic.trained(shape, tuning, heads), examples * mean + chosen / 3,
        operations, memory,
        0 if device == "cpu" else arithmetic.host_memory(shape, tuning, heads, copied),
        steps, steps * max(1.0, recipe.batch * mean / budget) + chosen / arithmetic.BATCH, sum(s.layers for s in shape.stacks),
    )  # fmt: skip


def _short(mean: float, max_length: int) -> float:
    """Tokens of a row, where more rows take more memory: those of a short one where nothing is known of the rows (`Bounds`)."""
    return mean if mean < max_length else min(SHORT, max_length)


def _head(task: Task, shape: Shape) -> int:
    return arithmetic.head(task.kind, shape.hidden, len(task.labels), shape.vocabulary)


def _written(tasks: Iterable[Task], mean: float) -> float:
    """Tokens of an answer as text, at most, of examples of `mean` tokens."""
    return max(mean if task.kind == "tag" else WRITTEN for task in tasks)


def tuning_of(recipe: Recipe, rows: int | None) -> Tuning:
    """What a recipe trains of a model; `rows` of its word table take part (None: all)."""
    full = Tuning(embeddings=not recipe.freeze_embeddings, frozen=recipe.freeze_layers, rows=rows)
    match recipe.tuning:
        case "full":
            return full
        case "head":
            return replace(full, body=False)
        case "prompt":
            return replace(full, body=False, prompt=recipe.prompt_length)
        case "lora" | "qlora":  # weights of four bits are loaded with 32 first
            return replace(full, body=False, rank=recipe.rank)


def _prediction(stage: Predict, shape: Shape, counts: Measures, device: str) -> Need:
    read = counts.of(stage.rows, stage.max_length, stage.stride)
    task = find_task(stage.rows.task)
    as_text = root(stage).form == "text"
    written = _written((task,), read.mean) * _scored(task) if as_text else 0.0
    heads = 0 if as_text else _head(task, shape)
    tokens = read.examples * read.mean
    budget = arithmetic.BATCH // (arithmetic.WIDE if as_text else arithmetic.SEEING if task.images else 1)
    held = math.ceil(min(tokens, max(budget, read.most)))
    images = math.ceil(held / _short(read.mean, stage.max_length)) if task.images else 0
    passes = Passes(held, math.ceil(read.longest), logits=held * written / read.mean, images=images)
    memory = arithmetic.predict_memory(shape, passes, stage.runtime.precision, heads, device)
    work = Work(read.examples, tokens, read.examples * read.pairs, images=counts.images(stage.rows) if task.images else 0)
    operations = _prediction_operations(stage, shape, work, written)
    return Need(
        shape.parameters + heads, 0, tokens, operations, memory,
        0 if device == "cpu" else arithmetic.host_memory(shape, Tuning(), heads, best=False),
        0.0, tokens / budget + 1, sum(s.layers for s in shape.stacks),
    )  # fmt: skip


# ---- operations, planned or done ----


@dataclass(frozen=True, slots=True)
class Work:
    """What goes through a model's first stack: `squares` are the sums of the rows' squared lengths, `chosen` is of selections."""

    examples: float
    tokens: float
    squares: float
    chosen: float = 0.0
    chosen_squares: float = 0.0
    images: float = 0.0


def _training_operations(stage: Train, shape: Shape, work: Work, written: float, checkpointing: bool) -> float:
    """Operations of a training and its selections; `written` are the tokens of an answer as text."""
    tuning = tuning_of(stage.recipe, None)  # rows of the word table are looked up, which counts nothing
    tasks = [find_task(share.rows.task) for share in stage.mix]
    decoder = written if len(shape.stacks) > 1 else 0.0
    mean = work.tokens / max(1.0, work.examples)
    hidden = stage.recipe.mask_rate if any(task.kind == "mask" for task in tasks) else 0.0
    operations = arithmetic.training(
        shape, tuning, work.tokens, work.squares, work.examples * decoder, work.examples * decoder * (decoder + mean),
        hidden * work.tokens + work.examples * written, checkpointing,
    )  # fmt: skip
    if any(task.images for task in tasks):
        operations += arithmetic.learning_to_look(shape, tuning, work.tokens, work.examples)
        operations += sum(arithmetic.looked(shape, work.chosen, work.chosen / mean)) + arithmetic.seeing(shape, work.images)
    return operations + arithmetic.forward(shape, work.chosen, work.chosen_squares)


def _prediction_operations(stage: Predict, shape: Shape, work: Work, written: float) -> float:
    """Operations of a prediction; `written` are the tokens of all answers of an example as text: every label is scored."""
    answers, mean = work.examples * written, work.tokens / max(1.0, work.examples)
    operations = arithmetic.forward(shape, work.tokens, work.squares, answers, answers * (written + mean), answers)
    if find_task(stage.rows.task).images:
        operations += sum(arithmetic.looked(shape, work.tokens, work.examples)) + arithmetic.seeing(shape, work.images)
    return operations


def _scored(task: Task) -> int:
    """How many answers of an example are scored as text."""
    return max(1, len(task.labels)) if task.kind == "classify" else 1


def done(stage: Train | Predict, shape: Shape, facts: Mapping[str, float]) -> float:
    """Operations of a finished stage, by its own account of the tokens that it has read: what `need` counts of a planned one.

    Accounts that do not hold the rows' squared lengths are of rows of one length each, and without selections. Answers as text are as
    long as `need` takes them to be.
    """
    tokens = float(facts.get("tokens", 0.0))
    as_text = root(stage).form == "text"
    if isinstance(stage, Train):
        examples = max(1.0, float(facts.get("examples", 0.0)))
        tags = any(find_task(share.rows.task).kind == "tag" for share in stage.mix)
        written = (tokens / examples / 2 if tags else WRITTEN) if as_text else 0.0
        read = tokens - (examples * written if len(shape.stacks) > 1 else 0.0)
        squares = float(facts.get("squares", read * read / examples))
        seen = examples / max(1.0, stage.recipe.epochs)  # an image once, whatever the epochs
        work = Work(examples, read, squares, facts.get("selected", 0.0), facts.get("selected_squares", 0.0), seen)
        return _training_operations(stage, shape, work, written, bool(facts.get("checkpointing", False)))
    rows, task = max(1.0, float(facts.get("rows", 0.0))), find_task(stage.rows.task)
    squares = float(facts.get("squares", tokens * tokens / rows))
    if not as_text:
        return _prediction_operations(stage, shape, Work(rows, tokens, squares, images=rows), 0.0)
    many = _scored(task)  # rows of one example, each with its input
    read = (tokens - (rows * WRITTEN if task.kind == "classify" else 0.0)) / many
    written = many * _written((task,), read / (rows / many))
    return _prediction_operations(stage, shape, Work(rows / many, read, squares / many), written)


def lines(
    plan: Plan, todo: Mapping[str, Stage], store: Store, counts: Measures, device: str, room: int | None, layout: Layout = ALONE
) -> list[Line]:
    """What the trainings and predictions among `todo` need of a "cpu" or "cuda" device with `room` bytes of memory, like ones together."""
    known, names = shapes(plan, store), {start.key: name for name, start in plan.models.items()}
    groups: dict[tuple[str, str, str], list[Train | Predict]] = {}
    for stage in todo.values():
        if isinstance(stage, Train | Predict):
            start = root(stage).key
            groups.setdefault((_kind(stage), names.get(start, start[:12]), _what(stage)), []).append(stage)
    found = []
    for (kind, name, what), stages in groups.items():
        shape = known.get(root(stages[0]).key)
        most = None
        if shape is not None:
            needs = [need(stage, shape, counts, device, layout) for stage in _distinct(stages)]
            biggest = max(needs, key=lambda each: each.memory.peak)
            most = replace(biggest, operations=max(each.operations for each in needs))
        fits = None if most is None or room is None else most.memory.peak <= room
        found.append(Line(kind, name, what, tuple(stage.key for stage in stages), most, fits))
    return found


def _kind(stage: Train | Predict) -> str:
    return "train" if isinstance(stage, Train) else "predict"


def _what(stage: Train | Predict) -> str:
    if isinstance(stage, Predict):
        return stage.rows.task
    return "+".join(dict.fromkeys(share.rows.task for share in stage.mix))


def _distinct(stages: Iterable[Train | Predict]) -> list[Train | Predict]:
    """One of the stages that differ in the seed or in the model alone: they need the same."""
    found: dict[object, Train | Predict] = {}
    for stage in stages:
        same = (stage.mix, stage.select, stage.recipe) if isinstance(stage, Train) else (stage.rows, stage.max_length, stage.stride)
        found.setdefault(same, stage)
    return list(found.values())


# ---- too big ----


def refuse_too_big(
    plan: Plan, todo: Mapping[str, Stage], store: Store, data: Path, jobs: int, device: str, layout: Layout = ALONE
) -> None:
    """Raise ModelError when a stage of `todo` needs more memory than there is, or `jobs` of them at once do.

    What others hold of the memory counts as gone. Rows are only read where their longest possible form does not fit.
    """
    host, gpu = machine.memory(), machine.cuda_memory() if device == "cuda" else None

    def trouble(counts: Measures) -> str | None:
        room = gpu if device == "cuda" else host
        return _trouble(lines(plan, todo, store, counts, device, room.free if room else None, layout), jobs, host, gpu, layout)

    if trouble(Bounds()) is not None:
        counts = Counts(store, data)
        found = trouble(counts)
        counts.save()
        if found is not None:
            raise ModelError(found)


def jobs_that_fit(plan: Plan, todo: Mapping[str, Stage], store: Store, most: int, device: str, layout: Layout = ALONE) -> int:
    """How many stages at a time, at most `most`, leave a GPU enough memory for each at its largest; `most` on a CPU."""
    gpu = machine.cuda_memory() if device == "cuda" else None
    if gpu is None or most == 1:
        return most
    peaks = [line.need.memory.peak for line in lines(plan, todo, store, Bounds(), device, None, layout) if line.need is not None]
    return max(1, min(most, gpu.free // max(peaks, default=1)))


def _trouble(found: Iterable[Line], jobs: int, host: Room | None, gpu: Room | None, layout: Layout) -> str | None:
    """Why the stages cannot run, and what to do; None where they can."""
    known = [(line, line.need) for line in found if line.need is not None]
    if gpu is not None and (words := _over([(need.memory.peak, line) for line, need in known], jobs, gpu, "GPU memory")) is not None:
        return words
    processes = {"train": layout.processes, "predict": 1}
    own = [(processes[line.kind] * (need.host or need.memory.peak), line) for line, need in known]
    return None if host is None else _over(own, jobs, host, "memory")


def _over(sizes: Iterable[tuple[int, Line]], jobs: int, room: Room, what: str) -> str | None:
    """Why the `jobs` largest stages do not fit into a memory together, and what to do; `sizes` are bytes of one stage of each line."""
    together = sorted((each for each in sizes for _ in each[1].stages), key=lambda each: -each[0])[:jobs]
    total = sum(size for size, _ in together)
    if total <= room.free:
        return None
    size, line = together[0]
    if size > room.free:
        return f"{_said(line, size, what)}, and {_free(room)}; {_advice(line)}"
    return (
        f"{len(together)} stages at once need about {gib(total)} of {what} ({line.kind} {line.model}: {line.what}: {gib(size)}), and "
        f"{_free(room)}; use --jobs {int(room.free // size)}, or --even-if-too-big to try"
    )


def _said(line: Line, size: int, what: str) -> str:
    return f"{line.kind} {line.model}: {line.what}: needs about {gib(size)} of {what}"


def _free(room: Room) -> str:
    return f"{gib(room.free)} of {gib(room.total)} are free"


def _advice(line: Line) -> str:
    ways = "--micro-tokens, --checkpointing, freeze_layers or freeze_embeddings in its recipe, " if line.kind == "train" else ""
    return f"use {ways}a smaller model or another machine (xstilts plan STUDY --on NAME), or --even-if-too-big to try"


def device_named(name: str) -> Device:
    """The device of a name. Raises ModelError for one that is not in the table."""
    from xstilts.errors import nearest

    if name not in machine.DEVICES:
        raise ModelError(f'--on: unknown device "{name}" (known: {", ".join(machine.DEVICES)}){nearest(name, machine.DEVICES)}')
    return machine.DEVICES[name]


def gib(size: float) -> str:
    """Bytes in words: "1.5 GiB"."""
    return f"{size / 2**30:.1f} GiB"
