"""Pictures and words in, boxes out, in one call: what `glipkit.load` returns."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from glipkit.data.transforms import TestTransform
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.inference.alignment import Alignment, align
from glipkit.inference.asked import Asked, Texts
from glipkit.inference.counts import check_count
from glipkit.inference.forward import full_digits, memory_errors
from glipkit.inference.found import Found
from glipkit.inference.pictures import picture_source, read_picture
from glipkit.inference.stream import stream
from glipkit.inference.words import read_words
from glipkit.modeling.multi_prompt import Detector
from glipkit.structures.boxes import iou
from glipkit.structures.detections import Detections
from glipkit.structures.images import pad_images, padded_size

logger = logging.getLogger(__name__)

# Where a box of a negative prompt covers another box so much, the better one explains the place: as
# in the suppression among boxes of one phrase.
SAME_PLACE = 0.6
_REMEMBERED_TEXTS = 64
REMEMBERED_PHRASES = 20_000  # of all these texts together; about 2 KB each
_MANY = (list, tuple)

Thresholds = float | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A picture that waits for others of its padded size."""

    index: int  # among the pictures given
    image: Image.Image
    pixels: Tensor  # (3, h, w) float32
    source: str | None
    asked: Asked


class PhraseDetector:
    """Finds what words name. Made by `glipkit.load`.

        found = detector("street.jpg", "a red circle . the small star on the left")
        found = detector("street.jpg", ["red circle", "blue star"], threshold=0.4)
        first, second = detector([image, array], "a red circle")

    Pictures and words are treated as in evaluation, so the answers are those that
    `tools/test_grounding_net.py` judges. Words are encoded once and remembered. May be called from
    several threads, which take turns.

    Args:
        detector: the model, with what turns its answers into boxes.
        tokenizer: of the model's text encoder.
        transform: what becomes of a picture.
        name: of the model.
        default_threshold: on scores, where a call names none.
        divisor: padded sides are multiples of this.
        max_tokens: of one prompt, [CLS] and [SEP] included.
        separator: between the class names of a prompt.
        chunk_size: class names in one prompt; -1 is as many as fit.
    """

    def __init__(
        self,
        detector: Detector,
        tokenizer: Tokenizer,
        transform: TestTransform,
        *,
        name: str,
        default_threshold: float = 0.5,
        divisor: int = 32,
        max_tokens: int = 256,
        separator: str = ". ",
        chunk_size: int = -1,
    ) -> None:
        self.detector = detector
        self.tokenizer = tokenizer
        self.transform = transform
        self.name = name
        self.default_threshold = default_threshold
        self.divisor = divisor
        self.max_tokens = max_tokens
        self.separator = separator
        self.chunk_size = chunk_size
        self._turn = threading.Lock()
        self._texts: OrderedDict[Hashable, Asked] = OrderedDict()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.detector.device

    def __repr__(self) -> str:
        return f"<PhraseDetector {self.name!r} on {self.device}>"

    def __call__(
        self,
        pictures: Any,
        text: str | Sequence[str] | Texts,
        *,
        threshold: Thresholds | None = None,
        negative_prompts: Sequence[str] = (),
        spans: Sequence[Any] | None = None,
        bgr: bool = False,
        batch_size: int = 4,
    ) -> Found | list[Found]:
        """Look for what the words name.

        Args:
            pictures: one picture, in any form that `read_picture` takes (path, bytes, Pillow,
                numpy, tensor); or a list of them.
            text: what to look for: phrases ("a red circle . a star"), a sentence, whose noun
                phrases are looked for, or a list of class names; see `read_words`. `Texts([...])`
                has one of these for each picture.
            threshold: on scores, in [0, 1]; or one for each phrase by its name, the others taking
                `default_threshold`, as None does for all. With 0 everything the model proposes is
                kept, so that `Found.above` can try other thresholds without asking it again.
            negative_prompts: what is not meant: where one of these explains a place better, the
                boxes of the text go; no boxes of these are returned.
            spans: for each phrase the character ranges of the text that name it, instead of what
                `read_words` finds; with `Texts`, one such list for each picture.
            bgr: arrays and tensors are blue, green, red, as OpenCV reads them.
            batch_size: pictures at once, at most; no answer depends on it. Only pictures that pad
                to the same size share a batch.

        Returns:
            What was found, boxes in pixels of the picture; for a list of pictures a list, in its
            order. Each answer holds its picture: for thousands of them use `stream`.

        Raises:
            ImageError: a picture cannot be used; says which and why.
            ValueError, TypeError: words, numbers or shapes are not usable; says which and why.
            MemoryError: there is not enough memory for one picture and one prompt.
        """
        check_count(batch_size, "batch_size")
        given = list(pictures) if isinstance(pictures, _MANY) else [pictures]
        asked = self._asked(text, len(given), spans, negative_prompts)
        levels = self._levels(threshold, asked)
        answers: list[Found | None] = [None] * len(given)
        for batch in self._batches(given, asked, bgr=bgr, size=batch_size):
            for each, detections in zip(batch, self._detect(batch)):
                found = _found(detections, each)
                answers[each.index] = found.above(_of(found, levels, self.default_threshold))
        return answers if isinstance(pictures, _MANY) else answers[0]

    def alignment(
        self,
        picture: Any,
        text: str | Sequence[str],
        *,
        spans: Sequence[Any] | None = None,
        bgr: bool = False,
    ) -> Alignment:
        """How strongly each place of a picture answers each token of the text.

        Args:
            picture: one, as for a call.
            text: as for a call.
            spans: as for a call.
            bgr: as for a call.

        Raises:
            ImageError, ValueError, TypeError, MemoryError: as a call.
        """
        (asked,) = self._asked(text, 1, spans, ())
        image = read_picture(picture, bgr=bgr)
        images = pad_images([self.transform(image)], self.divisor)
        with self._turn, full_digits(self.device), memory_errors(self.device, image):
            return align(self.detector, images, asked)

    def stream(self, source: Any, text: str | Sequence[str], **options: Any) -> Iterator[Found]:
        """What is found in each picture of a folder, a list or a video, one after the other.

            for found in detector.stream("clip.mp4", "a red circle", track=True):
                print(found.source, found.boxes)

        Args:
            source: see `glipkit.inference.stream.stream`.
            text: as for a call.
            options: those of a call, and `track`, `every` and others of that function.
        """
        return stream(self, source, text, **options)

    def _asked(
        self, text: Any, count: int, spans: Sequence[Any] | None, negatives: Sequence[str]
    ) -> list[Asked]:
        """What each of `count` pictures is asked."""
        if not isinstance(text, Texts):
            return [self._read(text, spans, negatives)] * count
        if len(text) != count:
            raise ValueError(
                f"{len(text)} texts came with {count} pictures; Texts has one for each picture, "
                "and a plain list is one of class names for all"
            )
        if spans is not None and len(spans) != count:
            raise ValueError(f"{len(spans)} lists of spans came with {count} texts")
        return [
            self._read(each, None if spans is None else spans[index], negatives)
            for index, each in enumerate(text)
        ]

    def _read(self, text: Any, spans: Sequence[Any] | None, negatives: Sequence[str]) -> Asked:
        """The text as prompts, remembered: a stream asks the same of every frame."""
        settings = {  # a caller may have assigned another since the last time
            "max_tokens": self.max_tokens,
            "separator": self.separator,
            "chunk_size": self.chunk_size,
        }
        words = None if spans is not None else _key(text, negatives)
        key = None if words is None else (words, self.tokenizer, *settings.values())
        with self._turn:
            asked = self._texts.pop(key, None) if key is not None else None
            if asked is None:
                asked = read_words(
                    text, self.tokenizer, spans=spans, negative_prompts=negatives, **settings
                )
            if key is not None:
                self._texts[key] = asked
            phrases = sum(len(each.phrases) for each in self._texts.values())
            while len(self._texts) > _REMEMBERED_TEXTS or phrases > REMEMBERED_PHRASES:
                phrases -= len(self._texts.popitem(last=False)[1].phrases)
        return asked

    def _levels(self, threshold: Thresholds | None, asked: Sequence[Asked]) -> Thresholds:
        """The thresholds of a call, checked."""
        if threshold is None:
            return self.default_threshold
        return checked_thresholds(threshold, {name for each in asked for name in each.wanted})

    def _batches(
        self, given: Sequence[Any], asked: Sequence[Asked], *, bgr: bool, size: int
    ) -> Iterator[list[_Waiting]]:
        """The pictures, read one by one, in batches of one padded size."""
        waiting: dict[tuple[int, int], list[_Waiting]] = {}
        for index, picture in enumerate(given):
            name = "the picture" if len(given) == 1 else f"picture {index}"
            image = read_picture(picture, bgr=bgr, name=name)
            pixels = self.transform(image)
            group = waiting.setdefault(padded_size(pixels.shape[1:], self.divisor), [])
            group.append(_Waiting(index, image, pixels, picture_source(picture), asked[index]))
            if len(group) == size:
                yield [*group]
                group.clear()
            elif sum(map(len, waiting.values())) > 4 * size:  # of many sizes: memory is finite
                group = max(waiting.values(), key=len)
                yield [*group]
                group.clear()
        yield from filter(None, waiting.values())

    def _detect(self, batch: Sequence[_Waiting]) -> list[Detections]:
        """The answers about pictures of one padded size."""
        images = pad_images([each.pixels for each in batch], self.divisor)
        sizes = [(each.image.height, each.image.width) for each in batch]
        prompts = [each.asked.prompts for each in batch]
        try:
            with self._turn, full_digits(self.device), memory_errors(self.device, batch[0].image):
                return self.detector.each(images, prompts, sizes)
        except MemoryError:
            if len(batch) == 1:
                raise
        logger.warning("not enough memory for %d pictures at once: asking half", len(batch))
        half = len(batch) // 2
        return [*self._detect(batch[:half]), *self._detect(batch[half:])]


