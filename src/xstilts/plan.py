"""From a study to the stages that it needs: every stage once, parents first, and the cells that are scored."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from xstilts import apertium, machine, models, translations
from xstilts.errors import DataError, StudyError, TranslationError, nearest
from xstilts.families import Family, refusal
from xstilts.languages import language as language_row
from xstilts.models import Where
from xstilts.rows import available, describe, load, part_rows, unseen_rows
from xstilts.stages import (
    Apertium,
    Choose,
    Given,
    Heads,
    Merge,
    Predict,
    Pretrain,
    Pretrained,
    Recipe,
    Rows,
    Runtime,
    Seq2Seq,
    Share,
    Stage,
    Start,
    Train,
    Translate,
    heads_of,
    lineage,
    makeup,
    recipe_of,
    root,
    rows_read,
)
from xstilts.study import EVERY, NONE, OWN, TARGET, UNTUNED, Encoder, Merged, Mix, Splits, Study, Translation, ingredient, steps_of
from xstilts.task import PARTS, Part, Parts, Task
from xstilts.tasks import task as find_task

FileHash = Callable[[Path], str]
Count = Callable[[Rows], int]


@dataclass(frozen=True, slots=True)
class Cell:
    """One scored thing: a target in one language after one intermediate choice with one seed."""

    model: str
    intermediate: str
    target: str
    language: str
    split: str
    seed: int
    predict: Predict
    same_data: bool  # the model has read more of the target's training material than the baseline does; see `same_data`


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is predicted on an intermediate task's dev rows, in its training language, after that task and after the target's training.

    A model whose last training left the task out answers with the head that the task's own training gave it, on its encoder as it now
    is (Li and Hoiem 2016, Learning without Forgetting, arXiv 1606.09282).
    """

    model: str
    intermediate: str
    target: str
    seed: int
    task: str
    before: Predict
    after: Predict
    same_data: bool  # as in `Cell`: the target's training went on with the same material


@dataclass(frozen=True, slots=True)
class Read:
    """A part of a task that a study reads, in languages that are treated alike: "*" stands for each of them in `rows`."""

    rows: Rows
    languages: tuple[str, ...]

    @property
    def line(self) -> str:
        """All of it in one line: "test: xnli test, all rows, at most 300 [en de]"."""
        text = describe(self.rows)
        if self.rows.translation is not None:
            text = f"{text}, {translations.said(self.rows.translation.by)}"
        return text.replace(" *", "", 1) + f" [{' '.join(self.languages)}]" if self.rows.language == "*" else text


@dataclass(frozen=True)
class Plan:
    """A study's cells and the stages behind them (parents first, each once)."""

    study: Study
    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]
    where: Mapping[str, Where]  # key of a Pretrained -> its weights; of a Translate by given files -> their folder
    models: Mapping[str, Start]  # model name -> its start
    parameters: Mapping[str, int]  # model name -> parameters, where known before anything runs
    series: Mapping[str, str]  # model name -> what it shares with models that were pretrained alike but for their size, where known
    reads: tuple[Read, ...]  # where each part's rows come from
    layer_rows: Mapping[str, tuple[Rows, ...]] = field(default_factory=dict)  # retrieval target -> the dev rows that choose its layer
    mix_lines: tuple[str, ...] = ()  # what an epoch of each mix holds, one line a mix
    families: Mapping[str, Family] = field(default_factory=dict)  # model name -> its architecture, where it is known
    remembered: tuple[Remembered, ...] = ()  # where the study asks for forgetting

    @property
    def data_lines(self) -> tuple[str, ...]:
        """Where each part's rows come from, one line a part."""
        layers = (f"layer of {target}, chosen on {spoken(rows)}" for target, rows in self.layer_rows.items())
        return (*dict.fromkeys(read.line for read in self.reads), *layers)

    def kind(self, stage: Stage) -> str:
        """What a stage is for: "pretrain", "translate", "intermediate", "target", "merge", "choose" or "predict"."""
        match stage:
            case Pretrain():
                return "pretrain"
            case Translate():
                return "translate"
            case Predict():
                return "predict"
            case Merge():
                return "merge"
            case Choose():
                return "choose"
            case Train():
                return "target" if stage.key in self._targets else "intermediate"

    @cached_property
    def _targets(self) -> frozenset[str]:
        """The trainings that a cell is scored after, on rows of its target."""
        found = set()
        for model, target in {(cell.predict.model, cell.target) for cell in self.cells}:
            trains = model.among if isinstance(model, Choose) else (model,) if isinstance(model, Train) else ()
            found |= {train.key for train in trains if any(share.rows.task == target for share in train.mix)}
        return frozenset(found)


def make_plan(
    study: Study, data: Path, file_hash: FileHash, device: str = "cpu", base: Path | None = None, count: Count | None = None,
    offline: bool = True, unseen: bool = False,
) -> Plan:  # fmt: skip
    """The plan of a study. `base` is the folder that relative model paths start from (default: the current one).

    `count` gives the number of rows (default: reads them); only mixes that are not sampled in proportion ask for it.
    Unless `offline`, the hub may be asked for the config of a model. With `unseen`, rows whose files are not at hand are
    planned by their official number: such a plan can be priced and not run.
    Raises StudyError, DataError or ModelError when something that the study names does not exist.
    """
    return _Planner(study, data, file_hash, device, base or Path(), count or (lambda rows: len(load(rows, data))), offline, unseen).plan()


