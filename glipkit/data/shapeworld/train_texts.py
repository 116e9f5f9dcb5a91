"""What is asked about a training picture: names or sentences, gone on with for a while."""

import re
from collections.abc import Sequence

import numpy as np

from glipkit.data.shapeworld.captions import caption
from glipkit.data.shapeworld.lessons import Lesson
from glipkit.data.shapeworld.name_lists import name_list
from glipkit.data.shapeworld.phrases import Caption
from glipkit.data.shapeworld.scenes import Pair, Scene

_MOST_PARTS = 6
_WORD = re.compile(r"\w+|[^\w\s]")  # or a full stop, which is as much to read


def train_text(
    scene: Scene, rng: np.random.Generator, *, pairs: Sequence[Pair], lesson: Lesson
) -> list[Caption]:
    """The parts of one text, all of them sentences or all of them lists of names.

    Args:
        scene: what is in the picture.
        rng: what is drawn from.
        pairs: colours and shapes that lists may name together.
        lesson: what sorts of texts there are, and how many words they go on for.
    """
    in_sentences = rng.random() < lesson.sentences

    def part() -> Caption:
        if in_sentences:
            return caption(scene, rng, main_word=lesson.main_word)
        return name_list(scene, rng, pairs=pairs, lesson=lesson)

    parts = [part()]
    wanted = int(rng.integers(lesson.words // 4, lesson.words)) if lesson.words else 0
    while _words(parts) < wanted and len(parts) < _MOST_PARTS:
        parts.append(part())
    return parts


def _words(parts: list[Caption]) -> int:
    return sum(len(_WORD.findall(each.text)) for each in parts)
