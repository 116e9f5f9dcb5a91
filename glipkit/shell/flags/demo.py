"""What `glipkit demo` takes."""

import argparse

from glipkit.shell.flags.model import add_model_arguments

DESCRIPTION = """Serve a page: drop a picture, type words, see boxes.

Needs the extra glipkit[demo]. Only this machine can open it, unless --host says otherwise."""
EXAMPLES = """  glipkit demo
  glipkit demo --model MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth --port 8080"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `glipkit demo` takes."""
    add_model_arguments(parser, precision=False)
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860; 0: any free one")
    parser.add_argument("--threshold", type=float, help="where the sliders start")
    parser.add_argument("--open", action="store_true", help="open a tab of the browser")
