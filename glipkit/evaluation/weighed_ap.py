"""Average precision of pictures that have weights, from matches that were made once.

A draw of pictures changes how often a box counts, and neither what it found nor its place among the
others. So the curve of a class is two running sums of weights, read where a box is right: precision
is highest there. Everything is done for many draws at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

RECALLS = np.linspace(0, 1, 101)  # where COCO and LVIS read their curves
_BYTES = 96 * 2**20  # that the curves, or the running sums of a class, may take for all draws


@dataclass(frozen=True, slots=True)
class Setting:
    """What the boxes of a class found under one range of areas and one overlap."""

    right: np.ndarray  # places of boxes that are right, ascending
    pardoned: np.ndarray  # places of boxes that are neither right nor wrong, ascending


@dataclass(frozen=True, slots=True)
class Matches:
    """Boxes of one class that are right or wrong in a range of areas, best first; see `gather`."""

    image: np.ndarray  # (N,) int64: whose picture, numbered as the dataset has them
    rank: np.ndarray  # (N,) int64: place among the class's boxes in its picture, from 0
    settings: tuple[Setting, ...]  # T overlaps
    objects: tuple[np.ndarray, np.ndarray]  # pictures with objects to be found, and how many


# For each class its matches in each of A ranges of areas.
Classes = Sequence[Sequence[Matches]]


def gather(
    image: np.ndarray,
    rank: np.ndarray,
    right: np.ndarray,
    pardoned: np.ndarray,
    objects: tuple[np.ndarray, np.ndarray],
) -> Matches:
    """Keep what counts: boxes of another size than is asked for are most, and say nothing.

    Args:
        image: (N,) of all boxes of a class, best first.
        rank: (N,).
        right: (T, N) bool.
        pardoned: (T, N) bool: neither right nor wrong.
        objects: as in `Matches`.
    """
    kept = np.flatnonzero(~pardoned.all(axis=0))
    settings = (
        Setting(np.flatnonzero(hit), np.flatnonzero(spared))
        for hit, spared in zip(right[:, kept], pardoned[:, kept])
    )
    return Matches(image[kept], rank[kept], tuple(settings), objects)


def num_pictures_of(matches: Iterable[Matches]) -> int:
    """How many pictures have an object of one of these."""
    return len(np.unique(np.concatenate([np.zeros(0), *(one.objects[0] for one in matches)])))


def rows_at_once(classes: Classes) -> int:
    """How many draws can be judged together in bounded memory, 64 at most."""
    if not classes:
        return 1
    overlaps = len(classes[0][0].settings)
    curves = len(classes) * len(classes[0]) * overlaps * len(RECALLS)
    largest = max(len(one.image) for by_area in classes for one in by_area)
    return int(np.clip(_BYTES // (8 * max(curves, 4 * largest)), 1, 64))


def weighed_curves(
    classes: Classes, weights: np.ndarray, *, limits: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves and recalls of K classes.

    Args:
        classes: K of them.
        weights: (R, N) int64, how often each picture counts.
        limits: recall of all areas is wanted for the first so many boxes of a picture, too.

    Returns:
        Precision at 101 recalls (R, A, T, 101, K), recall (R, A, T, K), and recall with each
        limit, (R, limits, T, K) of the first area; -1 where a class has no object.
    """
    areas, overlaps = len(classes[0]), len(classes[0][0].settings)
    shape = (len(weights), areas, overlaps)
    precision = np.full((*shape, len(RECALLS), len(classes)), -1.0)
    recall = np.full((*shape, len(classes)), -1.0)
    limited = np.full((len(weights), len(limits), overlaps, len(classes)), -1.0)
    for number, by_area in enumerate(classes):
        for area, one in enumerate(by_area):
            images, counts = one.objects
            total = weights[:, images] @ counts  # (R,)
            known = total > 0
            if not known.any():
                continue
            needed = _needed(np.maximum(total, 1))
            judged = np.cumsum(weights[:, one.image], axis=1)  # (R, N)
            for overlap, setting in enumerate(one.settings):
                curve, hits = _curve(one, setting, judged, weights, needed)
                precision[known, area, overlap, :, number] = curve[known]
                recall[known, area, overlap, number] = hits[known] / total[known]
                for place, limit in enumerate(limits if area == 0 else ()):
                    within = setting.right[one.rank[setting.right] < limit]
                    hits = weights[:, one.image[within]].sum(axis=1)
                    limited[known, place, overlap, number] = hits[known] / total[known]
    return precision, recall, limited


def _curve(
    one: Matches,
    setting: Setting,
    judged: np.ndarray,
    weights: np.ndarray,
    needed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(R, 101) precision at each recall, and (R,) how many objects are found at the end."""
    rows, count = len(weights), len(setting.right)
    if not count:
        return np.zeros(needed.shape), np.zeros(rows, dtype=np.int64)
    hits = np.cumsum(weights[:, one.image[setting.right]], axis=1)  # (R, H)
    counted = judged[:, setting.right]
    if len(setting.pardoned):
        pardoned = np.cumsum(weights[:, one.image[setting.pardoned]], axis=1)
        pardoned = np.concatenate([np.zeros((rows, 1), dtype=pardoned.dtype), pardoned], axis=1)
        counted = counted - pardoned[:, np.searchsorted(setting.pardoned, setting.right)]
    precision = hits / (counted + np.spacing(1))  # as pycocotools writes it
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # The first hit that reaches each recall, in all rows by one search: rows are shifted apart.
    apart = int(max(hits[:, -1].max(), needed.max())) + 1
    shift = np.arange(rows)[:, None] * apart
    place = np.searchsorted((hits + shift).ravel(), (needed + shift).ravel())
    place = place.reshape(needed.shape) - np.arange(rows)[:, None] * count
    reached = place < count
    values = np.take_along_axis(precision, np.minimum(place, count - 1), axis=1)
    return np.where(reached, values, 0.0), hits[:, -1]


def _needed(total: np.ndarray) -> np.ndarray:
    """(R, 101): the least number of hits whose share of `total` (R,) is each recall or more.

    As floating point has it: hits / total is what is compared.
    """
    least = np.ceil(RECALLS * total[:, None])
    least = np.where((least - 1) / total[:, None] >= RECALLS, least - 1, least)
    least = np.where(least / total[:, None] < RECALLS, least + 1, least)
    return np.maximum(least, 0).astype(np.int64)


def mean_of_known(values: np.ndarray) -> float:
    """The mean of what is not -1, in pycocotools' order of summation; NaN if nothing is."""
    known = values[values > -1]
    return float(np.mean(known)) if known.size else float("nan")
