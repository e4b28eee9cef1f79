"""What scores have cost, from the manifests of the stages behind them: time, tokens, operations, memory, energy; and what a gain costs.

A stage that several choices stand on is one entry of the store and was run once. `alone` is what a choice would have cost by itself;
`shared` divides each stage among the choices and targets that stand on it, so that these add up to what the study has cost. Making
the pretrained encoder is in neither: every choice starts from it. Seconds are wall-clock time of a stage on its worker, on whatever
machine that was and beside whatever else ran there; tokens and operations do not depend on that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xstilts import needs
from xstilts.analysis.transfer import BASELINE, Gain
from xstilts.arithmetic import Shape
from xstilts.scores import CellLike
from xstilts.stages import Predict, Pretrain, Stage, Train, lineage, root
from xstilts.stats import Interval

OPERATIONS = (
    "2 for each multiplication and addition of the layers' matrices, attention's scores and softmaxes over the vocabulary (Kaplan et al. "
    "2020, arXiv 2001.08361, section 2.1; Hoffmann et al. 2022, arXiv 2203.15556, appendix F), backward as far as anything is trained, "
    "on the tokens that were read; embeddings and heads not counted"
)


@dataclass(frozen=True, slots=True)
class Spent:
    """A sum over stages; `operations` is None where a model's size is not known. Of memory the largest, None where no stage has said it."""

    stages: float = 0.0
    seconds: float = 0.0
    tokens: float = 0.0
    operations: float | None = 0.0
    megabytes: float | None = None  # of the process
    gpu_megabytes: float | None = None  # of tensors on the GPU

    def plus(self, other: Spent, share: float = 1.0) -> Spent:
        """The sum with a share of another."""
        known = self.operations is not None and other.operations is not None
        return Spent(
            self.stages + share * other.stages,
            self.seconds + share * other.seconds,
            self.tokens + share * other.tokens,
            (self.operations or 0.0) + share * (other.operations or 0.0) if known else None,
            _larger(self.megabytes, other.megabytes),
            _larger(self.gpu_megabytes, other.gpu_megabytes),
        )

    def kilowatt_hours(self, watts: float) -> float:
        """Energy, at an assumed power of a worker while a stage runs."""
        return self.seconds * watts / 3.6e6


def _larger(one: float | None, other: float | None) -> float | None:
    return max((peak for peak in (one, other) if peak is not None), default=None)


@dataclass(frozen=True, slots=True)
class CellCost:
    """What the cells of one choice and target (all languages and seeds) have cost."""

    model: str
    intermediate: str
    target: str
    alone: Spent
    shared: Spent


@dataclass(frozen=True, slots=True)
class Offer:
    """A choice's mean gain over targets, and what it costs more than the baseline on them."""

    model: str
    intermediate: str
    targets: tuple[str, ...]
    gain: Interval | None  # None: the baseline itself
    hours: float
    operations: float | None
    front: bool  # no other choice of the model gains as much for less, or more for as little (estimates; `cost_of`)

    @property
    def per_hour(self) -> tuple[float, float, float] | None:
        """Points for an hour more: estimate and 95 % interval, the hours taken as known; None where no hour was added."""
        if self.gain is None or self.hours <= 0.0:
            return None
        return (self.gain.estimate / self.hours, self.gain.low / self.hours, self.gain.high / self.hours)


@dataclass(frozen=True, slots=True)
class Costs:
    """All of it. `unknown` are the choices and targets of which a stage's account is not at hand."""

    cells: tuple[CellCost, ...] = ()
    offers: tuple[Offer, ...] = ()
    total: Spent = Spent()  # of the cells' stages, each once
    unknown: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()


def costs(
    cells: Iterable[CellLike], manifests: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, Shape], gains: Iterable[Gain]
) -> Costs:
    """What the cells of a plan have cost. `shapes` are those of the pretrained models that are known, by key (`needs.shapes`)."""
    behind: dict[tuple[str, str, str], dict[str, Stage]] = {}
    for cell in cells:
        own = behind.setdefault((cell.model, cell.intermediate, cell.target), {})
        own.update((stage.key, stage) for stage in lineage(cell.predict) if not isinstance(stage, Pretrain))
    users: dict[str, int] = {}
    for own in behind.values():
        for key in own:
            users[key] = users.get(key, 0) + 1
    every = {key: stage for own in behind.values() for key, stage in own.items() if key in manifests}
    spent = {key: _spent(stage, manifests[key], shapes) for key, stage in every.items()}
    found, unknown = [], []
    for (model, step, target), own in behind.items():
        if not own.keys() <= spent.keys():
            unknown.append(f"{model}, {step} → {target}")
            continue
        alone, shared = Spent(), Spent()
        for key in own:
            alone, shared = alone.plus(spent[key]), shared.plus(spent[key], 1 / users[key])
        found.append(CellCost(model, step, target, alone, shared))
    total = Spent()
    for each in spent.values():
        total = total.plus(each)
    machines = tuple(dict.fromkeys(str(manifests[key]["made"].get("machine", "not recorded")) for key in every))
    return Costs(tuple(found), offers(found, gains), total, tuple(unknown), machines)


def _spent(stage: Stage, manifest: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Spent:
    facts = manifest["facts"]
    operations: float | None = 0.0
    if isinstance(stage, Train | Predict):
        shape = shapes.get(root(stage).key)
        operations = None if shape is None else needs.done(stage, shape, facts)
    peak, on_gpu = (None if facts.get(name) is None else float(facts[name]) for name in ("peak_mb", "gpu_mb"))
    return Spent(1.0, float(manifest["seconds"]), float(facts.get("tokens", 0.0)), operations, peak, on_gpu)


def offers(cells: Sequence[CellCost], gains: Iterable[Gain], baseline: str = BASELINE) -> tuple[Offer, ...]:
    """Every choice with a mean gain over targets (same data left out) and known costs, the baseline first; who is on the Pareto front."""
    spent = {(cell.model, cell.intermediate, cell.target): cell.alone for cell in cells}
    found: dict[str, list[Offer]] = {}
    for row in gains:
        if row.target or row.same_data:
            continue
        places = [((row.model, row.intermediate, target), (row.model, baseline, target)) for target in row.targets]
        if all(here in spent and there in spent for here, there in places):
            more = Spent()
            for here, there in places:
                more = more.plus(spent[here]).plus(spent[there], -1.0)
            own = found.setdefault(row.model, [Offer(row.model, baseline, (), None, 0.0, 0.0, False)])
            own.append(Offer(row.model, row.intermediate, row.targets, row.gain, more.seconds / 3600, more.operations, False))
    return tuple(_marked(offer, own) for own in found.values() for offer in own)


def _marked(offer: Offer, among: Sequence[Offer]) -> Offer:
    def place(one: Offer) -> tuple[float, float]:
        return cost_of(one, among), -one.gain.estimate if one.gain is not None else 0.0

    own = place(offer)
    beaten = any(there[0] <= own[0] and there[1] <= own[1] and there != own for there in map(place, among))
    return replace(offer, front=not beaten)


def cost_of(offer: Offer, among: Iterable[Offer]) -> float:
    """What offers are compared by: operations where they are known of all, since time depends on what else a machine does; else hours."""
    known = offer.operations if all(other.operations is not None for other in among) else None
    return offer.hours if known is None else known
