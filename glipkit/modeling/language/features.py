"""What the text encoder hands to the tower."""

from typing import NamedTuple

from torch import Tensor


class TextFeatures(NamedTuple):
    """A caption as features. Shapes: B captions, T text tokens, D channels."""

    hidden: Tensor  # (B, T, D), updated by the tower
    embedded: Tensor  # (B, T, D), zero on padding, as the encoder gave it
    mask: Tensor  # (B, T) bool, False on padding
