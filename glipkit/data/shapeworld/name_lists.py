"""Texts in the form of detection prompts, "red circle. blue star. ...", with hard negatives.

Names that fit nothing in the picture are what a detector learns to refuse. Drawn at random most of
them are easy: most of these share their colour or their shape with something that is there.
"""

from collections.abc import Sequence

import numpy as np

from glipkit.data.shapeworld.chance import pick, pick_weighted, shuffled
from glipkit.data.shapeworld.lessons import EVERYTHING, Lesson
from glipkit.data.shapeworld.phrases import Caption, CaptionText, Description, Wording
from glipkit.data.shapeworld.scenes import Pair, Scene
from glipkit.data.shapeworld.vocabulary import COLOURS, SHAPES, SIZES, TEXTURES

_LENGTH = (5, 18)  # names of a text, the upper end excluded
# What a negative has in common with an object of the picture.
# Evenly: of two properties a model drops the one that is asked for less.
_NEAR = {"colour": 0.35, "shape": 0.35, "nothing": 0.3}
_CHANGED = {"shape": 0.38, "colour": 0.38, "texture": 0.13, "size": 0.11}
_KEPT_WHOLE = 0.65  # probability that a text names all that is there, as far as it fits its kind
_KEPT = 0.5  # otherwise the probability of each to be named
_SEPARATORS = {". ": 0.9, " . ": 0.1}
_VALUES = {
    "colour": tuple(COLOURS),
    "shape": tuple(SHAPES),
    "size": tuple(SIZES),
    "texture": tuple(TEXTURES),
}


def name_list(
    scene: Scene, rng: np.random.Generator, *, pairs: Sequence[Pair], lesson: Lesson = EVERYTHING
) -> Caption:
    """A text of names, some of which are there.

    Args:
        scene: what is in the picture.
        rng: what is drawn from.
        pairs: colours and shapes that may be named together.
        lesson: what sorts of lists there are, and how often a main word is said.
    """
    kind = pick_weighted(rng, lesson.name_lists)
    length = int(rng.integers(*_LENGTH))
    if kind == "names":
        asked = _names(scene, rng, pairs, length)
    elif kind in ("row", "column"):
        asked = _line(scene, rng, pairs, "colour" if kind == "row" else "shape")
    elif kind == "mixed":
        asked = _mixed(scene, rng, pairs, length)
    elif kind in ("sizes", "textures"):
        asked = _of_shapes(scene, rng, kind.removesuffix("s"))
    else:
        asked = _single(scene, rng, kind.removesuffix("s"), length)
    wording = Wording(rng, main_share=lesson.main_word)
    bare = kind == "colours" and rng.random() < 0.4  # "red. blue. ..."
    separator = pick_weighted(rng, _SEPARATORS)
    text = CaptionText()
    for description in shuffled(rng, asked):
        text.add(separator if text.text else "")
        words = wording.word(description.colour) if bare else wording.say(description)
        text.name(words, description.fitting(scene))
    return text.done(kind)


def _some(rng: np.random.Generator, present: list[Description]) -> list[Description]:
    """What is named of what is there; often all, seldom nothing."""
    if rng.random() < _KEPT_WHOLE:
        return present
    kept = [each for each in present if rng.random() < _KEPT]
    return kept if kept or rng.random() < 0.2 else present[:1]


def _names(
    scene: Scene, rng: np.random.Generator, pairs: Sequence[Pair], length: int
) -> list[Description]:
    there = list(dict.fromkeys(thing.pair for thing in scene.objects))
    clear = [pair for pair in pairs if _pair_description(pair).is_clear(scene)]
    absent = [pair for pair in clear if pair not in there]
    asked = dict.fromkeys(_some(rng, [_pair_description(pair) for pair in there if pair in clear]))
    length = max(length, len(asked) + 3)
    while len(asked) < length:
        near, how = pick(rng, there), pick_weighted(rng, _NEAR)
        part = {"colour": 0, "shape": 1}.get(how)
        pool = absent if part is None else [pair for pair in absent if pair[part] == near[part]]
        asked[_pair_description(pick(rng, pool or absent))] = None
    return list(asked)


def _line(
    scene: Scene, rng: np.random.Generator, pairs: Sequence[Pair], same: str
) -> list[Description]:
    """All names of one colour, or of one shape, that is there."""
    named = [thing for thing in scene.objects if thing.colour] or scene.objects
    value = getattr(pick(rng, named), same) or pick(rng, _VALUES[same])
    line = [each for each in map(_pair_description, pairs) if getattr(each, same) == value]
    return [each for each in line if each.is_clear(scene)] or [_of_shape(scene)]


def _single(
    scene: Scene, rng: np.random.Generator, property_name: str, length: int
) -> list[Description]:
    """Names that say one property only."""
    values = _VALUES[property_name]
    everything = [Description(**{property_name: value}) for value in values]
    everything = [each for each in everything if each.is_clear(scene)]
    present = _some(rng, [each for each in everything if each.fitting(scene)])
    absent = shuffled(rng, [each for each in everything if not each.fitting(scene)])
    asked = present + absent[: max(length - len(present), 2)]
    return asked or [_of_shape(scene)]


def _of_shapes(scene: Scene, rng: np.random.Generator, property_name: str) -> list[Description]:
    """All values of a property, "striped thing" where that is clear, or of shapes there."""
    everything = [{property_name: value} for value in _VALUES[property_name]]
    if rng.random() < 0.5 and Description(**everything[0]).is_clear(scene):
        return [Description(**each) for each in everything]
    shapes = shuffled(rng, list(dict.fromkeys(thing.shape for thing in scene.objects)))
    return [Description(shape=shape, **each) for shape in shapes[:3] for each in everything]


def _mixed(
    scene: Scene, rng: np.random.Generator, pairs: Sequence[Pair], length: int
) -> list[Description]:
    """Names that say any properties, and such as differ from them in one."""
    shares = {"shape": 0.85, "colour": 0.6, "size": 0.35, "texture": 0.35}
    asked: dict[Description, None] = {}
    for thing in _some(rng, list(scene.objects)):
        said = [name for name, share in shares.items() if rng.random() < share]
        description = Description.of(thing, said or ["shape"])
        if description.properties() and description.is_clear(scene):
            asked[description] = None
    present = list(asked) or [_of_shape(scene)]
    for _ in range(4 * length):  # tries; many of them hit something that is there
        if len(asked) >= length:
            break
        changed = _changed(pick(rng, present), rng)
        if changed.is_among(pairs) and changed.is_clear(scene) and not changed.fitting(scene):
            asked[changed] = None
    return list(asked) or present


def _changed(description: Description, rng: np.random.Generator) -> Description:
    """The same but for one of the properties that it names."""
    said = {name: getattr(description, name) for name in description.properties()}
    name = pick_weighted(rng, {each: _CHANGED[each] for each in said})
    said[name] = pick(rng, [value for value in _VALUES[name] if value != said[name]])
    return Description(**said)


def _of_shape(scene: Scene) -> Description:
    """What can always be said."""
    return Description(shape=scene.objects[0].shape)


def _pair_description(pair: Pair) -> Description:
    return Description(colour=pair[0], shape=pair[1])
