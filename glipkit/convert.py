"""Published checkpoints to ours and back: `python -m glipkit.convert IN OUT`."""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from glipkit.engine.checkpoint import file_metadata, refuse_tuned, weights_hash
from glipkit.engine.naming import (
    Layout,
    detect_layout,
    differing_buffers,
    summarise,
    to_ours,
    to_published,
)
from glipkit.engine.shared_text import leave_text_out, read_weights
from glipkit.engine.tensor_files import CheckpointError, write_tensors
from glipkit.grounding.language_files import MINILM
from glipkit.modeling.anchors import AnchorGenerator


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: Layout | None = None,
    part: str | None = None,
    force: bool = False,
    half: bool = False,
    without_text_encoder: bool = False,
) -> str:
    """Write the weights of one file to another, under the other names, bit for bit unless `half`.

    Works on names alone; no model is built. The buffers that published files carry beside the
    weights are left out of ours, and computed again on the way back.

    Args:
        source: a published checkpoint, or one of ours.
        target: `.safetensors`, `.pth`, `.pt` or `.bin`.
        to: the names to write; None for those that `source` does not have.
        part: which entry of `source` to read, where it is not `model`; "model_ema", say.
        force: write over an existing `target`.
        half: matrices in 16 bits (float16), half the size; vectors, a hundredth of all numbers,
            keep theirs.
        without_text_encoder: leave out a MiniLM that was frozen, under our names; it is put back
            on reading (`glipkit.engine.shared_text`).

    Returns:
        A summary for people.

    Raises:
        FileExistsError: `target` exists, and `force` is not set; or it is a folder.
        FileNotFoundError: there is no `source`, or no text encoder that it needs.
        CheckpointError: `source` is not usable, has names that GLIP does not, numbers too large
            for `half`, or a text encoder that was trained.
        ValueError: `target` has another suffix, or cannot do without its text encoder.
    """
    target = Path(target)
    if target.is_dir():
        raise FileExistsError(f"{target} is a folder; name the file to write, as {target}/glip.pth")
    if target.exists() and not force:
        raise FileExistsError(f"{target} exists; pass --force to write over it")
    refuse_tuned(source)
    if without_text_encoder:
        to = _ours(to, target)
    tensors = read_weights(source, part=part)
    layout = detect_layout(tensors, source=str(source))
    to = to or ("ours" if layout == "published" else "published")
    notes: list[str] = []
    if layout == "published":
        ours, left_out = to_ours(tensors, source=str(source))
        if left_out:
            again = "computed again" if to == "published" else "left out"
            notes.append(f"{again}: {summarise(left_out)}")
        if differing := differing_buffers(tensors, AnchorGenerator()):
            notes.append(
                f"NOTE: not as the published models have them: {summarise(differing)}; "
                "they are not kept, so configure the model accordingly"
            )
    else:
        ours = dict(tensors)
    whole, metadata = (to_published(ours) if to == "published" else ours), file_metadata(to)
    written = whole
    if without_text_encoder:
        written, said = leave_text_out(whole, MINILM[0], source=str(source))
        metadata |= said
        notes.append(f"left out: the text encoder, which is that of {MINILM[0]}")
    if half:
        written = _halved(written, source=str(source))
        whole = whole | {name: tensor.float() for name, tensor in written.items()}  # as loaded
    write_tensors(written, target, metadata=metadata)
    lines = [
        f"read   {source}: {_describe(tensors)}, {layout} names",
        f"wrote  {target}: {_describe(written)}, {to} names",
        *(f"       {note}" for note in notes),
        f"hash   {weights_hash(whole)}",
    ]
    return "\n".join(lines)


def _ours(to: Layout | None, target: Path) -> Layout:
    if to == "published" or target.suffix != ".safetensors":
        raise ValueError(
            "only a .safetensors file with our names can say which text encoder it left out; "
            f"expected --to ours and such a name, got {target}"
        )
    return "ours"


def _halved(tensors: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Matrices and kernels in float16."""
    halved = {
        name: tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor
        for name, tensor in tensors.items()
    }
    lost = [n for n, t in halved.items() if t.dtype == torch.float16 and not t.isfinite().all()]
    if lost:
        raise CheckpointError(
            f"{source}: {summarise(lost)} hold numbers beyond 65504, which 16 bits do not; "
            "write it without --half"
        )
    return halved


def _describe(tensors: Mapping[str, Tensor]) -> str:
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    numbers = sum(tensor.numel() for tensor in tensors.values())
    kinds = ", ".join(f"{count} {dtype}" for dtype, count in dtypes.most_common())
    return f"{len(tensors)} tensors ({kinds}), {numbers:,} numbers"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m glipkit.convert",
        description="Convert GLIP weights between the published names and ours.",
        epilog="example:\n  python -m glipkit.convert MODEL/glip_large_model.pth glip.safetensors",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="IN", help="a published checkpoint or one of ours")
    parser.add_argument("target", metavar="OUT", help=".safetensors, .pth, .pt or .bin")
    parser.add_argument("--to", choices=("ours", "published"), help="default: what IN is not")
    parser.add_argument("--part", help="the entry of IN to read if not 'model', as 'model_ema'")
    parser.add_argument("--half", action="store_true", help="matrices in 16 bits: half the size")
    parser.add_argument(
        "--without-text-encoder",
        action="store_true",
        help=f"leave out a frozen {MINILM[0]}, which is put back from the installed package",
    )
    parser.add_argument("--force", action="store_true", help="write over an existing OUT")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        summary = convert(
            *(args.source, args.target),
            to=args.to,
            part=args.part,
            force=args.force,
            half=args.half,
            without_text_encoder=args.without_text_encoder,
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{summary}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
