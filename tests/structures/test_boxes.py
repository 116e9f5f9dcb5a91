import pytest
import torch

from glipkit.structures import boxes as B

SQUARES = torch.tensor([[0.0, 0.0, 9.0, 9.0], [5.0, 0.0, 14.0, 9.0], [20.0, 20.0, 20.0, 24.0]])


def test_area_counts_pixels_or_measures_geometry() -> None:
    torch.testing.assert_close(B.area(SQUARES, plus_one=True), torch.tensor([100.0, 100.0, 5.0]))
    torch.testing.assert_close(B.area(SQUARES, plus_one=False), torch.tensor([81.0, 81.0, 0.0]))


def test_iou_by_hand() -> None:
    counted = B.iou(SQUARES, SQUARES, plus_one=True)
    # Boxes 0 and 1 share the pixels x = 5 .. 9: 5 * 10 of 100 + 100 - 50.
    torch.testing.assert_close(counted[0], torch.tensor([1.0, 50 / 150, 0.0]))
    plain = B.iou(SQUARES, SQUARES, plus_one=False)
    torch.testing.assert_close(plain[0], torch.tensor([1.0, 36 / 126, 0.0]))
    assert plain[2, 2] == 0  # no area: not 0 / 0


@pytest.mark.parametrize("plus_one", [True, False])
def test_iou_is_symmetric_and_bounded(plus_one: bool) -> None:
    corner = torch.rand(40, 2) * 50
    a = torch.cat([corner, corner + torch.rand(40, 2) * 30], dim=1)
    b = a[torch.randperm(40)][:25]
    overlap = B.iou(a, b, plus_one=plus_one)
    assert overlap.shape == (40, 25)
    torch.testing.assert_close(overlap, B.iou(b, a, plus_one=plus_one).T)
    assert overlap.min() >= 0
    assert overlap.max() <= 1


def test_neighbours_share_no_pixel() -> None:
    a, b = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[5.0, 0, 9, 4]])
    assert B.iou(a, b, plus_one=True) == 0
    assert B.iou(a, torch.tensor([[30.0, 30, 39, 39]]), plus_one=True) == 0


def test_clip_to_the_last_pixel() -> None:
    boxes = torch.tensor([[-5.0, -1.0, 700.0, 500.0], [10.0, 20.0, 30.0, 40.0]])
    expected = torch.tensor([[0.0, 0.0, 639.0, 479.0], [10.0, 20.0, 30.0, 40.0]])
    torch.testing.assert_close(B.clip(boxes, (480, 640)), expected)


def test_resize_scales_each_axis_and_back() -> None:
    resized = B.resize(SQUARES, (100, 200), (50, 600))
    torch.testing.assert_close(resized[1], torch.tensor([15.0, 0.0, 42.0, 4.5]))
    torch.testing.assert_close(B.resize(resized, (50, 600), (100, 200)), SQUARES)


def test_flip_is_its_own_inverse() -> None:
    flipped = B.flip_horizontal(SQUARES, 30)
    torch.testing.assert_close(flipped[1], torch.tensor([15.0, 0.0, 24.0, 9.0]))
    torch.testing.assert_close(B.flip_horizontal(flipped, 30), SQUARES)


def test_vertical_flip_subtracts_nothing() -> None:
    flipped = B.flip_vertical(torch.tensor([[5.0, 2.0, 14.0, 9.0]]), 30)
    torch.testing.assert_close(flipped, torch.tensor([[5.0, 21.0, 14.0, 28.0]]))
    torch.testing.assert_close(B.flip_vertical(B.flip_vertical(SQUARES, 30), 30), SQUARES)


@pytest.mark.parametrize("plus_one", [True, False])
def test_xywh_round_trip(plus_one: bool) -> None:
    xywh = B.to_xywh(SQUARES, plus_one=plus_one)
    assert xywh[1].tolist() == [5, 0, 9 + plus_one, 9 + plus_one]
    torch.testing.assert_close(B.from_xywh(xywh, plus_one=plus_one), SQUARES)


def test_no_boxes_is_fine() -> None:
    none = torch.zeros(0, 4)
    assert B.area(none, plus_one=True).shape == (0,)
    assert B.iou(none, SQUARES, plus_one=True).shape == (0, 3)
    assert B.iou(SQUARES, none, plus_one=False).shape == (3, 0)
    for result in (
        B.clip(none, (4, 4)),
        B.resize(none, (4, 4), (2, 2)),
        B.flip_horizontal(none, 4),
        B.flip_vertical(none, 4),
        B.to_xywh(none, plus_one=True),
        B.from_xywh(none),
    ):
        assert result.shape == (0, 4)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 4\), got \(3, 5\)"):
        B.area(torch.zeros(3, 5), plus_one=True)
    with pytest.raises(ValueError, match=r"got \(4,\)"):
        B.iou(SQUARES, torch.zeros(4), plus_one=True)
