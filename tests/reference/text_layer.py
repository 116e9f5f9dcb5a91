"""The tower's BERT layer as published (BEHAVIOUR 5.2), under the published names.

Slow and obvious, and without a line of the package.
"""

import math

import torch
from torch import Tensor, nn

RENAMED = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
}


def clamp(x: Tensor) -> Tensor:
    return torch.clamp(x, min=-50000, max=50000)


class Output(nn.Module):
    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.dense = nn.Linear(in_dim, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=1e-12)


class PlainTextLayer(nn.Module):
    def __init__(
        self, dim: int = 768, heads: int = 12, hidden_dim: int = 3072, dropout: float = 0.1
    ):
        super().__init__()
        self.heads = heads
        self.attention = nn.Module()
        self.attention.self = nn.Module()
        self.attention.self.query = nn.Linear(dim, dim)
        self.attention.self.key = nn.Linear(dim, dim)
        self.attention.self.value = nn.Linear(dim, dim)
        self.attention.output = Output(dim, dim)
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(dim, hidden_dim)
        self.output = Output(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        B, L, D = x.shape
        size = D // self.heads
        q = self.attention.self.query(x).view(B, L, self.heads, size)
        k = self.attention.self.key(x).view(B, L, self.heads, size)
        v = self.attention.self.value(x).view(B, L, self.heads, size)
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(size)
        scores = clamp(scores) + torch.where(mask.bool(), 0.0, -1e30).to(x.dtype).view(B, 1, 1, L)
        weights = self.dropout(torch.softmax(scores, dim=-1))
        context = torch.einsum("bhij,bjhd->bihd", weights, v).reshape(B, L, D)
        attended = self.dropout(self.attention.output.dense(context))
        x = self.attention.output.LayerNorm(attended + x)

        h = clamp(self.intermediate.dense(x))
        h = clamp(h * 0.5 * (1.0 + torch.erf(h / math.sqrt(2.0))))
        h = clamp(self.dropout(self.output.dense(h)))
        return clamp(self.output.LayerNorm(h + x))
