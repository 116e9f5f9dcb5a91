"""What the model thought of a picture, also of what it did not report."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from glipkit.inference.asked import Asked
from glipkit.inference.detector import PhraseDetector
from glipkit.inference.found import Found


class Explaining:
    """Answers as a detector does, and keeps a line about each picture: every phrase's best score.

    Args:
        detector: whom to ask.
    """

    def __init__(self, detector: PhraseDetector) -> None:
        self.said: deque[str] = deque()  # of the pictures not yet spoken of, in their order
        self.asked: Asked | None = None
        self._detector = detector

    def __call__(
        self,
        pictures: list[Any],
        text: Any,
        *,
        threshold: float | Mapping[str, float] | None = None,
        **how: Any,
    ) -> list[Found]:
        """As `PhraseDetector.__call__` for a list of pictures."""
        answers = []
        for everything in self._detector(pictures, text, threshold=0.0, **how):
            found = everything.above(self._limits(threshold, everything))
            self.said.append(best_scores(everything, found))
            answers.append(found)
        return answers

    def _limits(
        self, threshold: float | Mapping[str, float] | None, found: Found
    ) -> float | Mapping[str, float]:
        if threshold is None:
            return self._detector.default_threshold
        if not isinstance(threshold, Mapping):
            return threshold
        return {**dict.fromkeys(found.phrases, self._detector.default_threshold), **threshold}


def best_scores(everything: Found, reported: Found) -> str:
    """Every phrase with its best score, and how many of its boxes are reported."""
    best: dict[str, float] = {}
    for box in everything:  # the best first
        best.setdefault(box.label, box.score)
    labels = reported.labels
    return ", ".join(
        f"{phrase!r} at best {best[phrase]:.3f}, {labels.count(phrase)} reported"
        if phrase in best
        else f"{phrase!r} nowhere"
        for phrase in everything.phrases
    )
