"""The truth about one picture: which boxes answer which phrases."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class GroundingTarget:
    """The ground truth of one image.

    A detection box answers exactly one phrase; a grounding box may answer several ("the man",
    "he"), hence a matrix instead of labels. A picture without boxes is all background.
    """

    boxes: Tensor  # (N, 4) float32, x1 y1 x2 y2 in pixels of the resized image, before padding
    box_phrases: Tensor  # (N, P) bool, True where the box answers the phrase
    image_id: int

    def __post_init__(self) -> None:
        if self.boxes.dim() != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes must have shape (N, 4), got {tuple(self.boxes.shape)}")
        if self.box_phrases.dim() != 2 or len(self.box_phrases) != len(self.boxes):
            raise ValueError(
                f"box_phrases must have shape ({len(self.boxes)}, P), got "
                f"{tuple(self.box_phrases.shape)}"
            )
        if self.box_phrases.dtype != torch.bool:
            raise TypeError(f"box_phrases must be bool, got {self.box_phrases.dtype}")

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> "GroundingTarget":
        """The same target on another device."""
        return GroundingTarget(
            self.boxes.to(device, non_blocking=True),
            self.box_phrases.to(device, non_blocking=True),
            self.image_id,
        )
