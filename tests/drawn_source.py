"""Training samples drawn on the spot, each of one colour that tells which it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from glipkit.data.images import ImageError
from glipkit.data.randomness import SampleRandom
from glipkit.data.sources import GroundedImage
from glipkit.structures.prompts import Phrase, Prompt

WORDS = ("cat", "dog", "owl")


@dataclass(frozen=True)
class DrawnSource:
    """Sample i is a picture of grey value i; its caption names WORDS in an order that is drawn."""

    name: str = "drawn"
    count: int = 10
    first_id: int = 1000
    sizes: Sequence[tuple[int, int] | None] = ((16, 32), (32, 16), (16, 32), (24, 24), (16, 32))
    unreadable: frozenset[int] = frozenset()
    broken: frozenset[int] = frozenset()  # fail with what nobody expects
    wrong: frozenset[int] = frozenset()  # have annotations that are not usable
    filler: int = 0  # words before the first phrase
    maskable: tuple[tuple[int, int], ...] | None = None

    def __len__(self) -> int:
        return self.count

    def size(self, index: int) -> tuple[int, int] | None:
        return self.sizes[index % len(self.sizes)]

    def image_id(self, index: int) -> int:
        return self.first_id + index

    def load(self, index: int, chance: SampleRandom) -> GroundedImage:
        if index in self.unreadable:
            raise ImageError(Path(f"{self.name}/{index}.jpg"), "no such file")
        if index in self.wrong:
            raise ValueError("a rect has three numbers")
        if index in self.broken:
            raise KeyError("tokens_positive")
        height, width = self.size(index) or (16, 32)
        words = list(WORDS)
        chance.python.shuffle(words)
        caption = " ".join(["so"] * self.filler + words)
        starts = {word: caption.index(word) for word in words}
        phrases = tuple(Phrase(w, ((starts[w], starts[w] + len(w)),)) for w in words)
        boxes = torch.tensor([[1.0, 1.0, 6.0, 6.0], [2.0, 2.0, width - 1.0, height - 1.0]])
        return GroundedImage(
            image=Image.new("RGB", (width, height), (index, index, index)),
            prompt=Prompt(caption, phrases),
            boxes=boxes,
            box_phrases=torch.tensor([[True, False, False], [False, False, True]]),
            image_id=self.image_id(index),
            maskable=self.maskable,
        )