def checked_thresholds(threshold: Thresholds, phrases: Collection[str]) -> Thresholds:
    """A threshold for all, or for some phrases, as numbers.

    Raises:
        TypeError: it is no number.
        ValueError: it does not lie in [0, 1], or is of a phrase that is not asked for.
    """
    if not isinstance(threshold, Mapping):
        return _level(threshold)
    for phrase in threshold:
        if phrase not in phrases:
            nearest = get_close_matches(str(phrase), phrases, n=5, cutoff=0.0)
            raise ValueError(
                f"threshold names {phrase!r}, which is not asked for; phrases are: "
                f"{', '.join(map(repr, nearest))}"
            )
    return {phrase: _level(value, phrase) for phrase, value in threshold.items()}


def without_explained(found: Detections, num_phrases: int) -> Detections:
    """The boxes of the phrases that are asked for, where no negative one explains the place better.

    Args:
        found: phrases from `num_phrases` on are negative.
        num_phrases: that are asked for.

    Returns:
        Without the boxes of negative phrases, and without those that share their place (IoU above
        `SAME_PLACE`) with a negative box of a higher score, whatever their phrases.
    """
    is_negative = found.phrase_ids >= num_phrases
    overlap = iou(found.boxes, found.boxes[is_negative], plus_one=True) > SAME_PLACE  # (N, M)
    is_better = found.scores[is_negative] > found.scores[:, None]
    kept = ~is_negative & ~(overlap & is_better).any(dim=1)
    return Detections(
        found.boxes[kept], found.scores[kept], found.phrase_ids[kept], found.image_size
    )


