"""What `glipkit bench` takes."""

import argparse

from glipkit.shell.flags.model import add_model_arguments

DESCRIPTION = """Measure how fast this machine is: from the start of Python to the first boxes, and
a picture after the other, one at a time. What glipkit is compared with others: make bench."""
EXAMPLES = """  glipkit bench
  glipkit bench --model nano --size 240x320 --repeats 5 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `glipkit bench` takes."""
    add_model_arguments(parser)
    parser.add_argument(
        "--size", default="480x640", metavar="HxW", help="of the picture; default: 480x640"
    )
    parser.add_argument(
        "--text", default="a red circle . a blue square", help="what to look for (two phrases)"
    )
    parser.add_argument(
        "--repeats", type=int, default=11, metavar="N", help="pictures to time; default: 11"
    )
    parser.add_argument("--json", action="store_true", help="write JSON for programs to stdout")
