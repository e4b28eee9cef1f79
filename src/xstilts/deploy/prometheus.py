"""Counters and histograms in Prometheus' text format (version 0.0.4), no more of it than a server of models needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
JOBS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@dataclass
class Counter:
    """A number that only grows, one for each set of labels."""

    name: str
    about: str
    labels: tuple[str, ...] = ()
    values: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count."""
        self.values[labels] = self.values.get(labels, 0.0) + by

    def lines(self) -> Iterator[str]:
        """Its part of the page."""
        yield from (f"# HELP {self.name} {self.about}", f"# TYPE {self.name} counter")
        for labels, value in sorted(self.values.items()):
            yield f"{self.name}{_labels(dict(zip(self.labels, labels, strict=True)))} {value:g}"


@dataclass
class Histogram:
    """How values spread over fixed bounds, for each value of one label."""

    name: str
    about: str
    label: str
    bounds: Sequence[float]
    counts: dict[str, list[int]] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, label: str, value: float) -> None:
        """Count one."""
        counts = self.counts.setdefault(label, [0] * (len(self.bounds) + 1))
        counts[next((i for i, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))] += 1
        self.sums[label] = self.sums.get(label, 0.0) + value

    def lines(self) -> Iterator[str]:
        """Its part of the page."""
        yield from (f"# HELP {self.name} {self.about}", f"# TYPE {self.name} histogram")
        for label, counts in sorted(self.counts.items()):
            so_far = 0
            for bound, count in zip((*map(str, self.bounds), "+Inf"), counts, strict=True):
                so_far += count
                yield f"{self.name}_bucket{_labels({self.label: label, 'le': bound})} {so_far}"
            yield f"{self.name}_sum{_labels({self.label: label})} {self.sums[label]:g}"
            yield f"{self.name}_count{_labels({self.label: label})} {so_far}"


def _labels(pairs: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in pairs.items())  # values are ours: no quotes, no line ends
    return f"{{{inside}}}" if inside else ""


class Counts:
    """What a server counts; safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.responses = Counter("xstilts_responses_total", "Responses by task and HTTP status.", ("task", "status"))
        self.examples = Counter("xstilts_examples_total", "Examples answered; language as callers name it.", ("task", "language"))
        self.characters = Counter("xstilts_characters_total", "Characters computed.", ("task",))
        self.seconds = Histogram("xstilts_request_seconds", "From the request's head to the response, by task.", "task", SECONDS)
        self.batch_jobs = Histogram("xstilts_batch_requests", "Requests computed together.", "task", JOBS)
        self.batch_seconds = Histogram("xstilts_batch_seconds", "Computing a batch, tokenising included.", "task", SECONDS)

    def response(self, task: str, status: int, seconds: float) -> None:
        """A response has left."""
        with self._lock:
            self.responses.add(task, str(status))
            self.seconds.add(task, seconds)

    def answered(self, task: str, language: str, examples: int) -> None:
        """Examples were answered."""
        with self._lock:
            self.examples.add(task, language, by=examples)

    def batch(self, task: str, jobs: int, characters: int, seconds: float) -> None:
        """A batch was computed."""
        with self._lock:
            self.characters.add(task, by=characters)
            self.batch_jobs.add(task, jobs)
            self.batch_seconds.add(task, seconds)

    def page(self, gauges: Mapping[str, float]) -> str:
        """The whole page; `gauges` are values of this moment."""
        with self._lock:
            parts = (self.responses, self.examples, self.characters, self.seconds, self.batch_jobs, self.batch_seconds)
            lines = [line for part in parts for line in part.lines()]
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
