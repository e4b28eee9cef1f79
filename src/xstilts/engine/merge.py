"""Models out of trained ones, without training: their encoders merged, or the best of several."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from xstilts.engine import adapters, hf
from xstilts.engine.adapters import Weights
from xstilts.errors import ModelError
from xstilts.stages import Choose, Merge

State = Mapping[str, Tensor]


def merge(stage: Merge, base: Weights, parts: Sequence[Weights], out: Path) -> None:
    """Write the merged encoder into `out/encoder`; adapters are put into the weights first.

    Raises ModelError when the parts are not of one shape, or hold soft prompts.
    """
    encoder = adapters.folded(base)
    start = {name: value.clone() for name, value in encoder.state_dict().items()}
    states = []
    for part in parts:
        state = adapters.folded(part).state_dict()
        if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in start.items()}:
            raise ModelError(f"{part.folder.name[:12]}: its encoder has other weights than the one that it is merged onto")
        states.append(state)
    encoder.load_state_dict(merged(stage, start, states))
    hf.save_encoder(encoder, hf.load_tokenizer(base.encoder), out / "encoder")
    (out / "facts.json").write_text(json.dumps({"parts": len(parts), "method": stage.method}) + "\n", "utf-8")


def merged(stage: Merge, start: State, parts: Sequence[State]) -> dict[str, Tensor]:
    """The merged weights, computed in fp64 and given as they came; what is no real number is the base's."""
    real = [name for name, value in start.items() if value.is_floating_point()]
    weights = torch.tensor(stage.weights, dtype=torch.float64)
    if stage.method == "average":
        found = {name: average(_stacked(parts, name), weights) for name in real}
    else:
        tasks = {name: _stacked(parts, name) - start[name].double() for name in real}
        if stage.method == "ties":
            limits = [_limit([tasks[name][part] for name in real], stage.density) for part in range(len(parts))]
            moves = {name: ties(tasks[name], torch.tensor(limits, dtype=torch.float64)) for name in real}
        else:
            moves = {name: arithmetic(tasks[name], weights) for name in real}
        found = {name: start[name].double() + stage.scale * moves[name] for name in real}
    return {**start, **{name: value.to(start[name].dtype) for name, value in found.items()}}


def average(states_P: Tensor, weights_P: Tensor) -> Tensor:
    """sum_i w_i x_i / sum_i w_i over the first dimension: the soup of Wortsman et al. 2022 (arXiv 2203.05482)."""
    return torch.tensordot(weights_P / weights_P.sum(), states_P, 1)


def arithmetic(tasks_P: Tensor, weights_P: Tensor) -> Tensor:
    """sum_i w_i t_i of task vectors t_i (Ilharco et al. 2023, arXiv 2212.04089, section 4; times lambda and added by `merged`)."""
    return torch.tensordot(weights_P, tasks_P, 1)


def ties(tasks_P: Tensor, limits_P: Tensor) -> Tensor:
    """The merged task vector of Yadav et al. 2023 (arXiv 2306.01708, algorithm 1): trim, elect a sign, disjoint mean.

    Entries below their part's limit in size become 0; an entry's sign is that of the sum over the parts; the mean is over the
    parts whose entry has that sign. 0 where the sum is 0.
    """
    limits = limits_P.view(-1, *([1] * (tasks_P.dim() - 1)))
    trimmed = torch.where(tasks_P.abs() >= limits, tasks_P, 0.0)
    agree = (trimmed.sign() == trimmed.sum(0).sign()) & (trimmed != 0)
    return torch.where(agree, trimmed, 0.0).sum(0) / agree.sum(0).clamp(min=1)


def _limit(task: Sequence[Tensor], density: float) -> float:
    """The size of the smallest entry among the `density` largest of a whole task vector."""
    sizes = torch.cat([tensor.flatten().abs() for tensor in task])
    kept = max(1, round(density * len(sizes)))
    return float(sizes.kthvalue(len(sizes) - kept + 1).values)


def _stacked(parts: Sequence[State], name: str) -> Tensor:
    return torch.stack([part[name].double() for part in parts])


def choose(stage: Choose, folders: Sequence[Path], out: Path) -> None:
    """Put the files of the training with the highest dev score into `out`, the first of equals; they are linked where that works."""
    logs = [json.loads((folder / "log.json").read_text("utf-8")) for folder in folders]
    best = max(range(len(logs)), key=lambda i: (logs[i]["dev"], -i))
    for name in ("encoder", adapters.FOLDER, "heads"):
        if (folders[best] / name).is_dir():
            shutil.copytree(folders[best] / name, out / name, copy_function=_linked)
    facts = {
        "chosen": stage.among[best].key,
        "lr": stage.among[best].recipe.lr,
        "dev": logs[best]["dev"],
        "all_dev": " ".join(f"{train.recipe.lr:g}: {log['dev']:.2f}" for train, log in zip(stage.among, logs, strict=True)),
        "search_seconds": sum(log["seconds"] for log in logs),
    }
    (out / "facts.json").write_text(json.dumps(facts) + "\n", "utf-8")


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
