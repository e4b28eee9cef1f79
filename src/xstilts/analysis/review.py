"""Independent checks of a study: what its design, its rows and its numbers allow to be concluded.

Each check is a function of the evidence alone and gives a verdict with its reasons; none of them knows of another.
`CHECKS` says which there are and how many points of ten each can cost. A review is a report: it stops nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xstilts.analysis.published import TARGETS, span
from xstilts.analysis.transfer import BASELINE, Level, Transfer
from xstilts.benchmark import XTREME, XTREME_R, Benchmark
from xstilts.canon import key_of
from xstilts.examples import Example, Parallel, gold_of, group_of, is_candidate
from xstilts.languages import LANGUAGES
from xstilts.models import Hub
from xstilts.plan import Plan
from xstilts.provenance import code_hash
from xstilts.readers import fingerprint
from xstilts.rows import content, hardly_there, load_each, texts
from xstilts.scores import CellLike, TaskOf
from xstilts.stages import Choose, Merge, Pretrain, Pretrained, Rows, Start, Train, lineage, rows_read
from xstilts.stats import MIN_SEEDS, detectable, holm
from xstilts.store import write_json
from xstilts.study import UNTUNED
from xstilts.task import Task
from xstilts.tasks import task as find_task

Verdict = Literal["good", "caution", "bad", "cannot say"]
COST: Mapping[Verdict, float] = {"good": 0.0, "caution": 0.5, "bad": 1.0, "cannot say": 0.0}  # share of a check's points
ENOUGH = 7.5  # points that must have been judged before a score is given: an unfinished study has none

# (up to here good, up to here caution); above: bad
EFFECT = (2.0, 5.0)  # points that can just be detected: single targets of Phang et al. 2020 gain 1 to 2, their mean 5.4
LEAKED = (0.0001, 0.001)  # share of the scored rows that stand in training rows
ALIKE = (0.01, 0.05)  # share that is a near-duplicate, stands twice, has two labels, was not translated
SAME = (0.01, 0.10)  # share of a target's training rows that an intermediate step has read
BUDGET = (1.25, 4.0)  # largest number of updates of an intermediate step over the smallest
SKEW = (0.15, 0.35)  # the most frequent label's share above that of equal ones
ABSENT = (0.0, 0.1)  # share of the planned cells that are not there
UNCOVERED = (0.0, 0.5)  # share of a benchmark's languages, families and scripts that is left out

SHOWN = 3  # reasons of a check in a report
WORDS = 5  # of one n-gram
CONTAINED = 0.8  # share of a scored row's n-grams in one training row
SCORED_MOST, TRAINED_MOST = 300, 10_000  # rows that the search for near-duplicates looks at, for each target and training
COMMON = 50  # an n-gram of more training rows than that is a phrase of the data set, and tells none of them
SHORT = 12  # letters; equal texts below it are no leak: "Yes." stands everywhere

DECIDING = ("torch", "transformers", "tokenizers")  # packages of which another release gives other numbers
PINNED = re.compile(r"[0-9a-f]{40}")

FORMATS: Mapping[str, str] = {
    "classify": "classification", "choose": "multiple choice", "tag": "tagging", "span": "qa", "retrieve": "retrieval",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    verdict: Verdict
    reasons: tuple[str, ...]

    @property
    def short(self) -> str:
        """The first reasons in one line, and how many more there are."""
        more = len(self.reasons) - SHOWN
        return "; ".join((*self.reasons[:SHOWN], *([f"and {more} more (xstilts review)"] if more > 0 else [])))


@dataclass(frozen=True, slots=True)
class Check:
    """A check with its finding; `lost` of its `points` were taken away."""

    group: str
    name: str
    finding: Finding
    points: float

    @property
    def lost(self) -> float:
        return COST[self.finding.verdict] * self.points

    @property
    def cost(self) -> str:
        """The verdict, and the points that it took where it took some."""
        return f"{self.finding.verdict}, {self.lost:.2f} of {self.points:.2f} lost" if self.lost else self.finding.verdict


@dataclass(frozen=True, slots=True)
class Review:
    """Every check, in the order of `CHECKS`."""

    checks: tuple[Check, ...]

    @property
    def judged(self) -> float:
        """The points of the checks that could be made."""
        return sum(check.points for check in self.checks if check.finding.verdict != "cannot say")

    @property
    def score(self) -> float | None:
        """0-10: what is left of the points that were judged, on ten; None where too few were."""
        lost = sum(check.lost for check in self.checks)
        return None if self.judged < ENOUGH else round(10 * (self.judged - lost) / self.judged, 1)

    @property
    def summary(self) -> str:
        """The score and what it stands on, in one sentence."""
        open_ = [check.name for check in self.checks if check.finding.verdict == "cannot say"]
        base = f"{len(self.checks) - len(open_)} of {len(self.checks)} checks could be made, {self.judged:.2f} of 10 points"
        needed = f", {ENOUGH} are needed" if self.score is None else ""
        lost = sorted((c for c in self.checks if c.lost), key=lambda c: -c.lost)
        cost = f"; lost: {', '.join(f'{c.name} {c.lost:.2f}' for c in lost)}" if lost else ""
        score = "no score" if self.score is None else f"{self.score:.1f} of 10"
        return f"{score} ({base}{needed}{cost})"

    def as_json(self) -> dict[str, Any]:
        """Plain values: score, judged points, checks."""
        return {
            "score": self.score,
            "judged": self.judged,
            "checks": [
                {
                    "group": c.group, "name": c.name, "verdict": c.finding.verdict, "reasons": list(c.finding.reasons), "points": c.points,
                    "lost": c.lost,
                }
                for c in self.checks
            ],
        }  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """All that the checks look at: cells, what the scores say, how the finished stages were made, and the rows."""

    cells: tuple[CellLike, ...]
    missing: int  # of the cells, how many have no predictions
    transfer: Transfer
    made: Mapping[str, Mapping[str, Any]]  # key of a finished stage -> its manifest
    hubs: Mapping[str, str]  # what is taken from the hub -> the revision asked for
    rows: Mapping[Rows, Sequence[Example]]
    unread: tuple[str, ...] = ()  # rows that could not be read, and why
    part: str = "test"  # the part that is scored
    task_of: TaskOf = field(default=find_task)

    @cached_property
    def tasks(self) -> Mapping[str, Task]:
        """The targets."""
        return {name: self.task_of(name) for name in dict.fromkeys(cell.target for cell in self.cells)}

    @cached_property
    def prints(self) -> Mapping[Rows, Sequence[Print]]:
        """The fingerprints of every row."""
        return {rows: [_print(example) for example in examples] for rows, examples in self.rows.items()}

    @cached_property
    def models(self) -> Mapping[str, Start]:
        """What was scored, each model once."""
        return {cell.predict.model.key: cell.predict.model for cell in self.cells}

    @cached_property
    def read(self) -> Mapping[str, tuple[Rows, ...]]:
        """Key of a model -> the training rows on the way to it, each once."""
        return {key: tuple(dict.fromkeys(rows_read(model))) for key, model in self.models.items()}

    @cached_property
    def trainings(self) -> Mapping[str, tuple[Train, ...]]:
        """Key of a model -> the trainings on the way to it, those of a search included, each once."""
        return {
            key: tuple(dict.fromkeys(stage for stage in lineage(model) if isinstance(stage, Train)))
            for key, model in self.models.items()
            if not isinstance(model, Pretrained)
        }

    @cached_property
    def scored(self) -> Mapping[str, tuple[Rows, ...]]:
        """Target -> the rows that are scored, one value a language."""
        found: dict[str, dict[Rows, None]] = {}
        for cell in self.cells:
            found.setdefault(cell.target, {})[cell.predict.rows] = None
        return {target: tuple(rows) for target, rows in found.items()}

    @cached_property
    def trained_for(self) -> Mapping[str, tuple[Rows, ...]]:
        """Target -> every training row set that some model scored on it has read."""
        found: dict[str, dict[Rows, None]] = {}
        for cell in self.cells:
            found.setdefault(cell.target, {}).update(dict.fromkeys(self.read[cell.predict.model.key]))
        return {target: tuple(rows) for target, rows in found.items()}


@dataclass(frozen=True, slots=True)
class Print:
    """Fingerprints of a row: of the text it stands on ("" for a short one) and of all its texts, and its group."""

    stands_on: str
    whole: str
    group: str


def of_plan(plan: Plan, made: Mapping[str, Mapping[str, Any]], transfer: Transfer, data: Path, cache: Path) -> Review:
    """The review of a study. `made` holds the manifests of its finished stages by key.

    The rows of every training, selection and scored part are read once; what the checks found in them is kept in the file
    `cache` until the plan, the data or this code changes, so that a report need not read them again.
    """
    about = [[c.model, c.intermediate, c.target, c.same_data, c.predict.key] for c in plan.cells]
    key = key_of([about, code_hash()])
    known = _kept(cache, key)
    rows, refused = load_each(_wanted(plan), data) if known is None else ({}, {})
    hubs = {where.repository: where.revision for where in plan.where.values() if isinstance(where, Hub)}
    for name, own in plan.study.hub.items():
        of_task = find_task(name).hub
        hubs[f"rows of {name}"] = own.revision or (of_task.revision if of_task else "")
    unread = tuple(f"{each.task} {each.split} {each.language}: {why}" for each, why in refused.items())
    missing = sum(cell.predict.key not in made for cell in plan.cells)
    found = review(Evidence(plan.cells, missing, transfer, made, hubs, rows, unread, plan.study.part), known or {})
    if known is None and not refused:
        _keep(cache, key, found)
    return found


def review(evidence: Evidence, known: Mapping[str, Finding] | None = None) -> Review:
    """Every check of `CHECKS` on the evidence; `known` are findings, by name, that need not be made again."""
    given = known or {}
    return Review(tuple(Check(group, name, given.get(name) or check(evidence), points) for group, name, points, check in CHECKS))


def _wanted(plan: Plan) -> Iterator[Rows]:
    for stage in plan.stages:
        if isinstance(stage, Train):
            yield from (*(share.rows for share in stage.mix), *stage.select)
    yield from (cell.predict.rows for cell in plan.cells)


def _kept(cache: Path, key: str) -> Mapping[str, Finding] | None:
    """The findings in rows that were kept under this key; None where there are none."""
    try:
        found = json.loads(cache.read_text("utf-8"))
        plain = found["findings"] if found["key"] == key else None
        return plain and {name: Finding(plain[name]["verdict"], tuple(plain[name]["reasons"])) for name in ON_ROWS}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(cache: Path, key: str, found: Review) -> None:
    findings = {c.name: {"verdict": c.finding.verdict, "reasons": list(c.finding.reasons)} for c in found.checks if c.name in ON_ROWS}
    try:
        cache.parent.mkdir(exist_ok=True)
        write_json(cache, {"key": key, "findings": findings})
    except OSError:
        return  # only a cache: the next review reads the rows again


# ---- statistics ----


def seeds(evidence: Evidence) -> Finding:
    """Bad below three seeds: the luck of training has no usable estimate then."""
    own: dict[tuple[str, str, str], set[int]] = {}
    for cell in evidence.cells:
        if isinstance(cell.predict.model, Train | Merge | Choose):
            own.setdefault((cell.model, cell.intermediate, cell.target), set()).add(cell.seed)
    if not own:
        return _open("nothing was trained")
    place, fewest = min(own.items(), key=lambda item: len(item[1]))
    text = f"{_count(len(fewest), 'seed')} of every choice"
    if any(len(each) > len(fewest) for each in own.values()):
        text = f"{_count(len(fewest), 'seed')} where there are fewest ({place[1]} → {place[2]}, {place[0]})"
    if len(fewest) < MIN_SEEDS:
        return Finding("bad", (f"{text}; {MIN_SEEDS} are needed before the luck of training is in an interval and a verdict can be given",))
    return Finding("good", (text,))


def power(evidence: Evidence) -> Finding:
    """The smallest true mean gain that the study finds with power 0.8 at 5 % (Bloom 1995), the worst over intermediates."""
    rows = [g for g in evidence.transfer.gains if not g.target and not g.same_data]
    rows = rows or [g for g in evidence.transfer.gains if g.target and not g.language and not g.same_data]
    sure = [g for g in rows if g.gain.sure]
    if any(g.gain.kind == "items only" for g in rows):
        return Finding("bad", (f"below {MIN_SEEDS} seeds the luck of training is unknown, and no gain of any size can be told from it",))
    if not sure:
        return _open("no gain has an interval with the luck of training and the test items in it")
    worst = max(sure, key=lambda g: detectable(g.gain))
    least = detectable(worst.gain)
    text = f"a mean gain below {least:.1f} points would be missed more than one time in five ({worst.intermediate}, {worst.model})"
    beside = "for comparison, X-STILTs gains 5.4 points over XTREME, and 0.8 (XNLI) and 1.5 (PAWS-X) on single targets"
    return Finding(_graded(least, EFFECT), (text, beside))


def multiplicity(evidence: Evidence) -> Finding:
    """How many single intervals exclude 0, how many by chance would, and how many stand after Holm's correction."""
    rows = [g for g in evidence.transfer.gains if g.target and not g.language and not g.same_data and g.gain.sure]
    if not rows:
        return _open("no gain can be tested")
    alone = sum(g.gain.p < 0.05 for g in rows)
    stand = int((holm(np.array([g.gain.p for g in rows])) < 0.05).sum())
    by_chance = f"by chance {0.05 * len(rows):.1f}"
    text = f"{_count(len(rows), 'gain')} tested, {alone} below 5 % each by itself ({by_chance}), {stand} after Holm's correction"
    if alone and not stand:
        return Finding("bad", (text, "no single interval that excludes 0 may be quoted as a finding"))
    return Finding("good" if 2 * stand >= alone else "caution", (text,))


