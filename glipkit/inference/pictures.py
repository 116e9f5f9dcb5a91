"""A picture in any form that people have it in becomes 8-bit RGB, or an error that says why not."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glipkit.data.images import ImageError, as_rgb, read_image, read_image_bytes
from glipkit.inference.sources import is_video

# 300 MB of RGB. More is a mistake or an attack more often than a picture, and the model looks at a
# reduced copy anyway.
MAX_PIXELS = 100_000_000

_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)
_BYTES = (bytes, bytearray, memoryview)


def read_picture(
    picture: Any, *, bgr: bool = False, max_pixels: int = MAX_PIXELS, name: str = "the picture"
) -> Image.Image:
    """A picture as 8-bit RGB.

    Files, bytes and Pillow's pictures are turned as their EXIF orientation says, the way a viewer
    shows them; boxes are in pixels of what is returned. Transparency is dropped, 16-bit values keep
    their upper 8 bits.

    Args:
        picture: one of: a path; what a picture's file holds, as bytes or as an open file; a Pillow
            picture of any mode; a numpy array, (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), uint8;
            a tensor, (3, H, W), (4, H, W) or (1, H, W), uint8 or floating point from 0 to 1.
        bgr: the first three channels of arrays and tensors are blue, green, red, as OpenCV reads
            them. Files know their own order.
        max_pixels: a larger picture is refused by its header, before anything is decoded.
        name: what errors call a picture that has no name.

    Raises:
        ImageError: there is no such file, it is a folder, damaged or no picture, has no pixels or
            too many; or an array has another shape, type or range.
        ValueError: it is an address of the network.
        TypeError: it is nothing of the above.
    """
    if isinstance(picture, str | os.PathLike):
        return _from_path(os.fspath(picture), max_pixels)
    if isinstance(picture, Image.Image):
        return as_rgb(picture, Path(_file_name(picture) or name), max_pixels=max_pixels)
    if isinstance(picture, _BYTES):
        return read_image_bytes(bytes(picture), Path(name), max_pixels=max_pixels)
    if isinstance(picture, np.ndarray):
        return _from_array(picture, Path(name), bgr, max_pixels)
    if isinstance(picture, Tensor):
        return _from_tensor(picture, Path(name), bgr, max_pixels)
    if callable(getattr(picture, "read", None)):
        if isinstance(picture.read(0), str):
            raise TypeError(f"{name} is a file opened as text; open it with mode 'rb'")
        return read_image_bytes(picture, Path(name), max_pixels=max_pixels)
    raise TypeError(
        f"{name} is a {type(picture).__name__}; expected a path, bytes, an open file, a picture of "
        f"Pillow, a numpy array (H, W, 3) or a tensor (3, H, W){_hint(picture)}"
    )


def picture_source(picture: Any) -> str | None:
    """Where a picture is from: its path, or None for one that is from no file."""
    if isinstance(picture, str | os.PathLike):
        return os.fsdecode(picture)
    if isinstance(picture, Image.Image):
        return _file_name(picture)
    name = getattr(picture, "name", None) if callable(getattr(picture, "read", None)) else None
    return name if isinstance(name, str) else None


def _file_name(picture: Image.Image) -> str | None:
    """The path from which Pillow opened a picture."""
    name = getattr(picture, "filename", "")
    return os.fsdecode(name) if isinstance(name, str | os.PathLike) and str(name) else None


def _from_path(text: str | bytes, max_pixels: int) -> Image.Image:
    text = os.fsdecode(text)
    if _ADDRESS.match(text):
        raise ValueError(
            f"{text[:200]} is an address, and nothing is fetched here: download it, and pass the "
            "file or its bytes"
        )
    if not text.strip():
        raise ValueError("the path of the picture is empty; pass the path of a file")
    path = Path(text)
    try:
        is_folder = path.is_dir()
    except OSError as error:  # no right to look there; or text too long for a path
        hint = "; a picture in base64 is passed as bytes, base64.b64decode(text)"
        raise ImageError(
            Path(text[:80]),
            f"cannot be opened: {error.strerror}{hint if len(text) > 80 else ''}",
        ) from error
    if is_folder:
        raise ImageError(
            path,
            "is a folder, where one picture was expected; pass a list of its files, or the folder "
            "to detector.stream",
        )
    if is_video(path) and path.is_file():
        raise ImageError(path, "is a video, where one picture was expected; see detector.stream")
    return read_image(path, max_pixels=max_pixels)


def _from_array(values: np.ndarray, name: Path, bgr: bool, max_pixels: int) -> Image.Image:
    shape = tuple(values.shape)
    if values.ndim == 4:
        raise ImageError(name, f"an array of shape {shape} is a batch; pass list(batch)")
    if values.ndim not in (2, 3) or (values.ndim == 3 and shape[2] not in (1, 3, 4)):
        turned = values.ndim == 3 and shape[0] in (1, 3, 4)
        raise ImageError(
            name,
            f"expected an array (H, W, 3), (H, W, 4) or (H, W), got shape {shape}"
            + ("; channels come last: array.transpose(1, 2, 0)" if turned else ""),
        )
    if values.dtype != np.uint8:
        raise ImageError(
            name,
            f"expected an array of uint8, from 0 to 255, got {values.dtype}; values from 0 to 1 "
            "become that by (array * 255).round().astype('uint8')",
        )
    _check_size(shape[0], shape[1], name, max_pixels)
    if values.ndim == 2 or shape[2] == 1:
        return Image.fromarray(np.ascontiguousarray(values.reshape(shape[:2]))).convert("RGB")
    order = [2, 1, 0] if bgr else [0, 1, 2]
    return Image.fromarray(np.ascontiguousarray(values[:, :, order]))


def _from_tensor(values: Tensor, name: Path, bgr: bool, max_pixels: int) -> Image.Image:
    shape = tuple(values.shape)
    if values.dim() == 4:
        raise ImageError(name, f"a tensor of shape {shape} is a batch; pass list(batch)")
    if values.dim() != 3 or shape[0] not in (1, 3, 4):
        turned = values.dim() == 3 and shape[2] in (1, 3, 4)
        raise ImageError(
            name,
            f"expected a tensor (3, H, W), got shape {shape}"
            + ("; channels come first: tensor.permute(2, 0, 1)" if turned else ""),
        )
    _check_size(shape[1], shape[2], name, max_pixels)
    values = values.detach().cpu()
    if values.is_floating_point():
        values = _from_unit_range(values.float(), name)
    elif values.dtype != torch.uint8:
        raise ImageError(
            name, f"expected a tensor of uint8, or floating point from 0 to 1, got {values.dtype}"
        )
    return _from_array(values.permute(1, 2, 0).numpy(), name, bgr, max_pixels)


def _from_unit_range(values: Tensor, name: Path) -> Tensor:
    low, high = values.min().item(), values.max().item()
    if not (low >= 0 and high <= 1):  # false for NaN as well
        raise ImageError(
            name,
            f"expected a tensor of values from 0 to 1, got {low:.4g} to {high:.4g}; give pixels as "
            "they were before any normalisation, or as uint8",
        )
    return (values * 255).round().to(torch.uint8)


def _check_size(height: int, width: int, name: Path, max_pixels: int) -> None:
    if height * width == 0:
        raise ImageError(name, f"{height}x{width} (height x width): it has no pixels")
    if height * width > max_pixels:
        raise ImageError(
            name, f"{height}x{width} is more than the {max_pixels:,} pixels that are allowed"
        )


def _hint(picture: Any) -> str:
    """What somebody probably meant."""
    if picture is None:
        return "; cv2.imread gives None where it can read nothing"
    if isinstance(picture, list | tuple):
        return "; a list of pictures holds pictures, not lists"
    if isinstance(picture, Iterator):
        return "; pass list(pictures), or the iterator to detector.stream"
    if isinstance(picture, Mapping):
        return "; pass what it holds, not the mapping"
    return ""
