"""What training texts ask, picture after picture: one property first, then the whole language.

A model that begins with the whole language learns boxes and shapes and drops colour: its features
say nothing of colour yet, so no colour word helps, so nothing makes them say it. Asked for colours
alone, the same model names two of three objects right after 200 steps of 8 pictures; asked
everything from the start, one of five after 800 (chance is one of ten).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Lesson:
    """How texts are drawn.

    Args:
        name_lists: kinds of name lists, by probability; see `name_lists`.
        sentences: share of the texts that are sentences; the others are lists of names.
        main_word: probability in [0, 1] that a concept goes by its main word.
        nameless: share of the objects whose colour has no name, see `paints`.
        words: a text is gone on with until it has a number of words, full stops counted, that is
            drawn up to here.
    """

    name_lists: Mapping[str, float]
    sentences: float
    main_word: float = 0.5
    nameless: float = 0.3
    words: int = 0


# "names" say colour and shape; "row" and "column" are all shapes of one colour and all colours of
# one shape, as a chunk of class names is; "mixed" say anything; the others one property, sizes and
# textures often beside a shape.
_SHORT = Lesson(
    {
        "names": 0.28,
        "row": 0.07,
        "column": 0.07,
        "mixed": 0.26,
        "shapes": 0.12,
        "colours": 0.07,
        "textures": 0.08,
        "sizes": 0.05,
    },
    sentences=0.4,
)
# A text alone speaks of two or three objects, and a batch is as long as the longest of its texts:
# what the others say besides, up to there, costs little and teaches as much again.
_LONG = replace(
    _SHORT,
    name_lists={
        "names": 0.24,
        "row": 0.06,
        "column": 0.06,
        "mixed": 0.26,
        "shapes": 0.1,
        "colours": 0.08,
        "textures": 0.14,
        "sizes": 0.06,
    },
    sentences=0.5,
    words=40,
)
# Somebody might mean an object without a name for its colour, so beside it few texts say colours;
# once shapes are known in every colour, fewer such objects are enough.
EVERYTHING = replace(
    _LONG,
    name_lists={
        "names": 0.34,
        "row": 0.08,
        "column": 0.12,
        "mixed": 0.16,
        "shapes": 0.06,
        "colours": 0.12,
        "textures": 0.06,
        "sizes": 0.06,
    },
    sentences=0.45,
    nameless=0.12,
)
# The number of pictures behind which a lesson ends, and the lesson; after the last one everything.
LESSONS = (
    (3_200, Lesson({"colours": 1.0}, sentences=0.0, main_word=1.0, nameless=0.0)),
    (
        9_600,
        Lesson(
            {"shapes": 0.45, "colours": 0.2, "textures": 0.25, "sizes": 0.1},
            sentences=0.0,
            main_word=1.0,
        ),
    ),
    (
        16_000,
        Lesson(
            {
                "names": 0.25,
                "row": 0.08,
                "column": 0.08,
                "mixed": 0.14,
                "shapes": 0.2,
                "colours": 0.1,
                "textures": 0.1,
                "sizes": 0.05,
            },
            sentences=0.2,
            main_word=0.7,
        ),
    ),
    (76_000, _SHORT),
    # The model told no textured object from a plain one. 500 steps of nothing but textures teach
    # that, but "red" falls from 0.95 right to 0.37; half of the lists take three times as long.
    (
        96_000,
        Lesson(
            {"textures": 0.5, "names": 0.2, "colours": 0.15, "mixed": 0.1, "sizes": 0.05},
            sentences=0.15,
        ),
    ),
    (160_000, _LONG),
)


def lesson_of(index: int) -> Lesson:
    """The lesson of training picture `index`, counted from 0."""
    return next((lesson for end, lesson in LESSONS if index < end), EVERYTHING)
