"""One dataset with everything needed to be asked about it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch.utils.data import DataLoader

from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.loading import Pictures, TestImages, make_loader
from glipkit.data.transforms import TestTransform
from glipkit.data.views import View, stay_true_mirrored
from glipkit.structures.prompts import AnyPrompt, ParallelPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet(ABC):
    """Pictures, and the words to look for in each of them.

    Phrase ids run on over the prompts of a picture: the first phrase of its second prompt follows
    the last one of the first.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    dataset: Pictures
    transform: TestTransform
    divisor: int  # padded sides are multiples of this; 0 pads nothing
    captions: tuple[str, ...] = ()  # the prompts as they read, if every picture is asked the same
    # With test-time augmentation: each picture is asked in all these ways, and the answers joined.
    views: tuple[View, ...] = ()

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.dataset.name

    def __len__(self) -> int:
        return len(self.dataset)

    @abstractmethod
    def prompts_of(self, index: int) -> Sequence[AnyPrompt]:
        """The prompts that picture `index` is asked, at least one."""

    def stay_true_mirrored(self, index: int) -> tuple[bool, ...]:
        """For each prompt of picture `index`, whether the mirrored picture may be asked it.

        Where nobody says how a prompt reads, it may not.
        """
        if self.captions:
            return stay_true_mirrored(self.captions)
        return (False,) * len(self.prompts_of(index))

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
            TestImages(
                self.dataset, tuple(view.transform for view in self.views) or (self.transform,)
            ),
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
        return {
            "dataset": self.name,
            "annotations_sha256": self.dataset.digest,
            "num_images": len(self),
            "image_folder": ", ".join(str(each.absolute()) for each in self.dataset.folders),
            "input": {**asdict(self.transform), "size_divisibility": self.divisor},
            **self._words(),
        }

    @abstractmethod
    def _words(self) -> dict[str, Any]:
        """The part of the fingerprint that tells the words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTestSet(TestSet):
    """Pictures that are all asked for the same classes."""

    dataset: CocoDetection
    prompts: tuple[AnyPrompt, ...]
    category_ids: tuple[int, ...]  # phrase id -> category id
    knowledge: Mapping[str, Any] | None = None  # what is said besides names, and how; plain data

    def __post_init__(self) -> None:
        phrases = sum(prompt.num_phrases for prompt in self.prompts)
        if phrases != len(self.category_ids):
            raise ValueError(
                f"{len(self.prompts)} prompts hold {phrases} phrases for "
                f"{len(self.category_ids)} categories"
            )

    def prompts_of(self, index: int) -> Sequence[AnyPrompt]:
        """The same prompts for every picture."""
        return self.prompts

    def _words(self) -> dict[str, Any]:
        return {
            "captions": list(self.captions),
            "prompts_sha256": hash_prompts(self.prompts),
            "category_ids": list(self.category_ids),
            **({"knowledge": dict(self.knowledge)} if self.knowledge else {}),
        }


def hash_prompts(prompts: Iterable[AnyPrompt]) -> str:
    """SHA-256 of tokens and of what they spell, in hex."""
    digest = hashlib.sha256()
    for prompt in prompts:
        if isinstance(prompt, ParallelPrompt):
            captions = hash_prompts(prompt.captions)
            digest.update(f"{prompt.aggregation} of {prompt.num_phrases}: {captions}".encode())
            continue
        for tensor in (prompt.token_ids, prompt.token_mask.long(), prompt.phrase_tokens):
            digest.update(repr(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
