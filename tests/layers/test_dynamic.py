import pytest
import torch
from torch.testing import assert_close

from glipkit.layers.dynamic import DyReLU, ScaleAttention, average, hard_sigmoid


def test_hard_sigmoid() -> None:
    values = torch.tensor([-9.0, -3.0, 0.0, 1.5, 3.0, 9.0])
    assert_close(hard_sigmoid(values), torch.tensor([0.0, 0.0, 0.5, 0.75, 1.0, 1.0]))


def test_dyrelu_picks_the_larger_line() -> None:
    """Slopes and intercepts come in the order a1, b1, a2, b2 (BEHAVIOUR 6.4)."""
    relu = DyReLU(1, reduction=1)
    with torch.no_grad():
        relu.reduce.weight.zero_(), relu.reduce.bias.zero_(), relu.expand.weight.zero_()
        relu.expand.bias.copy_(torch.tensor([0.6, -1.2, -0.9, 1.8]))  # after the sigmoid:
        # 0.6, 0.3, 0.35, 0.8, hence the lines 1.2 x - 0.2 and -0.3 x + 0.3
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0]).view(1, 1, 2, 2)
    assert_close(relu(x).flatten(), torch.tensor([0.6, 0.3, 1.0, 2.2]))


def test_dyrelu_sees_each_picture_alone() -> None:
    relu = DyReLU(8)
    x = torch.randn(2, 8, 5, 3)
    both = relu(x)
    for b in range(2):
        assert_close(relu(x[b : b + 1])[0], both[b])


def test_scale_attention_is_between_a_half_and_one() -> None:
    attention = ScaleAttention(4)
    with torch.no_grad():
        attention.weight.fill_(1.0)
        branches = torch.tensor([-2.0, 0.0, 0.375, 5.0]).view(4, 1, 1, 1).expand(4, 4, 3, 3)
        weights = attention(branches)
    assert_close(weights, torch.tensor([0.5, 0.5, 0.75, 1.0]).view(4, 1, 1, 1))


@pytest.mark.parametrize("module", [DyReLU(8), ScaleAttention(8)], ids=["relu", "attention"])
def test_gradients_reach_every_parameter(module: torch.nn.Module) -> None:
    torch.nn.init.uniform_(next(module.parameters()))
    (module(torch.rand(2, 8, 4, 4)) * torch.randn(2, 8, 4, 4)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_dyrelu_gradcheck() -> None:
    relu = DyReLU(4, reduction=2).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    parameters = list(relu.parameters())

    def activate(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return relu(x)

    assert torch.autograd.gradcheck(activate, (x, *parameters))


def test_dyrelu_gradients_of_gradients() -> None:
    relu = DyReLU(4).double()
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(relu, (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dyrelu_gradients_under_autocast(dtype: torch.dtype) -> None:
    relu = DyReLU(16)
    leaves = [torch.randn(2, 16, 7, 9).to(dtype).requires_grad_(), *relu.parameters()]
    grad = torch.randn(2, 16, 7, 9)
    exact = torch.autograd.grad(relu(leaves[0].float()), leaves, grad)
    with torch.autocast("cpu", torch.bfloat16):
        output = relu(leaves[0])
    low = torch.autograd.grad(output, leaves, grad.to(output.dtype))
    for leaf, ours, want in zip(leaves, low, exact):
        assert ours.dtype == leaf.dtype
        assert (ours - want).norm() < 0.05 * want.norm()


def test_an_average_of_many_half_numbers_does_not_overflow() -> None:
    x = torch.full((1, 2, 100, 100), 50.0, dtype=torch.float16)
    assert_close(average(x), torch.full((1, 2), 50.0, dtype=torch.float16))


def test_too_few_channels() -> None:
    with pytest.raises(ValueError, match="channels=2, reduction=4"):
        DyReLU(2)
