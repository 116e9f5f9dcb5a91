"""One dataset with everything needed to be asked about it."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch.utils.data import DataLoader

from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.loading import TestImages, make_loader
from glipkit.data.transforms import TestTransform
from glipkit.structures.prompts import TokenizedPrompt


@dataclass(frozen=True, slots=True)
class TestSet:
    """Pictures, the words to look for in them, and what the words stand for.

    Phrase ids run on over the prompts: the first phrase of the second prompt follows the last one
    of the first.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    dataset: CocoDetection
    prompts: tuple[TokenizedPrompt, ...]
    captions: tuple[str, ...]  # the prompts as they read
    category_ids: tuple[int, ...]  # phrase id -> category id
    transform: TestTransform
    divisor: int  # padded sides are multiples of this; 0 pads nothing

    def __post_init__(self) -> None:
        phrases = sum(prompt.num_phrases for prompt in self.prompts)
        if phrases != len(self.category_ids):
            raise ValueError(
                f"{len(self.prompts)} prompts hold {phrases} phrases for "
                f"{len(self.category_ids)} categories"
            )

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.dataset.name

    def __len__(self) -> int:
        return len(self.dataset)

    def loader(
        self,
        indices: Sequence[int],
        *,
        batch_size: int,
        num_workers: int,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> DataLoader:
        """Yields `Fetched` for one rank's share of the pictures at `indices`; see `make_loader`."""
        return make_loader(
            TestImages(self.dataset, self.transform),
            indices,
            divisor=self.divisor,
            batch_size=batch_size,
            num_workers=num_workers,
            pin_memory=pin_memory,
            rank=rank,
            world_size=world_size,
        )

    def fingerprint(self) -> dict[str, Any]:
        """What answers depend on, as plain data: pictures, words, input size."""
        tokens = hashlib.sha256()
        for prompt in self.prompts:
            for tensor in (prompt.token_ids, prompt.token_mask.long(), prompt.phrase_tokens):
                tokens.update(repr(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
        return {
            "dataset": self.name,
            "annotations_sha256": self.dataset.digest,
            "num_images": len(self),
            "image_folder": str(self.dataset.img_dir.absolute()),
            "captions": list(self.captions),
            "prompts_sha256": tokens.hexdigest(),
            "category_ids": list(self.category_ids),
            "input": {**asdict(self.transform), "size_divisibility": self.divisor},
        }
