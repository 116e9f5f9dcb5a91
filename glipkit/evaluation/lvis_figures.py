"""From matches to average precision: of each class, and the means that LVIS reports."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from glipkit.evaluation.lvis_match import AREAS, FOUND, FREE, IOUS, match, out_of_range
from glipkit.evaluation.lvis_truth import LvisTruth, among

RECALLS = np.linspace(0, 1, 101)  # at which precision is read
_TOGETHER = 100_000  # detections that are matched at a time, of whole classes


@dataclass(frozen=True, slots=True)
class ClassDetections:
    """The detections of one class that are judged, best first."""

    images: np.ndarray  # (N,) int64, numbers of pictures
    boxes: np.ndarray  # (N, 4) float64, x, y, width, height


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Figures of K classes; NaN where a class has no object of that size."""

    precision: np.ndarray  # (K, 4 areas, 10 overlaps), averaged over recall
    recall: np.ndarray  # (K, 4, 10), with all detections


def class_figures(
    detections: Iterator[ClassDetections], truth: LvisTruth, num_classes: int
) -> ClassFigures:
    """Judge class after class.

    Args:
        detections: of each class in turn, in pictures where the class is labelled.
        truth: the objects.
        num_classes: how many classes `detections` yields.
    """
    precision = np.full((num_classes, len(AREAS), len(IOUS)), np.nan)
    recall = precision.copy()
    for first, group in _groups(detections):
        last = first + len(group)
        rows = truth.rows(first, last)
        keys = np.concatenate(
            [(first + index) * truth.num_images + each.images for index, each in enumerate(group)]
        )
        boxes = np.concatenate([each.boxes for each in group])
        found = match(keys, boxes, truth, rows)
        # What found nothing is no mistake where the class has objects without boxes, or if it has
        # another size than is asked for.
        pardoned = out_of_range(boxes[:, 2] * boxes[:, 3]) | among(keys, truth.partly)  # (4, N)
        wrong = (found == FREE) & ~pardoned[:, None]
        counted = ~out_of_range(truth.areas[rows])  # (4, M)
        owners = truth.keys[rows] // truth.num_images
        start = 0
        for index, each in enumerate(group, start=first):
            end = start + len(each.images)
            for area in range(len(AREAS)):
                if total := int(counted[area, owners == index].sum()):
                    for overlap in range(len(IOUS)):
                        part = (area, overlap, slice(start, end))
                        precision[index, area, overlap], recall[index, area, overlap] = _average(
                            found[part] == FOUND, wrong[part], total
                        )
            start = end
    return ClassFigures(precision, recall)


def summarise(figures: ClassFigures, frequencies: Sequence[str | None]) -> dict[str, float | None]:
    """The figures that LVIS reports, by name; None where there is no object to measure them on.

    Args:
        figures: of all classes.
        frequencies: "r", "c" or "f" of each class.
    """
    every = figures.precision[:, 0]  # (K, 10)
    of = np.array(list(frequencies))
    return {
        "AP": _mean(every),
        "AP50": _mean(every[:, 0]),
        "AP75": _mean(every[:, 5]),
        **{f"AP{size}": _mean(figures.precision[:, 1 + number])
           for number, size in enumerate("sml")},
        **{f"AP{each}": _mean(every[of == each]) for each in "rcf"},
        "AR": _mean(figures.recall[:, 0]),
        **{f"AR{size}": _mean(figures.recall[:, 1 + number])
           for number, size in enumerate("sml")},
    }  # fmt: skip


def _average(right: np.ndarray, wrong: np.ndarray, total: int) -> tuple[float, float]:
    """Average precision at 101 recalls, and recall.

    Args:
        right: (N,) bool, best detection first.
        wrong: (N,) bool; what is neither is not counted.
        total: objects there are.
    """
    places = np.flatnonzero(right)
    if not len(places):
        return 0.0, 0.0
    hits = np.arange(1, len(places) + 1, dtype=np.float64)
    misses = np.cumsum(wrong)[places]
    precision = hits / (misses + hits + np.spacing(1))  # as pycocotools writes it
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    needed = np.searchsorted(hits / total, RECALLS, side="left")  # the hit that reaches a recall
    reached = needed[needed < len(hits)]
    return float(precision[reached].sum() / len(RECALLS)), len(hits) / total


def _groups(
    detections: Iterator[ClassDetections],
) -> Iterator[tuple[int, list[ClassDetections]]]:
    """Neighbouring classes with about `_TOGETHER` detections, and the number of the first."""
    first, group, count = 0, [], 0
    for index, each in enumerate(detections):
        if group and count + len(each.images) > _TOGETHER:
            yield first, group
            first, group, count = index, [], 0
        group.append(each)
        count += len(each.images)
    if group:
        yield first, group


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
