"""What a model answers to one example."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answered:
    """Predicted answers of one example as texts, and the scores behind them."""

    pred: tuple[str, ...]
    scores: tuple[float, ...]
