"""From a study to the stages that it needs: every stage once, parents first, and the cells that are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from xstilts import machine, models
from xstilts.errors import DataError, StudyError, nearest
from xstilts.models import Where
from xstilts.rows import available, describe, part_rows
from xstilts.stages import Predict, Pretrain, Pretrained, Recipe, Rows, Runtime, Share, Stage, Start, Train
from xstilts.study import Encoder, Mix, Splits, Study
from xstilts.task import PARTS, Part, Parts, Task
from xstilts.tasks import task as find_task

NONE = "none"
FileHash = Callable[[Path], str]


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
    same_data: bool  # the target trains on material that the intermediate step has seen


@dataclass(frozen=True)
class Plan:
    """A study's cells and the stages behind them (parents first, each once)."""

    study: Study
    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]
    where: Mapping[str, Where]  # key of a Pretrained -> its weights
    models: Mapping[str, Start]  # model name -> its start
    parameters: Mapping[str, int]  # model name -> parameters, where known before anything runs
    data_lines: tuple[str, ...]  # where each part's rows come from, one line a part

    def kind(self, stage: Stage) -> str:
        """What a stage is for: "pretrain", "intermediate", "target" or "predict"."""
        match stage:
            case Pretrain():
                return "pretrain"
            case Predict():
                return "predict"
            case Train(start=Train()):
                return "target"
            case _:
                return "target" if stage.key in self._targets() else "intermediate"

    def _targets(self) -> frozenset[str]:
        return frozenset(cell.predict.model.key for cell in self.cells if self._trained(cell))

    def _trained(self, cell: Cell) -> bool:
        return isinstance(cell.predict.model, Train) and cell.predict.model.mix[0].rows.task == cell.target


def make_plan(study: Study, data: Path, file_hash: FileHash, device: str = "cpu", base: Path | None = None) -> Plan:
    """The plan of a study. `base` is the folder that relative model paths start from (default: the current one).

    Raises StudyError, DataError or ModelError when something that the study names does not exist.
    """
    return _Planner(study, data, file_hash, device, base or Path()).plan()


