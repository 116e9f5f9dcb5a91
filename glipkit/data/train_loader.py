"""Training batches, prefetched by worker processes, from any step on."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader

from glipkit.data.sample import Failure
from glipkit.data.train_batch import TrainBatch
from glipkit.data.train_sampler import RankBatches, TrainOrder
from glipkit.data.train_set import LostBoxes, TrainSample, TrainSet, Unusable
from glipkit.data.workers import leave_interrupts_to_main, read, usable_cpus
from glipkit.grounding.masking import IGNORED
from glipkit.structures.images import pad_images
from glipkit.structures.prompts import batch_prompts

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collated:
    """What comes out of a worker: a batch, or the reason why there is none."""

    batch: TrainBatch | None
    reason: str = ""
    failures: tuple[Failure, ...] = ()
    lost: tuple[LostBoxes, ...] = ()

    def pin_memory(self) -> "Collated":
        """Called by DataLoader, which knows tensors and what has this method."""
        return self if self.batch is None else replace(self, batch=self.batch.pin_memory())


class TrainLoader:
    """Batches for one process, the same ones whatever the number of workers.

    Step s is batch s % steps_per_epoch of epoch s // steps_per_epoch. It depends on the seed and on
    s alone; of it, rank r of w gets pictures [r * b / w, (r + 1) * b / w). So the place of a run in
    its data is the step number, and nothing else need be saved.

    torch's global generator is neither read nor moved, here or in the workers.

    Args:
        samples: what is learnt from.
        order: which of them each step sees.
        rank: this process.
        world_size: how many processes share each batch.
        divisor: padded sides are multiples of this (DATALOADER.SIZE_DIVISIBILITY); 0 pads to the
            largest picture only.
        num_workers: processes that read, at most one for each CPU; 0 reads in this one.
        pin_memory: hand out page-locked memory, from which a GPU copies while it computes.
        table: the sources as a text, for `describe`.

    Raises:
        ValueError: the processes cannot share a batch evenly.
    """

    def __init__(
        self,
        samples: TrainSet,
        order: TrainOrder,
        *,
        rank: int = 0,
        world_size: int = 1,
        divisor: int = 32,
        num_workers: int = 0,
        pin_memory: bool = False,
        table: str = "",
    ) -> None:
        RankBatches(order, first_step=0, rank=rank, world_size=world_size)  # checks the split
        self._samples = samples
        self._order = order
        self._rank, self._world_size = rank, world_size
        self._divisor = divisor
        self._num_workers = min(num_workers, usable_cpus())
        self._pin_memory = pin_memory
        self._table = table
        self._reported: set[Path] = set()
        self.num_lost_boxes = 0  # so far, by this process

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show every sample once."""
        return self._order.steps_per_epoch

    @property
    def num_images(self) -> int:
        """Samples that an epoch shows, copies counted."""
        return self._order.num_samples

    @property
    def batch_size(self) -> int:
        """Samples of a step, all processes together."""
        return self._order.batch_size

    def describe(self) -> str:
        """The sources as a table: name, kind, images, boxes, classes, copies."""
        return self._table

    def batches(self, first_step: int = 0) -> Iterator[TrainBatch]:
        """This process's batches from a step on, without end.

        Workers live as long as the iterator and read ahead, also across the borders of epochs.

        Raises:
            ValueError: the step is negative; or while iterating: too many pictures in a row
                cannot be read, or an annotation is not usable; says which.
            SampleError: while iterating: a sample broke for another reason; says which.
        """
        if first_step < 0:
            raise ValueError(f"steps count from 0, got {first_step}")
        return self._batches(first_step)

    def _batches(self, first_step: int) -> Iterator[TrainBatch]:
        loader = DataLoader(
            self._samples,
            batch_sampler=RankBatches(
                self._order,
                first_step=first_step,
                rank=self._rank,
                world_size=self._world_size,
            ),
            num_workers=self._num_workers,
            collate_fn=partial(collate, divisor=self._divisor),
            worker_init_fn=leave_interrupts_to_main if self._num_workers else None,
            generator=torch.Generator(),  # it draws seeds for workers: not from the global one
            pin_memory=self._pin_memory,
        )
        for collated in read(loader):
            yield self._checked(collated)

    def _checked(self, collated: Collated) -> TrainBatch:
        for failure in collated.failures:
            if failure.path not in self._reported:
                self._reported.add(failure.path)
                logger.error("%s; another picture stands in for it", failure)
        if collated.batch is None:
            raise ValueError(collated.reason)
        for lost in collated.lost:
            if self.num_lost_boxes == 0:
                logger.warning(
                    "%s: %d boxes are left out because no word of theirs is among the %d tokens "
                    "that are read of the caption %r; other samples with this fault are counted "
                    "and not named",
                    *(lost.where, lost.count, lost.num_tokens, lost.caption),
                )
            self.num_lost_boxes += lost.count
        return collated.batch


def collate(items: Sequence[TrainSample | Unusable], divisor: int) -> Collated:
    """One padded batch of the samples, with what went wrong on the way.

    Args:
        items: what the data set gave.
        divisor: padded sides are multiples of this; 0 or 1 pads to the largest picture only.
    """
    failures = tuple(failure for item in items for failure in item.failures)
    unusable = next((item for item in items if isinstance(item, Unusable)), None)
    if unusable is not None:
        return Collated(None, unusable.reason, failures)
    prompts = batch_prompts([item.prompt for item in items])
    length = prompts.token_ids.shape[1]
    batch = TrainBatch(
        images=pad_images([item.pixels for item in items], divisor),
        prompts=prompts,
        targets=tuple(item.target for item in items),
        hidden_words=_stacked([item.hidden_words for item in items], length),
        failures=failures,
    )
    lost = tuple(item.lost for item in items if item.lost is not None)
    return Collated(batch, failures=failures, lost=lost)


def _stacked(hidden_words: Sequence[Tensor | None], length: int) -> Tensor | None:
    """(B, length) labels of hidden words; None where none are hidden."""
    if any(labels is None for labels in hidden_words):
        return None
    fitted = [pad(labels, (0, length - len(labels)), value=IGNORED) for labels in hidden_words]
    return torch.stack(fitted)
