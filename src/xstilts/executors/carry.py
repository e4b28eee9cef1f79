"""Carry out one stage: the only place where a stage meets the engine."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from xstilts.errors import ModelError, StoreError, TrainingError
from xstilts.examples import Example
from xstilts.executors import torchrun
from xstilts.models import FILES, PROCESSOR, SEQ2SEQ, Where, fetch
from xstilts.stages import (
    ALONE,
    Apertium,
    Choose,
    Form,
    Given,
    Layout,
    Merge,
    Predict,
    Pretrain,
    Pretrained,
    Progress,
    Rows,
    Seq2Seq,
    Stage,
    Start,
    Train,
    Translate,
    root,
    rows_read,
)
from xstilts.store import Store, disk_error

if TYPE_CHECKING:
    from xstilts.engine.parallel import Alone


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage is carried out, and how it speaks: nothing here changes a number."""

    store: Store
    data: Path
    draft: Path
    where: Mapping[str, Where]  # key of a Pretrained -> its weights; of a Translate by given files -> their folder
    offline: bool
    emit: Callable[[Progress], None]
    stop: Callable[[], bool]
    layout: Layout = ALONE
    team: Alone | None = None  # in a process that torchrun started: the others

    def weights_of(self, start: Start, names: Sequence[str] = FILES) -> Path:
        """The folder of a start: a plain model folder with files of these names, or a finished entry. Raises ModelError."""
        if isinstance(start, Pretrained):
            if start.key not in self.where:
                raise ModelError(f"nothing says where the weights {start.weights[:12]} are; this is a defect of xstilts")
            return fetch(self.where[start.key], self.offline, names)
        found = self.store.find_weights(start.key)
        if found is None:
            raise StoreError(f"the weights of stage {start.key[:12]} are no longer in {self.store.path}; run again to make them")
        return found


def carry_out(stage: Stage, place: Place) -> None:
    """Run a stage through the engine; its files land in `place.draft / "out"`.

    Raises XstiltsError for what the user can mend, Stopped when `place.stop()` turned true and the state is saved.
    """
    if isinstance(stage, Translate) and not isinstance(stage.by, Seq2Seq):
        _carry_out(stage, place)  # without torch
        return
    if isinstance(stage, Train) and place.layout.size > 1 and place.team is None:
        torchrun.launch(stage, place.store, place.data, place.where, place.offline, place.layout, place.emit, place.stop)
        _describe(stage, place)
        return
    import torch
    from safetensors import SafetensorError

    if torch.get_num_threads() != stage.runtime.threads:
        torch.set_num_threads(stage.runtime.threads)
    if stage.runtime.device == "cuda":
        if not torch.cuda.is_available():
            raise ModelError("no CUDA device on this machine; use --device cpu")
        torch.use_deterministic_algorithms(True)  # sums over threads in an order that is the same each time
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    try:
        _carry_out(stage, place)
        if place.team is None:
            _describe(stage, place)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"the {stage.runtime.device} memory is full: use --jobs 1, fewer --micro-tokens, --checkpointing, or a smaller max_length"
        ) from error
    except SafetensorError as error:
        # safetensors reports the disk's refusal in its text only
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            if f"os error {number})" in str(error):
                raise disk_error(OSError(number, str(error)), place.store.path) from error
        raise StoreError(f"weights below {place.store.path}: {error}") from error


@lru_cache(maxsize=64)
def _load(wanted: Rows, data: Path, store: Store) -> list[Example]:
    """Rows are values: the test sets that every model of a study is scored on are read once a worker."""
    from xstilts import rows, translations

    if wanted.translation is None:
        return rows.load(wanted, data)
    entry = store.find(wanted.translation.key)
    if entry is None:
        raise StoreError(f"translation {wanted.translation.key[:12]} is no longer in {store.path}; run again to make it")
    return translations.load(wanted, entry)


