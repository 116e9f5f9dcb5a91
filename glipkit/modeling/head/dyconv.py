"""DyConv: scale, space and task attention over all pyramid levels (DyHead, Dai et al., CVPR 2021).

Shapes: B images, C channels, H W height and width of one level, K kernel taps.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from glipkit.layers.deform_conv import ModulatedDeformConv2d
from glipkit.layers.dynamic import DyReLU, ScaleAttention
from glipkit.modeling.head.branch_mix import mix_at_once
from glipkit.ops.branches import can_mix


def read_with_smaller_grid(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Read the memory of maps made for one grid as if they were made for a smaller one.

    This is no resampling. The published operator is given the offsets of level l for a
    convolution over level l + 1, never looks at their size and walks their memory with the
    smaller grid's strides. The published weights were trained that way, so every other choice
    (cropping, resizing) gives wrong boxes (BEHAVIOUR 6.3).

    Args:
        maps: (B, K, H, W).
        size: (h, w) with h * w <= H * W.

    Returns:
        (B, K, h, w), the first K * h * w values of each image, row by row and map by map.
    """
    height, width = size
    B, K, H, W = maps.shape
    assert height * width <= H * W, f"cannot read a {size} grid from maps of {(H, W)}"
    return maps.flatten(1)[:, : K * height * width].reshape(B, K, height, width)


class DeformConvNorm(nn.Module):
    """A deformable convolution and its GroupNorm.

    Args:
        channels: of the input and the output.
        stride: of the convolution.
        kernel_size: odd; the padding keeps the size at stride 1.
        norm_groups: groups of the normalisation; must divide `channels`.
    """

    def __init__(self, channels: int, *, stride: int, kernel_size: int, norm_groups: int) -> None:
        super().__init__()
        self.conv = ModulatedDeformConv2d(
            channels, channels, kernel_size=kernel_size, stride=stride, padding=kernel_size // 2
        )
        self.norm = nn.GroupNorm(norm_groups, channels)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Shapes as in `ModulatedDeformConv2d.forward`."""
        return self.norm(self.conv(x, offset, mask))


class DyConv(nn.Module):
    """One DyHead block: every level looks at itself and at both neighbours.

    All parameters are shared by all levels, and every level reads the block's *input*, never a
    neighbour that was already updated. BEHAVIOUR 6.

    Args:
        channels: of every level.
        norm_groups: groups of the GroupNorms; must divide `channels`.
        kernel_size: taps along each side of the kernels; odd.
        relu_reduction: see `DyReLU`.

    Raises:
        ValueError: `norm_groups` does not divide `channels`, or `kernel_size` is even.
    """

    def __init__(
        self,
        channels: int,
        *,
        norm_groups: int = 16,
        kernel_size: int = 3,
        relu_reduction: int = 4,
    ) -> None:
        super().__init__()
        if channels % norm_groups:
            raise ValueError(
                f"norm_groups must divide channels, got norm_groups={norm_groups}, "
                f"channels={channels}"
            )
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd to keep the level's size, got {kernel_size}")
        self.num_taps = kernel_size**2
        branch = {"kernel_size": kernel_size, "norm_groups": norm_groups}
        self.coarser = DeformConvNorm(channels, stride=1, **branch)
        self.same = DeformConvNorm(channels, stride=1, **branch)
        self.finer = DeformConvNorm(channels, stride=2, **branch)
        # Two offsets and one mask for each tap. Zero to begin with: a regular grid, equal weights
        # (Deformable ConvNets v2, section 3.2).
        self.offset = nn.Conv2d(
            channels, 3 * self.num_taps, kernel_size=kernel_size, padding=kernel_size // 2
        )
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        self.level_attention = ScaleAttention(channels)
        self.relu = DyReLU(channels, reduction=relu_reduction)

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Update every level.

        Args:
            levels: (B, C, H, W) each, finest first; each is half the size of the one before,
                rounded up.

        Returns:
            As many levels of the same shapes.

        Raises:
            ValueError: a level is not half the size of the one before.
        """
        _check_halving(levels)
        return tuple(self._update(levels, index) for index in range(len(levels)))

    def _update(self, levels: tuple[Tensor, ...], index: int) -> Tensor:
        branches = self._convolve(levels, index)
        if can_mix(branches):
            norms = (self.same.norm, self.finer.norm, self.coarser.norm)
            return mix_at_once(branches, norms, self.level_attention, self.relu)
        return self.relu(self._mix(branches))

    def _convolve(
        self, levels: tuple[Tensor, ...], index: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Level `index` and its finer and coarser neighbours, each through its convolution."""
        x = levels[index]
        with torch.autocast(x.device.type, enabled=False):
            # 10 pixels are known to 1/16 only in bfloat16; a sampling position needs better.
            maps = _as_it_lies(self.offset, x.to(self.offset.weight.dtype)).contiguous()
        offset = maps[:, : 2 * self.num_taps]
        mask = maps[:, 2 * self.num_taps :].sigmoid()

        same, finer, coarser = self.same.conv(x, offset, mask), None, None
        if index > 0:
            finer = self.finer.conv(levels[index - 1], offset, mask)
        if index + 1 < len(levels):
            size = levels[index + 1].shape[-2:]
            coarser = self.coarser.conv(
                levels[index + 1],
                read_with_smaller_grid(offset, size),
                read_with_smaller_grid(mask, size),
            )
        return same, finer, coarser

    def _mix(self, convolved: tuple[Tensor, Tensor | None, Tensor | None]) -> Tensor:
        """The mean of the branches, normalised and weighted, at the size of the first."""
        same, finer, coarser = convolved
        branches = [self.same.norm(same)]
        if finer is not None:
            branches.append(self.finer.norm(finer))
        if coarser is not None:
            seen = self.coarser.norm(coarser)
            branches.append(
                interpolate(seen, size=same.shape[-2:], mode="bilinear", align_corners=True)
            )
        weights = [self.level_attention(branch) / len(branches) for branch in branches]
        mixed = branches[0] * weights[0]
        for branch, weight in zip(branches[1:], weights[1:]):
            mixed = torch.addcmul(mixed, branch, weight)
        return mixed


def _as_it_lies(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution, without turning a channels-last map first, as oneDNN does for the weight."""
    last = torch.channels_last
    layout = last if x.is_contiguous(memory_format=last) else torch.contiguous_format
    weight = layer.weight.contiguous(memory_format=layout)
    return conv2d(x, weight, layer.bias, layer.stride, layer.padding)


def _check_halving(levels: tuple[Tensor, ...]) -> None:
    for finer, coarser in pairwise(levels):
        expected = tuple((side + 1) // 2 for side in finer.shape[-2:])
        if tuple(coarser.shape[-2:]) != expected:
            raise ValueError(
                f"the level after one of size {tuple(finer.shape[-2:])} must have size {expected} "
                f"(half, rounded up), got {tuple(coarser.shape[-2:])}"
            )
