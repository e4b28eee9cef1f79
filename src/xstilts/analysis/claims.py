"""Published claims as tests over a study's scores: supported, contradicted, inconclusive, or not testable here.

A claim is a table of `claims.toml` (or of a file of the user's): parts, each a contrast of cells with a bound, or a check of
the study's design. Values and intervals are those of `analysis.transfer`. A claim is supported where the interval of every
contrast lies beyond its bound (an intersection-union test, Berger 1982: no correction is needed), and contradicted where
one lies on the other side after Holm's correction over the claim's contrasts. No verdict rests on fewer than three seeds, on
scores without items, on "same data" cells, or on a choice whose data the model had learnt from before.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from xstilts.analysis.transfer import BASELINE, Contrast, Sample, Weights, draw_part, language_mean, mean_of, minus, same_languages
from xstilts.canon import unit_hash
from xstilts.errors import DataError, StudyError, nearest
from xstilts.imports import MARK
from xstilts.scores import CellLike, Results
from xstilts.stages import STRICT, Choose, Merge, Start, Train, lineage
from xstilts.stats import LEVEL, MIN_SEEDS, RESAMPLES, Floats, Interval, holm
from xstilts.study import UNTUNED, told
from xstilts.task import KINDS
from xstilts.tasks import task as find_task

Verdict = Literal["supported", "contradicted", "inconclusive", "not testable here", "present", "absent"]
Form = Literal["none", "single", "multi", "masked", "translated", "other"]
BEST, EACH_SINGLE, ENGLISH, PHASES = "best", "each single", "english", 3
FORMS: tuple[Form, ...] = ("single", "multi", "masked", "translated")
MINI = "mini-"


@dataclass(frozen=True, slots=True)
class Part:
    """One contrast of a claim; the head of `claims.toml` says what the words mean. `more_than` is 0 where no bound is given."""

    __pydantic_config__: ClassVar = STRICT
    gain: str
    over: str = BASELINE
    on: tuple[str, ...] = ()
    minus_on: tuple[str, ...] = ()
    more_than: float | None = None
    less_than: float | None = None
    published: float | None = None
    published_as: str = ""

    @property
    def bound(self) -> tuple[int, float]:
        """(side, points): the true value must lie above (+1) or below (-1) the points."""
        return (1, self.more_than or 0.0) if self.less_than is None else (-1, self.less_than)


@dataclass(frozen=True, slots=True)
class Design:
    """What a study must be like; of the four exactly one is given."""

    __pydantic_config__: ClassVar = STRICT
    model: tuple[str, ...] = ()  # it starts from one of these (repository, folder or name)
    phases: int = 0  # 3: pretrained, then intermediate, then target, scored in languages that were not trained on
    intermediates: int = 0  # at least so many English intermediate tasks
    kinds: tuple[str, ...] = ()  # the intermediate tasks cover these


@dataclass(frozen=True, slots=True)
class Claim:
    """A published sentence and what it says of a study: `parts` or `design`."""

    id: str
    statement: str
    source: str
    parts: tuple[Part, ...] = ()
    design: Design | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a file. `instead` gives, by data set, what stands for it where a study has not the data set itself."""

    claims: tuple[Claim, ...]
    instead: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Effect:
    """One contrast of a claim on one model: its value in points, or why there is none."""

    what: str
    verdict: Verdict
    side: int  # +1: the claim is that the true value lies above `limit`, -1: below it
    limit: float
    interval: Interval | None = None
    confidence: float | None = None  # one-sided, that the true value lies on the side of the bound that the estimate is on
    published: float | None = None
    published_as: str = ""
    targets: tuple[str, ...] = ()
    why: str = ""  # why there is no value, or no verdict
    missing: tuple[str, ...] = ()  # planned cells that are not there
    notes: tuple[str, ...] = ()  # what stands for what, what was left out
    on_mini: bool = False  # it rests on the embedded benchmark, whose tasks stand for others of their kind

    @property
    def bound(self) -> str:
        """ "above 0", "below 1"."""
        return f"{'above' if self.side > 0 else 'below'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a study says of a claim, for one model ("" where the claim is about the study's design)."""

    claim: Claim
    model: str
    verdict: Verdict
    effects: tuple[Effect, ...] = ()
    confidence: float | None = None  # of a verdict "supported" or "contradicted"
    found: str = ""  # design: what the study has
    on_mini: bool = False


