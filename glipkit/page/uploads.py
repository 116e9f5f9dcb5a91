"""What a browser sent becomes a picture, or a sentence that says why not."""

import io
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from glipkit.data.images import ImageError, read_image_bytes
from glipkit.page.limits import Limits

# What a visitor may send. Pillow reads many more kinds, some of them by running other programs.
KINDS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # MPO: JPEG of some phones


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
    if file.stat().st_size > limits.upload_bytes:
        raise ValueError(too_large(limits))
    data = file.read_bytes()
    _check_header(data, limits)
    try:
        return read_image_bytes(data, Path("picture"))
    except ImageError as error:
        raise ValueError(f"This picture is damaged or of an unusual kind: {error.reason}") from None


def check_upload(file: Path, limits: Limits) -> None:
    """What can be told without decoding: size in bytes, kind, size in pixels.

    Raises:
        ValueError: as `read_upload`.
    """
    if file.stat().st_size > limits.upload_bytes:
        raise ValueError(too_large(limits))
    _check_header(file.read_bytes(), limits)


def too_large(limits: Limits) -> str:
    """What is said to somebody who sends too many bytes."""
    return f"This file is larger than the {limits.upload_bytes / 1e6:g} MB that this page takes."


def _check_header(data: bytes, limits: Limits) -> None:
    Image.init()  # so that every plugin is known; AVIF is newer than some versions of Pillow
    known = [kind for kind in KINDS if kind in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large picture: the limit below decides
            with Image.open(io.BytesIO(data), formats=known) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise ValueError(_too_many_pixels("This picture", limits)) from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error):
        raise ValueError(
            "This file is not a picture that this page can read. It takes PNG, JPEG, WebP, GIF, "
            "BMP, TIFF and AVIF, whatever the file's name says."
        ) from None
    if width * height > limits.pixels:
        raise ValueError(_too_many_pixels(f"A picture of {width:,} by {height:,} pixels", limits))


def _too_many_pixels(what: str, limits: Limits) -> str:
    return (
        f"{what} is more than the {limits.pixels / 1e6:g} megapixels that this page takes. Make "
        "it smaller; the model looks at a reduced copy anyway."
    )
