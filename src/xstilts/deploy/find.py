"""From the name that a user gives a model to its folder, its facts, and real rows to check it on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xstilts import rows
from xstilts.deploy.spec import FILE, KINDS, Spec, read_spec
from xstilts.errors import DataError, ModelError, StudyError, nearest
from xstilts.examples import Example
from xstilts.stages import Choose, Predict, Rows, Stage, Train, from_plain, recipe_of, root
from xstilts.store import Store
from xstilts.study import read_study
from xstilts.task import Task
from xstilts.tasks import task as find_task

if TYPE_CHECKING:
    from xstilts.plan import Plan

HOW = "a key of the store (or how it begins), STUDY:MODEL/INTERMEDIATE/TARGET/SEED, or the folder of an export"


@dataclass(frozen=True)
class Found:
    """A model to deploy: an entry of the store (`encoder/` and `heads/`) or the folder of an export."""

    spec: Spec
    folder: Path
    scored: Mapping[str, Predict]  # by language, how it was scored, as far as the store knows

    @property
    def exported(self) -> bool:
        """True for the folder of an export."""
        return bool(self.spec.format)


def find(name: str, store: Path, data: Path, device: str, task: str = "") -> Found:
    """The model of this name with its head for `task` ("": its only one). Raises ModelError, StoreError or StudyError."""
    found = find_all(name, store, data, device, task)
    if len(found) > 1:
        raise ModelError(f"{name}: has heads for {', '.join(each.spec.task for each in found)}; say which with --task")
    return found[0]


def find_all(name: str, store: Path, data: Path, device: str, task: str = "") -> tuple[Found, ...]:
    """The same with every head that the name leaves open: a study's cell or an export has one, a stage one a task of its mix."""
    folder = Path(name)
    if (folder / FILE).is_file():
        spec = read_spec(folder)
        if task and task != spec.task:
            raise ModelError(f"{name}: exported with its head for {spec.task}, not for {task}")
        return (Found(spec, folder, _scored(Store.open(store), spec.stage, spec.task) if store.is_dir() else {}),)
    if folder.is_dir():
        raise ModelError(f"{name}: no {FILE} in this folder; name {HOW}")
    if not store.is_dir():
        raise ModelError(f'"{name}": no such folder, and there is no store {store}; name {HOW}')
    opened = Store.open(store)
    if "/" in name and ":" in name:
        stage, target = _cell(name, opened, data, device)
        return _entry(name, stage, opened, task or target)
    if re.fullmatch(r"[0-9a-f]{4,64}", name):
        keys = [key for key in opened.keys() if key.startswith(name)]  # noqa: SIM118 (a store is no mapping)
        if len(keys) > 1:
            raise ModelError(f'"{name}" begins {len(keys)} keys; give more digits ({keys[0][: len(name) + 8]}, ...)')
        if keys and (manifest := opened.manifest(keys[0])) is not None:
            found = from_plain(manifest["stage"])
            return _entry(name, found if not isinstance(found, Predict) else _model_of(found, name), opened, task or _task_of(found))
    raise ModelError(f'"{name}": no such model in {store}; name {HOW}')


def _cell(name: str, store: Store, data: Path, device: str) -> tuple[Stage, str]:
    """The trained model of a study's cell, and its target."""
    study, _, cell = name.partition(":")
    model, _, rest = cell.partition("/")
    chain, target, seed = (*rest.rsplit("/", 2), "", "")[:3]
    made = planned(study, store, data, device)
    known = list(dict.fromkeys(f"{c.model}/{c.intermediate}/{c.target}/{c.seed}" for c in made.cells))
    for each in made.cells:
        if (each.model, each.intermediate, each.target, str(each.seed)) == (model, chain, target, seed):
            return _model_of(each.predict, name), each.target
    raise StudyError(f'{study} has no cell "{cell}"{nearest(cell, known)} (one of its {len(known)}: {known[0]})')


def planned(study: str, store: Store, data: Path, device: str) -> Plan:
    """The study as it runs on `device`; as on the other one where models of that one alone are in the store.

    Where a model was trained is in its key, and it serves anywhere.
    """
    from xstilts.plan import make_plan

    def there(made: Plan) -> bool:
        models = (cell.predict.model for cell in made.cells)
        return any(isinstance(model, Train | Choose) and store.find_weights(model.key) is not None for model in models)

    here = make_plan(read_study(study), data, store.file_hash, device)
    if there(here):
        return here
    other = make_plan(read_study(study), data, store.file_hash, "cpu" if device == "cuda" else "cuda")
    return other if there(other) else here


