"""The dynamic parts of DyHead: an activation and a branch weight that depend on the picture."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6


def hard_sigmoid(values: Tensor) -> Tensor:
    """A piecewise linear sigmoid: 0 below -3, 1 above 3."""
    return relu6(values + 3) / 6


class DyReLU(nn.Module):
    """The larger of two lines, whose slopes and intercepts each picture chooses per channel.

    Dynamic ReLU (Chen et al., ECCV 2020), the form shared by all positions; DyHead calls it
    task attention. BEHAVIOUR 6.4.

    Args:
        channels: of the input and the output.
        reduction: the hidden layer has `channels // reduction` units.

    Raises:
        ValueError: fewer channels than `reduction`.
    """

    def __init__(self, channels: int, *, reduction: int = 4) -> None:
        super().__init__()
        if channels < reduction:
            raise ValueError(
                f"DyReLU needs at least as many channels as its reduction, "
                f"got channels={channels}, reduction={reduction}"
            )
        self.reduce = nn.Linear(channels, channels // reduction)
        self.expand = nn.Linear(channels // reduction, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        average = x.mean(dim=(2, 3))  # (B, C)
        coefficients = hard_sigmoid(self.expand(self.reduce(average).relu()))  # (B, 4*C)
        slope1, intercept1, slope2, intercept2 = coefficients[:, :, None, None].chunk(4, dim=1)
        # The hard sigmoid is centred at 0.5: the first line starts as x, the second as 0.
        line1 = torch.addcmul(intercept1 - 0.5, x, slope1 * 2)  # slope (s - 0.5) * 2 + 1
        line2 = torch.addcmul(intercept2 - 0.5, x, slope2 * 2 - 1)  # slope (s - 0.5) * 2
        return torch.maximum(line1, line2)


class ScaleAttention(nn.Conv2d):
    """How much a branch counts for a picture, from the branch's average (DyHead section 3.1).

    A 1x1 convolution to one channel, so that its parameters are those of the published model.

    Args:
        channels: of the branch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1, kernel_size=1)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, branch: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 1, 1, 1), in [0.5, 1]: a negative score counts as 0."""
        average = branch.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        return hard_sigmoid(super().forward(average).relu())
