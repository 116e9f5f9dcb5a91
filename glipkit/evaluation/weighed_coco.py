"""COCO average precision of pictures that have weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from glipkit.data.datasets.coco import CocoDetection
from glipkit.evaluation.coco import METRICS, matched
from glipkit.evaluation.weighed_ap import (
    Matches,
    gather,
    mean_of_known,
    num_pictures_of,
    rows_at_once,
    weighed_curves,
)

_AREA_OF = (0, 0, 0, 1, 2, 3) * 2  # of each of METRICS: all, small, medium or large objects
_LIMITS = (1, 10)  # of AR1 and AR10; the others look at 100 boxes


class WeighedCoco:
    """The twelve COCO figures and AP per class; a `Weighable`.

    With every weight 1 they are pycocotools' own, to the last bit.

    Args:
        dataset: what was judged.
        results: COCO results, what predictions.json holds.

    Raises:
        ValueError: a result is of no picture or class of the dataset.
    """

    names = METRICS

    def __init__(self, dataset: CocoDetection, results: Sequence[Mapping[str, Any]]) -> None:
        number_of = {image.image_id: place for place, image in enumerate(dataset.images)}
        classes = {each.category_id for each in dataset.categories}
        for each in results:
            if each["image_id"] not in number_of or each["category_id"] not in classes:
                raise ValueError(f"{dataset.name} has no image or no class of the result {each}")
        judge = matched(dataset, results)
        self.num_pictures = len(number_of)
        self.num_classes = len(dataset.categories)
        # pycocotools has pictures by ascending id, and each class in turn
        order = np.array([number_of[each] for each in sorted(number_of)], dtype=np.int64)
        self._classes = [_class_matches(judge, place, order) for place in range(self.num_classes)]
        self.rows_at_once = rows_at_once(self._classes)
        by_area = [num_pictures_of(one[area] for one in self._classes) for area in range(4)]
        of_class = [num_pictures_of(one[:1]) for one in self._classes]
        self.measured_on = np.array(by_area)[list(_AREA_OF)], np.array(of_class, dtype=np.int64)

    def figures(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Weighable.figures`."""
        precision, recall, limited = weighed_curves(self._classes, weights, limits=_LIMITS)
        metrics = [_twelve(*row) for row in zip(precision, recall, limited)]
        # (R, K), each class of one piece, so that it is added up as the evaluation does
        by_class = np.ascontiguousarray(np.moveaxis(precision[:, 0], 3, 1))
        classes = by_class.reshape(*by_class.shape[:2], -1).mean(axis=2)  # all known or all -1
        return np.array(metrics), np.where(classes > -1, classes, np.nan)


def _twelve(precision: np.ndarray, recall: np.ndarray, limited: np.ndarray) -> list[float]:
    """In the order of METRICS, of (A, T, 101, K), (A, T, K) and (limits, T, K)."""
    return [
        mean_of_known(precision[0]),
        mean_of_known(precision[0, 0]),
        mean_of_known(precision[0, 5]),
        *(mean_of_known(precision[area]) for area in (1, 2, 3)),
        *(mean_of_known(each) for each in limited),
        *(mean_of_known(recall[area]) for area in (0, 1, 2, 3)),
    ]


def _class_matches(judge: COCOeval, place: int, order: np.ndarray) -> list[Matches]:
    """What pycocotools found for one class, in each range of areas.

    Args:
        judge: evaluated, not accumulated.
        place: of the class among `params.catIds`.
        order: for each of its pictures the number in the dataset.
    """
    num_images, num_areas = len(order), len(judge.params.areaRng)
    overlaps = len(judge.params.iouThrs)
    first = place * num_areas * num_images
    by_area = []
    for area in range(num_areas):
        start = first + area * num_images
        cells = judge.evalImgs[start : start + num_images]
        by_area.append([(image, cell) for image, cell in zip(order, cells) if cell is not None])
    counts = [len(cell["dtScores"]) for _, cell in by_area[0]]
    image = np.repeat(np.array([each for each, _ in by_area[0]], dtype=np.int64), counts)
    rank = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])
    scores = np.concatenate([np.zeros(0), *(cell["dtScores"] for _, cell in by_area[0])])
    best = np.argsort(-scores, kind="mergesort")  # as pycocotools sorts
    matches = []
    for cells in by_area:
        found = _joined([cell["dtMatches"] for _, cell in cells], overlaps)[:, best] != 0
        pardoned = _joined([cell["dtIgnore"] for _, cell in cells], overlaps)[:, best] != 0
        wanted = [(each, int((np.asarray(cell["gtIgnore"]) == 0).sum())) for each, cell in cells]
        table = np.array([row for row in wanted if row[1]], dtype=np.int64).reshape(-1, 2)
        objects = table[:, 0], table[:, 1]
        matches.append(gather(image[best], rank[best], found & ~pardoned, pardoned, objects))
    return matches


def _joined(parts: Sequence[np.ndarray], overlaps: int) -> np.ndarray:
    """(T, N) of all pictures together."""
    return np.concatenate([np.zeros((overlaps, 0)), *parts], axis=1)
