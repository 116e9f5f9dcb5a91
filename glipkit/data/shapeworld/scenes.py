"""A picture and what is in it: which objects, how they look, where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from glipkit.data.shapeworld.backgrounds import as_photographed, make_background
from glipkit.data.shapeworld.chance import pick, pick_weighted
from glipkit.data.shapeworld.colours import BLACK, WHITE, distance, mixed
from glipkit.data.shapeworld.distractors import draw_distractors
from glipkit.data.shapeworld.outlines import OUTLINES
from glipkit.data.shapeworld.painting import Colour, Look, Patch, Shadow, make_patch, paint
from glipkit.data.shapeworld.paints import Paint, named_paint, nameless_paint
from glipkit.data.shapeworld.vocabulary import PAIRS, SHAPES, SIZE_RANGES

Pair = tuple[str, str]  # colour and shape, by the names of their concepts

VISIBLE_SHARE = 0.7  # of each object's pixels, at least
MIN_SIZE, MAX_SIZE = 160, 1024  # of pictures; below, small objects would be less than 13 pixels

_COUNTS = {1: 0.06, 2: 0.10, 3: 0.15, 4: 0.18, 5: 0.17, 6: 0.14, 7: 0.10, 8: 0.06, 9: 0.04}
_SIZES = {"small": 0.38, "medium": 0.40, "large": 0.22}
# What a further object has in common with an earlier one: twins to count, and near misses.
_LIKENESS = {"both": 0.12, "colour": 0.30, "shape": 0.20, "nothing": 0.38}
_CONTRAST = 80  # of an object's colour with what it lies on, in 8-bit RGB
_TRIES = 14  # places for one object
_APART = 3  # pixels between objects of one colour
_GRID = 32  # cells of the background to a side, when contrast is looked at


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object of a picture."""

    colour: str  # "" has no name: see `like`
    shape: str
    size: str
    texture: str  # "" has no name
    box: tuple[int, int, int, int]  # x, y, width, height in pixels
    visible: float  # share of its pixels that can be seen
    look: Look
    corner: tuple[int, int]  # of its patch in the picture
    like: tuple[str, ...] = ()  # names that somebody might give a colour that has none

    @property
    def pair(self) -> Pair:
        """Its colour and shape."""
        return self.colour, self.shape

    @property
    def centre(self) -> tuple[float, float]:
        """X and y of the middle of its box."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """What is in a picture."""

    size: int  # of the picture, in pixels
    objects: tuple[SceneObject, ...]  # from the bottom to the top
    distractors: tuple[str, ...]  # see `draw_distractors`
    quality: int  # JPEG's, for the file of the picture


def draw_scene(
    rng: np.random.Generator,
    *,
    size: int = 256,
    pairs: Sequence[Pair] = PAIRS,
    nameless: float = 0.0,
) -> tuple[Image.Image, Scene]:
    """Draw a picture.

    Args:
        rng: what is drawn from; the picture depends on nothing else.
        size: its side in pixels.
        pairs: colours and shapes that objects may have; all equally likely if they are `PAIRS`.
        nameless: share of the objects, in [0, 1), that have any shape and a colour without a name.

    Returns:
        An RGB picture of (size, size) pixels, and what is in it: at least one object.

    Raises:
        ValueError: the size is not between MIN_SIZE and MAX_SIZE.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(
            f"pictures have {MIN_SIZE} to {MAX_SIZE} pixels to a side (in smaller ones small "
            f"shapes could not be told apart), got {size}"
        )
    canvas = make_background(rng, size)
    distractors = draw_distractors(canvas, rng)
    shadow = _draw_shadow(rng, size)
    layout = _Layout(canvas)
    while not layout.objects:
        for pair in _draw_pairs(rng, pairs):
            if nameless and rng.random() < nameless:
                pair = ("", pick(rng, tuple(SHAPES)))
            layout.add(pair, rng, shadow)
    picture = as_photographed(canvas, rng)
    quality = int(rng.integers(62, 96))
    return picture, Scene(size, layout.finished(), tuple(distractors), quality)


def _draw_pairs(rng: np.random.Generator, pairs: Sequence[Pair]) -> list[Pair]:
    drawn = [pick(rng, pairs)]
    for _ in range(pick_weighted(rng, _COUNTS) - 1):
        like, how = pick(rng, drawn), pick_weighted(rng, _LIKENESS)
        if how == "both":
            drawn.append(like)
        elif how == "nothing":
            drawn.append(pick(rng, pairs))
        else:
            part = 0 if how == "colour" else 1
            drawn.append(pick(rng, [pair for pair in pairs if pair[part] == like[part]]))
    return drawn


def _draw_shadow(rng: np.random.Generator, size: int) -> Shadow | None:
    """The shadow of every object of a picture: the light falls on all from one side."""
    if rng.random() < 0.6:
        return None
    dx, dy = (int(step) for step in np.round(rng.uniform(-0.022, 0.022, 2) * size))
    return Shadow((dx, dy), rng.uniform(0.006, 0.016) * size, rng.uniform(0.25, 0.6))


def _draw_look(
    rng: np.random.Generator, shape: str, size: float, paint: Paint, shadow: Shadow | None
) -> Look:
    turn = OUTLINES[shape].turn
    look = Look(
        shape=shape,
        size=size,
        colour=paint.colour,
        angle=rng.uniform(-turn, turn),
        stretch=rng.uniform(0.92, 1.09),
        texture=paint.texture,
        second=paint.second,
        period=_period(rng, paint.texture, size),
        grain=rng.uniform(0, 180),
        shadow=shadow,
    )
    if rng.random() < 0.25:
        width = max(1.3, size * rng.uniform(0.03, 0.06))
        look = replace(look, border=_border(rng, paint.colour), border_width=width)
    return look


