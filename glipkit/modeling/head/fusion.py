"""VLFuse: one exchange between the image and the words, before each DyConv."""

import torch
from torch import Tensor, nn

from glipkit.layers.cross_attention import CrossModalityAttention


class VLFuse(nn.Module):
    """Image and text read each other and add what they read.

    Deep fusion of GLIP (Li et al., CVPR 2022, section 3.2; BEHAVIOUR 5.1). The sum is made with
    the *normalised* tokens, not with the tokens that came in: that is what the published weights
    expect.

    Args:
        attention: the cross-attention, in training with its own dropout.
        image_dim: channels of every level.
        text_dim: channels of a text token.
        num_blocks: fusions in the tower; an exchange begins as 1 / `num_blocks` of an update.
        eps: of the layer norms.

    Raises:
        ValueError: `num_blocks` is not positive.
    """

    def __init__(
        self,
        attention: CrossModalityAttention,
        *,
        image_dim: int,
        text_dim: int,
        num_blocks: int,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, got {num_blocks}")
        self.attention = attention
        self.image_norm = nn.LayerNorm(image_dim, eps=eps)
        self.text_norm = nn.LayerNorm(text_dim, eps=eps)
        self.image_scale = nn.Parameter(torch.full((image_dim,), 1 / num_blocks))
        self.text_scale = nn.Parameter(torch.full((text_dim,), 1 / num_blocks))

    def forward(
        self, levels: tuple[Tensor, ...], text: Tensor, text_mask: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Exchange once.

        Args:
            levels: (B, image_dim, H, W) each; all of them attend together.
            text: (B, T, text_dim).
            text_mask: (B, T) bool, False on padding. Padding in the image is not masked.

        Returns:
            Levels and text of the same shapes.
        """
        image = torch.cat([level.flatten(2).mT for level in levels], dim=1)  # (B, V, image_dim)
        image = self.image_norm(image)
        text = self.text_norm(text)
        image, text_update = self.attention(image, text, text_mask, image_scale=self.image_scale)
        text = torch.addcmul(text, self.text_scale, text_update)
        return _as_levels(image, levels), text


def _as_levels(image: Tensor, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cut (B, V, C) into maps of the sizes of `levels`."""
    sizes = [level.shape[-2:] for level in levels]
    parts = image.split([height * width for height, width in sizes], dim=1)
    return tuple(part.mT.unflatten(2, size) for part, size in zip(parts, sizes))
