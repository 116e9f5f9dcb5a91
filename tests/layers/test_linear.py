"""The oneDNN path gives what PyTorch's own gives, and stays out where it does not belong."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from glipkit.layers.linear import Linear, linear, linear_gelu, speed_up_linears


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What was left to PyTorch's own function."""
    inputs: list[Tensor] = []
    plain = functional.linear

    def listen(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        inputs.append(x)
        return plain(x, weight, bias)

    monkeypatch.setattr(functional, "linear", listen)
    return inputs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 3, 24), (2, 3, 4, 24), (1, 24), (0, 24)])
def test_values(shape: tuple[int, ...], bias: bool) -> None:
    x, weight = torch.randn(*shape), torch.randn(7, 24)
    offset = torch.randn(7) if bias else None
    expected = torch.nn.functional.linear(x, weight, offset)
    with torch.inference_mode():
        assert_close(linear(x, weight, offset), expected)


def test_strided_input_and_weight() -> None:
    x, weight = torch.randn(3, 24, 5).mT, torch.randn(24, 7).T
    with torch.no_grad():
        assert_close(linear(x, weight, None), x @ weight.T)


@pytest.mark.parametrize("bias", [torch.randn(14)[::2], torch.randn(1).expand(7), torch.randn(1)])
def test_bias_that_is_not_dense(bias: Tensor) -> None:
    x, weight = torch.randn(5, 24), torch.randn(7, 24)
    with torch.no_grad():
        assert_close(linear(x, weight, bias), x @ weight.T + bias)
    operands = x.requires_grad_(), weight.requires_grad_(), bias.detach().requires_grad_()
    assert_close(gradients_of(linear, *operands), gradients_of(functional.linear, *operands))


