"""What `glipkit check` takes."""

import argparse
from pathlib import Path

DESCRIPTION = """Find what makes AP silently zero or low, before training or judging.

Reads COCO files (boxes with classes) and MDETR files (captions whose words have boxes). Each
finding says how often, where, what it does to AP and what to do. Several files of one dataset are
also compared with each other."""
EXAMPLES = """  glipkit check annotations/val.json --pictures val
  glipkit check train.json val.json --pictures pictures --json
exit status: 0 no errors, 1 errors were found, 2 the command itself failed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `glipkit check` takes."""
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET.json")
    parser.add_argument(
        "--pictures",
        action="append",
        type=Path,
        metavar="DIR",
        help="where file names start from; once for all files, or once for each; default: looked "
        "for beside the file",
    )
    parser.add_argument(
        "--model",
        default="nano",
        metavar="NAME|FOLDER",
        help="whose vocabulary and prompt length the words are checked with (default: nano, as all "
        "GLIP models)",
    )
    parser.add_argument("--json", action="store_true", help="write JSON for programs to stdout")
