"""ATSS as the paper and BEHAVIOUR 12 say it, one anchor and one box at a time.

Slow and obvious, and without a line of the package. Equal distances are left to chance, so boxes
should not be symmetrical to the grid.
"""

import math
import statistics

Box = list[float]


def iou(a: Box, b: Box) -> float:
    """Widths count pixels."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return shared / (sum(areas) - shared)


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def assign(levels: list[list[Box]], boxes: list[Box], topk: int) -> dict[int, int]:
    """Anchor (counted over all levels) -> box, for positive anchors."""
    anchors = [anchor for level in levels for anchor in level]
    wanted: dict[int, dict[int, float]] = {}  # anchor -> box -> IoU
    for number, box in enumerate(boxes):
        candidates, start = [], 0
        for level in levels:
            distances = [math.dist(centre(anchor), centre(box)) for anchor in level]
            nearest = sorted(range(len(level)), key=lambda i: distances[i])[:topk]
            candidates += [start + index for index in nearest]
            start += len(level)
        overlaps = [iou(anchors[index], box) for index in candidates]
        threshold = statistics.mean(overlaps) + statistics.stdev(overlaps)
        for index, overlap in zip(candidates, overlaps):
            x, y = centre(anchors[index])
            depth = min(x - box[0], y - box[1], box[2] - x, box[3] - y)
            if overlap >= threshold and depth > 0.01:
                wanted.setdefault(index, {})[number] = overlap
    return {index: max(found, key=found.get) for index, found in wanted.items()}