def _model_of(predict: Predict, name: str) -> Stage:
    model = predict.model
    if not isinstance(model, Train | Choose):
        raise ModelError(f"{name}: this cell's model has no head (retrieval reads the encoder's vectors); deploy one of {', '.join(KINDS)}")
    return model


def _task_of(stage: object) -> str:
    return stage.rows.task if isinstance(stage, Predict) else ""


def _entry(name: str, stage: object, store: Store, task: str) -> tuple[Found, ...]:
    if not isinstance(stage, Train | Choose):
        raise ModelError(f"{name}: a {type(stage).__name__} has no head to answer with; name the training of a target")
    folder = store.find_weights(stage.key)
    if folder is None:
        raise ModelError(f'{name}: the weights of stage {stage.key[:12]} are not in {store.path}; run its study with keep = "all"')
    if root(stage).form == "text":
        raise ModelError(
            f'{name}: it writes its answers (form = "text"), and what is deployed answers in one pass, by a head; transformers loads its '
            f"folder as it is: {folder / 'encoder'}"
        )
    if not (folder / "encoder").is_dir():
        way = recipe_of(stage).tuning
        raise ModelError(f'{name}: it was trained with tuning = "{way}", which stores no whole encoder; name one of tuning = "full"')
    heads = {}
    for path in sorted((folder / "heads").glob("*.json")):
        facts = json.loads(path.read_text("utf-8"))
        if facts["kind"] in KINDS:
            heads[path.stem] = facts
    if not heads or (task and task not in heads):
        raise ModelError(f"{name}: no head for {task or 'any task'} (it has: {', '.join(heads) or 'none'}){nearest(task, heads)}")
    return tuple(_headed(name, stage, store, folder, each, heads[each]) for each in ((task,) if task else heads))


def _headed(name: str, stage: Train | Choose, store: Store, folder: Path, task: str, head: Mapping[str, Any]) -> Found:
    if find_task(task).images:
        raise ModelError(f"{name}: {task} has images, and what is deployed reads texts alone")
    train = stage.among[0] if isinstance(stage, Choose) else stage
    scored = _scored(store, stage.key, task)
    # input is cut and windowed, and arithmetic done, as when the model was scored
    as_scored = next(iter(scored.values()), None)
    length, stride = (as_scored.max_length, as_scored.stride) if as_scored else (train.recipe.max_length, train.recipe.stride)
    precision = (as_scored or train).runtime.precision
    spec = Spec(
        task, head["kind"], tuple(head["labels"]), find_task(task).languages, length, stride, root(stage).pool, precision,
        stage=stage.key, name=name,
    )  # fmt: skip
    return Found(spec, folder, scored)


def _scored(store: Store, model: str, task: str) -> dict[str, Predict]:
    """By language, the predictions for rows of the task that the store holds of this model."""
    found = {}
    for key in store.keys():  # noqa: SIM118 (a store is no mapping)
        manifest = store.manifest(key)
        if manifest is None or manifest["stage"]["type"] != "Predict" or manifest["stage"]["rows"]["task"] != task:
            continue
        stage = from_plain(manifest["stage"])
        if isinstance(stage, Predict) and stage.model.key == model:
            found[stage.rows.language] = stage
    return found


def real_rows(found: Found, data: Path, most: int, languages: tuple[str, ...] = ()) -> dict[str, list[Example]]:
    """At most `most` labelled rows a language: those that the model was scored on, else the task's own test part.

    Raises DataError where there are none, ModelError for a language that the task does not have.
    """
    task = found.spec.known_task()
    for code in languages:
        if code not in task.languages:
            raise ModelError(f'{task.name} has no language "{code}"{nearest(code, task.languages)} (it has: {" ".join(task.languages)})')
    wanted = {code: each.rows for code, each in found.scored.items()} or _test_part(task, data)
    order = [code for code in task.languages if code in wanted and (not languages or code in languages)]
    made = {code: rows.load(wanted[code], data)[:most] for code in order}
    if not made or not all(made.values()):
        raise DataError(f"{task.name}: no test rows to check the model on. {task.get}")
    return made


def _test_part(task: Task, data: Path) -> dict[str, Rows]:
    split = task.parts.test
    there = rows.available(task, split, data) if split else ()
    return {code: rows.part_rows(task, "test", code, task.parts, None, data, lambda path: "") for code in there}

