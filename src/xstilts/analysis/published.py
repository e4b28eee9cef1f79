"""Zero-shot scores that others have published: reference marks, made by other recipes, never part of a trend or a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HU = "Hu et al. 2020, XTREME, arXiv 2003.11080"
XUE = "Xue et al. 2021, mT5, arXiv 2010.11934"
PHANG = "Phang et al. 2020, X-STILTs, arXiv 2005.13013, as Xue et al. 2021 print it"
TARGETS = ("xnli", "pawsx", "panx", "xquad", "mlqa", "tydiqa")


@dataclass(frozen=True, slots=True)
class Published:
    """A model's means over a benchmark's languages, on 0-100: accuracy (xnli, pawsx) or F1."""

    model: str
    parameters: int
    scores: Mapping[str, float]
    source: str


def _row(model: str, millions: float, scores: str, source: str) -> Published:
    return Published(model, round(millions * 1e6), dict(zip(TARGETS, map(float, scores.split()), strict=True)), source)


PUBLISHED = (
    _row("mBERT", 178, "65.4 81.9 62.2 64.5 61.4 59.7", HU),
    _row("XLM-R Large", 560, "79.2 86.4 65.4 76.6 71.6 65.1", HU),
    _row("mT5 Small", 300, "67.5 82.4 50.5 58.1 54.6 36.4", XUE),
    _row("mT5 Base", 580, "75.4 86.4 55.7 67.0 64.6 59.1", XUE),
    _row("mT5 Large", 1200, "81.1 88.9 58.5 77.8 71.2 68.4", XUE),
    _row("mT5 XL", 3700, "82.9 89.6 65.5 79.5 73.5 77.8", XUE),
    _row("mT5 XXL", 13000, "85.0 90.0 69.2 82.5 76.0 82.0", XUE),
    _row("X-STILTs", 560, "80.4 87.7 64.7 77.2 72.3 76.0", PHANG),
)


def span(target: str) -> tuple[float, float]:
    """The lowest and highest mean of the pretrained models, without those that had an intermediate task; a target of `TARGETS`."""
    found = [row.scores[target] for row in PUBLISHED if row.source != PHANG]
    return min(found), max(found)
