"""Pictures of shapes and texts about them: `python -m glipkit.shapeworld OUT`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from glipkit.data.shapeworld.lessons import LESSONS
from glipkit.data.shapeworld.world import World
from glipkit.data.shapeworld.writing import write_world
from glipkit.data.workers import usable_cpus


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m glipkit.shapeworld",
        description="Draw shapeworld: pictures of coloured shapes with boxes (COCO json) and "
        "texts whose words have boxes (MDETR json). The same settings give the same bytes.",
        epilog="example:\n  python -m glipkit.shapeworld DATASET/shapeworld --train 20000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
    parser.add_argument("--train", type=int, default=20_000, help="training pictures (%(default)s)")
    parser.add_argument("--val", type=int, default=1_000, help="pictures to judge by (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another one, other pictures (0)")
    parser.add_argument("--size", type=int, default=256, help="pixels to a side (%(default)s)")
    parser.add_argument("--captions", type=int, default=2, help="texts a training picture (2)")
    parser.add_argument(
        "--lessons",
        action="store_true",
        help=f"texts that grow harder until training picture {LESSONS[-1][0]:,}, to be shown in "
        "their order",
    )
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="processes that draw")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        world = World(args.seed, args.size, args.captions, args.lessons)
        target = write_world(args.out, world, train=args.train, val=args.val, workers=args.workers)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:  # of an hour's work: it needs no traceback
        sys.stderr.write(f"interrupted; the same command draws {args.out} again\n")
        return 130
    sys.stdout.write(f"wrote {target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
