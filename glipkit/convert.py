"""Published checkpoints to ours and back: `python -m glipkit.convert IN OUT`."""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from glipkit.engine.tensor_files import read_tensors, write_tensors
from glipkit.modeling.anchors import AnchorGenerator


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: Layout | None = None,
    part: str | None = None,
    force: bool = False,
) -> str:
    """Write the weights of one file to another, under the other names, bit for bit.

    Works on names alone; no model is built. The buffers that published files carry beside the
    weights are left out of ours, and computed again on the way back.

    Args:
        source: a published checkpoint, or one of ours.
        target: `.safetensors`, `.pth`, `.pt` or `.bin`.
        to: the names to write; None for those that `source` does not have.
        part: which entry of `source` to read, where it is not `model`; "model_ema", say.
        force: write over an existing `target`.

    Returns:
        A summary for people.

    Raises:
        FileExistsError: `target` exists, and `force` is not set; or it is a folder.
        FileNotFoundError: there is no `source`.
        CheckpointError: `source` is not usable, or has names that GLIP does not.
        ValueError: `target` has another suffix.
    """
    target = Path(target)
    if target.is_dir():
        raise FileExistsError(f"{target} is a folder; name the file to write, as {target}/glip.pth")
    if target.exists() and not force:
        raise FileExistsError(f"{target} exists; pass --force to write over it")
    refuse_tuned(source)
    tensors = read_tensors(source, part=part)
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
    written = to_published(ours) if to == "published" else ours
    write_tensors(written, target, metadata=file_metadata(to))
    lines = [
        f"read   {source}: {_describe(tensors)}, {layout} names",
        f"wrote  {target}: {_describe(written)}, {to} names",
        *(f"       {note}" for note in notes),
        f"hash   {weights_hash(written)}",
    ]
    return "\n".join(lines)


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
    parser.add_argument("--force", action="store_true", help="write over an existing OUT")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        summary = convert(args.source, args.target, to=args.to, part=args.part, force=args.force)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{summary}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
