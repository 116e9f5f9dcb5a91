"""glipkit's operators beside torchvision's, in one run: python benchmarks/ops.py [--json PATH].

The two take turns, so that a ratio holds on a busy machine too. Where their results differ by more
than rounding there is no ratio: a fast wrong answer is no answer.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from timing import interleaved, machine
from torch import Tensor

from glipkit.ops.deform_conv import modulated_deform_conv2d
from glipkit.ops.library import loaded
from glipkit.ops.nms import nms

# The pyramid of an 800 x 1072 picture, as DyConv sees it: size of the input, stride.
LEVELS = [((100, 134), 1), ((100, 134), 2), ((50, 67), 1), ((25, 34), 1), ((7, 9), 1)]
CHANNELS = 256
BOXES, CLASSES = 10_000, 80


@dataclass
class Comparison:
    """One operator at one size; seconds are medians, the ratio torchvision / glipkit."""

    operator: str
    size: str
    device: str
    dtype: str
    glipkit_seconds: float
    torchvision_seconds: float
    outputs_match: bool
    ratio: float | None


def compare(
    operator: str,
    size: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    match: Callable[[Any, Any], bool],
    repeats: int,
    like: Tensor,
) -> Comparison:
    """Measure both, and see that they compute the same."""
    same = match(ours(), theirs())
    seconds = interleaved([ours, theirs], repeats)
    ratio = round(seconds[1] / seconds[0], 2) if same else None
    dtype = str(like.dtype).removeprefix("torch.")
    return Comparison(operator, size, like.device.type, dtype, *seconds, same, ratio)


def close(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Equal up to the rounding of float32 sums, relative to each tensor's largest number."""
    return all(
        a.shape == b.shape and (a - b).abs().max() <= 1e-5 * b.abs().max()
        for a, b in zip(ours, theirs, strict=True)
    )


def deform_conv(size: tuple[int, int], stride: int, repeats: int, device: str) -> list[Comparison]:
    """Forward, and forward with backward, of a 3 x 3 kernel with bias."""
    H, W = size
    out = (H - 1) // stride + 1, (W - 1) // stride + 1
    leaves = [
        torch.randn(1, CHANNELS, H, W),
        torch.randn(1, 18, *out),  # pixels: as far as trained offsets mostly reach
        torch.rand(1, 9, *out),
        torch.randn(CHANNELS, CHANNELS, 3, 3) / (9 * CHANNELS) ** 0.5,
        torch.randn(CHANNELS),
    ]
    input, offset, mask, weight, bias = leaves = [t.to(device) for t in leaves]
    grad_output = torch.randn(1, CHANNELS, *out, device=device)

    def ours() -> Tensor:
        return modulated_deform_conv2d(input, offset, mask, weight, bias, stride=stride, padding=1)

    def theirs() -> Tensor:
        return torchvision.ops.deform_conv2d(
            input, offset, weight, bias, stride=stride, padding=1, mask=mask
        )

    def forward(form: Callable[[], Tensor]) -> Callable[[], Sequence[Tensor]]:
        def run() -> Sequence[Tensor]:
            with torch.no_grad():
                return [form()]

        return run

    def both(form: Callable[[], Tensor]) -> Callable[[], Sequence[Tensor]]:
        return lambda: torch.autograd.grad(form(), leaves, grad_output)

    for leaf in leaves:
        leaf.requires_grad_()
    text = f"{CHANNELS} channels, {H}x{W}, 3x3, stride {stride}"
    return [
        compare(name, text, run(ours), run(theirs), close, repeats, input)
        for name, run in (
            ("modulated_deform_conv2d forward", forward),
            ("modulated_deform_conv2d forward + backward", both),
        )
    ]


def suppression(repeats: int, device: str) -> Comparison:
    """Boxes of many classes; torchvision's width convention, which both know."""
    corner = torch.rand(BOXES, 2, device=device) * 1000
    boxes = torch.cat([corner, corner + 10 + torch.rand(BOXES, 2, device=device) * 200], dim=1)
    scores = (torch.randperm(BOXES, device=device) + 1) / BOXES  # no ties: torchvision draws lots
    classes = torch.randint(CLASSES, (BOXES,), device=device)
    return compare(
        "nms",
        f"{BOXES} boxes, {CLASSES} classes",
        lambda: nms(boxes, scores, classes, 0.5, plus_one=False),
        lambda: torchvision.ops.batched_nms(boxes, scores, classes, 0.5),
        torch.equal,
        repeats,
        boxes,
    )


def table(comparisons: Sequence[Comparison]) -> str:
    """As people read it."""
    lines = [f"{'operator':44}{'size':40}{'glipkit':>12}{'torchvision':>14}{'ratio':>9}"]
    for c in comparisons:
        ratio = f"{c.ratio:.2f}x" if c.ratio is not None else "DIFFER"
        ours, theirs = f"{1e3 * c.glipkit_seconds:.2f} ms", f"{1e3 * c.torchvision_seconds:.2f} ms"
        lines.append(f"{c.operator:44}{c.size:40}{ours:>12}{theirs:>14}{ratio:>9}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and write the JSON file if one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one deformable size only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    comparisons = []
    for size, stride in LEVELS[:1] if arguments.quick else LEVELS:
        comparisons += deform_conv(size, stride, arguments.repeats, arguments.device)
    comparisons.append(suppression(arguments.repeats, arguments.device))
    report = {
        "machine": machine() | {"torchvision": torchvision.__version__, "compiled": loaded()},
        "repeats": arguments.repeats,
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    print(table(comparisons))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {arguments.json}")
    if not all(comparison.outputs_match for comparison in comparisons):
        raise SystemExit("outputs differ from torchvision's; see DIFFER above")


if __name__ == "__main__":
    main()
