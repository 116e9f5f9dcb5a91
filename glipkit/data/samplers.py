"""Which pictures are looked at together, and by whom."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

from torch.utils.data import Sampler


def batches_of_equal_shape(
    shapes: Sequence[Hashable], indices: Sequence[int], batch_size: int
) -> list[list[int]]:
    """Put pictures of the same shape together.

    Every index occurs once. Shapes come in the order of their first picture, pictures in the order
    of `indices`, so the largest part of a dataset is walked through in the file's order.

    Args:
        shapes: the padded (height, width) of every picture of the dataset, or several of them
            where a picture is shown at several sizes.
        indices: the pictures to look at.
        batch_size: pictures in a batch; the last one of each shape may have fewer.

    Raises:
        ValueError: `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index in indices:
        groups[shapes[index]].append(index)
    return [
        group[start : start + batch_size]
        for group in groups.values()
        for start in range(0, len(group), batch_size)
    ]


class ShardedBatches(Sampler[list[int]]):
    """One rank's share of the batches, dealt out like cards.

    Nothing is repeated to even the shares out, so every picture is judged once, whatever the
    number of processes; one rank may have a batch more than another.

    With several views of each picture, a batch of pictures comes once for each of them, one after
    the other, and item `index * num_views + view` is a view of picture `index`.
    """

    def __init__(
        self, batches: Sequence[Sequence[int]], *, rank: int, world_size: int, num_views: int = 1
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in [0, {world_size}), got {rank}")
        self.num_views = num_views
        self.batches = [
            [index * num_views + view for index in batch]
            for batch in batches[rank::world_size]
            for view in range(num_views)
        ]

    @property
    def num_images(self) -> int:
        """Pictures in this share."""
        return sum(map(len, self.batches)) // self.num_views

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)