# ---- files ----


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry(Part):
    """A claim as it is written: a claim of one part may have the part's keys beside its own."""

    id: str
    statement: str
    source: str = ""
    design: Design | None = None
    part: tuple[Part, ...] = ()
    gain: str = ""


@dataclass(frozen=True, slots=True)
class _File:
    __pydantic_config__: ClassVar = STRICT
    claim: tuple[_Entry, ...]
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def own_claims() -> Claims:
    """The ten claims of X-STILTs."""
    return _parsed(str(files("xstilts.analysis") / "claims.toml"), {})


def read_claims(path: Path) -> Claims:
    """The claims of a file; what stands for a data set in X-STILTs' claims does here too. Raises StudyError, in one line."""
    return _parsed(str(path), own_claims().instead)


def _parsed(path: str, instead: Mapping[str, tuple[str, ...]]) -> Claims:
    from pydantic import TypeAdapter, ValidationError

    try:
        table = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); give a TOML file with [[claim]] tables") from None
    try:
        file = TypeAdapter(_File).validate_json(json.dumps(table, default=str))
    except ValidationError as errors:
        raise StudyError(f"{path}: {told(errors.errors(), _keys_at)}") from None
    found = tuple(_claim(entry, path) for entry in file.claim)
    names = [claim.id for claim in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise StudyError(f'{path}: the id "{twice[0]}" stands twice')
    return Claims(found, {**instead, **file.instead})


def _keys_at(where: list[str]) -> list[str]:
    kind = Part if "part" in where else Design if "design" in where else _Entry if "claim" in where else _File
    return [f.name for f in fields(kind)]


def _claim(entry: _Entry, path: str) -> Claim:
    """The entry as a claim. Raises StudyError for what its types do not say."""
    where = f'{path}: claim "{entry.id}"'
    inline = {f.name: getattr(entry, f.name) for f in fields(Part)}
    parts = (*((Part(**inline),) if entry.gain else ()), *entry.part)
    if not entry.gain and any(inline[f.name] != f.default for f in fields(Part) if f.name != "gain"):
        raise StudyError(f"{where}: gain is missing: which choice's gain is meant?")
    if bool(parts) == (entry.design is not None):
        raise StudyError(f"{where}: give gain (or [[claim.part]] tables), or design, and not both")
    if entry.design is not None and sum(bool(getattr(entry.design, f.name)) for f in fields(Design)) != 1:
        raise StudyError(f"{where}: design: give exactly one of {', '.join(f.name for f in fields(Design))}")
    if entry.design is not None and entry.design.phases not in (0, PHASES):
        raise StudyError(f"{where}: design.phases: only {PHASES} can be looked for, got {entry.design.phases}")
    if entry.design is not None and (odd := [kind for kind in entry.design.kinds if kind not in KINDS]):
        raise StudyError(f'{where}: design.kinds: no kind "{odd[0]}" (there are: {", ".join(KINDS)}){nearest(odd[0], KINDS)}')
    for part in parts:
        if part.more_than is not None and part.less_than is not None:
            raise StudyError(f"{where}: give more_than or less_than, not both")
        if part.over == ENGLISH and part.gain not in ("masked", "translated"):
            raise StudyError(f'{where}: over = "{ENGLISH}" goes with gain = "masked" or "translated", not with "{part.gain}"')
        if part.gain == BEST and (part.over != BASELINE or part.minus_on):
            raise StudyError(f'{where}: gain = "{BEST}" is over "{BASELINE}" alone, and without minus_on')
    return Claim(entry.id, entry.statement, entry.source, parts, entry.design)


# ---- what a study has ----


@dataclass(frozen=True, slots=True)
class Choice:
    """An intermediate choice by what it trains on. `tasks` are those with labels."""

    name: str
    form: Form
    tasks: tuple[str, ...] = ()
    material: frozenset[str] = frozenset()


def _way(model: Start) -> tuple[Train, ...]:
    """The trainings one after the other, the first first; of a search the first candidate."""
    match model:
        case Train():
            return (*_way(model.start), model)
        case Choose():
            return _way(model.among[0])
        case _:
            return ()


def _choice(name: str, cells: Sequence[CellLike]) -> Choice:
    """What a choice trains on before the target's own training, by the stages behind one of its cells."""
    cell = next((cell for cell in cells if not cell.same_data), cells[0])
    way = _way(cell.predict.model)
    if way and not way[-1].mix:  # made elsewhere: there is its name alone
        bare = name.removesuffix(MARK)
        known = _known(bare)
        return Choice(name, "none") if bare == BASELINE else Choice(name, "single" if known else "other", (bare,) if known else (), known)
    if way and {share.rows.task for share in way[-1].mix} == {cell.target}:
        way = way[:-1]
    if any(isinstance(stage, Merge) for stage in lineage(cell.predict)):
        return Choice(name, "other", material=frozenset(m for train in way for s in train.mix for m in _material(s.rows.task)))
    if not way:
        return Choice(name, "none")
    labelled = [share.rows for train in way for share in train.mix if not _raw(share.rows.task)]
    tasks = tuple(dict.fromkeys(rows.task for rows in labelled))
    material = frozenset(name for task in tasks for name in _material(task))
    form: Form = "other"
    if len(way) == 1 and cell.target not in tasks:
        if len(labelled) < len(way[0].mix):
            form = "masked"
        elif any(rows.language != "en" for rows in labelled):
            form = "translated"
        elif len(tasks) > 1:
            form = "multi"
        elif tasks == (name,):  # one task under another name has another recipe
            form = "single"
    return Choice(name, form, tasks, material)


def _known(name: str) -> frozenset[str]:
    try:
        return find_task(name).material
    except DataError:
        return frozenset()


def _material(name: str) -> frozenset[str]:
    return _known(name) | {name}


def _raw(name: str) -> bool:
    try:
        return find_task(name).kind == "mask"
    except DataError:
        return False


class _Untestable(Exception):
    """Why a contrast cannot be computed, and the planned cells that it lacks."""

    def __init__(self, why: str, missing: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.missing = tuple(missing)


# ---- judging ----


def judge(
    claims: Claims,
    results: Results,
    samples: Sequence[Sample],
    rng: np.random.Generator,
    seen: Mapping[str, Mapping[str, str]] | None = None,
    sources: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[Finding, ...]:
    """What a study says of each claim, one finding a claim and model, in the claims' order.

    `samples` are the draws of `results`. `seen` gives by model the data sets whose labels its weights have learnt from (and how),
    `sources` where a model comes from.
    """
    # what was not tuned at all is no choice of an intermediate task
    cells = [cell for cell in (*(result.cell for result in results.results), *results.missing) if cell.intermediate != UNTUNED]
    by_model: dict[str, list[CellLike]] = {}
    for cell in cells:
        by_model.setdefault(cell.model, []).append(cell)
    halves = cache(partial(_halves, samples, rng, resamples))
    models = [
        _Model(name, tuple(own), samples, (seen or {}).get(name, {}), claims.instead, halves)
        for name, own in by_model.items()
        if len({cell.intermediate for cell in own}) > 1  # one that was scored after one choice alone says nothing of gains
    ]
    out: list[Finding] = []
    for claim in claims.claims:
        if claim.design is not None:
            out.append(_designed(claim, claim.design, cells, sources or {}))
        elif models:
            out += [model.finding(claim) for model in models]
        else:
            why = "no model here was scored after two choices, so that there is no gain"
            effects = tuple(Effect(_words(part), "not testable here", *part.bound, why=why, **_published(part)) for part in claim.parts)
            out.append(Finding(claim, "", "not testable here", effects))
    return tuple(out)


@dataclass(frozen=True)
class _Model:
    """One model of a study: its choices, and the contrasts between them."""

    name: str
    cells: tuple[CellLike, ...]
    samples: Sequence[Sample]
    seen: Mapping[str, str]
    instead: Mapping[str, tuple[str, ...]]
    halves: Callable[[], Mapping[str, tuple[Sample, Sample]]]  # by target; drawn when first asked for

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """By name."""
        by_name: dict[str, list[CellLike]] = {}
        for cell in self.cells:
            by_name.setdefault(cell.intermediate, []).append(cell)
        return {name: _choice(name, own) for name, own in by_name.items()}

    def finding(self, claim: Claim) -> Finding:
        """The claim's contrasts, and what they say together."""
        effects = tuple(effect for part in claim.parts for effect in self._effects(part))
        tested = [effect for effect in effects if effect.verdict in ("supported", "contradicted", "inconclusive") and not effect.why]
        against = _against(tested, claim)
        verdict: Verdict = "inconclusive"
        confidence: float | None = None
        if against is not None:
            verdict, confidence = "contradicted", against
        elif any(effect.verdict == "not testable here" for effect in effects):
            verdict = "not testable here"
        elif all(effect.verdict == "supported" for effect in effects):
            verdict, confidence = "supported", min(effect.confidence or 0.0 for effect in effects)
        return Finding(claim, self.name, verdict, effects, confidence, on_mini=any(effect.on_mini for effect in effects))

    def _effects(self, part: Part) -> list[Effect]:
        try:
            pairs = self._pairs(part)
        except _Untestable as no:
            return [Effect(_words(part), "not testable here", *part.bound, why=str(no), **_published(part))]
        return [self._effect(part, left, right, notes) for left, right, notes in pairs]

    def _pairs(self, part: Part) -> list[tuple[list[Choice], list[Choice], list[str]]]:
        """(choices, choices that they are compared with, notes): the contrasts that a part asks for."""
        if part.gain == BEST:
            every = [choice for choice in self.choices.values() if choice.form != "none"]
            return [(every, self._named(BASELINE)[0], [])]
        left, notes = self._named(part.gain)
        match part.over:
            case "each single":
                inside = {task for choice in left for task in choice.tasks}
                lacking = [c.name for c in self._named("single")[0] if c.name not in inside]
                notes += [f"not among its tasks: {' '.join(lacking)}"] if lacking else []
                return [(left, [single], notes) for single in self._named("single")[0]]
            case "english":
                pairs = []
                for choice in left:
                    same = [c for c in self.choices.values() if c.form in ("single", "multi") and set(c.tasks) == set(choice.tasks)]
                    if not same:
                        of = " and ".join(choice.tasks)
                        raise _Untestable(f"the study has no choice that trains on {of} in English alone, to compare {choice.name} with")
                    pairs.append(([choice], same[:1], notes))
                return pairs
            case _:
                right, more = self._named(part.over)
                return [(left, right, notes + more)]

    def _named(self, word: str) -> tuple[list[Choice], list[str]]:
        """The choices that a word of a claim stands for, and what is to be said of that."""
        if word in FORMS:
            found = [choice for choice in self.choices.values() if choice.form == word]
            if word == "multi" and found:  # those on most tasks; of several samplings the mean
                most = max(len(choice.tasks) for choice in found)
                found = [choice for choice in found if len(choice.tasks) == most]
            if not found:
                raise _Untestable(f"the study has no intermediate choice of the form {word}")
            return found, []
        for name in (word, word + MARK, *self.instead.get(word, ())):
            if name in self.choices:
                return [self.choices[name]], [] if name == word else [f"{name} for {word}"]
        others = [name for name in self.instead.get(word, ()) if name != word]
        more = f" (nor {', '.join(others)} in its place)" if others else ""
        raise _Untestable(f"the study has no intermediate choice {word}{more}{nearest(word, self.choices)}")

    def _on(self, words: Sequence[str]) -> tuple[list[Sample], list[str]]:
        """The targets that words stand for (none: all), and what is to be said of that."""
        own = {cell.target for cell in self.cells}
        here = {sample.task.name: sample for sample in self.samples if sample.task.name in own}
        if not words:
            return list(here.values()), []
        found: dict[str, Sample] = {}
        notes = []
        for word in words:
            name = next((name for name in (word, *self.instead.get(word, ())) if name in here), None)
            of_kind = [sample for sample in here.values() if sample.task.kind == word]
            if name is None and not of_kind:
                what = f"target of the kind {word}" if word in KINDS else f"target {word}"
                raise _Untestable(f"the study has no {what}{'' if word in KINDS else nearest(word, here)}")
            found |= {name: here[name]} if name is not None else {sample.task.name: sample for sample in of_kind}
            notes += [f"{name} for {word}"] if name not in (None, word) else []
        return list(found.values()), notes

    def _effect(self, part: Part, left: Sequence[Choice], right: Sequence[Choice], notes: Sequence[str]) -> Effect:
        base = " and ".join(choice.name for choice in right)
        gained = f"{part.gain} choice of each target" if part.gain == BEST else _listed(left)
        blank = Effect(f"{gained} over {base}", "not testable here", *part.bound, notes=tuple(notes), **_published(part))
        try:
            left, right, told_of = self._unseen(left, right)
            samples, on_notes = self._on(part.on)
            others, off_notes = self._on(part.minus_on) if part.minus_on else ([], [])
            notes = (*notes, *told_of, *on_notes, *off_notes)
            of_best = part.gain == BEST
            groups = [self._parts(chosen, left, right, of_best) for chosen in (samples, others) if chosen]
        except _Untestable as no:
            return replace(blank, why=str(no), missing=no.missing)
        used = [[part.target for part in group] for group in groups]
        total = sum(map(len, groups))
        # as a mean over all contrasts, each weighed so that either side is a mean over its own
        contrasts = [
            one.contrast.scaled(scale)
            for sign, group in zip((1, -1), groups, strict=False)
            for scale in (sign * total / len(group),)
            for one in group
        ]
        if len({len(contrast.values) for contrast in contrasts}) > 1:
            return replace(blank, why="the targets have not the same seeds", notes=tuple(notes))
        every = [one for group in groups for one in group]
        interval = mean_of(contrasts, min(one.groups for one in every), all(one.known for one in every), crossed=of_best)
        dropped = [f"left out: {text}" for text in dict.fromkeys(text for one in every for text in one.left_out)]
        where = " ".join(dict.fromkeys(used[0])) + (f", less the gain on {' '.join(dict.fromkeys(used[1]))}" if others else "")
        side, bound = part.bound
        verdict, why = _verdict(interval, side, bound)
        return replace(
            blank,
            what=f"{part.gain if part.gain == BEST else _listed(left)} over {base}, on {where}",
            verdict=verdict,
            interval=interval,
            confidence=None if why else 1 - interval.p_of(bound) / 2,
            targets=tuple(dict.fromkeys(name for group in used for name in group)),
            why=why,
            notes=(*notes, *dropped),
            on_mini=any(name.startswith(MINI) for group in (*used, *(c.tasks for c in (*left, *right))) for name in group),
        )

    def _unseen(
        self, left: Sequence[Choice], right: Sequence[Choice]
    ) -> tuple[list[Choice], list[Choice], list[str]]:
        """The choices whose data the model had not learnt from before. Raises _Untestable where none is left, or one is asked for."""
        known = {choice.name: sorted(choice.material & self.seen.keys()) for choice in (*left, *right)}
        kept = [choice for choice in left if not known[choice.name]]
        gone = [choice for choice in (*left, *right) if known[choice.name]]
        if not gone:
            return list(left), list(right), []
        why = [f"{c.name}: the model has seen {known[c.name][0]} before ({self.seen[known[c.name][0]]})" for c in gone]
        if not kept or any(known[choice.name] for choice in right):
            raise _Untestable("; ".join(why))
        return kept, list(right), [f"left out: {line}" for line in why]

    def _parts(self, samples: Sequence[Sample], left: Sequence[Choice], right: Sequence[Choice], best: bool) -> list[_One]:
        """The contrast on each target. Raises _Untestable where cells are missing, or no target is left."""
        found: list[_One] = []
        missing: list[str] = []
        reasons: list[str] = []
        for sample in samples:
            name = sample.task.name
            fits = [c for c in left if (self.name, c.name) in sample.pairs and not sample.same_data(self.name, c.name)]
            bases = [c for c in right if (self.name, c.name) in sample.pairs and not sample.same_data(self.name, c.name)]
            gone = [f"{c.name} on {name} (same data)" for c in (*left, *right) if sample.same_data(self.name, c.name)]
            if not fits or not bases:
                reasons += gone or [f"{name}: not scored after both"]
                continue
            if odd := [c.name for c in fits if not same_languages(sample, self.name, c.name, bases[0].name)]:
                raise _Untestable(f"{name}: {odd[0]} and {bases[0].name} were not scored in the same languages, all of them")
            lacking = [line for choice in (*fits, *bases) for line in _missing(sample, self.name, choice.name)]
            if lacking:
                missing += lacking
                continue
            weights = {choice.name: self._weights(sample, choice, bases) for choice in fits}
            if len({sample.seeds(own) for own in weights.values()}) > 1 or not all(sample.has(own) for own in weights.values()):
                raise _Untestable(f"{name}: the choices have not the same seeds")
            if best:
                found += self._best(sample, weights, gone)
                continue
            mean: dict[tuple[str, str, str], float] = {}
            for own in weights.values():
                for place, weight in own.items():
                    mean[place] = mean.get(place, 0.0) + weight / len(weights)
            found.append(_One(name, sample.contrast(mean), sample.groups, sample.known(mean), tuple(gone)))
        if missing:
            raise _Untestable("cells are missing", list(dict.fromkeys(missing)))
        if not found:
            raise _Untestable("; ".join(dict.fromkeys(reasons)) or "no target is left")
        return [replace(one, left_out=(*one.left_out, *reasons)) for one in found]

    def _weights(self, sample: Sample, choice: Choice, bases: Sequence[Choice]) -> Weights:
        base: dict[tuple[str, str, str], float] = {}
        for each in bases:
            base |= language_mean(self.name, each.name, sample.languages(self.name, each.name), 1 / len(bases))
        return minus(language_mean(self.name, choice.name, sample.languages(self.name, choice.name)), base)

    def _best(self, sample: Sample, weights: Mapping[str, Weights], gone: Sequence[str]) -> list[_One]:
        """The gain of the best choice: for each seed and each half of the items, the best by the other seeds on the other half.

        The best on the very scores that it is then shown with would be too good (the winner's curse).
        """
        if not all(sample.known(own) for own in weights.values()):
            raise _Untestable(f"{sample.task.name}: the best choice is found on half of the items, and some scores came without items")
        halves = self.halves().get(sample.task.name)
        if halves is None or not all(half.has(own) for half in halves for own in weights.values()):
            raise _Untestable(f"{sample.task.name}: too few items to find the best choice on one half")
        out = []
        for here, other in (halves, halves[::-1]):
            pick = best_by_others(np.stack([other.scores(own) for own in weights.values()]))
            scored = [here.contrast(own) for own in weights.values()]
            per_seed = np.array([scored[choice].values[seed] for seed, choice in enumerate(pick)])
            sampled = np.stack([scored[choice].sampled[:, seed] for seed, choice in enumerate(pick)], axis=1)
            best_of = Contrast(per_seed, sampled, any(each.trained for each in scored))
            out.append(_One(sample.task.name, best_of, here.groups, True, tuple(gone)))
        return out


@dataclass(frozen=True, slots=True)
class _One:
    """A contrast on one target (or on half of its items)."""

    target: str
    contrast: Contrast
    groups: int
    known: bool
    left_out: tuple[str, ...]


def best_by_others(values: Floats) -> list[int]:
    """For each seed, the choice with the highest mean over the other seeds, of values [choices, S]; with one seed, its own best."""
    rest = values.sum(axis=1, keepdims=True) - values if values.shape[1] > 1 else values
    return [int(choice) for choice in rest.argmax(axis=0)]


def _halves(samples: Sequence[Sample], rng: np.random.Generator, resamples: int) -> Mapping[str, tuple[Sample, Sample]]:
    """Every target's items in two halves by a hash of the group, each with draws of its own."""
    drawn = (draw_part(samples, partial(_in_half, second), rng, resamples) for second in (False, True))
    first, other = ({sample.task.name: sample for sample in half} for half in drawn)
    return {name: (first[name], other[name]) for name in first if name in other}


def _in_half(second: bool, group: str) -> bool:
    return (unit_hash(group, "claims") >= 0.5) == second


def _missing(sample: Sample, model: str, step: str) -> list[str]:
    """The planned cells of a choice that are not there, one line a seed."""
    gone: dict[int, list[str]] = {}
    for code, seed in sample.absent.get((model, step), ()):
        gone.setdefault(seed, []).append(code)
    return [f"{step} → {sample.task.name}, seed {seed}: {' '.join(codes)}" for seed, codes in sorted(gone.items())]


def _verdict(interval: Interval, side: int, bound: float) -> tuple[Verdict, str]:
    """What one interval says, and why it may say nothing."""
    if interval.kind == "seeds only":
        return "inconclusive", "imported scores without their items: the interval lacks the part of the test set"
    if not interval.sure or interval.seeds < MIN_SEEDS:
        return "inconclusive", f"items only: {interval.seeds} seed{'s' if interval.seeds > 1 else ''}, three or more are needed"
    low, high = (interval.low - bound, interval.high - bound) if side > 0 else (bound - interval.high, bound - interval.low)
    return ("supported" if low > 0 else "contradicted" if high < 0 else "inconclusive"), ""


def _against(tested: Sequence[Effect], claim: Claim) -> float | None:
    """The confidence in the clearest contrast against the claim that stands after Holm's correction; None where none does."""
    if not tested:
        return None
    raw = np.array([2 * (1 - (effect.confidence or 0.0)) for effect in tested])
    adjusted = holm(raw).tolist()
    found = [1 - p / 2 for effect, p in zip(tested, adjusted, strict=True) if effect.verdict == "contradicted" and p < 1 - LEVEL]
    return max(found, default=None)


def _published(part: Part) -> dict[str, Any]:
    return {"published": part.published, "published_as": part.published_as}


def _words(part: Part) -> str:
    return f"{part.gain} over {part.over}"


def _listed(choices: Iterable[Choice]) -> str:
    names = [choice.name for choice in choices]
    return names[0] if len(names) == 1 else f"mean of {' '.join(names)}"


# ---- design ----


def _designed(claim: Claim, design: Design, cells: Sequence[CellLike], sources: Mapping[str, str]) -> Finding:
    """Whether a study is made as the claim says. Only what was trained here counts, not what was imported."""
    by_name: dict[str, list[CellLike]] = {}
    for cell in cells:
        if not cell.model.endswith(MARK) and not cell.intermediate.endswith(MARK):
            by_name.setdefault(cell.intermediate, []).append(cell)
    choices = {name: _choice(name, own) for name, own in by_name.items()}
    tasks = list(dict.fromkeys(task for choice in choices.values() if choice.form in ("single", "multi") for task in choice.tasks))
    if design.model:
        starts = {name: sources.get(name, name) for name in dict.fromkeys(cell.model for cell in cells)}
        good = any(start in design.model for start in starts.values())
        found = "it starts from " + ", ".join(f"{name} ({start})" if start != name else name for name, start in starts.items())
    elif design.phases:
        three = [c for name, own in by_name.items() if choices[name].form == "single" for c in own if _zero_shot(c)]
        good = bool(three)
        found = f"{three[0].intermediate}, then {three[0].target}" if three else "no English task, then a target"
        found += ", scored in languages that were not trained on"
    elif design.intermediates:
        good, found = len(tasks) >= design.intermediates, f"{len(tasks)}: {' '.join(tasks) or 'none'}"
    else:
        kinds = {_kind(task) for task in tasks}
        lacking = [kind for kind in design.kinds if kind not in kinds]
        good = not lacking
        found = f"it has {' '.join(sorted(kinds)) or 'none'}" + (f"; lacking: {' '.join(lacking)}" if lacking else "")
    on_mini = not design.model and any(task.startswith(MINI) for task in tasks)
    return Finding(claim, "", "present" if good else "absent", found=found, on_mini=on_mini)


def _zero_shot(cell: CellLike) -> bool:
    """True for a target that was trained on after an intermediate task, in a language that was not."""
    way = _way(cell.predict.model)
    return len(way) > 1 and cell.language not in {share.rows.language for train in way for share in train.mix}


def _kind(name: str) -> str:
    try:
        return find_task(name).kind
    except DataError:
        return "other"


def as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Every finding as plain values."""
    return [asdict(finding) for finding in findings]
