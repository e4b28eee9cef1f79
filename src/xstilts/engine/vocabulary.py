"""Train with only the embedding rows that the data can touch, and put the full table back afterwards.

XLM-R's table has 250,002 rows, more than half of the base model's weights; a fine-tuning touches a tenth of them. A row
that no batch looks up has a zero gradient and zero moments, so that Adam leaves it as it is, to the bit; decoupled
weight decay shrinks it by the same factor at every step, which `restore` makes up for in one product (equal up to
rounding). The norm that gradients are clipped at sums the same numbers, in another order.
Nothing is trimmed where every row takes part: a softmax over the vocabulary (masked language modelling).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from xstilts.engine import hf
from xstilts.engine.batch import Columns


@dataclass(frozen=True)
class Trimmed:
    """What `trim` took out of a model: the full table, and which of its rows stayed."""

    table_VH: Tensor
    kept: NDArray[np.int64]  # [K] ids, ascending; the trimmed table's row k is row kept[k]
    padding: int | None  # the table's padding row, whose gradient torch leaves out

    def columns(self, made: Columns) -> Columns:
        """The columns with ids of the trimmed table. They may hold kept ids only."""
        return replace(made, ids=np.searchsorted(self.kept, made.ids).astype(np.int32))


def refusal(model: PreTrainedModel, kinds: Iterable[str]) -> str | None:
    """Why nothing can be trimmed where tasks of these kinds are trained; None where it can."""
    if "mask" in kinds:
        return "no: masked language modelling trains a softmax over the whole vocabulary"
    if not isinstance(model.get_input_embeddings(), nn.Embedding):
        return "no: the encoder has no table of embeddings"
    if not hf.packs(model):
        return f"no: {model.config.model_type} tells padding by its id, so that ids must stay"
    return None


def trim(model: PreTrainedModel, data: Sequence[Columns]) -> Trimmed:
    """Leave only the embedding rows that `data` looks up, where nothing speaks against it (`refusal`)."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    kept = np.unique(np.concatenate([np.unique(made.ids) for made in data])).astype(np.int64)
    trimmed = Trimmed(embedding.weight.detach(), kept, embedding.padding_idx)
    embedding.weight = nn.Parameter(trimmed.table_VH[torch.from_numpy(kept)], embedding.weight.requires_grad)
    embedding.num_embeddings, embedding.padding_idx = len(kept), None
    return trimmed


def restore(model: PreTrainedModel, trimmed: Trimmed, decay: float) -> None:
    """Put the full table back, with the trained rows in it; the others are multiplied by `decay`, unless the table is frozen."""
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise TypeError(f"{type(model).__name__}: the trimmed embedding is gone")
    trained = embedding.weight.detach()
    table = trimmed.table_VH.to(trained.device)  # on a CPU the table itself, in which the rows are put back in place
    if embedding.weight.requires_grad:
        table.mul_(decay)
    table[torch.from_numpy(trimmed.kept).to(trained.device)] = trained
    embedding.weight = nn.Parameter(table)
    embedding.num_embeddings, embedding.padding_idx = len(table), trimmed.padding
