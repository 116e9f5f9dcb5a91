"""Reading pictures in worker processes, in an order that can be cut and shared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from glipkit.data.collate import collate
from glipkit.data.datasets.coco_file import ImageRecord
from glipkit.data.images import ImageError, read_image
from glipkit.data.sample import Failure, Fetched, Sample
from glipkit.data.samplers import ShardedBatches, batches_of_equal_shape
from glipkit.data.transforms import TestTransform
from glipkit.data.workers import leave_interrupts_to_main, read, usable_cpus
from glipkit.structures.images import padded_size

# Decoded pictures that wait for the model, all workers together: at most so many bytes (80
# pictures of 800 x 1333), and at most so many batches for each worker.
READ_AHEAD_BYTES = 2**30
BATCHES_AHEAD = 2

Item = TypeVar("Item")


class Pictures(Protocol):
    """The pictures of a dataset, wherever they come from."""

    @property
    def name(self) -> str:
        """The dataset's name."""

    @property
    def digest(self) -> str:
        """SHA-256 of the annotation file, in hex."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where they lie."""

    @property
    def images(self) -> Sequence[ImageRecord]:
        """Their ids, files and sizes, in the file's order."""

    def __len__(self) -> int:
        """How many they are."""

    def path(self, index: int) -> Path:
        """Where picture `index` lies."""


@dataclass(frozen=True, slots=True)
class TestImages(Dataset[Sample | Failure]):
    """The pictures of a dataset as the model wants them; what cannot be read comes as a Failure.

    Each comes once for each transform: item `index * len(transforms) + view` is picture `index`.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    dataset: Pictures
    transforms: tuple[TestTransform, ...]  # one; several with test-time augmentation

    def __len__(self) -> int:
        return len(self.dataset) * len(self.transforms)

    def __getitem__(self, item: int) -> Sample | Failure:
        index, view = divmod(item, len(self.transforms))
        record = self.dataset.images[index]
        try:
            image = read_image(self.dataset.path(index), expected_size=record.size)
        except ImageError as error:
            return Failure(record.image_id, error.path, error.reason)
        pixels = self.transforms[view](image)
        return Sample(pixels, record.image_id, (image.height, image.width), view)


def make_loader(
    images: TestImages,
    indices: Sequence[int],
    *,
    divisor: int,
    batch_size: int,
    num_workers: int,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """A loader that yields `Fetched` for one rank's share of the pictures at `indices`.

    Workers decode and resize ahead of the model, which waits only for the first batch as long as
    reading keeps pace, and never let more than READ_AHEAD_BYTES wait. The views of a picture come
    one after the other, to the same rank.

    Args:
        images: the pictures.
        indices: which of them.
        divisor: padded sides are multiples of this (DATALOADER.SIZE_DIVISIBILITY); 0 pads nothing.
        batch_size: pictures in a batch; they always pad to one size.
        num_workers: processes that read, at most one for each CPU and batch; 0 reads in this one.
        pin_memory: hand out page-locked memory, from which a GPU copies while it computes.
        rank: this process.
        world_size: how many processes share the pictures.
    """
    shapes = [
        tuple(padded_size(each.resized_size(record.size), divisor) for each in images.transforms)
        for record in images.dataset.images
    ]
    batches = batches_of_equal_shape(shapes, indices, batch_size)
    num_views = len(images.transforms)
    share = ShardedBatches(batches, rank=rank, world_size=world_size, num_views=num_views)
    num_workers = min(num_workers, len(share), usable_cpus())
    largest = max((h * w for index in indices for h, w in shapes[index]), default=0)
    workers, ahead = read_ahead(num_workers, batch_bytes=batch_size * largest * 3 * 4)  # float32
    return DataLoader(
        images,
        batch_sampler=share,
        num_workers=workers,
        prefetch_factor=ahead,
        pin_memory=pin_memory,
        collate_fn=partial(collate, divisor=divisor),
        worker_init_fn=leave_interrupts_to_main if workers else None,
    )


def read_ahead(num_workers: int, *, batch_bytes: int) -> tuple[int, int | None]:
    """How many workers read how many batches each before they are asked for.

    Args:
        num_workers: at most so many; 0 reads nothing ahead.
        batch_bytes: of the largest batch.

    Returns:
        Workers, and batches for each of them (None without workers), such that all of them stay
        within READ_AHEAD_BYTES; one worker and one batch at least.
    """
    if num_workers == 0:
        return 0, None
    batches = max(READ_AHEAD_BYTES // max(batch_bytes, 1), 1)
    workers = min(num_workers, batches)
    return workers, min(batches // workers, BATCHES_AHEAD)


def placed(loader: Iterable[Fetched], device: torch.device | str) -> Iterator[Fetched]:
    """What the loader yields, on the device where the model is.

    On a GPU the next batch is copied while the model is busy with this one.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return read(loader)
    copies = torch.cuda.Stream(device)

    def start(fetched: Fetched) -> tuple[Fetched, torch.cuda.Event]:
        with torch.cuda.stream(copies):
            moved = fetched.to(device)
            return moved, copies.record_event()

    def finish(started: tuple[Fetched, torch.cuda.Event]) -> Fetched:
        moved, event = started
        computing = torch.cuda.current_stream(device)
        computing.wait_event(event)
        for batch in moved.batches:  # its memory is free when the computing stream has read it
            batch.images.pixels.record_stream(computing)
        return moved

    return one_ahead(read(loader), start, finish)


def one_ahead(
    items: Iterable[Item], start: Callable[[Item], object], finish: Callable
) -> Iterator[Item]:
    """`finish(start(item))` of each item in order, the next one started before one is finished.

    Args:
        items: taken one by one.
        start: begins the work on an item.
        finish: waits for what `start` gave, and makes the result of it.
    """
    waiting: list[object] = []
    for item in items:
        waiting.append(start(item))
        if len(waiting) == 2:
            yield finish(waiting.pop(0))
    if waiting:
        yield finish(waiting.pop())
