"""A detector that answers by rule, for tests of what is built on detectors."""

import torch
from PIL import Image

from glipkit.inference.alignment import Alignment
from glipkit.inference.found import Found
from glipkit.inference.words import Asked

SCORES = (0.9, 0.6, 0.3)  # of the boxes of every phrase, whatever the picture


class FakeDetector:
    """Finds each piece between full stops three times; counts how often it is asked."""

    name = "nano"
    device = "cpu"
    default_threshold = 0.5

    def __init__(self) -> None:
        self.calls = 0
        self.looks = 0

    def __call__(self, pictures: Image.Image, text: str, *, threshold: float = 0.5) -> Found:
        self.calls += 1
        asked = ask(text)
        count = len(asked.phrases)
        phrase_ids = torch.arange(count).repeat_interleave(len(SCORES))
        places = torch.arange(len(phrase_ids), dtype=torch.float32)[:, None]
        boxes = torch.cat([places, places, places + 20, places + 30], dim=1)
        scores = torch.tensor(SCORES).repeat(count)
        kept = scores >= threshold
        return Found(
            boxes=boxes[kept],
            scores=scores[kept],
            phrase_ids=phrase_ids[kept],
            phrases=asked.phrases,
            picture=pictures,
            source=None,
            asked=asked,
        )

    def alignment(self, picture: Image.Image, text: str) -> Alignment:
        """Every token is seen in a corner of its own, the first best."""
        self.looks += 1
        tokens = tuple(text.replace(".", " . ").split())
        maps = torch.zeros(len(tokens), 4, 4)
        for index in range(len(tokens)):
            maps[index, index % 4, index // 4 % 4] = 1 / (index + 1)
        return Alignment(
            tokens=tokens,
            phrase_ids=tuple(-1 if token == "." else 0 for token in tokens),
            phrases=ask(text).phrases,
            maps=maps,
        )


def ask(text: str) -> Asked:
    """One caption, a phrase for each piece between full stops."""
    phrases = tuple(piece.strip() for piece in text.split(".") if piece.strip())
    spans = []
    place = 0
    for phrase in phrases:
        place = text.index(phrase, place)
        spans.append(((place, place + len(phrase)),))
        place += len(phrase)
    return Asked(
        prompts=(),
        captions=(text,),
        phrases=phrases,
        num_negatives=0,
        spans=tuple(spans),
        caption_ids=(0,) * len(phrases),
    )
