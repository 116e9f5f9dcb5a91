"""components/box_coder.npz: published encoding, decoding (with clamped sizes), and both."""

from pathlib import Path

import numpy as np
import pytest
import torch

from glipkit.modeling.box_coder import BoxCoder


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, torch.Tensor]:
    arrays = np.load(golden / "components" / "box_coder.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_encode(expected: dict[str, torch.Tensor]) -> None:
    encoded = BoxCoder().encode(expected["gt"], expected["anchors"])
    torch.testing.assert_close(encoded, expected["encoded"], rtol=1e-5, atol=1e-5)


def test_decode(expected: dict[str, torch.Tensor]) -> None:
    decoded = BoxCoder().decode(expected["deltas"], expected["anchors"])
    torch.testing.assert_close(decoded, expected["decoded"], rtol=1e-6, atol=1e-4)


def test_round_trip(expected: dict[str, torch.Tensor]) -> None:
    boxes = BoxCoder().decode(expected["encoded"], expected["anchors"])
    torch.testing.assert_close(boxes, expected["round_trip"], rtol=1e-6, atol=1e-4)
