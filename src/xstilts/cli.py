"""The commands: parse, call, print. An error that the user can mend is one line on standard error and exit code 2.

Nothing here imports torch, transformers or pyarrow before a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xstilts.errors import StoreError, StudyError, TrainingError, XstiltsError, nearest

if TYPE_CHECKING:
    from xstilts.analysis.claims import Claims
    from xstilts.examples import Example
    from xstilts.machine import Device
    from xstilts.needs import Line
    from xstilts.plan import Plan
    from xstilts.report import Report
    from xstilts.report.drawings import Format
    from xstilts.run import Outcome
    from xstilts.stages import Choose, Layout, Stage
    from xstilts.store import Store
    from xstilts.study import Study
    from xstilts.task import Task

DEVICES = ("auto", "cpu", "cuda")
ANYWHERE = "--store, --data, --jobs, --device and --offline (see xstilts --help) may stand before or after the command."

app = typer.Typer(
    name="xstilts",
    help="Intermediate-task training for zero-shot cross-lingual transfer: run it, measure it, explain it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, slots=True)
class Place:
    """The global options."""

    store: Path
    data: Path
    jobs: int | None
    device: str
    offline: bool

    def open(self) -> Store:
        """The store. Raises StoreError."""
        from xstilts.store import Store

        return Store.open(self.store)


Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A study file (TOML) or the name of a ready-made study.")]
Processes = Annotated[int, typer.Option(min=1, help="Processes of one training on this host (GPUs, or groups of cores).")]
Parallel = Annotated[str, typer.Option(help="ddp: the whole model in each process; fsdp: a part of it.")]
Checkpointing = Annotated[bool, typer.Option("--checkpointing", help="Compute activations again in place of keeping them.")]
MicroTokens = Annotated[int | None, typer.Option(min=1, help="Tokens a micro-batch (default: 4096 on a CPU, 16384 on a GPU).")]
Out = Annotated[Path | None, typer.Option(help="Folder of the report (default: ./reports/STUDY).")]


@app.callback()
def options(
    ctx: typer.Context,
    store: Annotated[Path | None, typer.Option(help="The store (default: $XSTILTS_STORE, else ./xstilts-store).")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data folder (default: $XSTILTS_DATA, else ~/.cache/xstilts/data).")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Stages at a time (default: cores / threads of a stage; on a GPU as many as fit, 10 at most).")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the model hub.")] = False,
) -> None:
    """Options that every command takes."""
    if device not in DEVICES:
        raise StudyError(f'--device: expected one of {", ".join(DEVICES)}, got "{device}"{nearest(device, DEVICES)}')
    ctx.obj = Place(
        store or Path(os.environ.get("XSTILTS_STORE") or "xstilts-store"),
        (data or Path(os.environ.get("XSTILTS_DATA") or "~/.cache/xstilts/data")).expanduser(),
        jobs,
        _device(device),
        offline,
    )


def _device(asked: str) -> str:
    """ "auto" resolved without loading torch: cuda where the driver is there and torch was built for it."""
    if asked != "auto":
        return asked
    try:
        built = not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        built = False
    return "cuda" if built and Path("/proc/driver/nvidia/version").exists() else "cpu"


# ---- run, plan, report, status ----


@app.command("run", epilog=ANYWHERE)
def run_command(
    ctx: typer.Context,
    study: StudyName,
    out: Out = None,
    json_: Json = False,
    processes: Processes = 1,
    parallel: Parallel = "ddp",
    nodes: Annotated[int, typer.Option(min=1, help="Hosts that train together, on a store that they share.")] = 1,
    node_rank: Annotated[int, typer.Option(min=0, help="This host's number; host 0 runs the study, the others help.")] = 0,
    rendezvous: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the hosts meet: host 0 and a free port.")] = "",
    checkpointing: Checkpointing = False,
    micro_tokens: MicroTokens = None,
    too_big: Annotated[bool, typer.Option("--even-if-too-big", help="Begin though memory seems too small for a stage.")] = False,
) -> None:
    """Run what a study still lacks, and write its report. Processes, checkpointing and micro-batches move rounding only."""
    from xstilts.needs import jobs_that_fit, refuse_too_big
    from xstilts.progress import label, shown
    from xstilts.run import apply_keep, default_jobs, follow, needed, run

    place: Place = ctx.obj
    layout = _layout(processes, parallel, nodes, node_rank, rendezvous, checkpointing, micro_tokens)
    store, plan = _planned(place, study)
    todo = needed(plan.stages, store)
    store.remember(todo.values())
    _check_writable(_folder(plan, out))  # now, not after hours
    names = _names(plan)
    if node_rank > 0:
        helped = follow(plan.stages, store, layout)
        print(f"{'interrupted' if helped.interrupted else 'done'}: host {node_rank} took part in {helped.run} trainings", file=sys.stderr)
        raise typer.Exit(130 if helped.interrupted else 0)
    jobs = default_jobs(plan.study.threads, place.device, layout)
    jobs = place.jobs if place.jobs and nodes == 1 else jobs_that_fit(plan, todo, store, jobs, place.device, layout)
    if not too_big:
        refuse_too_big(plan, todo, store, place.data, jobs, place.device, layout)
    began = time.monotonic()
    with shown(todo, names, jobs, sys.stderr if json_ else sys.stdout) as on_event:
        outcome = run(plan.stages, plan.where, store, place.data, jobs, place.offline, on_event, layout=layout)
    again = " ".join(["xstilts", *sys.argv[1:]])
    if outcome.interrupted:
        print(f"interrupted: {outcome.run} stages done; go on with: {again}", file=sys.stderr)
        raise typer.Exit(130)
    if outcome.failed:
        raise TrainingError(_failure(outcome, plan, names))
    apply_keep(plan.stages, store, plan.study.keep)
    page, table = _report(plan, store, out, place, study)
    done = f"done: {outcome.run} stages run, {outcome.reused} reused; report: {page}"
    if json_:
        _print_json(
            {
                "study": plan.study.name,
                "run": outcome.run,
                "reused": outcome.reused,
                "report": str(page),
                "scores": str(page.parent / "scores.csv"),
                "seconds": round(time.monotonic() - began, 3),
                "ran": [{"key": key, "label": label(stage, names)} for key, stage in todo.items()],
            }
        )
        print(done, file=sys.stderr)
    else:
        print(table.rstrip("\n"))
        print(done)


def _layout(
    processes: int, parallel: str, nodes: int, node_rank: int, rendezvous: str, checkpointing: bool, micro_tokens: int | None
) -> Layout:
    from xstilts.stages import Layout

    if parallel not in ("ddp", "fsdp"):
        raise StudyError(f'--parallel: expected ddp or fsdp, got "{parallel}"{nearest(parallel, ("ddp", "fsdp"))}')
    if node_rank >= nodes:
        raise StudyError(f"--node-rank {node_rank}: with --nodes {nodes} the last host is number {nodes - 1}")
    host, _, port = rendezvous.rpartition(":")
    if nodes > 1 and not (host and port.isdigit() and 0 < int(port) < 65536):
        raise StudyError(f'--rendezvous: several hosts need HOST:PORT (host 0 and a free port there), got "{rendezvous}"')
    return Layout(processes, "ddp" if parallel == "ddp" else "fsdp", nodes, node_rank, rendezvous, checkpointing, micro_tokens)


def _failure(outcome: Outcome, plan: Plan, names: Mapping[str, str]) -> str:
    from xstilts.progress import label

    key, message = next(iter(outcome.failed.items()))
    stage = next(stage for stage in plan.stages if stage.key == key)
    lost = f", {len(outcome.skipped)} that stand on them were not run" if outcome.skipped else ""
    first = "failed" if len(outcome.failed) == 1 else f"failed{lost}, the first"
    lost = lost if len(outcome.failed) == 1 else ""
    return (
        f"{len(outcome.failed)} of {len(plan.stages)} stages {first}{lost}: {label(stage, names)}: {message} "
        f"({outcome.run} stages were run and stay in the store; mend this and run again)"
    )


@app.command(epilog=ANYWHERE)
def plan(
    ctx: typer.Context,
    study: StudyName,
    json_: Json = False,
    quick: Annotated[bool, typer.Option("--quick", help="No estimate of time and memory.")] = False,
    on: Annotated[str, typer.Option(metavar="NAME", help="What it would take on this device: h100, a100, rtx4090, ...")] = "",
    processes: Processes = 1,
    parallel: Parallel = "ddp",
    checkpointing: Checkpointing = False,
    micro_tokens: MicroTokens = None,
) -> None:
    """Show a study's stages (there or missing), where its rows come from, and what it will take.

    Processes, checkpointing and micro-batches are those of a run on the device that --on names, one process on each.
    """
    from xstilts.estimate import estimate, on_device
    from xstilts.needs import device_named, jobs_that_fit
    from xstilts.progress import label, span
    from xstilts.run import default_jobs, needed
    from xstilts.stages import ALONE

    named = device_named(on) if on else None
    layout = _layout(processes, parallel, 1, 0, "", checkpointing, micro_tokens)
    if named is None and layout != ALONE:
        raise StudyError("--processes, --parallel, --checkpointing, --micro-tokens: plan takes them beside --on alone; name a device")
    place: Place = replace(ctx.obj, device="cuda") if on else ctx.obj
    store, made = _planned(place, study, unseen=named is not None)
    todo = needed(made.stages, store)
    if named is None:
        store.remember(todo.values())
    jobs = place.jobs or jobs_that_fit(made, todo, store, default_jobs(made.study.threads, place.device), place.device)
    names = _names(made)
    guess = None if quick or named is not None else estimate(made, todo, store, place.data, jobs)
    needs: Sequence[Line] = guess.lines if guess is not None else ()
    took: Mapping[str, float] | None = guess.each if guess is not None else None
    if named is not None:
        needs, took = on_device(made, todo, store, place.data, named, layout)
    kinds = {stage.key: made.kind(stage) for stage in made.stages}
    trouble = [text for key in todo if (text := store.broken(key)) is not None]
    if json_:
        drafts = set(store.drafts())
        _print_json(
            {
                "study": made.study.name,
                "store": str(store.path),
                "stages": [
                    {
                        "key": stage.key,
                        "kind": kinds[stage.key],
                        "label": label(stage, names),
                        "state": "hit" if stage.key not in todo else "draft" if stage.key in drafts else "missing",
                    }
                    for stage in made.stages
                ],
                "missing": len(todo),
                "hit": len(made.stages) - len(todo),
                "cells": len(made.cells),
                "data": list(made.data_lines),
                "mixes": list(made.mix_lines),
                "jobs": jobs,
                "device": named.name if named is not None else place.device,
                "needs": [_need_json(line, took) for line in needs],
                "seconds": guess and guess.seconds,
                "megabytes": guess and guess.megabytes,
                "disk_peak": guess and guess.disk_peak,
                "disk_after": guess and guess.disk_after,
                "basis": guess and guess.basis,
                "keep": made.study.keep,
                "notes": trouble,
            }
        )
        return
    print(f"{made.study.name}: {len(made.stages)} stages for {len(made.cells)} scored cells; store: {store.path}")
    for kind in ("pretrain", "translate", "intermediate", "merge", "target", "choose", "predict"):
        of_kind = [stage for stage in made.stages if kinds[stage.key] == kind]
        if of_kind:
            missing = [stage for stage in of_kind if stage.key in todo]
            print(f"  {kind:<12} {len(of_kind) - len(missing):>5} hit {len(missing):>5} missing")
            for stage in missing[:6] if kind != "predict" else ():
                print(f"{'':>15}{stage.key[:12]}  {label(stage, names)}")
            if kind != "predict" and len(missing) > 6:
                print(f"{'':>15}... and {len(missing) - 6} more (--json lists all)")
    for line in trouble:
        print(f"  {line}")
    print("rows:")
    for line in dict.fromkeys(made.data_lines):
        print(f"  {line}")
    if any(not read.rows.data for read in made.reads):
        print("  rows that are not here: as many as the split officially has (else as in other languages), as long as rows that are here")
    if made.mix_lines:
        print("an epoch of each mix:")
    for line in made.mix_lines:
        print(f"  {line}")
    for text in _need_lines(needs, took, named, layout):
        print(text)
    if named is not None and took:
        print(f"{span(sum(took.values()))} on {_devices(named, layout)} for the stages that are missing, one after the other")
    if guess is not None:
        if guess.seconds is None:
            print(f"estimate: none ({guess.basis})")
        elif todo:
            memory = "" if not guess.megabytes else f", about {guess.megabytes / 1024:.1f} GB of memory"
            print(f"estimate: {span(guess.seconds)} with {jobs} at a time on {place.device}{memory} ({guess.basis})")
        print(
            f"disk: at most {_bytes(guess.disk_peak)} while it runs, {_bytes(guess.disk_after)} after (keep = {made.study.keep})"
        )
    print(f"{len(todo)} stages to run, {len(made.stages) - len(todo)} reused")


def _devices(device: Device, layout: Layout) -> str:
    return device.name if layout.size == 1 else f"{layout.size} x {device.name}"


def _need_lines(needs: Sequence[Line], took: Mapping[str, float] | None, device: Device | None, layout: Layout) -> Iterator[str]:
    """A table of what one stage of each sort needs."""
    from xstilts import machine
    from xstilts.needs import gib
    from xstilts.progress import span

    if not needs:
        return
    if device is not None:
        basis = f"times: {machine.UTILISATION:.0%} of its peak rate; an estimate, nothing was measured"
        yield f"one stage on {_devices(device, layout)} ({basis}):"
    else:
        yield "one stage on this machine:"
    rows = [("", "parameters", "trained", "operations", "memory", "time", "")]
    for line in needs:
        name, need = f"{line.kind} {line.model}: {line.what}", line.need
        if need is None:
            rows.append((name, "unknown until it has been fetched or made", "", "", "", "", ""))
            continue
        slowest = max((took[key] for key in line.stages if key in took), default=None) if took is not None else None
        time_ = "" if slowest is None else span(slowest)
        mark = "DOES NOT FIT" if line.fits is False else ""
        cells = (_count(need.parameters), _count(need.trained) if need.trained else "", f"{need.operations:.2g}", gib(need.memory.peak))
        rows.append((name, *cells, time_, mark))
    widths = [max(len(row[column]) for row in rows if len(row[1]) < 15) for column in range(7)]
    for row in rows:
        padded = "  ".join(text.rjust(width) for text, width in zip(row[1:6], widths[1:6], strict=True))
        yield f"  {row[0].ljust(max(len(each[0]) for each in rows))}  {padded}  {row[6]}".rstrip()


def _need_json(line: Line, took: Mapping[str, float] | None) -> dict[str, Any]:
    slowest = max((took[key] for key in line.stages if key in took), default=None) if took is not None else None
    facts: dict[str, Any] = {"kind": line.kind, "model": line.model, "what": line.what, "stages": len(line.stages)}
    if line.need is not None:
        need, memory = line.need, line.need.memory
        facts |= {"parameters": need.parameters, "trained": need.trained, "tokens": need.tokens, "operations": need.operations}
        facts |= {"memory": memory.peak, "host_memory": need.host, "parts": asdict(memory)}
    return {**facts, "seconds": slowest, "fits": line.fits}


def _count(number: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f}"


@app.command(epilog=ANYWHERE)
def report(
    ctx: typer.Context,
    study: StudyName,
    out: Out = None,
    charts: Annotated[str | None, typer.Option(metavar="FORMAT", help="Also write every chart as a file: svg, png or pdf.")] = None,
    watts: Annotated[
        float | None, typer.Option(min=0.0, help="Power that a worker is assumed to draw; the report then estimates energy.")
    ] = None,
    json_: Json = False,
) -> None:
    """Write a study's report from what the store holds; what is missing is named."""
    from xstilts.report.drawings import FORMATS

    form = next((form for form in FORMATS if form == charts), None)
    if charts is not None and form is None:
        raise StudyError(f'--charts: expected one of {", ".join(FORMATS)}, got "{charts}"{nearest(charts, FORMATS)}')
    place: Place = ctx.obj
    store, made = _planned(place, study)
    page, table = _report(made, store, out, place, study, anew=True, charts=form, watts=watts)
    if json_:
        folder = page.parent
        _print_json(
            {
                "study": made.study.name,
                "report": str(page),
                "scores": str(folder / "scores.csv"),
                "transfer": str(folder / "transfer.csv"),
            }
        )
    else:
        print(table.rstrip("\n"))
        print(f"report: {page}")


