"""Train with only the embedding rows that the data can touch, and put the full table back afterwards.

XLM-R's table has 250,002 rows, more than half of the base model's weights; a fine-tuning touches a tenth of them. Against the same
training on the whole table:

* Equal to the bit: a step's loss, and the gradients and moments of every weight that a step's own rows reach, as long as nothing before
  has differed; without weight decay the rows that no batch looks up, which have a zero gradient and zero moments, so that Adam adds
  0 / (0 + eps) to them either way. A row that some batch looks up is in the trimmed table from the first step to the last, so that
  Adam's dense form, which goes on moving a row by its decaying moments in steps that do not look it up, does the same there. (Sparse
  or lazy Adam would not, and is no part of this.)
* Equal up to rounding: rows that no batch looks up, with weight decay. Decoupled decay (Loshchilov and Hutter 2019) multiplies them by
  1 - rate * decay at every step; `restore` multiplies once by the product, in fp64. With a mean of several states it is the mean of
  their products. An L2 penalty in the gradient would go through the moments and could not be made up for; it is no part of this.
* Equal up to rounding: the norm that gradients are clipped at. It sums the same squares and some zeros less, in another order; where the
  clip bites, all gradients of a step are scaled by a factor that differs in its last bit, and so, from there on, do the weights. A
  weight whose true gradient is zero (the bias of the keys) has rounding as its gradient, which Adam turns into steps of the rate's
  size: it wanders differently, without an effect on any answer.

A test holds predictions after some steps to 1e-5 in fp32. Nothing is trimmed where every row takes part, in a softmax over the vocabulary.
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


def refusal(model: PreTrainedModel, kinds: Iterable[str], written: bool = False) -> str | None:
    """Why nothing can be trimmed where tasks of these kinds are trained, or any kind as text (`written`); None where it can."""
    if written:
        return "no: as text every target token trains a softmax over the whole vocabulary"
    if "mask" in kinds:
        return "no: masked language modelling trains a softmax over the whole vocabulary"
    if not isinstance(model.get_input_embeddings(), nn.Embedding):
        return "no: the encoder has no table of embeddings"
    if model.config.model_type not in FAMILIES:
        return f"no: {model.config.model_type} is not a family that is known; it may tell padding by its id, so that ids must stay"
    return None


def trim(model: PreTrainedModel, data: Sequence[Columns]) -> Trimmed:
    """Leave only the embedding rows that `data` looks up, where nothing speaks against it (`refusal`)."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    kept = np.unique(np.concatenate([np.unique(made.ids) for made in data])).astype(np.int64)
    trimmed = Trimmed(embedding.weight.detach(), kept, embedding.padding_idx)
    place = np.flatnonzero(kept == embedding.padding_idx)
    table = nn.Parameter(trimmed.table_VH[torch.from_numpy(kept)], embedding.weight.requires_grad)
    _put(model, table, int(place[0]) if len(place) else None)
    return trimmed


def restore(model: PreTrainedModel, trimmed: Trimmed, decay: float) -> None:
    """Put the full table back, with the trained rows in it; the others are multiplied by `decay`, unless the table is frozen.

    The table has waited on the CPU and stays there, ready to be stored: on a GPU it would be the largest thing of all.
    """
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise TypeError(f"{type(model).__name__}: the trimmed embedding is gone")
    table = trimmed.table_VH
    if embedding.weight.requires_grad:
        table.mul_(decay)
    table[torch.from_numpy(trimmed.kept)] = embedding.weight.detach().cpu()
    _put(model, nn.Parameter(table), trimmed.padding)


def _put(model: PreTrainedModel, table: nn.Parameter, padding: int | None) -> None:
    """Give the model another table, wherever it looks words up (T5 in two places)."""
    old = hf.embedding_of(model)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight is old:
            module.weight, module.num_embeddings, module.padding_idx = table, len(table), padding