# ---- data ----


def leakage(evidence: Evidence) -> Finding:
    """Scored rows that stand in training rows, by a hash of their text; by group too where both are of one task."""
    reasons: list[str] = []
    worst, looked = 0.0, 0
    for target, scored in evidence.scored.items():
        rows = [each for each in scored if each in evidence.prints]
        total = sum(len(evidence.prints[each]) for each in rows)
        looked += total
        for name, own in _by_task(evidence.trained_for[target], evidence).items():
            seen = {text for each in own for p in evidence.prints[each] for text in (p.stands_on, p.whole)} - {""}
            groups = {p.group for each in own for p in evidence.prints[each]} if name == target else set[str]()
            found = sum(p.stands_on in seen or p.whole in seen or p.group in groups for each in rows for p in evidence.prints[each])
            if found:
                worst = max(worst, found / total)
                reasons.append(f"{found:,} of {total:,} scored rows of {target} ({found / total:.2%}) stand in training rows of {name}")
    if not looked or not any(evidence.trained_for.values()):
        return _open("no training and scored rows could be read", *evidence.unread[:3])
    return Finding(_graded(worst, LEAKED), (*reasons, *_unread(evidence)) or (f"none of {looked:,} scored rows stands in training rows",))


def near_duplicates(evidence: Evidence) -> Finding:
    """Scored rows most of whose word n-grams stand in one training row of the same language; exact ones are left to `leakage`."""
    reasons: list[str] = []
    worst, looked, cut = 0.0, 0, False
    for target, scored in evidence.scored.items():
        for language in dict.fromkeys(rows.language for rows in evidence.trained_for[target]):
            rows = [each for each in scored if each in evidence.rows and _in_language(evidence, each, language)]
            training = [each for each in evidence.trained_for[target] if each.language == language and each in evidence.rows]
            if not rows or not training:
                continue
            exact = {p.whole for each in training for p in evidence.prints[each]}
            other = [e for each in rows for e, p in zip(evidence.rows[each], evidence.prints[each], strict=True) if p.whole not in exact]
            every = list(dict.fromkeys(map(_input, other)))
            some = _spread(every, SCORED_MOST)
            looked += len(some)
            cut |= len(some) < len(every)
            for name, own in _by_task(training, evidence).items():
                whole = [_input(e) for each in own for e in evidence.rows[each]]
                against = _spread(whole, TRAINED_MOST)
                cut |= len(against) < len(whole)
                found = contained(some, against)
                if found:
                    share = len(found) / len(some)
                    worst = max(worst, share)
                    text = f"{len(found)} of {len(some)} rows of {target} in {language} ({share:.1%}) are nearly a training row of {name}"
                    reasons.append(f'{text}, such as "{_short(some[found[0]])}"')
    if not looked:
        return _open("no scored rows in a language that was trained on could be read", *evidence.unread[:3])
    about = f"{CONTAINED:.0%} of a row's {WORDS}-word sequences in one training row of its language; {looked:,} rows looked at"
    if cut:
        about += f", at most {SCORED_MOST} a target against at most {TRAINED_MOST:,} a training task, evenly spread"
    return Finding(_graded(worst, ALIKE), (*reasons, about))