@app.command("claims", epilog=ANYWHERE)
def claims_command(
    ctx: typer.Context,
    study: StudyName,
    file: Annotated[Path | None, typer.Option("--claims", metavar="FILE", help="Test the claims of this TOML file instead.")] = None,
    json_: Json = False,
) -> None:
    """Test the ten claims of X-STILTs, or others, on what the store holds of a study."""
    from xstilts.analysis.claims import as_json, own_claims, read_claims
    from xstilts.report import claims_table

    claims = read_claims(file) if file is not None else own_claims()
    place: Place = ctx.obj
    store, made = _planned(place, study)
    found = _evaluated(made, store, place, study, claims)
    if json_:
        _print_json({"study": made.study.name, "claims": as_json(found.claims)})
    else:
        print(claims_table(found))


@app.command(epilog=ANYWHERE)
def review(ctx: typer.Context, study: StudyName, json_: Json = False) -> None:
    """Judge a study: statistics, data, coverage, fairness, reproducibility, scores; a score out of ten and what cost the points."""
    place: Place = ctx.obj
    store, made = _planned(place, study)
    found = _reviewed(_evaluated(made, store, place, study), made, store, place).review
    assert found is not None
    if json_:
        _print_json({"study": made.study.name, **found.as_json()})
        return
    print(f"{made.study.name}: {found.summary}")
    for check in found.checks:
        first, *more = check.finding.reasons
        cost = f"-{check.lost:.2f}" if check.lost else ""
        print(f"  {check.finding.verdict:<10} {cost:>5}  {check.group}: {check.name}: {first}")
        for reason in more:
            print(f"{'':>22}{reason}")


