"""The operators beside torchvision's: python benchmarks/ops.py [--names NAME ...] [--json PATH].

Every operator gets its input as its own network has it: ours channels-last, as the tower is
kept, torchvision's channels-first; how long ours takes with that is in the file as well.
torchvision knows no bfloat16 here, so with --dtype bfloat16 it works in float32.
"""

import argparse
import functools
import statistics
import sys
from collections.abc import Callable

import counts
import torch
import torchvision
from rows import DTYPES, Row, difference, timed
from rows import main as program
from timing import turns
from torch import Tensor
from torch.nn.functional import conv2d

from glipkit.ops.deform_conv import modulated_deform_conv2d
from glipkit.ops.nms import nms

ROWS = ("deform_conv_forward", "deform_conv_backward", "nms_80_classes")
CHANNELS = 256
HEIGHT, WIDTH = 100, 134  # the finest level of an 800 x 1072 picture
BOXES, CLASSES = 10_000, 80
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}  # relative L2: rounding of sums in another order
REPEATS = 11


class Convolution:
    """Leaves in one layout and precision, and what is computed from them."""

    def __init__(self, function: Callable[..., Tensor], leaves: list[Tensor], grad: Tensor) -> None:
        self.function = function
        self.leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        self.grad = grad
        self.output: Tensor | None = None

    def forward(self) -> list[Tensor]:
        """The output, as inference has it."""
        with torch.no_grad():
            return [self.function(*self.leaves)]

    def backward(self) -> tuple[Tensor, ...]:
        """All gradients; the forward pass is done once, before."""
        if self.output is None:
            self.output = self.function(*self.leaves)
        return torch.autograd.grad(self.output, self.leaves, self.grad, retain_graph=True)


def ours(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3 x 3, stride 1, same size."""
    return modulated_deform_conv2d(x, offset, mask, weight, bias, padding=1)


def theirs(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same by torchvision."""
    return torchvision.ops.deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)


def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A plain convolution of the same size: as fast as this could be."""
    return conv2d(x, weight, bias, padding=1)


def channels_last(leaves: list[Tensor]) -> list[Tensor]:
    """Feature maps with the channels of a position side by side."""
    return [leaf.contiguous(memory_format=torch.channels_last) if leaf.dim() == 4 else leaf
            for leaf in leaves]  # fmt: skip


def deform_conv(name: str, arguments: argparse.Namespace) -> Row:
    """Forward or backward (all five gradients) of a 3 x 3 kernel with bias."""
    H, W = (20, 27) if arguments.quick else (HEIGHT, WIDTH)
    torch.manual_seed(0)
    leaves = [
        torch.randn(1, CHANNELS, H, W),
        torch.randn(1, 18, H, W),  # pixels: as far as trained offsets mostly reach
        torch.rand(1, 9, H, W),
        torch.randn(CHANNELS, CHANNELS, 3, 3) / (9 * CHANNELS) ** 0.5,
        torch.randn(CHANNELS),
    ]
    leaves = [leaf.to(arguments.device) for leaf in leaves]
    grad = torch.randn(1, CHANNELS, H, W, device=arguments.device)
    low = DTYPES[arguments.dtype]
    low_leaves, low_grad = [leaf.to(low) for leaf in leaves], grad.to(low)
    if low != torch.float32:  # the reference starts from the same numbers
        leaves, grad = [leaf.float() for leaf in low_leaves], low_grad.float()
    x, _, _, weight, bias = channels_last(low_leaves)
    sides = {
        "ours": Convolution(ours, channels_last(low_leaves), *channels_last([low_grad])),
        "reference": Convolution(theirs, leaves, grad),
        "channels_first": Convolution(ours, low_leaves, low_grad),
        "plain": Convolution(plain, [x, weight, bias], *channels_last([low_grad])),
    }
    direction = name.removeprefix("deform_conv_")
    calls = {side: getattr(each, direction) for side, each in sides.items()}
    apart = difference(calls["ours"](), calls["reference"]())
    seconds = turns(list(calls.values()), 1 if arguments.quick else REPEATS)
    medians = dict(zip(calls, map(statistics.median, seconds)))
    count = counts.deform_conv if direction == "forward" else counts.deform_conv_backward
    work = counts.fields(count(H * W, H * W, CHANNELS, CHANNELS, element=low.itemsize))
    return timed(
        name,
        seconds[:2],
        difference=apart,
        tolerance=TOLERANCE[arguments.dtype],
        arguments=arguments,
        against="torchvision.ops.deform_conv2d",
        size=f"{CHANNELS} channels, {H}x{W}, 3x3",
        extra={
            "ours_channels_first": medians["channels_first"],
            "plain_convolution": medians["plain"],
            "ours_over_plain_convolution": medians["ours"] / medians["plain"],
        },
        **work,
    )


def suppression(name: str, arguments: argparse.Namespace) -> Row:
    """Boxes of many classes; torchvision's width convention, which both know."""
    count = 500 if arguments.quick else BOXES
    torch.manual_seed(0)
    corner = torch.rand(count, 2) * 1000
    boxes = torch.cat([corner, corner + 10 + torch.rand(count, 2) * 200], dim=1)
    scores = (torch.randperm(count) + 1) / count  # no ties: torchvision draws lots
    classes = torch.randint(CLASSES, (count,))
    boxes, scores, classes = (t.to(arguments.device) for t in (boxes, scores, classes))
    calls = [
        lambda: nms(boxes, scores, classes, 0.5, plus_one=False),
        lambda: torchvision.ops.batched_nms(boxes, scores, classes, 0.5),
    ]
    apart = difference(*([call()] for call in calls))
    return timed(
        name,
        turns(calls, 1 if arguments.quick else 5 * REPEATS),
        difference=apart,
        tolerance=0.0,  # the same indices in the same order
        arguments=arguments,
        against="torchvision.ops.batched_nms",
        size=f"{count} boxes, {CLASSES} classes",
        **counts.fields(counts.nms(count)),
    )


def rows(arguments: argparse.Namespace) -> list[dict]:
    """The rows of `arguments.names`."""
    return [
        (suppression if name == "nms_80_classes" else deform_conv)(name, arguments).as_dict()
        for name in arguments.names
    ]


main = functools.partial(program, ROWS, rows, __doc__)

if __name__ == "__main__":
    sys.exit(main())
