"""How a picture becomes the tensor that the model was trained on (BEHAVIOUR 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# INPUT.FORMAT -> (channels reversed to BGR, values from 0 to 255 instead of 0 to 1)
PIXEL_FORMATS = {
    "rgb": (False, False),
    "rgb255": (False, True),
    "bgr": (True, False),
    "bgr255": (True, True),
}


def resized_size(size: tuple[int, int], min_size: int, max_size: int) -> tuple[int, int]:
    """(height, width) after resizing: the short side to `min_size`, the long one capped.

    The published rule, to the pixel: the cap is applied by rounding the short side (Python's
    `round`, halves to even), so the long side can pass `max_size` by a few pixels. Where that
    rule leaves no pixel at all (1 x 3000), one is kept and the long side is `max_size` at most.

    Args:
        size: (height, width) in pixels.
        min_size: short side aimed at, in pixels.
        max_size: cap of the long side, in pixels.
    """
    short, long = min(size), max(size)
    target = min_size
    if long / short * target > max_size:
        target = round(max_size * short / long)
    if target == short:
        return size
    if target < 1:
        target, other = 1, min(long // short, max_size)
    else:
        other = int(target * long / short)
    height, width = size
    return (other, target) if width < height else (target, other)


@dataclass(frozen=True, slots=True)
class TestTransform:
    """Resize, reorder channels, scale, normalise; the order keeps the published last bits."""

    __test__ = False  # not a test, whatever pytest makes of the name

    min_size: int  # pixels, short side
    max_size: int  # pixels, cap of the long side
    mean: tuple[float, float, float]  # in the order and range of `pixel_format`
    std: tuple[float, float, float]
    pixel_format: str = "bgr255"

    def __post_init__(self) -> None:
        if self.pixel_format not in PIXEL_FORMATS:
            raise ValueError(
                f"pixel format must be one of {', '.join(PIXEL_FORMATS)}, got {self.pixel_format!r}"
            )
        if not 1 <= self.min_size <= self.max_size:
            raise ValueError(
                f"sizes must satisfy 1 <= min_size <= max_size, got {self.min_size} and "
                f"{self.max_size}"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3:
                raise ValueError(f"{name} needs one number per channel (3), got {values}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")

    def __call__(self, image: Image.Image) -> Tensor:
        """(3, h, w) float32 of an 8-bit RGB picture."""
        return self.normalise(self.resize(image))

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the tensor that a picture of `size` becomes."""
        return resized_size(size, self.min_size, self.max_size)

    def resize(self, image: Image.Image) -> Image.Image:
        """The picture at the size that the model sees; bilinear, antialiased when shrinking."""
        height, width = self.resized_size((image.height, image.width))
        if (width, height) == image.size:
            return image
        return image.resize((width, height), Image.Resampling.BILINEAR)

    def normalise(self, image: Image.Image) -> Tensor:
        """(3, h, w) float32 without resizing."""
        reverse, _ = PIXEL_FORMATS[self.pixel_format]
        table = _normalised_values(tuple(self.mean), tuple(self.std), self.pixel_format)
        values = np.asarray(image)  # (h, w, 3) uint8, RGB
        pixels = np.empty((3, *values.shape[:2]), dtype=np.float32)
        for channel in range(3):
            source = values[:, :, 2 - channel if reverse else channel]
            np.take(table[channel], source, out=pixels[channel], mode="clip")  # clip: not buffered
        return torch.from_numpy(pixels)


@lru_cache(maxsize=8)
def _normalised_values(
    mean: Sequence[float], std: Sequence[float], pixel_format: str
) -> np.ndarray:
    """(3, 256) float32: what each of the 256 values of each of the model's channels becomes.

    Looked up instead of computed for every pixel: the same bits in a third of the time.
    """
    _, to_255 = PIXEL_FORMATS[pixel_format]
    values = torch.arange(256, dtype=torch.float32).div_(255)
    if to_255:
        values *= 255  # x / 255 * 255 differs from x in the last bit: so it was trained
    return ((values - _per_channel(mean)) / _per_channel(std)).numpy()


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]