def labels(evidence: Evidence) -> Finding:
    """The most frequent label's share, in training and scored rows of classifying and choosing targets."""
    reasons: list[str] = []
    verdicts: list[Verdict] = []
    for target, task in evidence.tasks.items():
        if task.kind not in ("classify", "choose"):
            continue
        training = [rows for rows in evidence.trained_for[target] if rows.task == target]
        for what, sets in (("training", training), ("scored", evidence.scored[target])):
            golds = Counter(gold[0] for rows in sets for e in evidence.rows.get(rows, ()) if (gold := gold_of(e)))
            if not golds:
                continue
            kinds = max(len(golds), len(task.labels))
            label, most = max(golds.items(), key=lambda item: item[1])
            share = most / golds.total()
            verdicts.append(_graded(share - 1 / kinds, SKEW))
            reasons.append(f'{target}, {what} rows: "{label}" {share:.0%} of {golds.total():,} (equal would be {1 / kinds:.0%})')
            if absent := [each for each in task.labels if each not in golds]:
                verdicts.append("bad")
                reasons.append(f"{target}, {what} rows: no row has {', '.join(absent)}")
    if not verdicts:
        return _open("no classifying or choosing target whose rows could be read")
    return Finding(_worst(verdicts), tuple(reasons))


def untranslated(evidence: Evidence) -> Finding:
    """Rows of parallel tests that are the same in another language as in the training language, or hardly there."""
    reasons: list[str] = []
    worst, looked = 0.0, 0
    for target, task in evidence.tasks.items():
        if not task.parallel:
            continue
        by_language = {rows.language: evidence.rows[rows] for rows in evidence.scored[target] if rows in evidence.rows}
        for language, examples in by_language.items():
            pairs = list(_beside(task, language, examples, by_language))
            looked += len(pairs)
            left = [other for first, other in pairs if hardly_there(first, other) or _same_text(first, other)]
            if left:
                share = len(left) / len(pairs)
                worst = max(worst, share)
                text = f"{len(left)} of {len(pairs)} rows of {target} in {language} ({share:.1%}) are untranslated or hardly there"
                reasons.append(f'{text}, such as "{_short(_input(left[0]))}"')
    if not looked:
        return _open("no parallel test with rows in the training language could be read")
    nothing = f"none of {looked:,} rows in another language has the text of the training language"
    return Finding(_graded(worst, ALIKE), tuple(reasons) or (nothing,))


