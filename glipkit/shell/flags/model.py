"""Flags that say with which model, for the commands that run one."""

import argparse

from glipkit.inference.known import KNOWN

PRECISIONS = ("float32", "bfloat16", "int8")


def add_model_arguments(parser: argparse.ArgumentParser, *, precision: bool = True) -> None:
    """--model, --device and, where it can be chosen, --precision."""
    parser.add_argument(
        "--model",
        default="nano",
        metavar="NAME|FILE|FOLDER",
        help=f"one of {', '.join(KNOWN)}, a checkpoint, or the folder of a run (default: nano, "
        "which is shipped)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    if precision:
        parser.add_argument(
            "--precision", default="float32", choices=PRECISIONS, help="default: float32"
        )
