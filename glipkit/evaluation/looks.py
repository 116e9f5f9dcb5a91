"""Asking about a picture once or in many ways, and joining what comes back."""

from collections.abc import Callable, Sequence

import torch

from glipkit.data.sample import Batch
from glipkit.data.test_set import TestSet
from glipkit.structures.boxes import flip_horizontal
from glipkit.structures.detections import Detections

# (what the views of one picture gave, phrases of each of its prompts) -> what is reported
Join = Callable[[Sequence[Detections], Sequence[int]], Detections]


class Looks:
    """A detector that is shown a test set's pictures, in all its views.

    Without views an answer is handed on as it is. With them (test-time augmentation) it is kept
    until the picture was seen in all of them; the loader brings these one after the other, so no
    more than a batch of pictures waits at a time.

    Args:
        detector: as for `evaluate`.
        test_set: whose batches will come.
        join: makes one answer of many; None if and only if the test set has no views.

    Raises:
        ValueError: there are views and nothing to join them, or the other way round.
    """

    def __init__(self, detector: Callable, test_set: TestSet, join: Join | None = None) -> None:
        if bool(test_set.views) != (join is not None):
            raise ValueError(
                f"{test_set.name} shows each picture in {len(test_set.views)} views, and "
                f"{'nothing' if join is None else 'something'} was given to join the answers with; "
                "pass `join` where a test set has views, and only there"
            )
        self._detector = detector
        self._test_set = test_set
        self._join = join
        images = test_set.dataset.images
        self._index_of = {image.image_id: index for index, image in enumerate(images)}
        self._waiting: dict[int, list[Detections]] = {}
        self._seen: dict[int, int] = {}  # views of each picture that waits
        self._left_out: set[int] = set()

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> list[tuple[int, Detections]]:
        """Ask about one batch.

        Returns:
            Image ids with their detections, in original pixels and on the CPU, of the pictures
            that have now been seen in all views.

        Raises:
            ValueError: the detector does not answer once for each picture.
        """
        indices = [self._index_of[image_id] for image_id in batch.image_ids]
        prompts = [self._test_set.prompts_of(index) for index in indices]
        answers = self._asked(batch, prompts)
        if self._join is None:
            return list(zip(batch.image_ids, answers))
        views = self._test_set.views
        given = [[answer] for answer in answers]
        if views[batch.view].flip:
            self._ask_mirrored(batch, indices, prompts, given)
        finished = []
        for image_id, asked, found in zip(batch.image_ids, prompts, given):
            if image_id in self._left_out:
                continue
            taken = [chosen(each, views[batch.view].takes(each.boxes)) for each in found]
            self._waiting.setdefault(image_id, []).extend(taken)
            self._seen[image_id] = self._seen.get(image_id, 0) + 1
            if self._seen[image_id] == len(views):
                del self._seen[image_id]
                counts = [prompt.num_phrases for prompt in asked]
                finished.append((image_id, self._join(self._waiting.pop(image_id), counts)))
        return finished

    def leave_out(self, image_id: int) -> None:
        """This picture could not be read in one of its views: nothing is said about it."""
        self._left_out.add(image_id)
        self._waiting.pop(image_id, None)
        self._seen.pop(image_id, None)

    def _asked(self, batch: Batch, prompts: Sequence[Sequence]) -> list[Detections]:
        answers = self._detector(batch.images, prompts, batch.original_sizes)
        if len(answers) != len(batch):
            raise ValueError(f"the detector answered {len(answers)} times for {len(batch)} images")
        return [answer.to("cpu") for answer in answers]

    def _ask_mirrored(
        self,
        batch: Batch,
        indices: Sequence[int],
        prompts: Sequence[Sequence],
        given: Sequence[list[Detections]],
    ) -> None:
        """Add the answers about the mirrored pictures, to those prompts that stay true there."""
        true = [self._test_set.stay_true_mirrored(index) for index in indices]
        rows = [row for row, flags in enumerate(true) if any(flags)]
        if not rows:
            return
        images = batch.images.mirrored()
        asked = [
            [prompt for prompt, is_true in zip(prompts[row], true[row]) if is_true] for row in rows
        ]
        part = Batch(
            images if len(rows) == len(batch) else images.only(rows),
            tuple(batch.image_ids[row] for row in rows),
            tuple(batch.original_sizes[row] for row in rows),
            batch.view,
        )
        for row, size, answer in zip(rows, part.images.sizes, self._asked(part, asked)):
            given[row].append(
                Detections(
                    mirrored_back(answer, seen_width=size[1]),
                    answer.scores,
                    _all_phrases(answer.phrase_ids, prompts[row], true[row]),
                    answer.image_size,
                )
            )


def mirrored_back(found: Detections, *, seen_width: int) -> torch.Tensor:
    """The boxes of a mirrored picture where they lie in the picture itself.

    The model's mirrored picture has its last column first: x becomes w - 1 - x there, w being the
    width it was shown at, which is W - W / w - x in a picture of W columns.

    Args:
        found: in pixels of the original, mirrored picture.
        seen_width: w, in pixels, without padding.

    Returns:
        (N, 4).
    """
    width = found.image_size[1]
    return flip_horizontal(found.boxes, width + 1 - width / seen_width)


def chosen(found: Detections, kept: torch.Tensor) -> Detections:
    """Some of the detections.

    Args:
        found: N detections.
        kept: (N,) bool.
    """
    if kept.all():
        return found
    return Detections(
        found.boxes[kept], found.scores[kept], found.phrase_ids[kept], found.image_size
    )


def _all_phrases(
    phrase_ids: torch.Tensor, prompts: Sequence, asked: Sequence[bool]
) -> torch.Tensor:
    """Phrases counted over the prompts that were asked, as phrases over all prompts."""
    counts = [prompt.num_phrases for prompt in prompts]
    starts = [sum(counts[:place]) for place in range(len(counts))]
    known = [
        number
        for start, count, is_asked in zip(starts, counts, asked)
        for number in range(start, start + count)
        if is_asked
    ]
    return torch.tensor(known, dtype=torch.int64)[phrase_ids]