def mix_of(study: Study, step: str) -> Mix:
    """A step of a chain as a mix: a mix of the study, or one task or translation alone. Raises StudyError for an unknown name."""
    if step in study.mixes:
        return study.mixes[step]
    if (name := task_named(study, step)) != TARGET:
        _task(name, "intermediates", (*study.mixes, *study.merges, *study.translations, NONE, UNTUNED, TARGET))
    return Mix((step,))


def task_named(study: Study, entry: str) -> str:
    """The task that an entry of a mix is of ("nli:de": nli; a translation: that of its originals), or "target"."""
    name = ingredient(entry)[0]
    return study.translations[name].task if name in study.translations else name


def ingredients(study: Study, chain: str) -> tuple[str, ...]:
    """What the steps of a chain train on, merged chains included, as mixes name it: "nli", "nli:de", "target".

    Raises StudyError for an unknown name, and for a merge that holds itself or trains the target.
    """
    return tuple(dict.fromkeys(name for step in steps_of(chain) for name in _of_step(study, step, ())))


def _of_step(study: Study, step: str, within: tuple[str, ...]) -> Iterator[str]:
    if step not in study.merges:
        yield from mix_of(study, step).tasks
        return
    if step in within:
        raise StudyError(f"merges.{step}: it is made of itself")
    for chain in study.merges[step].of:
        for inner in steps_of(chain):
            for name in _of_step(study, inner, (*within, step)):
                if task_named(study, name) == TARGET:
                    raise StudyError(f'merges.{step}: "{chain}" trains the target; merge intermediate models, then train it')
                yield name


def draws(mix: Mix, sizes: tuple[int, ...], text: tuple[bool, ...]) -> tuple[float, ...]:
    """How many rows of each task an epoch of the mix holds, of `sizes` rows each; `text` says which are raw text.

    See `study.Mix` for the definitions; `weights` multiply what the sampling gives.
    """
    weights = mix.weights or (1.0,) * len(sizes)
    match mix.sampling:
        case "proportional":
            shares = [float(n) for n in sizes]
        case "capped":
            shares = [float(min(n, mix.cap)) for n in sizes]
        case "temperature":
            shares = _in_proportion([n**mix.exponent for n in sizes], sum(sizes))
        case "uniform":
            shares = _in_proportion([1.0] * len(sizes), sum(sizes))
    drawn = [weight * share for weight, share in zip(weights, shares, strict=True)]
    if mix.text_rate is None:
        return tuple(drawn)
    labelled = sum(n for n, raw in zip(drawn, text, strict=True) if not raw)
    raw_rows = sum(n for n, raw in zip(drawn, text, strict=True) if raw)
    factor = mix.text_rate / (1 - mix.text_rate) * labelled / raw_rows
    return tuple(n * factor if raw else n for n, raw in zip(drawn, text, strict=True))


def _in_proportion(parts: list[float], total: int) -> list[float]:
    return [part / sum(parts) * total for part in parts]


# which ways of tuning read which values of a recipe
_READ = {
    "rank": ("lora", "qlora"), "alpha": ("lora", "qlora"), "prompt_length": ("prompt",), "adapter": ("full", "lora", "qlora", "prompt"),
}  # fmt: skip


def tuned(recipe: Recipe, start: Start, named: str) -> Recipe:
    """`recipe` as it is carried out from `start`: what its way of tuning does not read has its default, so that no key hangs on it.

    Raises StudyError where the way of tuning cannot go on from the adapter that `start` stands on. `named` says whose recipe it is.
    """
    groups = makeup(start).groups
    below = tuple(map(recipe_of, groups[-1])) if groups else ()
    unread = [name for name, ways in _READ.items() if recipe.tuning not in ways or (name == "adapter" and not below)]
    recipe = replace(recipe, **{name: getattr(Recipe(), name) for name in unread})
    if not below or recipe.tuning == "head":
        return recipe
    where, way, last = f'recipe of "{named}": adapter = "{recipe.adapter}"', recipe.tuning, below[-1]
    if recipe.adapter == "merge":
        if any(each.tuning == "prompt" for each in below):
            then = 'use "continue" or "fresh"' if way == "prompt" else 'go on with tuning = "prompt" or "head"'
            raise StudyError(f"{where}: the model starts with soft prompts, which cannot be put into weights; {then}")
    elif last.tuning != way:
        raise StudyError(f'{where}: the adapter that it starts with is of tuning = "{last.tuning}", not "{way}"; use "merge"')
    elif recipe.adapter == "continue":
        for name, ways in _READ.items():
            has, wanted = getattr(last, name), getattr(recipe, name)
            if name != "adapter" and way in ways and has != wanted:
                raise StudyError(f"{where}: the adapter that it starts with has {name} {has:g}, not {wanted:g}")
    return recipe


def _check_tuning(name: str, family: Family, stages: Iterable[Stage]) -> None:
    """What a way of tuning cannot do with an architecture is said before anything runs."""
    for tuning in dict.fromkeys(stage.recipe.tuning for stage in stages if isinstance(stage, Train)):
        if reason := refusal(family, "classify", tuning):
            raise StudyError(f'models: "{name}" ({family.name}) cannot be trained with tuning = "{tuning}": {reason}')


def _tasks_of(model: Start) -> tuple[str, ...]:
    """The tasks that a model's last training was on; () where that was no training."""
    if not isinstance(model, Train | Choose):
        return ()
    return tuple(dict.fromkeys(share.rows.task for share in _trained(model).mix))


