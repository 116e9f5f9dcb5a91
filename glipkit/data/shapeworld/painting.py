"""One object as pixels: its outline with soft edges, its fill, its texture, border and shadow."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from glipkit.data.shapeworld.outlines import OUTLINES

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255

_FINER = 4  # outlines are drawn so many times larger
_FINER_TEXTURE = 2
_DOT = 0.32  # radius of a dot over the distance of two
HALF = 128  # a pixel belongs to what covers at least half of it


@dataclass(frozen=True, slots=True)
class Shadow:
    """A soft dark copy beside an object."""

    offset: tuple[int, int]  # pixels to the right and down
    blur: float  # pixels
    strength: float  # of black, 0 to 1


@dataclass(frozen=True, slots=True)
class Look:
    """How one object is painted; lengths in pixels, angles in degrees, clockwise."""

    shape: str
    size: float  # longer side of the upright shape, before `stretch`
    colour: Colour
    angle: float = 0.0
    stretch: float = 1.0  # width over height, relative to the outline
    texture: str = "plain"
    second: Colour = (0, 0, 0)  # the other tone of a texture
    period: float = 8.0  # from one stripe, dot or pair of checks to the next
    grain: float = 0.0  # angle of the texture
    border: Colour | None = None
    border_width: float = 0.0
    shadow: Shadow | None = None


@dataclass(frozen=True)
class Patch:
    """What covers which pixels of a square around an object, before it has a place."""

    mask: Image.Image  # (side, side) "L": the whole object
    border: Image.Image | None  # its border alone
    texture: Image.Image | None  # where the second tone is; reaches beyond the object

    @cached_property
    def solid(self) -> np.ndarray:
        """(side, side) bool: pixels that are covered by half or more."""
        return np.asarray(self.mask) >= HALF

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """(x1, y1, x2, y2) of the solid pixels within the patch, x2 and y2 just behind them."""
        columns = np.flatnonzero(self.solid.any(axis=0))
        rows = np.flatnonzero(self.solid.any(axis=1))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def make_patch(look: Look) -> Patch:
    """What an object covers."""
    outline = OUTLINES[look.shape]
    points = turned(outline.points, look.size, look.angle, look.stretch)
    hole = None
    if outline.hole is not None:
        hole = turned(outline.hole, look.size, look.angle, look.stretch)
    reach = int(np.ceil(np.abs(points).max() + look.border_width / 2)) + 1
    mask = filled(points, reach, hole=hole)
    border = None
    if look.border is not None:
        edges = [points] if hole is None else [points, hole]
        border = stroked([_closed(edge) for edge in edges], reach, look.border_width)
        mask = ImageChops.lighter(mask, border)
    texture = None if look.texture == "plain" else _texture(look, reach)
    return Patch(mask, border, texture)


def paint(canvas: Image.Image, look: Look, patch: Patch, corner: tuple[int, int]) -> None:
    """Paint an object onto a picture.

    Args:
        canvas: an RGB picture, changed in place.
        look: its colours.
        patch: `make_patch(look)`.
        corner: x and y of the patch in the picture; may lie outside.
    """
    if look.shadow is not None:
        _paint_shadow(canvas, look.shadow, patch.mask, corner)
    stamp(canvas, look.colour, patch.mask, corner)
    if patch.texture is not None:
        stamp(canvas, look.second, ImageChops.multiply(patch.mask, patch.texture), corner)
    if patch.border is not None:
        stamp(canvas, look.border, patch.border, corner)


def turned(points: np.ndarray, size: float, angle: float, stretch: float = 1.0) -> np.ndarray:
    """(K, 2) points of the unit frame, stretched, turned and scaled to `size` pixels."""
    wide = np.sqrt(stretch)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return (points * (wide, 1 / wide) * (size / 2)) @ np.array([[c, s], [-s, c]])


def filled(points: np.ndarray, reach: int, *, hole: np.ndarray | None = None) -> Image.Image:
    """(2 * reach, 2 * reach) "L" coverage of a polygon around the centre."""
    fine = Image.new("L", (2 * reach * _FINER,) * 2)
    draw = ImageDraw.Draw(fine)
    draw.polygon(_fine(points, reach), fill=255)
    if hole is not None:
        draw.polygon(_fine(hole, reach), fill=0)
    return fine.reduce(_FINER)


def stroked(lines: list[np.ndarray], reach: int, width: float) -> Image.Image:
    """(2 * reach, 2 * reach) "L" coverage of lines `width` pixels wide, with round bends."""
    fine = Image.new("L", (2 * reach * _FINER,) * 2)
    draw = ImageDraw.Draw(fine)
    for line in lines:
        draw.line(_fine(line, reach), fill=255, width=max(1, round(width * _FINER)), joint="curve")
    return fine.reduce(_FINER)


def stamp(canvas: Image.Image, colour: Colour, mask: Image.Image, corner: tuple[int, int]) -> None:
    """Lay a colour over a picture where the mask is; what lies outside is cut off."""
    x, y = corner
    canvas.paste(colour, (x, y, x + mask.width, y + mask.height), mask)


def _fine(points: np.ndarray, reach: int) -> list[float]:
    """Corners as ImageDraw wants them: it means the middle of a pixel by a whole number."""
    return ((points + reach) * _FINER - 0.5).ravel().tolist()


def _closed(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, points[:2]])  # one corner more, so that the seam is a bend too


def _texture(look: Look, reach: int) -> Image.Image:
    """(2 * reach, 2 * reach) "L": 255 where the second tone is."""
    steps = (np.arange(2 * reach * _FINER_TEXTURE) + 0.5) / _FINER_TEXTURE - reach
    steps = (steps / look.period).astype(np.float32)
    grain = math.radians(look.grain)
    c, s = math.cos(grain), math.sin(grain)  # no numpy scalars: they would make float64 of it
    along = c * steps[None, :] + s * steps[:, None]
    along -= np.floor(along)
    if look.texture in ("striped", "halves"):  # halves: a period that no object fills
        on = along < 0.5
    else:
        across = c * steps[:, None] - s * steps[None, :]
        across -= np.floor(across)
        if look.texture == "dotted":
            on = (along - 0.5) ** 2 + (across - 0.5) ** 2 < _DOT**2
        elif look.texture == "checkered":
            on = (along < 0.5) ^ (across < 0.5)
        else:
            raise ValueError(f"unknown texture {look.texture!r}")
    return Image.fromarray(on.astype(np.uint8) * 255).reduce(_FINER_TEXTURE)


def _paint_shadow(
    canvas: Image.Image, shadow: Shadow, mask: Image.Image, corner: tuple[int, int]
) -> None:
    room = 2 * math.ceil(1.3 * shadow.blur)
    weight = [round(shadow.strength * value) for value in range(256)]
    soft = Image.new("L", (mask.width + 2 * room, mask.height + 2 * room))
    soft.paste(mask.point(weight), (room, room))
    blurred = soft.reduce(2).filter(ImageFilter.GaussianBlur(shadow.blur / 2))  # 4 times faster
    soft = blurred.resize(soft.size, Image.Resampling.BILINEAR)
    x, y = corner[0] + shadow.offset[0] - room, corner[1] + shadow.offset[1] - room
    stamp(canvas, (0, 0, 0), soft, (x, y))
