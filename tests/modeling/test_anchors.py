import pytest
import torch

from glipkit.modeling.anchors import AnchorGenerator


def test_cells_are_centred_and_run_along_x_first() -> None:
    (anchors,) = AnchorGenerator(strides=(8,), sizes=(64,))([(2, 3)])
    assert anchors.shape == (6, 4)
    assert anchors[0].tolist() == [-28, -28, 35, 35]
    assert anchors[1].tolist() == [-20, -28, 43, 35]  # one step right
    assert anchors[3].tolist() == [-28, -20, 35, 43]  # next row


def test_nothing_is_saved_with_the_model() -> None:
    generator = AnchorGenerator()
    generator([(4, 4)] * 5)
    assert not generator.state_dict()
    assert not list(generator.parameters())


def test_anchors_of_inference_serve_training() -> None:
    with torch.inference_mode():
        (anchors,) = AnchorGenerator(strides=(8,), sizes=(17,))([(3, 5)])
    weight = torch.ones(4, requires_grad=True)
    (anchors * weight).sum().backward()
    torch.testing.assert_close(weight.grad, anchors.sum(0))


def test_dtype_device_and_empty_level(device: str) -> None:
    first, second = AnchorGenerator(strides=(8, 16), sizes=(64, 128))(
        [(2, 2), (0, 3)], device, torch.float64
    )
    assert first.dtype == torch.float64
    assert first.device.type == device
    assert second.shape == (0, 4)


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="needs a stride and a size"):
        AnchorGenerator(strides=(8, 16), sizes=(64,))
    with pytest.raises(ValueError, match="above 0"):
        AnchorGenerator(strides=(8,), sizes=(0,))
    with pytest.raises(ValueError, match=r"set for 5 pyramid levels .* got 2"):
        AnchorGenerator()([(1, 1), (1, 1)])