def _period(rng: np.random.Generator, texture: str, size: float) -> float:
    """From one stripe, dot or pair of checks to the next, so that they can be seen and counted."""
    if texture == "halves":
        return 3 * size
    if texture == "checkered":
        return max(9.0, size / rng.uniform(2.2, 3.2))
    return max(7.0, size / rng.uniform(3.2, 5.0))


def _border(rng: np.random.Generator, colour: Colour) -> Colour:
    choices = (BLACK, WHITE, mixed(colour, BLACK, 0.6), mixed(colour, WHITE, 0.6))
    return pick(rng, [each for each in choices if distance(each, colour) > 90])


class _Layout:
    """Objects as they come to lie on a picture, and which pixels of each can still be seen."""

    def __init__(self, canvas: Image.Image) -> None:
        self.objects: list[SceneObject] = []
        self._canvas = canvas
        self._side = canvas.width
        self._ground = np.asarray(canvas.resize((_GRID, _GRID), Image.Resampling.BOX)).astype(float)
        self._owner = np.zeros((self._side, self._side), dtype=np.uint8)  # 0, or number + 1
        self._total: list[int] = []  # pixels of each object, also those over the edge
        self._seen: list[int] = []

    def add(self, pair: Pair, rng: np.random.Generator, shadow: Shadow | None) -> None:
        """Paint an object somewhere, if there is a place where it can be recognised."""
        size_name = pick_weighted(rng, _SIZES)
        size, small = self._side * rng.uniform(*SIZE_RANGES[size_name]), size_name == "small"
        if pair[0]:
            colours = named_paint(rng, pair[0], small=small)
        else:
            colours = nameless_paint(rng, small=small)
        look = _draw_look(rng, pair[1], size, colours, shadow)
        patch = make_patch(look)
        for _ in range(_TRIES):
            left, top = self._draw_place(rng, patch)
            if self._take(pair[0], look, patch, (left, top)):
                box = self._clipped(left, top, patch)
                corner = (left - patch.box[0], top - patch.box[1])
                paint(self._canvas, look, patch, corner)
                said = "" if look.texture == "halves" else look.texture
                self.objects.append(
                    SceneObject(*pair, size_name, said, box, 1.0, look, corner, colours.like)
                )
                return

    def finished(self) -> tuple[SceneObject, ...]:
        """The objects, with what can be seen of them in the end."""
        return tuple(
            replace(each, visible=seen / total)
            for each, seen, total in zip(self.objects, self._seen, self._total)
        )

    def _draw_place(self, rng: np.random.Generator, patch: Patch) -> tuple[int, int]:
        """Left and top of the object: inside the picture, or a little over its edge."""
        x1, y1, x2, y2 = patch.box
        over = 0.2 if rng.random() < 0.15 else 0.0
        place = []
        for extent in (x2 - x1, y2 - y1):
            slack = round(over * extent)
            place.append(int(rng.integers(-slack, self._side - extent + slack + 1)))
        return place[0], place[1]

    def _clipped(self, left: int, top: int, patch: Patch) -> tuple[int, int, int, int]:
        """x, y, width, height of the object within the picture."""
        x1, y1, x2, y2 = patch.box
        right, bottom = min(left + x2 - x1, self._side), min(top + y2 - y1, self._side)
        x, y = max(left, 0), max(top, 0)
        return x, y, right - x, bottom - y

    def _take(self, colour: str, look: Look, patch: Patch, place: tuple[int, int]) -> bool:
        """Give the object its pixels, unless it would hide too much, or be hard to make out."""
        x, y, width, height = self._clipped(*place, patch)
        over_x, over_y = x - place[0] + patch.box[0], y - place[1] + patch.box[1]
        solid = patch.solid[over_y : over_y + height, over_x : over_x + width]
        total, inside = int(patch.solid.sum()), int(solid.sum())
        if inside < VISIBLE_SHARE * total:
            return False
        near = self._owner[
            max(y - _APART, 0) : y + height + _APART, max(x - _APART, 0) : x + width + _APART
        ]
        for number in np.flatnonzero(np.bincount(near.ravel())[1:]).tolist():
            if self.objects[number].colour == colour:
                return False
        tones = (look.colour,) if colour else (look.colour, look.second)
        if min(self._contrast(tone, (x, y, width, height)) for tone in tones) < _CONTRAST:
            return False
        owned = self._owner[y : y + height, x : x + width]
        covered = np.bincount(owned[solid], minlength=len(self.objects) + 1)[1:].tolist()
        for number, count in enumerate(covered):
            if self._seen[number] - count < VISIBLE_SHARE * self._total[number]:
                return False
        owned[solid] = len(self.objects) + 1
        self._seen = [seen - count for seen, count in zip(self._seen, covered)]
        self._seen.append(inside)
        self._total.append(total)
        return True

    def _contrast(self, colour: Colour, box: tuple[int, int, int, int]) -> float:
        """Distance of a colour from the mean of the background in a box."""
        x, y, width, height = (at * _GRID / self._side for at in box)
        columns = slice(int(x), max(int(x) + 1, round(x + width)))
        rows = slice(int(y), max(int(y) + 1, round(y + height)))
        return distance(colour, self._ground[rows, columns].mean(axis=(0, 1)))