@app.command(epilog=ANYWHERE)
def compare(
    ctx: typer.Context,
    one: Annotated[str, typer.Argument(metavar="STUDY_A", help="A study file or a ready-made name.")],
    other: Annotated[str, typer.Argument(metavar="STUDY_B", help="Another one, in the same store.")],
    json_: Json = False,
) -> None:
    """Set two studies side by side: the cells that both have, B minus A with intervals, and what their designs do not share."""
    import numpy as np

    from xstilts.analysis.compare import compare as compared
    from xstilts.report import comparison
    from xstilts.tasks import task

    place: Place = ctx.obj
    store, first = _planned(place, one)
    _, second = _planned(place, other)
    found = compared(first, second, store.find, task, np.random.default_rng(0))
    if json_:
        _print_json({"A": first.study.name, "B": second.study.name, **asdict(found)})
    else:
        print(comparison(found, first.study.name, second.study.name))


@app.command(epilog=ANYWHERE)
def status(ctx: typer.Context, study: StudyName, json_: Json = False) -> None:
    """Show how far a study is: stages done, missing, begun, and in work at this moment."""
    from xstilts.progress import label
    from xstilts.run import needed

    place: Place = ctx.obj
    store, made = _planned(place, study)
    todo, names = needed(made.stages, store), _names(made)
    begun = [key for key in store.drafts() if key in todo]
    busy = [key for key in todo if store.busy(key)]
    done = len(made.stages) - len(todo)
    if json_:
        _print_json({"study": made.study.name, "done": done, "missing": len(todo), "drafts": begun, "running": busy})
        return
    print(f"{made.study.name}: {done} of {len(made.stages)} stages done, {len(todo)} missing, {len(busy)} in work now")
    for key in (*busy, *(key for key in begun if key not in busy)):
        print(f"  {'in work' if key in busy else 'begun  '}  {key[:12]}  {label(todo[key], names)}")


def _planned(place: Place, name: str, unseen: bool = False) -> tuple[Store, Plan]:
    from xstilts.estimate import counter
    from xstilts.plan import make_plan
    from xstilts.provide import provide
    from xstilts.study import read_study

    study = read_study(name)
    store = place.open()
    if not unseen:
        provide(study, place.data, place.offline)
    count = counter(store, place.data)
    return store, make_plan(study, place.data, store.file_hash, place.device, count=count, offline=place.offline, unseen=unseen)


def _names(made: Plan) -> dict[str, str]:
    return {start.key: name for name, start in made.models.items()}


# ---- the report ----


def _folder(made: Plan, out: Path | None) -> Path:
    return (out or Path("reports") / made.study.name).absolute()


