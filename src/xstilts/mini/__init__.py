"""The embedded benchmark: one set of meanings said in twelve languages, and text to pretrain small encoders on."""

from xstilts.mini.grammar import LANGUAGES
from xstilts.mini.text import mixed, parallel, sentences

__all__ = ["LANGUAGES", "mixed", "parallel", "sentences"]