def _trained(model: Train | Choose) -> Train:
    return model if isinstance(model, Train) else model.among[0]


def _before_target(model: Start, target: str) -> Train | Choose | None:
    """The last training before those of the target, where the target was trained after another one; else None."""
    if target not in _tasks_of(model):
        return None
    while isinstance(model, Train | Choose):
        model = _trained(model).start
        if _tasks_of(model) != (target,):
            break
    return model if isinstance(model, Train | Choose) else None


def parts_of(study: Study, task: Task) -> Parts:
    """The splits that serve as the task's parts in this study. Raises StudyError for an unknown split."""
    own = study.splits.get(task.name)
    if own is None:
        return task.parts
    for part in PARTS:
        split = getattr(own, part)
        if split and split not in task.source.splits:
            raise StudyError(
                f'splits.{task.name}.{part}: no split "{split}" (there are: {", ".join(task.source.splits)})'
                + nearest(split, task.source.splits)
            )
    return Parts(**{part: getattr(task.parts, part) if getattr(own, part) is None else getattr(own, part) for part in PARTS})


def same_data(model: Start, task: Task, own: Rows) -> bool:
    """True when the way to `model` read other rows of what `task` is trained on than `own`, the baseline's, or `own` twice.

    So it is after NLI for XNLI, after the target's rows in other languages (translate-train) or of another split (few-shot),
    after the target trained twice; not where one training reads the target's rows beside another task's, and not where none does.
    """
    read = [rows for rows in rows_read(model) if find_task(rows.task).material & task.material]
    return bool(read) and read != [own]


def together(rows: Iterable[Rows]) -> tuple[Read, ...]:
    """The rows with "*" for their language, one for those that are then said in the same words.

    What they leave out in their own language beside another one is "*" too.
    """
    found: dict[str, tuple[Rows, dict[str, None]]] = {}
    for each in rows:
        beside = {(other.task, other.split) for other in each.without if other.language != each.language}
        others = (
            replace(other, language="*") if other.language == each.language and (other.task, other.split) in beside else other
            for other in each.without
        )
        alike = replace(each, language="*", without=tuple(others))
        found.setdefault(describe(alike), (alike, {}))[1][each.language] = None
    return tuple(Read(first, tuple(languages)) for first, languages in found.values())


def spoken(rows: Sequence[Rows]) -> str:
    """Where rows of one task in several languages come from, in one line (what they leave out is not said)."""
    return "; ".join(read.line for read in together(replace(each, without=()) for each in rows))


def _task(name: str, where: str, also: tuple[str, ...] = ()) -> Task:
    try:
        return find_task(name)
    except DataError as error:
        raise StudyError(f"{where}: {error}{nearest(name, also)}") from None