def _carry_out(stage: Stage, place: Place) -> None:
    from xstilts import tasks

    def load(wanted: Rows) -> list[Example]:
        return _load(wanted, place.data, place.store)

    match stage:
        case Pretrain():
            from xstilts.engine.pretrain import pretrain

            other: Form = "heads" if stage.form == "text" else "text"
            if (twin := place.store.find_weights(replace(stage, form=other).key)) is not None:
                # made already, for the other form: the same weights
                shutil.copytree(twin, place.draft / "out", ignore=shutil.ignore_patterns("manifest.json"), dirs_exist_ok=True)
                return
            pretrain(stage, place.data, place.draft, place.emit, place.stop)
        case Train():
            from xstilts.engine.adapters import weights
            from xstilts.engine.train import train

            start = weights(stage.start, place.weights_of, _images(stage, place))
            cache, layout, team = place.store.cache, place.layout, place.team
            train(stage, start, tasks.task, load, place.draft, cache, place.emit, place.stop, layout, team)
        case Translate():
            _translate(stage, place, load(stage.rows))
        case Merge():
            from xstilts.engine.adapters import weights
            from xstilts.engine.merge import merge

            images = _images(stage, place)
            base, *merged = (weights(part, place.weights_of, images) for part in (stage.base, *stage.parts))
            merge(stage, base, merged, place.draft / "out")
        case Choose():
            from xstilts.engine.merge import choose

            choose(stage, [place.weights_of(train) for train in stage.among], place.draft / "out")
        case Predict():
            from xstilts.engine.adapters import weights
            from xstilts.engine.predict import predict

            model = weights(stage.model, place.weights_of, _images(stage.model, place))
            measured = [_facts_of(each, place.store) for each in stage.choosers]
            head = place.weights_of(stage.head) if stage.head is not None else None
            predict(stage, model, tasks.task(stage.rows.task), load, place.draft / "out", place.store.cache, measured, head)


def _images(model: Start, place: Place) -> Path | None:
    """The checkpoint whose vision tower a model sees with; None where nothing on the way to it has images."""
    from xstilts import tasks

    start = root(model)
    if not isinstance(start, Pretrained) or not any(tasks.task(rows.task).images for rows in rows_read(model)):
        return None
    return place.weights_of(start, (*FILES, PROCESSOR))


def _describe(stage: Stage, place: Place) -> None:
    """Put a card beside a new encoder or adapter; one that was chosen has its own already."""
    from xstilts.card import CARD, pretrained, write_card

    for name in ("encoder", "adapter"):
        folder = place.draft / "out" / name
        if folder.is_dir() and not (folder / CARD).exists():
            write_card(stage, place.data, folder, [place.weights_of(start) for start in pretrained(stage)])


def _facts_of(stage: Predict, store: Store) -> Mapping[str, float]:
    manifest = store.manifest(stage.key)
    if manifest is None:
        raise StoreError(f"the predictions of stage {stage.key[:12]} are no longer in {store.path}; run again to make them")
    found: Mapping[str, float] = manifest["facts"]
    return found


def _translate(stage: Translate, place: Place, originals: list[Example]) -> None:
    from xstilts import apertium, tasks, translations

    match stage.by:
        case Given():
            folder, task, split = place.where[stage.key], tasks.task(stage.rows.task), stage.rows.split
            assert isinstance(folder, Path)
            code, _ = translations.given_files(task, folder, split, stage.language)
            whole = list(task.source.read(place.data, split, stage.rows.language))
            translations.given(stage, originals, whole, task.source.read(folder, split, code), place.draft / "out")
            return
        case Apertium(mode=mode):
            found = translations.Translator(apertium.batches, lambda texts: apertium.translate(mode, texts))
        case Seq2Seq() as by:
            from xstilts.engine.translate import translator

            found = translator(by, place.weights_of(by.model, SEQ2SEQ), stage.runtime.device, stage.runtime.precision)
    translations.translate(stage, originals, found, place.draft, place.emit, place.stop)


def facts(out: Path) -> dict[str, object]:
    """The single figures (no lists) of a finished stage's own account, for the manifest."""
    for name in ("facts.json", "log.json"):
        if (out / name).is_file():
            found = json.loads((out / name).read_text("utf-8"))
            return {key: value for key, value in found.items() if isinstance(value, int | float | str)}
    return {}
