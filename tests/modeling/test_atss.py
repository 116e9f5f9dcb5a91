"""ATSS against loops over its definition, and the boxes that are hard to please."""

import pytest
import torch
from reference import assignment as reference
from torch import Tensor

from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.atss import ATSSAssigner

SIZE = (200, 260)
LEVELS = AnchorGenerator()([(-(-SIZE[0] // s), -(-SIZE[1] // s)) for s in (8, 16, 32, 64, 128)])


def random_boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2) * torch.tensor([200.0, 150.0])
    return torch.cat([corner, corner + torch.rand(count, 2) ** 2 * 150 + 4], dim=1)


def matched(boxes: Tensor, levels: tuple[Tensor, ...] = LEVELS, topk: int = 9) -> dict[int, int]:
    matches = ATSSAssigner(topk)(levels, boxes)
    assert matches.anchors.tolist() == sorted(set(matches.anchors.tolist()))
    return dict(zip(matches.anchors.tolist(), matches.boxes.tolist(), strict=True))


@pytest.mark.parametrize("topk", [1, 4, 9])
def test_is_its_definition(topk: int) -> None:
    boxes = random_boxes(12).double()
    levels = tuple(level.double() for level in LEVELS)
    expected = reference.assign([level.tolist() for level in levels], boxes.tolist(), topk)
    assert len(expected) > 5
    assert matched(boxes, levels, topk) == expected


def test_a_level_with_fewer_anchors_than_candidates() -> None:
    levels = AnchorGenerator()([(2, 2), (1, 1), (1, 1), (1, 1), (1, 1)])
    box = [-20.3, -21.1, 40.3, 38.7]
    expected = reference.assign([level.tolist() for level in levels], [box], 9)
    assert expected
    assert matched(torch.tensor([box]), levels) == expected


def test_equal_boxes_belong_to_the_first() -> None:
    box = torch.tensor([[20.3, 30.1, 90.7, 110.9]])
    alone = matched(box)
    assert alone
    assert matched(box.repeat(3, 1)) == alone
    assert set(matched(torch.cat([random_boxes(1) + 1000, box, box])).values()) == {1}


def test_the_box_with_the_highest_iou_wins() -> None:
    """Two boxes around one centre: each anchor goes to the box of its own size."""
    small, large = [68.2, 68.1, 131.7, 131.9], [36.2, 36.1, 163.7, 163.9]
    found = matched(torch.tensor([large, small]))
    # Not a rule of ATSS but of these numbers: P3's anchors are 64 wide, P4's 128.
    assert {box for anchor, box in found.items() if anchor < len(LEVELS[0])} == {1}
    assert {box for anchor, box in found.items() if anchor >= len(LEVELS[0])} == {0}


@pytest.mark.parametrize(
    "box",
    [
        [100.2, 100.2, 101.0, 101.0],  # between the anchors' centres
        [90.0, 90.0, 30.0, 30.0],  # corners crossed
        [5000.0, 5000.0, 5100.0, 5100.0],  # outside of the picture
        [float("nan")] * 4,
    ],
    ids=["tiny", "crossed", "outside", "nan"],
)
def test_a_box_that_no_anchor_fits(box: list[float]) -> None:
    assert matched(torch.tensor([box])) == {}
    good = random_boxes(3)
    assert matched(torch.cat([good, torch.tensor([box])])) == matched(good)


def test_a_picture_without_boxes() -> None:
    matches = ATSSAssigner()(LEVELS, torch.zeros(0, 4))
    assert matches.anchors.shape == matches.boxes.shape == (0,)
    assert matches.anchors.dtype == matches.boxes.dtype == torch.int64


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="topk must be at least 1, got 0"):
        ATSSAssigner(0)
    one = AnchorGenerator(strides=[8], sizes=[64])([(1, 1)])
    with pytest.raises(ValueError, match=r"1 level\(s\) of \[1\] anchors with topk 9 give 1"):
        ATSSAssigner()(one, random_boxes(1))
