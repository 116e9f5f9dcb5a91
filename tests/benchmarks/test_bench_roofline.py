import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import roofline


@pytest.mark.parametrize(
    ("speed", "expected"),
    [(1e9, [256]), (1e11, [256, roofline.SIDE["cpu"]])],
    ids=["minutes without bfloat16", "a moment with it"],
)
def test_large_products_are_left_out_where_they_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch, speed: float, expected: list[int]
) -> None:
    asked = []

    def products(_device, _dtype, *, side, spatial):
        return [(2.0 * side**3, side)]

    def fastest(side, quick):
        asked.append(side)
        return 2.0 * side**3 / speed

    monkeypatch.setattr(roofline, "products", products)
    monkeypatch.setattr(roofline, "fastest", fastest)
    assert roofline.gflops("cpu", torch.bfloat16) == pytest.approx(speed / 1e9)
    assert asked == expected