def duplicates(evidence: Evidence) -> Finding:
    """Rows that stand twice in one part, and equal rows under different labels."""
    reasons: list[str] = []
    worst, looked = 0.0, 0
    every = dict.fromkeys(rows for of in (evidence.trained_for, evidence.scored) for sets in of.values() for rows in sets)
    for rows in (each for each in every if each in evidence.rows):
        golds: dict[str, set[tuple[str, ...]]] = {}
        both = zip(evidence.rows[rows], evidence.prints[rows], strict=True)
        kept = [(p.whole, gold_of(e)) for e, p in both if not is_candidate(e)]
        for whole, gold in kept:
            golds.setdefault(whole, set()).add(gold)
        if not kept:
            continue
        looked += len(kept)
        where = f"{rows.task} {rows.split} {rows.language}"
        twice = len(kept) - len(golds)
        torn = sum(len(each) > 1 for each in golds.values()) if evidence.task_of(rows.task).kind in ("classify", "choose") else 0
        for number, what in ((twice, "stand there before"), (torn, "have more than one label")):
            if number / len(kept) > ALIKE[0]:
                reasons.append(f"{where}: {number:,} of {len(kept):,} rows ({number / len(kept):.1%}) {what}")
            worst = max(worst, number / len(kept))
    if not looked:
        return _open("no rows could be read", *evidence.unread[:3])
    little = f"at most {worst:.1%} of a part's rows stand twice or have two labels ({looked:,} rows)"
    return Finding(_graded(worst, ALIKE), tuple(reasons) or (little,))


