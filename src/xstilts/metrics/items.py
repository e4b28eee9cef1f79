"""What a metric gives: a numerator and a denominator for each item, so that any sample of the items can be scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xstilts.errors import ScoreError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Items:
    """A metric item by item: the score of a set of items is 100 * sum(num) / sum(den).

    A mean over rows has den = 1; micro-averaged F1 has num = 2 * matches and den = predicted + gold.
    """

    metric: str
    num: Floats  # [N]
    den: Floats  # [N]

    def __post_init__(self) -> None:
        if self.num.shape != self.den.shape or self.num.ndim != 1:
            raise ScoreError(f"{self.metric}: numerators {self.num.shape} and denominators {self.den.shape} differ in shape")
        if not len(self.num):
            raise ScoreError(f"{self.metric}: no items to score")

    def __len__(self) -> int:
        return len(self.num)

    @property
    def value(self) -> float:
        """The score on 0-100; 0 where nothing is there to count, as conlleval prints it."""
        total = float(self.den.sum())
        return 100.0 * float(self.num.sum()) / total if total else 0.0
