"""The running mean of the weights."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from glipkit.engine.ema import Ema


def set_weights(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def test_mean_by_hand() -> None:
    module = nn.Linear(2, 1)
    set_weights(module, 1.0)
    ema = Ema(module, decay=0.75)
    for value in (5.0, 9.0):
        set_weights(module, value)
        ema.update()
    # 0.75 * 1 + 0.25 * 5 = 2; 0.75 * 2 + 0.25 * 9 = 3.75
    assert_close(ema.state_dict()["weight"], torch.full((1, 2), 3.75))
    assert_close(module.weight.data, torch.full((1, 2), 9.0))


def test_half_precision_weights_have_an_exact_mean() -> None:
    module = nn.Linear(1, 1).bfloat16()
    set_weights(module, 1.0)
    ema = Ema(module, decay=0.999)
    set_weights(module, 2.0)
    for _ in range(1000):  # each a thousandth, which bfloat16 could not add to 1
        ema.update()
    assert_close(ema.state_dict()["bias"], torch.tensor([2 - 0.999**1000]), rtol=1e-4, atol=0)
    with ema.applied():
        assert module.weight.dtype == torch.bfloat16


def test_the_mean_is_lent_and_taken_back() -> None:
    module = nn.Linear(2, 1)
    own = module.weight.detach().clone()
    ema = Ema(module, decay=0.5)
    set_weights(module, 3.0)
    ema.update()
    parameter = module.weight
    with ema.applied():
        assert_close(module.weight.data, own * 0.5 + 1.5)
        assert module.weight is parameter  # the optimizer's
        set_weights(module, 100.0)  # whatever happens inside
    assert_close(module.weight.data, torch.full((1, 2), 3.0), rtol=0, atol=0)
    assert_close(ema.state_dict()["weight"], own * 0.5 + 1.5)


def test_an_error_inside_gives_the_weights_back() -> None:
    module = nn.Linear(2, 1)
    ema = Ema(module, decay=0.5)
    set_weights(module, 3.0)
    with pytest.raises(RuntimeError, match="broke"), ema.applied():
        raise RuntimeError("broke")
    assert_close(module.weight.data, torch.full((1, 2), 3.0), rtol=0, atol=0)


def test_frozen_weights_are_their_own_mean() -> None:
    module = nn.Linear(2, 1)
    module.bias.requires_grad_(False)
    assert Ema(module, decay=0.5).state_dict().keys() == {"weight"}


def test_going_on() -> None:
    module = nn.Linear(2, 1)
    first = Ema(module, decay=0.5)
    set_weights(module, 3.0)
    first.update()
    saved = {name: mean.clone() for name, mean in first.state_dict().items()}
    second = Ema(module, decay=0.5)
    second.load_state_dict(saved)
    for ema in (first, second):
        ema.update()
    for name, mean in first.state_dict().items():
        assert_close(second.state_dict()[name], mean, rtol=0, atol=0)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_none(decay: float) -> None:
    with pytest.raises(ValueError, match=r"MODEL_EMA must lie in \[0, 1\)"):
        Ema(nn.Linear(1, 1), decay)
