"""Pictures become batches of one padded size."""

from collections import defaultdict
from collections.abc import Sequence

from glipkit.data.sample import Batch, Failure, Fetched, Sample
from glipkit.structures.images import pad_images, padded_size


def collate(items: Sequence[Sample | Failure], divisor: int) -> Fetched:
    """Batch the pictures that pad to the same size, each view by itself.

    The sampler already puts such pictures together; this looks at the tensors themselves, so that
    a wrong size in an annotation file cannot change an answer.

    Args:
        items: what the dataset gave.
        divisor: padded sides are multiples of this; 0 pads nothing.
    """
    groups: dict[tuple[int, tuple[int, int]], list[Sample]] = defaultdict(list)
    for item in items:
        if isinstance(item, Sample):
            size = padded_size(tuple(item.image.shape[1:]), divisor)
            groups[item.view, size].append(item)
    return Fetched(
        batches=tuple(
            Batch(
                images=pad_images([sample.image for sample in group], divisor),
                image_ids=tuple(sample.image_id for sample in group),
                original_sizes=tuple(sample.original_size for sample in group),
                view=view,
            )
            for (view, _), group in groups.items()
        ),
        failures=tuple(item for item in items if isinstance(item, Failure)),
    )
