"""Every error a user can meet: one line that says what is wrong and what to do next.

The command line prints `str(error)` and exits with 2. Anything that is not an
`XstiltsError` is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XstiltsError(Exception):
    """Base of all errors that the user can mend."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class StudyError(XstiltsError):
    """A study file or a value in it is wrong."""


class DataError(XstiltsError):
    """A data file is missing, truncated, unlabelled or holds a value outside its set."""


class ModelError(XstiltsError):
    """A model cannot be found or loaded, or cannot do what is asked of it."""


class TranslationError(XstiltsError):
    """A translator is missing or fails, or translations do not fit the rows that they are of."""


class StoreError(XstiltsError):
    """The store cannot be read or written."""


class ScoreError(XstiltsError):
    """Predictions and labels do not fit together."""


class TrainingError(XstiltsError):
    """A training cannot go on: a loss that is not finite, no rows, a full disk."""


class Stopped(XstiltsError):
    """A stage was asked to stop: its state is saved and the next run goes on from there."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`'; did you mean "x"?'` for the nearest known name, else an empty string."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f'; did you mean "{found[0]}"?' if found else ""
