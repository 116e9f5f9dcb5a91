"""The module over the modulated deformable convolution operator: it holds weight and bias."""

import math

import torch
from torch import Tensor, nn

from glipkit.ops.deform_conv import modulated_deform_conv2d


class ModulatedDeformConv2d(nn.Module):
    """A convolution whose taps are moved and weighted by maps that the caller computes.

    Deformable ConvNets v2 (Zhu et al., CVPR 2019); conventions as in BEHAVIOUR 6.1.

    Args:
        in_channels: channels of the input, a multiple of `groups`.
        out_channels: channels of the output, a multiple of `groups`.
        kernel_size: taps along each side of the square kernel.
        stride: pixels between two outputs.
        padding: rows and columns of zeros on each side.
        dilation: pixels between two taps.
        groups: channel groups that do not see each other.

    Raises:
        ValueError: `groups` does not divide both channel counts.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups must divide in_channels and out_channels, got groups={groups}, "
                f"in_channels={in_channels}, out_channels={out_channels}"
            )
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Conv2d

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve at the moved positions.

        Args:
            x: (B, in_channels, H, W).
            offset: (B, 2*K, OH, OW) in input pixels, K taps row by row, (y, x) for each.
            mask: (B, K, OH, OW) factor of each tap, usually in [0, 1].

        Returns:
            (B, out_channels, OH, OW).
        """
        return modulated_deform_conv2d(
            x,
            offset,
            mask,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