# ---- coverage ----


def cells(evidence: Evidence) -> Finding:
    """How much of the plan has been scored."""
    total = len(evidence.cells)
    text = f"{total - evidence.missing:,} of {total:,} planned cells are scored"
    return Finding(_graded(evidence.missing / total, ABSENT), (text,))


def languages(evidence: Evidence) -> Finding:
    """The languages of each target that the study leaves out: of the benchmark's where it is in one, else of the task's."""
    reasons: list[str] = []
    wanted, had = 0, 0
    bench = _benchmark(evidence)
    for target, task in evidence.tasks.items():
        whole = bench.languages[target] if bench and target in bench.languages else task.languages
        own = {rows.language for rows in evidence.scored[target]}
        absent = [code for code in whole if code not in own]
        wanted, had = wanted + len(whole), had + len(whole) - len(absent)
        if absent:
            reasons.append(f"{target} leaves out {len(absent)} of {len(whole)}: {' '.join(absent)}")
    said = f"{had} of {wanted} languages over all targets, as {bench.name if bench else 'the tasks'} list{'s' if bench else ''} them"
    return Finding(_graded(1 - had / wanted, UNCOVERED), (said, *reasons))


def families(evidence: Evidence) -> Finding:
    """Families and scripts of the benchmark (or of the tasks) in which the study scores nothing."""
    bench = _benchmark(evidence)
    lists = bench.languages.values() if bench else [task.languages for task in evidence.tasks.values()]
    whole = {code for codes in lists for code in codes if code in LANGUAGES}
    own = {rows.language for sets in evidence.scored.values() for rows in sets if rows.language in LANGUAGES}
    reasons, verdicts = [], list[Verdict]()
    for what, plural, of in (("family", "families", "family"), ("script", "scripts", "script")):
        wanted, had = ({getattr(LANGUAGES[code], of) for code in codes} for codes in (whole, own))
        absent = sorted(wanted - had)
        verdicts.append(_graded(len(absent) / max(1, len(wanted)), UNCOVERED))
        text = f"{len(wanted) - len(absent)} of {len(wanted)} {plural}"
        reasons.append(f"{text}, left out: {', '.join(absent)}" if absent else text)
        if len(had) < 2:
            verdicts.append("bad")
            reasons.append(f"one {what} only: nothing can be said across them")
    return Finding(_worst(verdicts), tuple(reasons))


def formats(evidence: Evidence) -> Finding:
    """Task formats among the targets: an intermediate task that helps one may not help another."""
    own = {FORMATS[task.kind] for task in evidence.tasks.values()}
    bench = _benchmark(evidence)
    absent = sorted({"classification", "tagging", "qa", "retrieval"} - own)
    text = f"{_count(len(own), 'format')} among the targets ({', '.join(sorted(own))})"
    left = [f"without {', '.join(absent)}"] if absent else []
    if bench and (tasks := [task for task in bench.tasks if task not in evidence.tasks]):
        left.append(f"tasks of {bench.name} left out: {' '.join(tasks)}")
    return Finding("bad" if len(own) == 1 else "caution" if absent else "good", (text, *left))


# ---- fairness ----


def budgets(evidence: Evidence) -> Finding:
    """Updates of the intermediate steps, and whether the target is trained alike after each of them."""
    steps: dict[tuple[str, str], set[int]] = {}
    recipes: dict[tuple[str, str], set[object]] = {}
    own_seeds: dict[tuple[str, str], dict[str, set[int]]] = {}
    undone = False
    for cell in evidence.cells:
        own_seeds.setdefault((cell.model, cell.target), {}).setdefault(cell.intermediate, set()).add(cell.seed)
        trainings = evidence.trainings.get(cell.predict.model.key, ())
        before = [stage for stage in trainings if all(share.rows.task != cell.target for share in stage.mix)]
        last = [stage for stage in trainings if stage.mix and all(share.rows.task == cell.target for share in stage.mix)]
        if last and not cell.same_data:
            recipes.setdefault((cell.model, cell.target), set()).add((last[-1].recipe, last[-1].mix))
        if cell.intermediate == BASELINE or not before or cell.same_data:
            continue
        if all(stage.key in evidence.made for stage in before):
            updates = sum(int(evidence.made[stage.key]["facts"].get("steps", 0)) for stage in before)
            steps.setdefault((cell.model, cell.intermediate), set()).add(updates)
        else:
            undone = True
    reasons, verdicts = [], list[Verdict]()
    for (model, target), by_step in own_seeds.items():
        if len({frozenset(each) for each in by_step.values()}) > 1:
            verdicts.append("bad")
            reasons.append(f"{target} ({model}): the intermediate choices have different seeds, so that runs are not paired")
    for (model, target), found in recipes.items():
        if len(found) > 1:
            verdicts.append("bad")
            reasons.append(f"{target} ({model}) is trained in {len(found)} ways (recipe or rows) after different intermediate choices")
    for model in dict.fromkeys(model for model, _ in steps):
        most = {step: max(each) for (m, step), each in steps.items() if m == model}
        if len(most) > 1 and min(most.values()) > 0:
            ratio = max(most.values()) / min(most.values())
            verdicts.append(_graded(ratio, BUDGET))
            listed = ", ".join(f"{step} {n:,}" for step, n in sorted(most.items(), key=lambda item: item[1]))
            reasons.append(f"updates of the intermediate steps ({model}): {listed}; the largest is {ratio:.1f} times the smallest")
    if steps:
        reasons.append(f'"{BASELINE}" has none of these updates: a gain holds what longer training alone would give')
    if not verdicts:
        return _open("trainings are missing") if undone else Finding("good", (*reasons, "no two intermediate choices to compare"))
    return Finding(_worst(verdicts), tuple(reasons))


