"""Boxes as the head predicts them: relative to an anchor."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# exp of a log-size above this is no box but an accident: 62.5 anchors wide (published constant).
MAX_LOG_SCALE = math.log(1000 / 16)


class BoxCoder:
    """Boxes <-> (dx, dy, dw, dh) relative to anchors (BEHAVIOUR 9).

    dx = wx (box centre - anchor centre) / anchor width, dw = ww log(box width / anchor width),
    where widths count pixels (x2 - x1 + 1) and the centre is (x1 + x2) / 2.

    Args:
        weights: (wx, wy, ww, wh), the factors that bring the four targets to a similar spread.

    Raises:
        ValueError: there are not four positive weights.
    """

    def __init__(self, weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0)) -> None:
        if len(weights) != 4 or min(weights) <= 0:
            raise ValueError(f"weights must be four numbers above 0, got {tuple(weights)}")
        self.weights = tuple(float(weight) for weight in weights)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """What the head should predict at `anchors` to give `boxes`.

        Args:
            boxes: (N, 4) x1 y1 x2 y2.
            anchors: (N, 4).

        Returns:
            (N, 4) deltas.

        Raises:
            ValueError: the two shapes differ or are not (N, 4).
        """
        _check_pair(boxes, anchors, "boxes")
        sizes, centres = _sizes_and_centres(boxes)
        anchor_sizes, anchor_centres = _sizes_and_centres(anchors)
        weights = self._weights_like(anchors)
        shifts = weights[:2] * (centres - anchor_centres) / anchor_sizes
        scales = weights[2:] * torch.log(sizes / anchor_sizes)
        return torch.cat([shifts, scales], dim=1)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """The boxes that `deltas` mean at `anchors`.

        The log-sizes are clamped from above only, so a box may shrink to nothing but not explode.

        Args:
            deltas: (N, 4).
            anchors: (N, 4) x1 y1 x2 y2.

        Returns:
            (N, 4) x1 y1 x2 y2, not clipped to any picture.

        Raises:
            ValueError: the two shapes differ or are not (N, 4).
        """
        _check_pair(deltas, anchors, "deltas")
        anchor_sizes, anchor_centres = _sizes_and_centres(anchors)
        deltas = deltas / self._weights_like(anchors)
        centres = deltas[:, :2] * anchor_sizes + anchor_centres
        sizes = torch.exp(deltas[:, 2:].clamp(max=MAX_LOG_SCALE)) * anchor_sizes
        reach = 0.5 * (sizes - 1)
        return torch.cat([centres - reach, centres + reach], dim=1)

    def _weights_like(self, values: Tensor) -> Tensor:
        """(4,), made where `values` are: copying it to a GPU would wait for the GPU."""
        return torch.stack([values.new_full((), weight) for weight in self.weights])

    def __repr__(self) -> str:
        return f"BoxCoder(weights={self.weights})"


def _sizes_and_centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(width, height) in counted pixels and (x, y) of the centre, each (N, 2)."""
    top_left, bottom_right = boxes[:, :2], boxes[:, 2:]
    return bottom_right - top_left + 1, (top_left + bottom_right) / 2


def _check_pair(values: Tensor, anchors: Tensor, name: str) -> None:
    if values.dim() != 2 or values.shape[1] != 4 or values.shape != anchors.shape:
        raise ValueError(
            f"{name} and anchors must both have shape (N, 4), got {tuple(values.shape)} and "
            f"{tuple(anchors.shape)}"
        )
