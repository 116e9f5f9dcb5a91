"""Figures that are shares, such as recall and accuracy, of pictures that have weights."""

from collections.abc import Sequence

import numpy as np


class WeighedShares:
    """Figures that are shares of what was asked; a `Weighable`.

    Args:
        names: of M figures.
        right: (N, M) int64: how much of what a picture asks was found.
        asked: (N, M) int64: how much it asks.
    """

    num_classes = 0
    rows_at_once = 256

    def __init__(self, names: Sequence[str], right: np.ndarray, asked: np.ndarray) -> None:
        self.names = tuple(names)
        self.num_pictures = len(right)
        self._right, self._asked = right, asked
        self.measured_on = (asked > 0).sum(axis=0), np.zeros(0, dtype=np.int64)

    def figures(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Weighable.figures`."""
        right, asked = weights @ self._right, weights @ self._asked
        shares = np.divide(right, asked, out=np.full(right.shape, np.nan), where=asked > 0)
        return shares, np.zeros((len(weights), 0))
