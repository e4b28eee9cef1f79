"""Scores as the field prints them, item by item: numpy only, one cited definition a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from xstilts.errors import ScoreError, nearest
from xstilts.metrics.answers import Words, answer_f1, exact_match, mlqa_words, normal_words
from xstilts.metrics.items import Items
from xstilts.metrics.mining import mined_f1, mined_precision, mined_recall
from xstilts.metrics.ragged import Ragged, ragged
from xstilts.metrics.ranks import average_precision
from xstilts.metrics.rows import accuracy, check_labels, check_options, check_single
from xstilts.metrics.tags import Scheme, chunk_f1, chunk_precision, chunk_recall, token_accuracy
from xstilts.task import Kind, Task

__all__ = ["Items", "Metric", "Ragged", "for_task", "items", "of_kind", "ragged"]

Function = Callable[[Ragged, Ragged], Items]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of one task: its name in score files, what it is in words, and the function (gold, pred) -> Items."""

    name: str
    about: str
    function: Function


def for_task(task: Task, language: str = "") -> tuple[Metric, ...]:
    """The metrics that `task.metrics` names, headline first, for rows in `language` (MLQA's answers are compared by language).

    Raises ScoreError for a name that the task's kind does not have.
    """
    known = of_kind(task, language)
    for name in task.metrics:
        if name not in known:
            choice = ", ".join(known) or "none"
            raise ScoreError(f'task {task.name}: no metric "{name}" for kind {task.kind} (known: {choice}){nearest(name, known)}')
    if not task.metrics:
        raise ScoreError(f"task {task.name} names no metric")
    return tuple(known[name] for name in task.metrics)


def items(task_metric: str, task: Task, language: str, gold: Sequence[Sequence[str]], pred: Sequence[Sequence[str]]) -> Items:
    """One metric of one language's rows, item by item.

    Rows as in a prediction file: one label a row, the option's number, one tag a word, the accepted answers
    (none: no answer), candidate ids best first, or the ids mined for a source sentence (often none). Raises ScoreError,
    naming task and language, on empty input, unequal lengths, unlabelled rows and labels outside the task's set.
    """
    try:
        for metric in for_task(task, language):
            if metric.name == task_metric:
                return metric.function(ragged(gold), ragged(pred))
    except ScoreError as error:
        raise ScoreError(f"{task.name}, {language}: {error}") from error
    raise ScoreError(f'task {task.name} has no metric "{task_metric}"{nearest(task_metric, task.metrics)}')


def of_kind(task: Task, language: str) -> dict[str, Metric]:
    """Every metric of the task's kind by name, whether or not the task names it, for rows in `language`."""
    match task.kind:
        case "classify" | "choose":
            return {"accuracy": Metric("accuracy", "accuracy", partial(_labelled, accuracy, task.kind, task.labels))}
        case "retrieve" if task.retrieval == "mining":
            return {
                "f1": Metric("f1", "F1 of mined pairs", mined_f1),
                "precision": Metric("precision", "precision of mined pairs", mined_precision),
                "recall": Metric("recall", "recall of mined pairs", mined_recall),
            }
        case "retrieve":
            ranked = {"map@20": Metric("map@20", "mean average precision at 20", average_precision)}
            first = {"accuracy": Metric("accuracy", "accuracy at 1", accuracy)}
            return ranked | first if task.retrieval == "map20" else first
        case "tag":
            bio = any(label.startswith(("B-", "I-")) for label in task.labels)
            scheme: Scheme = "bio" if bio else "upos"
            unit = "entity-level" if bio else "XTREME chunk"
            return {
                name: Metric(name, about, partial(_labelled, function, task.kind, task.labels))
                for name, about, function in (
                    ("accuracy", "token accuracy", token_accuracy),
                    ("f1", f"{unit} F1 (conlleval rules)", partial(chunk_f1, scheme=scheme)),
                    ("precision", f"{unit} precision (conlleval rules)", partial(chunk_precision, scheme=scheme)),
                    ("recall", f"{unit} recall (conlleval rules)", partial(chunk_recall, scheme=scheme)),
                )
            }
        case "span":
            empty = task.no_answer
            style = "MLQA" if task.answer_style == "mlqa" else "SQuAD v2.0" if empty else "SQuAD v1.1"
            words: Words = partial(mlqa_words, language=language) if task.answer_style == "mlqa" else normal_words
            return {
                "exact_match": Metric("exact_match", f"{style} exact match", partial(exact_match, no_answer=empty, words=words)),
                "f1": Metric("f1", f"{style} F1", partial(answer_f1, no_answer=empty, words=words)),
            }
        case "mask":
            return {}


def _labelled(function: Function, kind: Kind, labels: tuple[str, ...], gold: Ragged, pred: Ragged) -> Items:
    """Checks the labels of both sides, then computes."""
    for side, rows in (("gold", gold), ("pred", pred)):
        if kind == "choose":
            check_options(side, rows)
        else:
            check_labels(side, rows, labels)
        if kind != "tag":
            check_single(side, rows)
    return function(gold, pred)
