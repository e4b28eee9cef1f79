"""The report of a large study: plants predictions of a given size and measures seconds, CPU seconds and memory of each step.

    python benchmarks/report_size.py --folder /tmp/large --rows 100000 --predictions 5000000

What is planted stays in the folder, so that a second run measures alone. Predictions are written as the engine writes them, a file a
cell; the answers are drawn at random, with effects of a few points. Targets are tasks of the embedded benchmark, of four kinds.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from xstilts.analysis.claims import own_claims
from xstilts.metrics import for_task
from xstilts.plan import Cell
from xstilts.report import Facts, evaluate, write_report
from xstilts.scores import PREDICTIONS, write_predictions
from xstilts.stages import Predict, Pretrained, Recipe, Rows, Runtime, Share, Train
from xstilts.task import Task
from xstilts.tasks import task

TARGETS = ("mini-nli", "mini-pos", "mini-qa", "mini-retrieval")
STEPS = ("none", "mini-choice", "mini-ner", "mini-paraphrase", "nli", "squad", "hellaswag", "cosmosqa")


def cells(rows: int) -> list[Cell]:
    """Cells of a study with about so many rows in scores.csv: four targets, eight choices, twelve languages; models and seeds grow."""
    a_run = len(STEPS) * sum(len(for_task(task(name))) * len(task(name).languages) for name in TARGETS)
    runs = max(3, round(rows / a_run))
    models = max(1, round(runs / 10))
    seeds = max(3, round(runs / models))
    return [
        Cell(f"m{model}", step, target, language, "test", seed, _predict(model, step, target, language, seed), False)
        for model in range(models) for step in STEPS for target in TARGETS for language in task(target).languages for seed in range(seeds)
    ]  # fmt: skip


def _predict(model: int, step: str, target: str, language: str, seed: int) -> Predict:
    start: Pretrained | Train = Pretrained(f"m{model}")
    for name in (*(() if step == "none" else (step,)), *(() if target == "mini-retrieval" else (target,))):
        start = Train(start, (Share(Rows(name, 1, "train", "train", "en", "0")),), (), Recipe(), seed, Runtime())
    return Predict(start, Rows(target, 1, "test", "test", language, "0"), 128, 64, Runtime())


def plant(made: list[Cell], predictions: int, folder: Path) -> int:
    """Writes what is not there yet; the number of predictions of one cell."""
    items = max(20, round(predictions / len(made)))
    for number, cell in enumerate(made):
        path = folder / cell.predict.key / PREDICTIONS
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        about = task(cell.target)
        rate = 0.5 + 0.02 * STEPS.index(cell.intermediate) + rng.normal(0, 0.02)
        gold, pred, scores = _answers(about, items, rate, rng)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(path, [f"{cell.target}-{n}" for n in range(items)], [f"g{n // 2}" for n in range(items)], gold, pred, scores)
    return items


def _answers(about: Task, items: int, rate: float, rng: np.random.Generator) -> tuple[list[list[str]], list[list[str]], list[list[float]]]:
    right = rng.random(items) < rate
    match about.kind:
        case "tag":
            gold = [[about.labels[(n + k) % len(about.labels)] for k in range(8)] for n in range(items)]
            return gold, [tags if ok else tags[1:] + tags[:1] for tags, ok in zip(gold, right, strict=True)], [[] for _ in gold]
        case "span":
            gold = [[f"answer {n % 97} of it"] for n in range(items)]
            return gold, [answer if ok else ["of it"] for answer, ok in zip(gold, right, strict=True)], [[] for _ in gold]
        case "retrieve":
            gold = [[f"c{n}"] for n in range(items)]
            return gold, [[f"c{n}" if ok else "c-1", "c-2"] for n, ok in enumerate(right)], [[0.5, 0.4]] * items
        case _:
            labels = about.labels
            gold = [[labels[n % len(labels)]] for n in range(items)]
            pred = [[labels[(n + (0 if ok else 1)) % len(labels)]] for n, ok in enumerate(right)]
            return gold, pred, [[float(label == one[0]) for label in labels] for one in pred]


@contextmanager
def measured(what: str, found: dict[str, dict[str, float]]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    found[what] = {"seconds": round(time.perf_counter() - wall, 2), "cpu": round(time.process_time() - cpu, 2), "peak_gb": round(peak, 2)}
    print(what, json.dumps(found[what]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--predictions", type=int, default=5_000_000)
    parser.add_argument("--profile", action="store_true", help="print where the time went; the seconds are then too large")
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    made = cells(given.rows)
    with measured("plant", found):
        items = plant(made, given.predictions, given.folder)
    sizes = {name: 10**6 * 2**number for number, name in enumerate(dict.fromkeys(cell.model for cell in made))}

    def find(key: str) -> Path | None:
        folder = given.folder / key
        return folder if folder.is_dir() else None

    profile = cProfile.Profile()
    if given.profile:
        profile.enable()
    with measured("evaluate", found):
        report = evaluate(Facts("large", parameters=sizes), made, find, claims=own_claims())
    with measured("write", found):
        write_report(report, given.folder / "report")
    profile.disable()
    print(f"{len(made)} cells, {len(report.scores)} score rows, {items * len(made)} predictions")
    if given.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
