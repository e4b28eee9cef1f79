"""The sentences that are scored: what no text that a model learns from may hold."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Raw text that holds the inputs of test sets (TyDiQA and MLQA contexts, UD and PAWS-X test sentences).
TEST_INPUTS = ("wiki_contexts_unlabelled", "ud_test_sentences_unlabelled", "pawsx_test_sentences_unlabelled")
# Sentences that a pretraining text must not hold: every string in these files.
EVALUATION = (
    "xnli/*.tsv", "pawsx/*.tsv", "xquad/*.json", "lareqa/**/*.json", "mlqa/**/*.json", "tydiqa/**/*.json", "udpos/dev-*.tsv",
    "udpos/test-*.tsv", "panx/dev-*.tsv", "panx/test-*.tsv", "xcopa/**/*.jsonl", "tatoeba/**/tatoeba.*", "bucc2018/*.en", "bucc2018/*.zh",
    "mclwic/**/*.data", "am2ico/**/*.tsv", "xvnli/**/*.jsonl", "sib200/**/*.tsv", "squad/dev-*.json", "mnli/*.jsonl", "snli/*.jsonl",
    "hellaswag/*.jsonl", "text/*_unlabelled/*.txt",
)  # fmt: skip
_DROP = re.compile(r"[\W_]+")
_END = re.compile(r"(?<=[.!?。！？।؟])\s*")


def normalised(text: str) -> str:
    """Letters and digits only, NFKC, case folded: two sentences with the same result count as equal."""
    return _DROP.sub("", unicodedata.normalize("NFKC", text).casefold())


@cache
def evaluation_sentences(data: Path) -> frozenset[str]:
    """Normalised sentences of all evaluation files under `data`; passages also sentence by sentence."""
    found: set[str] = set()
    for path in evaluation_files(data):
        for text in _strings(path):
            found.add(normalised(text))
            if len(text) > 80:
                found.update(normalised(part) for part in _END.split(text))
    return frozenset(text for text in found if len(text) > 3)  # shorter ones are words, not sentences


def _strings(path: Path) -> Iterator[str]:
    """Every string that an evaluation file holds; CoNLL-like files give whole sentences."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if path.suffix in (".json", ".data"):
        yield from _leaves(json.loads(text))
    elif path.suffix == ".jsonl":
        for line in text.splitlines():
            if line.strip():
                yield from _leaves(json.loads(line))
    elif path.parent.name in ("udpos", "panx"):
        for block in text.split("\n\n"):
            yield " ".join(line.split("\t")[0] for line in block.splitlines())
    else:
        for line in text.split("\n"):
            yield from line.split("\t")


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def evaluation_files(data: Path) -> list[Path]:
    """The evaluation files under `data`, sorted."""
    return sorted({path for pattern in EVALUATION for path in data.glob(pattern) if path.is_file()})
