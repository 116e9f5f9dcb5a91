"""One DyConv block of 32 channels against the published one, float64, with all gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from reference.dyconv import RENAMED, PlainDyConv
from reference.naming import load_published, our_name
from torch.testing import assert_close

from glipkit.modeling.head.dyconv import DyConv


@pytest.mark.parametrize("form", ["plain", "ours"])
def test_dyconv_block(golden: Path, form: str) -> None:
    case = {
        name: torch.from_numpy(value)
        for name, value in np.load(golden / "components" / "dyconv_block_f64.npz").items()
    }
    parameters = [name.removeprefix("param.") for name in case if name.startswith("param.")]
    block = PlainDyConv(32).double()
    block.load_state_dict({name: case[f"param.{name}"] for name in parameters})
    if form == "ours":
        block = load_published(DyConv(32).double(), block, RENAMED)
    levels = tuple(case[f"in{index}"].requires_grad_() for index in range(3))
    outputs = block(levels)
    torch.autograd.backward(outputs, [case[f"grad_out{index}"] for index in range(3)])

    for index in range(3):
        assert_close(outputs[index].detach(), case[f"out{index}"], rtol=1e-10, atol=1e-10)
        assert_close(levels[index].grad, case[f"grad_in{index}"], rtol=1e-10, atol=1e-10)
    for name in parameters:
        grad = block.get_parameter(our_name(name, RENAMED) if form == "ours" else name).grad
        assert_close(grad, case[f"grad_param.{name}"], rtol=1e-10, atol=1e-10, msg=name)