def selection(evidence: Evidence) -> Finding:
    """Checkpoints and rates are chosen on dev rows in the training language that are not scored; so are layers, in any language."""
    verdicts: list[Verdict] = ["good"]
    reasons: list[str] = []
    if evidence.part != "test":
        verdicts.append("bad")
        reasons.append(f"the {evidence.part} part is scored: what checkpoints were selected on is what is reported")
    selects = dict.fromkeys(rows for stages in evidence.trainings.values() for stage in stages for rows in stage.select)
    for rows in selects:
        if rows.part != "dev" or rows.language != evidence.task_of(rows.task).train_language:
            verdicts.append("bad")
            reasons.append(f"a training was selected on {rows.task} {rows.part} rows in {rows.language}")
    for target, scored in evidence.scored.items() if evidence.part == "test" else ():
        # a premise may be the first word of many rows: only whole rows and groups of the same task count
        own = [rows for rows in selects if rows in evidence.prints and rows.task == target]
        seen = {text for rows in own for p in evidence.prints[rows] for text in (p.whole, p.group)}
        total = sum(len(evidence.prints[rows]) for rows in scored if rows in evidence.prints)
        both = sum(p.whole in seen or p.group in seen for rows in scored if rows in evidence.prints for p in evidence.prints[rows])
        if both:
            verdicts.append("bad")
            reasons.append(f"{both:,} of {total:,} scored rows of {target} stand in the rows that its trainings were selected on")
    layers = {cell.target for cell in evidence.cells if cell.predict.chosen_on}
    if layers:
        verdicts.append("caution")
        named = ", ".join(sorted(layers))
        reasons.append(f"the retrieval layer of {named} was chosen on dev rows in the scored languages: not wholly zero-shot")
    if not selects:
        reasons.append("no training was selected: the last state was kept")
    elif len(verdicts) == 1:
        named = ", ".join(dict.fromkeys(rows.task for rows in selects))
        reasons.append(f"on dev rows of {named} in the training language, none of them scored")
    return Finding(_worst(verdicts), tuple(reasons))


def same_data(evidence: Evidence) -> Finding:
    """Whether cells whose intermediate step read the target's training rows are marked; judged by the texts of the rows."""
    choices = {(c.model, c.intermediate, c.target): c for c in evidence.cells if c.intermediate not in (BASELINE, UNTUNED)}
    if not choices:
        return _open("the study has no intermediate step")
    marked = [place for place, cell in choices.items() if cell.same_data]
    reasons = [f"{len(marked)} of {_count(len(choices), 'contrast')} marked as the same data and kept apart"] if marked else []
    verdicts: list[Verdict] = ["bad"] if len(marked) == len(choices) else []
    if verdicts:
        reasons.append("no contrast is left that holds other data than the baseline's")
    shares: dict[tuple[str, str], float] = {}
    for (_, step, target), cell in choices.items():
        read = [rows for rows in evidence.read[cell.predict.model.key] if rows in evidence.prints]
        own = {p.whole for rows in read if rows.task == target for p in evidence.prints[rows]}
        if not own or cell.same_data or (step, target) in shares:
            continue
        other = {p.whole for rows in read if rows.task != target for p in evidence.prints[rows]}
        shares[step, target] = len(own & other) / len(own)
        if shares[step, target] > SAME[0]:
            reasons.append(f"{step} holds {shares[step, target]:.1%} of the training rows of {target}, and is not marked")
    if not shares and not verdicts:
        return Finding("good", tuple(reasons)) if marked else _open("no training rows to compare", *evidence.unread[:3])
    verdicts.append(_graded(max(shares.values(), default=0.0), SAME))
    return Finding(_worst(verdicts), tuple(reasons) or (f"no intermediate step holds rows of a target ({len(shares)} pairs compared)",))


# ---- reproducibility ----


def versions(evidence: Evidence) -> Finding:
    """One release of each package for all finished stages."""
    if not evidence.made:
        return _open("no stage is finished")
    found: dict[str, set[str]] = {}
    without = 0
    for manifest in evidence.made.values():
        named = manifest.get("made", {}).get("versions", {})
        without += not named
        for package, version in named.items():
            found.setdefault(package, set()).add(str(version))
    mixed = {package: sorted(each) for package, each in found.items() if len(each) > 1}
    reasons = [f"{package} {' and '.join(each)}" for package, each in mixed.items()]
    if without:
        reasons.append(f"{without} of {len(evidence.made)} finished stages name no versions")
    if without or any(package in DECIDING for package in mixed):
        return Finding("bad", tuple(reasons))
    said = ", ".join(f"{package} {next(iter(each))}" for package, each in found.items() if package in (*DECIDING, "xstilts"))
    return Finding("caution" if mixed else "good", tuple(reasons) or (f"all {len(evidence.made)} stages: {said}",))


