"""What one step learns from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glipkit.data.sample import Failure
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch
from glipkit.structures.targets import GroundingTarget


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """B pictures, each with its own prompt and its truth."""

    images: ImageBatch
    prompts: PromptBatch
    targets: tuple[GroundingTarget, ...]
    # (B, T) int64, the token that stood where a word was hidden, -100 elsewhere; None without MLM
    hidden_words: Tensor | None = None
    failures: tuple[Failure, ...] = ()  # pictures that others stand in for

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.prompts) == len(self.targets):
            raise ValueError(
                f"{len(self.images)} pictures came with {len(self.prompts)} prompts and "
                f"{len(self.targets)} targets"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of the pictures, for messages."""
        return tuple(target.image_id for target in self.targets)

    def to(self, device: torch.device | str) -> "TrainBatch":
        """The same batch on another device."""
        words = self.hidden_words
        return TrainBatch(
            self.images.to(device),
            self.prompts.to(device),
            tuple(target.to(device) for target in self.targets),
            None if words is None else words.to(device, non_blocking=True),
            self.failures,
        )

    def split(self, parts: int) -> list["TrainBatch"]:
        """The batch in pieces of equal padding, for gradient accumulation.

        Args:
            parts: how many; must divide the batch.

        Raises:
            ValueError: it does not.
        """
        if parts < 1 or len(self) % parts:
            raise ValueError(f"a batch of {len(self)} pictures cannot be split in {parts} parts")
        size = len(self) // parts
        return [self._part(slice(at, at + size)) for at in range(0, len(self), size)]

    def _part(self, part: slice) -> "TrainBatch":
        return TrainBatch(
            ImageBatch(self.images.pixels[part], self.images.sizes[part]),
            PromptBatch(
                self.prompts.token_ids[part],
                self.prompts.token_mask[part],
                self.prompts.phrase_tokens[part],
            ),
            self.targets[part],
            None if self.hidden_words is None else self.hidden_words[part],
            self.failures if part.start == 0 else (),
        )
