"""Boxes in whole pixels of the picture that is drawn on."""

from collections.abc import Iterable
from typing import NamedTuple

from glipkit.structures.detections import Detections


class Box(NamedTuple):
    """Whole pixels, both ends inside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels from the left to the right end."""
        return self.right - self.left + 1

    @property
    def height(self) -> int:
        """Pixels from the top to the bottom end."""
        return self.bottom - self.top + 1

    def overlap(self, other: "Box") -> int:
        """Pixels in common."""
        width = min(self.right, other.right) - max(self.left, other.left) + 1
        height = min(self.bottom, other.bottom) - max(self.top, other.top) + 1
        return max(width, 0) * max(height, 0)

    def grown(self, by: int) -> "Box":
        """Larger by so many pixels on every side."""
        return Box(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def half_shared(self, other: "Box") -> bool:
        """Whether the boxes share half of what they cover together (IoU of at least 0.5)."""
        shared = self.overlap(other)
        return 2 * shared >= self.width * self.height + other.width * other.height - shared


class Marked(NamedTuple):
    """A box to draw, and the phrase it answers."""

    phrase: int
    box: Box


def in_pixels(
    detections: Detections, indices: Iterable[int], size: tuple[int, int]
) -> list[Marked]:
    """The chosen boxes in whole pixels inside a picture of `size` (width, height).

    Args:
        detections: in a picture of any size.
        indices: which of them.
        size: of the picture that is drawn on.
    """
    width, height = size
    if detections.image_size != (height, width):
        detections = detections.resized((height, width))
    boxes = detections.boxes.cpu()
    result = []
    for i in indices:
        x1, y1, x2, y2 = boxes[i].tolist()
        left, right = sorted(round(min(max(x, 0), width - 1)) for x in (x1, x2))
        top, bottom = sorted(round(min(max(y, 0), height - 1)) for y in (y1, y2))
        result.append(Marked(int(detections.phrase_ids[i]), Box(left, top, right, bottom)))
    return result
