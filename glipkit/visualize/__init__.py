"""Pictures of what was found, for people to look at."""

from glipkit.visualize.palette import PALETTE, phrase_color
from glipkit.visualize.picture import draw, outline_boxes, write_labels
from glipkit.visualize.sheet import contact_sheet, side_by_side

__all__ = [
    "PALETTE",
    "contact_sheet",
    "draw",
    "outline_boxes",
    "phrase_color",
    "side_by_side",
    "write_labels",
]
