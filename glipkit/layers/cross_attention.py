"""Attention between image and text in both directions, with all projections on the text side.

The published X-MHA projects every image token to 2048 channels three times (queries, values and
the input of the output projection). Texts are short, so the same projections can be moved to the
text side without changing the function (DESIGN 3, "Absorbed fusion"). For one head, with image
tokens x, text tokens y and A the score matrix:

    (x Wq + bq) (y Wk + bk)' = x K' + k    where K = y Wk + bk,  K' = K Wq',  k = K bq
    P (y Wv + bv) Wo         = P U         where U = (y Wv + bv) Wo
    P (x Wv + bv)            = (P x) Wv + (row sum of P) bv

Nothing of size (V, embed_dim) is ever made, and the scores, which know both V and T, are never all
in memory (glipkit/ops/cross_attention.py), neither in inference nor for the backward pass.
Shapes: B images, V image tokens of all levels, T text tokens, H heads, C channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from glipkit.layers.linear import Linear
from glipkit.layers.numerics import VALUE_LIMIT, product_dtype
from glipkit.ops.cross_attention import bidirectional_attention


class _AbsorbedText(NamedTuple):
    """The text in the channels of the image, heads side by side."""

    keys: Tensor  # (B, H*T, C), already divided by sqrt(head_dim)
    key_bias: Tensor  # (B, H*T)
    values: Tensor  # (B, H*T, C)


class CrossModalityAttention(nn.Module):
    """Image and text attend to each other through one shared score matrix.

    X-MHA of GLIP (Li et al., CVPR 2022, section 3.2; BEHAVIOUR 5.1). The (image, text) scores are
    computed once; a softmax over the text gives what the image reads, a softmax over the image
    what the text reads. Padding tokens are never read; they read like every other token.

    Args:
        image_dim: channels of an image token.
        text_dim: channels of a text token.
        embed_dim: channels in which scores are computed, shared by all heads.
        num_heads: must divide `embed_dim`.
        dropout: probability with which an attention weight is dropped, in training.

    Raises:
        ValueError: `num_heads` does not divide `embed_dim`, or `dropout` is not in [0, 1].
    """

    def __init__(
        self,
        image_dim: int,
        text_dim: int,
        *,
        embed_dim: int = 2048,
        num_heads: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"num_heads must divide embed_dim, got num_heads={num_heads}, embed_dim={embed_dim}"
            )
        self.num_heads = num_heads
        self.image_query = Linear(image_dim, embed_dim)
        self.text_key = Linear(text_dim, embed_dim)
        self.image_value = Linear(image_dim, embed_dim)
        self.text_value = Linear(text_dim, embed_dim)
        self.image_output = Linear(embed_dim, image_dim)
        self.text_output = Linear(embed_dim, text_dim)
        self.image_dropout = nn.Dropout(dropout)  # on what the image reads
        self.text_dropout = nn.Dropout(dropout)  # on what the text reads
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        text_mask: Tensor,
        *,
        image_scale: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What each side should add to itself.

        Args:
            image: (B, V, image_dim).
            text: (B, T, text_dim).
            text_mask: (B, T) bool, False on padding.
            image_scale: (image_dim,); with it the sum `image + image_scale * update` is returned in
                place of the image's update, which saves two passes over the image.

        Returns:
            The update of the image, (B, V, image_dim), and of the text, (B, T, text_dim).
        """
        keys, key_bias, values = self._absorb(text)
        bias = self.image_output.bias
        if image_scale is not None:
            values, bias = values * image_scale, bias * image_scale
        image_dropout, text_dropout = (
            layer.p if self.training else 0.0 for layer in (self.image_dropout, self.text_dropout)
        )
        if not image_dropout:  # the weights of each head sum to 1, so each may bring its share
            values = values + bias / self.num_heads
        dtype = product_dtype(image)
        image = image.to(torch.promote_types(image.dtype, dtype))  # what is added to loses no digit
        # The published code subtracts the maximum and clamps at -50000 before the softmax over the
        # image: both leave it as it is, the exponential has long been 0 there.
        with torch.autocast(image.device.type, enabled=False):  # `dtype` has the say
            update, context, row_sum = bidirectional_attention(
                image,
                *(tensor.to(dtype) for tensor in (keys, key_bias, values)),
                text_mask,
                self.num_heads,
                residual=image_scale is not None,
                limit=VALUE_LIMIT,
                image_dropout=image_dropout,
                text_dropout=text_dropout,
            )
            if image_dropout:
                update = update + bias.to(update.dtype)
        return update, self._text_update(context, row_sum)

    def _absorb(self, text: Tensor) -> _AbsorbedText:
        heads = (self.num_heads, -1)
        key = self.text_key(text).unflatten(2, heads)  # (B, T, H, head_dim)
        key = key / key.shape[-1] ** 0.5
        value = self.text_value(text).unflatten(2, heads)
        query_weight = self.image_query.weight.unflatten(0, heads)  # (H, head_dim, C)
        query_bias = self.image_query.bias.unflatten(0, heads)
        output_weight = self.image_output.weight.unflatten(1, heads)  # (C, H, head_dim)
        return _AbsorbedText(
            torch.einsum("bthd,hdc->bhtc", key, query_weight).flatten(1, 2),
            torch.einsum("bthd,hd->bht", key, query_bias).flatten(1),
            torch.einsum("bthd,chd->bhtc", value, output_weight).flatten(1, 2),
        )

    def _text_update(self, context: Tensor, row_sum: Tensor) -> Tensor:
        """From the image tokens that each head read, (B, H*T, C), to the text's update."""
        heads = (self.num_heads, -1)
        weight = self.image_value.weight.unflatten(0, heads)  # (H, head_dim, C)
        bias = self.image_value.bias.unflatten(0, heads)
        context = context.unflatten(1, heads).to(weight.dtype)  # (B, H, T, C)
        row_sum = row_sum.unflatten(1, heads).to(bias.dtype)  # 1, or what dropout makes of it
        read = torch.einsum("bhtc,hdc->bthd", context, weight)
        read = read + torch.einsum("bht,hd->bthd", row_sum, bias)
        return self.text_output(read.flatten(2))
