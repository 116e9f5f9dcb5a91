"""Letters of any script, as far as this machine has them.

An emoji without a font is written as its name, ":crab:"; any other letter without one remains an
empty box, and the log says so once for each script.
"""

import logging
import unicodedata
from dataclasses import dataclass

from PIL import ImageDraw

from glipkit.visualize.font_shelf import script_of, this_machine
from glipkit.visualize.palette import Color

logger = logging.getLogger(__name__)

_INVISIBLE = ("Cf", "Cc", "Cs", "Co")  # joiners, directions, control characters, private use
_VARIANTS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # of the letter before, mostly of emoji
_complained: set[str] = set()  # scripts that the log has named


@dataclass(frozen=True, slots=True)
class Face:
    """Letters of one size, each from the first font that has it."""

    size: int  # pixels

    @property
    def line(self) -> int:
        """Pixels from the highest to the lowest point of a line."""
        ascent, descent = this_machine().font(0, self.size).getmetrics()
        return ascent + descent

    def length(self, text: str) -> int:
        """Pixels that the text is wide."""
        font = this_machine().font
        return round(sum(font(index, self.size).getlength(part) for index, part in _runs(text)))

    def write(
        self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, color: Color
    ) -> None:
        """Write a line of text whose upper left corner is `corner`, (x, y).

        Args:
            pen: of the picture.
            corner: (x, y) in pixels.
            text: one line.
            color: of the letters.
        """
        x, y = corner
        baseline = y + this_machine().font(0, self.size).getmetrics()[0]
        for index, part in _runs(text):
            font = this_machine().font(index, self.size)
            pen.text((x, baseline), part, fill=color, font=font, anchor="ls")
            x += font.getlength(part)

    def shortened(self, text: str, limit: int, tail: str = "") -> str:
        """The text with its tail, cut until both are `limit` pixels wide; "" if nothing is left.

        Args:
            text: is cut, with "…" at its end.
            limit: pixels of both together.
            tail: stays whole, after a space.
        """
        words = f"{text} {tail}".strip()
        length = len(text)
        while self.length(words) > limit:
            length = min(length - 1, int(length * 0.9))
            if length < 1:
                return ""
            words = f"{text[:length].rstrip()}… {tail}".strip()
        return words


def readable(name: str, instead: str) -> str:
    """A name as it can be written here.

    Args:
        name: any text; becomes one line.
        instead: what is written if most letters of the name are in no font.
    """
    letters = unicodedata.normalize("NFC", " ".join(name.split()))
    shown, lost = [], 0
    for letter in letters:
        kind = unicodedata.category(letter)
        if kind in _INVISIBLE or letter in _VARIANTS:
            continue
        if this_machine().font_of(letter) is None:
            if kind in ("So", "Sk"):
                letter = f":{unicodedata.name(letter, 'symbol').lower()}:"
            else:
                lost += 1
                _complain(script_of(letter), letter)
        shown.append(letter)
    return instead if 2 * lost > len(shown) else "".join(shown)


def _runs(text: str) -> list[tuple[int, str]]:
    """The text in pieces that one font can write: (index of the font, piece)."""
    runs: list[tuple[int, str]] = []
    for letter in text:
        index = this_machine().font_of(letter) or 0
        if runs and runs[-1][0] == index:
            runs[-1] = (index, runs[-1][1] + letter)
        else:
            runs.append((index, letter))
    return runs


def _complain(script: str, letter: str) -> None:
    """Say once of a script that it cannot be written."""
    if script not in _complained:
        _complained.add(script)
        logger.warning(
            "no font on this machine has %s letters, such as %r: in pictures they are boxes, and "
            "names that are written with them are numbers. Install one that has them (Debian: "
            "fonts-noto-cjk for Chinese, Japanese and Korean, else fonts-noto-core)",
            script,
            letter,
        )
