"""Which of a training's states is its result: the best by the dev part, the last, or a mean of several.

A state is the weights that are trained; all others stay what they were loaded as.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from xstilts.engine.parallel import local


class Standing(Protocol):
    """What of a training's position is read and written here."""

    step: int
    best_step: int
    best_score: float


def trained(whole: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are trained, by name; of those that are split over processes this process's part."""
    state = whole.state_dict(keep_vars=True)  # it puts parts in place of weights that a forward pass has left gathered
    return {name: state[name] for name, value in whole.named_parameters() if value.requires_grad}


def put(whole: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the weights that are trained the values that they have in `state`: of a sharded one this process's part."""
    with torch.no_grad():
        for name, value in trained(whole).items():
            local(value).copy_(state[name])


def averaged(average: int, selections: frozenset[int]) -> tuple[int, ...]:
    """The steps whose states make up the mean: the last `average` of the selections. () where no mean is asked for."""
    return tuple(sorted(selections)[-average:]) if average else ()


def after(
    kept: dict[str, Tensor], whole: nn.Module, standing: Standing, score: float, mean: Sequence[int], last: int
) -> dict[str, Tensor]:
    """What to keep after a selection with this score; {} stands for the last state. A new best is noted in `standing`.

    Of weights that are split over processes it is this process's part.

    With `mean` (the steps of `averaged`) it is the sum so far of their states, each over their number: the mean over one
    run of Schmidt et al. 2023 (arXiv 2305.16834).
    """
    if mean:
        return _added(kept, whole, len(mean)) if standing.step in mean else kept
    if score <= standing.best_score:
        return kept
    standing.best_score, standing.best_step = score, standing.step
    if standing.step == last:
        return {}
    return {name: local(value).cpu().clone() for name, value in trained(whole).items()}


def _added(kept: Mapping[str, Tensor], whole: nn.Module, count: int) -> dict[str, Tensor]:
    """`kept` plus a `count`-th of every weight."""
    parts = {name: local(value).cpu() / count for name, value in trained(whole).items()}
    return {name: part + kept[name] if name in kept else part for name, part in parts.items()}
