"""DropBlock: squares, one mask for all channels, the right share, the right scale."""

import pytest
import torch
from torch.testing import assert_close

from glipkit.modeling.backbone.drop_block import DropBlock


def test_nothing_happens_outside_training() -> None:
    x = torch.randn(1, 2, 9, 9)
    assert DropBlock(0.9).eval()(x) is x
    assert DropBlock(0.0).train()(x) is x


def test_squares_are_zero_in_all_channels_and_the_rest_is_scaled() -> None:
    x = torch.rand(4, 3, 40, 40) + 1
    y = DropBlock(0.3, block=3).train()(x)
    gone = y == 0
    assert torch.equal(gone, gone[:, :1].expand_as(gone))
    assert not torch.equal(gone[0], gone[1])
    kept = ~gone
    share = kept.float().mean()
    assert 0.6 < share < 0.85  # 0.3 of the positions, less where squares overlap
    assert_close(y[kept], x[kept] / share)
    # Every zero lies in a full 3 x 3 square of zeros, except where the border cuts it.
    inner = gone[:, :1, 1:-1, 1:-1]
    centres = -torch.nn.functional.max_pool2d(-gone[:, :1].float(), 3, stride=1)
    covered = torch.nn.functional.max_pool2d(centres, 3, stride=1, padding=1) > 0
    assert torch.equal(inner[..., 1:-1, 1:-1] & ~covered[..., 1:-1, 1:-1],
                       torch.zeros_like(inner[..., 1:-1, 1:-1]))  # fmt: skip


def test_dropping_everything_gives_zeros() -> None:
    y = DropBlock(1.0, block=1).train()(torch.ones(1, 2, 4, 4))
    assert_close(y, torch.zeros(1, 2, 4, 4))


def test_errors() -> None:
    with pytest.raises(ValueError, match="block must be odd and positive, got 2"):
        DropBlock(block=2)
    with pytest.raises(ValueError, match=r"probability must be in \[0, 1\], got -0\.1"):
        DropBlock(-0.1)
