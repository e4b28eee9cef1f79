"""Makes the cells and prediction files of a study in a folder, for tests and for looking at a report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine_maker import make_model
from xstilts.examples import Example
from xstilts.plan import Plan, make_plan
from xstilts.stages import Predict, Pretrained, Recipe, Rows, Runtime, Share, Train
from xstilts.study import parse_study
from xstilts.task import Task


class Nowhere:
    """A source without rows."""

    splits: tuple[str, ...] = ("train", "dev", "test")

    def offers(self, split: str, language: str) -> bool:
        return True

    def files(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        return ()

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        return iter(())


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def planner(folder: Path, count: Callable[[Rows], int] | None = None, **study: object) -> Callable[..., Plan]:
    """Makes the plan of a study on the toy encoder `m`, which is put into `folder`; keywords change the study."""
    make_model(folder / "m")
    base = {"name": "s", "models": ["m"], "encoders": {"m": {"path": "m"}}, **study}

    def plan(**changes: object) -> Plan:
        return make_plan(parse_study({**base, **changes}), folder, file_hash, base=folder, count=count)

    return plan


@dataclass(frozen=True)
class Cell:
    model: str
    intermediate: str
    target: str
    language: str
    split: str
    seed: int
    predict: Predict
    same_data: bool


LANGUAGES = ("en", "de", "es", "ru", "tr", "fi", "id", "sw", "hi", "ar", "zh", "ja")
UPOS = ("ADJ", "ADP", "DET", "NOUN", "PRON", "PUNCT", "VERB")
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "nli",
            "classify",
            "entailment",
            LANGUAGES,
            Nowhere(),
            ("accuracy",),
            ("yes", "maybe", "no"),
            parallel=True,
            chance=100 / 3,
        ),
        Task("pos", "tag", "parts of speech", LANGUAGES, Nowhere(), ("accuracy", "f1"), UPOS, parallel=True),
        Task("qa", "span", "questions", LANGUAGES, Nowhere(), ("f1", "exact_match"), parallel=False),
        Task("match", "retrieve", "retrieval", LANGUAGES[1:], Nowhere(), ("accuracy",), parallel=True, chance=0.5),
    )
}


def task_of(name: str) -> Task:
    return TASKS[name]


def predict_of(model: str, intermediate: str, target: str, language: str, seed: int) -> Predict:
    """A Predict value with a key of its own; retrieval is not trained, so without an intermediate step no seed enters."""
    runtime = Runtime()
    start: Pretrained | Train = Pretrained(model)
    if intermediate != "none":
        start = Train(start, (Share(Rows(intermediate, 1, "train", "train", "en", "0")),), (), Recipe(), seed, runtime)
    if TASKS[target].kind != "retrieve":
        start = Train(start, (Share(Rows(target, 1, "train", "train", "en", "0")),), (), Recipe(), seed, runtime)
    return Predict(start, Rows(target, 1, "test", "test", language, "0"), 128, 64, runtime)


def _row(task: Task, right: bool, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """(gold, pred) of one item."""
    match task.kind:
        case "tag":
            gold = [UPOS[i] for i in rng.integers(0, len(UPOS), 8)]
            flip = rng.random(8) < (0.1 if right else 0.5)
            return gold, [UPOS[0] if f else g for g, f in zip(gold, flip, strict=True)]
        case "span":
            return ["the red house"], ["red house" if right else "house of" if rng.random() < 0.5 else "dog"]
        case "retrieve":
            return ["s1"], ["s1" if right else "s2", "s3"]
        case _:
            return ["yes"], ["yes" if right else "no"]


def write_predictions(
    path: Path, ids: Sequence[str], groups: Sequence[str], gold: list[list[str]], pred: list[list[str]],
    scores: list[list[float]] | None = None,
) -> None:  # fmt: skip
    """One prediction file in the layout that the engine writes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "group": pa.array(groups, pa.string()),
            "gold": pa.array(gold, pa.list_(pa.string())),
            "pred": pa.array(pred, pa.list_(pa.string())),
            "scores": pa.array(scores or [[0.5]] * len(ids), pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, path)


def _scores(task: Task, pred: list[str], rng: np.random.Generator) -> list[float]:
    """A score a label, the predicted one highest."""
    return [3.0 if label == pred[0] else float(rng.random()) for label in task.labels]


def make_study(
    folder: Path,
    gains: Mapping[str, float],
    models: Sequence[str] = ("small",),
    targets: Sequence[str] = tuple(TASKS),
    seeds: Sequence[int] = (0, 1, 2),
    items: int = 120,
    same_data: frozenset[tuple[str, str]] = frozenset(),
    size_step: float = 6.0,
    noise: float = 2.0,
    closing: float = 0.0,
) -> list[Cell]:
    """Cells and files of a study whose intermediates change the share of right items by `gains` points (plus seed noise).

    Model number m is `m * size_step` points better; languages lose 3 points for each place after the first, in model m
    `m * closing` less.
    """
    cells = []
    for target in targets:
        task = TASKS[target]
        shared = np.random.default_rng([3, sorted(TASKS).index(target)])
        hard = shared.random(items)  # parallel tests: what is hard is hard in every language
        for m, model in enumerate(models):
            for i, intermediate in enumerate(gains):
                for seed in seeds:
                    trained = not (task.kind == "retrieve" and intermediate == "none")
                    luck = np.random.default_rng([5, m, i, seed]).normal(0, noise) if trained else 0.0
                    for k, language in enumerate(task.languages):
                        own = np.random.default_rng([7, m, i, seed if trained else 0, k, sorted(TASKS).index(target)])
                        gold_rng = np.random.default_rng([11, k])
                        rate = (80.0 - (3.0 - closing * m) * k + size_step * m + gains[intermediate] + luck) / 100.0
                        rows = [
                            _row(
                                task,
                                bool(0.6 * h + 0.4 * u < rate),
                                gold_rng if task.kind != "tag" else np.random.default_rng([13, n]),
                            )
                            for n, (h, u) in enumerate(zip(hard, own.random(items), strict=True))
                        ]
                        predict = predict_of(model, intermediate, target, language, seed)
                        cells.append(
                            Cell(
                                model, intermediate, target, language, "test", seed, predict, (intermediate, target) in same_data
                            )
                        )
                        path = folder / predict.key / "predictions.parquet"
                        if not path.exists():
                            ids = [f"{target}-{n}" for n in range(items)]
                            scores = [_scores(task, r[1], own) for r in rows] if task.kind == "classify" else None
                            write_predictions(path, ids, [""] * items, [r[0] for r in rows], [r[1] for r in rows], scores)
    return cells


def finder(folder: Path) -> Callable[[str], Path | None]:
    """`find` of a store that holds what stands in `folder`."""

    def find(key: str) -> Path | None:
        return folder / key if (folder / key).is_dir() else None

    return find
