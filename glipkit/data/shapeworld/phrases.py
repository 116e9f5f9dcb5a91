"""Words for objects: what a description fits, how it is said, and which words own which boxes."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from glipkit.data.shapeworld.chance import pick
from glipkit.data.shapeworld.distractors import could_be_meant
from glipkit.data.shapeworld.scenes import Pair, Scene, SceneObject
from glipkit.data.shapeworld.vocabulary import CONCEPTS, NOUNS, plural

PROPERTIES = ("size", "texture", "colour", "shape")  # in the order in which they are said


@dataclass(frozen=True, slots=True)
class Description:
    """Some properties of an object, by the names of their concepts; None where nothing is said."""

    size: str | None = None
    texture: str | None = None
    colour: str | None = None
    shape: str | None = None

    @classmethod
    def of(cls, thing: SceneObject, properties: Collection[str]) -> "Description":
        """These properties ("colour", ...) of an object, as far as they have names."""
        return cls(**{name: getattr(thing, name) or None for name in properties})

    def properties(self) -> tuple[str, ...]:
        """The names of those that are said."""
        return tuple(name for name in PROPERTIES if getattr(self, name) is not None)

    def fits(self, thing: SceneObject) -> bool:
        """Whether an object has all of them."""
        return all(getattr(thing, name) == getattr(self, name) for name in self.properties())

    def fitting(self, scene: Scene) -> tuple[int, ...]:
        """The objects of a scene that have all of them, by number."""
        return tuple(number for number, each in enumerate(scene.objects) if self.fits(each))

    def is_clear(self, scene: Scene) -> bool:
        """Whether nobody could take for it a distractor, or an object whose colour has no name."""
        if self.shape is None and could_be_meant(scene.distractors, self.colour):
            return False
        colourless = replace(self, colour=None)
        return not any(self.colour in each.like and colourless.fits(each) for each in scene.objects)

    def is_among(self, pairs: Collection[Pair]) -> bool:
        """Whether its colour and shape, if it says both, may be said together."""
        return None in (self.colour, self.shape) or (self.colour, self.shape) in pairs


class Wording:
    """Which of its words each concept goes by in one text.

    Args:
        rng: what is drawn from.
        main_share: probability in [0, 1] of the main word; the others share the rest.
    """

    def __init__(self, rng: np.random.Generator, *, main_share: float = 0.5) -> None:
        self._rng = rng
        self._main_share = main_share
        self._words: dict[str, str] = {}

    def word(self, concept: str) -> str:
        """The word of a concept, the same one each time."""
        if concept not in self._words:
            words = CONCEPTS[concept].words
            main = self._rng.random() < self._main_share
            self._words[concept] = words[0] if main else pick(self._rng, words[1:])
        return self._words[concept]

    def noun(self) -> str:
        """A word for something whose shape is not said, the same one each time."""
        if "" not in self._words:
            self._words[""] = pick(self._rng, NOUNS)
        return self._words[""]

    def say(self, description: Description, *, many: bool = False) -> str:
        """The description without article: "small striped red circles"."""
        said = [description.size, description.texture, description.colour]
        noun = self.noun() if description.shape is None else self.word(description.shape)
        words = [self.word(each) for each in said if each is not None]
        return " ".join([*words, plural(noun) if many else noun])


@dataclass(frozen=True, slots=True)
class Mention:
    """Words of a text that name objects, or turn out to name none."""

    start: int  # characters [start, end)
    end: int
    objects: tuple[int, ...]  # numbers of the objects they own

    @property
    def span(self) -> tuple[int, int]:
        """Its range of characters."""
        return self.start, self.end


@dataclass(frozen=True, slots=True)
class Caption:
    """A text about a picture."""

    text: str
    mentions: tuple[Mention, ...]
    kind: str  # what sort of text it is, see `name_lists` and `captions`
    candidates: int = 0  # objects that fit the words of a phrase which a relation decides

    def spans(self, number: int) -> list[tuple[int, int]]:
        """The ranges of characters that name an object."""
        return [mention.span for mention in self.mentions if number in mention.objects]


class CaptionText:
    """A text in the making."""

    def __init__(self) -> None:
        self.text = ""
        self._mentions: list[Mention] = []

    def add(self, words: str) -> "CaptionText":
        """Go on with words that name nothing."""
        self.text += words
        return self

    def name(self, words: str, objects: Sequence[int]) -> "CaptionText":
        """Go on with words that name objects."""
        start = len(self.text)
        self.text += words
        self._mentions.append(Mention(start, len(self.text), tuple(objects)))
        return self

    def append(self, part: Caption) -> "CaptionText":
        """Go on with a whole text."""
        before = len(self.text)
        self.text += part.text
        self._mentions += (
            Mention(each.start + before, each.end + before, each.objects) for each in part.mentions
        )
        return self

    def mentioned(self) -> set[int]:
        """Numbers of the objects named so far."""
        return {number for mention in self._mentions for number in mention.objects}

    def done(self, kind: str, *, candidates: int = 0) -> Caption:
        """The text as it is."""
        return Caption(self.text, tuple(self._mentions), kind, candidates)


def joined(parts: Sequence[Caption]) -> Caption:
    """One text of several, sentence after sentence; one part stays as it is."""
    if len(parts) == 1:
        return parts[0]
    text = CaptionText()
    for part in parts:
        text.add(". " if text.text else "").append(part)
    return text.done("+".join(part.kind for part in parts))


def descriptions(
    thing: SceneObject, rng: np.random.Generator, *, always: Collection[str] = ()
) -> Iterator[Description]:
    """Ways to describe an object, from short ones to the full one, with properties drawn.

    Args:
        thing: what to describe.
        rng: what is drawn from.
        always: properties that each of them names.
    """
    shares = {"shape": 0.9, "colour": 0.6, "size": 0.25, "texture": 0.25}
    for _ in range(3):
        drawn = [name for name, share in shares.items() if rng.random() < share]
        description = Description.of(thing, {*drawn, *always})
        if description.properties():
            yield description
    yield Description.of(thing, {"colour", "shape", *always})
    yield Description.of(thing, {"size", "colour", "shape", *always})
    yield Description.of(thing, set(shares))
