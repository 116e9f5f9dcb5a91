"""Where objects lie to each other: certainly so, certainly not so, or a matter of taste."""

from collections.abc import Sequence

from glipkit.data.shapeworld.scenes import Scene, SceneObject

# How each relation is said: "the circle <left of> the star".
RELATIONS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
}
# How a place in the picture is said: "the circle <on the left>"; and the outermost of several.
PLACES = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "above": ("at the top", "in the upper half"),
    "below": ("at the bottom", "in the lower half"),
}
OUTERMOST = {
    "left": ("leftmost",),
    "right": ("rightmost",),
    "above": ("highest", "topmost"),
    "below": ("lowest", "bottommost"),
}

# Shares of the side of the picture.
_CLEAR = 0.12  # a centre so far to the left, and not further up or down than that, is left of it
_CLEARLY_NOT = 0.03  # a centre so far to the right is not
_MIDDLE = 0.08  # a centre so close to the middle of the picture is on neither side
_OUTER_GAP = 0.08  # by which the leftmost is further left than any other
_SIZE_GAP = 1.25  # by which the largest is larger than any other


def holds(first: SceneObject, second: SceneObject, relation: str, side: int) -> bool | None:
    """Whether `first` is left of (...) `second`; None where people might disagree.

    Args:
        first: the object that the words speak of.
        second: the object that it is compared with.
        relation: a key of RELATIONS.
        side: of the picture, in pixels.
    """
    ahead = _along(first, relation) - _along(second, relation)
    across = abs(_across(first, relation) - _across(second, relation))
    if ahead >= _CLEAR * side and across <= ahead:
        return True
    return False if ahead <= -_CLEARLY_NOT * side else None


def decides(
    target: int, others: Sequence[int], reference: int, relation: str, scene: Scene
) -> bool:
    """Whether the relation to a reference object is true of one object and clearly of no other.

    Args:
        target: number of the object that it should be true of.
        others: numbers of those that it should not be true of.
        reference: number of the object that all are compared with.
        relation: a key of RELATIONS.
        scene: what the numbers count in.
    """

    def told(number: int) -> bool | None:
        objects = scene.objects
        return holds(objects[number], objects[reference], relation, scene.size)

    return told(target) is True and all(told(number) is False for number in others)


def is_at(target: int, others: Sequence[int], place: str, scene: Scene) -> bool:
    """Whether one object is clearly in a half of the picture, and the others in the other half."""
    beyond = [_along(each, place) - _sign(place) * scene.size / 2 for each in scene.objects]
    margin = _MIDDLE * scene.size
    return beyond[target] >= margin and all(beyond[number] <= -margin for number in others)


def is_outermost(target: int, others: Sequence[int], place: str, scene: Scene) -> bool:
    """Whether one object is clearly the leftmost (...) of all."""
    gaps = [
        _along(scene.objects[target], place) - _along(scene.objects[number], place)
        for number in others
    ]
    return all(gap >= _OUTER_GAP * scene.size for gap in gaps)


def is_largest(target: int, others: Sequence[int], scene: Scene, *, smallest: bool = False) -> bool:
    """Whether one object is clearly the largest, or the smallest, of all."""
    size = scene.objects[target].look.size
    sizes = [scene.objects[number].look.size for number in others]
    if smallest:
        return all(each >= _SIZE_GAP * size for each in sizes)
    return all(size >= _SIZE_GAP * each for each in sizes)


def _sign(direction: str) -> int:
    return -1 if direction in ("left", "above") else 1


def _along(thing: SceneObject, direction: str) -> float:
    """How far out an object lies in a direction; grows that way."""
    return _sign(direction) * thing.centre[0 if direction in ("left", "right") else 1]


def _across(thing: SceneObject, direction: str) -> float:
    return thing.centre[1 if direction in ("left", "right") else 0]
