"""The lines around boxes: solid, or in patterns that tell phrases apart."""

from collections.abc import Iterator, Sequence
from itertools import cycle

from PIL import Image, ImageDraw

from glipkit.visualize.geometry import Box, Marked
from glipkit.visualize.palette import (
    DARK,
    LIGHT,
    TRUTH_PATTERN,
    Color,
    ink_on,
    phrase_color,
    phrase_pattern,
)


def line_thickness(size: tuple[int, int], num_boxes: int) -> int:
    """Pixels of a box's line in a picture of `size` (width, height); thinner where boxes crowd.

    About a four-hundredth of the picture, so that it looks alike however large the picture is.
    """
    width, height = size
    thickness = (width * height) ** 0.5 / 330
    return max(2, round(thickness * (1 if num_boxes <= 25 else 0.7)))


def outline(pen: ImageDraw.ImageDraw, marked: Marked, thickness: int) -> None:
    """The box of something that was found.

    Args:
        pen: of the picture.
        marked: the box and its phrase.
        thickness: of the line in pixels; thinner where the box is small.
    """
    box, color = marked.box, phrase_color(marked.phrase)
    thickness = _fitting(box, thickness)
    casing = max(1, thickness // 4)  # against a background of the same colour
    pen.rectangle(box.grown(casing), outline=ink_on(color), width=casing)
    pattern = phrase_pattern(marked.phrase)
    if pattern:
        patterned(pen, box, color, LIGHT, pattern, thickness)
    else:
        pen.rectangle(box, outline=color, width=thickness)


def outline_truth(pen: ImageDraw.ImageDraw, marked: Marked, thickness: int) -> None:
    """The box of something that should have been found: dashes with dark between them.

    Args:
        pen: of the picture.
        marked: the box and its phrase.
        thickness: of the line in pixels; thinner where the box is small.
    """
    thickness = _fitting(marked.box, thickness)
    patterned(pen, marked.box, phrase_color(marked.phrase), DARK, TRUTH_PATTERN, thickness)


def fill(canvas: Image.Image, boxes: Sequence[Marked], opacity: float) -> None:
    """Lay the colours of the phrases over the insides of their boxes.

    Args:
        canvas: changed in place.
        boxes: with their phrases.
        opacity: in [0, 1]; 1 hides what is inside.
    """
    for phrase, box in boxes:
        area = (box.left, box.top, box.right + 1, box.bottom + 1)
        inside = canvas.crop(area)
        canvas.paste(
            Image.blend(inside, Image.new("RGB", inside.size, phrase_color(phrase)), opacity), area
        )


def patterned(
    pen: ImageDraw.ImageDraw,
    box: Box,
    color: Color,
    between: Color,
    pattern: Sequence[int],
    thickness: int,
) -> None:
    """A rectangle of two colours in turn.

    Args:
        pen: of the picture.
        box: the line lies inside it.
        color: of the first, third ... length.
        between: of the second, fourth ...
        pattern: lengths in units of the thickness, an even number of them.
        thickness: of the line, in pixels.
    """
    pen.rectangle(box, outline=between, width=thickness)
    inner = thickness - 1
    for start, end in _runs(box.left, box.right, pattern, thickness):
        pen.rectangle((start, box.top, end, min(box.top + inner, box.bottom)), fill=color)
        pen.rectangle((start, max(box.bottom - inner, box.top), end, box.bottom), fill=color)
    for start, end in _runs(box.top, box.bottom, pattern, thickness):
        pen.rectangle((box.left, start, min(box.left + inner, box.right), end), fill=color)
        pen.rectangle((max(box.right - inner, box.left), start, box.right, end), fill=color)


def _runs(
    start: int, end: int, pattern: Sequence[int], thickness: int
) -> Iterator[tuple[int, int]]:
    """First and last pixel of every stretch of colour from `start` to `end`."""
    is_color = True
    for length in cycle(pattern):
        if start > end:
            return
        if is_color:
            yield start, min(start + length * thickness - 1, end)
        start += length * thickness
        is_color = not is_color


def _fitting(box: Box, thickness: int) -> int:
    """The thickness that leaves something of a small box to be seen."""
    return max(1, min(thickness, min(box.width, box.height) // 8))
