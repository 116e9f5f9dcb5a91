"""The layer that lets the words settle between two fusions: a BERT layer with bounded values."""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu

from glipkit.layers.numerics import at_least_float32, limited


class TextLayer(nn.Module):
    """One post-norm transformer layer over the text tokens.

    The layer of BERT (Devlin et al., 2019) with the published value limits (BEHAVIOUR 5.2).

    Args:
        dim: channels of a token.
        num_heads: must divide `dim`.
        hidden_dim: channels inside the MLP.
        dropout: probability, on attention weights and both sub-layer outputs; training only.
        eps: of the layer norms.

    Raises:
        ValueError: `num_heads` does not divide `dim`, or `dropout` is not in [0, 1].
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int = 12,
        hidden_dim: int = 3072,
        dropout: float = 0.1,
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got num_heads={num_heads}, dim={dim}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability in [0, 1], got {dropout}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attention_output = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=eps)
        self.intermediate = nn.Linear(dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, dim)
        self.output_norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Let the visible tokens talk to each other.

        Args:
            text: (B, T, dim).
            text_mask: (B, T) bool, False on padding. Padding listens and is never heard.

        Returns:
            (B, T, dim).
        """
        attended = self._dropped(self.attention_output(self._attend(text, text_mask)))
        text = self.attention_norm(attended + text)
        hidden = limited(gelu(limited(self.intermediate(text))))
        update = limited(self._dropped(self.output(hidden)))
        return limited(self.output_norm(update + text))

    def _attend(self, text: Tensor, text_mask: Tensor) -> Tensor:
        heads = (self.num_heads, -1)
        query = self.query(text).unflatten(2, heads).transpose(1, 2)  # (B, heads, T, head_dim)
        key = self.key(text).unflatten(2, heads).transpose(1, 2)
        value = self.value(text).unflatten(2, heads).transpose(1, 2)
        scores = at_least_float32(query @ key.mT) / query.shape[-1] ** 0.5  # (B, heads, T, T)
        unseen = torch.finfo(scores.dtype).min  # finite: an all-padding row must not become NaN
        scores = limited(scores).masked_fill(~text_mask[:, None, None, :], unseen)
        weights = self._dropped(scores.softmax(dim=-1)).to(value.dtype)
        return (weights @ value).transpose(1, 2).flatten(2)  # (B, T, dim)

    def _dropped(self, values: Tensor) -> Tensor:
        return dropout(values, self.dropout, self.training)
