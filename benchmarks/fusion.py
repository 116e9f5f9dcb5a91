"""Absorbed fusion beside the plain form: python benchmarks/fusion.py [--names NAME ...].

The plain form is the published definition (tests/reference/fusion.py): bi-directional attention
between the 17,821 positions of an 800 x 1066 picture and T = 256, 64 or 16 tokens, one block.
"""

import argparse
import functools
import sys
from pathlib import Path

import counts
import torch
from rows import DTYPES, Row, difference, timed
from rows import main as program
from timing import turns
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reference.fusion import RENAMED, PlainCrossAttention
from reference.naming import load_published

from glipkit.layers.cross_attention import CrossModalityAttention

ROWS = ("fusion_T256", "fusion_T64", "fusion_T16")
IMAGE_TOKENS = 17_821
NAMES = {
    theirs.removeprefix("b_attn.attn."): ours.removeprefix("attention.")
    for theirs, ours in RENAMED.items()
    if theirs.startswith("b_attn.attn.")
}
TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}  # relative L2
REPEATS = 7


def forms(device: str) -> tuple[nn.Module, nn.Module]:
    """Ours and the plain one, with the same weights, in evaluation mode."""
    plain = PlainCrossAttention(256, 768, 2048, 8, dropout=0.0)
    ours = load_published(CrossModalityAttention(256, 768, dropout=0.0), plain, NAMES)
    return ours.to(device).eval(), plain.to(device).eval()


def compare(name: str, arguments: argparse.Namespace) -> Row:
    """One text length; with --dtype bfloat16 both under autocast, as the model runs."""
    T = int(name.removeprefix("fusion_T"))
    V = 600 if arguments.quick else IMAGE_TOKENS
    torch.manual_seed(0)
    ours, plain = forms(arguments.device)
    image = torch.randn(1, V, 256, device=arguments.device)
    text = torch.randn(1, T, 768, device=arguments.device)
    mask = torch.ones(1, T, dtype=torch.bool, device=arguments.device)
    low = DTYPES[arguments.dtype]

    @torch.inference_mode()
    def run(module: nn.Module) -> tuple[Tensor, ...]:
        with torch.autocast(arguments.device, low, enabled=low != torch.float32):
            return module(image, text, mask)

    apart = difference(run(ours), run(plain))
    calls = [lambda: run(ours), lambda: run(plain)]
    return timed(
        name,
        turns(calls, 1 if arguments.quick else REPEATS),
        difference=apart,
        tolerance=TOLERANCE[arguments.dtype],
        arguments=arguments,
        against="the plain form of tests/reference/fusion.py",
        size=f"{V:,} positions, {T} tokens",
        **counts.fields(counts.cross_attention(V, T, element=low.itemsize)),
    )


def rows(arguments: argparse.Namespace) -> list[dict]:
    """The rows of `arguments.names`."""
    return [compare(name, arguments).as_dict() for name in arguments.names]


main = functools.partial(program, ROWS, rows, __doc__)

if __name__ == "__main__":
    sys.exit(main())
