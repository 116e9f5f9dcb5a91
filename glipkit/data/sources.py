"""What is learnt from: pictures with a caption, and boxes that answer its phrases."""

from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from glipkit.data.randomness import SampleRandom
from glipkit.structures.prompts import Prompt


@dataclass(frozen=True, slots=True)
class GroundedImage:
    """One picture as it lies on the disk, and what is said about it."""

    image: Image.Image  # 8-bit RGB
    prompt: Prompt
    boxes: Tensor  # (N, 4) float32, x1 y1 x2 y2 in pixels of `image`; N may be 0
    box_phrases: Tensor  # (N, P) bool, True where the box answers the phrase
    image_id: int
    # Characters [start, end) whose tokens the masked-language loss may hide (the greenlight map of
    # OD_TO_GROUNDING); None allows all, () none.
    maskable: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        expected = (len(self.boxes), len(self.prompt.phrases))
        if tuple(self.box_phrases.shape) != expected or self.box_phrases.dtype != torch.bool:
            raise ValueError(
                f"box_phrases must be {expected} bool, got {tuple(self.box_phrases.shape)} "
                f"{self.box_phrases.dtype}"
            )


class TrainSource(Protocol):
    """A dataset to learn from."""

    name: str

    def __len__(self) -> int:
        """How many samples there are: pictures, or pairs of a picture and a caption."""

    def size(self, index: int) -> tuple[int, int] | None:
        """(height, width) that the annotations claim for sample `index`; None when they do not."""

    def image_id(self, index: int) -> int:
        """The id of the picture of sample `index`, for messages; cheap, nothing is opened."""

    def load(self, index: int, chance: SampleRandom) -> GroundedImage:
        """Read sample `index`.

        Args:
            index: from 0.
            chance: what the sample draws from, if its words are drawn.

        Raises:
            ImageError: the picture cannot be used.
        """
