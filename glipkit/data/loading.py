"""Reading pictures in worker processes, in an order that can be cut and shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch.utils.data import DataLoader, Dataset

from glipkit.data.collate import collate
from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.images import ImageError, read_image
from glipkit.data.sample import Failure, Sample
from glipkit.data.samplers import ShardedBatches, batches_of_equal_shape
from glipkit.data.transforms import TestTransform
from glipkit.data.workers import leave_interrupts_to_main, usable_cpus
from glipkit.structures.images import padded_size


@dataclass(frozen=True, slots=True)
class TestImages(Dataset[Sample | Failure]):
    """The pictures of a dataset as the model wants them; what cannot be read comes as a Failure."""

    __test__ = False  # not a test, whatever pytest makes of the name

    dataset: CocoDetection
    transform: TestTransform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample | Failure:
        record = self.dataset.images[index]
        try:
            image = read_image(self.dataset.path(index), expected_size=record.size)
        except ImageError as error:
            return Failure(record.image_id, error.path, error.reason)
        return Sample(self.transform(image), record.image_id, (image.height, image.width))


def make_loader(
    images: TestImages,
    indices: Sequence[int],
    *,
    divisor: int,
    batch_size: int,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """A loader that yields `Fetched` for one rank's share of the pictures at `indices`.

    Args:
        images: the pictures.
        indices: which of them.
        divisor: padded sides are multiples of this (DATALOADER.SIZE_DIVISIBILITY); 0 pads nothing.
        batch_size: pictures in a batch; they always pad to one size.
        num_workers: processes that read, at most one for each CPU and batch; 0 reads in this one.
        rank: this process.
        world_size: how many processes share the pictures.
    """
    shapes = [
        padded_size(images.transform.resized_size(record.size), divisor)
        for record in images.dataset.images
    ]
    batches = batches_of_equal_shape(shapes, indices, batch_size)
    share = ShardedBatches(batches, rank=rank, world_size=world_size)
    num_workers = min(num_workers, len(share), usable_cpus())
    return DataLoader(
        images,
        batch_sampler=share,
        num_workers=num_workers,
        collate_fn=partial(collate, divisor=divisor),
        worker_init_fn=leave_interrupts_to_main if num_workers else None,
    )
