"""Names beside boxes; where too many crowd, numbers and a legend."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from glipkit.visualize.fonts import Face
from glipkit.visualize.geometry import Box
from glipkit.visualize.legend import Entry, Legend
from glipkit.visualize.palette import DARK, LIGHT, ink_on, phrase_color
from glipkit.visualize.placement import Layout, Place

_FEW = 6  # so many labels never become numbers
_LOST = 0.15  # of the labels may find no place; if more do, it is too crowded for names
_COVERED = 0.22  # of the picture that labels may hide altogether
_COVERED_BY_FEW = 0.35  # the same, for up to twice as many as are few


@dataclass(frozen=True, slots=True)
class Label:
    """What is to be said of one box."""

    phrase: int
    name: str  # as it can be written
    score: str  # or nothing
    box: Box
    missed: bool = False  # what nobody found: on dark paper, below its box


def font_size(size: tuple[int, int]) -> int:
    """Pixels of the letters in a picture of `size` (width, height)."""
    width, height = size
    return max(11, round(min((width * height) ** 0.5 / 42, min(size) / 6)))


def write(canvas: Image.Image, labels: Sequence[Label], *, text_size: float = 1.0) -> None:
    """Write labels into a picture, the first of them at the best places.

    Names stand at their boxes, or beside them with a line that leads there. Where many of them find
    no place that hides nothing, each box gets the number of its phrase instead, and a corner of the
    picture says what the numbers mean.

    Args:
        canvas: changed in place.
        labels: by importance; they also say which boxes must not be hidden.
        text_size: factor of the letters' size.
    """
    labels = [label for label in labels if label.name or label.score]
    boxes = [label.box for label in labels]
    face = Face(max(8, round(font_size(canvas.size) * text_size)))
    texts = [_text(face, label, canvas.width) for label in labels]
    places = _places(canvas, labels, texts, face, Layout(canvas.size, boxes))
    lost = sum(place is None for place in places)
    if len(labels) > _FEW and lost > _LOST * len(labels):
        entries = _entries(labels)
        legend = Legend.fitting(entries, face, canvas.size)
        if legend is not None:
            layout = Layout(canvas.size, boxes)
            layout.reserve(legend.draw(canvas, boxes))
            texts = _numbers(labels, entries)
            places = _places(canvas, labels, texts, face, layout, leaders=False)
    pen = ImageDraw.Draw(canvas)
    for label, place in zip(labels, places):
        if place is not None and place.leader is not None:
            _lead(pen, place, label, face)
    for label, text, place in zip(labels, texts, places):
        if place is not None:
            _write(pen, place.box, label, text, face)


def _text(face: Face, label: Label, width: int) -> str:
    return face.shortened(label.name, width - 2 * _padding(face), label.score)


def _entries(labels: Sequence[Label]) -> list[Entry]:
    """What a legend says of each phrase, by number."""
    counts = Counter(label.phrase for label in labels)
    names = {label.phrase: label.name for label in labels}
    order = sorted(counts, key=lambda phrase: (-counts[phrase], phrase))  # the rarest may be cut
    return [
        Entry(number, phrase, names[phrase], counts[phrase])
        for number, phrase in enumerate(order, start=1)
    ]


def _numbers(labels: Sequence[Label], entries: Sequence[Entry]) -> list[str]:
    """The number of each label's phrase in the legend; nothing where there is but one phrase."""
    numbers = {entry.phrase: str(entry.number) for entry in entries}
    return [numbers[label.phrase] if len(entries) > 1 else "" for label in labels]


def _places(
    canvas: Image.Image,
    labels: Sequence[Label],
    texts: Sequence[str],
    face: Face,
    layout: Layout,
    *,
    leaders: bool = True,
) -> list[Place | None]:
    padding = _padding(face)
    places: list[Place | None] = []
    share = _COVERED_BY_FEW if len(labels) <= 2 * _FEW else _COVERED
    room = share * canvas.width * canvas.height
    for index, (label, text) in enumerate(zip(labels, texts)):
        size = (face.length(text) + 2 * padding, face.line + padding)
        # The first may take half of a tiny picture, which would be nameless otherwise.
        fits = text and size[0] * size[1] <= (room if any(places) else 1.5 * room)
        place = layout.place(index, size, below=label.missed, leaders=leaders) if fits else None
        room -= size[0] * size[1] if place is not None else 0
        places.append(place)
    return places


def _lead(pen: ImageDraw.ImageDraw, place: Place, label: Label, face: Face) -> None:
    color = phrase_color(label.phrase)
    width = max(1, face.size // 11)
    pen.line(place.leader, fill=ink_on(color), width=width + 2)
    pen.line(place.leader, fill=color, width=width)


def _write(pen: ImageDraw.ImageDraw, place: Box, label: Label, text: str, face: Face) -> None:
    color = phrase_color(label.phrase)
    paper, ink = (color, ink_on(color))
    if label.missed:
        paper, ink = DARK, LIGHT
    pen.rectangle(place, fill=paper, outline=color)
    padding = _padding(face)
    face.write(pen, (place.left + padding, place.top + padding // 2), text, ink)


def _padding(face: Face) -> int:
    return max(2, face.size // 6)