def _check_writable(folder: Path) -> None:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise StoreError(f"{there}: not a folder, so that no report can be written to {folder}; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StoreError(f"{there}: cannot be written, so that no report can go to {folder}; choose another --out")


def _report(
    made: Plan,
    store: Store,
    out: Path | None,
    place: Place,
    asked: str,
    anew: bool = False,
    charts: Format | None = None,
    watts: float | None = None,
) -> tuple[Path, str]:
    """The path of the page and the main table. A report that the same code made of the same scores is left as it is."""
    from xstilts.analysis import serving
    from xstilts.canon import canonical, key_of
    from xstilts.imports import stored
    from xstilts.provenance import code_hash
    from xstilts.store import disk_error, write_json

    others, timed = stored(store, made.study.name), serving.stored(store, made.study.name)
    folder = _folder(made, out)
    stamp = folder / "report.json"
    told = [*(cell.predict for cell in made.cells), *(predict for each in made.remembered for predict in (each.before, each.after))]
    there = sorted(predict.key for predict in told if store.find(predict.key) is not None)
    key = key_of([canonical(made.study), list(made.data_lines), there, [asdict(each) for each in others], timed, code_hash()])
    if not anew and (table := _still_good(stamp, key)) is not None:
        return folder / "index.html", table
    from xstilts.analysis.claims import own_claims
    from xstilts.report import table as main_table
    from xstilts.report import write_report

    try:
        folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        made_report = _reviewed(_evaluated(made, store, place, asked, own_claims()), made, store, place)
        keys = {stage.key for stage in made.stages}
        served = serving.served(timed, keys) if timed is not None else None
        made_report = replace(made_report, facts=replace(made_report.facts, watts=watts), served=served)
        page = write_report(made_report, folder, charts)
        text = main_table(made_report)
        write_json(stamp, {"key": key, "table": text, "files": _sizes(folder)})
    except OSError as error:
        raise disk_error(error, folder) from error
    return page, text


def _evaluated(made: Plan, store: Store, place: Place, asked: str, claims: Claims | None = None) -> Report:
    """The study's scores, imports beside them, and what they say; of claims, where they are given."""
    from xstilts.imports import beside, stored
    from xstilts.report import evaluate

    more = beside(made, stored(store, made.study.name))
    facts = _facts(made, store, place, asked)
    parameters, series = {**facts.parameters, **more.parameters}, {**facts.series, **more.series}
    facts = replace(facts, notes=(*facts.notes, *more.notes), parameters=parameters, series=series)
    return evaluate(
        facts, (*made.cells, *more.cells), store.find, given=more.results, claims=claims, remembered=made.remembered
    )  # fmt: skip


def _manifests(made: Plan, store: Store) -> dict[str, Mapping[str, Any]]:
    return {stage.key: found for stage in made.stages if (found := store.manifest(stage.key)) is not None}


def _reviewed(found: Report, made: Plan, store: Store, place: Place) -> Report:
    """The same with its review, and with what it has cost."""
    from xstilts.analysis.cost import costs
    from xstilts.analysis.review import of_plan
    from xstilts.needs import shapes

    manifests = _manifests(made, store)
    review = of_plan(made, manifests, found.transfer, place.data, store.cache / "review" / f"{made.study.name}.json")
    return replace(found, review=review, spent=costs(made.cells, manifests, shapes(made, store), found.transfer.gains))


def _sizes(folder: Path) -> dict[str, list[int]]:
    from xstilts.report import FILES

    return {name: [stat.st_size, stat.st_mtime_ns] for name in FILES if (stat := (folder / name).stat())}


def _still_good(stamp: Path, key: str) -> str | None:
    try:
        found = json.loads(stamp.read_text("utf-8"))
        good = found["key"] == key and found["files"] == _sizes(stamp.parent)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found["table"]) if good else None


def _facts(made: Plan, store: Store, place: Place, asked: str) -> Any:
    """What the report says beside the scores; `asked` is the study as the user named it."""
    from xstilts import machine
    from xstilts.analysis.texts import text_facts
    from xstilts.card import seen_before
    from xstilts.provenance import commit, versions
    from xstilts.report import Cost, Facts
    from xstilts.stages import Choose, Train, Translate
    from xstilts.translations import said

    study = made.study
    seconds: dict[str, list[float]] = {}
    manifests = _manifests(made, store)
    choices = [(stage, manifests[stage.key]["facts"]) for stage in made.stages if isinstance(stage, Choose) and stage.key in manifests]
    passed = {train.key for stage, facts in choices for train in stage.among if train.key != facts["chosen"]}
    for stage in made.stages:
        if stage.key in manifests:
            kind = "search (trainings not chosen)" if stage.key in passed else made.kind(stage)
            seconds.setdefault(kind, []).append(float(manifests[stage.key]["seconds"]))
    # of a model that was made here, its size is known once it is there
    there = {name: manifests[start.key]["facts"].get("parameters") for name, start in made.models.items() if start.key in manifests}
    counted = {name: int(many) for name, many in there.items() if many}
    where = {
        "machine": machine.kind(),
        "device": place.device,
        "cores": str(machine.cores()),
        "commit": commit() or "installed package",
    }
    return Facts(
        study=study.name,
        question=study.question,
        command=f"xstilts run {asked}",
        asked=study.answers,
        notes=(study.notes,) if study.notes else (),
        model_notes=_model_notes(made),
        parameters={**made.parameters, **counted},
        series=made.series,
        written=_written(made, manifests),
        translated=tuple(
            dict.fromkeys(f"{t.rows.task} into {t.language}, {said(t.by)}" for t in made.stages if isinstance(t, Translate))
        ),
        trained_in=tuple(sorted({share.rows.language for stage in made.stages if isinstance(stage, Train) for share in stage.mix})),
        rows=made.reads,
        data={
            "An epoch of each mix": made.mix_lines,
            "Translations": tuple(_translated(made, manifests)),
            "Layers of retrieval": tuple(_layers(made, manifests)),
            "Searches": tuple(_chosen(made, choices)),
            "Unknown tokens (more than 1 % of a language's test text: its words are mostly not in the vocabulary's pieces)": tuple(
                _unknown(made, manifests)
            ),
        },
        caps=_caps(study),
        versions={**versions(), **where},
        costs=tuple(Cost(kind, len(each), sum(each)) for kind, each in seconds.items()),
        sources={name: encoder.hub or encoder.path or encoder.pretrain for name, encoder in study.encoders.items()},
        seen=seen_before(made, place.data),
        texts=text_facts(made, store, place.data),
    )


def _model_notes(made: Plan) -> dict[str, str]:
    """What a reader must know of a model: the study's own words, and what is true of its architecture."""
    found = {}
    for name in made.study.models:
        own = made.study.encoders[name].notes if name in made.study.encoders else ""
        of_kind = made.families[name].note if name in made.families else ""
        if own or of_kind:
            found[name] = f"{own} {of_kind}".strip()
    return found


