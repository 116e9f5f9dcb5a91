"""What travels from the files to the detector."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from glipkit.structures.images import ImageBatch


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture, ready for the model."""

    image: Tensor  # (3, h, w) float, resized and normalised
    image_id: int
    original_size: tuple[int, int]  # (height, width) in pixels, before resizing
    view: int = 0  # which of the test set's views this is


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
    view: int = 0  # which of the test set's views these are

    def __len__(self) -> int:
        return len(self.image_ids)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its pixels on another device."""
        return replace(self, images=self.images.to(device))


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one turn of the loader brings: batches, and pictures that could not be read."""

    batches: tuple[Batch, ...]
    failures: tuple[Failure, ...]

    def to(self, device: torch.device | str) -> "Fetched":
        """The same with all pixels on another device."""
        return replace(self, batches=tuple(batch.to(device) for batch in self.batches))

    def pin_memory(self) -> "Fetched":
        """Called by DataLoader, which knows tensors and what has this method."""
        pinned = (replace(batch, images=batch.images.pin_memory()) for batch in self.batches)
        return replace(self, batches=tuple(pinned))
