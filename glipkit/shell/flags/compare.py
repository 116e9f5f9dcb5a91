"""What `glipkit compare` takes."""

import argparse
from pathlib import Path

DESCRIPTION = """Set results files side by side: figures, differences, classes that changed most.

Refuses what cannot be compared: other pictures, another measure, another protocol. Differences
come with confidence intervals (paired bootstrap over pictures) where predictions.json and
config.yaml lie beside results.json and the annotation file is on this machine."""
EXAMPLES = """  glipkit compare old/task/val/results.json new/task/val/results.json
  glipkit compare plain/task/val flipped/task/val --vary augmentation --json
exit status: 0 compared, 2 refused or failed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `glipkit compare` takes."""
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS.json",
        help="two or more, or the folders they lie in; the first one is what others differ from",
    )
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="FIELD",
        help="a field of the protocol that is meant to differ, as augmentation or input.min_size; "
        "repeatable",
    )
    parser.add_argument("--anyway", action="store_true", help="any field of it may differ")
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="draws of pictures (default 1000); 0: no intervals",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (default 0)")
    parser.add_argument(
        "--level",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="of the draws in an interval (default 0.95)",
    )
    parser.add_argument(
        "--annotations", type=Path, metavar="FILE", help="if not where config.yaml says"
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=20,
        metavar="N",
        help="how many are shown (default 20); 0: all",
    )
    parser.add_argument("--json", action="store_true", help="write JSON for programs to stdout")