def _unknown(made: Plan, manifests: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The languages of whose test text more than 1 % is unknown tokens, by model and target."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for cell in made.cells:
        rate = float(manifests.get(cell.predict.key, {}).get("facts", {}).get("unk_rate", 0.0))
        if rate > 0.01:
            found.setdefault((cell.model, cell.target), {})[cell.language] = rate
    for (model, target), rates in found.items():
        yield f"{model}, {target}: {', '.join(f'{code} {rate:.1%}' for code, rate in rates.items())}"


def _translated(made: Plan, manifests: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What became of the rows of each translation, and what it took."""
    from xstilts.progress import label, span
    from xstilts.stages import Translate
    from xstilts.translations import account

    for stage in made.stages:
        if isinstance(stage, Translate) and stage.key in manifests:
            facts = manifests[stage.key]["facts"]
            yield f"{label(stage, _names(made))}: {account(facts)} ({span(float(facts['seconds']))})"


def _layers(made: Plan, manifests: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The retrieval targets' layer, and the last one beside it: mean scores over languages and seeds."""
    from xstilts.plan import spoken

    found: dict[tuple[str, str, str], list[tuple[int, float, int, float]]] = {}
    seeds: dict[tuple[str, str, str], dict[int, dict[int, None]]] = {}  # by layer, the seeds whose model it is reported of
    basis: dict[str, str] = {}
    for cell in made.cells:
        facts = manifests[cell.predict.key]["facts"] if cell.predict.key in manifests else {}
        measured = sorted(int(name[6:]) for name in facts if name.startswith("layer_"))
        if measured:
            layer, last = int(facts["layer"]), measured[-1]
            each = (layer, float(facts[f"layer_{layer}"]), last, float(facts[f"layer_{last}"]))
            place = (cell.target, cell.model, cell.intermediate)
            found.setdefault(place, []).append(each)
            seeds.setdefault(place, {}).setdefault(layer, {})[cell.seed] = None
            if cell.predict.chosen_on:
                basis[cell.target] = f", chosen on {spoken(cell.predict.chosen_on)}"
    for (target, model, step), rows in found.items():
        own, other = (sum(row[i] for row in rows) / len(rows) for i in (1, 3))
        by_layer = seeds[target, model, step]
        names = [f"{layer} (seed {' '.join(map(str, of))})" if len(by_layer) > 1 else str(layer) for layer, of in sorted(by_layer.items())]
        at = f"{own:.1f} at layer {' and '.join(names)}, which is reported{basis.get(target, '')}"
        yield f"{target}, {model} after {step}: {at}; {other:.1f} at the last, {rows[0][2]}"


# what is said of written answers where it is above 0, as `engine.predict.outputs` counts it
_OUTPUTS = {"wrong_script": "in a wrong script", "not_in_input": "not in the input"}


def _written(made: Plan, manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """By model, the shares of its written answers that could not be right: mean over languages and seeds, then the languages."""
    found: dict[tuple[str, str, str], dict[str, dict[str, list[float]]]] = {}
    for cell in made.cells:
        facts = manifests[cell.predict.key]["facts"] if cell.predict.key in manifests else {}
        for name in _OUTPUTS.keys() & facts.keys():
            own = found.setdefault((cell.model, cell.target, cell.intermediate), {}).setdefault(name, {})
            own.setdefault(cell.language, []).append(float(facts[name]))
    lines: dict[str, list[str]] = {}
    for (model, target, step), shares in found.items():
        texts = []
        for name, words in _OUTPUTS.items():
            means = {code: sum(each) / len(each) for code, each in shares.get(name, {}).items()}
            if any(means.values()):
                each = ", ".join(f"{code} {share:.1%}" for code, share in sorted(means.items(), key=lambda item: -item[1]) if share)
                texts.append(f"{sum(means.values()) / len(means):.1%} {words} ({each})")
        if texts:
            lines.setdefault(model, []).append(f"{target} after {step}: {'; '.join(texts)}")
    return {model: tuple(each) for model, each in lines.items()}


def _chosen(made: Plan, choices: Iterable[tuple[Choose, Mapping[str, Any]]]) -> Iterator[str]:
    """What each search chose on the English dev part, and what it took."""
    from xstilts.progress import label, span

    for stage, facts in choices:
        took = span(float(facts["search_seconds"]))
        yield f"{label(stage, _names(made))}: lr {facts['lr']:g} (dev {facts['all_dev']}), {took} of training"


def _caps(study: Study) -> tuple[str, ...]:
    lines = []
    for name, cap in study.caps.items():
        each = [f"{part} at most {n:,}" for part in ("train", "dev", "test") if (n := getattr(cap, part)) is not None]
        lines.append(f"{'every task' if name == 'all' else name}: {', '.join(each)}")
    for name, splits in study.splits.items():
        each = [f"{part} is {split}" for part in ("train", "dev", "test") if (split := getattr(splits, part)) is not None]
        each += ["training rows that also stand in a scored part are kept"] if splits.shared == "keep" else []
        if each:
            lines.append(f"{name}: {', '.join(each)}")
    for name, own in study.hub.items():
        at = [f"{own.repository or 'the repository of its file'} at {own.revision or 'its commit'}", *([own.config] if own.config else [])]
        at += [f"{ours} is {theirs}" for names in (own.splits, own.columns) for ours, theirs in names.items()]
        lines.append(f"{name}: rows of the hub, {', '.join(at)}")
    return tuple(lines)


# ---- models, tasks, check ----


@app.command("models", epilog=ANYWHERE)
def models_command(
    matrix: Annotated[bool, typer.Option("--matrix", help="Show what each architecture can be trained on, and how.")] = False,
    json_: Json = False,
) -> None:
    """List the known models and what has been run of each, or with --matrix: architectures x task kinds x ways of tuning."""
    from xstilts.models import known

    if matrix:
        _print_matrix(json_)
        return
    found = known()
    if json_:
        _print_json([{**asdict(row), "shape": row.shape} for row in found])
        return
    head = ("model", "architecture", "kind", "parameters", "layers x hidden", "repository", "licence", "run with trained weights")
    lines = [
        (
            *(row.name, row.family, row.shape, f"{row.parameters:,.1f} M", f"{row.layers} x {row.hidden}", row.repository),
            *(row.licence or "see repository", row.ran or "no"),
        )
        for row in found
    ]
    _print_table(head, lines)
    print("Parameters are those that are trained: of an encoder-decoder its encoder, of an image-text model its text tower.")
    print(
        "On small random weights every architecture has run all task kinds with full tuning and classification in every way of tuning, "
        "where --matrix does not refuse it; the other kinds ran in the other ways on one architecture each."
    )
    for note in dict.fromkeys(row.note for row in found if row.note):
        print(note)


def _print_matrix(json_: bool) -> None:
    """Architectures x task kinds; in a cell a letter for each way of tuning that runs, and the numbers of the reasons for the others."""
    from xstilts.families import matrix

    if json_:
        _print_json(
            [
                {"architecture": name, "kind": kind, "tuning": tuning, "answer": f"refused: {reason}" if reason else "runs"}
                for name, kind, tuning, reason in matrix()
            ]
        )
        return
    reasons: dict[str, int] = {}
    table: dict[str, dict[str, str]] = {}
    for (name, kind), ways in groupby(matrix(), lambda cell: cell[:2]):
        runs, refused = "", dict[int, None]()
        for _, _, tuning, reason in ways:
            if reason:
                refused[reasons.setdefault(reason, len(reasons) + 1)] = None
            runs += "-" if reason else tuning[0].upper() if tuning == "full" or kind == "classify" else tuning[0]
        table.setdefault(name, {})[kind] = " ".join(["-" if set(runs) == {"-"} else runs, *map(str, refused)])
    kinds = next(iter(table.values()))
    _print_table(("architecture", *kinds), [(name, *row.values()) for name, row in table.items()])
    print("F full, L LoRA, Q QLoRA, P soft prompts, H head only.")
    print("Capitals: run in the tests on small random weights of that architecture; small letters: on those of one architecture a kind.")
    print("Refused, by number:")
    for reason, number in reasons.items():
        print(f"{number}  {reason}")


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command(epilog=ANYWHERE)
def tasks(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One task; without it, all are listed.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Sample rows to show.")] = 2,
    json_: Json = False,
) -> None:
    """List the tasks, or show one: facts, sizes, sample rows."""
    from xstilts.tasks import names, task

    place: Place = ctx.obj
    if name is not None:
        _show_task(task(name), place.data, rows, json_)
        return
    found = [task(each) for each in names()]
    if json_:
        _print_json([_task_facts(each) for each in found])
        return
    width = max(len(each.name) for each in found)
    for each in found:
        role = "train and score" if each.trains and each.parts.test else "train" if each.trains else "score"
        print(f"{each.name:<{width}}  {each.kind:<8} {len(each.languages):>3} languages  {role:<15}  {each.about}")


def _task_facts(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "kind": task.kind,
        "about": task.about,
        "languages": list(task.languages),
        "metrics": list(task.metrics),
        "labels": list(task.labels),
        "splits": list(task.source.splits),
        "parts": {part: getattr(task.parts, part) for part in ("train", "dev", "test")},
        "train_language": task.train_language,
        "parallel": task.parallel,
        "pool": list(task.pool),
        "chance": task.chance,
        "licence": task.licence,
        "homepage": task.homepage,
        "citation": task.citation,
        "get": task.get,
        "hub": f"{task.hub.repository} at {task.hub.revision or 'a commit that you name'}" if task.hub else "",
        "sizes": dict(task.sizes),
        "version": task.version,
    }


def _show_task(task: Task, data: Path, count: int, json_: bool) -> None:
    from itertools import islice

    from xstilts.canon import plain
    from xstilts.errors import DataError
    from xstilts.rows import available

    samples: dict[str, list[Example]] = {}
    absent: dict[str, str] = {}
    for split in task.source.splits:
        own = task.train_language if split in (task.parts.train, task.parts.dev) else task.languages[0]
        for language in available(task, split, data)[:2] or (own,):
            try:
                samples[f"{split} {language}"] = list(islice(task.source.read(data, split, language), count))
            except DataError as error:
                absent[f"{split} {language}"] = str(error)
    if json_:
        _print_json(
            {
                **_task_facts(task),
                "samples": {where: [plain(e) for e in each] for where, each in samples.items()},
                "absent": absent,
            }
        )
        return
    print(f"{task.name}: {task.about}")
    facts = _task_facts(task)
    for field in ("kind", "languages", "metrics", "labels", "splits", "parts", "chance", "licence", "homepage", "hub"):
        value = facts[field]
        if isinstance(value, list):
            value = _cut(" ".join(value), 600)
        elif isinstance(value, dict):
            value = ", ".join(f"{part}: {split or '-'}" for part, split in value.items())
        elif isinstance(value, float):
            value = f"{value:.1f}"
        if value not in (None, ""):
            print(f"  {field:<10} {value}")
    if task.sizes:
        by_split: dict[str, list[str]] = {}
        for name, size in task.sizes.items():
            split, _, language = name.rpartition("-")
            by_split.setdefault(split, []).append(f"{language} {size:,}")
        for split, lengths in by_split.items():
            print(f"  {'rows':<10} {split}: {', '.join(lengths)}")
    for where, each in samples.items():
        for example in each:
            fields = {name: value for name, value in plain(example).items() if name != "type" and value is not None}
            print(f"  {where}: " + _cut(json.dumps(fields, ensure_ascii=False), 400))
    for message in dict.fromkeys(absent.values()):
        print(f"  not here: {message}")
    if task.citation:
        print(task.citation)


@app.command(epilog=ANYWHERE)
def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TASK", help="The task to check.")],
    hub: Annotated[bool, typer.Option("--hub", help="First fetch its rows from the hub into the data folder.")] = False,
    revision: Annotated[str, typer.Option(help="The hub repository's commit, in place of the task's.")] = "",
    json_: Json = False,
) -> None:
    """Check a task's data against its contract: every split in every language that is there. Exit code 2 when it is broken."""
    from xstilts.rows import check as check_rows
    from xstilts.tasks import task

    place: Place = ctx.obj
    if hub or revision:
        _fetch(task(name), place, revision)
    found = check_rows(task(name), place.data)
    if json_:
        _print_json(
            {
                "task": found.task,
                "ok": found.ok,
                "counts": [
                    {"split": c.split, "language": c.language, "rows": c.rows, "official": c.official, "candidates": c.candidates}
                    for c in found.counts
                ],
                "parts": dict(found.part_counts),
                "findings": [
                    {"level": f.level, "split": f.split, "language": f.language, "text": f.text} for f in found.findings
                ],
                "missing": [list(each) for each in found.missing],
            }
        )
    else:
        splits: dict[str, list[str]] = {}
        for one in found.counts:
            pool = f" (of {one.candidates:,})" if one.candidates else ""
            splits.setdefault(one.split, []).append(f"{one.language} {one.rows:,}{pool}")
        for split, each in splits.items():
            print(f"{split}: {', '.join(each)}")
        for part, size in found.part_counts.items():
            print(f"part {part}: {size:,} rows")
        for finding in found.findings:
            print(f"{finding.level}: {finding.split} {finding.language}: {finding.text}")
        gone: dict[str, list[str]] = {}
        for split, language in found.missing:
            gone.setdefault(split, []).append(language)
        for split, languages in gone.items():
            print(f"not here: {split} in {' '.join(languages)}")
        print(f"{found.task}: {'the contract holds' if found.ok else 'the contract is broken' if found.counts else 'no data'}")
    if not found.ok:
        raise typer.Exit(2)


def _fetch(task: Task, place: Place, revision: str) -> None:
    from xstilts.errors import DataError
    from xstilts.hub import fetch

    if place.offline:
        raise DataError("--hub asks the hub for rows, --offline forbids it; leave one of them out")
    for path in fetch(task, place.data, revision=revision):
        print(f"here: {path}", file=sys.stderr)


# ---- scores of files, files of scores ----


@app.command(epilog=ANYWHERE)
def score(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="A folder of TASK/test-LANGUAGE files.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="The labels, in the same layout (answers: SQuAD's JSON).")],
    benchmark: Annotated[str, typer.Option(metavar="NAME", help="xtreme or xtreme-r.")],
    tasks: Annotated[list[str] | None, typer.Option(metavar="TASK,...", help="Score only these, on purpose.")] = None,
    languages: Annotated[list[str] | None, typer.Option(metavar="CODE,...", help="Score only these, on purpose.")] = None,
    json_: Json = False,
) -> None:
    """Score a folder of predictions as XTREME or XTREME-R do, on 0-100."""
    from xstilts.benchmark import find_benchmark
    from xstilts.submission import score_folder

    found = score_folder(predictions, labels, find_benchmark(benchmark), _split(tasks), _split(languages))
    if json_:
        _print_json(found.as_json())
        return
    width = max(map(len, found.languages))
    for task, own in found.languages.items():
        for metric, average in found.averages[task].items():
            each = "  ".join(f"{code} {scores[metric]:.1f}" for code, scores in own.items())
            print(f"{task:<{width}}  {metric:<11}  {average:>5.1f}  {each}")
    if found.groups:
        print(f"categories: {', '.join(f'{name} {value:.1f}' for name, value in found.groups.items())}")
    if found.average is None:
        print(f"partial: not all tasks and languages of {found.benchmark.name} were asked for")
    else:
        print(f"average of {found.benchmark.name}: {found.average:.1f}")


@app.command(epilog=ANYWHERE)
def submit(
    ctx: typer.Context,
    study: StudyName,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the prediction folders, MODEL/INTERMEDIATE/seed-N each.")],
    partial: Annotated[bool, typer.Option("--partial", help="Also write what is there of missing or capped test sets.")] = False,
    json_: Json = False,
) -> None:
    """Write a study's test predictions in the layout of XTREME and XTREME-R."""
    from xstilts.benchmark import BENCHMARKS, FORMS
    from xstilts.submission import submissions, write_submissions

    place: Place = ctx.obj
    store, made = _planned(place, study)
    written = write_submissions(submissions(made.cells, store.find, place.data, partial), out)
    left = [target for target in made.study.targets if target not in FORMS]
    there = {name.rpartition(".")[0] for each in written for name in each.files}
    lacking = {
        each.name: [name for part in each.tasks for code in each.languages[part] if (name := f"{part}/test-{code}") not in there]
        for each in BENCHMARKS.values()
    }
    if json_:
        _print_json(
            {
                "folders": [str(out / each.folder) for each in written],
                "files": sum(len(each.files) for each in written),
                "notes": [f"{each.folder}: {note}" for each in written for note in each.notes],
                "not_written": left,
                "lacking": lacking,
            }
        )
        return
    for each in written:
        print(f"{out / each.folder}: {len(each.files)} files")
        for note in each.notes:
            print(f"  {note}")
    if left:
        print(f"not written, in neither benchmark: {' '.join(left)}")
    for name, files in lacking.items():
        tasks = " ".join(dict.fromkeys(file.partition("/")[0] for file in files))
        print(f"{name}: {len(files)} files are lacking, of {tasks}" if files else f"{name}: whole")


@app.command("import", epilog=ANYWHERE)
def import_command(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="Predictions (TASK/test-LANGUAGE), scores.csv, or a TOML or JSON row.")],
    into: Annotated[str, typer.Option(metavar="STUDY", help="The study to import into: a file or a ready-made name.")],
    model: Annotated[str | None, typer.Option(help="Whose they are.")] = None,
    intermediate: Annotated[str | None, typer.Option(help='After which intermediate choice (default: the file\'s, else "none").')] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The run's seed (default: the file's, else 0).")] = None,
    parameters: Annotated[int, typer.Option(min=0, help="Size of the model, for trends.")] = 0,
    series: Annotated[str, typer.Option(help="Models of one series were pretrained alike but for their size: trends are over those.")] = "",
    labels: Annotated[
        Path | None, typer.Option(help="Labels in the same layout: they are compared, and say in which order Tatoeba's candidates stood.")
    ] = None,
    json_: Json = False,
) -> None:
    """Take scores or predictions that were made elsewhere into a study; its report shows them, marked as imported."""
    from xstilts.imports import Named, keep, read

    place: Place = ctx.obj
    store, made = _planned(place, into)
    found, left = read(source, made, place.data, store, Named(model, intermediate, seed, parameters, series), labels)
    keep(store, made.study.name, found)
    targets = list(dict.fromkeys(each.target for each in found))
    if json_:
        _print_json({"study": made.study.name, "imported": len(found), "targets": targets, "left_out": left})
        return
    kinds = "predictions" if found[0].key else "scores"
    print(f"imported {kinds} of {len(found)} cells ({' '.join(targets)}) into {made.study.name}; xstilts report {into} shows them")
    for line in left:
        print(f"left out: {line}")


