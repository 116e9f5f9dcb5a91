"""What the numbers and colours of a crowded picture stand for, in the corner that hides least."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageDraw

from glipkit.visualize.fonts import Face
from glipkit.visualize.geometry import Box
from glipkit.visualize.outlines import patterned
from glipkit.visualize.palette import DARK, LIGHT, phrase_color, phrase_pattern

_SHARE = 0.25  # of the picture that a legend may cover
_SOLIDITY = 0.85  # 1 hides what is behind it
_SMALLER = (1.0, 0.8)  # sizes of letters that are tried, relative to those of labels
_SMALLEST = 9  # pixels of letters; below nobody can read them


class Entry(NamedTuple):
    """A line of a legend."""

    number: int
    phrase: int
    name: str
    count: int  # boxes


@dataclass(frozen=True, slots=True)
class Legend:
    """Lines of text that fit into a picture of a known size."""

    entries: tuple[Entry, ...]
    texts: tuple[str, ...]  # one for each entry
    more: str  # what is said of the entries that have no line; or nothing
    face: Face

    @classmethod
    def fitting(
        cls, entries: Sequence[Entry], face: Face, size: tuple[int, int]
    ) -> "Legend | None":
        """The legend of a picture of `size` (width, height); None where half of it does not fit.

        Args:
            entries: the ones that matter most first.
            face: letters of the labels; a legend's may be smaller.
            size: of the picture.
        """
        width, height = size
        for factor in _SMALLER:
            smaller = Face(max(_SMALLEST, round(face.size * factor)))
            texts = [
                smaller.shortened(f"{each.number}  {each.name}", width // 2, f"({each.count})")
                for each in entries
            ]
            whole = cls(tuple(entries), tuple(texts), "", smaller)
            across, down = whole._size()
            most = min(0.9 * height, _SHARE * width * height / across)  # pixels from top to bottom
            if all(texts) and down <= most:
                return whole
        rows = int(most / _row(smaller)) - 2  # half a row above and below, and one for the rest
        if not all(texts) or rows < 1 or 2 * rows < len(entries):
            return None
        more = f"and {len(entries) - rows} more"
        return cls(tuple(entries[:rows]), tuple(texts[:rows]), more, smaller)

    def draw(self, canvas: Image.Image, boxes: Sequence[Box]) -> Box:
        """Write it where it covers least of the boxes; returns where that is."""
        place = self._place(canvas.size, boxes)
        area = (place.left, place.top, place.right + 1, place.bottom + 1)
        behind = canvas.crop(area)
        canvas.paste(Image.blend(behind, Image.new("RGB", behind.size, DARK), _SOLIDITY), area)
        pen = ImageDraw.Draw(canvas)
        row, swatch = _row(self.face), self.face.line
        left, top = place.left + row // 4, place.top + row // 4
        for entry, text in zip(self.entries, self.texts):
            sample = Box(left, top + swatch // 5, left + swatch, top + swatch)
            color, pattern = phrase_color(entry.phrase), phrase_pattern(entry.phrase)
            if pattern:
                patterned(pen, sample, color, LIGHT, pattern, max(1, swatch // 6))
            else:
                pen.rectangle(sample, fill=color)
            self.face.write(pen, (left + 3 * swatch // 2, top), text, LIGHT)
            top += row
        self.face.write(pen, (left, top), self.more, LIGHT)
        return place

    def _size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        row = _row(self.face)
        longest = max(map(self.face.length, (*self.texts, self.more)))
        lines = len(self.texts) + bool(self.more)
        return longest + 3 * self.face.line // 2 + row // 2, lines * row + row // 2

    def _place(self, size: tuple[int, int], boxes: Sequence[Box]) -> Box:
        width, height = self._size()
        rights, bottoms = size[0] - width, size[1] - height
        corners = [(x, y) for y in (0, bottoms, bottoms // 2) for x in (rights, 0, rights // 2)]
        places = [Box(x, y, x + width - 1, y + height - 1) for x, y in corners]

        def hidden(place: Box) -> float:
            return sum(place.overlap(box) / (box.width * box.height) for box in boxes)

        return min(places, key=hidden)


def _row(face: Face) -> int:
    return face.line + max(1, face.size // 6)