@pytest.mark.parametrize(
    "operands",
    [
        (torch.randn(5, 23), torch.randn(7, 24), torch.randn(7)),
        (torch.randn(5, 24), torch.randn(7, 24), torch.randn(6)),
        (torch.randn(5, 24), torch.randn(7, 24), torch.randn(7, dtype=torch.float64)),
        (torch.tensor(1.0), torch.randn(7, 1), None),
    ],
)
def test_what_does_not_fit_is_refused_as_by_torch(operands: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        with pytest.raises(RuntimeError) as expected:
            functional.linear(*operands)
        with pytest.raises(RuntimeError) as found:
            linear(*operands)
    assert str(found.value) == str(expected.value)


def test_no_outputs() -> None:
    operands = torch.randn(5, 24, requires_grad=True), torch.randn(0, 24, requires_grad=True)
    assert_close(gradients_of(linear, *operands), gradients_of(functional.linear, *operands))


@pytest.mark.parametrize("shape", [(24,), (2, 3, 24), (0, 24)])
@pytest.mark.parametrize("kind", [nn.Linear, Linear])
def test_gelu(kind: type[nn.Linear], shape: tuple[int, ...]) -> None:
    x, layer = torch.randn(*shape), kind(24, 7)
    expected = functional.gelu(functional.linear(x, layer.weight, layer.bias))
    found = linear_gelu(layer, x)
    assert_close(found, expected)
    assert found.requires_grad
    with torch.inference_mode():
        assert_close(linear_gelu(layer, x), expected)
        assert linear_gelu(layer.double(), x.double()).dtype == torch.float64


def test_hooks_of_a_layer_before_a_gelu_are_called() -> None:
    x, layer = torch.randn(5, 24), Linear(24, 7)
    expected = functional.gelu(2 * functional.linear(x, layer.weight, layer.bias))
    layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    with torch.inference_mode():
        assert_close(linear_gelu(layer, x), expected)


def gradients_of(through: Callable[..., Tensor], *operands: Tensor) -> tuple[Tensor, ...]:
    """Of the operands that ask for one, when every output counts differently."""
    output = through(*operands)
    ramp = torch.linspace(-1, 1, output.numel()).view(output.shape)
    return torch.autograd.grad(output, [o for o in operands if o.requires_grad], ramp)


@pytest.mark.parametrize("needed", list(product([True, False], repeat=3))[:-1], ids=str)
@pytest.mark.parametrize("outputs", [7, 40])
def test_gradients(outputs: int, needed: tuple[bool, ...]) -> None:
    shapes = (2, 3, 24), (outputs, 24), (outputs,)
    operands = [torch.randn(s, requires_grad=n) for s, n in zip(shapes, needed)]
    assert_close(gradients_of(linear, *operands), gradients_of(functional.linear, *operands))


@pytest.mark.parametrize("shape", [(24,), (1, 24), (5, 24), (2, 3, 4, 24)])
def test_gradients_without_bias(shape: tuple[int, ...]) -> None:
    operands = torch.randn(shape, requires_grad=True), torch.randn(7, 24, requires_grad=True)
    assert_close(gradients_of(linear, *operands), gradients_of(functional.linear, *operands))


def test_gradients_of_strided_operands() -> None:
    x, weight = torch.randn(3, 24, 5).mT, torch.randn(24, 7).T
    operands = x.requires_grad_(), weight.requires_grad_()
    assert_close(gradients_of(linear, *operands), gradients_of(functional.linear, *operands))
    expanded = torch.ones(()).expand(3, 5, 7)  # the gradient that a sum sends
    found, expected = (
        torch.autograd.grad(f(*operands), operands, expanded) for f in (linear, functional.linear)
    )
    assert_close(found, expected)


def test_gradients_of_gradients() -> None:
    x, weight = torch.randn(3, 8, requires_grad=True), torch.randn(4, 8, requires_grad=True)
    found = []
    for through in (linear, functional.linear):
        (grad,) = torch.autograd.grad(through(x, weight).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(grad.square().sum(), (x, weight)))
    assert_close(found[0], found[1])


@pytest.mark.parametrize("grads", [True, False])
def test_forward_mode_derivatives(grads: bool) -> None:
    x, tangent, layer = torch.randn(5, 24), torch.randn(5, 24), Linear(24, 7)
    with torch.set_grad_enabled(grads):
        _, found = torch.func.jvp(layer, (x,), (tangent,))
    assert_close(found, tangent @ layer.weight.T)


def test_nothing_is_kept_for_frozen_weights() -> None:
    kept: list[Tensor] = []
    x, layer = torch.randn(3, 8), Linear(8, 4)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer.requires_grad_(False)
        layer(x.requires_grad_())
        assert not any(t.data_ptr() == x.data_ptr() for t in kept)
        layer.requires_grad_(True)
        layer(x)
        assert any(t.data_ptr() == x.data_ptr() for t in kept)


@pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no oneDNN"
)
def test_float32_asks_onednn(asked: list[Tensor]) -> None:
    with torch.inference_mode():
        Linear(8, 4)(torch.randn(3, 8))
    layer = Linear(8, 4)
    layer(torch.randn(3, 8)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    assert asked == []


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of the mkldnn flags themselves
def test_everything_else_does_not(asked: list[Tensor]) -> None:
    layer = Linear(8, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.randn(3, 8)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    with torch.no_grad():
        layer.double()(torch.randn(3, 8, dtype=torch.float64))
        layer.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(torch.randn(3, 8)).dtype == torch.bfloat16
        with torch.backends.mkldnn.flags(enabled=False):
            layer(torch.randn(3, 8))
        layer.to("meta")(torch.empty(3, 8, device="meta"))
    assert len(asked) == 5


def test_layers_of_others_are_reached() -> None:
    module = nn.Sequential(nn.Linear(8, 4), nn.TransformerEncoderLayer(4, 2, 8))
    names = set(module.state_dict())
    speed_up_linears(module)
    assert type(module[0]) is Linear
    assert type(module[1].linear1) is Linear
    assert type(module[1].self_attn.out_proj) is not Linear  # a subclass with ways of its own
    assert set(module.state_dict()) == names
