"""Letters of any script, as far as this machine has them.

Pillow's own font knows Latin letters. For others the fonts of matplotlib and of the system are
looked through, by the names of those that are commonly there. An emoji without a font is written
as its name, ":crab:"; any other letter without one remains an empty box.
"""

import importlib.util
import os
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from glipkit.visualize.palette import Color

# In the order in which they are asked for a letter; DejaVu has Greek, Cyrillic, Hebrew, Arabic ...
_FILES = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf"),
    *("wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttf", "arial.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf", "NotoSansBengali-Regular.ttf"),
    *("FreeSans.ttf", "unifont.ttf", "NotoEmoji-Regular.ttf", "Symbola.ttf", "seguisym.ttf"),
)
_FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts"),
)
_UNASSIGNED = "\U0010ffff"  # no font has it: drawn as what stands for missing letters
_TRIAL = 16  # pixels of the letters that fonts are tried with
_INVISIBLE = ("Cf", "Cc", "Cs", "Co")  # joiners, directions, control characters, private use
_VARIANTS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # of the letter before, mostly of emoji


@dataclass(frozen=True, slots=True)
class Face:
    """Letters of one size, each from the first font that has it."""

    size: int  # pixels

    @property
    def line(self) -> int:
        """Pixels from the highest to the lowest point of a line."""
        ascent, descent = _font(0, self.size).getmetrics()
        return ascent + descent

    def length(self, text: str) -> int:
        """Pixels that the text is wide."""
        return round(sum(_font(index, self.size).getlength(part) for index, part in _runs(text)))

    def write(
        self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, color: Color
    ) -> None:
        """Write a line of text whose upper left corner is `corner`, (x, y)."""
        x, y = corner
        baseline = y + _font(0, self.size).getmetrics()[0]
        for index, part in _runs(text):
            font = _font(index, self.size)
            pen.text((x, baseline), part, fill=color, font=font, anchor="ls")
            x += font.getlength(part)

    def shortened(self, text: str, limit: int, tail: str = "") -> str:
        """The text with its tail, cut until both are `limit` pixels wide; "" if nothing is left."""
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
        if _font_of(letter) is None:
            if kind in ("So", "Sk"):
                letter = f":{unicodedata.name(letter, 'symbol').lower()}:"
            else:
                lost += 1
        shown.append(letter)
    return instead if 2 * lost > len(shown) else "".join(shown)


def _runs(text: str) -> list[tuple[int, str]]:
    """The text in pieces that one font can write: (index of the font, piece)."""
    runs: list[tuple[int, str]] = []
    for letter in text:
        index = _font_of(letter) or 0
        if runs and runs[-1][0] == index:
            runs[-1] = (index, runs[-1][1] + letter)
        else:
            runs.append((index, letter))
    return runs


@lru_cache(maxsize=4096)
def _font_of(letter: str) -> int | None:
    """The first font that has the letter; None if none has. 0 is Pillow's own."""
    if letter.isspace() or _has(0, letter):
        return 0
    return next((i for i in range(1, len(_files()) + 1) if _has(i, letter)), None)


def _has(index: int, letter: str) -> bool:
    return _drawn(index, letter) != _drawn(index, _UNASSIGNED)


@lru_cache(maxsize=1024)
def _drawn(index: int, letter: str) -> bytes:
    """How a font draws a letter."""
    canvas = Image.new("L", (3 * _TRIAL, 3 * _TRIAL))
    ImageDraw.Draw(canvas).text((_TRIAL, _TRIAL), letter, fill=255, font=_font(index, _TRIAL))
    return canvas.tobytes()


@lru_cache(maxsize=64)
def _font(index: int, size: int) -> ImageFont.FreeTypeFont:
    if index == 0:
        return ImageFont.load_default(size)
    return ImageFont.truetype(_files()[index - 1], size)


@lru_cache(maxsize=1)
def _files() -> tuple[str, ...]:
    """The fonts of this machine besides Pillow's own; looked for when the first is needed."""
    folders = [os.path.expanduser(folder) for folder in _FOLDERS]
    if (found := importlib.util.find_spec("matplotlib")) is not None:
        folders += [str(Path(part) / "mpl-data") for part in found.submodule_search_locations or ()]
    places: dict[str, str] = {}
    for folder in folders:
        for place, _, files in os.walk(folder):
            for name in files:
                places.setdefault(name, os.path.join(place, name))
    candidates = [places[name] for name in _FILES if name in places]
    return tuple(path for path in candidates if _opens(path))


def _opens(path: str) -> bool:
    try:
        ImageFont.truetype(path, _TRIAL)
    except OSError:  # not a font, whatever its name says
        return False
    return True
