"""What a model loses of its intermediate task when it is then trained on the target.

Backward transfer (Lopez-Paz and Ranzato 2017, Gradient Episodic Memory, arXiv 1706.08840, section 2): the score on an earlier task at the
end minus the score right after that task was learnt; below 0 it is forgotten. Here of two tasks, on the earlier one's dev rows in its
training language. See `plan.Remembered` for the head that answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xstilts import scores
from xstilts.analysis.transfer import draw, language_mean, minus
from xstilts.plan import Cell, Remembered
from xstilts.scores import Find, TaskOf
from xstilts.stats import Interval

SOURCE = "Lopez-Paz and Ranzato 2017, Gradient Episodic Memory for Continual Learning, arXiv 1706.08840, section 2"


@dataclass(frozen=True, slots=True)
class Kept:
    """Mean scores over seeds on `task` after the intermediate training, and after `target` was then trained; the change in points."""

    model: str
    intermediate: str
    target: str
    task: str
    metric: str
    before: float
    after: float
    change: Interval  # after minus before, paired by seed
    same_data: bool


def forgetting(
    remembered: Iterable[Remembered], find: Find, task_of: TaskOf, rng: np.random.Generator, resamples: int
) -> tuple[tuple[Kept, ...], tuple[str, ...]]:
    """One row for each model, choice, target and task of the choice, in order; and what was not computed.

    Raises ScoreError as `scores.load` does.
    """
    cells: dict[tuple[str, ...], Cell] = {}  # what a choice is called says what the model was trained on by then
    rows: dict[tuple[str, str, str, str], Remembered] = {}
    for each in remembered:
        rows.setdefault((each.model, each.intermediate, each.target, each.task), each)
        for when, predict in zip(_when(each), (each.before, each.after), strict=True):
            place = (each.model, when, each.task, str(each.seed))
            cells[place] = Cell(each.model, when, each.task, predict.rows.language, predict.rows.split, each.seed, predict, same_data=False)
    samples = {sample.task.name: sample for sample in draw(scores.load(cells.values(), find, task_of), task_of, rng, resamples)}
    found, left_out = [], []
    for each in rows.values():
        sample = samples[each.task]
        before, after = (language_mean(each.model, when, sample.languages(each.model, when)) for when in _when(each))
        change = minus(after, before)
        if not sample.has(change):
            left_out.append(f"forgetting of {each.task} by {each.target} after {each.intermediate} ({each.model}): cells are missing")
            continue
        was, now = (float(sample.scores(weights).mean()) for weights in (before, after))
        interval = sample.interval(change)
        found.append(Kept(each.model, each.intermediate, each.target, each.task, sample.metric, was, now, interval, each.same_data))
    return tuple(found), tuple(left_out)


def _when(each: Remembered) -> tuple[str, str]:
    return each.intermediate, f"{each.intermediate} → {each.target}"
