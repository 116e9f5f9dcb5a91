"""What `glipkit detect` takes."""

import argparse
from pathlib import Path

from glipkit.shell.flags.model import add_model_arguments

DESCRIPTION = """Find what words say in pictures, and draw it.

Leaves in --out: found.jsonl (a line for each picture or frame, as it goes), pictures/ (annotated
copies, an mp4 for a video) and detect.json (what was asked). The same call again goes on where it
was interrupted."""
EXAMPLES = """  glipkit detect photo.jpg --text "a red circle . the small star" --out found
  glipkit detect "shots/**/*.png" --names "circle,star,square" --threshold 0.4 --out found
  glipkit detect clip.mp4 --text "a blue square" --track --every 2 --out tracked
exit status: 0 all pictures were read, 1 some could not be (named, counted, left out), 2 failed"""


def _folder(text: str) -> Path:
    if not text.strip():  # "$OUT" of a script that never set it; to Path the current folder
        raise argparse.ArgumentTypeError("it is empty; name a folder, or . for this one")
    return Path(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `glipkit detect` takes."""
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURES",
        help='pictures, videos, folders and all below them, or quoted patterns: "a/**/*.jpg"',
    )
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument(
        "--text", help='what to find: "a red circle . the small star", or a sentence'
    )
    words.add_argument("--names", metavar="A,B,C", help="class names, separated by commas")
    words.add_argument(
        "--names-file", type=Path, metavar="FILE", help="class names, one on each line"
    )
    parser.add_argument("--out", required=True, type=_folder, metavar="DIR", help="for answers")
    add_model_arguments(parser)
    parser.add_argument(
        "--threshold",
        action="append",
        metavar="T|PHRASE=T",
        help="leave out boxes with a lower score; for one phrase: 'star=0.3', as often as needed; "
        "default: the model's",
    )
    parser.add_argument(
        "--negative",
        action="append",
        default=[],
        metavar="WORDS",
        help="not wanted: boxes that fit these words better are left out; may be repeated",
    )
    copies = parser.add_mutually_exclusive_group()
    copies.add_argument(
        "--save-pictures", action="store_true", default=True, help="annotated copies (the default)"
    )
    copies.add_argument(
        "--no-pictures", action="store_false", dest="save_pictures", help="none of them"
    )
    parser.add_argument("--track", action="store_true", help="number objects from frame to frame")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="of a video, look at each N-th frame"
    )
    parser.add_argument(
        "--batch-size", type=int, default=4, metavar="N", help="pictures at a time; default: 4"
    )
    parser.add_argument(
        "--explain", action="store_true", help="say how the words were read, and the best scores"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first picture that cannot be read"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what another call left in --out"
    )
