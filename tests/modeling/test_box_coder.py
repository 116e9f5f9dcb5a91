import math

import pytest
import torch

from glipkit.modeling.box_coder import BoxCoder

ANCHORS = torch.tensor([[0.0, 0.0, 9.0, 9.0], [10.0, 10.0, 29.0, 19.0]])  # 10x10 and 20x10 pixels


def test_encode_by_hand() -> None:
    boxes = torch.tensor([[5.0, 0.0, 14.0, 9.0], [10.0, 10.0, 49.0, 19.0]])
    expected = torch.tensor([[5.0, 0, 0, 0], [5.0, 0, 5 * math.log(2), 0]])
    torch.testing.assert_close(BoxCoder().encode(boxes, ANCHORS), expected)


def test_zero_deltas_are_the_anchor() -> None:
    torch.testing.assert_close(BoxCoder().decode(torch.zeros(2, 4), ANCHORS), ANCHORS)


def test_round_trip_in_float64_with_other_weights() -> None:
    coder = BoxCoder((1, 2, 3, 4))
    corner = torch.rand(50, 2, dtype=torch.float64) * 100
    boxes = torch.cat([corner, corner + torch.rand(50, 2, dtype=torch.float64) * 200], dim=1)
    anchors = boxes.roll(1, dims=0)
    torch.testing.assert_close(coder.decode(coder.encode(boxes, anchors), anchors), boxes)


def test_size_is_clamped_from_above_only() -> None:
    deltas = torch.tensor([[0.0, 0, 1e4, 0], [0.0, 0, -1e4, 0]])
    large, small = BoxCoder().decode(deltas, ANCHORS)
    torch.testing.assert_close(large[2] - large[0] + 1, torch.tensor(10 * 62.5))
    torch.testing.assert_close(small[2] - small[0] + 1, torch.tensor(0.0))


def test_no_boxes_and_gradients() -> None:
    none = torch.zeros(0, 4)
    assert BoxCoder().encode(none, none).shape == BoxCoder().decode(none, none).shape == (0, 4)
    deltas = torch.zeros(2, 4, requires_grad=True)
    BoxCoder().decode(deltas, ANCHORS).sum().backward()
    assert deltas.grad.isfinite().all()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="four numbers above 0"):
        BoxCoder((1, 1, 1))
    with pytest.raises(ValueError, match=r"got \(2, 4\) and \(3, 4\)"):
        BoxCoder().encode(ANCHORS, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="deltas and anchors"):
        BoxCoder().decode(torch.zeros(2, 8), ANCHORS)
