import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from glipkit.ops import library
from glipkit.ops.branches import (
    branch_moments,
    branch_moments_reference,
    can_mix,
    mix_branches,
    mix_branches_reference,
)

needs_compiled = pytest.mark.skipif(
    not library.loaded(), reason="the compiled operators are not built; the plain forms are tested"
)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2}
SIZES = {
    "two levels": ((13, 17), (7, 9)),
    "many blocks": ((40, 41), (20, 21)),
    "one row": ((1, 6), (1, 3)),
    "one column": ((6, 1), (3, 1)),
    "to one pixel": ((2, 2), (1, 1)),
    "one pixel": ((1, 1), (1, 1)),
}
sizes = pytest.mark.parametrize(("size", "coarse"), SIZES.values(), ids=SIZES.keys())
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def draw(size: tuple[int, int], dtype: torch.dtype, batch: int = 2) -> Tensor:
    """A map of 32 channels, channels last, far from zero, so that a variance has to be careful."""
    spread = torch.linspace(0.1, 3, 32, dtype=torch.float64)[:, None, None]
    values = torch.randn(batch, 32, *size, dtype=torch.float64) * spread + 10
    return values.to(dtype, memory_format=torch.channels_last)


@needs_compiled
@dtypes
@sizes
@torch.no_grad()
def test_moments(size, coarse, dtype):
    for before, after in ((size, size), (coarse, size)):
        branch = draw(before, dtype)
        assert can_mix((branch,))
        actual = branch_moments(branch, after)
        assert actual.dtype == torch.promote_types(dtype, torch.float32)
        expected = branch_moments_reference(branch.double(), after)
        tolerance = TOLERANCE[actual.dtype]
        torch.testing.assert_close(
            actual.double(), expected, rtol=tolerance, atol=10 * tolerance, check_stride=False
        )


@needs_compiled
@dtypes
@pytest.mark.parametrize("neighbours", ["both", "finer", "coarser", "none"])
@sizes
@torch.no_grad()
def test_mix(size, coarse, dtype, neighbours):
    same = draw(size, dtype)
    finer = draw(size, dtype) if neighbours in ("both", "finer") else None
    coarser = draw(coarse, dtype) if neighbours in ("both", "coarser") else None
    coefficients = torch.randn(2, 8, 32, dtype=torch.promote_types(dtype, torch.float32))
    actual = mix_branches(same, finer, coarser, coefficients)
    assert actual.dtype == dtype
    assert actual.is_contiguous(memory_format=torch.channels_last)
    maps = (None if branch is None else branch.double() for branch in (same, finer, coarser))
    expected = mix_branches_reference(*maps, coefficients.double())
    scale = expected.abs().max()
    torch.testing.assert_close(
        actual.double() / scale, expected / scale, rtol=0, atol=TOLERANCE[dtype]
    )


@needs_compiled
@dtypes
@torch.no_grad()
def test_what_is_not_a_number_stays_so(dtype):
    same = draw((3, 4), dtype)
    same[0, 5, 1, 2], same[1, 20, 0, 0] = float("nan"), float("inf")
    coefficients = torch.ones(2, 8, 32)
    mixed = mix_branches(same, None, None, coefficients)
    assert mixed[0, 5, 1, 2].isnan()
    assert mixed[1, 20, 0, 0].isinf()
    assert mixed.isfinite().sum() == mixed.numel() - 2


@needs_compiled
@torch.no_grad()
def test_same_bits_for_any_threads():
    branches = draw((40, 41), torch.float32), None, draw((20, 21), torch.float32)
    coefficients = torch.randn(2, 8, 32)
    threads = torch.get_num_threads()

    def run(count: int) -> list[Tensor]:
        torch.set_num_threads(count)
        moments = branch_moments(branches[2], (40, 41))
        return [moments, mix_branches(*branches, coefficients)]

    try:
        runs = [run(1), run(2), run(3)]
    finally:
        torch.set_num_threads(threads)
    for other in runs[1:]:
        torch.testing.assert_close(other, runs[0], rtol=0, atol=0)


@needs_compiled
@torch.no_grad()
def test_opcheck():
    same, coarser = draw((6, 7), torch.float32), draw((3, 4), torch.float32)
    torch.library.opcheck(torch.ops.glipkit.branch_moments.default, (coarser, [6, 7]))
    arguments = (same, None, coarser, torch.randn(2, 8, 32))
    torch.library.opcheck(torch.ops.glipkit.mix_branches.default, arguments)


@needs_compiled
def test_gradients_and_other_layouts_take_the_plain_form():
    branch = draw((6, 7), torch.float64)
    assert not can_mix((branch,))  # gradients are on
    leaf = branch.clone().requires_grad_()
    coefficients = torch.randn(2, 8, 32, dtype=torch.float64).requires_grad_()
    mix_branches(leaf, None, None, coefficients).sum().backward()
    assert leaf.grad is not None
    with torch.no_grad():
        assert can_mix((branch, None))
        assert not can_mix((branch.contiguous(),))
        assert not can_mix((branch[:, :8],))
        assert not can_mix((branch.half(),))


@needs_compiled
def test_the_operator_itself_checks():
    operators, same = torch.ops.glipkit, draw((6, 7), torch.float32)
    coefficients = torch.zeros(2, 8, 32)
    with pytest.raises(RuntimeError, match="must lie in memory as rows of channels"):
        operators.branch_moments(same.contiguous(), [6, 7])
    with pytest.raises(RuntimeError, match="a multiple of 16 channels, got 8"):
        operators.branch_moments(same[:, :8], [6, 7])
    with pytest.raises(RuntimeError, match="branches must be float32, float64 or bfloat16"):
        operators.branch_moments(same.half(), [6, 7])
    with pytest.raises(RuntimeError, match="size must be two positive numbers"):
        operators.branch_moments(same, [0, 7])
    with pytest.raises(RuntimeError, match="finer must have the size of same"):
        operators.mix_branches(same, draw((5, 7), torch.float32), None, coefficients)
    with pytest.raises(RuntimeError, match=r"coarser must have the images.*got \[1, 32, 3, 4\]"):
        operators.mix_branches(same, None, draw((3, 4), torch.float32, batch=1), coefficients)
    with pytest.raises(RuntimeError, match=r"coefficients must have shape \[2, 8, 32\], got"):
        operators.mix_branches(same, None, None, coefficients[:, :7])


# Half the vector widths of this machine would otherwise never run here.
@needs_compiled
@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_older_processors(capability):
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*pytest_run, __file__, "-k", "test_moments or test_mix or not_a_number"],
        env=os.environ | {"ATEN_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