def commit(evidence: Evidence) -> Finding:
    """One git commit, or one installed release, for all finished stages."""
    if not evidence.made:
        return _open("no stage is finished")
    about = [manifest.get("made", {}) for manifest in evidence.made.values()]
    found = Counter(str(made.get("commit") or f"release {made.get('versions', {}).get('xstilts', '?')}") for made in about)
    named = ", ".join(f"{name[:12]} ({n} stages)" for name, n in found.most_common(4))
    if "release ?" in found:
        return Finding("bad", (f"{found['release ?']} finished stages name neither a commit nor a release of xstilts",))
    text = f"{_count(len(found), 'commit or release', 'commits or releases')}: {named}"
    return Finding("good" if len(found) == 1 else "caution", (text,))


def pins(evidence: Evidence) -> Finding:
    """What comes from the hub is asked for at a commit; what lies in a folder is in the keys by its hash."""
    loose = [f'{name}: "{revision}" is no commit' for name, revision in evidence.hubs.items() if not PINNED.fullmatch(revision)]
    if loose:
        return Finding("bad", tuple(loose))
    text = f"{_count(len(evidence.hubs), 'repository', 'repositories')} of the hub, each at a commit; " if evidence.hubs else ""
    return Finding("good", (f"{text}local weights and rows are in the keys by their SHA-256",))


def machines(evidence: Evidence) -> Finding:
    """One machine kind: results are bit-identical within one only. Worst where a gain compares two kinds."""
    kinds: dict[str, str] = {}
    for key, manifest in evidence.made.items():
        made = manifest.get("made", {})
        kinds[key] = f"{made.get('machine') or 'unknown'} ({made.get('device', '?')})"
    if not kinds:
        return _open("no stage is finished")
    found = Counter(kinds.values())
    if len(found) == 1:
        return Finding("good", (next(iter(found)),))
    reasons = [f"{name}: {n} stages" for name, n in found.most_common(4)]
    by_pair: dict[tuple[str, str, int], dict[str, set[str]]] = {}
    for cell in evidence.cells:
        keys = [stage.key for stage in lineage(cell.predict) if not isinstance(stage, Pretrain) and stage.key in kinds]
        own = by_pair.setdefault((cell.model, cell.target, cell.seed), {}).setdefault(cell.intermediate, set())
        own.update(kinds[key] for key in keys)
    torn = sum(len({frozenset(each) for each in steps.values()}) > 1 for steps in by_pair.values())
    if torn:
        reasons.append(f"{torn} of {len(by_pair)} paired comparisons set runs of one kind against runs of another")
    return Finding("bad" if torn else "caution", tuple(reasons))


# ---- scores ----


def chance(evidence: Evidence) -> Finding:
    """Whether the interval of the score in the training language lies above guessing: what was not learnt cannot be transferred."""
    verdicts: list[Verdict] = []
    reasons: list[str] = []
    for target, task in evidence.tasks.items():
        mine = [row for row in evidence.transfer.levels if row.target == target and row.intermediate != UNTUNED]
        first = [row for row in mine if row.language == task.train_language] or [row for row in mine if not row.language]
        if task.chance is None or not first:
            continue
        above = [row for row in first if row.score.low > task.chance]
        where = task.train_language if first[0].language else "the mean over languages"
        others = [row for row in mine if row.language not in ("", task.train_language)]
        text = f"{target}: {len(above)} of {len(first)} choices above chance ({task.chance:.1f}) in {where}"
        if others:
            over = sum(row.score.low > task.chance for row in others)
            text += f", {over} of {len(others)} cells in other languages"
            verdicts.append("good" if 2 * over >= len(others) else "caution")
        low = min(first, key=lambda row: row.score.low)
        reasons.append(f"{text}; lowest {_level(low)}")
        verdicts.append("good" if len(above) == len(first) else "caution" if above else "bad")
    if not verdicts:
        return _open("no scored target has a chance level")
    return Finding(_worst(verdicts), tuple(reasons))


def published(evidence: Evidence) -> Finding:
    """The baseline's means beside published ones; far above all of them is a sign of leakage, below is a matter of size."""
    verdicts: list[Verdict] = []
    reasons: list[str] = []
    for target in TARGETS:
        low, high = span(target)
        if target not in evidence.tasks or set(XTREME.languages[target]) != {rows.language for rows in evidence.scored[target]}:
            continue
        for row in evidence.transfer.levels:
            if (row.target, row.language, row.intermediate) == (target, "", BASELINE):
                value = row.score.estimate
                verdicts.append("bad" if value > high + 3 else "good" if low <= value <= high else "caution")
                beside = f"published models with all rows: {low:.1f} (lowest) to {high:.1f} (mT5 XXL)"
                reasons.append(f"{target}, {row.model}: {value:.1f}; for reference, {beside}")
    if not verdicts:
        return _open("no target with a published zero-shot mean is scored in all of the benchmark's languages")
    return Finding(_worst(verdicts), tuple(reasons))


