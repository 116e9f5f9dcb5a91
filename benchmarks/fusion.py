"""Absorbed fusion beside the plain form: seconds, ratio, and how far apart the answers are.

    python benchmarks/fusion.py --image-tokens 17821 --text-tokens 256 64 16 --json PATH

The plain form is the published definition (tests/reference/fusion.py). A ratio is refused where
the answers differ.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from timing import interleaved, machine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reference.fusion import RENAMED, PlainCrossAttention
from reference.naming import load_published

from glipkit.layers.cross_attention import CrossModalityAttention

NAMES = {
    theirs.removeprefix("b_attn.attn."): ours.removeprefix("attention.")
    for theirs, ours in RENAMED.items()
    if theirs.startswith("b_attn.attn.")
}
TOLERANCE = 1e-5  # relative L2, float32


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-tokens", type=int, default=17821, help="V; 800 x 1066 pixels")
    parser.add_argument("--text-tokens", type=int, nargs="+", default=[256, 64, 16], help="T")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--train", action="store_true", help="forward and backward, dropout 0")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="a small picture, once")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.image_tokens, arguments.repeats = 2000, 1
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    plain = PlainCrossAttention(256, 768, 2048, 8, dropout=0.0)
    ours = load_published(CrossModalityAttention(256, 768, dropout=0.0), plain, NAMES)
    # In training mode ours keeps what a backward pass needs; inference takes another way.
    plain, ours = (m.to(arguments.device).train(arguments.train) for m in (plain, ours))
    figures = {
        "machine": machine(),
        "device": arguments.device,
        "mode": "forward and backward" if arguments.train else "forward",
        "image_tokens": arguments.image_tokens,
        "cases": [compare(plain, ours, T, arguments) for T in arguments.text_tokens],
    }
    for case in figures["cases"]:
        print(
            f"T = {case['text_tokens']:>3}   plain {case['plain_seconds']:.4f} s   "
            f"absorbed {case['absorbed_seconds']:.4f} s   {case['ratio']} x"
        )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def compare(
    plain: PlainCrossAttention,
    ours: CrossModalityAttention,
    num_text_tokens: int,
    arguments: argparse.Namespace,
) -> dict[str, float | str]:
    """One text length: medians of both forms, and the relative L2 difference of the answers."""
    image = torch.randn(1, arguments.image_tokens, 256, device=arguments.device)
    text = torch.randn(1, num_text_tokens, 768, device=arguments.device)
    mask = torch.ones(1, num_text_tokens, dtype=torch.bool, device=arguments.device)

    def run(module: torch.nn.Module) -> tuple[torch.Tensor, ...]:
        with torch.set_grad_enabled(arguments.train):
            updates = module(image.requires_grad_(arguments.train), text, mask)
            if arguments.train:
                sum(update.sum() for update in updates).backward()
        return tuple(update.detach() for update in updates)

    difference = max(
        float((got - want).norm() / want.norm()) for got, want in zip(run(ours), run(plain))
    )
    plain_seconds, absorbed_seconds = interleaved(
        [lambda: run(plain), lambda: run(ours)], arguments.repeats
    )
    matches = difference <= TOLERANCE
    return {
        "text_tokens": num_text_tokens,
        "plain_seconds": plain_seconds,
        "absorbed_seconds": absorbed_seconds,
        "relative_difference": difference,
        "outputs_match": matches,
        "ratio": round(plain_seconds / absorbed_seconds, 2) if matches else "refused",
    }


if __name__ == "__main__":
    main()
