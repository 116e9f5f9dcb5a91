"""Linear layers in 8-bit integers, for inference on CPUs that multiply them fast.

Dynamic quantisation: weights are rounded once, each output channel with a scale of its own;
activations are rounded when they come, each row (position or token) with a scale of its own, both
symmetrically to -127 .. 127. Sums are exact integers, scales and biases float32. The products run
in oneDNN, as `torch.compile` has them for quantised models: PyTorch's own quantised tensors are
deprecated since 2.14, and `torch._int_mm` leaves 32-bit sums in memory, which costs as much as it
saves (BEHAVIOUR knows no integers: what this costs in AP is in `benchmarks/README.md`).
"""

import copy
import platform
from functools import lru_cache

import torch
from torch import Tensor, nn

from glipkit.modeling.glip import GLIP
from glipkit.modeling.weight_stamp import WeightStamp

_LARGEST = 127
_CHUNK = 2**18  # values of a slice of rows that goes through all passes while it is in the cache


class QuantizedLinear(nn.Linear):
    """A `torch.nn.Linear` that multiplies in 8 bits; its parameters stay float32 and are followed.

    The rounded weights are made at the first call and again when the parameters have changed.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in features) -> (..., out features), float32.

        Raises:
            RuntimeError: gradients are recorded; rounding has none.
            TypeError: `x` is not float32.
        """
        if torch.is_grad_enabled():
            raise RuntimeError(
                "8-bit layers have no gradients; call them under torch.inference_mode() or "
                "torch.no_grad()"
            )
        if x.dtype != torch.float32:
            raise TypeError(f"8-bit layers take float32, got {x.dtype}; leave autocast off")
        weight, scales = self._rounded()
        rows = x.reshape(-1, x.shape[-1])
        found = rows.new_empty(len(rows), len(scales))
        step = max(_CHUNK // max(self.weight.shape), 1)
        for some, place in zip(rows.split(step), found.split(step)):
            integers, row_scales = _round_rows(some)
            sums = _product(integers, weight, scales)
            if self.bias is None:
                torch.mul(sums, row_scales, out=place)
            else:
                torch.addcmul(self.bias, sums, row_scales, out=place)
        return found.view(*x.shape[:-1], len(scales))

    def _rounded(self) -> tuple[Tensor, Tensor]:
        """The weights as oneDNN wants them, and a scale for each output channel."""
        state = self.__dict__  # not a buffer: no part of a checkpoint
        stamp = state.setdefault("_weight_stamp", WeightStamp())
        if stamp.changed([self.weight]) or "_packed" not in state:
            scales = _positive(self.weight.abs().amax(dim=1)) / _LARGEST
            integers = (self.weight / scales[:, None]).round_().to(torch.int8)
            state["_packed"] = torch.ops.onednn.qlinear_prepack(integers, None), scales
        return state["_packed"]


def quantized(model: GLIP) -> GLIP:
    """A view of a model that multiplies in 8 bits where that pays, and shares all parameters.

    These are the linear layers of the image encoder, of the text encoder and of the tower's fusions
    and text layers. Convolutions, the predictor, and the products of the fusion with the image
    (which are no layers, but made from the text) stay float32.

    What is written into the model's parameters or replaces them counts in the view as well; its
    mode (training or evaluation) and its modules are those of this moment.

    Args:
        model: on the CPU, with float32 weights.

    Raises:
        ValueError: this machine or the model's device has no fast 8-bit products.
    """
    check_support(next(model.parameters()).device)
    view = _view(model)
    rounded = [view.backbone, view.text_encoder]
    for block in view.tower.blocks:
        rounded += [part for part in (block.fusion, block.text_layer) if part is not None]
    for part in rounded:
        for module in part.modules():
            if isinstance(module, nn.Linear):
                module.__class__ = QuantizedLinear
    return view


def check_support(device: torch.device) -> None:
    """Refuse where 8-bit layers cannot run.

    Raises:
        ValueError: says why, and what to choose instead.
    """
    instead = "choose TEST.PRECISION float32 or bfloat16"
    if device.type != "cpu":
        raise ValueError(
            f"TEST.PRECISION int8 is for CPUs, and the model is on {device}; {instead}, or "
            "--device cpu"
        )
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise ValueError(
            f"TEST.PRECISION int8 needs an x86 processor, this one is {platform.machine()}; "
            f"{instead}"
        )
    if not (
        torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")
    ):
        raise ValueError(
            f"TEST.PRECISION int8 needs a PyTorch with oneDNN, {torch.__version__} comes without; "
            f"{instead}"
        )


def _view(module: nn.Module) -> nn.Module:
    """The same modules again, holding the very parameters and buffers."""
    twin = copy.copy(module)
    twin._modules = {
        name: None if child is None else _view(child) for name, child in module._modules.items()
    }
    return twin


def _round_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) to unsigned integers around `_zero_point`, and a scale (N, 1) for each row."""
    zero = _zero_point()
    scales = _positive(rows.abs().amax(dim=1, keepdim=True)) / (zero - 1)
    # Between 2^23 and 2^24 a float32 has no place behind the point: the sum is rounded, and the
    # last byte of its bits is the integer. PyTorch's conversion to uint8 takes three times as long.
    shifted = (rows * scales.reciprocal()).add_(2.0**23 + zero)
    return shifted.view(torch.int32).to(torch.uint8), scales


def _product(integers: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    """(N, K) unsigned integers times packed weights, scaled by channel: (N, out) float32."""
    zeros = torch.zeros(len(scales), dtype=torch.int32)
    return torch.ops.onednn.qlinear_pointwise(
        *(integers, 1.0, _zero_point(), weight, scales, zeros),
        *(None, 1.0, 0, torch.float32, "none", [], ""),
    )


@lru_cache(maxsize=1)
def _zero_point() -> int:
    """What stands for 0 among unsigned activations; they reach from 1 to twice that, less 1.

    Processors without VNNI instructions add two products in 16 bits, where those of 8-bit numbers
    do not always fit: there oneDNN's sums are silently wrong. With 7 bits they fit.
    """
    integers = torch.full((1, 64), 255, dtype=torch.uint8)
    weight = torch.full((16, 64), _LARGEST, dtype=torch.int8)
    found = torch.ops.onednn.qlinear_pointwise(
        *(integers, 1.0, 128, torch.ops.onednn.qlinear_prepack(weight, None)),
        *(torch.ones(16), torch.zeros(16, dtype=torch.int32)),
        *(None, 1.0, 0, torch.float32, "none", [], ""),
    )
    return 128 if bool((found == _LARGEST * _LARGEST * 64).all()) else 64


def _positive(values: Tensor) -> Tensor:
    """No scale is 0: a row of zeros stays one."""
    return values.clamp_(min=torch.finfo(values.dtype).tiny * 2**10)
