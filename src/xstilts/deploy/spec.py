"""What a deployed model is: the facts that stand in `deployment.json` beside its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from xstilts.errors import ModelError
from xstilts.task import Task
from xstilts.tasks import task as find_task

FORM = 1
FILE = "deployment.json"
FORMATS = ("onnx", "openvino", "torch")
PRECISIONS: Mapping[str, tuple[str, ...]] = {"onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16"), "torch": ("fp32", "bf16")}
KINDS = ("classify", "choose", "tag", "span")  # what can be deployed: an encoder with a head on it


@dataclass(frozen=True, slots=True)
class Checked:
    """One language's real rows, answered by the PyTorch model in fp32 and by what was exported."""

    rows: int
    difference: float  # largest of two logits, over the largest logit of the rows (at least 1)
    same: int  # rows with equal answers
    metric: str
    reference: float  # the metric on 0-100 of the PyTorch model in fp32
    score: float  # the same of what was exported


@dataclass(frozen=True)
class Spec:
    """A model with one head: what it answers, how its input is cut, and how it is kept."""

    task: str
    kind: str
    labels: tuple[str, ...]
    languages: tuple[str, ...]  # in which it was checked, or that its task has
    max_length: int  # tokens a row, special tokens included
    stride: int  # tokens that neighbouring windows share (span)
    pool: str  # sentence vector of classify and choose: "first", "mean" or "last"
    precision: str  # "fp32", "bf16" or "int8"
    format: str = ""  # "onnx", "openvino" or "torch"; "" where it lies in a store
    layout: str = ""  # torch: the transformers class that the weights are of, "" where there is none
    stage: str = ""  # the key of the training that made it
    name: str = ""  # as its user called it
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    tolerance: float | None = None  # of Checked.difference; None where only the score's loss is told (int8)
    checked: Mapping[str, Checked] = field(default_factory=dict)  # by language

    def known_task(self) -> Task:
        """The task of this name. Raises ModelError when it has other labels now than the model was trained on."""
        found = find_task(self.task)
        if (found.kind, found.labels) != (self.kind, self.labels):
            raise ModelError(f"{self.name or self.stage[:12]}: task {self.task} has other labels now than this model was trained on")
        return found


def write_spec(spec: Spec, folder: Path, more: Mapping[str, Any]) -> None:
    """Write `deployment.json`, with further facts that nothing reads back (provenance, hashes of files)."""
    (folder / FILE).write_text(json.dumps({"form": FORM, **asdict(spec), **more}, ensure_ascii=False, indent=1) + "\n", "utf-8")


def read_spec(folder: Path) -> Spec:
    """The facts of an exported folder. Raises ModelError when they cannot be read or are of a newer form."""
    path = folder / FILE
    try:
        facts = json.loads(path.read_text("utf-8"))
        if facts["form"] > FORM:
            raise ModelError(f"{path}: written by a newer xstilts (form {facts['form']}, this one reads {FORM}); update xstilts")
        own = {each.name: facts[each.name] for each in fields(Spec)}
        lists = {name: tuple(own[name]) for name in ("labels", "languages", "inputs")}
        return Spec(**{**own, **lists, "checked": {code: Checked(**each) for code, each in own["checked"].items()}})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: cannot be read as the facts of an exported model ({error}); export it again") from None
