"""Texts in sentences: "two blue squares and the small red circle left of the striped star"."""

from collections.abc import Callable, Mapping

import numpy as np

from glipkit.data.shapeworld.chance import pick, pick_weighted, shuffled
from glipkit.data.shapeworld.phrases import (
    Caption,
    CaptionText,
    Description,
    Wording,
    descriptions,
)
from glipkit.data.shapeworld.relations import (
    OUTERMOST,
    PLACES,
    RELATIONS,
    decides,
    is_at,
    is_largest,
    is_outermost,
)
from glipkit.data.shapeworld.scenes import Scene
from glipkit.data.shapeworld.vocabulary import with_article

# How often each kind of text is tried first. "list": phrases that decide by themselves; "relation":
# the same with a relation that is true besides; "related": only the relation says which one;
# "outermost", "largest", "place": only that word says which one.
TRAIN_KINDS = {
    "list": 0.36,
    "relation": 0.14,
    "related": 0.28,
    "outermost": 0.08,
    "largest": 0.06,
    "place": 0.08,
}
VAL_KINDS = {
    "list": 0.5,
    "relation": 0.3,
    "related": 0.07,
    "outermost": 0.04,
    "largest": 0.05,
    "place": 0.04,
}
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_BEGINNINGS = {"": 0.7, "a picture of ": 0.1, "find ": 0.1, "a photo with ": 0.1}
_JOINTS = {"and": 0.6, ". ": 0.25, ", ": 0.15}

Maker = Callable[[Scene, np.random.Generator, Wording], Caption | None]
# The words before and behind a description that are true of an object, and of no other one.
Ways = Callable[[int, list[int]], list[tuple[str, str]]]


def caption(
    scene: Scene,
    rng: np.random.Generator,
    *,
    kinds: Mapping[str, float] = TRAIN_KINDS,
    main_word: float = 0.5,
) -> Caption:
    """A text in sentences, each of whose phrases has a box.

    An object is named by one phrase at most.

    Args:
        scene: what is in the picture.
        rng: what is drawn from.
        kinds: what sort of text, by probability; where the picture does not lend itself to the one
            that is drawn, the text is a list.
        main_word: probability in [0, 1] that a concept goes by its main word.
    """
    wording = Wording(rng, main_share=main_word)
    made = _MAKERS[pick_weighted(rng, kinds)](scene, rng, wording)
    return made or _list(scene, rng, wording)


def relation_caption(scene: Scene, rng: np.random.Generator) -> Caption | None:
    """A text in which only a relation says which of several objects is meant.

    Its first mention is the object that the relation decides, its second one the reference.

    Returns:
        None where the picture has no such objects.
    """
    return _related(scene, rng, Wording(rng, main_share=1.0))


def _list(scene: Scene, rng: np.random.Generator, wording: Wording) -> Caption:
    text = CaptionText().add(pick_weighted(rng, _BEGINNINGS))
    _add_list(text, scene, rng, wording, most=int(rng.integers(1, 5)))
    return text.done("list")


def _add_list(
    text: CaptionText,
    scene: Scene,
    rng: np.random.Generator,
    wording: Wording,
    *,
    most: int,
    lead: str = "",
) -> None:
    """Go on with phrases for objects that are not named yet, if there are any.

    Args:
        text: what is gone on with.
        scene: what is in the picture.
        rng: what is drawn from.
        wording: the words.
        most: phrases at most.
        lead: stands before the first of them.
    """
    phrases: list[tuple[str, tuple[int, ...]]] = []
    named = text.mentioned()
    for number in shuffled(rng, range(len(scene.objects))):
        if len(phrases) == most or number in named:
            continue
        for description in descriptions(scene.objects[number], rng):
            owned = description.fitting(scene)
            if description.is_clear(scene) and named.isdisjoint(owned):
                phrases.append((_with_number(description, len(owned), rng, wording), owned))
                named.update(owned)
                break
    joint = pick_weighted(rng, _JOINTS)
    for place, (words, owned) in enumerate(phrases):
        between = joint
        if joint == "and":
            between = " and " if place == len(phrases) - 1 else ", "
        text.add(between if place else lead).name(words, owned)


def _with_number(
    description: Description, count: int, rng: np.random.Generator, wording: Wording
) -> str:
    """A description of `count` objects: "a red circle", "two red circles", "the red circles"."""
    words = wording.say(description, many=count > 1)
    if count == 1:
        return with_article(words) if rng.random() < 0.5 else f"the {words}"
    before = pick(rng, (_NUMBERS.get(count, "many"), "the", ""))
    return f"{before} {words}".strip()


