"""First values of a small new encoder that spare it steps: what random weights must find out first is put in by hand.

- Piece vectors by random indexing over parallel lines (Kanerva, Kristofersson & Holst 2000; over parallel text: Sahlgren &
  Karlgren 2005): every line has a random direction, a piece is the sum of the directions of the lines that it stands in, in
  whatever language. Pieces that mean the same begin near each other; a share of each vector is its own.
- Sinusoidal positions (Vaswani et al. 2017), fast waves in the first dimensions, slow ones in the last.
- Attention that looks for like tokens and passes on what they hold: query, key, value and output matrices near the identity
  (after mimetic initialisation; Trockman & Kolter 2023). A head sees a block of the dimensions: in XLM-R the first heads look at
  neighbours, the last ones at equal pieces anywhere. mT5 and Llama have positions of their own in every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from transformers import PreTrainedModel

OWN = 0.3  # share of a piece's vector (of its squared length) that is its own
NOISE = 0.3  # of the usual random values, beside the identity
LOOK, PASS = 1.0, 0.7  # how much of the identity queries and keys, values and outputs begin with
LONGEST_WAVE = 1000.0


def piece_vectors(
    lines: Sequence[Sequence[NDArray[np.int64]]], vocabulary: int, width: int, draw: np.random.Generator
) -> NDArray[np.float32]:
    """[V, H] vectors of unit length: `lines` are parallel lines, each with its token ids in every language."""
    ids = [np.unique(np.concatenate(sides)) for sides in lines]
    line_N, piece_N = np.repeat(np.arange(len(ids)), [len(row) for row in ids]), np.concatenate(ids)
    holds_VL = sparse.csr_matrix((np.ones(len(piece_N), np.float32), (piece_N, line_N)), shape=(vocabulary, len(lines)))
    direction_LH = draw.standard_normal((len(lines), width), np.float32)
    direction_LH -= direction_LH.mean(0)  # so that pieces which stand in every line have nothing in common with any other
    shared_VH = _unit(np.asarray(holds_VL @ direction_LH))
    return _unit((1 - OWN) ** 0.5 * shared_VH + OWN**0.5 * _unit(draw.standard_normal((vocabulary, width), np.float32)))


def _unit(rows_VH: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows_VH / np.maximum(np.linalg.norm(rows_VH, axis=1, keepdims=True), 1e-6), np.float32)


def warm(body: PreTrainedModel, pieces_VH: NDArray[np.float32]) -> None:
    """Set the first values of a new XLM-R, mT5 or Llama body, whose own weights are the noise."""
    hidden = pieces_VH.shape[1]
    model: Any = body  # transformers' modules do not say what they hold
    # XLM-R norms its embeddings; in the others they are added to what the layers give, which is of length sqrt(H)
    length = 1.0 if model.config.model_type == "xlm-roberta" else hidden**0.5
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(length * torch.from_numpy(pieces_VH))
        match model.config.model_type:
            case "mt5":
                for block in (*model.encoder.block, *model.decoder.block):
                    for layer in block.layer[:-1]:
                        own = layer.SelfAttention if hasattr(layer, "SelfAttention") else layer.EncDecAttention
                        _look(own.q, own.k, own.v, own.o, model.config.d_kv**-0.5)  # scores are not scaled in mT5
            case "llama":
                scale_softmax(model.model.norm.weight)
                for layer in model.model.layers:
                    own = layer.self_attn
                    _look(own.q_proj, own.k_proj, own.v_proj, own.o_proj)
            case _:
                positions_PH = model.embeddings.position_embeddings.weight
                positions_PH.copy_(_waves(len(positions_PH), hidden) * hidden**-0.5)
                for layer in model.encoder.layer:
                    own = layer.attention.self
                    _look(own.query, own.key, own.value, layer.attention.output.dense)


def _look(query: nn.Linear, key: nn.Linear, value: nn.Linear, out: nn.Linear, scale: float = 1.0) -> None:
    for linear, much in ((query, LOOK * scale), (key, LOOK), (value, PASS), (out, PASS)):
        near_identity(linear, much)


def scale_softmax(last_norm_H: Tensor) -> None:
    """Let the states before a softmax over embeddings of length sqrt(H) begin with length 1, as T5 scales them where the two are tied."""
    with torch.no_grad():
        last_norm_H.fill_(len(last_norm_H) ** -0.5)


def near_identity(linear: nn.Linear, much: float = 1.0) -> None:
    """`much` of the identity and a little of what `linear` was."""
    with torch.no_grad():
        linear.weight.copy_(much * torch.eye(len(linear.weight)) + NOISE * linear.weight)


def _waves(positions: int, hidden: int) -> Tensor:
    speed = LONGEST_WAVE ** -(torch.arange(hidden // 2) / (hidden // 2))
    angle = torch.arange(positions)[:, None] * speed
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)
