"""components/anchors.npz: the published anchors of three pyramids."""

from pathlib import Path

import numpy as np
import pytest
import torch

from glipkit.modeling.anchors import AnchorGenerator

NAMES = ("P3", "P4", "P5", "P6", "P7")


@pytest.mark.parametrize("grid", ["grid0", "grid1", "grid2"])
def test_pyramid(golden: Path, grid: str) -> None:
    expected = np.load(golden / "components" / "anchors.npz")
    sizes = [tuple(size) for size in expected[f"{grid}.sizes_hw"].tolist()]
    compared = 0
    for name, (height, width), anchors in zip(NAMES, sizes, AnchorGenerator()(sizes)):
        assert anchors.shape == (height * width, 4)
        if f"{grid}.{name}" in expected:
            _assert_same(anchors, expected[f"{grid}.{name}"])
        else:
            _assert_same(anchors[:20], expected[f"{grid}.{name}.first20"])
            _assert_same(anchors[-20:], expected[f"{grid}.{name}.last20"])
            _assert_same(anchors.double().sum(0), expected[f"{grid}.{name}.sum_f64"])
        compared += 1
    assert compared == 5


def test_cells(golden: Path) -> None:
    expected = np.load(golden / "components" / "anchors.npz")
    for name, anchors in zip(NAMES, AnchorGenerator()([(1, 1)] * 5), strict=True):
        _assert_same(anchors, expected[f"cell.{name}"])


def _assert_same(anchors: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(anchors, torch.from_numpy(expected), rtol=0, atol=0)
