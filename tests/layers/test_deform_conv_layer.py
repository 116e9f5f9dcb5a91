import pytest
import torch
from torch.nn.functional import conv2d
from torch.testing import assert_close

from glipkit.layers.deform_conv import ModulatedDeformConv2d


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel_size", "dilation", "groups"), [(3, 1, 1), (3, 2, 2), (1, 1, 1)])
def test_unmoved_taps_convolve(stride: int, kernel_size: int, dilation: int, groups: int) -> None:
    padding = dilation * (kernel_size // 2)
    layer = ModulatedDeformConv2d(
        4,
        6,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 9, 7)
    expected = conv2d(x, layer.weight, layer.bias, stride, padding, dilation, groups)
    size, taps = expected.shape[2:], kernel_size**2
    actual = layer(x, torch.zeros(2, 2 * taps, *size), torch.ones(2, taps, *size))
    assert_close(actual, expected)


def test_positions_stay_exact_under_autocast() -> None:
    """A position around 1000 is known to 4 pixels in bfloat16; the layer keeps it in float32."""
    layer = ModulatedDeformConv2d(1, 1, kernel_size=1, padding=0)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    x = (torch.arange(1500) % 2).float().view(1, 1, 1, 1500)
    offset = torch.zeros(1, 2, 1, 1500)
    offset[:, 1] = 1001 - torch.arange(1500)  # everyone reads pixel 1001
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(layer(x, offset, torch.ones(1, 1, 1, 1500)).float(), torch.ones(1, 1, 1, 1500))


def test_groups_must_divide() -> None:
    with pytest.raises(ValueError, match="groups=3, in_channels=4, out_channels=6"):
        ModulatedDeformConv2d(4, 6, groups=3)
