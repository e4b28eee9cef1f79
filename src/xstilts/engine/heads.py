"""The heads that task kinds put on an encoder. Fresh weights come from a generator that is handed in."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SentenceHead(nn.Module):
    """dropout, dense, tanh, dropout, linear on a sentence vector: XLM-R's classification head."""

    def __init__(self, hidden: int, outputs: int, rate: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(rate)
        self.dense = nn.Linear(hidden, hidden)
        self.dropout_out = nn.Dropout(rate)
        self.out = nn.Linear(hidden, outputs)

    def forward(self, vector_BH: Tensor) -> Tensor:
        """[B, outputs] logits."""
        return self.out(self.dropout_out(torch.tanh(self.dense(self.dropout(vector_BH)))))


class TokenHead(nn.Module):
    """dropout, linear on every token."""

    def __init__(self, hidden: int, outputs: int, rate: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(rate)
        self.out = nn.Linear(hidden, outputs)

    def forward(self, hidden_NH: Tensor) -> Tensor:
        """[N, outputs] logits."""
        return self.out(self.dropout(hidden_NH))


class VocabularyHead(nn.Module):
    """dense, GELU, LayerNorm and the (tied) embedding matrix with a bias: the MLM head of BERT and XLM-R."""

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states_NH: Tensor, embedding_VH: Tensor) -> Tensor:
        """[N, V] logits."""
        mixed = self.norm(nn.functional.gelu(self.dense(states_NH)))
        return nn.functional.linear(mixed, embedding_VH.to(mixed.dtype), self.bias.to(mixed.dtype))


def fresh(head: nn.Module, generator: torch.Generator) -> nn.Module:
    """`head` with normal(0, 0.02) weights and zero biases, as BERT and XLM-R start theirs; norms at one."""
    with torch.no_grad():
        for module in head.modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(torch.empty_like(module.weight).normal_(0.0, 0.02, generator=generator))
                module.bias.zero_()
    return head