def mix_of(study: Study, name: str) -> Mix:
    """An intermediate as a mix: a mix of the study, or one task alone. Raises StudyError for an unknown name."""
    if name in study.mixes:
        return study.mixes[name]
    _task(name, "intermediates", (*study.mixes, NONE))
    return Mix((name,))


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
    rows: dict[tuple[str, str, str], Rows] = field(default_factory=dict)  # already made: each asks for hashes of files

    def plan(self) -> Plan:
        study = self.study
        self._check_names()
        starts = {name: self._start(name) for name in study.models}
        cells: list[Cell] = []
        stages: dict[str, Stage] = {}
        for name, (start, where) in starts.items():
            runtime = self._runtime(where)
            for cell in self._cells(name, start, runtime):
                cells.append(cell)
                for stage in _lineage(cell.predict):
                    stages.setdefault(stage.key, stage)
        return Plan(
            study=study,
            cells=tuple(cells),
            stages=tuple(sorted(stages.values(), key=_depth)),
            where={start.key: where for start, where in starts.values() if where is not None},
            models={name: start for name, (start, _) in starts.items()},
            parameters={
                name: models.size(where)["parameters"] for name, (_, where) in starts.items() if isinstance(where, Path)
            },
            data_lines=tuple(self._data_lines()),
        )

    def _check_names(self) -> None:
        study = self.study
        tasks = {t: _task(t, "targets") for t in study.targets}
        for t, task in tasks.items():
            if task.kind == "mask":
                raise StudyError(f'targets: "{t}" is for training only; there is nothing to score')
        intermediates = [t for name in study.intermediates if name != NONE for t in mix_of(study, name).tasks]
        tasks |= {t: _task(t, "intermediates") for t in intermediates}
        for t in intermediates:
            if not tasks[t].trains:
                raise StudyError(f'intermediates: "{t}" has no training data')
        for table in ("splits", "caps", "recipes"):
            for name in getattr(study, table):
                known = (*tasks, *study.mixes, *(("all",) if table == "caps" else ()))
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

    def _start(self, name: str) -> tuple[Start, Where | None]:
        encoder = self.study.encoders.get(name)
        if encoder is None:
            if name not in models.shipped():
                raise models.unknown(name, tuple(models.shipped()))
            encoder = Encoder(path=str(models.shipped()[name]))
        if encoder.pretrain:
            from xstilts.pretraining import pretrain_stage

            # pool and layer are the config's: others would be another key, and the encoder would be made again
            return pretrain_stage(encoder.pretrain, self.data, self.file_hash, self.device, base=self.base), None
        if encoder.hub:
            hub = models.Hub(encoder.hub, encoder.revision)
            return Pretrained(f"{hub.repository}@{hub.revision}", encoder.pool, encoder.layer), hub
        folder = self.base / encoder.path
        return Pretrained(models.weights_hash(folder, self.file_hash), encoder.pool, encoder.layer), folder

    def _runtime(self, where: Where | None) -> Runtime:
        """bf16 pays from some width on: below 192 the casts cost what the products gain (docs/lab-notebook.md)."""
        precision = self.study.precision
        if precision == "auto":
            wide = not isinstance(where, Path) or models.size(where)["hidden"] >= 192
            precision = "bf16" if wide and machine.fast_bf16(self.device) else "fp32"
        return Runtime(precision, self.study.threads, self.device)

    def _rows(self, task: Task, part: Part, language: str) -> Rows:
        known = self.rows.get((task.name, part, language))
        if known is None:
            cap = self.study.cap_of(task.name, part)
            parts = parts_of(self.study, task)
            try:
                known = part_rows(task, part, language, parts, cap, self.data, self.file_hash)
            except DataError as error:
                there = available(task, getattr(parts, part), self.data) if getattr(parts, part) in task.source.splits else ()
                hint = f" At hand: {' '.join(there)} (name them under [splits.{task.name}] languages)." if there else ""
                raise DataError(f"{task.name}: {error}{hint}") from None
            self.rows[task.name, part, language] = known
        return known

    def _train(self, start: Start, name: str, mix: Mix, seed: int, runtime: Runtime) -> Train:
        recipe = self.study.recipe_of(name)
        tasks = [find_task(t) for t in mix.tasks]
        weights = mix.weights or (1.0,) * len(tasks)
        shares = tuple(Share(self._rows(t, "train", t.train_language), w) for t, w in zip(tasks, weights, strict=True))
        select: tuple[Rows, ...] = ()
        if recipe.selections and all(parts_of(self.study, t).dev for t in tasks):
            select = tuple(self._rows(t, "dev", t.train_language) for t in tasks)
        return Train(start, shares, select, recipe, seed, runtime)

    def _cells(self, model: str, pretrained: Start, runtime: Runtime) -> Iterator[Cell]:
        study = self.study
        for intermediate in study.intermediates:
            mix = None if intermediate == NONE else mix_of(study, intermediate)
            seen = {pool for t in (mix.tasks if mix else ()) for pool in find_task(t).pool}
            for seed in study.seeds:
                start = pretrained if mix is None else self._train(pretrained, intermediate, mix, seed, runtime)
                for target in study.targets:
                    task = find_task(target)
                    model_stage = self._train(start, target, Mix((target,)), seed, runtime) if task.trains else start
                    recipe = study.recipe_of(target)
                    for language in self._languages(task):
                        rows = self._rows(task, study.part, language)
                        predict = Predict(model_stage, rows, recipe.max_length, recipe.stride, runtime)
                        same = bool(seen & set(task.pool)) and task.trains
                        yield Cell(model, intermediate, target, language, study.part, seed, predict, same)

    def _languages(self, task: Task) -> tuple[str, ...]:
        if self.study.part == "dev":
            return (task.train_language,)
        own = self.study.splits.get(task.name, Splits()).languages
        wanted = own or self.study.languages
        there = tuple(language for language in task.languages if not wanted or language in wanted)
        if not there:
            raise StudyError(f'languages: "{task.name}" has none of {", ".join(wanted)} (it has: {", ".join(task.languages)})')
        return there

    def _data_lines(self) -> Iterator[str]:
        """One line a part; a part that is read in several languages names them at its end."""
        study = self.study
        trained = [t for name in study.intermediates if name != NONE for t in mix_of(study, name).tasks]
        fitted: tuple[Part, ...] = ("train", "dev")
        for name in dict.fromkeys([*trained, *study.targets]):
            task = find_task(name)
            chosen = parts_of(study, task)
            for part in fitted if task.trains else ():
                if getattr(chosen, part) and (part == "train" or study.recipe_of(name).selections):
                    yield describe(self._rows(task, part, task.train_language))
            if name in study.targets:
                by_text: dict[str, list[str]] = {}
                for language in self._languages(task):
                    rows = self._rows(task, study.part, language)
                    by_text.setdefault(describe(replace(rows, language="*")), []).append(language)
                for text, languages in by_text.items():
                    yield text.replace(" *", "", 1) + f" [{' '.join(languages)}]"


def _lineage(stage: Stage | Pretrained) -> Iterator[Stage]:
    """A stage and the stages that it stands on, the oldest first."""
    match stage:
        case Train():
            yield from _lineage(stage.start)
            yield stage
        case Predict():
            yield from _lineage(stage.model)
            yield stage
        case Pretrain():
            yield stage
        case Pretrained():
            return


def _depth(stage: Stage) -> int:
    return sum(1 for _ in _lineage(stage)) if not isinstance(stage, Predict) else 1_000


def recipes(plan: Plan) -> Mapping[str, Recipe]:
    """The recipe of every intermediate and target of a plan, by name."""
    names = (*plan.study.intermediates, *plan.study.targets)
    return {name: plan.study.recipe_of(name) for name in names if name != NONE}
