"""One world: what its settings are, and picture by picture what they lead to."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from glipkit.data.shapeworld.captions import VAL_KINDS, caption, relation_caption
from glipkit.data.shapeworld.lessons import EVERYTHING, Lesson, lesson_of
from glipkit.data.shapeworld.phrases import Caption, joined
from glipkit.data.shapeworld.scenes import MAX_SIZE, MIN_SIZE, Scene, draw_scene
from glipkit.data.shapeworld.train_texts import train_text
from glipkit.data.shapeworld.vocabulary import SEEN

VERSION = 7  # of the drawings and texts: another one gives other bytes for the same seed
SPLITS = ("train", "val")
MAX_CAPTIONS = 16
# What the generators of a picture are for, so that a change of the texts leaves the pictures alone.
_PICTURE, _TEXT, _RELATION = 0, 1, 2


@dataclass(frozen=True, slots=True)
class World:
    """Pictures without end; picture `index` of a split depends on nothing but these settings.

    Args:
        seed: not negative.
        size: pixels to a side of every picture.
        captions: texts of each training picture.
        lessons: the first training pictures come with simpler texts (`lessons.LESSONS`), for a
            model that begins with nothing and sees them in this order.

    Raises:
        ValueError: one of them is out of its range.
    """

    seed: int = 0
    size: int = 256
    captions: int = 2
    lessons: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"the seed must be at least 0, got {self.seed}")
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise ValueError(
                f"pictures have {MIN_SIZE} to {MAX_SIZE} pixels to a side (in smaller ones small "
                f"shapes could not be told apart), got {self.size}"
            )
        if not 1 <= self.captions <= MAX_CAPTIONS:
            raise ValueError(
                f"a training picture has 1 to {MAX_CAPTIONS} captions, got {self.captions}"
            )

    def draw(self, split: str, index: int) -> tuple[Image.Image, Scene]:
        """Picture `index` of a split, and what is in it; training has no held-out pair."""
        rng = self._rng(split, index, _PICTURE)
        if split != "train":
            return draw_scene(rng, size=self.size)
        nameless = self._lesson(index).nameless
        return draw_scene(rng, size=self.size, pairs=SEEN, nameless=nameless)

    def train_captions(self, index: int, scene: Scene) -> list[Caption]:
        """The texts of training picture `index`; none says a held-out pair."""
        return [joined(parts) for parts in self.train_parts(index, scene)]

    def train_parts(self, index: int, scene: Scene) -> list[list[Caption]]:
        """The same texts, in the parts of which each is made."""
        rng = self._rng("train", index, _TEXT)
        lesson = self._lesson(index)
        return [train_text(scene, rng, pairs=SEEN, lesson=lesson) for _ in range(self.captions)]

    def val_caption(self, index: int, scene: Scene) -> Caption:
        """A text in sentences about val picture `index`."""
        return caption(scene, self._rng("val", index, _TEXT), kinds=VAL_KINDS)

    def relation_caption(self, index: int, scene: Scene) -> Caption | None:
        """A text about val picture `index` that a relation decides, where there is one."""
        return relation_caption(scene, self._rng("val", index, _RELATION))

    def _lesson(self, index: int) -> Lesson:
        return lesson_of(index) if self.lessons else EVERYTHING

    def _rng(self, split: str, index: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS.index(split), index, purpose])
