"""What a study's models cost to serve, in words and tables. A sentence never says more than its interval."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from xstilts.analysis.equivalence import MARGIN
from xstilts.analysis.serving import NO_RESULT, WHAT, Compared, Dearer, Measured, Served, Verdict, dearer, doublings, front
from xstilts.report.facts import Report
from xstilts.report.view import name
from xstilts.report.words import listed, number

Table = list[list[str]]  # a head, and its lines
WORDS = {"latency": "latency", "time": "time a sentence"}
VERDICTS: dict[Verdict, str] = {
    "equal": f"equal within {MARGIN:.0%}", "slower": "slower", "faster": "faster", "open": "neither shown equal nor different",
    "restless": "not to be told: the baseline beside itself is not equal either",
}  # fmt: skip


def tables(found: Served | None) -> tuple[tuple[str, Table], ...]:
    """(caption, table) of the section, the most read first; empty where nothing was measured."""
    if found is None or not found.measured:
        return ()
    made = [("The same checkpoint: score, speed, memory and size (means over languages)", _whole(found))]
    made.append(("Score by language", _scores(found)))
    if found.compared:
        made.append(("Equally fast with and without the intermediate step?", _verdicts(found)))
    made.append(("What a language costs", _languages(found)))
    made.append(("Score against latency: the Pareto front", _front(found)))
    return tuple(made)


def _whole(found: Served) -> Table:
    head = ["model", "intermediate", "target", "engine", "score", "p50, ms", "p99, ms", "all at once, a second"]
    on_gpu = any(m.gpu_megabytes is not None for m in found.measured)
    head += [f"at random, p99 <= {1000 * found.settings['bound']:g} ms, a second", "memory, MB", *(["on the GPU, MB"] if on_gpu else [])]
    head += ["on disk, MB", "cold start, s"]
    return [
        head,
        *(
            [
                *_place(m), number(m.score), number(m.latency, 2), number(m.p99, 2), number(m.rate),
                _or_none(m.served), number(m.megabytes, 0),
                *([_or_none(m.gpu_megabytes, 0)] if on_gpu else []), number(m.bytes / 1e6), number(m.cold),
            ]
            for m in found.measured
        ),
    ]  # fmt: skip


def _or_none(value: float | None, places: int = 1) -> str:
    return "none" if value is None else number(value, places)


def _scores(found: Served) -> Table:
    codes = list(dict.fromkeys(cell.language for m in found.measured for cell in m.cells))
    rows = []
    for m in found.measured:
        own = {cell.language: cell.score for cell in m.cells}
        rows.append([*_place(m), *(number(own[code]) if code in own else "" for code in codes)])
    return [["model", "intermediate", "target", "engine", *codes], *rows]


def _verdicts(found: Served) -> Table:
    rows = [
        [
            *(c.model, c.intermediate, c.target, c.engine, WORDS[c.what], _ratio(c.test.ratio, c.test.low, c.test.high)),
            *(_ratio(c.floor.ratio, c.floor.low, c.floor.high), VERDICTS[c.verdict]),
        ]
        for c in found.compared
    ]
    head = ["model", "intermediate", "target", "engine", "of", "over the baseline [90 %]", "baseline over itself [90 %]", "verdict"]
    return [head, *rows]


def _languages(found: Served) -> Table:
    return [
        ["model", "target", "engine", "language", "tokens", "latency", "time a sentence"],
        *(
            [*(d.model, d.target, d.engine, name(d.language), _times(d.tokens)), *(_spread(each) for each in (d.latency, d.time))]
            for d in dearer(found)
        ),
    ]


def _front(found: Served) -> Table:
    best = front(found.measured)
    order = sorted(found.measured, key=lambda m: (m.target, m.latency))
    rows = [[*_place(m), number(m.latency, 2), number(m.score), "yes" if m in best else "no"] for m in order]
    return [["model", "intermediate", "target", "engine", "p50, ms", "score", "on the front"], *rows]


def _place(m: Measured) -> tuple[str, str, str, str]:
    return m.model, m.intermediate, m.target, m.engine


def _ratio(ratio: float, low: float, high: float) -> str:
    return f"{ratio:.3f} [{low:.3f} to {high:.3f}]"


def _times(value: float) -> str:
    return f"{value:.2f}"


def _spread(value: tuple[float, float, float]) -> str:
    return "{:.2f} [{:.2f} to {:.2f}]".format(*value)


# ---- words ----


def words(found: Served | None) -> tuple[str, ...]:
    """The answer in a few paragraphs, made from the numbers: the intermediate step, languages, engines, and what it cannot say."""
    if found is None or not found.measured:
        return ()
    return tuple(text for text in (_of_steps(found), _of_languages(found), _of_engines(found), _unsaid(found)) if text)


def _of_steps(found: Served) -> str:
    rows = found.compared
    if not rows:
        return "No model with an intermediate step was compared with its baseline: nothing is said of its cost."
    counts = {verdict: [row for row in rows if row.verdict == verdict] for verdict in VERDICTS}
    floors = {(row.model, row.target, row.engine, row.what): row.floor for row in rows}.values()
    equal = counts["equal"]
    engines = listed(list(dict.fromkeys(row.engine for row in rows)))
    text = f"With and without an intermediate step, same model and engine ({engines}): "
    text += f"of {len(rows)} comparisons {len(equal)} are {VERDICTS['equal']}"
    if equal:
        text += f" (ratios {_within(equal)})"
    for verdict in ("slower", "faster"):
        if own := counts[verdict]:
            named = [f"{r.model} after {r.intermediate} on {r.target}, {r.engine}, {WORDS[r.what]} {r.test.ratio:.3f}" for r in own[:4]]
            text += f"; {len(own)} {verdict}: {listed(named)}{' and others' if len(own) > 4 else ''}"
    if own := counts["open"]:
        text += f"; {len(own)} neither shown equal nor different"
    if own := counts["restless"]:
        text += f"; {len(own)} not to be told, as the baseline beside itself is not equal either"
    low, high = min(f.low for f in floors), max(f.high for f in floors)
    text += f". The baseline beside itself: 90 % intervals from {low:.3f} to {high:.3f}. "
    if len(equal) == len(rows):
        return text + "The intermediate step costs nothing at serving: every interval lies within the margin that was fixed before."
    if counts["slower"] or counts["faster"]:
        return text + "A step changes weights and no shape, so that a difference asks for a reason (a restless machine, other files)."
    return text + "Where no equality is shown none is claimed."


def _within(rows: Sequence[Compared]) -> str:
    return f"with 90 % intervals from {min(r.test.low for r in rows):.3f} to {max(r.test.high for r in rows):.3f}"


def _of_languages(found: Served) -> str:
    rows = dearer(found)
    if len({row.language for row in rows}) < 2:
        return ""
    parts = []
    for (model, target, engine), own in _grouped(rows).items():
        if engine != rows[0].engine:
            continue
        top = max(own, key=lambda row: row.time[0])
        if top.language == top.first:
            parts.append(f"{model} on {target}: no language takes longer than {name(top.first)}")
            continue
        parts.append(
            f"{model} on {target}: {name(top.language)} takes {_times(top.tokens)} times the tokens of {name(top.first)}, "
            f"{_spread(top.latency)} times the latency and {_spread(top.time)} times the time"
        )
    text = f"By language, the dearest in {rows[0].engine} (range over the choices in brackets): {'; '.join(parts)}."
    slopes = [row for row in doublings(found) if row.engine == rows[0].engine]
    for what in WHAT:
        if own_slopes := [row for row in slopes if row.what == what]:
            each = [f"{row.factor:.2f} on {row.target} in {row.model} (95 % {row.low:.2f} to {row.high:.2f})" for row in own_slopes]
            text += f" Twice the tokens: {WORDS[what]} times {listed(each)}, over {own_slopes[0].languages} languages."
    return text


def _grouped(rows: Iterable[Dearer]) -> dict[tuple[str, str, str], list[Dearer]]:
    groups: dict[tuple[str, str, str], list[Dearer]] = {}
    for row in rows:
        groups.setdefault((row.model, row.target, row.engine), []).append(row)
    return groups


def _of_engines(found: Served) -> str:
    """The front, named; and what every engine changes in score and latency beside the first, on the same checkpoints and rows."""
    best = front(found.measured)
    each = [f"{m.model} after {m.intermediate}, {m.engine}, {number(m.score)} at {m.latency:.2f} ms ({m.target})" for m in best[:6]]
    text = f"On the Pareto front of score and latency: {'; '.join(each)}{' and others' if len(best) > 6 else ''}."
    first = found.measured[0].engine
    by_place = {(m.model, m.intermediate, m.target, m.engine): m for m in found.measured}
    for engine in dict.fromkeys(m.engine for m in found.measured if m.engine != first):
        sides = [(m, by_place.get((m.model, m.intermediate, m.target, first))) for m in found.measured if m.engine == engine]
        pairs = [(m, other) for m, other in sides if other is not None]
        if pairs:
            losses = [a.score - b.score for a, b in pairs]
            speeds = [b.latency / a.latency for a, b in pairs]
            text += (
                f" {engine} beside {first}: {min(speeds):.2f} to {max(speeds):.2f} times as fast, score "
                f"{number(min(losses), 2)} to {number(max(losses), 2)} points."
            )
    return text


def _unsaid(found: Served) -> str:
    s = found.settings
    busy = f" The load was {found.load:.1f} on {found.cores} cores before a part of it began: the machine was not idle."
    load = busy if found.load > 0.5 else ""
    refused = f" Not measured: {'; '.join(found.refused)}." if found.refused else ""
    return (
        f"What this cannot say: anything of another machine than {found.machine} ({s['device']}, {s['threads']} thread"
        f"{'' if s['threads'] == 1 else 's'}), of other texts than these test rows ({s['rows']} a language at most), or of "
        "other models. It is one checkpoint a choice (the first seed): the interval of its "
        "score, over seeds, is in the section on target scores. "
        f"{s['seconds']:g} s a cell, {NO_RESULT}.{load}{refused}"
    )


# ---- the file ----

COLUMNS = (
    *("study", "model", "intermediate", "target", "seed", "engine", "language", "metric", "score", "tokens", "tokenise_us"),
    *("p50_ms", "p90_ms", "p99_ms", "offline_rate", "server_rate", "peak_mb", "gpu_peak_mb", "bytes", "cold_s"),
)


def write_csv(report: Report, path: Path) -> None:
    """One row a checkpoint, engine and language; what is measured of the whole process stands in each. Raises OSError."""
    found = report.served
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for m in found.measured if found is not None else ():
            served, on_gpu = ("" if each is None else repr(each) for each in (m.served, m.gpu_megabytes))
            whole = (served, repr(m.megabytes), on_gpu, m.bytes, repr(m.cold))
            for cell in m.cells:
                own = (cell.score, cell.tokens, cell.microseconds, cell.p50, cell.p90, cell.p99, cell.rate)
                place = (report.facts.study, m.model, m.intermediate, m.target, m.seed, m.engine, cell.language, m.metric)
                writer.writerow([*place, *map(repr, own), *whole])
