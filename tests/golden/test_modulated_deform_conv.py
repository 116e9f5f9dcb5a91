"""Deformable convolution against the published code's numbers, values and gradients."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glipkit.ops.deform_conv import modulated_deform_conv2d, modulated_deform_conv2d_reference

ARGUMENTS = ("input", "offset", "mask", "weight", "bias")


def first_values(tensor: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """BEHAVIOUR 6.3: each image's first values in memory, read as a smaller map."""
    return tensor.flatten(1)[:, : channels * size[0] * size[1]].reshape(-1, channels, *size)


@pytest.mark.parametrize(
    "convolve", [modulated_deform_conv2d, modulated_deform_conv2d_reference], ids=["op", "plain"]
)
@pytest.mark.parametrize("case", range(8))
def test_modulated_deform_conv(golden: Path, case: int, convolve) -> None:
    with np.load(golden / "components" / "modulated_deform_conv.npz") as file:
        config = json.loads(str(file[f"case{case}.config_json"]))
        arrays = {
            name.removeprefix(f"case{case}."): torch.from_numpy(file[name])
            for name in file.files
            if name.startswith(f"case{case}.") and not name.endswith("config_json")
        }
    inputs = {name: arrays[name].requires_grad_() for name in ARGUMENTS if name in arrays}
    assert all(tensor.dtype == torch.float64 for tensor in inputs.values())
    size = tuple(arrays["output"].shape[2:])
    taps = config["k"] ** 2 * config["dg"]

    output = convolve(
        inputs["input"],
        first_values(inputs["offset"], 2 * taps, size),
        first_values(inputs["mask"], taps, size),
        inputs["weight"],
        inputs.get("bias"),
        stride=config["s"],
        padding=config["p"],
        dilation=config["dl"],
    )
    torch.testing.assert_close(output, arrays["output"], rtol=0, atol=1e-10)
    output.backward(arrays["grad_output"])
    for name, tensor in inputs.items():
        expected = arrays[f"grad_{name}"]
        torch.testing.assert_close(tensor.grad, expected, rtol=0, atol=1e-10, msg=f"grad of {name}")
