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


def nms_mask(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    *,
    plus_one: bool = True,
) -> Tensor:
    """Which boxes `nms` keeps, for several lists of boxes at once.

    The answer's size does not depend on what is kept, so a GPU is never waited for, and the call
    can be part of a CUDA graph. There it takes B N^2 / 8 bytes of working memory (3 MB for a
    picture's 5,000 candidates), and N is at most 131,072.

    Lists of different lengths are filled up with boxes of score minus infinity: these are not kept
    and suppress none. All else is as in `nms`.

    Args:
        boxes: (B, N, 4) float, (x1, y1, x2, y2).
        scores: (B, N) float.
        groups: (B, N) int64.
        iou_threshold: see `nms`.
        plus_one: see `nms`.

    Returns:
        (B, N) bool.

    Raises:
        ValueError: a wrong shape, dtype or device, or a threshold that is no IoU.
    """
    _check(boxes, scores, groups, iou_threshold, lists=True)
    if not use_compiled(boxes.device.type):
        return nms_mask_reference(boxes, scores, groups, iou_threshold, plus_one=plus_one)
    arguments = _full(boxes), _full(scores), groups, iou_threshold, plus_one
    return torch.ops.glipkit.nms_mask(*arguments)


def nms_mask_reference(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    *,
    plus_one: bool = True,
) -> Tensor:
    """The same as `nms_mask` in plain PyTorch, list by list on the CPU: see `nms_reference`."""
    _check(boxes, scores, groups, iou_threshold, lists=True)
    kept = torch.zeros(scores.shape, dtype=torch.bool)
    for flags, *one in zip(kept, boxes.cpu(), scores.cpu(), groups.cpu()):
        is_box = (one[1] != -torch.inf).nonzero()[:, 0]
        one = [values[is_box] for values in one]
        flags[is_box[nms_reference(*one, iou_threshold, plus_one=plus_one)]] = True
    return kept.to(boxes.device)


def _full(values: Tensor) -> Tensor:
    """At least float32, and out of reach of autograd: choosing has no gradient."""
    values = values.detach()
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _check(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, *, lists: bool = False
) -> None:
    if boxes.dim() != 2 + lists or boxes.shape[-1] != 4:
        wanted = "(B, N, 4)" if lists else "(N, 4)"
        raise ValueError(f"boxes must have shape {wanted}, got {list(boxes.shape)}")
    for name, values in (("scores", scores), ("groups", groups)):
        if values.shape != boxes.shape[:-1]:
            wanted = tuple(boxes.shape[:-1])
            raise ValueError(f"{name} must have shape {wanted}, got {list(values.shape)}")
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


def _fake_nms_mask(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, plus_one: bool
) -> Tensor:
    return scores.new_empty(scores.shape, dtype=torch.bool)


if loaded():
    torch.library.register_fake("glipkit::nms", _fake_nms)
    torch.library.register_fake("glipkit::nms_mask", _fake_nms_mask)
