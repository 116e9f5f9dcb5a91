"""Attention between image and text in both directions, with all projections on the text side.

The published X-MHA projects every image token to 2048 channels three times (queries, values and
the input of the output projection). Texts are short, so the same projections can be moved to the
text side without changing the function (DESIGN 3, "Absorbed fusion"). For one head, with image
tokens x, text tokens y and A the score matrix:

    (x Wq + bq) (y Wk + bk)' = x K' + k    where K = y Wk + bk,  K' = K Wq',  k = K bq
    P (y Wv + bv) Wo         = P U         where U = (y Wv + bv) Wo
    P (x Wv + bv)            = (P x) Wv + (row sum of P) bv

Nothing of size (V, embed_dim) is ever made; only the scores know both V and T.
Shapes: B images, V image tokens of all levels, T text tokens, H heads, C channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from glipkit.layers.linear import linear
from glipkit.layers.numerics import VALUE_LIMIT, at_least_float32, limited, product_dtype

# Score of a masked text token: no softmax gives it any weight (BEHAVIOUR 5.1).
MASKED = -9e15
# Scores that are alive at once while streaming. A CPU is fastest when they stay in its cache
# between the passes over them (4 MB in float32), an accelerator when it has enough to do.
CPU_CHUNK = 2**20
ACCELERATOR_CHUNK = 2**28


class _AbsorbedText(NamedTuple):
    """The text in the channels of the image, heads side by side."""

    keys: Tensor  # (B, H*T, C), already divided by sqrt(head_dim)
    key_bias: Tensor  # (B, 1, H*T)
    values: Tensor  # (B, H*T, C)
    mask: Tensor  # (B, 1, 1, T) bool


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
        self.image_query = nn.Linear(image_dim, embed_dim)
        self.text_key = nn.Linear(text_dim, embed_dim)
        self.image_value = nn.Linear(image_dim, embed_dim)
        self.text_value = nn.Linear(text_dim, embed_dim)
        self.image_output = nn.Linear(embed_dim, image_dim)
        self.text_output = nn.Linear(embed_dim, text_dim)
        self.image_dropout = nn.Dropout(dropout)  # on what the image reads
        self.text_dropout = nn.Dropout(dropout)  # on what the text reads
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """What each side should add to itself.

        Args:
            image: (B, V, image_dim).
            text: (B, T, text_dim).
            text_mask: (B, T) bool, False on padding.

        Returns:
            The update of the image, (B, V, image_dim), and of the text, (B, T, text_dim).
        """
        absorbed = self._absorb(text, text_mask)
        if torch.is_grad_enabled() or self.training:
            image_update, context, row_sum = self._attend(image, absorbed)
        else:
            dtype = product_dtype(image)
            with torch.autocast(image.device.type, enabled=False):  # `dtype` has the say
                answers = [self._stream(*one, dtype) for one in zip(image, *absorbed)]
            image_update, context = (torch.stack(parts) for parts in zip(*answers))
            row_sum = None
        return image_update, self._text_update(context, row_sum)

    def _absorb(self, text: Tensor, text_mask: Tensor) -> _AbsorbedText:
        heads = (self.num_heads, -1)
        key = self.text_key(text).unflatten(2, heads)  # (B, T, H, head_dim)
        key = key / key.shape[-1] ** 0.5
        value = self.text_value(text).unflatten(2, heads)
        query_weight = self.image_query.weight.unflatten(0, heads)  # (H, head_dim, C)
        query_bias = self.image_query.bias.unflatten(0, heads)
        output_weight = self.image_output.weight.unflatten(1, heads)  # (C, H, head_dim)
        return _AbsorbedText(
            torch.einsum("bthd,hdc->bhtc", key, query_weight).flatten(1, 2),
            torch.einsum("bthd,hd->bht", key, query_bias).flatten(1)[:, None],
            torch.einsum("bthd,chd->bhtc", value, output_weight).flatten(1, 2),
            text_mask[:, None, None],
        )

    def _text_update(self, context: Tensor, row_sum: Tensor | None) -> Tensor:
        """From the image tokens that each head read, (B, H*T, C), to the text's update."""
        weight = self.image_value.weight.unflatten(0, (self.num_heads, -1))  # (H, head_dim, C)
        context = context.unflatten(1, (self.num_heads, -1)).to(weight.dtype)  # (B, H, T, C)
        bias = self.image_value.bias.unflatten(0, (self.num_heads, -1))
        read = torch.einsum("bhtc,hdc->bthd", context, weight)
        if row_sum is None:  # the weights of a softmax sum to 1
            read = read + bias
        else:
            read = read + torch.einsum("bht,hd->bthd", row_sum.to(bias.dtype), bias)
        return self.text_output(read.flatten(2))

    def _attend(self, image: Tensor, text: _AbsorbedText) -> tuple[Tensor, Tensor, Tensor | None]:
        """Both directions over all scores at once: differentiable, and dropout where it is on."""
        scores = torch.baddbmm(text.key_bias, image, text.keys.mT)  # (B, V, H*T)
        scores = limited(at_least_float32(scores)).unflatten(2, (self.num_heads, -1))
        # The published code subtracts the maximum and clamps at -50000 before this softmax: both
        # leave it as it is, the exponential has long been 0 there.
        text_reads = self.text_dropout(scores.softmax(dim=1))  # (B, V, H, T)
        image_reads = self.image_dropout(scores.masked_fill(~text.mask, MASKED).softmax(dim=3))
        context = text_reads.flatten(2).mT.to(image.dtype) @ image  # (B, H*T, C)
        image_update = image_reads.flatten(2).to(image.dtype) @ text.values + self.image_output.bias
        dropped = self.training and self.text_dropout.p > 0
        return image_update, context, text_reads.sum(dim=1) if dropped else None

    def _stream(
        self,
        image: Tensor,
        keys: Tensor,
        key_bias: Tensor,
        values: Tensor,
        mask: Tensor,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """The same as `_attend` without dropout and gradients, a slice of image tokens at a time.

        The softmax over the image keeps a running maximum and sum (Milakov and Gimelshein,
        "Online normalizer calculation for softmax", 2018). Matrix products run in `dtype`,
        softmaxes and sums in float32 at least. Shapes are those of one picture of the batch.
        """
        image, keys, key_bias = image.to(dtype), keys.to(dtype), key_bias[0].to(dtype)
        values, bias = values.to(dtype).mT.contiguous(), self.image_output.bias.to(dtype)
        # A sum over all image tokens may leave float16.
        sum_dtype = torch.float32 if dtype == torch.float16 else dtype

        columns = len(keys)  # H*T
        image_update = torch.empty_like(image)
        context = at_least_float32(image.new_zeros(columns, image.shape[1]))
        total = context.new_zeros(columns)
        maximum = context.new_full((columns,), -VALUE_LIMIT)  # no score is lower
        chunk = CPU_CHUNK if image.device.type == "cpu" else ACCELERATOR_CHUNK
        step = max(1, chunk // columns)
        for tokens, update in zip(image.split(step), image_update.split(step)):
            scores = at_least_float32(linear(tokens, keys, key_bias))
            scores = scores.clamp_(-VALUE_LIMIT, VALUE_LIMIT)  # (step, H*T)

            larger = torch.maximum(maximum, scores.amax(dim=0))
            faded = (maximum - larger).exp_()  # what the sums so far are worth now
            weights = (scores - larger).exp_()
            total = total * faded + weights.sum(dim=0)
            read = linear(weights.to(sum_dtype).mT, tokens.to(sum_dtype).mT)  # (H*T, C)
            context = context * faded[:, None] + read
            maximum = larger

            scores = scores.unflatten(1, (self.num_heads, -1)).masked_fill_(~mask[0], MASKED)
            update.copy_(linear(scores.softmax(dim=2).flatten(1).to(dtype), values, bias))
        return image_update, context / total[:, None]
