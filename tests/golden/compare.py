"""How closely a tensor follows the reference: the tolerances of golden/README.md, in one place."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glipkit.modeling.fill import sample_indices


@dataclass(frozen=True)
class Tolerance:
    """How far a tensor may be from the reference's."""

    relative: float  # L2 norm of the difference / L2 norm of the reference
    absolute: float  # largest difference of two elements


TEXT = SWIN = Tolerance(1e-5, 1e-4)
PYRAMID = Tolerance(1e-5, 2e-4)
TOWER_WITHOUT_FUSION = Tolerance(2e-5, 1e-4)
TOWER_IMAGE = Tolerance(3e-4, 2e-3)
TOWER_TEXT = Tolerance(5e-5, 5e-4)
BOX_AND_CENTERNESS = Tolerance(4e-4, 2e-3)
LOGITS = Tolerance(2e-4, 2e-3)
HEAD_WITHOUT_FUSION = Tolerance(2e-5, 2e-4)
FLOAT64 = Tolerance(1e-10, 1e-10)


@dataclass(frozen=True)
class Golden:
    """Elements of a tensor of the reference, all of them or evenly spaced ones."""

    name: str
    shape: tuple[int, ...]
    values: np.ndarray  # (N,)
    indices: np.ndarray  # (N,) int64, into the flattened tensor
    stats: np.ndarray | None  # mean, population standard deviation, min, max, L2 norm; float64


def golden_tensor(goldens: Mapping[str, np.ndarray], name: str) -> Golden:
    """The tensor `name` of a golden file, whether it was kept whole or as samples."""
    if name in goldens:
        values = goldens[name]
        return Golden(name, values.shape, values.ravel(), np.arange(values.size), None)
    values = goldens[f"{name}.sample"]
    shape = tuple(int(side) for side in goldens[f"{name}.shape"])
    indices = sample_indices(int(np.prod(shape)), len(values))
    return Golden(name, shape, values, indices, goldens[f"{name}.stats"])


def distance(actual: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Relative L2 and the largest absolute difference, computed in float64."""
    difference = actual.astype(np.float64) - expected.astype(np.float64)
    largest = np.abs(difference).max(initial=0)
    norm = np.linalg.norm(expected.astype(np.float64))
    # Nothing to be relative to: then any difference is infinitely far.
    relative = np.linalg.norm(difference) / norm if norm else (np.inf if largest else 0.0)
    return float(relative), float(largest)


def assert_follows(
    actual: Tensor, golden: Golden, tolerance: Tolerance, *, keep: Tensor | None = None
) -> tuple[float, float]:
    """Compare a tensor with the reference's.

    Args:
        actual: of the golden tensor's shape.
        golden: what the reference computed.
        tolerance: both its limits hold.
        keep: bool, broadcastable to that shape: compare these elements only (and no statistics).

    Returns:
        Relative L2 and the largest absolute difference.
    """
    name = golden.name
    assert tuple(actual.shape) == golden.shape, f"{name}: shape {tuple(actual.shape)}"
    flat = actual.detach().float().contiguous().view(-1).numpy()
    indices, expected = golden.indices, golden.values
    if keep is not None:
        kept = keep.expand(golden.shape).contiguous().view(-1).numpy()[indices]
        indices, expected = indices[kept], expected[kept]
    assert np.isfinite(flat).all(), f"{name}: not finite"
    relative, largest = distance(flat[indices], expected)
    where = np.unravel_index(indices[np.abs(flat[indices] - expected).argmax()], golden.shape)
    close = relative <= tolerance.relative and largest <= tolerance.absolute
    assert close, (
        f"{name} {golden.shape}: relative L2 {relative:.2e} (allowed {tolerance.relative:.0e}), "
        f"largest difference {largest:.2e} (allowed {tolerance.absolute:.0e}) "
        f"at {tuple(int(i) for i in where)}, {len(indices)} elements compared"
    )
    if golden.stats is not None and keep is None:
        _assert_statistics(flat.astype(np.float64), golden, tolerance)
    return relative, largest


def _assert_statistics(flat: np.ndarray, golden: Golden, tolerance: Tolerance) -> None:
    """The whole tensor, through five numbers that no sample can miss."""
    actual = [flat.mean(), flat.std(), flat.min(), flat.max(), np.linalg.norm(flat)]
    mean, deviation, low, high, norm = golden.stats
    spread = tolerance.relative * norm / np.sqrt(flat.size)  # RMS difference that is allowed
    limits = [spread, spread, tolerance.absolute, tolerance.absolute, tolerance.relative * norm]
    for what, value, expected, limit in zip(
        ("mean", "standard deviation", "minimum", "maximum", "L2 norm"),
        actual, (mean, deviation, low, high, norm), limits,
    ):  # fmt: skip
        assert abs(value - expected) <= limit, (
            f"{golden.name}: {what} is {value:.8g}, the reference's {expected:.8g}"
        )


def count_unmatched(
    found: tuple[Tensor, Tensor, Tensor],
    expected: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    box_limit: float = 0.05,
    score_limit: float = 1e-4,
) -> int:
    """How many detections have no partner, on the side where more have none.

    Two detections are partners if they have the same label, all four coordinates within
    `box_limit` pixels and the scores within `score_limit`. Each has at most one; the best detection
    chooses first, the nearest score wins.

    Args:
        found: boxes (N, 4), scores (N,), labels (N,).
        expected: the same of the reference, M of them.
    """
    boxes, scores, labels = (value.cpu().double() for value in found)
    their_boxes, their_scores, their_labels = (torch.from_numpy(v).double() for v in expected)
    difference = (scores[:, None] - their_scores).abs()
    fits = (
        (labels[:, None] == their_labels)
        & (difference <= score_limit)
        & ((boxes[:, None] - their_boxes).abs() <= box_limit).all(dim=2)
    )
    cost = difference.masked_fill(~fits, torch.inf)
    partners = 0
    for row in scores.argsort(descending=True).tolist():
        if len(their_scores) and cost[row].min() < torch.inf:
            cost[:, cost[row].argmin()] = torch.inf
            partners += 1
    return max(len(scores), len(their_scores)) - partners
