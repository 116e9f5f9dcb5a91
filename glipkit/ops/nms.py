"""Class-aware non-maximum suppression: of boxes that overlap, keep the best of each group."""

import torch
from torch import Tensor

from glipkit.ops.library import loaded, use_compiled


def nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    *,
    plus_one: bool = True,
) -> Tensor:
    """Drop every box that a better box of the same group overlaps too much.

    Greedy, best score first; among equal scores the lower index goes first, on every device. Boxes
    are compared in their own precision; float16 and bfloat16 in float32, which holds them exactly.
    A box with a NaN coordinate has an IoU of NaN with all others, which is above nothing: it stays
    and suppresses none. A NaN score ranks above every number, as in `torch.sort`: it is seen.

    Args:
        boxes: (N, 4) float, (x1, y1, x2, y2).
        scores: (N,) float.
        groups: (N,) int64. Boxes of different groups never suppress each other.
        iou_threshold: a box goes when its IoU with a kept one is above this; 0 to 1.
        plus_one: count pixels, so that a width is x2 - x1 + 1, as the published models do
            (BEHAVIOUR 10); False: a width is x2 - x1.

    Returns:
        (K,) int64, indices of the kept boxes, best score first.

    Raises:
        ValueError: a wrong shape, dtype or device, or a threshold that is no IoU.
    """
    _check(boxes, scores, groups, iou_threshold)
    if not use_compiled(boxes.device.type):
        return nms_reference(boxes, scores, groups, iou_threshold, plus_one=plus_one)
    arguments = _full(boxes), _full(scores), groups, iou_threshold, plus_one
    return torch.ops.glipkit.nms(*arguments)


def nms_reference(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    *,
    plus_one: bool = True,
) -> Tensor:
    """The same as `nms` in plain PyTorch: slower, and in need of no compiler.

    Each decision waits for the one before, so the work is done on the CPU whatever the device.
    """
    _check(boxes, scores, groups, iou_threshold)
    order = _full(scores).cpu().argsort(descending=True, stable=True)
    ranked, ranked_groups = _full(boxes).cpu()[order], groups.cpu()[order]
    extra = 1 if plus_one else 0
    areas = (ranked[:, 2:] - ranked[:, :2] + extra).prod(dim=1)  # (N,)
    gone = torch.zeros(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if gone[i]:
            continue
        worse = slice(i + 1, None)
        bottom_right = torch.minimum(ranked[i, 2:], ranked[worse, 2:])
        top_left = torch.maximum(ranked[i, :2], ranked[worse, :2])
        intersection = (bottom_right - top_left + extra).clamp(min=0).prod(dim=1)
        iou = intersection / (areas[i] + areas[worse] - intersection)
        gone[worse] |= (iou > iou_threshold) & (ranked_groups[worse] == ranked_groups[i])
    return order[~gone].to(boxes.device)


def _full(values: Tensor) -> Tensor:
    """At least float32, and out of reach of autograd: choosing has no gradient."""
    values = values.detach()
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _check(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> None:
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), got {list(boxes.shape)}")
    for name, values in (("scores", scores), ("groups", groups)):
        if values.shape != boxes.shape[:1]:
            raise ValueError(
                f"{name} must have shape ({boxes.shape[0]},), got {list(values.shape)}"
            )
        if values.device != boxes.device:
            raise ValueError(f"{name} must be on {boxes.device}, as boxes are; got {values.device}")
    for name, values in (("boxes", boxes), ("scores", scores)):
        if not values.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {values.dtype}")
    if groups.dtype != torch.int64:
        raise ValueError(f"groups must be int64, got {groups.dtype}")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be between 0 and 1, got {iou_threshold}")


def _fake_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, plus_one: bool
) -> Tensor:
    num_kept = torch.library.get_ctx().new_dynamic_size()  # known only once it has run
    return boxes.new_empty(num_kept, dtype=torch.int64)


if loaded():
    torch.library.register_fake("glipkit::nms", _fake_nms)
