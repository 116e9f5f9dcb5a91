"""Which anchors should find which box: adaptive training sample selection."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# An anchor stands for a box only if its centre is deeper inside than this, in pixels (published).
_DEPTH = 0.01


class Matches(NamedTuple):
    """The K positive anchors of one picture."""

    anchors: Tensor  # (K,) int64 over all levels, ascending
    boxes: Tensor  # (K,) int64, the box that each should find


class ATSSAssigner:
    """Adaptive training sample selection (Zhang et al., CVPR 2020; BEHAVIOUR 12).

    For each box the `topk` nearest anchors of every level are candidates. Those whose IoU is at
    least mean + standard deviation of all candidates' IoUs, and whose centre is inside the box,
    should find it. Boxes and anchors alone decide, so this runs before or beside the model.

    Args:
        topk: candidates of a box on each level (MODEL.DYHEAD.TOPK).

    Raises:
        ValueError: `topk` is less than 1.
    """

    def __init__(self, topk: int = 9) -> None:
        if topk < 1:
            raise ValueError(f"topk must be at least 1, got {topk}")
        self.topk = topk

    def __call__(self, levels: Sequence[Tensor], boxes: Tensor) -> Matches:
        """Match the anchors of one picture.

        Where anchors are equally near, `torch.topk` chooses, as published; on a GPU it may choose
        otherwise than on a CPU.

        Args:
            levels: (H*W, 4) x1 y1 x2 y2 of each pyramid level.
            boxes: (N, 4) in the same coordinates; N may be 0. A box may also match nothing.

        Returns:
            The positive anchors; an anchor that suits several boxes takes the one with the highest
            IoU, the first of equals.

        Raises:
            ValueError: there are fewer than two candidates for a box, so no deviation.
        """
        anchors = torch.cat(tuple(levels))
        if len(boxes) == 0:
            nothing = torch.zeros(0, dtype=torch.int64, device=anchors.device)
            return Matches(nothing, nothing)
        candidates = self._candidates(levels, boxes)  # (N, topk of every level)
        if candidates.shape[1] < 2:
            raise ValueError(
                f"ATSS needs two candidates to know their spread; {len(levels)} level(s) of "
                f"{[len(level) for level in levels]} anchors with topk {self.topk} give "
                f"{candidates.shape[1]}"
            )
        near = anchors[candidates]  # (N, C, 4)
        overlaps = _paired_iou(boxes[:, None], near)
        threshold = overlaps.mean(dim=1) + overlaps.std(dim=1, correction=1)
        positive = (overlaps >= threshold[:, None]) & _is_inside(_centres(near), boxes[:, None])
        box_ids, columns = positive.nonzero(as_tuple=True)
        return _best_box(
            candidates[box_ids, columns], box_ids, overlaps[box_ids, columns], len(anchors)
        )

    def __repr__(self) -> str:
        return f"ATSSAssigner(topk={self.topk})"

    def _candidates(self, levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """(N, C) int64, the nearest anchors of each level."""
        centres = _centres(boxes)
        found, start = [], 0
        for level in levels:
            x, y = _centres(level).unbind(dim=1)
            distances = (centres[:, :1] - x).square_()  # (N, H*W), the one large tensor of all this
            distances.add_((centres[:, 1:] - y).square_()).sqrt_()
            nearest = distances.topk(min(self.topk, len(level)), dim=1, largest=False).indices
            found.append(nearest + start)
            start += len(level)
        return torch.cat(found, dim=1)


def _best_box(anchors: Tensor, boxes: Tensor, overlaps: Tensor, num_anchors: int) -> Matches:
    """One box for each anchor of M (anchor, box, IoU) triples; no order of the triples matters."""
    best = overlaps.new_full((num_anchors,), -1).scatter_reduce(0, anchors, overlaps, "amax")
    is_best = overlaps == best[anchors]
    nobody = torch.iinfo(torch.int64).max
    owner = boxes.new_full((num_anchors,), nobody)
    owner = owner.scatter_reduce(0, anchors[is_best], boxes[is_best], "amin")
    positive = (owner != nobody).nonzero()[:, 0]
    return Matches(positive, owner[positive])


def _centres(boxes: Tensor) -> Tensor:
    """(..., 4) to (..., 2), x and y."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _is_inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points (..., 2) lie inside boxes (..., 4), and not on the edge."""
    depths = torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)
    return depths.amin(dim=-1) > _DEPTH


def _paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (..., 4) with the boxes at the same place; widths count pixels."""
    top_left = torch.maximum(a[..., :2], b[..., :2])
    bottom_right = torch.minimum(a[..., 2:], b[..., 2:])
    shared = (bottom_right - top_left + 1).clamp(min=0).prod(dim=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2] + 1).prod(dim=-1) for boxes in (a, b)]
    return shared / (areas[0] + areas[1] - shared)
