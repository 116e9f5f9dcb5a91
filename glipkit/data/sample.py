"""What travels from the files to the detector."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from glipkit.structures.images import ImageBatch


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture, ready for the model."""

    image: Tensor  # (3, h, w) float, resized and normalised
    image_id: int
    original_size: tuple[int, int]  # (height, width) in pixels, before resizing


@dataclass(frozen=True, slots=True)
class Failure:
    """One picture that could not be read. It travels in the place of a Sample."""

    image_id: int
    path: Path
    reason: str

    def __str__(self) -> str:
        return f"image {self.image_id}, {self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Batch:
    """B pictures that pad to the same size, so that none changes another's answer (DESIGN 3)."""

    images: ImageBatch
    image_ids: tuple[int, ...]
    original_sizes: tuple[tuple[int, int], ...]  # B times (height, width) in pixels

    def __len__(self) -> int:
        return len(self.image_ids)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one turn of the loader brings: batches, and pictures that could not be read."""

    batches: tuple[Batch, ...]
    failures: tuple[Failure, ...]
