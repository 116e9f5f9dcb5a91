"""What training texts ask, picture after picture: one property first, then the whole language.

A model that begins with the whole language learns boxes and shapes and drops colour: its features
say nothing of colour yet, so no colour word helps, so nothing makes them say it. Asked for colours
alone, the same model names two of three objects right after 200 steps of 8 pictures; asked
everything from the start, one of five after 800 (chance is one of ten).
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lesson:
    """How texts are drawn.

    Args:
        name_lists: kinds of name lists, by probability; see `name_lists`.
        sentences: share of the texts that are sentences; the others are lists of names.
        main_word: probability in [0, 1] that a concept goes by its main word.
    """

    name_lists: Mapping[str, float]
    sentences: float = 0.25
    main_word: float = 0.5


# "names" say colour and shape; "row" and "column" are all shapes of one colour and all colours of
# one shape, as a chunk of class names is; "mixed" say anything; the others one property.
EVERYTHING = Lesson(
    {"names": 0.36, "row": 0.08, "column": 0.08, "mixed": 0.22, "shapes": 0.13, "colours": 0.13}
)
# The number of pictures behind which a lesson ends, and the lesson; after the last one everything.
LESSONS = (
    (3_200, Lesson({"colours": 1.0}, sentences=0.0, main_word=1.0)),
    (8_000, Lesson({"shapes": 0.65, "colours": 0.35}, sentences=0.0, main_word=1.0)),
    (
        16_000,
        Lesson(
            {
                "names": 0.3,
                "row": 0.1,
                "column": 0.1,
                "mixed": 0.1,
                "shapes": 0.25,
                "colours": 0.15,
            },
            sentences=0.1,
            main_word=0.7,
        ),
    ),
)


def lesson_of(index: int) -> Lesson:
    """The lesson of training picture `index`, counted from 0."""
    return next((lesson for end, lesson in LESSONS if index < end), EVERYTHING)