def _split(words: Sequence[str] | None) -> list[str]:
    """The names of an option that may be given several times, with commas or spaces in between."""
    return list(dict.fromkeys(name for word in words or () for name in word.replace(",", " ").split()))


# ---- the store ----


@app.command(epilog=ANYWHERE)
def why(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A stage's key, or how it begins.")],
    json_: Json = False,
) -> None:
    """Explain a stage: the nearest stored stage of its type, and the fields in which they differ."""
    place: Place = ctx.obj
    found = place.open().why(key)
    if json_:
        _print_json(
            {
                "key": found.key,
                "stored": found.stored,
                "stage": found.stage,
                "nearest": found.nearest,
                "differences": [{"path": d.path, "here": d.here, "there": d.there} for d in found.differences],
            }
        )
        return
    print(f"{found.key}: {found.stage['type']}, {'stored' if found.stored else 'planned, not in the store'}")
    if found.nearest is None:
        print(f"the store holds no other {found.stage['type']}")
        return
    print(f"nearest stored: {found.nearest}; they differ in {len(found.differences)} field{'s' * (len(found.differences) != 1)}:")
    for each in found.differences:
        print(f"  {each.path}: {_cut(each.here or 'absent', 90)} here, {_cut(each.there or 'absent', 90)} there")


@app.command(epilog=ANYWHERE)
def gc(
    ctx: typer.Context,
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="The studies to keep: all that they need stays.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json_: Json = False,
) -> None:
    """Remove from the store what none of the named studies needs."""
    from xstilts.imports import stored

    place: Place = ctx.obj
    keep: set[str] = set()
    for name in studies:
        store, made = _planned(place, name)
        keep |= {stage.key for stage in made.stages} | {each.key for each in stored(store, made.study.name) if each.key}
    found = place.open().gc(keep, dry_run)
    if json_:
        _print_json({"entries": list(found.entries), "drafts": list(found.drafts), "bytes": found.bytes, "removed": not dry_run})
        return
    verb = "would remove" if dry_run else "removed"
    print(
        f"{verb} {len(found.entries)} entries and {len(found.drafts)} drafts, {_bytes(found.bytes)}; {len(keep)} stages are kept"
    )


