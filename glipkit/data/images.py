"""A picture file of any kind becomes 8-bit RGB, or an error that names the file."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Refused from the header alone, before anything is decoded: 178,956,970 pixels are 512 MiB of
# RGB, Pillow's own limit against decompression bombs.
MAX_PIXELS = 178_956_970

# What Pillow's decoders raise on damaged files. OSError covers missing, foreign and truncated ones;
# RuntimeError is what libavif has to say, and NotImplementedError DDS.
DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError),
    *(struct.error, zlib.error),
)

# `max_pixels` decides. Said once for the process: `catch_warnings` is not for threads, and pictures
# are read in several. Behind the caller's own rules, which may make an error of it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)


class ImageError(ValueError):
    """A picture that cannot be used: where it is, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)  # both, so that it survives the trip out of a worker
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def read_image(
    path: Path,
    expected_size: tuple[int, int] | None = None,
    *,
    max_pixels: int | None = None,
) -> Image.Image:
    """Read a picture as 8-bit RGB.

    Grayscale, palette and CMYK pictures are converted; transparency is dropped, as the published
    code does; 16-bit values keep their upper 8 bits.

    Orientation: COCO counts the pixels of the file and the published code ignores EXIF, so boxes
    decide. When the file's own size is the expected one, it is taken as it is. When only its
    EXIF-turned size is, it is turned. Without an expectation it is turned as a viewer would.

    Args:
        path: the file.
        expected_size: (height, width) that the annotations claim; None when nothing is claimed.
        max_pixels: a larger picture is refused by its header, before anything is decoded; None
            stands for MAX_PIXELS.

    Raises:
        ImageError: the file is missing, damaged, no picture, larger than allowed, without a pixel,
            of a kind without a fixed range (floating point), or has another size than the
            annotations claim.
    """
    return _read(path, path, expected_size, max_pixels)


def read_image_bytes(
    data: bytes | BinaryIO,
    name: Path,
    expected_size: tuple[int, int] | None = None,
    *,
    max_pixels: int | None = None,
) -> Image.Image:
    """Read a picture that is not a file of its own; otherwise as `read_image`.

    Args:
        data: what the picture's file would hold, or an open file.
        name: what errors call it.
        expected_size: (height, width) that the annotations claim; None when nothing is claimed.
        max_pixels: as for `read_image`.

    Raises:
        ImageError: it is damaged, no picture, ... (see `read_image`).
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    return _read(file, name, expected_size, max_pixels)


def as_rgb(image: Image.Image, name: Path, *, max_pixels: int | None = None) -> Image.Image:
    """A picture that somebody else opened as 8-bit RGB; otherwise as `read_image`.

    Args:
        image: of any mode, decoded or not; stays as it is.
        name: what errors call it.
        max_pixels: as for `read_image`.

    Raises:
        ImageError: it is damaged, too large, ... (see `read_image`).
    """
    with _named(name, max_pixels):
        _check_size(image, name, max_pixels)
        image.load()
        return _to_rgb(_oriented(image, None, name), name)


def _read(
    file: Path | BinaryIO, path: Path, expected_size: tuple[int, int] | None, max_pixels: int | None
) -> Image.Image:
    with _named(path, max_pixels), Image.open(file) as image:
        _check_size(image, path, max_pixels)
        image.load()
        image = _oriented(image, expected_size, path)
        return _to_rgb(image, path)


@contextmanager
def _named(path: Path, max_pixels: int | None) -> Iterator[None]:
    """Whatever Pillow raises becomes an error that names the picture."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except Image.DecompressionBombError:
        allowed = MAX_PIXELS if max_pixels is None else max_pixels
        raise ImageError(path, f"more than the {allowed:,} pixels that are allowed") from None
    except Image.DecompressionBombWarning as error:
        raise ImageError(path, f"refused by a warning filter of this program: {error}") from error
    except UnidentifiedImageError:
        raise ImageError(path, "cannot be read as a picture: of no known format") from None
    except DECODER_ERRORS as error:
        raise ImageError(path, f"cannot be read as a picture: {error}") from error


def _check_size(image: Image.Image, path: Path, max_pixels: int | None) -> None:
    width, height = image.size
    allowed = MAX_PIXELS if max_pixels is None else max_pixels
    if width * height == 0:
        raise ImageError(path, f"{height}x{width} (height x width): it has no pixels")
    if width * height > allowed:
        raise ImageError(
            path, f"{height}x{width} is more than the {allowed:,} pixels that are allowed"
        )


def _oriented(image: Image.Image, expected_size: tuple[int, int] | None, path: Path) -> Image.Image:
    found = (image.height, image.width)
    if found == expected_size:
        return image
    turned = ImageOps.exif_transpose(image)
    if expected_size in (None, (turned.height, turned.width)):
        return turned
    height, width = expected_size
    raise ImageError(
        path,
        f"the annotations say {height}x{width} (height x width), the file has "
        f"{found[0]}x{found[1]}; its boxes cannot fit",
    )


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I"):  # I;16, I;16B, I;16L: unsigned 16 bits; I: 32 bits, signed
        return _from_deep(image, path).convert("RGB")
    if image.mode == "F":
        raise ImageError(path, "floating point pixels have no agreed range; store 8 or 16 bits")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # or Pillow warns
    return image.convert("RGB")


def _from_deep(image: Image.Image, path: Path) -> Image.Image:
    """Grayscale of 8 bits from one of 16, which Pillow itself would clip at 255."""
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(path, f"values from {low} to {high}; at most 16 bits are understood")
    return Image.fromarray((values >> 8).astype(np.uint8))