CHECKS: tuple[tuple[str, str, float, Callable[[Evidence], Finding]], ...] = (  # group, name, points of ten, function
    ("statistics", "seeds", 1.0, seeds),
    ("statistics", "power", 1.0, power),
    ("statistics", "multiplicity", 0.5, multiplicity),
    ("data", "leakage", 1.5, leakage),
    ("data", "near-duplicates", 0.5, near_duplicates),
    ("data", "label balance", 0.25, labels),
    ("data", "untranslated rows", 0.25, untranslated),
    ("data", "duplicates", 0.25, duplicates),
    ("coverage", "cells", 0.25, cells),
    ("coverage", "languages", 0.5, languages),
    ("coverage", "families and scripts", 0.25, families),
    ("coverage", "task formats", 0.25, formats),
    ("fairness", "budgets", 0.5, budgets),
    ("fairness", "selection", 0.75, selection),
    ("fairness", "same data", 0.5, same_data),
    ("reproducibility", "versions", 0.25, versions),
    ("reproducibility", "commit", 0.25, commit),
    ("reproducibility", "pins", 0.25, pins),
    ("reproducibility", "machines", 0.25, machines),
    ("scores", "above chance", 0.5, chance),
    ("scores", "published range", 0.25, published),
)
ON_ROWS = frozenset({"leakage", "near-duplicates", "label balance", "untranslated rows", "duplicates", "selection", "same data"})


# ---- near-duplicates ----


def contained(scored: Sequence[str], training: Sequence[str]) -> list[int]:
    """Which of `scored` have `CONTAINED` of their word n-grams in one of `training`; texts shorter than one n-gram never do.

    N-grams that more than `COMMON` training texts hold identify none of them and do not count.
    """
    grams = [_grams(text) for text in scored]
    where: dict[tuple[str, ...], list[int]] = {gram: [] for each in grams for gram in each}
    for number, text in enumerate(training):
        for gram in _grams(text):
            if (found := where.get(gram)) is not None and len(found) <= COMMON:
                found.append(number)
    hits = []
    for number, each in enumerate(grams):
        shared = Counter(training_row for gram in each if len(where[gram]) <= COMMON for training_row in where[gram])
        if each and shared and shared.most_common(1)[0][1] >= CONTAINED * len(each):
            hits.append(number)
    return hits


def _grams(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return frozenset(tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1))


# ---- helpers ----


def _print(example: Example) -> Print:
    text = _input(example)
    long = sum(map(str.isalnum, text)) >= SHORT
    return Print(content(example) if long else "", fingerprint(text) if long else f"{example.id}\0{text}", group_of(example))


def _input(example: Example) -> str:
    """All that a model reads of an example, in one text."""
    return " ".join(example.words) if hasattr(example, "words") else "\n".join(texts(example))


def _in_language(evidence: Evidence, rows: Rows, language: str) -> bool:
    """True for rows in that language; a retrieval set holds its training language in every pair."""
    return rows.language == language or evidence.task_of(rows.task).kind == "retrieve"


def _beside(
    task: Task, language: str, examples: Sequence[Example], by_language: Mapping[str, Sequence[Example]]
) -> Iterator[tuple[Example, Example]]:
    """(row in the training language, the same row in another): by id, or in retrieval the right candidate of a query."""
    if task.kind == "retrieve":
        candidates = {e.id: e for e in examples if is_candidate(e)}
        for query in examples:
            if isinstance(query, Parallel) and query.gold in candidates and not is_candidate(query):
                yield candidates[query.gold], query
    elif language != task.train_language:
        first = {e.id: e for e in by_language.get(task.train_language, ())}
        yield from ((first[e.id], e) for e in examples if e.id in first)


def _same_text(one: Example, other: Example) -> bool:
    text = _input(one)
    return sum(map(str.isalnum, text)) >= SHORT and fingerprint(text) == fingerprint(_input(other))


def _by_task(training: Iterable[Rows], evidence: Evidence) -> Mapping[str, list[Rows]]:
    found: dict[str, list[Rows]] = {}
    for rows in training:
        if rows in evidence.rows:
            found.setdefault(rows.task, []).append(rows)
    return found


def _benchmark(evidence: Evidence) -> Benchmark | None:
    """The benchmark that most of the targets are of, XTREME where both have as many; None where none is in one."""
    held = [(sum(target in bench.tasks for target in evidence.tasks), bench) for bench in (XTREME, XTREME_R)]
    many, best = max(held, key=lambda pair: pair[0])
    return best if many else None


def _graded(value: float, limits: tuple[float, float]) -> Verdict:
    return "good" if value <= limits[0] else "caution" if value <= limits[1] else "bad"


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    return max(verdicts, key=lambda verdict: COST[verdict])


def _open(*reasons: str) -> Finding:
    return Finding("cannot say", reasons)


def _unread(evidence: Evidence) -> tuple[str, ...]:
    many = len(evidence.unread)
    return (f"{many} part{'s' if many > 1 else ''} could not be read: {evidence.unread[0]}",) if many else ()


def _spread(items: Sequence[str], most: int) -> Sequence[str]:
    """At most that many, evenly spread over all."""
    return items if len(items) <= most else [items[i * len(items) // most] for i in range(most)]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _level(row: Level) -> str:
    return f"{row.score.estimate:.1f} ({row.score.low:.1f} to {row.score.high:.1f}) after {row.intermediate}, {row.model}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
