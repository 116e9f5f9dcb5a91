"""How far the predictions of two evaluations are apart, detection by detection."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# Two detections of one phrase are partners when no side is further off, and no score:
PIXELS = 0.1
SCORE = 1e-3  # of the score

Found = tuple[Any, ...]  # x, y, the other corner or the sides, score


@dataclass(frozen=True)
class Agreement:
    """Of the detections of two runs: which are the same, and how far partners are apart."""

    first: int  # detections of the first run
    second: int
    same: int  # pairs that agree to the last bit
    alone: int  # of both runs, without a partner on the other side
    pixels: float  # the most that a side of partners differs
    score: float  # the most that scores of partners differ, as a share of the score
    in_order: bool  # both lists are one and the same

    @property
    def share_alone(self) -> float:
        """Of all detections of both runs."""
        return self.alone / max(self.first + self.second, 1)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self) | {"share_alone": self.share_alone}


def compare(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> Agreement:
    """Pair the detections of two runs, each with at most one of the other.

    Args:
        first: what predictions.json of one run holds, of classes or of captions.
        second: that of the other.
    """
    ours, theirs = _by_phrase(first), _by_phrase(second)
    same = alone = 0
    pixels = score = 0.0
    for key in ours.keys() | theirs.keys():
        mine, other = ours[key], theirs[key]
        both = mine & other
        same += both.total()
        left, right = sorted((mine - both).elements()), sorted((other - both).elements())
        pairs = list(_partners(left, right))
        alone += len(left) + len(right) - 2 * len(pairs)
        for moved, changed in pairs:
            pixels, score = max(pixels, moved), max(score, changed)
    return Agreement(len(first), len(second), same, alone, pixels, score, first == second)


def _by_phrase(predictions: Sequence[Mapping[str, Any]]) -> dict[tuple, Counter[Found]]:
    """What was found for each phrase of a caption, or class of a picture."""
    found: dict[tuple, Counter[Found]] = defaultdict(Counter)
    for each in predictions:
        key = (each["image_id"], each.get("phrase"), each.get("category_id"))
        box = each["box"] if "box" in each else each["bbox"]
        found[key].update([(*box, each["score"])])
    return found


def _partners(left: Sequence[Found], right: Sequence[Found]) -> Iterator[tuple[float, float]]:
    """How far partners are apart, in pixels and in shares of the score; the nearest pair first."""
    if not (left and right):
        return
    a, b = np.array(left)[:, None], np.array(right)[None]
    moved = np.abs(a - b)[..., :4].max(axis=2)
    changed = np.abs(a - b)[..., 4] / np.maximum(np.maximum(a, b)[..., 4], 1e-12)
    apart = np.maximum(moved / PIXELS, changed / SCORE)
    while apart.size and apart.min() <= 1:
        row, column = np.unravel_index(apart.argmin(), apart.shape)
        yield float(moved[row, column]), float(changed[row, column])
        apart[row], apart[:, column] = np.inf, np.inf
