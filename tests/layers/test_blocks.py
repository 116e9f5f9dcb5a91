import torch
from torch.testing import assert_close

from glipkit.layers.blocks import Scale
from glipkit.layers.numerics import at_least_float32, limited, product_dtype


def test_scale() -> None:
    scale = Scale(2.5)
    assert scale.scale.shape == (1,)  # as published
    assert_close(scale(torch.ones(2, 3)), torch.full((2, 3), 2.5))


def test_limited() -> None:
    values = torch.tensor([-torch.inf, -60000.0, 3.0, 50000.0, 50001.0, torch.inf])
    expected = torch.tensor([-50000.0, -50000.0, 3.0, 50000.0, 50000.0, 50000.0])
    assert_close(limited(values), expected)
    assert limited(torch.tensor([torch.nan])).isnan().all()


def test_at_least_float32() -> None:
    kept = {torch.float32: torch.float32, torch.float64: torch.float64}
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        assert at_least_float32(torch.ones(1, dtype=dtype)).dtype == kept.get(dtype, torch.float32)


def test_product_dtype() -> None:
    assert product_dtype(torch.ones(1)) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert product_dtype(torch.ones(1)) == torch.bfloat16
        assert product_dtype(torch.ones(1).double()) == torch.float64  # autocast leaves it, too
