"""Box arithmetic on plain (N, 4) tensors.

Boxes are (x1, y1, x2, y2) with y down, in pixels. Two conventions for their width live side by side
in this field, so whoever asks for a size has to say which one is meant: `plus_one=True` counts the
pixels a box covers, w = x2 - x1 + 1, as the published model does everywhere (BEHAVIOUR, trap 8);
`plus_one=False` is plain geometry, w = x2 - x1, as LVIS and most other tools have it.
"""

import torch
from torch import Tensor


def area(boxes: Tensor, *, plus_one: bool) -> Tensor:
    """Width times height.

    Args:
        boxes: (N, 4).
        plus_one: count pixels, w = x2 - x1 + 1.

    Returns:
        (N,), in square pixels.

    Raises:
        ValueError: boxes have not four columns.
    """
    _check_boxes(boxes)
    width, height = _sides(boxes, plus_one)
    return width * height


def clip(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The boxes cut to the picture: x to [0, W - 1], y to [0, H - 1].

    Args:
        boxes: (N, 4).
        image_size: (height, width) in pixels.

    Raises:
        ValueError: boxes have not four columns.
    """
    _check_boxes(boxes)
    height, width = image_size
    x = boxes[:, 0::2].clamp(0, width - 1)
    y = boxes[:, 1::2].clamp(0, height - 1)
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)


def iou(a: Tensor, b: Tensor, *, plus_one: bool) -> Tensor:
    """Intersection over union of every box of `a` with every box of `b`.

    Args:
        a: (N, 4).
        b: (M, 4).
        plus_one: count pixels, w = x2 - x1 + 1.

    Returns:
        (N, M) in [0, 1]. Two boxes without area have IoU 0.

    Raises:
        ValueError: either side has not four columns.
    """
    _check_boxes(a)
    _check_boxes(b)
    top_left = torch.maximum(a[:, None, :2], b[None, :, :2])  # (N, M, 2)
    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (bottom_right - top_left + int(plus_one)).clamp(min=0).prod(dim=2)  # (N, M)
    union = area(a, plus_one=plus_one)[:, None] + area(b, plus_one=plus_one)[None] - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(union))


def resize(boxes: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """The same boxes in a picture scaled from one (height, width) to another.

    All four coordinates are multiplied; there is no half-pixel or -1 term (BEHAVIOUR 1).

    Args:
        boxes: (N, 4).
        from_size: (height, width) of the picture that they are in.
        to_size: (height, width) of the other.

    Raises:
        ValueError: boxes have not four columns.
    """
    _check_boxes(boxes)
    factors = boxes.new_tensor([to_size[1] / from_size[1], to_size[0] / from_size[0]] * 2)
    return boxes * factors


def flip_horizontal(boxes: Tensor, width: float) -> Tensor:
    """The same boxes in the mirrored picture: x1' = W - x2 - 1, x2' = W - x1 - 1 (BEHAVIOUR 1).

    Raises:
        ValueError: boxes have not four columns.
    """
    _check_boxes(boxes)
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2 - 1, y1, width - x1 - 1, y2], dim=1)


def flip_vertical(boxes: Tensor, height: int) -> Tensor:
    """The same boxes in the picture turned upside down: y1' = H - y2, y2' = H - y1.

    Unlike the horizontal flip it subtracts no 1, as published (BEHAVIOUR 1).

    Raises:
        ValueError: boxes have not four columns.
    """
    _check_boxes(boxes)
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([x1, height - y2, x2, height - y1], dim=1)


def to_xywh(boxes: Tensor, *, plus_one: bool) -> Tensor:
    """(x1, y1, x2, y2) as (x1, y1, width, height), the form of COCO files.

    Published COCO results count pixels, LVIS results do not (BEHAVIOUR 10).

    Raises:
        ValueError: boxes have not four columns.
    """
    _check_boxes(boxes)
    width, height = _sides(boxes, plus_one)
    return torch.stack([boxes[:, 0], boxes[:, 1], width, height], dim=1)


def from_xywh(boxes: Tensor, *, plus_one: bool = False) -> Tensor:
    """(x1, y1, width, height) as (x1, y1, x2, y2): the inverse of `to_xywh`.

    Raises:
        ValueError: boxes have not four columns.
    """
    _check_boxes(boxes)
    x1, y1, width, height = boxes.unbind(dim=1)
    return torch.stack([x1, y1, x1 + width - int(plus_one), y1 + height - int(plus_one)], dim=1)


def _sides(boxes: Tensor, plus_one: bool) -> tuple[Tensor, Tensor]:
    width = boxes[:, 2] - boxes[:, 0] + int(plus_one)
    height = boxes[:, 3] - boxes[:, 1] + int(plus_one)
    return width, height


def _check_boxes(boxes: Tensor) -> None:
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), got {tuple(boxes.shape)}")
