"""DyConv against the plain form, and the memory reading that the published weights expect."""

import pytest
import torch
from reference.compare import assert_relative
from reference.dyconv import RENAMED, PlainDyConv
from reference.naming import load_published, our_name
from torch import Tensor
from torch.testing import assert_close

from glipkit.modeling.head.dyconv import DyConv, read_with_smaller_grid

LIMITS = {torch.float32: 1e-5, torch.float64: 1e-12}


def pair(channels: int = 16, groups: int = 4) -> tuple[DyConv, PlainDyConv]:
    plain = PlainDyConv(channels, groups).double()
    for parameter in plain.parameters():
        torch.nn.init.uniform_(parameter, -0.4, 0.6)
    # Where two slopes or two corners meet there is no gradient to compare; these stay clear of it.
    torch.nn.init.normal_(plain.offset.weight, std=0.1)
    return load_published(DyConv(channels, norm_groups=groups).double(), plain, RENAMED), plain


def pyramid(height: int, width: int, num_levels: int, channels: int = 16) -> tuple[Tensor, ...]:
    levels = []
    for _ in range(num_levels):
        levels.append(torch.randn(2, channels, height, width).double())
        height, width = (height + 1) // 2, (width + 1) // 2
    return tuple(levels)


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize("shape", [(9, 7, 3), (8, 12, 5), (1, 1, 3), (5, 1, 4), (4, 4, 1)], ids=str)
def test_is_plain(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    ours, plain = (module.to(dtype) for module in pair())
    levels = tuple(level.to(dtype) for level in pyramid(*shape))
    for got, want in zip(ours(levels), plain(levels)):
        assert_relative(got, want, LIMITS[dtype])


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", [(9, 7, 3), (8, 12, 5), (1, 1, 3), (5, 1, 4), (4, 4, 1)], ids=str)
@torch.no_grad()
def test_without_gradients_it_is_plain_too(
    shape: tuple[int, int, int], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    """The branches are then mixed in one pass, if they lie channels-last."""
    ours, plain = (module.to(dtype) for module in pair(channels=32, groups=8))
    levels = tuple(level.to(dtype, memory_format=layout) for level in pyramid(*shape, channels=32))
    for got, want in zip(ours(levels), plain(levels)):
        assert_relative(got, want, LIMITS[dtype])
        assert got.is_contiguous(memory_format=layout)


@torch.no_grad()
def test_half_precision_does_as_much_without_gradients() -> None:
    ours, plain = pair(channels=32, groups=8)
    levels = pyramid(12, 17, 4, channels=32)
    expected = plain(levels)
    low = [level.to(torch.bfloat16, memory_format=torch.channels_last) for level in levels]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = ours.float()(tuple(low))
    for got, want in zip(outputs, expected):
        assert got.dtype == torch.bfloat16
        assert (got - want).norm() < 0.03 * want.norm()
    for got, want in zip(ours.bfloat16()(tuple(low)), expected):
        assert got.dtype == torch.bfloat16
        assert (got - want).norm() < 0.1 * want.norm()  # offsets in bfloat16


def test_gradients_are_plain() -> None:
    ours, plain = pair()
    levels = pyramid(9, 7, 3)
    grads = []
    for module in (ours, plain):
        leaves = tuple(level.clone().requires_grad_() for level in levels)
        outputs = module(leaves)
        torch.autograd.backward(outputs, [output.detach().cos() for output in outputs])
        grads.append([leaf.grad for leaf in leaves])
    for got, want in zip(*grads):
        assert_relative(got, want, 1e-11)
    for name, parameter in plain.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
        grad = ours.get_parameter(our_name(name, RENAMED)).grad
        assert_relative(grad, parameter.grad, 1e-11, name)


def test_all_levels_read_the_input() -> None:
    """Level 1 of two sees level 0 as it came in, not as it leaves."""
    ours, _ = pair()
    levels = pyramid(8, 6, 2)
    before = ours(levels)[1]
    with torch.no_grad():
        ours.coarser.norm.weight.mul_(5)  # changes what level 0 becomes, and it alone
    assert_close(ours(levels)[1], before)


def test_batch_of_two_is_two_batches() -> None:
    ours, _ = (module.float() for module in pair())
    levels = tuple(level.float() for level in pyramid(9, 7, 3))
    both = ours(levels)
    for b in range(2):
        for got, want in zip(ours(tuple(level[b : b + 1] for level in levels)), both):
            assert_relative(got[0], want[b], 1e-5)


def test_layout_does_not_matter() -> None:
    ours, _ = pair()
    levels = pyramid(9, 7, 3)
    channels_last = tuple(level.to(memory_format=torch.channels_last) for level in levels)
    for got, want in zip(ours(channels_last), ours(levels)):
        assert_close(got, want)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_read_with_smaller_grid(memory_format: torch.memory_format) -> None:
    maps = torch.arange(2 * 3 * 4).view(1, 2, 3, 4).to(memory_format=memory_format)
    expected = torch.tensor([[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]])
    assert_close(read_with_smaller_grid(maps, (2, 2)), expected)


def test_read_with_smaller_grid_gradient() -> None:
    maps = torch.zeros(2, 2, 3, 4, requires_grad=True)
    read_with_smaller_grid(maps, (2, 2)).sum().backward()
    assert_close(maps.grad.flatten(1), torch.tensor([[1.0] * 8 + [0.0] * 16] * 2))


def test_other_kernels() -> None:
    block = DyConv(12, norm_groups=3, kernel_size=5, relu_reduction=2)
    levels = tuple(level.float() for level in pyramid(7, 6, 3, channels=12))
    outputs = block(levels)
    assert [output.shape for output in outputs] == [level.shape for level in levels]


def test_bfloat16_autocast() -> None:
    ours, _ = (module.float() for module in pair())
    levels = tuple(level.float() for level in pyramid(9, 7, 3))
    expected = ours(levels)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = ours(levels)
    for got, want in zip(outputs, expected):
        assert_relative(got, want, 0.05)


def test_begins_regular() -> None:
    block = DyConv(16)
    assert_close(block.offset(torch.randn(1, 16, 4, 4)).abs().max().detach(), torch.tensor(0.0))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="norm_groups=16, channels=24"):
        DyConv(24)
    with pytest.raises(ValueError, match="kernel_size must be odd to keep the level's size, got 2"):
        DyConv(16, kernel_size=2)


def test_levels_must_halve() -> None:
    levels = (torch.zeros(1, 16, 9, 7), torch.zeros(1, 16, 4, 4))
    with pytest.raises(ValueError, match=r"\(9, 7\) must have size \(5, 4\).*got \(4, 4\)"):
        DyConv(16)(levels)
