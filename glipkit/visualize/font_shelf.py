"""The fonts of this machine, and which of them has a letter.

Pillow's own font knows Latin letters. For others the fonts of matplotlib and of the system are
looked through: first, by name, those that are commonly there and know many scripts, then all
others of the system.
"""

import importlib.util
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

# In the order in which they are asked for a letter; DejaVu has Greek, Cyrillic, Hebrew, Arabic ...
_KNOWN = (
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
_SUFFIXES = (".ttf", ".otf", ".ttc")
# Other styles of a font have no other letters; some fonts draw the same for every letter.
_NOT_WANTED = re.compile(
    r"bold|italic|oblique|mono|condensed|narrow|black|light|thin|lastresort|blank", re.IGNORECASE
)
_UNASSIGNED = "\U0010ffff"  # no font has it: drawn as what stands for missing letters
_TRIAL = 16  # pixels of the letters that fonts are tried with
_TRIES = 3  # letters of a script that all other fonts are searched for, before it is given up


class Shelf:
    """Fonts by number: 0 is Pillow's own, then the first ones, then the others.

    Args:
        first: files that are asked for every letter, in this order.
        others: files of which one is chosen for each script: the first that has a letter of it.

    Attributes:
        font: (number, size in pixels) -> the font.
        font_of: (letter) -> the number of the font that writes it; None if there is none.
    """

    def __init__(self, first: Sequence[str], others: Sequence[str] = ()) -> None:
        self._files = (*first, *others)
        self._first = range(1 + len(first))
        self._others = range(1 + len(first), 1 + len(self._files))
        self._by_script: dict[str, int] = {}
        self._tries: Counter[str] = Counter()
        # Caches of this object, so that they go with it.
        self.font = lru_cache(maxsize=64)(self._font)
        self.font_of = lru_cache(maxsize=4096)(self._font_of)
        self._drawn = lru_cache(maxsize=1024)(self._draw)

    def _font(self, index: int, size: int) -> ImageFont.FreeTypeFont:
        if index == 0:
            return ImageFont.load_default(size)
        return ImageFont.truetype(self._files[index - 1], size)

    def _font_of(self, letter: str) -> int | None:
        if letter.isspace():
            return 0
        found = next((index for index in self._first if self._has(index, letter)), None)
        return found if found is not None else self._other(letter)

    def _other(self, letter: str) -> int | None:
        script = script_of(letter)
        index = self._by_script.get(script)
        if index is None and self._tries[script] < _TRIES:
            self._tries[script] += 1
            index = next((i for i in self._others if self._has(i, letter)), None)
            if index is not None:
                self._by_script[script] = index
        return index if index is not None and self._has(index, letter) else None

    def _has(self, index: int, letter: str) -> bool:
        return self._drawn(index, letter) != self._drawn(index, _UNASSIGNED)

    def _draw(self, index: int, letter: str) -> bytes:
        """How a font draws a letter."""
        canvas = Image.new("L", (3 * _TRIAL, 3 * _TRIAL))
        font = self.font(index, _TRIAL)
        ImageDraw.Draw(canvas).text((_TRIAL, _TRIAL), letter, fill=255, font=font)
        return canvas.tobytes()


def script_of(letter: str) -> str:
    """The script of a letter, as Unicode's names begin: "CJK", "HANGUL", "DEVANAGARI"."""
    return unicodedata.name(letter, "UNKNOWN").split()[0]


@lru_cache(maxsize=1)
def this_machine() -> Shelf:
    """The fonts of this machine; looked for when the first is needed."""
    folders = [os.path.expanduser(folder) for folder in _FOLDERS]
    first, others = find_fonts(folders)
    if (found := importlib.util.find_spec("matplotlib")) is not None:
        parts = found.submodule_search_locations or ()
        # Its others are made for formulas: their letters are not where Unicode has them.
        more, _ = find_fonts(str(Path(part) / "mpl-data") for part in parts)
        first += [path for path in more if Path(path).name not in {Path(p).name for p in first}]
    return Shelf(first, others)


def find_fonts(folders: Iterable[str]) -> tuple[list[str], list[str]]:
    """The fonts in some folders and below them.

    Returns:
        Files of those that are known to have many letters, in the order to ask them; files of the
        others in their plain style, by name.
    """
    places: dict[str, str] = {}
    for folder in folders:
        for place, _, files in os.walk(folder):
            for name in files:
                if name.lower().endswith(_SUFFIXES):
                    places.setdefault(name, os.path.join(place, name))
    first = [places[name] for name in _KNOWN if name in places]
    others = [name for name in sorted(places) if name not in _KNOWN]
    plain = [places[name] for name in others if not _NOT_WANTED.search(name)]
    return list(filter(_opens, first)), list(filter(_opens, plain))


def _opens(path: str) -> bool:
    try:
        ImageFont.truetype(path, _TRIAL)
    except OSError:  # not a font, whatever its name says, or of pixels in other sizes
        return False
    return True
