"""Modulated deformable convolution as BEHAVIOUR 6.1 words it: loops over single numbers."""

import math

import numpy as np


def deform_conv_loops(input, offset, mask, weight, bias, stride, padding, dilation) -> np.ndarray:
    """(B, O, OH, OW) in float64 from arrays; stride, padding, dilation are pairs."""
    O, group_channels, KH, KW = weight.shape  # noqa: E741
    B, C = input.shape[:2]
    OH, OW = offset.shape[2:]
    groups, taps = C // group_channels, KH * KW
    offset_groups = mask.shape[1] // taps
    output = np.zeros((B, O, OH, OW))
    for b, o, i, j in np.ndindex(B, O, OH, OW):
        total = 0.0 if bias is None else float(bias[o])
        for k, row, column in np.ndindex(group_channels, KH, KW):
            channel = o // (O // groups) * group_channels + k
            tap = channel // (C // offset_groups) * taps + row * KW + column
            y = i * stride[0] - padding[0] + row * dilation[0] + offset[b, 2 * tap, i, j]
            x = j * stride[1] - padding[1] + column * dilation[1] + offset[b, 2 * tap + 1, i, j]
            value = sample(input[b, channel], y, x) * mask[b, tap, i, j]
            total += float(weight[o, k, row, column]) * value
        output[b, o, i, j] = total
    return output


def sample(plane: np.ndarray, y: float, x: float) -> float:
    """Read bilinearly; a neighbour that is not in the plane counts as zero."""
    H, W = plane.shape
    if not (-1 < y < H and -1 < x < W):  # so is a NaN
        return 0.0
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < H and 0 <= column < W:
                nearness = (1 - abs(y - row)) * (1 - abs(x - column))
                total += nearness * float(plane[row, column])
    return total
