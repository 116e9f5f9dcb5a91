"""Where labels go so that they hide neither each other nor small boxes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from glipkit.visualize.geometry import Box

# What makes a place bad, in units of "a box is hidden entirely". Chosen by looking at pictures.
_LATER = 0.02  # each place further down the list of preferences
_LEADER = 0.5  # a line from label to box, which the eye has to follow
_DISTANCE = 0.04  # each line height that it is long
_OWN = 0.4  # its own box hidden entirely
_CROWD = 0.15  # the label lies on other boxes with all its area
_WORST = 1.5  # beyond this a label harms more than it tells

_DIRECTIONS = np.stack(
    [
        np.cos(np.linspace(0, 2 * np.pi, 16, endpoint=False)),
        np.sin(np.linspace(0, 2 * np.pi, 16, endpoint=False)),
    ],
    axis=1,
)
_RINGS = (1.2, 2.5, 4.0, 6.0)  # heights of a label away from its box
_SAMPLES = np.linspace(0, 1, 9)  # along a leader


class Place(NamedTuple):
    """A label's place, and the line that leads to it, if it does not touch its box."""

    box: Box
    leader: tuple[tuple[int, int], tuple[int, int]] | None  # from the box to the label, (x, y)


class Layout:
    """Finds places for labels one after the other; a place once given is kept.

    Args:
        size: (width, height) of the picture in pixels.
        boxes: everything that is drawn, N boxes.
    """

    def __init__(self, size: tuple[int, int], boxes: Sequence[Box]) -> None:
        self.width, self.height = size
        self._boxes = _corners(boxes)  # (N, 4), right and bottom excluded
        self._taken = np.zeros((0, 4))

    def reserve(self, place: Box) -> None:
        """Keep a place free of labels."""
        self._taken = np.concatenate([self._taken, _corners([place])])

    def place(
        self, own: int, size: tuple[int, int], *, below: bool = False, leaders: bool = True
    ) -> Place | None:
        """The best free place for the label of a box; None if every place would hide too much.

        Args:
            own: which of the boxes.
            size: (width, height) of the label in pixels.
            below: prefer the lower edge of the box.
            leaders: allow places away from the box.
        """
        width, height = size
        if width > self.width or height > self.height:
            return None
        box = self._boxes[own]
        near = self._near(box, width, height, below)
        places = np.concatenate([near, self._around(box, width, height)]) if leaders else near
        costs = _LATER * np.arange(len(places), dtype=float)
        costs[len(near) :] = 0  # a direction is as good as any other
        costs += self._hidden(places, own)
        starts, ends = _leaders(box, places[len(near) :])
        length = np.hypot(*(ends - starts).T)
        costs[len(near) :] += _LEADER + _DISTANCE * length / height
        costs[_overlaps(places, self._taken).any(axis=1)] = np.inf
        costs[len(near) :][self._crosses(starts, ends)] = np.inf
        best = int(costs.argmin()) if len(costs) else -1
        if best < 0 or costs[best] > _WORST:
            return None
        left, top, right, bottom = (int(value) for value in places[best])
        found = Box(left, top, right - 1, bottom - 1)
        self.reserve(found)
        if best < len(near):
            return Place(found, None)
        start, end = starts[best - len(near)], ends[best - len(near)]
        return Place(found, (tuple(map(int, start)), tuple(map(int, end))))

    def _near(self, box: np.ndarray, width: int, height: int, below: bool) -> np.ndarray:
        """Places that touch the box, best first, (C, 4)."""
        x1, y1, x2, y2 = box
        middle = (x1 + x2 - width) // 2
        above, inside, under, low = y1 - height, y1, y2, y2 - height
        rows = (low, under, inside, above) if below else (above, inside, under, low)
        corners = [(x, y) for y in rows for x in (x1, x2 - width, middle)]
        corners += [(x2, y1), (x1 - width, y1), (x2, low), (x1 - width, low)]
        corners += [(x1, y) for y in np.arange(y1 + height, low, height)]  # down inside the box
        places = np.array(corners, dtype=float)
        places[:, 0] = places[:, 0].clip(0, self.width - width)
        places = _sized(places, width, height)
        return places[(places[:, 1] >= 0) & (places[:, 3] <= self.height)]

    def _around(self, box: np.ndarray, width: int, height: int) -> np.ndarray:
        """Places at some distance from the box, (C, 4)."""
        half = (box[2:] - box[:2]) / 2
        center = box[:2] + half
        label = np.array([width, height]) / 2
        rings = [center + _DIRECTIONS * (half + label + gap * height) for gap in _RINGS]
        corners = np.floor(np.concatenate(rings) - label)
        places = _sized(corners, width, height)
        inside = (places[:, :2] >= 0).all(axis=1)
        inside &= (places[:, 2] <= self.width) & (places[:, 3] <= self.height)
        return places[inside]

    def _hidden(self, places: np.ndarray, own: int) -> np.ndarray:
        """What labels at these places would hide of the boxes, (C,)."""
        shared = _overlaps(places, self._boxes)  # (C, N)
        parts = shared / _areas(self._boxes)
        mine = parts[:, own].copy()
        parts[:, own] = shared[:, own] = 0
        crowd = shared.sum(axis=1) / _areas(places)
        return parts.sum(axis=1) + _OWN * mine + _CROWD * np.minimum(crowd, 2)

    def _crosses(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Which leaders run over a label that is there already, (C,)."""
        points = starts[:, None] + (ends - starts)[:, None] * _SAMPLES[:, None]  # (C, S, 2)
        x, y = points[..., None, 0], points[..., None, 1]
        left, top, right, bottom = self._taken.T
        return ((x > left) & (x < right) & (y > top) & (y < bottom)).any(axis=(1, 2))


def _corners(boxes: Sequence[Box]) -> np.ndarray:
    """(N, 4) with right and bottom excluded."""
    corners = np.array(boxes, dtype=float).reshape(-1, 4)
    corners[:, 2:] += 1
    return corners


def _sized(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    """(C, 4) from upper left corners, (C, 2)."""
    return np.concatenate([corners, corners + np.array([width, height])], axis=1)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pixels in common, (C, N)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clip(min=0).prod(axis=2)


def _leaders(box: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where lines leave the box and reach the labels: the nearest points of the two, (C, 2)."""
    center = (places[:, :2] + places[:, 2:]) / 2
    starts = np.clip(center, box[:2], box[2:] - 1)
    ends = np.clip(starts, places[:, :2], places[:, 2:] - 1)
    return starts, ends
