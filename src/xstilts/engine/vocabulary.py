"""Train with only the embedding rows that the data can touch, and put the full table back afterwards.

XLM-R's table has 250,002 rows, more than half of the base model's weights; a fine-tuning touches a tenth of them. A row
that no batch looks up has a zero gradient and zero moments, so that Adam leaves it as it is, to the bit; decoupled
weight decay shrinks it by the same factor at every step, which `restore` makes up for in one product (equal up to
rounding). The norm that gradients are clipped at sums the same numbers, in another order.
Nothing is trimmed where every row takes part: a softmax over the vocabulary (masked language modelling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from xstilts.engine import hf
from xstilts.engine.batch import Columns
from xstilts.families import FAMILIES


@dataclass(frozen=True)
class Trimmed:
    """What `trim` took out of a model: the full table, and which of its rows stayed."""

    table_VH: Tensor
    kept: NDArray[np.int64]  # [K] ids, ascending; the trimmed table's row k is row kept[k]
    padding: int | None  # the table's padding row, whose gradient torch leaves out

    def columns(self, made: Columns) -> Columns:
        """The columns with ids of the trimmed table. They may hold kept ids only."""
        return replace(made, ids=np.searchsorted(self.kept, made.ids).astype(np.int32))


def trim(model: PreTrainedModel, data: Sequence[Columns]) -> Trimmed | None:
    """Leave only the embedding rows that `data` looks up; None, and nothing changed, where that would change more than speed.

    A family that is not known may tell padding by its id, so that its ids must stay.
    """
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding) or model.config.model_type not in FAMILIES:
        return None
    kept = np.unique(np.concatenate([np.unique(made.ids) for made in data])).astype(np.int64)
    trimmed = Trimmed(embedding.weight.detach(), kept, embedding.padding_idx)
    _put(model, nn.Parameter(trimmed.table_VH[torch.from_numpy(kept)], embedding.weight.requires_grad), None)
    return trimmed


def restore(model: PreTrainedModel, trimmed: Trimmed, decay: float) -> None:
    """Put the full table back, with the trained rows in it; the others are multiplied by `decay`, unless the table is frozen."""
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise TypeError(f"{type(model).__name__}: the trimmed embedding is gone")
    trained = embedding.weight.detach()
    table = trimmed.table_VH.to(trained.device) * (decay if embedding.weight.requires_grad else 1.0)
    table[torch.from_numpy(trimmed.kept).to(trained.device)] = trained
    _put(model, nn.Parameter(table), trimmed.padding)


def _put(model: PreTrainedModel, table: nn.Parameter, padding: int | None) -> None:
    """Give the model another table, wherever it looks words up (T5 in two places)."""
    old = hf.embedding_of(model)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight is old:
            module.weight, module.num_embeddings, module.padding_idx = table, len(table), padding
