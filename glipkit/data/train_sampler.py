"""Which samples a step learns from: a matter of seed, step and batch size alone."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from glipkit.data.randomness import SampleRandom


class Draw(NamedTuple):
    """One showing of one sample. Equal draws give equal samples, wherever they are made."""

    index: int  # within the mixture, copies counted
    epoch: int
    lap: int = 0  # > 0 where it fills up the last batch of its epoch

    def chance(self, seed: int) -> SampleRandom:
        """The generators of this showing in the run of that seed."""
        return SampleRandom.of((seed, self.epoch, self.index + 1, self.lap))


def share_of_rank(batch_size: int, world_size: int, pieces: int = 1) -> int:
    """Pictures of each step that one process works through.

    Args:
        batch_size: SOLVER.IMS_PER_BATCH, pictures of a step, all processes together.
        world_size: how many processes there are.
        pieces: SOLVER.ACCUMULATION, pieces that a process works its share through in.

    Raises:
        ValueError: the batch cannot be dealt out evenly.
    """
    if batch_size < 1 or batch_size % world_size:
        fitting = max(batch_size // world_size, 1) * world_size
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch_size} pictures a step, which {world_size} processes "
            f"cannot share evenly; set SOLVER.IMS_PER_BATCH {fitting}, or start a number of "
            f"processes that divides {batch_size}"
        )
    share = batch_size // world_size
    if pieces < 1 or share % pieces:
        divisors = [n for n in range(1, share + 1) if share % n == 0]
        raise ValueError(
            f"SOLVER.ACCUMULATION is {pieces}, which does not divide the {share} pictures of each "
            f"process (SOLVER.IMS_PER_BATCH {batch_size} / {world_size} processes); set it to one "
            f"of {', '.join(map(str, divisors))}"
        )
    return share


class TrainOrder:
    """The batches of every step, for all processes together.

    Every epoch shows every sample once, in an order drawn for it or in their own. The batch at its
    end is filled up with the epoch's first samples, drawn anew (another flip, another size), so
    that every step sees equally many.

    Args:
        num_samples: samples of an epoch, copies counted.
        batch_size: samples of a step.
        seed: of the run, not negative.
        shapes: (num_samples,) integers; a batch holds samples of one value, as far as there are
            enough of them: what is left over of each at the end of an epoch comes mixed. None
            mixes all.
        in_order: every epoch shows the samples in their own order.

    Raises:
        ValueError: there are no samples, no batch, a negative seed, or not one shape per sample.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        seed: int,
        shapes: np.ndarray | None = None,
        in_order: bool = False,
    ) -> None:
        if num_samples < 1:
            raise ValueError("there are no samples to learn from")
        if batch_size < 1:
            raise ValueError(f"a batch needs at least 1 sample, got {batch_size}")
        if seed < 0:
            raise ValueError(f"SOLVER.SEED must be at least 0, got {seed}")
        if shapes is not None and len(shapes) != num_samples:
            raise ValueError(f"{num_samples} samples came with {len(shapes)} shapes")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self._shapes = shapes
        self._in_order = in_order

    @property
    def steps_per_epoch(self) -> int:
        """Batches that show every sample once."""
        return -(-self.num_samples // self.batch_size)

    def epoch(self, epoch: int) -> np.ndarray:
        """(steps_per_epoch, batch_size) int64, the samples of each step of an epoch."""
        order = np.arange(self.num_samples)
        if not self._in_order:
            order = SampleRandom.of((self.seed, epoch)).numpy.permutation(order)
        if self._shapes is not None:
            order = _in_batches_of_a_shape(order, self._shapes[order], self.batch_size)
        return np.resize(order, (self.steps_per_epoch, self.batch_size))  # repeats from the start

    def batches(self, first_step: int = 0) -> Iterator[list[Draw]]:
        """The batches from a step on, without end, at no cost for the steps before it.

        Raises:
            ValueError: the step is negative.
        """
        if first_step < 0:
            raise ValueError(f"steps count from 0, got {first_step}")
        epoch, step = divmod(first_step, self.steps_per_epoch)
        while True:
            order = self.epoch(epoch).tolist()
            for number in range(step, self.steps_per_epoch):
                places = range(number * self.batch_size, (number + 1) * self.batch_size)
                yield [
                    Draw(index, epoch, place // self.num_samples)
                    for index, place in zip(order[number], places)
                ]
            epoch, step = epoch + 1, 0


class RankBatches(Sampler[list[Draw]]):
    """One process's piece of every batch, without end: samples [rank * share, ...) of it.

    Args:
        order: the batches of all processes together.
        first_step: where to begin.
        rank: this process.
        world_size: how many processes share each batch.

    Raises:
        ValueError: the processes cannot share a batch evenly.
    """

    def __init__(self, order: TrainOrder, *, first_step: int, rank: int, world_size: int) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in [0, {world_size}), got {rank}")
        share = share_of_rank(order.batch_size, world_size)
        self._piece = slice(rank * share, (rank + 1) * share)
        self._order = order
        self._first_step = first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        return (batch[self._piece] for batch in self._order.batches(self._first_step))


def _in_batches_of_a_shape(order: np.ndarray, shapes: np.ndarray, batch_size: int) -> np.ndarray:
    """The same samples, so that each run of `batch_size` has one shape; leftovers at the end.

    Whole batches come in the order in which they fill up when one walks along `order`.
    """
    batches, full_at, leftover = [], [], []
    for shape in np.unique(shapes):
        places = np.flatnonzero(shapes == shape)
        whole = len(places) // batch_size * batch_size
        batches.append(places[:whole].reshape(-1, batch_size))
        full_at.append(places[batch_size - 1 : whole : batch_size])
        leftover.append(places[whole:])
    in_turn = np.argsort(np.concatenate(full_at))
    places = np.concatenate(batches)[in_turn].reshape(-1)
    return order[np.concatenate([places, np.sort(np.concatenate(leftover))])]
