"""What is asked of the model, and what the page remembers of its answer."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from glipkit.inference.alignment import Alignment
from glipkit.inference.detector import PhraseDetector
from glipkit.inference.found import Found
from glipkit.page.limits import Limits
from glipkit.structures.detections import Detections
from glipkit.visualize import draw

# A shown picture's longer side, in pixels: below, labels would be coarse; above, every move of a
# slider would send megabytes.
SHOWN = (960, 1600)


@dataclass(frozen=True, slots=True)
class Answer:
    """One picture, asked once; thresholds and heat maps are views of it."""

    found: Found  # every box the model gave, whatever its score; without the picture
    shown: Image.Image  # RGB, the picture in the size in which it is shown
    picture: Image.Image  # RGB, for heat maps: as sent, or `shown` if that is smaller
    text: str
    seconds: float  # that the model took, reading the words included
    forwards: int  # passes through the model that it took, one for each prompt
    alignment: Alignment | None = None

    def above(self, thresholds: Sequence[float]) -> Found:
        """What reaches its phrase's threshold; no forward is needed.

        Args:
            thresholds: for each of the P phrases.
        """
        return self.found.above(dict(zip(self.found.phrases, thresholds)))

    def drawn(self, found: Found) -> Image.Image:
        """The shown picture with boxes on it."""
        width, height = self.found.size
        boxes = Detections(found.boxes, found.scores, found.phrase_ids, (height, width))
        return draw(self.shown, boxes, self.found.phrases, score_threshold=0.0)

    def best(self, phrase: int) -> float:
        """The highest score of a phrase anywhere in the picture; 0 if it has no box at all."""
        scores = self.found.scores[self.found.phrase_ids == phrase]
        return float(scores.max()) if len(scores) else 0.0


class Questions:
    """Asks the model one thing at a time, and counts what it costs.

    Args:
        detector: the model.
        limits: on what may be asked.
    """

    def __init__(self, detector: PhraseDetector, *, limits: Limits) -> None:
        self.detector = detector
        self.limits = limits
        self._busy = threading.Lock()

    def ask(self, picture: Image.Image, text: object) -> Answer:
        """Look for the words in the picture.

        Args:
            picture: RGB.
            text: what the visitor typed.

        Raises:
            ValueError: there are no words or too many of them.
        """
        words = self._checked(text)
        with self._busy:
            start = time.perf_counter()
            found = self.detector(picture, words, threshold=0.0)
            seconds = time.perf_counter() - start
        shown = shown_size(picture)
        # What a session remembers: a file of some kilobytes can be 1 by 50 million pixels.
        kept = min(picture, shown, key=lambda image: image.width * image.height)
        found = replace(found, picture=None)
        return Answer(found, shown, kept, words, seconds, forwards=len(found.asked.captions))

    def look(self, answer: Answer) -> Answer:
        """The same answer with its alignment scores, which take as many forwards again, once."""
        if answer.alignment is not None:
            return answer
        with self._busy:
            alignment = self.detector.alignment(answer.picture, answer.text)
        forwards = answer.forwards + len(answer.found.asked.captions)
        return replace(answer, alignment=alignment, forwards=forwards)

    def _checked(self, text: object) -> str:
        if not isinstance(text, str) or not text.strip():
            raise ValueError("Say what to look for, for example: a red circle . a blue star")
        if len(text) > self.limits.characters:
            raise ValueError(
                f"That is {len(text):,} characters; this page takes {self.limits.characters:,}. "
                "`glipkit detect` takes longer texts."
            )
        return text.strip()


def shown_size(picture: Image.Image) -> Image.Image:
    """The picture in the size in which the page shows it, proportions kept."""
    longer = max(picture.size)
    wanted = min(max(longer, SHOWN[0]), SHOWN[1])
    if wanted == longer:
        return picture
    width, height = (max(1, round(side * wanted / longer)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
