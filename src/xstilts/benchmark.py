"""XTREME (Hu et al. 2020) and XTREME-R (Ruder et al. 2021) as tables: tasks, languages, and how averages are formed.

A task's average is the plain mean over its languages, English included. XTREME's average is the mean over its nine
tasks, XTREME-R's the mean over its four categories; question answering counts (F1 + exact match) / 2. A mean over fewer
languages or tasks than the benchmark has is an error, never a smaller mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from xstilts.errors import ScoreError, nearest
from xstilts.tasks import mnli, panx, pawsx, tatoeba, udpos
from xstilts.tasks import task as find_task

Scores = Mapping[str, float]  # metric -> value on 0-100
Layout = Literal["labels", "indices", "choices", "tags", "answers", "pairs", "ranked"]


@dataclass(frozen=True, slots=True)
class Form:
    """How a task's files are laid out and scored; the first of `metrics` (for answers: their mean) enters averages."""

    layout: Layout
    suffixes: tuple[str, ...]  # the first that is there is read, the first is written
    metrics: tuple[str, ...]
    labels: tuple[str, ...] = ()  # every label that may stand there; () for numbers and ids


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Tasks by category, with the languages of each; `by_group` says that the average is over categories, not tasks."""

    name: str
    groups: Mapping[str, tuple[str, ...]]
    languages: Mapping[str, tuple[str, ...]]
    by_group: bool

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task, by category."""
        return tuple(task for group in self.groups.values() for task in group)


_CHUNKS = ("f1", "precision", "recall")
_ANSWERS = ("f1", "exact_match")
FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "xnli": Form("labels", ("tsv",), ("accuracy",), mnli.LABELS),
        "pawsx": Form("labels", ("tsv",), ("accuracy",), pawsx.LABELS),
        "xcopa": Form("choices", ("jsonl",), ("accuracy",), ("0", "1")),
        "udpos": Form("tags", ("tsv",), (*_CHUNKS, "accuracy"), udpos.TAGS),
        "panx": Form("tags", ("tsv",), _CHUNKS, panx.TAGS),
        "xquad": Form("answers", ("json",), _ANSWERS),
        "mlqa": Form("answers", ("json",), _ANSWERS),
        "tydiqa": Form("answers", ("json",), _ANSWERS),
        "bucc2018": Form("pairs", ("tsv",), _CHUNKS),
        "tatoeba": Form("indices", ("tsv",), ("accuracy",)),
        "mewslix": Form("ranked", ("json",), ("map@20",)),
        "lareqa": Form("ranked", ("tsv", "json"), ("map@20",)),
    }
)

BESIDE: Mapping[str, tuple[str, ...]] = MappingProxyType({"xquad": ("ro",)})  # came later: scored when asked for, in no mean


def _listed(task: str) -> tuple[str, ...]:
    """A task's languages by code, as the benchmarks' tables list them."""
    return tuple(sorted(find_task(task).languages))


XTREME = Benchmark(
    "XTREME",
    {
        "classification": ("xnli", "pawsx"),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("bucc2018", "tatoeba"),
    },
    {
        "xnli": _listed("xnli"),
        "pawsx": _listed("pawsx"),
        "udpos": udpos.XTREME,
        "panx": panx.XTREME,
        "xquad": _listed("xquad"),
        "mlqa": _listed("mlqa"),
        "tydiqa": _listed("tydiqa"),
        "bucc2018": _listed("bucc2018"),
        "tatoeba": tatoeba.XTREME,
    },
    by_group=False,
)
XTREME_R = Benchmark(
    "XTREME-R",
    {
        "classification": ("xnli", "xcopa"),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("tatoeba", "mewslix", "lareqa"),
    },
    {
        "xnli": _listed("xnli"),
        "xcopa": _listed("xcopa"),
        "udpos": (*udpos.XTREME, *udpos.XTREME_R),
        "panx": (*panx.XTREME, *panx.XTREME_R),
        "xquad": _listed("xquad"),
        "mlqa": _listed("mlqa"),
        "tydiqa": _listed("tydiqa"),
        "tatoeba": (*tatoeba.XTREME, *tatoeba.XTREME_R),
        "mewslix": _listed("mewslix"),
        "lareqa": _listed("lareqa"),
    },
    by_group=True,
)
BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({"xtreme": XTREME, "xtreme-r": XTREME_R})


def find_benchmark(name: str) -> Benchmark:
    """The benchmark "xtreme" or "xtreme-r". Raises ScoreError for another name."""
    try:
        return BENCHMARKS[name]
    except KeyError:
        raise ScoreError(f'no benchmark "{name}" (there are: {", ".join(BENCHMARKS)}){nearest(name, BENCHMARKS)}') from None


def task_average(task: str, by_language: Mapping[str, Scores], languages: Iterable[str]) -> dict[str, float]:
    """Each metric's mean over `languages`. Raises ScoreError naming the languages that have no score."""
    wanted = tuple(languages)
    if missing := [code for code in wanted if code not in by_language]:
        raise ScoreError(f"{task}: no score in {' '.join(missing)}; its average is over {len(wanted)} languages, all must be there")
    names = by_language[wanted[0]]
    return {name: sum(by_language[code][name] for code in wanted) / len(wanted) for name in names}


def headline(task: str, scores: Scores) -> float:
    """The one number of a task that enters averages: (F1 + exact match) / 2 for answers, else its first metric."""
    form = FORMS[task]
    names = form.metrics if form.layout == "answers" else form.metrics[:1]
    return sum(scores[name] for name in names) / len(names)


def group_averages(benchmark: Benchmark, by_task: Mapping[str, float]) -> dict[str, float]:
    """The mean over the tasks of each category, for the categories whose tasks are all in `by_task`."""
    whole = {name: tasks for name, tasks in benchmark.groups.items() if all(task in by_task for task in tasks)}
    return {name: sum(by_task[task] for task in tasks) / len(tasks) for name, tasks in whole.items()}


def benchmark_average(benchmark: Benchmark, by_task: Mapping[str, float]) -> float:
    """XTREME: the mean over its nine tasks; XTREME-R: the mean over its four categories. Raises ScoreError without one of them."""
    if missing := [task for task in benchmark.tasks if task not in by_task]:
        raise ScoreError(f"no average of {benchmark.name} without {' '.join(missing)}; it is over {len(benchmark.tasks)} tasks")
    parts = group_averages(benchmark, by_task).values() if benchmark.by_group else [by_task[task] for task in benchmark.tasks]
    return sum(parts) / len(parts)
