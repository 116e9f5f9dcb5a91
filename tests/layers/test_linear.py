"""The oneDNN path gives what PyTorch's own gives, and stays out where it does not belong."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from glipkit.layers.linear import Linear, linear, speed_up_linears


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


@pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no oneDNN"
)
def test_inference_in_float32_asks_onednn(asked: list[Tensor]) -> None:
    with torch.inference_mode():
        Linear(8, 4)(torch.randn(3, 8))
    assert asked == []


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of the mkldnn flags themselves
def test_everything_else_does_not(asked: list[Tensor]) -> None:
    layer = Linear(8, 4)
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