@dataclass(frozen=True)
class _Planner:
    study: Study
    data: Path
    file_hash: FileHash
    device: str
    base: Path
    count: Count
    offline: bool
    unseen: bool = False
    rows: dict[tuple[str, Part, str, str, int | None], Rows] = field(default_factory=dict)  # already made: each asks for hashes of files
    shares: dict[tuple[object, ...], tuple[Share, ...]] = field(default_factory=dict)
    sizes: dict[Rows, int] = field(default_factory=dict)
    models: dict[tuple[object, ...], Start] = field(default_factory=dict)
    translated: dict[tuple[object, ...], Rows] = field(default_factory=dict)
    encoders: dict[str, Encoder] = field(default_factory=dict)  # by the key of the start that each is
    given: dict[str, Where] = field(default_factory=dict)  # what translations are made from: folders, models
    mix_lines: dict[str, None] = field(default_factory=dict)  # in order, each once

    def plan(self) -> Plan:
        study = self.study
        self._check_names()
        starts = {name: self._start(name) for name in study.models}
        self.encoders.update((start.key, study.encoders[name]) for name, (start, _) in starts.items() if name in study.encoders)
        families = {name: family for name, (_, where) in starts.items() if where and (family := models.family_at(where, self.offline))}
        self._check_families(families)
        cells: list[Cell] = []
        stages: dict[str, Stage] = {}
        for name, (start, where) in starts.items():
            runtime = self._runtime(where)
            for cell in self._cells(name, start, runtime):
                cells.append(cell)
                if cell.predict.key not in stages:
                    if name in families:
                        _check_tuning(name, families[name], lineage(cell.predict))
                    stages.update((stage.key, stage) for stage in lineage(cell.predict) if stage.key not in stages)
        remembered = tuple(self._remembered(cells)) if study.forgetting else ()
        if study.forgetting and not remembered:
            raise StudyError("forgetting: no target is trained after another task, so that nothing can be forgotten; leave it out")
        for predict in (predict for each in remembered for predict in (each.before, each.after)):
            stages[predict.key] = predict
        return Plan(
            study=study,
            cells=tuple(cells),
            stages=tuple(sorted(stages.values(), key=lambda stage: isinstance(stage, Predict))),
            where={**self.given, **{start.key: where for start, where in starts.values() if where is not None}},
            models={name: start for name, (start, _) in starts.items()},
            parameters={
                name: models.size(where)["parameters"] for name, (_, where) in starts.items() if isinstance(where, Path)
            },
            series={name: found for name, (start, _) in starts.items() if (found := self._series(name, start))},
            reads=tuple(dict.fromkeys(self._reads())),
            layer_rows={cell.target: cell.predict.chosen_on for cell in cells if cell.predict.chosen_on},
            mix_lines=tuple(self.mix_lines),
            families=families,
            remembered=remembered,
        )

    def _check_families(self, families: Mapping[str, Family]) -> None:
        """What an architecture cannot do is said before anything runs."""
        study = self.study
        trained = (task_named(study, name) for chain in study.intermediates for name in ingredients(study, chain))
        for task in map(find_task, dict.fromkeys((*study.targets, *(name for name in trained if name != TARGET)))):
            for name, family in families.items():
                if reason := refusal(family, task.kind, images=task.images):
                    raise StudyError(f'models: "{name}" ({family.name}) cannot do "{task.name}" ({task.kind}): {reason}')
            for name in study.models if task.images else ():
                if reason := self._unseeing(name):
                    raise StudyError(f'models: "{name}" cannot do "{task.name}", whose rows have images: {reason}')

    def _unseeing(self, name: str) -> str | None:
        """Why a model cannot be shown images; None where it can, or what would say so is not at hand."""
        if importlib.util.find_spec("PIL") is None:
            return 'Pillow reads them; pip install "xstilts[images]"'
        encoder = self.study.encoders.get(name)
        if encoder is None or encoder.pretrain:
            return "what is pretrained here has no vision tower"
        if encoder.form == "text":
            return 'they have no text form; use form = "heads"'
        return None if encoder.hub else models.unseeing(self.base / encoder.path)

    def _processor(self, start: Start, tasks: Iterable[str]) -> str:
        """What is in the key of how images become numbers; "" without images, and where a commit on the hub says it."""
        encoder = self.encoders.get(root(start).key)
        if encoder is None or encoder.hub or not any(find_task(name).images for name in tasks):
            return ""
        return self.file_hash(self.base / encoder.path / models.PROCESSOR)

    def _check_names(self) -> None:
        study = self.study
        tasks = {t: _task(t, "targets") for t in study.targets}
        for t, task in tasks.items():
            if task.kind == "mask":
                raise StudyError(f'targets: "{t}" is for training only; there is nothing to score')
        for chain in study.intermediates:
            self._check_chain(chain)
        self._check_translations()
        intermediates = [task_named(study, t) for chain in study.intermediates for t in ingredients(study, chain)]
        tasks |= {t: _task(t, "intermediates") for t in intermediates if t != TARGET}
        if pool := study.retrieval.dev:
            tasks[pool] = _task(pool, "retrieval.dev")
            if tasks[pool].kind != "retrieve" or not parts_of(study, tasks[pool]).dev:
                what = "is no retrieval task" if tasks[pool].kind != "retrieve" else "has no dev part; name a split for it under [splits]"
                raise StudyError(f'retrieval.dev: "{pool}" {what}')
        for name, encoder in study.encoders.items():
            for t in encoder.seen:
                _task(t, f"encoders.{name}.seen")
        self._check_forms(tasks)
        for t in intermediates:
            if t != TARGET and not tasks[t].trains:
                raise StudyError(f'intermediates: "{t}" has no training data')
        used = {step for chain in study.intermediates for step in steps_of(chain)}
        used |= {step for merged in study.merges.values() for chain in merged.of for step in steps_of(chain)}
        for table in ("mixes", "merges"):
            if idle := [name for name in getattr(study, table) if name not in used]:
                raise StudyError(f'{table}.{idle[0]}: "intermediates" does not name it{nearest(idle[0], study.intermediates)}')
        used |= {ingredient(name)[0] for mix in study.mixes.values() for name in mix.tasks} | {ingredient(step)[0] for step in used}
        if idle := [name for name in study.translations if name not in used]:
            raise StudyError(f"translations.{idle[0]}: neither a chain nor a mix names it{nearest(idle[0], used)}")
        for table in ("splits", "caps", "recipes", "search"):
            for name in getattr(study, table):
                named = study.translations if table in ("recipes", "search") else ()
                known = (*tasks, *study.mixes, *named, *(("all",) if table in ("caps", "search") else ()))
                if name not in known:
                    raise StudyError(f'{table}.{name}: the study has no task "{name}"{nearest(name, known)}')
        for language in study.languages:
            known_languages = {code for t in study.targets for code in tasks[t].languages}
            if language not in known_languages:
                raise StudyError(
                    f'languages: no target of this study has "{language}" (they have: {", ".join(sorted(known_languages))})'
                )
        for name, own in study.splits.items():
            for language in own.languages:
                if name in tasks and language not in tasks[name].languages:
                    raise StudyError(
                        f'splits.{name}.languages: the task has no "{language}" (it has: {", ".join(tasks[name].languages)})'
                    )
        for name in study.encoders:
            if name not in study.models:
                raise StudyError(f'encoders.{name}: "models" does not name it{nearest(name, study.models)}')

    def _check_forms(self, tasks: Mapping[str, Task]) -> None:
        """What cannot be put as text, and what cannot be asked of a model with heads."""
        study = self.study
        forms = {name: study.encoders[name].form if name in study.encoders else "heads" for name in study.models}
        for name, form in forms.items():
            wordless = [t for t, task in tasks.items() if task.kind in ("retrieve", "mask")]
            if form == "text" and wordless:
                raise StudyError(f'encoders.{name}.form: "{wordless[0]}" has no text form; leave it out, or use form = "heads"')
            if form == "heads" and UNTUNED in study.intermediates:
                raise StudyError(
                    f'intermediates: "{UNTUNED}" cannot be asked of "{name}": untrained heads say nothing; it needs form = "text" '
                    f"under [encoders.{name}]"
                )
            for where, recipe in {"recipe": study.recipe, **{f"recipes.{k}": r for k, r in study.recipes.items()}}.items():
                if form == "text" and recipe.tuning in ("prompt", "head"):
                    others = 'it has no heads, and prompts are put before encoders alone; use "full", "lora" or "qlora"'
                    raise StudyError(f'{where}.tuning: "{recipe.tuning}" does not go with form = "text" of encoders.{name}: {others}')

    def _check_chain(self, chain: str) -> None:
        study, steps = self.study, steps_of(chain)
        for word in (NONE, UNTUNED):
            if word in steps:
                raise StudyError(f'intermediates: "{chain}": "{word}" is no step of a chain; leave it out')
        ingredients(study, chain)
        for step in steps:
            if step in study.merges:
                if study.merges[step].seeds == "all" and len(study.merges[step].of) * len(study.seeds) < 2:
                    raise StudyError(f"merges.{step}: one chain with one seed leaves nothing to merge")
                continue
            mix = mix_of(study, step)
            for name in mix.tasks:
                first, language = ingredient(name)
                if language in (OWN, EVERY) and task_named(study, name) != TARGET:
                    raise StudyError(f'intermediates: "{name}": only "{TARGET}:{language}" can follow the scored languages')
                own = study.translations.get(first)
                if own is not None and language not in ("", OWN, EVERY, *own.languages):
                    there = ", ".join(own.languages)
                    raise StudyError(f'intermediates: "{name}": translations.{first} has no "{language}" (it has: {there})')
            if mix.text_rate is not None:
                named = [task_named(study, name) for name in mix.tasks]
                raw = [name != TARGET and find_task(name).kind == "mask" for name in named]
                if all(raw) or not any(raw):
                    raise StudyError(f"mixes.{step}.text_rate: it needs raw text and a task beside it")
        trains = [any(task_named(study, name) == TARGET for name in _of_step(study, step, ())) for step in steps]
        if True in trains and not all(trains[trains.index(True) :]):
            raise StudyError(f'intermediates: "{chain}": after the target no step can leave it out; the model would lose its head')

    def _check_translations(self) -> None:
        for name, own in self.study.translations.items():
            where = f"translations.{name}"
            if own.task != TARGET:
                _task(own.task, f"{where}.task", (TARGET,))
            try:
                find_task(name)
            except DataError:
                pass
            else:
                raise StudyError(f"{where}: a task has this name; choose another")
            for code in own.languages:
                try:
                    language_row(code)
                except DataError as error:
                    raise StudyError(f"{where}.languages: {error}") from None

    def _start(self, name: str) -> tuple[Start, Where | None]:
        encoder = self.study.encoders.get(name)
        if encoder is None:
            if name not in models.shipped():
                raise models.unknown(name, tuple(models.shipped()))
            encoder = Encoder(path=str(models.shipped()[name]))
        if encoder.pretrain:
            from xstilts.pretraining import pretrain_stage

            # pool and layer are the config's: others would be another key, and the encoder would be made again
            made = pretrain_stage(encoder.pretrain, self.data, self.file_hash, self.device, base=self.base)
            return replace(made, form=encoder.form), None
        if encoder.hub:
            hub = models.Hub(encoder.hub, encoder.revision)
            return Pretrained(f"{hub.repository}@{hub.revision}", self._pool(name, encoder, hub), encoder.layer, encoder.form), hub
        folder = self.base / encoder.path
        weights = models.weights_hash(folder, self.file_hash)
        return Pretrained(weights, self._pool(name, encoder, folder), encoder.layer, encoder.form), folder

    def _pool(self, name: str, encoder: Encoder, where: Where) -> str:
        """The sentence vector, which is in the key. Raises StudyError where it depends on a config that cannot be read."""
        if encoder.form == "text":
            return "first"  # there is none
        family = models.family_at(where, self.offline)
        if encoder.pool == "auto":
            if family is None:
                raise StudyError(
                    f'encoders.{name}.pool: the config of "{encoder.hub}" is not at hand and the repository is not in "xstilts models": '
                    'say pool = "first" (BERT-like encoders), "mean" (T5) or "last" (decoders), or run without --offline'
                )
            return family.pool
        if encoder.pool == "first" and family is not None and family.causal:
            raise StudyError(f'encoders.{name}.pool: {family.name} is causal, its first token has seen no other; use "last" or "mean"')
        return encoder.pool

    def _series(self, name: str, start: Start) -> str:
        """Of a pretraining config what is not size; of other weights what the study says; "" where nothing is known."""
        from xstilts.pretraining import config_of, read_config, series

        if isinstance(start, Pretrain):
            return series(config_of(start))
        encoder = self.study.encoders.get(name)
        return series(read_config(name)) if encoder is None else encoder.series  # what is shipped has a config of its name

    def _runtime(self, where: Where | None) -> Runtime:
        """bf16 pays from some width on: below 192 the casts cost what the products gain (docs/lab-notebook.md)."""
        precision = self.study.precision
        if precision == "auto":
            wide = not isinstance(where, Path) or models.size(where)["hidden"] >= 192
            precision = "bf16" if wide and machine.fast_bf16(self.device) else "fp32"
        return Runtime(precision, self.study.threads, self.device)

    def _rows(self, task: Task, part: Part, language: str, split: str = "", most: int | None = None) -> Rows:
        """A part's rows; `split` serves in place of the part's own, `most` in place of its cap."""
        place = (task.name, part, language, split, most)
        known = self.rows.get(place)
        if known is None:
            cap = most or self.study.cap_of(task.name, part)
            parts = parts_of(self.study, task)
            if split and split == getattr(parts, self.study.part):
                raise StudyError(f'mixes: split "{split}" of {task.name} is scored in this study; train on another')
            if split:
                parts = replace(parts, **{part: split})
            drop = self.study.splits.get(task.name, Splits()).shared == "drop"
            halved = task.kind == "retrieve" and self.study.retrieval.layer == "dev"
            try:
                known = unseen_rows(task, part, language, parts, cap, self.data) if self.unseen else None
                known = known or part_rows(task, part, language, parts, cap, self.data, self.file_hash, drop, halved)
            except DataError as error:
                there = available(task, getattr(parts, part), self.data) if getattr(parts, part) in task.source.splits else ()
                others = there and language not in there
                hint = f" At hand: {' '.join(there)} (name them under [splits.{task.name}] languages)." if others else ""
                raise DataError(f"{task.name}: {error}{hint}") from None
            self.rows[place] = known
        return known

    def _translated(self, name: str, task: Task, language: str, split: str, most: int | None) -> Rows:
        """A task's training rows in another language, as the translation says; what its translator needs is looked up now."""
        place = (name, task.name, language, split, most)
        if place not in self.translated:
            own = self.study.translations[name]
            source = self._rows(task, "train", task.train_language, split)
            try:
                translations.refuse(task, source.split, language)
                by, runtime, where = self._translator(own, task, source.split, language)
            except (StudyError, TranslationError, DataError) as error:
                raise type(error)(f"translations.{name}: {error}") from None
            stage = Translate(source, language, by, runtime)
            if where is not None:
                self.given[by.model.key if isinstance(by, Seq2Seq) else stage.key] = where
            made = Rows(task.name, task.version, "train", source.split, language, source.data, cap=most, translation=stage)
            self.translated[place] = made
        return self.translated[place]

    def _translator(
        self, own: Translation, task: Task, split: str, language: str
    ) -> tuple[Given | Apertium | Seq2Seq, Runtime, Where | None]:
        """Who translates, what changes its rounding, and where its files are. Only a model's translation has a rounding."""
        match own.by:
            case "folder":
                folder = self.base / own.path.replace("{language}", language)
                if not folder.is_dir():
                    raise TranslationError(f"{folder}: no such folder; it holds the task's files, translated")
                _, paths = translations.given_files(task, folder, split, language)
                digest = hashlib.sha256("\n".join(map(self.file_hash, paths)).encode()).hexdigest()
                return Given(digest), Runtime(), folder
            case "apertium":
                return apertium.find(task.train_language, language, own.mode, self.file_hash), Runtime(), None
            case "model":
                where: Where
                if own.hub:
                    where, weights = models.Hub(own.hub, own.revision), f"{own.hub}@{own.revision}"
                else:
                    where = self.base / own.path
                    weights = models.weights_hash(where, self.file_hash, models.SEQ2SEQ)
                return Seq2Seq(Pretrained(weights), own.source, own.target, own.prefix, own.beams), self._runtime(where), where

    def _size(self, rows: Rows) -> int:
        """How many rows there are; of a translation: of its originals, as it is not made yet."""
        rows = rows.original
        if rows not in self.sizes:
            self.sizes[rows] = self.count(rows)
        return self.sizes[rows]

    # ---- from chains to models ----

    def _model(self, start: Start, chain: str, target: Task, language: str, seed: int, runtime: Runtime) -> Start:
        """What a cell is scored with: the chain's steps, then the target unless one of them has trained it."""
        if chain == UNTUNED:
            return start
        steps = steps_of(chain)
        if not any(self._names_target(step) for step in steps):
            steps = (*steps, TARGET)
        return self._after(start, steps, target, language, seed, runtime)

    def _after(self, start: Start, steps: tuple[str, ...], target: Task, language: str, seed: int, runtime: Runtime) -> Start:
        """The model after these steps, each made once."""
        for step in steps:
            own = any(ingredient(name)[1] == OWN for name in self._tasks(step))
            # What does not depend on target or language is one value for all of them.
            about = (target.name if self._names_target(step) else "", language if own else "")
            place = (start.key, step, about, seed, runtime)
            if place not in self.models:
                self.models[place] = self._step(start, step, target, language, seed, runtime)
            start = self.models[place]
        return start

    def _tasks(self, step: str) -> tuple[str, ...]:
        return () if step in self.study.merges else mix_of(self.study, step).tasks

    def _names_target(self, step: str) -> bool:
        return any(task_named(self.study, name) == TARGET for name in self._tasks(step))

    def _step(self, start: Start, step: str, target: Task, language: str, seed: int, runtime: Runtime) -> Start:
        study = self.study
        if step in study.merges:
            return self._merge(start, study.merges[step], target, language, seed, runtime)
        shares = self._shares(step, target, language)
        if not shares:
            return start  # the target alone, which cannot be trained on
        joint = self._names_target(step)
        named = step if step in study.mixes else target.name if joint else ingredient(step)[0]
        fallback = target.name if joint else task_named(study, named)
        recipe = tuned(study.recipes.get(named) or study.recipe_of(fallback), start, named)
        tasks = [target] if joint and target.trains else [find_task(n) for n in dict.fromkeys(share.rows.task for share in shares)]
        chosen_on = [task for task in tasks if task.kind != "mask"]
        select: tuple[Rows, ...] = ()
        if recipe.selections and all(parts_of(study, t).dev for t in chosen_on):
            select = tuple(self._rows(t, "dev", t.train_language) for t in chosen_on)
        if recipe.average and not select:
            raise StudyError(f"recipes.{named}.average: {named} has no dev part, so that there are no selections to average over")
        known = (named,) if step in study.mixes else (named, fallback)
        search = next((study.search[name] for name in (*known, "all") if name in study.search), None)
        # a task trained again goes on with its head: few-shot training after the target (Lauscher et al. 2020) is of no use otherwise
        trained_again = heads_of(start) & {share.rows.task for share in shares if find_task(share.rows.task).kind != "mask"}
        heads: Heads = "kept" if trained_again else "fresh"
        processor = self._processor(start, (share.rows.task for share in shares))
        trained = Train(start, shares, select, recipe, seed, runtime, heads, processor)
        if search is None:
            return trained
        if not select:
            raise StudyError(f"search: {named} has no English dev part (or selections = 0), so that nothing can be chosen on it")
        return Choose(tuple(replace(trained, recipe=replace(recipe, lr=lr)) for lr in search.lr), runtime)

    def _merge(self, start: Start, merged: Merged, target: Task, language: str, seed: int, runtime: Runtime) -> Merge:
        seeds = self.study.seeds if merged.seeds == "all" else (seed,)
        weights = merged.weights or (1.0,) * len(merged.of)
        parts, own = [], []
        for chain, weight in zip(merged.of, weights, strict=True):
            for each in seeds:
                parts.append(self._after(start, steps_of(chain), target, language, each, runtime))
                own.append(weight)
        if any(recipe_of(each).tuning == "prompt" for part in (start, *parts) for group in makeup(part).groups for each in group):
            raise StudyError(f"merges: {' and '.join(merged.of)}: soft prompts are no weights, so that they cannot be merged")
        scale = merged.scale if merged.scale is not None else {"arithmetic": 0.4}.get(merged.method, 1.0)
        density = merged.density if merged.method == "ties" else 1.0
        return Merge(start, tuple(parts), tuple(own), merged.method, scale, density, runtime)

    def _shares(self, step: str, target: Task, language: str) -> tuple[Share, ...]:
        """The ingredients of a step with their weights in an epoch: what the mix draws of each, over its rows."""
        mix = mix_of(self.study, step)
        own = any(ingredient(name)[1] == OWN for name in mix.tasks)
        place = (step, target.name if self._names_target(step) else "", language if own else "")
        if place not in self.shares:
            made: dict[Rows, float] = {}
            for name, weight in zip(mix.tasks, mix.weights or (1.0,) * len(mix.tasks), strict=True):
                for rows in self._meant(name, mix, target, language):
                    made.setdefault(rows, weight)
            self.shares[place] = self._weighted(step, replace(mix, weights=tuple(made.values())), tuple(made))
        return self.shares[place]

    def _meant(self, name: str, mix: Mix, target: Task, language: str) -> Iterator[Rows]:
        """The rows that one entry of a mix stands for."""
        first, code = ingredient(name)
        own = self.study.translations.get(first)
        of = task_named(self.study, name)
        task = target if of == TARGET else find_task(of)
        if not task.trains:
            return
        match code:
            case "":
                wanted = own.languages if own is not None else (task.train_language,)
            case _ if code == OWN:
                wanted = (language,)
            case _ if code == EVERY:
                wanted = self._languages(task)
            case _:
                wanted = (code,)
        for each in wanted:
            if own is None or (code in (OWN, EVERY) and each == task.train_language):
                yield self._rows(task, "train", each, mix.split, mix.rows)
            elif each not in own.languages:
                raise StudyError(f'translations.{first}: "{name}" needs "{each}", in which {task.name} is scored; add it to languages')
            else:
                yield self._translated(first, task, each, mix.split, mix.rows)

    def _weighted(self, step: str, mix: Mix, rows: tuple[Rows, ...]) -> tuple[Share, ...]:
        if mix.sampling == "proportional" and mix.text_rate is None:
            return tuple(Share(each, weight) for each, weight in zip(rows, mix.weights, strict=True))
        sizes = tuple(map(self._size, rows))
        drawn = draws(mix, sizes, tuple(find_task(each.task).kind == "mask" for each in rows))
        words = {"capped": f" at {mix.cap:,}", "temperature": f", exponent {mix.exponent:g}"}.get(mix.sampling, "")
        each = ", ".join(
            f"{r.task} {r.language} {n:,.0f} of {size:,} ({n / sum(drawn):.1%})" for r, n, size in zip(rows, drawn, sizes, strict=True)
        )
        self.mix_lines[f"{step} ({mix.sampling}{words}): {each}"] = None
        return tuple(Share(r, n / size) for r, n, size in zip(rows, drawn, sizes, strict=True))

    def _cells(self, model: str, pretrained: Start, runtime: Runtime) -> Iterator[Cell]:
        study = self.study
        for chain in study.intermediates:
            for seed in study.seeds:
                for target in study.targets:
                    task = find_task(target)
                    for language in self._languages(task):
                        stage = self._model(pretrained, chain, task, language, seed, runtime)
                        same = task.trains and same_data(stage, task, self._rows(task, "train", task.train_language))
                        yield Cell(model, chain, target, language, study.part, seed, self._predict(stage, task, language, runtime), same)

    def _predict(self, model: Start, task: Task, language: str, runtime: Runtime) -> Predict:
        recipe = self.study.recipe_of(task.name)
        predict = Predict(
            model, self._rows(task, self.study.part, language), recipe.max_length, recipe.stride, runtime,
            processor=self._processor(model, (task.name,)),
        )  # fmt: skip
        if task.kind != "retrieve":
            return predict
        asked = self.study.retrieval
        pool = "" if asked.pool == "mean" else asked.pool
        if asked.layer == "dev":
            return replace(predict, layer="dev", pool=pool, tune=self._tuned_on(task, language), chosen_on=self._layer_rows(task))
        # A layer that the model names goes first; "" stands for the model's, which is mostly the last.
        layer = asked.layer if root(model).layer == -1 and asked.layer != "last" else ""
        return replace(predict, layer=layer, pool=pool, tune=self._tuned_on(task, language))

    def _remembered(self, cells: Iterable[Cell]) -> Iterator[Remembered]:
        """The predictions behind forgetting: of models made for each language, those of the first; merges have no head of a task."""
        first: dict[tuple[str, str, str, int], Cell] = {}
        for cell in cells:
            first.setdefault((cell.model, cell.intermediate, cell.target, cell.seed), cell)
        for cell in first.values():
            model = cell.predict.model
            before = _before_target(model, cell.target)
            for name in _tasks_of(before) if before is not None else ():
                task = find_task(name)
                if before is None or name == cell.target or task.kind == "mask":
                    continue
                if not parts_of(self.study, task).dev:
                    raise StudyError(
                        f'forgetting: "{name}" has no dev rows to ask for; name a split under [splits.{name}] dev, or leave it out'
                    )
                recipe, rows = recipe_of(before), self._rows(task, "dev", task.train_language)
                runtime, processor = cell.predict.runtime, self._processor(before, (name,))
                own = Predict(before, rows, recipe.max_length, recipe.stride, runtime, processor=processor)
                answers = root(model).form == "text" or name in heads_of(model)
                after = replace(own, model=model, head=None if answers else before)
                yield Remembered(cell.model, cell.intermediate, cell.target, cell.seed, name, own, after, cell.same_data)

    def _layer_rows(self, task: Task) -> tuple[Rows, ...]:
        """The dev rows that choose a target's layer, one value a language. Raises StudyError where there are none."""
        study = self.study
        if study.part == "dev":
            raise StudyError('retrieval.layer: "dev" needs dev rows apart from the scored ones, and this study scores the dev part')
        own = bool(parts_of(study, task).dev)
        if not own and not study.retrieval.dev:
            raise StudyError(
                f'retrieval.layer: "{task.name}" has no dev rows to choose a layer on; name a split for them under '
                f'[splits.{task.name}] dev ("{parts_of(study, task).test}" is cut: half of its groups choose and are not scored), '
                "or a task under [retrieval] dev"
            )
        pool = task if own else find_task(study.retrieval.dev)
        split = parts_of(study, pool).dev
        wanted = self._languages(task) if own else study.splits.get(pool.name, Splits()).languages or pool.languages
        found = [self._rows(pool, "dev", code) for code in available(pool, split, self.data) if code in wanted]
        if not found:
            raise StudyError(f'retrieval.layer: {pool.name} {split}, which chooses it, is not at hand in {" ".join(wanted)}. {pool.get}')
        if own or study.splits.get(pool.name, Splits()).shared == "keep":
            return tuple(found)
        scored = {code: self._rows(task, study.part, code) for code in self._languages(task)}
        return tuple(replace(r, without=(*r.without, scored[r.language])) if r.language in scored else r for r in found)

    def _tuned_on(self, task: Task, language: str) -> Rows | None:
        """Labelled rows apart from the scored ones, where mining has some."""
        parts = parts_of(self.study, task)
        if task.retrieval != "mining" or self.study.part == "dev" or parts.dev in ("", parts.test):
            return None
        return self._rows(task, "dev", language) if language in available(task, parts.dev, self.data) else None

    def _languages(self, task: Task) -> tuple[str, ...]:
        if self.study.part == "dev":
            return (task.train_language,)
        own = self.study.splits.get(task.name, Splits()).languages
        wanted = own or self.study.languages
        there = tuple(language for language in task.languages if not wanted or language in wanted)
        if not there:
            raise StudyError(f'languages: "{task.name}" has none of {", ".join(wanted)} (it has: {", ".join(task.languages)})')
        return there

    def _reads(self) -> Iterator[Read]:
        """The parts of each task, then what mixes read beside them; languages that are treated alike go together."""
        study = self.study
        trained = [t for chain in study.intermediates for t in ingredients(study, chain)]
        fitted: tuple[Part, ...] = ("train", "dev")
        for name in dict.fromkeys([*(name for each in trained if (name := task_named(study, each)) != TARGET), *study.targets]):
            task = find_task(name)
            for part in fitted if task.trains else ():
                if (used := self.rows.get((name, part, task.train_language, "", None))) is not None:
                    yield Read(used, (used.language,))
            if name in study.targets:
                yield from together(self._rows(task, study.part, language) for language in self._languages(task))
        yield from together(
            rows
            for (name, part, language, split, most), rows in self.rows.items()
            if part == "train" and (split or most or language != find_task(name).train_language)
        )
        for rows in self.translated.values():
            yield Read(rows, (rows.language,))
