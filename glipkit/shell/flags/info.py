"""What `glipkit info` takes."""

import argparse

from glipkit.inference.known import KNOWN

DESCRIPTION = """Say what is in a file of weights: architecture, parameters by part, text encoder,
hash, format, and which published model it can be."""
EXAMPLES = """  glipkit info nano
  glipkit info MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `glipkit info` takes."""
    parser.add_argument(
        "model",
        metavar="CHECKPOINT|MODEL",
        help=f"a file, the folder of a run, or one of {', '.join(KNOWN)}",
    )
    parser.add_argument("--json", action="store_true", help="write JSON for programs to stdout")
