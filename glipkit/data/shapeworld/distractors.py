"""Things that lie about without a name: scribbles, letters, odd shapes."""

from collections.abc import Collection

import numpy as np
from PIL import Image

from glipkit.data.shapeworld.chance import pick, pick_weighted
from glipkit.data.shapeworld.colours import named_colour, nameless_colour
from glipkit.data.shapeworld.painting import filled, stamp, stroked, turned
from glipkit.data.shapeworld.vocabulary import COLOURS

# Strokes of letters and figures that look like no shape of the vocabulary, turned or not.
_LETTERS = {
    "A": [[(-0.7, 1), (0, -1), (0.7, 1)], [(-0.42, 0.3), (0.42, 0.3)]],
    "E": [[(0.6, -1), (-0.6, -1), (-0.6, 1), (0.6, 1)], [(-0.6, 0), (0.4, 0)]],
    "F": [[(0.6, -1), (-0.6, -1), (-0.6, 1)], [(-0.6, 0), (0.4, 0)]],
    "H": [[(-0.6, -1), (-0.6, 1)], [(0.6, -1), (0.6, 1)], [(-0.6, 0), (0.6, 0)]],
    "K": [[(-0.6, -1), (-0.6, 1)], [(0.6, -1), (-0.5, 0.1), (0.6, 1)]],
    "M": [[(-0.8, 1), (-0.8, -1), (0, 0.3), (0.8, -1), (0.8, 1)]],
    "N": [[(-0.6, 1), (-0.6, -1), (0.6, 1), (0.6, -1)]],
    "W": [[(-1, -1), (-0.5, 1), (0, -0.4), (0.5, 1), (1, -1)]],
    "Y": [[(-0.7, -1), (0, 0), (0.7, -1)], [(0, 0), (0, 1)]],
    "2": [[(-0.6, -0.6), (-0.2, -1), (0.4, -0.9), (0.5, -0.4), (-0.6, 1), (0.6, 1)]],
    "4": [[(0.4, 1), (0.4, -1), (-0.6, 0.3), (0.7, 0.3)]],
    "5": [[(0.6, -1), (-0.5, -1), (-0.5, -0.1), (0.4, 0), (0.5, 0.6), (0, 1), (-0.6, 0.8)]],
}
_ODD_SHAPES = {
    "bar": [(-1, -0.12), (1, -0.12), (1, 0.12), (-1, 0.12)],
    "corner": [(-1, -1), (-0.55, -1), (-0.55, 0.55), (1, 0.55), (1, 1), (-1, 1)],
    "bracket": [
        *((-1, -1), (-0.6, -1), (-0.6, 0.6), (0.6, 0.6)),
        *((0.6, -1), (1, -1), (1, 1), (-1, 1)),
    ],
    "stairs": [
        *((-1, -1), (-0.4, -1), (-0.4, -0.35), (0.3, -0.35), (0.3, 0.35), (1, 0.35)),
        *((1, 1), (0, 1), (0, 0.35), (-0.7, 0.35), (-0.7, -0.35), (-1, -0.35)),
    ],
}
_KINDS = {"scribble": 0.4, "letter": 0.35, "odd": 0.25}
_COUNTS = {0: 0.5, 1: 0.2, 2: 0.14, 3: 0.1, 4: 0.06}
_STRONG = 0.45  # probability that one has a colour of the vocabulary


def draw_distractors(canvas: Image.Image, rng: np.random.Generator) -> list[str]:
    """Draw none to four of them.

    Args:
        canvas: an RGB picture, changed in place.
        rng: what is drawn from.

    Returns:
        For each the colour that somebody might call it; "" for those of no clear colour.
    """
    return [_draw_one(canvas, rng) for _ in range(pick_weighted(rng, _COUNTS))]


def could_be_meant(distractors: Collection[str], colour: str | None) -> bool:
    """Whether words that name no shape, and perhaps a colour, might mean a distractor.

    Args:
        distractors: what `draw_distractors` gave.
        colour: of the vocabulary; None where the words name none.
    """
    return bool(distractors) if colour is None else colour in distractors


def _draw_one(canvas: Image.Image, rng: np.random.Generator) -> str:
    name = pick(rng, tuple(COLOURS)) if rng.random() < _STRONG else ""
    colour = named_colour(rng, name) if name else nameless_colour(rng)
    size = canvas.width * rng.uniform(0.09, 0.26)
    angle = rng.uniform(0, 360)
    reach = int(size * 0.85) + 3
    kind = pick_weighted(rng, _KINDS)
    if kind == "odd":
        points = np.array(_ODD_SHAPES[pick(rng, tuple(_ODD_SHAPES))], dtype=float)
        mask = filled(turned(points, size, angle), reach)
    else:
        letter = _LETTERS[pick(rng, tuple(_LETTERS))]
        strokes = letter if kind == "letter" else [_scribble(rng)]
        lines = [turned(np.array(line, dtype=float), size, angle) for line in strokes]
        mask = stroked(lines, reach, max(1.5, size * rng.uniform(0.05, 0.12)))
    x, y = (int(at) for at in rng.uniform(-reach, canvas.width - reach, 2))
    stamp(canvas, colour, mask, (x, y))
    return name


def _scribble(rng: np.random.Generator) -> np.ndarray:
    """(K, 2) points of a zigzag, a wave or a spiral in the unit frame."""
    t = np.linspace(0, 1, 25)
    kind = int(rng.integers(3))
    if kind == 0:
        count = int(rng.integers(5, 9))
        x = np.linspace(-1, 1, count)
        return np.stack([x, np.resize([-0.35, 0.35], count) + rng.normal(0, 0.12, count)], axis=1)
    if kind == 1:
        return np.stack([2 * t - 1, 0.3 * np.sin(2 * np.pi * rng.uniform(1.5, 3) * t)], axis=1)
    angles = 2 * np.pi * rng.uniform(2, 2.6) * t
    return np.stack([t * np.cos(angles), t * np.sin(angles)], axis=1)
