"""The ways in which one picture is shown to a detector (test-time augmentation)."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from glipkit.data.transforms import TestTransform
from glipkit.grounding.directions import says_left_or_right

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """One size of a picture, perhaps mirrored as well."""

    transform: TestTransform
    flip: bool = False  # the mirrored picture is asked too, wherever the words stay true
    # Boxes that are taken from this size: sqrt(width x height) in pixels of the original picture.
    box_range: tuple[float, float] = (0.0, math.inf)

    def __post_init__(self) -> None:
        low, high = self.box_range
        if not 0 <= low < high:
            raise ValueError(f"box_range must be two sides (from, to) in pixels, got {low, high}")

    def takes(self, boxes: Tensor) -> Tensor:
        """Which boxes are of a size that this view is asked for; both ends count.

        Args:
            boxes: (N, 4) in pixels of the original picture.

        Returns:
            (N,) bool.
        """
        sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).double().prod(dim=1).sqrt()
        return (sides >= self.box_range[0]) & (sides <= self.box_range[1])


def stay_true_mirrored(captions: Sequence[str]) -> tuple[bool, ...]:
    """For each caption, whether a mirrored picture may be asked it.

    In a mirrored picture "the man on the left" is another man, so what says left or right is asked
    of the picture as it is alone.
    """
    return tuple(not says_left_or_right(caption) for caption in captions)


def report_sides(name: str, num_naming: int, num_captions: int) -> None:
    """Say in the log how many captions are not asked of mirrored pictures.

    Args:
        name: of the dataset.
        num_naming: captions that say left or right.
        num_captions: all of them.
    """
    if num_naming:
        logger.warning(
            "%s: %d of %d captions say left or right, which a mirrored picture would turn round; "
            "they are asked of the pictures as they are alone (TEST.FLIP)",
            *(name, num_naming, num_captions),
        )
