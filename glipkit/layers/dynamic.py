"""The dynamic parts of DyHead: an activation and a branch weight that depend on the picture."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import linear, relu6


def hard_sigmoid(values: Tensor) -> Tensor:
    """A piecewise linear sigmoid: 0 below -3, 1 above 3."""
    return relu6(values + 3) / 6


def average(x: Tensor) -> Tensor:
    """The mean of every channel, (B, C, H, W) to (B, C), in the type of `x`.

    A mean's gradient is a whole map of one number a channel; a sum's is no map at all.
    """
    precise = torch.promote_types(x.dtype, torch.float32)
    return (x.sum(dim=(2, 3), dtype=precise) / (x.shape[2] * x.shape[3])).to(x.dtype)


class _LargerLine(torch.autograd.Function):
    """max(slope1 x + intercept1, slope2 x + intercept2); keeps x for the backward, not the lines.

    Where the lines meet the gradient is that of the first; autograd would take half of each.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, *lines: Tensor) -> Tensor:
        slope1, intercept1, slope2, intercept2 = lines
        ctx.save_for_backward(x, *lines)
        line1 = torch.addcmul(intercept1, x, slope1)
        return torch.maximum(line1, torch.addcmul(intercept2, x, slope2))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        x, slope1, intercept1, slope2, intercept2 = ctx.saved_tensors
        second = torch.addcmul(intercept2 - intercept1, x, slope2 - slope1) > 0

        def over_positions(part: Tensor) -> Tensor:
            return part.sum(dim=(2, 3), keepdim=True)

        grad1 = grad.masked_fill(second, 0)
        grad2 = grad - grad1
        if torch.is_grad_enabled():  # for gradients of gradients nothing may be written over
            grad_lines = [over_positions(p) for p in (grad1 * x, grad1, grad2 * x, grad2)]
            return grad1 * slope1 + grad2 * slope2, *grad_lines
        # In place where it can be: fresh memory costs a CPU more than the arithmetic.
        product = grad1 * x
        grad_lines = [over_positions(product), over_positions(grad1)]
        grad_lines += [over_positions(product.copy_(grad2).mul_(x)), over_positions(grad2)]
        return grad1.mul_(slope1).addcmul_(grad2, slope2), *grad_lines


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
        lines = self.lines(average(x))
        return _LargerLine.apply(x, *(line[:, :, None, None] for line in lines))

    def lines(self, average: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Slope and intercept of one line and of the other, (B, C) each.

        Args:
            average: (B, C), the mean of every channel.
        """
        coefficients = hard_sigmoid(self.expand(self.reduce(average).relu()))  # (B, 4*C)
        slope1, intercept1, slope2, intercept2 = coefficients.chunk(4, dim=1)
        # The hard sigmoid is centred at 0.5: the first line starts as x, the second as 0.
        # Slopes (s - 0.5) * 2 + 1 and (s - 0.5) * 2, intercepts s - 0.5.
        return slope1 * 2, intercept1 - 0.5, slope2 * 2 - 1, intercept2 - 0.5


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
        return self.of_average(average(branch))[..., None, None]

    def of_average(self, average: Tensor) -> Tensor:
        """The same, (..., 1), from the mean of every channel, (..., C)."""
        return hard_sigmoid(linear(average, self.weight.flatten(1), self.bias).relu())
