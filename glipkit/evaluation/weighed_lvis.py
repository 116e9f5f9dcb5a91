"""LVIS average precision of pictures that have weights."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glipkit.data.datasets.lvis import LvisDetection
from glipkit.evaluation.lvis_match import FOUND, FREE, match
from glipkit.evaluation.lvis_truth import LvisTruth, among, image_order, read_truth
from glipkit.evaluation.weighed_ap import (
    Matches,
    gather,
    mean_of_known,
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
        results: what predictions.json holds, of each class the best first.
    """

    names = ("AP", "AP50", "AP75", "APr", "APc", "APf", "AR")

    def __init__(self, dataset: LvisDetection, results: Sequence[Mapping[str, Any]]) -> None:
        truth = read_truth(dataset)
        number_of = image_order(dataset)
        self.num_pictures = truth.num_images
        self.num_classes = len(dataset.categories)
        self._frequencies = np.array([each.frequency for each in dataset.categories])
        found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for each in results:
            found[each["category_id"]].append(each)
        self._classes = [
            [_matches(place, found.pop(each.category_id, []), number_of, truth)]
            for place, each in enumerate(dataset.categories)
        ]
        self.rows_at_once = rows_at_once(self._classes)
        if found:
            raise ValueError(f"{dataset.name} has no class with the id {next(iter(found))}")

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
    image = np.array([number_of[each["image_id"]] for each in results], dtype=np.int64)
    boxes = np.array([each["bbox"] for each in results], dtype=np.float64).reshape(-1, 4)
    labelled = among(place * truth.num_images + image, truth.labelled)
    image, boxes = image[labelled], boxes[labelled]
    keys = place * truth.num_images + image
    rows = truth.rows(place, place + 1)
    found = match(keys, boxes, truth, rows)[0]  # (10, N)
    spared = (found != FOUND) & ((found != FREE) | among(keys, truth.partly))
    wanted, counts = np.unique(truth.keys[rows] - place * truth.num_images, return_counts=True)
    no_rank = np.zeros(len(image), dtype=np.int64)  # no figure is limited by it
    return gather(image, no_rank, found == FOUND, spared, (wanted, counts))
