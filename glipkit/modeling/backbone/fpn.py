"""Feature pyramid: levels that all know what the deepest map saw, five in the published models."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, relu

from glipkit.modeling.backbone.drop_block import DropBlock


class FeaturePyramid(nn.Module):
    """Maps of a backbone -> levels of equal channels, with coarser ones on top.

    Lin et al., CVPR 2017; P6 and P7 as in RetinaNet, from the output P5 (BEHAVIOUR 3).

    Args:
        in_channels: of the backbone's maps, finest first.
        channels: of every level.
        drop_block: share of the maps that is dropped in training before the output convolutions
            of all but the coarsest map; 0 drops nothing. The sum that goes down the pyramid stays
            whole.
        drop_block_size: side of a dropped square, in positions.
        extra_levels: levels on top of the maps: none, P6, or P6 and P7.

    Raises:
        ValueError: more than two extra levels, or less than none.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (192, 384, 768),
        *,
        channels: int = 256,
        drop_block: float = 0.3,
        drop_block_size: int = 3,
        extra_levels: int = 2,
    ) -> None:
        super().__init__()
        if extra_levels not in (0, 1, 2):
            raise ValueError(f"a pyramid has 0, 1 or 2 levels above its maps, got {extra_levels}")
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.outputs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels
        )
        above = [nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(extra_levels)]
        self.p6, self.p7 = (*above, None, None)[:2]
        self.drop_block = DropBlock(drop_block, block=drop_block_size)
        self.apply(_initialise)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The levels of a picture.

        Args:
            maps: each (B, C, H, W), finest first, one for each of `in_channels`.

        Returns:
            One level of (B, channels, H, W) for each map, then the extra ones, each half the one
            before (rounded up).
        """
        summed = self.laterals[-1](maps[-1])
        levels = [self.outputs[-1](summed)]
        for features, lateral, output in zip(maps[-2::-1], self.laterals[-2::-1],
                                             self.outputs[-2::-1]):  # fmt: skip
            finer = lateral(features)
            summed = finer + interpolate(summed, size=finer.shape[-2:], mode="nearest")
            levels.insert(0, output(self.drop_block(summed)))
        if self.p6 is not None:
            levels.append(_halved(levels[-1], self.p6))
        if self.p7 is not None:
            levels.append(_halved(relu(levels[-1]), self.p7))
        return tuple(levels)


def _halved(level: Tensor, convolution: nn.Module) -> Tensor:
    """The next coarser level.

    On CPUs, the bfloat16 gradient of this convolution's weight is made of memory that nobody wrote
    where the map is one pixel wide (oneDNN in torch 2.14). A column of zeros more, which is what
    lies there anyway, avoids it.
    """
    return convolution(pad(level, (0, 1)) if level.shape[-1] == 1 else level)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, a=1)
        nn.init.zeros_(module.bias)