@app.command(epilog=ANYWHERE)
def pretrain(
    ctx: typer.Context,
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A pretraining config (TOML) or the name of a ready-made one.")],
    out: Annotated[Path | None, typer.Option(help="Also copy the encoder into this folder.")] = None,
    json_: Json = False,
) -> None:
    """Make an encoder; a study may name the same config under [encoders.NAME] pretrain."""
    from xstilts.pretraining import pretrain_stage
    from xstilts.progress import shown
    from xstilts.run import run
    from xstilts.store import disk_error

    place: Place = ctx.obj
    store = place.open()
    stage: Stage = pretrain_stage(config, place.data, store.file_hash, place.device)
    store.remember([stage])
    with shown({stage.key: stage}, {stage.key: config}, 1, sys.stderr if json_ else sys.stdout) as on_event:
        outcome = run((stage,), {}, store, place.data, 1, place.offline, on_event)
    if outcome.interrupted:
        print(f"interrupted: its state is saved; go on with: xstilts {' '.join(sys.argv[1:])}", file=sys.stderr)
        raise typer.Exit(130)
    if outcome.failed:
        raise TrainingError(next(iter(outcome.failed.values())))
    folder = store.entry(stage.key) / "encoder"
    if out is not None:
        try:
            shutil.copytree(folder, out, dirs_exist_ok=True)
        except OSError as error:
            raise disk_error(error, out) from error
        folder = out
    if json_:
        _print_json({"key": stage.key, "run": outcome.run, "reused": outcome.reused, "model": str(folder)})
    else:
        print(f"done: {outcome.run} stages run, {outcome.reused} reused; model: {folder}")


