"""What a browser sent becomes a picture, or a sentence that says why not."""

import contextlib
import io
import stat
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from glipkit.data.images import ImageError, as_rgb
from glipkit.page.limits import Limits

# What a visitor may send. Pillow reads many more kinds, some of them by running other programs.
KINDS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # MPO: JPEG of some phones

KEPT = 3600  # seconds that an upload is kept, at most
_LEAST = 8192  # bytes that a file and its folder take on a disk, however small it is
_SETTLED = 60  # seconds after which nothing is about to be put into an empty folder


def uploaded_file(payload: object, folder: Path) -> Path:
    """The file that gradio's description of an upload stands for.

    Args:
        payload: {"path": ...}, or None when there is no picture.
        folder: where uploads are kept; nothing outside it is ever read.

    Raises:
        ValueError: there is no picture, or the path is not that of an upload.
    """
    if payload is None:
        raise ValueError(
            "Choose a picture first: drop one on the field, or take one of the drawings."
        )
    path = payload.get("path") if isinstance(payload, Mapping) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError("The picture did not arrive; choose it again.")
    file = Path(path).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
        raise ValueError("Only pictures that were uploaded here can be searched; choose it again.")
    return file


def read_upload(file: Path, limits: Limits) -> Image.Image:
    """Read an upload as 8-bit RGB, turned as a viewer would.

    Raises:
        ValueError: too many bytes or pixels, of another kind than `KINDS`, or damaged.
    """
    try:
        with _opened(file, limits) as image:
            return as_rgb(image, Path("picture"))
    except ImageError as error:
        raise ValueError(f"This picture is damaged or of an unusual kind: {error.reason}") from None


def check_upload(file: Path, limits: Limits) -> None:
    """What can be told without decoding: size in bytes, kind, size in pixels.

    Raises:
        ValueError: as `read_upload`.
    """
    with _opened(file, limits):
        pass


def make_room(folder: Path, size: int, limits: Limits) -> None:
    """Delete the oldest uploads until another one fits, and the folders of those that are gone.

    What is older than `KEPT` goes in any case: of uploads that broke off gradio leaves what came.

    Args:
        folder: of uploads.
        size: of the one that comes, in bytes.
        limits: how many bytes all of them may have.
    """
    files, folders = [], []
    now = time.time()
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # gradio deletes old ones too
            state = path.lstat()
            if not stat.S_ISDIR(state.st_mode):
                files.append((state.st_mtime, max(state.st_size, _LEAST), path))
            elif now - state.st_mtime > _SETTLED:
                folders.append(path)
    for path in folders:
        with contextlib.suppress(OSError):  # most have a file in them
            path.rmdir()
    room = limits.stored_bytes - size - sum(taken for _, taken, _ in files)
    for written, taken, path in sorted(files):
        if room >= 0 and now - written <= KEPT:
            return
        path.unlink(missing_ok=True)
        room += taken


def too_large(limits: Limits) -> str:
    """What is said to somebody who sends too many bytes."""
    return f"This file is larger than the {limits.upload_bytes / 1e6:g} MB that this page takes."


def _opened(file: Path, limits: Limits) -> Image.Image:
    """The picture, of which only the header was looked at."""
    if file.stat().st_size > limits.upload_bytes:
        raise ValueError(too_large(limits))
    Image.init()  # so that every plugin is known; AVIF is newer than some versions of Pillow
    known = [kind for kind in KINDS if kind in Image.OPEN]
    try:
        image = Image.open(io.BytesIO(file.read_bytes()), formats=known)
    except Image.DecompressionBombError:
        raise ValueError(_too_many_pixels("This picture", limits)) from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error):
        raise ValueError(
            "This file is not a picture that this page can read. It takes PNG, JPEG, WebP, GIF, "
            "BMP, TIFF and AVIF, whatever the file's name says."
        ) from None
    width, height = image.size
    if width * height > limits.pixels:
        raise ValueError(_too_many_pixels(f"A picture of {width:,} by {height:,} pixels", limits))
    return image


def _too_many_pixels(what: str, limits: Limits) -> str:
    return (
        f"{what} is more than the {limits.pixels / 1e6:g} megapixels that this page takes. Make "
        "it smaller; the model looks at a reduced copy anyway."
    )
