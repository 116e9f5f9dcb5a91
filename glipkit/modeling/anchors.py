"""Where the detector looks: one square anchor at every position of every pyramid level."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn


class AnchorGenerator(nn.Module):
    """One square box per cell, centred on the cell (BEHAVIOUR 8).

    A cell of stride s covers the pixels 0 .. s - 1, so its centre is (s - 1) / 2, and an anchor of
    side a reaches from centre - (a - 1) / 2 to centre + (a - 1) / 2: its width counts pixels.

    There is nothing to learn and nothing to save: everything follows from the two lists of numbers.

    Args:
        strides: of each pyramid level, in pixels of the padded picture (MODEL.RPN.ANCHOR_STRIDE).
        sizes: side of each level's anchors in pixels (MODEL.RPN.ANCHOR_SIZES).

    Raises:
        ValueError: the two lists differ in length, or a number is not positive.
    """

    def __init__(
        self,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        sizes: Sequence[int] = (64, 128, 256, 512, 1024),
    ) -> None:
        super().__init__()
        if len(strides) != len(sizes):
            raise ValueError(
                f"each pyramid level needs a stride and a size, got strides {tuple(strides)} "
                f"and sizes {tuple(sizes)}"
            )
        if min(*strides, *sizes) <= 0:
            raise ValueError(
                f"strides and sizes are pixels above 0, got {tuple(strides)} and {tuple(sizes)}"
            )
        self.strides = tuple(strides)
        self.sizes = tuple(sizes)

    def forward(
        self,
        level_sizes: Sequence[tuple[int, int]],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, ...]:
        """The anchors of a pyramid.

        Args:
            level_sizes: (height, width) of each level in cells, finest first.
            device: where the anchors go.
            dtype: of the coordinates; float32 is exact for every picture.

        Returns:
            One (H*W, 4) tensor per level, row by row. They are remembered and shared between
            calls: read them, do not write into them.

        Raises:
            ValueError: the pyramid has another number of levels than this generator.
        """
        if len(level_sizes) != len(self.strides):
            raise ValueError(
                f"anchors are set for {len(self.strides)} pyramid levels (strides "
                f"{self.strides}), got {len(level_sizes)}"
            )
        device = torch.device(device)
        return tuple(
            _level_anchors(stride, size, int(height), int(width), device, dtype)
            for stride, size, (height, width) in zip(self.strides, self.sizes, level_sizes)
        )

    def extra_repr(self) -> str:
        """The numbers, for `print(model)`."""
        return f"strides={self.strides}, sizes={self.sizes}"


@lru_cache(maxsize=256)  # of a level: 50 picture sizes, a few MB
def _level_anchors(
    stride: int, size: int, height: int, width: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    # A tensor born in inference mode may not be used in training later, and this one is remembered.
    with torch.inference_mode(False):
        offset = (stride - 1) / 2
        reach = (size - 1) / 2
        x = torch.arange(width, device=device, dtype=dtype) * stride + offset
        y = torch.arange(height, device=device, dtype=dtype) * stride + offset
        centre_y, centre_x = torch.meshgrid(y, x, indexing="ij")  # (H, W), x runs fastest
        corners = (centre_x - reach, centre_y - reach, centre_x + reach, centre_y + reach)
        return torch.stack([corner.flatten() for corner in corners], dim=1)
