"""Pictures to try: drawn when the page starts, so that none has to be shipped."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from glipkit.data.shapeworld.scenes import Scene, draw_scene
from glipkit.data.shapeworld.vocabulary import pair_name, with_article

_SIZE = 480  # pixels to a side; the model sees them smaller
# Seeds from which drawings fit; when shapeworld changes, later ones are looked at.
_STARTS = (10, 38, 39)
_TRIES = 500
_COUNTS = range(4, 8)  # objects that are many enough to choose from and few enough to see


class Example(NamedTuple):
    """A picture, and words that find something in it."""

    picture: Image.Image
    words: str


def drawn_examples() -> tuple[Example, ...]:
    """A few drawings from the world that glip-nano was trained on, always the same ones.

    Returns:
        One that is asked by names, one by looks, one by kinds.
    """
    found = (_first(row, words) for row, words in enumerate((_names, _looks, _kinds)))
    return tuple(example for example in found if example is not None)


def _first(row: int, words: Callable[[Scene], str | None]) -> Example | None:
    """The first drawing of a row of seeds about which such words can be said."""
    for seed in range(_STARTS[row], _STARTS[row] + _TRIES):
        picture, scene = draw_scene(np.random.default_rng((row, seed)), size=_SIZE)
        said = words(scene) if _is_clear(scene) else None
        if said is not None:
            return Example(picture, said)
    return None


def _is_clear(scene: Scene) -> bool:
    """Whether it takes a visitor one look to see what is there."""
    large = [one for one in scene.objects if one.size != "small"]
    return len(scene.objects) in _COUNTS and len(large) >= 3 and not scene.distractors


def _names(scene: Scene) -> str | None:
    """Three things by colour and shape."""
    pairs = list(dict.fromkeys(one.pair for one in reversed(scene.objects)))
    if len(pairs) < 4:
        return None
    return " . ".join(with_article(pair_name(pair)) for pair in pairs[:3])


def _looks(scene: Scene) -> str | None:
    """One thing by its pattern, one by its size; other things of these shapes lie about."""
    shapes = [one.shape for one in scene.objects]
    several = [one for one in scene.objects if shapes.count(one.shape) > 1]
    patterns = [(one.texture, one.shape) for one in scene.objects]
    sizes = [(one.size, one.shape) for one in scene.objects]
    for one in several:
        pattern = (one.texture, one.shape)
        if one.texture == "plain" or patterns.count(pattern) > 1:
            continue
        for other in several:
            size = (other.size, other.shape)
            if other is not one and sizes.count(size) == 1 and other.size != "medium":
                return f"the {' '.join(pattern)} . the {' '.join(size)}"
    return None


def _kinds(scene: Scene) -> str | None:
    """Everything of one colour, and everything of one shape."""
    colours = [one.colour for one in scene.objects]
    shapes = [one.shape for one in scene.objects]
    for colour in dict.fromkeys(colours):
        if colours.count(colour) < 2:
            continue
        for shape in dict.fromkeys(shapes):
            if shapes.count(shape) > 1 and (colour, shape) not in {o.pair for o in scene.objects}:
                return f"{with_article(colour)} thing . {with_article(shape)}"
    return None
