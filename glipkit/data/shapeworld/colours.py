"""Colours as numbers: those that have a name, those that have none, and how far apart they are."""

import colorsys
from collections.abc import Sequence

import numpy as np

from glipkit.data.shapeworld.painting import Colour
from glipkit.data.shapeworld.vocabulary import HSV, ODD_HSV, SECOND_TONE

BLACK, WHITE = (12, 12, 12), (248, 248, 248)


def named_colour(rng: np.random.Generator, name: str) -> Colour:
    """One of the many colours that a word of the vocabulary means."""
    return _rgb(*(rng.uniform(*bounds) for bounds in HSV[name]))


def odd_colour(rng: np.random.Generator, name: str) -> Colour:
    """One of the hues between those that words of the vocabulary mean."""
    return _rgb(*(rng.uniform(*bounds) for bounds in ODD_HSV[name][1]))


def muted_colour(rng: np.random.Generator) -> Colour:
    """A colour for backgrounds: any hue, weaker than the colours of most objects."""
    return _rgb(rng.uniform(0, 360), rng.uniform(0, 0.38), rng.uniform(0.2, 0.92))


def nameless_colour(rng: np.random.Generator) -> Colour:
    """A grey that nobody would call black, white or any other colour of the vocabulary."""
    return _rgb(rng.uniform(0, 360), rng.uniform(0, 0.16), rng.uniform(0.38, 0.72))


def second_tone(name: str, colour: Colour) -> Colour:
    """The other tone of a texture in this colour."""
    towards, share = SECOND_TONE[name]
    return mixed(colour, WHITE if towards == "white" else BLACK, share)


def mixed(first: Sequence[float], second: Sequence[float], share: float) -> Colour:
    """So much of the second colour, the rest of the first."""
    red, green, blue = (round(float(a + share * (b - a))) for a, b in zip(first, second))
    return red, green, blue


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Length of the way from one colour to another in the cube of red, green and blue."""
    return sum((float(a) - float(b)) ** 2 for a, b in zip(first, second)) ** 0.5


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
