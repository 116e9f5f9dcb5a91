"""The outline of every shape, as a polygon."""

from typing import NamedTuple

import numpy as np


class Outline(NamedTuple):
    """A polygon, perhaps with a hole, and how far it may be turned and still be what it is."""

    points: np.ndarray  # (K, 2) x and y, y down; the longer side of its box is 2, its centre 0
    hole: np.ndarray | None  # the same frame
    turn: float  # degrees to either side


def _arc(start: float, end: float, radius: float = 1.0, x: float = 0.0, y: float = 0.0):
    """(K, 2) points of an arc; degrees, 0 to the right, growing clockwise on the screen."""
    steps = max(8, round(abs(end - start) / 6)) + 1
    angles = np.radians(np.linspace(start, end, steps))
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


def _star(points: int = 5, inner: float = 0.42) -> np.ndarray:
    angles = np.radians(-90 + 180 / points * np.arange(2 * points))
    radius = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], axis=1)


def _cross(arm: float = 0.33) -> np.ndarray:
    quarter = [(arm, -1), (arm, -arm), (1, -arm)]
    points, turned = [], np.array(quarter, dtype=float)
    for _ in range(4):
        points.append(turned)
        turned = np.stack([-turned[:, 1], turned[:, 0]], axis=1)
    return np.concatenate(points)


def _crescent(radius: float = 0.85, shift: float = 0.5) -> np.ndarray:
    """A disc less another one that is `shift` to its right."""
    tip_x = (1 + shift**2 - radius**2) / (2 * shift)
    tip_y = np.sqrt(1 - tip_x**2)
    outer = np.degrees(np.arctan2(tip_y, tip_x))
    inner = np.degrees(np.arctan2(tip_y, tip_x - shift))
    return np.concatenate([_arc(outer, 360 - outer), _arc(360 - inner, inner, radius, shift)])


def _drop(radius: float = 0.62) -> np.ndarray:
    """A disc and the two tangents that meet above it."""
    centre = 1 - radius
    reach = np.degrees(np.arccos(radius / (1 + centre)))  # from straight up to the tangent point
    arc = _arc(-90 + reach, 270 - reach, radius, 0.0, centre)
    return np.concatenate([[(0.0, -1.0)], arc])


_TRIANGLE = [(0.0, -1.0), (np.sqrt(0.75), 0.5), (-np.sqrt(0.75), 0.5)]
_DIAMOND = [(0.0, -1.0), (0.6, 0.0), (0.0, 1.0), (-0.6, 0.0)]
_ARROW = [(-1, -0.2), (0.1, -0.2), (0.1, -0.62), (1, 0), (0.1, 0.62), (0.1, 0.2), (-1, 0.2)]
_BOLT = [(-0.1, -1), (0.5, -1), (0.15, -0.25), (0.6, -0.25), (-0.3, 1), (-0.05, 0.1), (-0.5, 0.1)]


def _outline(points, turn: float, hole: float | None = None) -> Outline:
    """Centred and scaled; a hole is a disc in the middle, `hole` times as wide."""
    points = np.asarray(points, dtype=float)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) / ((high - low).max() / 2)
    return Outline(points, None if hole is None else _arc(0, 354, hole), turn)


# A turned square must not become a diamond, nor a cross an x; the others are what they are.
OUTLINES = {
    "circle": _outline(_arc(0, 354), 0),
    "square": _outline([(-1, -1), (1, -1), (1, 1), (-1, 1)], 14),
    "triangle": _outline(_TRIANGLE, 180),
    "star": _outline(_star(), 180),
    "heart": _outline(_heart(), 30),
    "ring": _outline(_arc(0, 354), 0, hole=0.56),
    "cross": _outline(_cross(), 18),
    "diamond": _outline(_DIAMOND, 14),
    "crescent": _outline(_crescent(), 180),
    "arrow": _outline(_ARROW, 180),
    "bolt": _outline(_BOLT, 30),
    "drop": _outline(_drop(), 180),
}
