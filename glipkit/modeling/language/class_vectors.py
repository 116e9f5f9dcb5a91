"""From captions of single classes to one text, in which each class is a token."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from glipkit.layers.numerics import at_least_float32
from glipkit.modeling.language.features import TextFeatures


def class_vectors(captions: TextFeatures, aggregation: str) -> TextFeatures:
    """One vector of each caption, as knowledge-augmented GLIP has it (BEHAVIOUR 16).

    Args:
        captions: K captions of L tokens, a class each.
        aggregation: "first": the first token, [CLS]; "mean": of all visible tokens.

    Returns:
        A text of one row and K tokens, all visible: `hidden` and `embedded` are (1, K, D).
    """

    def vectors(tokens: Tensor) -> Tensor:
        if aggregation == "first":
            return tokens[None, :, 0]
        values = at_least_float32(tokens)
        weights = captions.mask[..., None].to(values.dtype)  # (K, L, 1)
        mean = (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return mean.to(tokens.dtype)[None]

    hidden = vectors(captions.hidden)
    mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    return TextFeatures(hidden, vectors(captions.embedded), mask)


def as_one_text(parts: Sequence[TextFeatures]) -> TextFeatures:
    """Classes side by side, and behind them a place for no object: zero, and masked.

    Args:
        parts: texts of one row, as `class_vectors` makes them.
    """
    hidden, embedded, mask = (torch.cat(tensors, dim=1) for tensors in zip(*parts))
    return TextFeatures(
        hidden=pad(hidden, (0, 0, 0, 1)),
        embedded=pad(embedded, (0, 0, 0, 1)),
        mask=pad(mask, (0, 1)),
    )
