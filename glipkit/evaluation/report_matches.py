"""What each predicted box met in the truth, and what kind of mistake it is.

The kinds are those of TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020), written anew: a box is right, or it is one of five kinds of wrong, and truth
that no box accounts for is missed. Everything is counted on plain arrays, so that half a million
boxes take seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from glipkit.data.datasets.coco import CocoDetection

FOREGROUND = 0.5  # IoU from which a box is at the place of a truth
BACKGROUND = 0.1  # IoU below which it is at no place of interest
MOST_PER_CLASS = 100  # boxes of a class in a picture that are judged, as COCO AP does


class Kind(IntEnum):
    """What a predicted box is; the first that holds, in this order."""

    CORRECT = 0  # at the place of a truth of its class, the best box there
    IGNORED = 1  # in a crowd of its class, which is neither right nor wrong
    DUPLICATE = 2  # at the place of a truth of its class that a better box has found
    CONFUSION = 3  # at the place of a truth of another class
    LOCALISATION = 4  # near a truth of its class, but not at its place
    BOTH = 5  # near a truth of another class
    BACKGROUND = 6  # near nothing


@dataclass(frozen=True, slots=True)
class Boxes:
    """N boxes of many pictures, by picture; those of a picture by score, the best first."""

    image: np.ndarray  # (N,) int64: which picture, counted by ascending image id
    category: np.ndarray  # (N,) int64: which category of the dataset
    corners: np.ndarray  # (N, 4) float64: x1, y1, x2, y2 in pixels
    score: np.ndarray  # (N,) float64; 1 for truth
    is_crowd: np.ndarray  # (N,) bool

    def __len__(self) -> int:
        return len(self.image)

    def of_image(self, image: int) -> slice:
        """The boxes of one picture."""
        start, stop = np.searchsorted(self.image, [image, image + 1])
        return slice(int(start), int(stop))


@dataclass(frozen=True, slots=True)
class Matches:
    """D predicted boxes beside G boxes of truth."""

    kind: np.ndarray  # (D,) int64, of `Kind`
    truth: np.ndarray  # (D,) int64: the truth that was met or mistaken; -1 for none
    overlap: np.ndarray  # (D,) float64: IoU with it
    finder: np.ndarray  # (G,) int64: the correct box for each truth; -1 for none


def image_ids(dataset: CocoDetection) -> list[int]:
    """The pictures in the order in which `Boxes` counts them."""
    return sorted(image.image_id for image in dataset.images)


def read_boxes(
    dataset: CocoDetection, entries: Sequence[Mapping[str, Any]], *, origin: str
) -> Boxes:
    """COCO annotations or results as arrays.

    Args:
        dataset: which pictures and categories there are.
        entries: with image_id, category_id, bbox (x, y, width, height) and, if predicted, score.
        origin: what errors call them.

    Raises:
        ValueError: a picture or a category is not one of the dataset's, or an entry is incomplete.
    """
    images = {image_id: index for index, image_id in enumerate(image_ids(dataset))}
    classes = {each.category_id: index for index, each in enumerate(dataset.categories)}
    try:
        image = np.array([images[each["image_id"]] for each in entries], dtype=np.int64)
        category = np.array([classes[each["category_id"]] for each in entries], dtype=np.int64)
        corners = np.array([each["bbox"] for each in entries], dtype=np.float64).reshape(-1, 4)
        score = np.array([each.get("score", 1.0) for each in entries], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{origin} does not belong to {dataset.ann_file}: {type(error).__name__} {error}; "
            "expected the pictures and categories of that file"
        ) from error
    is_crowd = np.array([bool(each.get("iscrowd")) for each in entries], dtype=bool)
    corners[:, 2:] += corners[:, :2]
    order = np.lexsort((-score, image))  # stable: equal scores keep the order of the file
    return Boxes(image[order], category[order], corners[order], score[order], is_crowd[order])


def best_of_each_class(boxes: Boxes, most: int = MOST_PER_CLASS) -> Boxes:
    """Without what exceeds `most` boxes of a class in a picture."""
    order = np.lexsort((boxes.category, boxes.image))  # stable: by score within a class
    group = np.stack([boxes.image[order], boxes.category[order]])
    is_first = np.ones(len(boxes), dtype=bool)
    is_first[1:] = (group[:, 1:] != group[:, :-1]).any(axis=0)
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(boxes)), 0))
    kept = np.sort(order[np.arange(len(boxes)) - first < most])
    return Boxes(
        boxes.image[kept],
        boxes.category[kept],
        boxes.corners[kept],
        boxes.score[kept],
        boxes.is_crowd[kept],
    )


def match(found: Boxes, truth: Boxes, *, threshold: float = FOREGROUND) -> Matches:
    """Give every predicted box its kind.

    Boxes take the truth of their class that they overlap most, the best box first, as COCO AP does.

    Args:
        found: D boxes.
        truth: G boxes.
        threshold: IoU from which a box is at the place of a truth.
    """
    kind = np.full(len(found), Kind.BACKGROUND, dtype=np.int64)
    met = np.full(len(found), -1, dtype=np.int64)
    overlap = np.zeros(len(found))
    finder = np.full(len(truth), -1, dtype=np.int64)
    starts = np.flatnonzero(np.diff(found.image, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(found)]):
        here, there = slice(int(start), int(stop)), truth.of_image(int(found.image[start]))
        if there.start == there.stop:
            continue
        kind[here], place, overlap[here], finders = _match_image(
            found, truth, here, there, threshold
        )
        met[here] = np.where(place >= 0, place + there.start, -1)
        finder[there] = np.where(finders >= 0, finders + here.start, -1)
    return Matches(kind, met, overlap, finder)


def _match_image(
    found: Boxes, truth: Boxes, here: slice, there: slice, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Kinds, truths and overlaps of one picture's boxes, and the finder of each truth."""
    crowd = truth.is_crowd[there]
    overlaps = _overlaps(found.corners[here], truth.corners[there], crowd)  # (D, G)
    same = found.category[here, None] == truth.category[None, there]
    own = np.where(same & ~crowd, overlaps, -1.0)
    other = np.where(~same & ~crowd, overlaps, -1.0)
    count = len(overlaps)
    finder = np.full(overlaps.shape[1], -1, dtype=np.int64)
    taken = np.full(count, -1, dtype=np.int64)
    free = np.ones(overlaps.shape[1], dtype=bool)
    for row in np.flatnonzero((own >= threshold).any(axis=1)):
        candidates = np.where(free, own[row], -1.0)
        best = len(candidates) - 1 - int(candidates[::-1].argmax())  # the last of equals, as COCO
        if candidates[best] >= threshold:
            taken[row], finder[best], free[best] = best, row, False

    rows = np.arange(count)
    nearest, mistaken = own.argmax(axis=1), other.argmax(axis=1)
    own_best, other_best = own[rows, nearest], other[rows, mistaken]
    in_crowd = ((overlaps >= threshold) & same & crowd).any(axis=1)
    cases = [  # in the order of Kind: the first that holds
        (taken >= 0, Kind.CORRECT, taken),
        (in_crowd, Kind.IGNORED, -1),
        (own_best >= threshold, Kind.DUPLICATE, nearest),
        (other_best >= threshold, Kind.CONFUSION, mistaken),
        (own_best >= BACKGROUND, Kind.LOCALISATION, nearest),
        (other_best >= BACKGROUND, Kind.BOTH, mistaken),
    ]
    conditions = [condition for condition, _, _ in cases]
    kind = np.select(conditions, [int(kind) for _, kind, _ in cases], int(Kind.BACKGROUND))
    place = np.select(conditions, [place for _, _, place in cases], -1)
    overlap = np.where(place >= 0, overlaps[rows, place], 0.0)
    return kind, place, overlap, finder


def _overlaps(a: np.ndarray, b: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(D, G) intersection over union; with a crowd, over the area of the predicted box."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas = (a[:, 2:] - a[:, :2]).prod(axis=1)[:, None]
    union = np.where(crowd, areas, areas + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
