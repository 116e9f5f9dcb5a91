"""Scenes for tests, and what can be told of them without the code that made them."""

from dataclasses import replace

import numpy as np
from PIL import Image

from glipkit.data.shapeworld.painting import make_patch, paint
from glipkit.data.shapeworld.scenes import Scene, SceneObject
from glipkit.data.shapeworld.vocabulary import COLOURS, NOUNS, SHAPES, SIZES, TEXTURES, plural
from glipkit.data.shapeworld.world import World

WORLD = World(seed=5)
WHITE = (255, 255, 255)
MARGIN = 60  # pixels around the picture, for what reaches over its edge


def scenes(count: int, split: str = "val") -> list[Scene]:
    """The first scenes of a split."""
    return [WORLD.draw(split, index)[1] for index in range(count)]


def solid_alone(thing: SceneObject, size: int) -> np.ndarray:
    """(size + 2 * MARGIN,) * 2 bool: the pixels that an object covers by half or more."""
    look = replace(
        thing.look,
        colour=WHITE,
        texture="plain",
        border=None if thing.look.border is None else WHITE,
        shadow=None,
    )
    canvas = Image.new("RGB", (size + 2 * MARGIN,) * 2)
    x, y = thing.corner
    paint(canvas, look, make_patch(look), (x + MARGIN, y + MARGIN))
    return np.asarray(canvas)[:, :, 0] >= 128


def meaning(words: str) -> dict[str, str]:
    """What the words of a phrase say: {"colour": "red", "shape": "circle"}; nothing else counts."""
    said = f" {words.lower()} "
    found = {}
    kinds = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES}
    forms = [
        (form, kind, name)
        for kind, concepts in kinds.items()
        for name, concept in concepts.items()
        for word in concept.words
        for form in ({word, plural(word)} if kind == "shape" else {word})
    ]
    for form, kind, name in sorted(forms, key=lambda each: -len(each[0])):
        if f" {form} " in said:
            assert kind not in found, f"{words!r} names two of a kind"
            found[kind] = name
            said = said.replace(f" {form} ", " ")
    filler = {*NOUNS, *map(plural, NOUNS), "a", "an", "the", "two", "three", "four", "five", "six"}
    filler |= {"many", "largest", "biggest", "smallest", "leftmost", "rightmost"}
    filler |= {"highest", "topmost", "lowest", "bottommost"}
    assert set(said.split()) <= filler, f"{words!r} has words that nobody knows: {said}"
    return found


def fitting(words: str, scene: Scene) -> tuple[int, ...]:
    """The objects that the words of a phrase fit."""
    said = meaning(words)
    return tuple(number for number, thing in enumerate(scene.objects) if fits(said, thing))


def fits(said: dict[str, str], thing: SceneObject) -> bool:
    """Whether an object has all properties that words say."""
    return all(getattr(thing, kind) == name for kind, name in said.items())
