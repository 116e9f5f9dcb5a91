"""What objects are painted with: a colour that has a name, or, in training, none that has one.

A held-out pair never occurs, so "red" is a hint of what shape something has, and a model learns the
hint: asked for shapes alone, with every colour named, it knew 0.95 of the objects of pairs that it
had seen and 0.70 of the others, large ones too. Two-coloured objects and odd hues of every shape
make the hint wrong, and leave it to words that nobody could misunderstand to name a colour.
"""

from dataclasses import dataclass

import numpy as np

from glipkit.data.shapeworld.chance import pick, pick_weighted
from glipkit.data.shapeworld.colours import (
    BLACK,
    WHITE,
    distance,
    mixed,
    named_colour,
    odd_colour,
    second_tone,
)
from glipkit.data.shapeworld.painting import Colour
from glipkit.data.shapeworld.vocabulary import COLOURS, ODD_HSV, SECOND_TONE

_TEXTURES = {"plain": 0.46, "striped": 0.18, "dotted": 0.18, "checkered": 0.18}  # if not small
_OF_TWO = {"halves": 0.31, "striped": 0.23, "dotted": 0.23, "checkered": 0.23}  # if not small
_TWO_COLOURED = 0.6  # share of those without a name; the others have an odd hue
_TWO_TONES = 110  # that two colours are apart at least, in 8-bit RGB


@dataclass(frozen=True, slots=True)
class Paint:
    """The colours of one object and how they lie on it."""

    colour: Colour
    second: Colour
    texture: str  # of TEXTURES, or "halves", which has no name
    like: tuple[str, ...] = ()  # where the colour has no name: those that somebody might give it


def named_paint(rng: np.random.Generator, name: str, *, small: bool) -> Paint:
    """A colour of the vocabulary; small objects are plain."""
    colour = named_colour(rng, name)
    texture = "plain" if small else pick_weighted(rng, _TEXTURES)
    return Paint(colour, second_tone(name, colour), texture)


def nameless_paint(rng: np.random.Generator, *, small: bool) -> Paint:
    """Two colours of the vocabulary at once, or one that is between them."""
    if rng.random() < _TWO_COLOURED:
        return _two_coloured(rng, small=small)
    name = pick(rng, tuple(ODD_HSV))
    colour = odd_colour(rng, name)
    second = mixed(colour, pick(rng, (BLACK, WHITE)), 0.55)
    texture = "plain" if small else pick_weighted(rng, _TEXTURES)
    return Paint(colour, second, texture, ODD_HSV[name][0])


def _two_coloured(rng: np.random.Generator, *, small: bool) -> Paint:
    while True:
        first, other = pick(rng, tuple(COLOURS)), pick(rng, tuple(COLOURS))
        colour, second = named_colour(rng, first), named_colour(rng, other)
        # Red with black is what a red texture is made of, so it would be a red object.
        named = SECOND_TONE[first][0] == other or SECOND_TONE[other][0] == first
        if first != other and not named and distance(colour, second) >= _TWO_TONES:
            texture = "halves" if small else pick_weighted(rng, _OF_TWO)
            return Paint(colour, second, texture, (first, other))
