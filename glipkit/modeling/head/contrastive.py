"""The head that pulls boxes and the words that name them together; it exists in training only."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

# MDETR's temperature; the shared space is a sphere, so similarities lie in [-1, 1].
TEMPERATURE = 0.07


class ContrastiveAlignment(nn.Module):
    """Boxes and tokens in one space, where those that belong together are near.

    The contrastive alignment of MDETR (Kamath et al., ICCV 2021, section 2.2.2), over the positive
    anchors of a picture in place of MDETR's matched queries. In contrast to the token focal loss,
    which judges every pair by itself, here tokens compete for a box, and boxes for a token.

    Args:
        image_dim: channels of an anchor's features.
        text_dim: channels of a text token.
        hidden_dim: of the shared space (CONTRASTIVE_HIDDEN_DIM).
    """

    def __init__(self, image_dim: int, *, text_dim: int, hidden_dim: int = 64) -> None:
        super().__init__()
        self.image_projection = nn.Linear(image_dim, hidden_dim)
        self.text_projection = nn.Linear(text_dim, hidden_dim)

    def forward(self, features: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Features (..., image_dim) and text (..., text_dim) to unit vectors (..., hidden_dim)."""
        dtype = self.image_projection.weight.dtype
        return (
            normalize(self.image_projection(features.to(dtype)), dim=-1),
            normalize(self.text_projection(text.to(dtype)), dim=-1),
        )

    def loss(
        self, features: Sequence[Tensor], text: Tensor, named: Sequence[Tensor], mask: Tensor
    ) -> Tensor:
        """The mean of both directions' InfoNCE, summed over pictures; 0 without any anchor.

        Args:
            features: B times (K, image_dim), of a picture's positive anchors.
            text: (B, T, text_dim), as it left the tower.
            named: B times (K, T) bool, tokens that name the anchor's box.
            mask: (B, T) bool, tokens that compete.
        """
        anchors, words = self(torch.cat(tuple(features)), text)
        counts = [len(picture) for picture in features]
        total = anchors.new_zeros(())
        for of_picture, tokens, pairs, visible in zip(anchors.split(counts), words, named, mask):
            # Hidden tokens are left out by the choice of columns, not by a large negative number.
            columns = visible.nonzero()[:, 0]
            similarity = of_picture @ tokens[columns].mT / TEMPERATURE  # (K, visible)
            total = total + contrast(similarity, pairs[:, columns])
        return total


def contrast(similarity: Tensor, pairs: Tensor) -> Tensor:
    """(box to token + token to box) / 2 of one picture (MDETR, equations 1 and 2).

    Of each box, the mean over its tokens of -log softmax over all tokens; of each token that names
    a box, the mean over its boxes of -log softmax over all boxes; both summed.

    Args:
        similarity: (K, T), already divided by the temperature.
        pairs: (K, T) bool, what belongs together. A box or token without partner says nothing.
    """
    return (_one_way(similarity, pairs) + _one_way(similarity.mT, pairs.mT)) / 2


def _one_way(similarity: Tensor, pairs: Tensor) -> Tensor:
    surprise = -similarity.log_softmax(dim=1).masked_fill(~pairs, 0)
    return (surprise.sum(dim=1) / pairs.sum(dim=1).clamp(min=1)).sum()