def _key(text: Any, negatives: Any) -> Hashable:
    """What tells two texts apart; None for what is no text."""
    words = [text] if isinstance(text, str) else text
    for given in (words, negatives):
        if not isinstance(given, _MANY) or not all(isinstance(word, str) for word in given):
            return None
    return isinstance(text, str), tuple(words), tuple(negatives)


def _found(detections: Detections, each: _Waiting) -> Found:
    phrases = each.asked.wanted
    if each.asked.num_negatives:
        detections = without_explained(detections, len(phrases))
    return Found(
        # Copies: what was made in inference mode may not be written to afterwards.
        boxes=detections.boxes.clone(),
        scores=detections.scores.clone(),
        phrase_ids=detections.phrase_ids.clone(),
        phrases=phrases,
        picture=each.image,
        source=each.source,
        asked=each.asked,
    )


def _of(found: Found, levels: Thresholds, default: float) -> Thresholds:
    """Thresholds for the phrases of one answer."""
    if not isinstance(levels, Mapping):
        return levels
    return {phrase: levels.get(phrase, default) for phrase in found.phrases}


def _level(value: Any, phrase: str = "") -> float:
    of = f" of {phrase!r}" if phrase else ""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"a threshold{of} is a number from 0 to 1, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"a threshold{of} is a number from 0 to 1, got {value}")
    return float(value)