# ---- deployment ----


HeadOf = Annotated[str, typer.Option(metavar="NAME", help="Which head, where the model has several.")]
ENGINES = ("torch", "onnx", "onnx-int8", "openvino")
MODEL = "A key of the store (or how it begins), STUDY:MODEL/INTERMEDIATE/TARGET/SEED, or the folder of an export."


@app.command("export", epilog=ANYWHERE)
def export_command(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)],
    format: Annotated[str, typer.Option(metavar="NAME", help="onnx, openvino or torch (the plain transformers layout).")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the file set.")],
    precision: Annotated[str, typer.Option(metavar="NAME", help="fp32, bf16 (openvino, torch) or int8 (onnx).")] = "fp32",
    task: HeadOf = "",
    rows: Annotated[int, typer.Option(min=1, help="Real rows a language to check it on.")] = 100,
    json_: Json = False,
) -> None:
    """Write a model with its head as one file set, checked on real rows against PyTorch; int8 tells what it loses."""
    place: Place = ctx.obj
    asked = {"model": model, "task": task, "format": format, "precision": precision, "out": str(out), "rows": rows}
    _hand_over("export", place, asked, json_, threads=1)


@app.command(epilog=ANYWHERE)
def serve(
    ctx: typer.Context,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=MODEL)],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on (0: any that is free).")] = 8000,
    threads: Annotated[int, typer.Option(min=1, help="Batches of an encoder computed at a time, each on a thread of its own.")] = 1,
    latency_ms: Annotated[int, typer.Option(min=1, help="What a batch may take, the wait for the one before it included.")] = 100,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait for one encoder; more get 429.")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may wait for its turn.")] = 30.0,
    arrive: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take to arrive.")] = 10.0,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request's body.")] = 1 << 20,
    max_characters: Annotated[int, typer.Option(min=1, help="Characters that the model reads for one request.")] = 20_000,
    api_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the key that callers must send (default: $XSTILTS_API_KEY, else none).")
    ] = None,
) -> None:
    """Answer over HTTP: POST /v1/TASK, several tasks in one process, requests of all callers computed together."""
    sizes = {"body": max_body, "characters": max_characters, "queue": queue}
    limits = {**sizes, "latency": latency_ms / 1000, "timeout": timeout, "arrive": arrive}
    asked = {"models": models, "host": host, "port": port, "limits": limits, "api_key": api_key and str(api_key), "batches": threads}
    _hand_over("serve", ctx.obj, asked, False, threads=1)


@app.command(epilog=ANYWHERE)
def bench(
    ctx: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY|MODEL...",
            help=f"A study: the first seed of every choice, kept for its report. Or models, the first beside the others: {MODEL}",
        ),
    ],
    languages: Annotated[list[str] | None, typer.Option(metavar="CODE,...", help="Only these (default: all that have rows).")] = None,
    task: HeadOf = "",
    seconds: Annotated[float, typer.Option(min=1.0, help="Of a cell: one scenario in one language, or a side of a comparison.")] = 10.0,
    latency_ms: Annotated[float, typer.Option(min=1.0, help="What the 99th percentile may take where requests come at random.")] = 100.0,
    rows: Annotated[int, typer.Option(min=2, help="Real rows a language.")] = 300,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one model's arithmetic.")] = 1,
    engines: Annotated[
        list[str] | None, typer.Option(metavar="NAME,...", help=f"Of a study (default: {' '.join(ENGINES)}; on a GPU torch alone).")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Of models: also write everything as JSON.")] = None,
    json_: Json = False,
) -> None:
    """Measure what models cost to serve, with MLPerf's LoadGen on real rows, and test whether they are equally fast."""
    from xstilts.study import ready_made

    study = len(models) == 1 and (models[0].endswith(".toml") or models[0] in ready_made())
    if engines and not study:
        raise StudyError("--engines goes with a study; of single models, name their exports")
    if out is not None and study:
        raise StudyError(f"--out goes with single models; what is measured of a study stays in the store ({ctx.obj.store}/bench)")
    known = ENGINES if ctx.obj.device == "cpu" else ("torch",)
    asked = {
        "models": models, "study": study, "engines": _split(engines) or known, "languages": _split(languages), "task": task,
        "seconds": seconds, "bound": latency_ms / 1000, "rows": rows, "out": out and str(out.absolute()),
    }  # fmt: skip
    _hand_over("bench", ctx.obj, asked, json_, threads)


def _hand_over(command: str, place: Place, asked: Mapping[str, object], json_: bool, threads: int) -> None:
    """Go on as the process that loads the model: the threads of numeric libraries must be set before they are loaded."""
    from xstilts.executors.local import environment

    where = {"store": str(place.store), "data": str(place.data), "device": place.device, "threads": threads, "json": json_}
    sys.stdout.flush()
    words = [sys.executable, "-m", "xstilts.deploy", command, json.dumps({**where, **asked})]
    os.execve(sys.executable, words, environment(threads, offline=True))


# ---- helpers ----


_WITH_VALUE = ("--store", "--data", "--jobs", "--device")


def globals_first(words: Sequence[str]) -> list[str]:
    """The command line with the global options moved to the front, so that they may stand anywhere."""
    front: list[str] = []
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        if word in _WITH_VALUE and left:
            front += [word, left.pop(0)]
        elif word == "--offline" or word.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _bytes(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def main() -> None:
    """The console entry point."""
    try:
        app(globals_first(sys.argv[1:]))
    except XstiltsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # the reader of our output has left; that is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted: what was finished is in the store", file=sys.stderr)
        raise SystemExit(130) from None
