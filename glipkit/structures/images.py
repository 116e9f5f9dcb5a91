"""A batch of padded pictures that remembers how large each one really is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """B normalised pictures in one tensor, padded at the bottom and right with zeros.

    Zeros are added after normalisation, as the published model was trained (BEHAVIOUR 1).
    """

    pixels: Tensor  # (B, 3, H, W) float
    sizes: tuple[tuple[int, int], ...]  # B times (height, width) in pixels, before padding

    def __post_init__(self) -> None:
        if self.pixels.dim() != 4 or self.pixels.shape[1] != 3:
            raise ValueError(f"pixels must have shape (B, 3, H, W), got {tuple(self.pixels.shape)}")
        if len(self.sizes) != len(self.pixels):
            raise ValueError(f"{len(self.pixels)} pictures came with {len(self.sizes)} sizes")
        height, width = self.pixels.shape[2:]
        for index, (h, w) in enumerate(self.sizes):
            if not (0 < h <= height and 0 < w <= width):
                raise ValueError(
                    f"picture {index} claims to be {h}x{w} inside a batch of {height}x{width}"
                )

    def __len__(self) -> int:
        return len(self.sizes)

    def to(self, device: torch.device | str) -> "ImageBatch":
        """The same batch on another device."""
        return ImageBatch(self.pixels.to(device, non_blocking=True), self.sizes)

    def only(self, rows: Sequence[int]) -> "ImageBatch":
        """Some of the pictures, padded as they are."""
        return ImageBatch(self.pixels[list(rows)], tuple(self.sizes[row] for row in rows))

    def mirrored(self) -> "ImageBatch":
        """The same pictures seen in a mirror, left and right exchanged; padding stays where it is.

        Column x of a picture of w columns becomes column w - 1 - x.
        """
        pixels = self.pixels.clone()
        for picture, (height, width) in zip(pixels, self.sizes):
            picture[:, :height, :width] = picture[:, :height, :width].flip(2)
        return ImageBatch(pixels, self.sizes)

    def pin_memory(self) -> "ImageBatch":
        """The same batch in page-locked memory, from which a GPU copies while it computes."""
        return ImageBatch(self.pixels.pin_memory(), self.sizes)


def padded_size(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    """(height, width) rounded up to multiples of `divisor`; 0 or 1 leaves it alone."""
    step = max(divisor, 1)
    return tuple(-(-side // step) * step for side in size)


def pad_images(images: Sequence[Tensor], divisor: int = 32) -> ImageBatch:
    """Put pictures of any size into one batch.

    Args:
        images: each (3, h, w) float, normalised.
        divisor: the batch's height and width are multiples of this (SIZE_DIVISIBILITY).

    Raises:
        ValueError: there is no picture.
    """
    if not images:
        raise ValueError("pad_images needs at least one picture, got none")
    sizes = tuple((image.shape[1], image.shape[2]) for image in images)
    largest = (max(h for h, _ in sizes), max(w for _, w in sizes))
    height, width = padded_size(largest, divisor)
    pixels = images[0].new_zeros(len(images), images[0].shape[0], height, width)
    for place, image, (h, w) in zip(pixels, images, sizes):
        place[:, :h, :w] = image
    return ImageBatch(pixels, sizes)
