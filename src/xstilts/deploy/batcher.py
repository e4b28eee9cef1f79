"""Many callers, one model: what waits is computed together, rows of like length first, in batches that hold a latency bound.

No batch waits for more work to come: while one is computed the next one gathers, so that batches are as large as the load
makes them. The one that has waited longest is always in the next batch; beside it stand those of its task whose size is nearest,
as many as are computed in half of the bound by the speed measured so far. Several threads each compute a batch of their own: on a CPU
two batches on two cores are done sooner than one that is shared out, operation by operation. (Batches that wait for a timer, as in
Clipper, Crankshaw et al. 2017, pay off where a device is far from full with a single request; a CPU is not.)
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from xstilts.deploy.engines import Engine
from xstilts.engine.answers import Answered
from xstilts.examples import Choice, Example, Passage, Text, Words

LEAST = 2000  # characters that a batch may hold whatever the measured speed
WEIGHT = 0.2  # of the newest batch in the running mean of the speed


@dataclass(frozen=True)
class Answers:
    """The answers to the examples of one job, and which of them lost tokens that found no room in a row."""

    answered: Sequence[Answered]
    shortened: Sequence[bool]


class Full(Exception):
    """The queue holds what it may; `after` is the time in seconds by which it should be empty."""

    def __init__(self, after: float) -> None:
        super().__init__("the queue is full")
        self.after = after


class Late(Exception):
    """A job's time was over before its turn came."""


@dataclass(frozen=True)
class Job:
    """Examples of one request; `done` is called once, on the batcher's thread, with the answers or with what went wrong."""

    task: str
    examples: Sequence[Example]
    done: Callable[[Answers | Exception], None]
    deadline: float = math.inf  # by time.monotonic()
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", sum(map(size_of, self.examples)))


def size_of(example: Example) -> int:
    """Characters that the model will read of an example: a context once an option."""
    match example:
        case Text():
            return len(example.text) + len(example.pair or "")
        case Choice():
            return sum(len(example.context) + len(example.question) + len(each) for each in example.options)
        case Words():
            return sum(len(word) + 1 for word in example.words)
        case Passage():
            return len(example.question) + len(example.context)
    raise TypeError(f"{type(example).__name__} is not served")


class Batcher:
    """The queue of one encoder and the threads that empty it. `engines` are its heads by task.

    `bound` is in seconds; `most` is the number of jobs that may wait; `seen`, if given, is told of every batch: its jobs, its
    characters, and the seconds that it took; `threads` is the number of batches that are computed at the same time.
    """

    def __init__(
        self, engines: Mapping[str, Engine], bound: float, most: int, seen: Callable[[Sequence[Job], int, float], None] | None = None,
        threads: int = 1,
    ) -> None:  # fmt: skip
        self._engines, self._bound, self._most, self._seen = engines, bound, most, seen
        self._waiting: list[Job] = []
        self._news = threading.Condition()
        self._tokenizer = threading.Lock()  # fast tokenizers keep how they truncate as state
        self._ending = False
        self._speed = 0.0  # characters a second and thread
        self._threads = [threading.Thread(target=self._work, name=f"batcher-{number}", daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        """Take a job in. Raises Full."""
        with self._news:
            if len(self._waiting) >= self._most:
                waiting = sum(each.size for each in self._waiting)
                raise Full(waiting / self._speed / len(self._threads) if self._speed else 1.0)
            self._waiting.append(job)
            self._news.notify()

    def end(self) -> None:
        """Compute what waits, then stop."""
        with self._news:
            self._ending = True
            self._news.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._news:
                while not self._waiting and not self._ending:
                    self._news.wait()
                if not self._waiting:
                    return
                jobs = self._take(time.monotonic())
            if jobs:
                began = time.perf_counter()
                self._compute(jobs)
                self._measure(jobs, time.perf_counter() - began)

    def _take(self, now: float) -> list[Job]:
        """The next batch, out of the queue; those that came too late are told so."""
        for job in [job for job in self._waiting if job.deadline < now]:
            self._waiting.remove(job)
            job.done(Late())
        if not self._waiting:
            return []
        oldest = self._waiting[0]
        room = max(LEAST, self._speed * self._bound / 2) - oldest.size
        taken = [oldest]
        others = (job for job in self._waiting[1:] if job.task == oldest.task)
        for job in sorted(others, key=lambda job: abs(job.size - oldest.size)):
            room -= job.size
            if room < 0:
                break
            taken.append(job)
        chosen = set(map(id, taken))
        self._waiting = [job for job in self._waiting if id(job) not in chosen]
        return taken

    def _compute(self, jobs: Sequence[Job]) -> None:
        engine = self._engines[jobs[0].task]
        examples = [example for job in jobs for example in job.examples]
        try:
            with self._tokenizer:
                made = engine.encode(examples)
                shortened = engine.shortened(examples, made)
            answered = engine.answers(examples, made, engine.logits(made))
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].done(error)
                return
            for job in jobs:  # the others shall not suffer from one that cannot be computed
                self._compute((job,))
            return
        at = 0
        for job in jobs:
            here = slice(at, at + len(job.examples))
            at = here.stop
            job.done(Answers(answered[here], shortened[here]))

    def _measure(self, jobs: Sequence[Job], seconds: float) -> None:
        size = sum(job.size for job in jobs)
        now = size / max(seconds, 1e-6)
        with self._news:
            self._speed = now if not self._speed else (1 - WEIGHT) * self._speed + WEIGHT * now
        if self._seen is not None:
            self._seen(jobs, size, seconds)