def _unique(scene: Scene, number: int, rng: np.random.Generator) -> Description | None:
    """A description of one object that fits no other."""
    for description in descriptions(scene.objects[number], rng):
        if description.is_clear(scene) and description.fitting(scene) == (number,):
            return description
    return None


def _ambiguous(
    scene: Scene, number: int, rng: np.random.Generator
) -> tuple[Description, list[int]] | None:
    """A description of one object that fits others too, and the numbers of those."""
    for description in descriptions(scene.objects[number], rng):
        others = [each for each in description.fitting(scene) if each != number]
        if others and description.is_clear(scene):
            return description, others
    return None


def _related(scene: Scene, rng: np.random.Generator, wording: Wording) -> Caption | None:
    for target in shuffled(rng, range(len(scene.objects))):
        drawn = _ambiguous(scene, target, rng)
        if drawn is None:
            continue
        description, others = drawn
        for reference in shuffled(rng, range(len(scene.objects))):
            if reference in (target, *others):
                continue
            true = [each for each in RELATIONS if decides(target, others, reference, each, scene)]
            told = _unique(scene, reference, rng) if true else None
            if told is None:
                continue
            text = CaptionText().name(f"the {wording.say(description)}", (target,))
            text.add(f" {pick(rng, RELATIONS[pick(rng, true)])} ")
            text.name(f"the {wording.say(told)}", (reference,))
            return text.done("related", candidates=1 + len(others))
    return None


def _relation(scene: Scene, rng: np.random.Generator, wording: Wording) -> Caption | None:
    for target in shuffled(rng, range(len(scene.objects))):
        description = _unique(scene, target, rng)
        if description is None:
            continue
        for reference in shuffled(rng, range(len(scene.objects))):
            true = [each for each in RELATIONS if decides(target, (), reference, each, scene)]
            told = _unique(scene, reference, rng) if true else None
            if told is None:
                continue
            article = pick(rng, (with_article, "the {}".format))
            text = CaptionText().name(article(wording.say(description)), (target,))
            text.add(f" {pick(rng, RELATIONS[pick(rng, true)])} ")
            text.name(article(wording.say(told)), (reference,))
            if rng.random() < 0.4:
                _add_list(text, scene, rng, wording, most=int(rng.integers(1, 3)), lead=". ")
            return text.done("relation")
    return None


def _decided(
    scene: Scene, rng: np.random.Generator, wording: Wording, *, kind: str, ways: Ways
) -> Caption | None:
    """A phrase that fits several objects, with words that are true of one of them only."""
    for target in shuffled(rng, range(len(scene.objects))):
        drawn = _ambiguous(scene, target, rng)
        if drawn is None:
            continue
        description, others = drawn
        if true := ways(target, others):
            before, behind = pick(rng, true)
            text = CaptionText().name(f"{before} {wording.say(description)}", (target,))
            return text.add(behind).done(kind, candidates=1 + len(others))
    return None


def _outermost(scene: Scene, rng: np.random.Generator, wording: Wording) -> Caption | None:
    def ways(target: int, others: list[int]) -> list[tuple[str, str]]:
        true = [each for each in OUTERMOST if is_outermost(target, others, each, scene)]
        return [(f"the {said}", "") for each in true for said in OUTERMOST[each]]

    return _decided(scene, rng, wording, kind="outermost", ways=ways)


def _place(scene: Scene, rng: np.random.Generator, wording: Wording) -> Caption | None:
    def ways(target: int, others: list[int]) -> list[tuple[str, str]]:
        true = [each for each in PLACES if is_at(target, others, each, scene)]
        return [("the", f" {said}") for each in true for said in PLACES[each]]

    return _decided(scene, rng, wording, kind="place", ways=ways)


def _largest(scene: Scene, rng: np.random.Generator, wording: Wording) -> Caption | None:
    def ways(target: int, others: list[int]) -> list[tuple[str, str]]:
        if is_largest(target, others, scene):
            return [("the largest", ""), ("the biggest", "")]
        return [("the smallest", "")] if is_largest(target, others, scene, smallest=True) else []

    return _decided(scene, rng, wording, kind="largest", ways=ways)


_MAKERS: dict[str, Maker] = {
    "list": _list,
    "relation": _relation,
    "related": _related,
    "outermost": _outermost,
    "largest": _largest,
    "place": _place,
}
