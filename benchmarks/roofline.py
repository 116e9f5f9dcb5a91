"""What this machine can do at most, measured: products a second, bytes a second.

    python benchmarks/roofline.py [--json PATH]

Products: the fastest of the ways that PyTorch has for a matrix product or a 3x3 convolution.
Memory: copy and triad of arrays far larger than any cache, written bytes counted once. A few
seconds for each number of threads, also where a processor without bfloat16 would take minutes for
what others do in a moment: there small matrices tell.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import rows
import torch
from torch.nn.functional import conv2d

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices
BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}  # of each array
PATIENCE = 2.0  # seconds that one product may take


def ceilings(device: str, counts: list[int], *, quick: bool = False) -> dict[str, dict]:
    """Threads -> {"gflops": {dtype: ...}, "gbytes_per_second": ...}.

    Args:
        device: "cpu" or "cuda".
        counts: numbers of threads to measure with.
        quick: small arrays, once.
    """
    before = torch.get_num_threads()
    found = {}
    try:
        for count in sorted(set(counts)):
            torch.set_num_threads(count)
            found[str(count)] = {
                "gflops": {name: gflops(device, dtype, quick)
                           for name, dtype in rows.DTYPES.items()},
                "gbytes_per_second": bandwidth(device, quick),
            }  # fmt: skip
    finally:
        torch.set_num_threads(before)
    return found


@torch.inference_mode()
def gflops(device: str, dtype: torch.dtype, quick: bool = False) -> float:
    """The greatest number of 1e9 operations a second."""
    small = products(device, dtype, side=256, spatial=16)
    best = [work / fastest(way, quick=True) for work, way in small]
    if not quick:
        large = products(device, dtype, side=SIDE[device], spatial=100)
        best += [
            work / fastest(way, quick=False)
            for speed, (work, way) in zip(list(best), large)
            if work / speed < PATIENCE
        ]
    return max(best) / 1e9


def products(
    device: str, dtype: torch.dtype, *, side: int, spatial: int
) -> list[tuple[float, Callable[[], object]]]:
    """Ways to multiply, each with its operations.

    Args:
        device: "cpu" or "cuda".
        dtype: of what is multiplied.
        side: of the square matrices.
        spatial: side of the map that a convolution of 256 channels sees.
    """
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    ways: list[tuple[float, Callable[[], object]]] = [(2.0 * side**3, lambda: a @ b)]
    if (
        device == "cpu"
        and dtype is torch.float32
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        ways.append((2.0 * side**3, lambda: torch.ops.mkldnn._linear_pointwise(
            a, b, None, "none", [], "none")))  # fmt: skip
    channels = 256
    x = torch.randn(1, channels, spatial, spatial, device=device).to(dtype)
    kernel = torch.randn(channels, channels, 3, 3, device=device).to(dtype)
    x, kernel = (t.contiguous(memory_format=torch.channels_last) for t in (x, kernel))
    ways.append((18.0 * (channels * spatial) ** 2, lambda: conv2d(x, kernel, padding=1)))
    return ways


@torch.inference_mode()
def bandwidth(device: str, quick: bool = False) -> float:
    """The greatest number of 1e9 bytes a second, of copy and of triad (a = b + s c)."""
    count = (1 << 20 if quick else BYTES[device]) // 4
    a, b, c = (torch.ones(count, device=device) for _ in range(3))
    copied = 2 * 4 * count / fastest(lambda: a.copy_(b), quick)
    triad = 3 * 4 * count / fastest(lambda: torch.add(b, c, alpha=3.0, out=a), quick)
    return max(copied, triad) / 1e9


def fastest(function: Callable[[], object], quick: bool) -> float:
    """The seconds of the fastest of some calls: others on the machine only ever slow it down."""
    function()
    best = float("inf")
    for _ in range(1 if quick else 7):
        wait()
        start = time.perf_counter()
        function()
        wait()
        best = min(best, time.perf_counter() - start)
    return best


def wait() -> None:
    """For the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(found: dict[str, dict]) -> str:
    """As people read it."""
    names = list(rows.DTYPES)
    lines = [f"{'threads':>7}" + "".join(f"{name + ' GFLOP/s':>18}" for name in names)
             + f"{'memory GB/s':>14}"]  # fmt: skip
    for count, of in found.items():
        lines.append(f"{count:>7}" + "".join(f"{of['gflops'][name]:>18.0f}" for name in names)
                     + f"{of['gbytes_per_second']:>14.1f}")  # fmt: skip
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure with one thread and with all, print, write JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    rows.add_options(parser)
    arguments = parser.parse_args(argv)
    counts = [1] if arguments.device == "cuda" else [1, arguments.threads]
    found = ceilings(arguments.device, counts, quick=arguments.quick)
    print(table(found))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
