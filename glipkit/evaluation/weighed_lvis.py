"""LVIS average precision of pictures that have weights."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from glipkit.data.datasets.lvis import LvisDetection
from glipkit.evaluation.lvis_match import FOUND, FREE, match
from glipkit.evaluation.lvis_truth import LvisTruth, among, image_order, read_truth
from glipkit.evaluation.weighed_ap import (
    Matches,
    gather,
    mean_of_known,
    num_pictures_of,
    rows_at_once,
    weighed_curves,
)


class WeighedLvis:
    """AP, AP50, AP75, that of rare, common and frequent classes, AR, AP per class; a `Weighable`.

    With every weight 1 they are the evaluation's own, but for rounding. Figures of small, medium
    and large objects are left out: they would take four times the memory. What the evaluation kept
    of a class, its 10,000 best boxes, is kept in every draw: a draw does not choose anew.

    Args:
        dataset: what was judged.
        results: what predictions.json holds: class by class, of each the best first.

    Raises:
        ValueError: a result is of no picture or class of the dataset, or the results of a class do
            not stand together.
    """

    names = ("AP", "AP50", "AP75", "APr", "APc", "APf", "AR")

    def __init__(self, dataset: LvisDetection, results: Iterable[Mapping[str, Any]]) -> None:
        truth = read_truth(dataset)
        number_of = image_order(dataset)
        self.num_pictures = truth.num_images
        self.num_classes = len(dataset.categories)
        self._frequencies = np.array([each.frequency for each in dataset.categories])
        place_of = {each.category_id: place for place, each in enumerate(dataset.categories)}
        found: dict[int, Matches] = {}
        for category_id, own in groupby(results, key=itemgetter("category_id")):
            if (place := place_of.get(category_id)) is None:
                raise ValueError(f"{dataset.name} has no class with the id {category_id}")
            if place in found:
                raise ValueError(f"the predictions of class {category_id} do not stand together")
            found[place] = _matches(place, list(own), number_of, truth)
        self._classes = [
            [found.get(place) or _matches(place, [], number_of, truth)]
            for place in range(self.num_classes)
        ]
        self.rows_at_once = rows_at_once(self._classes)
        self.measured_on = self._measured_on()

    def _measured_on(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Weighable.measured_on`."""
        every = num_pictures_of(one for (one,) in self._classes)
        of = [
            num_pictures_of(one for (one,), kind in zip(self._classes, self._frequencies)
                            if kind == each)
            for each in "rcf"
        ]  # fmt: skip
        of_class = [num_pictures_of(one) for one in self._classes]
        return np.array([every] * 3 + of + [every]), np.array(of_class, dtype=np.int64)

    def figures(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Weighable.figures`; pictures are numbered by ascending id."""
        precision, recall, _ = weighed_curves(self._classes, weights)
        metrics = [
            [
                mean_of_known(row),
                mean_of_known(row[0]),
                mean_of_known(row[5]),
                *(mean_of_known(row[:, :, self._frequencies == each]) for each in "rcf"),
                mean_of_known(found),
            ]
            for row, found in zip(precision[:, 0], recall[:, 0])
        ]
        classes = precision[:, 0].mean(axis=(1, 2))
        return np.array(metrics), np.where(classes > -1, classes, np.nan)


def _matches(
    place: int,
    results: Sequence[Mapping[str, Any]],
    number_of: Mapping[int, int],
    truth: LvisTruth,
) -> Matches:
    """What the boxes of one class found, of all sizes, in pictures where it is labelled."""
    for each in results:
        if each["image_id"] not in number_of:
            raise ValueError(f"the dataset has no image with the id {each['image_id']}")
    image = np.array([number_of[each["image_id"]] for each in results], dtype=np.int64)
    boxes = np.array([each["bbox"] for each in results], dtype=np.float64).reshape(-1, 4)
    keys = place * truth.num_images + image
    counts = truth.judges(keys, boxes)
    image, boxes, keys = image[counts], boxes[counts], keys[counts]
    rows = truth.rows(place, place + 1)
    found = match(keys, boxes, truth, rows)[0]  # (10, N)
    spared = (found != FOUND) & ((found != FREE) | among(keys, truth.partly))
    wanted, counts = np.unique(truth.keys[rows] - place * truth.num_images, return_counts=True)
    no_rank = np.zeros(len(image), dtype=np.int64)  # no figure is limited by it
    return gather(image, no_rank, found == FOUND, spared, (wanted, counts))
