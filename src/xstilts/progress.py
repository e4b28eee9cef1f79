"""What a run says while it goes on: bars on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from xstilts.run import Began, Ended, Event, Failed, Note, Stepped
from xstilts.stages import Choose, Merge, Predict, Pretrain, Pretrained, Progress, Stage, Start, Train, Translate, starts
from xstilts.translations import named

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_EVERY = 1.0  # seconds between two lines on finished stages
STEP_EVERY = 60.0  # seconds between two lines on one long training


def label(stage: Stage, names: Mapping[str, str]) -> str:
    """A stage in a few words: `mini-m > nli > xnli, seed 1`; `names` gives the model names by the key of their start."""
    match stage:
        case Pretrain():
            return f"pretraining {names.get(stage.key, stage.key[:12])}"
        case Translate():
            return f"translating {stage.rows.task} {stage.rows.split} into {stage.language} by {named(stage.by)}"
        case Train():
            return f"{_way(stage, names)}, seed {stage.seed}"
        case Merge():
            return f"{_way(stage, names)}{_seed(stage)}"
        case Choose():
            return f"choosing among {len(stage.among)} of {_way(stage, names)}{_seed(stage)}"
        case Predict():
            return f"{_way(stage.model, names)}: {stage.rows.task} in {stage.rows.language}{_seed(stage.model)}"


def _seed(stage: Start | Predict) -> str:
    """The seed of the last training, where one alone is behind the stage."""
    if isinstance(stage, Train):
        return f", seed {stage.seed}"
    found = {_seed(start) for start in starts(stage)} - {""}
    return found.pop() if len(found) == 1 else ""


def _way(start: Start, names: Mapping[str, str]) -> str:
    match start:
        case Train():
            mix = dict.fromkeys(share.rows.task for share in start.mix)
            codes = dict.fromkeys(share.rows.language for share in start.mix)
            made = {share.rows.language for share in start.mix if share.rows.translation is not None}
            spoken = "" if set(codes) <= {"en"} else f" ({' '.join(f'{code}, translated' if code in made else code for code in codes)})"
            return f"{_way(start.start, names)} > {'+'.join(mix)}{spoken}"
        case Merge():
            inner = dict.fromkeys(_way(part, names).removeprefix(_way(start.base, names)).removeprefix(" > ") for part in start.parts)
            return f"{_way(start.base, names)} > {start.method}({', '.join(inner)})"
        case Choose():
            return _way(start.among[0], names)
        case Pretrained() | Pretrain():
            return names.get(start.key, start.key[:12])


def span(seconds: float) -> str:
    """A length of time to read: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass
class Tally:
    """How far a run is, and how long the rest may take."""

    todo: Mapping[str, Stage]
    jobs: int
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    left: set[str] = field(default_factory=set)
    running: dict[str, tuple[int, Stage, Stepped | None]] = field(default_factory=dict)
    took: dict[str, list[float]] = field(default_factory=dict)  # kind of stage -> seconds

    def __post_init__(self) -> None:
        self.left = set(self.todo)

    def take(self, event: Event) -> None:
        """Bring the account up to date."""
        match event:
            case Began(stage, worker):
                self.running[stage.key] = (worker, stage, None)
            case Stepped(stage, worker, _):
                self.running[stage.key] = (worker, stage, event)
            case Ended(stage, _, seconds):
                self.done += 1
                self.left.discard(stage.key)
                self.running.pop(stage.key, None)
                if seconds is not None:
                    self.took.setdefault(_sort(stage), []).append(seconds)
            case Failed(stage, _):
                self.left.discard(stage.key)
                self.running.pop(stage.key, None)
            case Note():
                # a killed worker's stage begins again
                self.running = {key: value for key, value in self.running.items() if key in self.left}

    def remaining(self) -> float | None:
        """Seconds that are left, by the mean of the stages of each kind so far; None while one kind is unknown."""
        total = 0.0
        for key in self.left:
            stage = self.todo[key]
            _, _, step = self.running.get(key, (0, stage, None))
            if step is not None and step.progress.step:
                progress = step.progress
                total += progress.seconds * (progress.steps - progress.step) / progress.step
            elif seconds := self.took.get(_sort(stage)):
                total += sum(seconds) / len(seconds)
            else:
                return None
        return total / self.jobs


