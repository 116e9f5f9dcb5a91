"""Which detections find an object, by the rule of the LVIS evaluation, many pictures at a time.

In each picture and class, detections choose from the best one on. One takes the free object that it
overlaps most, if that is enough, and an object out of the range of areas only if no other will do;
of equal overlaps the last object of the file (as `lvis` and pycocotools do).
"""

from dataclasses import dataclass

import numpy as np

from glipkit.evaluation.lvis_truth import LvisTruth

IOUS = np.linspace(0.5, 0.95, 10)  # an overlap that is enough
# Pixels of all, small, medium and large objects.
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])
# What a detection found: nothing, an object, an object that is not counted.
FREE, FOUND, IGNORED = 0, 1, 2
_PAIRS = 1 << 19  # (detection, object) pairs whose overlap is computed together


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Detections and objects of the same picture and class that overlap by half at least."""

    detection: np.ndarray  # (P,) int64
    truth: np.ndarray  # (P,) int64
    iou: np.ndarray  # (P,) float64

    def __getitem__(self, rows: np.ndarray | slice) -> "_Pairs":
        return _Pairs(self.detection[rows], self.truth[rows], self.iou[rows])


def out_of_range(areas: np.ndarray) -> np.ndarray:
    """(4, N) bool: whether an area of (N,) lies outside each of `AREAS`."""
    return (areas < AREAS[:, :1]) | (areas > AREAS[:, 1:])


def match(keys: np.ndarray, boxes: np.ndarray, truth: LvisTruth, rows: slice) -> np.ndarray:
    """What each detection found.

    Args:
        keys: (N,) int64, of picture and class as in `LvisTruth`; of equal keys the best first.
        boxes: (N, 4) float64, x, y, width, height.
        truth: the objects.
        rows: those that the keys may be of.

    Returns:
        (4 areas, 10 overlaps, N) uint8: `FREE`, `FOUND` or `IGNORED`.
    """
    objects = truth.boxes[rows]
    pairs = _overlapping(keys, boxes, truth.keys[rows], objects)
    ignored = out_of_range(truth.areas[rows])  # (4, M)
    found = np.full((len(AREAS), len(IOUS), len(keys)), FREE, dtype=np.uint8)
    taken = np.zeros((len(AREAS), len(IOUS), len(objects)), dtype=bool)
    turns = _turns(keys, pairs.detection)
    order = np.lexsort((pairs.truth, pairs.iou, pairs.detection, turns))
    pairs, turns = pairs[order], turns[order]
    ends = np.searchsorted(turns, np.arange(1, turns.max(initial=-1) + 2))
    start = 0
    for end in ends.tolist():  # the best detection of every picture and class, the second best ...
        _choose(pairs[start:end], ignored, found, taken)
        start = end
    return found


def _choose(pairs: _Pairs, ignored: np.ndarray, found: np.ndarray, taken: np.ndarray) -> None:
    """Let detections of different pictures and classes choose, and note it in the last two.

    Args:
        pairs: by detection, then by overlap, then by object, ascending.
        ignored: (4, M) bool, objects out of the range of areas.
        found: (4, 10, N), as `match` returns it.
        taken: (4, 10, M) bool.
    """
    count = len(pairs.detection)
    free = ~taken[:, :, pairs.truth] & (pairs.iou >= IOUS[:, None])  # (4, 10, P)
    counts = ~ignored[:, pairs.truth]  # (4, P)
    # The last pair wins, but one that counts before all that do not. 0: none will do.
    preference = free * (np.arange(1, count + 1) + count * counts)[:, None]
    starts = np.flatnonzero(np.diff(pairs.detection, prepend=-1))
    wanted = np.maximum.reduceat(preference, starts, axis=2)  # (4, 10, detections)
    area, overlap, place = np.nonzero(wanted)
    chosen = wanted[area, overlap, place] - 1
    winner = chosen % count
    taken[area, overlap, pairs.truth[winner]] = True
    state = np.where(chosen >= count, FOUND, IGNORED)
    found[area, overlap, pairs.detection[winner]] = state


def _overlapping(
    keys: np.ndarray, boxes: np.ndarray, truth_keys: np.ndarray, objects: np.ndarray
) -> _Pairs:
    first = np.searchsorted(truth_keys, keys, side="left")
    counts = np.searchsorted(truth_keys, keys, side="right") - first
    before = np.concatenate([[0], np.cumsum(counts)])
    parts = [_Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    start = 0
    while start < len(keys):
        end = int(np.searchsorted(before, before[start] + _PAIRS, side="right")) - 1
        end = max(end, start + 1)
        detection = np.repeat(np.arange(start, end), counts[start:end])
        within = np.arange(before[start], before[end]) - before[detection]
        truth = first[detection] + within
        iou = _iou(boxes[detection], objects[truth])
        enough = iou >= IOUS[0]
        parts.append(_Pairs(detection[enough], truth[enough], iou[enough]))
        start = end
    return _Pairs(*(np.concatenate([getattr(part, name) for part in parts])
                    for name in ("detection", "truth", "iou")))  # fmt: skip


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) float64 of two times (N, 4) x, y, width, height; in pycocotools' order of operations."""
    corner = np.maximum(boxes[:, :2], others[:, :2])
    ends = np.minimum(boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:])
    sides = (ends - corner).clip(min=0)
    shared = sides[:, 0] * sides[:, 1]
    union = boxes[:, 2] * boxes[:, 3] + others[:, 2] * others[:, 3] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def _turns(keys: np.ndarray, detections: np.ndarray) -> np.ndarray:
    """(P,) int64: how many better detections with the same key have pairs too.

    Args:
        keys: (N,), of detections.
        detections: (P,), ascending.
    """
    unique, place = np.unique(detections, return_inverse=True)
    order = np.argsort(keys[unique], kind="stable")
    sorted_keys = keys[unique][order]
    turns = np.empty(len(unique), dtype=np.int64)
    turns[order] = np.arange(len(unique)) - np.searchsorted(sorted_keys, sorted_keys, side="left")
    return turns[place]
