"""What was found in one picture."""

from dataclasses import dataclass

from torch import Tensor

from glipkit.structures.boxes import resize


@dataclass(frozen=True, slots=True)
class Detections:
    """N boxes found in one picture.

    Boxes are (x1, y1, x2, y2), continuous, y down, not rounded, in pixels of a picture of
    `image_size`. `phrase_ids` index the phrases of the prompt that was asked (0-based).
    """

    boxes: Tensor  # (N, 4) float
    scores: Tensor  # (N,) float in [0, 1]
    phrase_ids: Tensor  # (N,) int64
    image_size: tuple[int, int]  # (height, width) in pixels

    def __post_init__(self) -> None:
        count = self.boxes.shape[0]
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes must have shape (N, 4), got {tuple(self.boxes.shape)}")
        for name, values in (("scores", self.scores), ("phrase_ids", self.phrase_ids)):
            if values.shape != (count,):
                raise ValueError(f"{name} must have shape ({count},), got {tuple(values.shape)}")

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def to(self, device: str) -> "Detections":
        """The same detections on another device."""
        return Detections(
            self.boxes.to(device),
            self.scores.to(device),
            self.phrase_ids.to(device),
            self.image_size,
        )

    def resized(self, image_size: tuple[int, int]) -> "Detections":
        """The same detections in a picture scaled to `image_size` (height, width).

        Plain scaling of all four coordinates, without half-pixel terms (BEHAVIOUR 10).
        """
        boxes = resize(self.boxes, self.image_size, image_size)
        return Detections(boxes, self.scores, self.phrase_ids, image_size)
