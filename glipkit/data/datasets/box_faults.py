"""What can be wrong with an annotated box."""

import math
from collections.abc import Collection, Mapping, Sequence

NOT_FINITE = "are not finite (NaN or infinite)"
NEGATIVE = "have a negative width or height"
ZERO = "have no width or no height"
OUTSIDE = "lie outside their picture"
PARTLY_OUTSIDE = "reach over the edge of their picture"

UNUSABLE = frozenset({NOT_FINITE, NEGATIVE, ZERO})  # no detection can match these

_ROUNDING = 1.0  # pixels that annotation tools are off by


def box_fault(box: Sequence[float], image_size: tuple[int, int]) -> str | None:
    """What is wrong with a box, or None.

    Args:
        box: x, y, width, height in pixels.
        image_size: (height, width) of its picture in pixels.
    """
    x, y, width, height = box
    if not all(map(math.isfinite, box)):
        return NOT_FINITE
    if width < 0 or height < 0:
        return NEGATIVE
    if width == 0 or height == 0:
        return ZERO
    bottom, right = image_size
    if x >= right or y >= bottom or x + width <= 0 or y + height <= 0:
        return OUTSIDE
    if min(x, y) < -_ROUNDING or x + width > right + _ROUNDING or y + height > bottom + _ROUNDING:
        return PARTLY_OUTSIDE
    return None


def fault_rows(faults: Mapping[str, int], left_out: Collection[str]) -> str:
    """What is wrong with how many annotations, a row each.

    Args:
        faults: a phrase that goes on from "annotations ..." -> how many.
        left_out: faults for which an annotation is left out.
    """
    note = " (left out of the ground truth)"
    return "\n".join(
        f"  {count:>7}  {fault}{note if fault in left_out else ''}"
        for fault, count in faults.items()
    )
