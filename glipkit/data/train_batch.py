"""What one step learns from."""

from collections.abc import Callable
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
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "TrainBatch":
        """The same batch in page-locked memory, from which a GPU copies while it computes."""
        return self._mapped(Tensor.pin_memory)

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

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "TrainBatch":
        """The same batch with every tensor changed."""
        prompts, words = self.prompts, self.hidden_words
        return TrainBatch(
            ImageBatch(change(self.images.pixels), self.images.sizes),
            PromptBatch(
                change(prompts.token_ids),
                change(prompts.token_mask),
                tuple(map(change, prompts.phrase_tokens)),
            ),
            tuple(
                GroundingTarget(change(each.boxes), change(each.box_phrases), each.image_id)
                for each in self.targets
            ),
            None if words is None else change(words),
            self.failures,
        )

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
