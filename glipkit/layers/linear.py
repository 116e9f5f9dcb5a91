"""Linear layers that ask oneDNN on CPUs.

PyTorch gives float32 matrix products on x86 to MKL, which leaves the wide vectors of processors
other than Intel's unused. oneDNN, in the same PyTorch, uses them: on an AMD EPYC (AVX-512) the
linear layers of Swin-T and BERT-base run 1.5 and 1.8 times as fast, with the same rounding errors.
Where this does not apply (training, other types and devices, a PyTorch without oneDNN) nothing
changes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, by oneDNN where that is the faster one.

    Args:
        x: (..., in features).
        weight: (out features, in features).
        bias: (out features,), or None.

    Returns:
        (..., out features).
    """
    if _asks_onednn(x, weight):
        # What torch.compile emits for linear layers on CPUs; it has no gradient.
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return functional.linear(x, weight, bias)


class Linear(nn.Linear):
    """`torch.nn.Linear` through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in features) -> (..., out features)."""
        return linear(x, self.weight, self.bias)


def speed_up_linears(module: nn.Module) -> None:
    """Turn every `torch.nn.Linear` below `module` into a `Linear`, in place.

    Parameters and their names stay. This reaches the layers of other libraries as well.
    """
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Linear


def _asks_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # which chooses for itself
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
