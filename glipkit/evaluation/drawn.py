"""What is drawn of an evaluation, and what goes when other results take its place."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

REPORT, SHEET, PICTURES = "report.html", "pictures.png", "pictures"

_COMPRESSION = 3  # of PNG files: a third of the usual time, a tenth more bytes
_MARK = ("Software", "glipkit")  # in the PNG file


def save_drawn(picture: Image.Image, path: Path) -> None:
    """Write an annotated picture as PNG, marked as ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = PngInfo()
    mark.add_text(*_MARK)
    picture.save(path, compress_level=_COMPRESSION, pnginfo=mark)


def discard_drawn(folder: Path) -> None:
    """Remove the report and the pictures of an evaluation whose results are no longer there.

    Pictures that glipkit did not draw stay, whatever they are called.
    """
    for path in (folder / SHEET, *(folder / PICTURES).glob("*.png")):
        if path.exists() and _is_marked(path):
            path.unlink()
    (folder / REPORT).unlink(missing_ok=True)


def _is_marked(path: Path) -> bool:
    name, value = _MARK
    try:
        with Image.open(path) as picture:
            return picture.info.get(name) == value
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return False  # nothing that we wrote