def _sort(stage: Stage) -> str:
    """Stages that take about the same time: trainings of the same rows, answers to the same task."""
    match stage:
        case Train():
            return "train " + "+".join(f"{share.rows.task}/{share.rows.cap}" for share in stage.mix)
        case Predict():
            return f"predict {stage.rows.task}"
        case Pretrain() | Merge() | Choose() | Translate():
            return type(stage).__name__


@contextmanager
def shown(todo: Mapping[str, Stage], names: Mapping[str, str], jobs: int, out: TextIO) -> Iterator[Callable[[Event], None]]:
    """A function that takes a run's events and shows them on `out`: live when it is a terminal, else in lines."""
    tally = Tally(todo, jobs)
    if out.isatty() and sys.stdout.isatty():
        with _live(tally, names, out) as take:
            yield take
    else:
        yield _lines(tally, names, out)


def _lines(tally: Tally, names: Mapping[str, str], out: TextIO) -> Callable[[Event], None]:
    last = 0.0
    stepped: dict[str, float] = {}
    said: set[str] = set()

    def say(text: str) -> None:
        print(text, file=out, flush=True)

    def take(event: Event) -> None:
        nonlocal last
        tally.take(event)
        now = time.monotonic()
        head = f"[{tally.done}/{len(tally.todo)}]"
        match event:
            case Note(text):
                say(text)
            case Failed(stage, message):
                # Stages that share a cause share a message: once is enough.
                say(f"failed: {label(stage, names)}" + ("" if message in said else f": {message}"))
                said.add(message)
            case Ended(stage, _, seconds) if now - last >= LINE_EVERY and not isinstance(stage, Predict):
                last = now
                left = tally.remaining()
                took = "by another run" if seconds is None else span(seconds)
                say(f"{head} {label(stage, names)} ({took}){f'; about {span(left)} left' if left else ''}")
            case Stepped(stage, _, progress) if now - stepped.setdefault(stage.key, now) >= STEP_EVERY:
                stepped[stage.key] = now
                say(f"{head} {label(stage, names)}: {_figures(stage, progress)}")

    return take


@contextmanager
def _live(tally: Tally, names: Mapping[str, str], out: TextIO) -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=out)
    said: set[str] = set()

    class View:
        """Drawn anew several times a second."""

        def __rich__(self) -> RenderableType:
            return _table(tally, names)

    with Live(View(), console=console, refresh_per_second=4, transient=True) as live:

        def take(event: Event) -> None:
            tally.take(event)
            match event:
                case Note(text):
                    live.console.print(text, markup=False, highlight=False)
                case Failed(stage, message):
                    rest = "" if message in said else f": {message}"
                    said.add(message)
                    live.console.print(f"failed: {label(stage, names)}{rest}", markup=False, highlight=False)
                case _:
                    return

        yield take


def _figures(stage: Stage, progress: Progress) -> str:
    if isinstance(stage, Translate):
        return f"{progress.step:,} of {progress.steps:,} sentences"
    return f"step {progress.step} of {progress.steps}, loss {progress.loss:.3f}"


def _table(tally: Tally, names: Mapping[str, str]) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    left = tally.remaining()
    rest = f"about {span(left)} left" if left else ""
    spent = span(time.monotonic() - tally.began)
    bar = ProgressBar(total=max(1, len(tally.todo)), completed=tally.done, width=24)
    grid.add_row(Text(f"{tally.done} of {len(tally.todo)} stages"), bar, Text(spent), Text(rest))
    for worker, stage, step in sorted(tally.running.values(), key=lambda item: item[0]):
        if step is None:
            grid.add_row(Text(f"  worker {worker}"), Text(""), Text(""), Text(label(stage, names)))
            continue
        progress = step.progress
        rate = progress.step / progress.seconds if progress.seconds else 0.0
        figures = f"{rate:.1f} {'sentences/s' if isinstance(stage, Translate) else f'steps/s  loss {progress.loss:.3f}'}"
        bar = ProgressBar(total=max(1, progress.steps), completed=progress.step, width=24)
        grid.add_row(Text(f"  worker {worker}"), bar, Text(figures), Text(label(stage, names)))
    return grid
