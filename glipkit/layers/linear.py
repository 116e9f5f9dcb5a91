"""Linear layers that ask oneDNN on CPUs.

PyTorch gives float32 matrix products on x86 to MKL, which leaves the wide vectors of processors
other than Intel's unused. oneDNN, in the same PyTorch, uses them: on an AMD EPYC (AVX-512) the
products of Swin-T and BERT-base, forward and backward, run at twice the speed, with the same
rounding errors. Where this does not apply (other types and devices, autocast, torch.compile,
forward-mode derivatives, a PyTorch without oneDNN) nothing changes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import FunctionCtx
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
    if not _asks_onednn(x, weight, bias):
        return functional.linear(x, weight, bias)
    if _needs_gradient(x, weight, bias):
        return _Linear.apply(x, weight, bias)
    return _product(x, weight, bias)


def linear_gelu(layer: nn.Module, x: Tensor) -> Tensor:
    """`gelu(layer(x))`, exact GELU; of a `Linear` in inference one pass over memory less.

    Args:
        layer: any that is called with `x` alone.
        x: (..., in features).

    Returns:
        (..., out features).
    """
    if (
        type(layer) is Linear
        and not (layer._forward_hooks or layer._forward_pre_hooks)  # they want to be called
        and _asks_onednn(x, layer.weight, layer.bias)
        and not _needs_gradient(x, layer.weight, layer.bias)
    ):
        return _product(x, layer.weight, layer.bias, "gelu")
    return functional.gelu(layer(x))


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


class _Linear(torch.autograd.Function):
    """A linear layer whose three products go to oneDNN."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        needs_x, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        # With gradients of gradients, which oneDNN has not, PyTorch records plain products.
        product = _recorded_product if torch.is_grad_enabled() else _product
        rows = grad.reshape(-1, grad.shape[-1])  # (N, out)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = product(rows, weight.mT).view(*grad.shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            entered = x.reshape(-1, x.shape[-1])  # (N, in)
            # The first operand is copied to lie row by row, so it is the smaller one.
            if entered.shape[1] < rows.shape[1]:
                grad_weight = product(entered.mT, rows.mT).mT
            else:
                grad_weight = product(rows.mT, entered.mT)
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(dim=0)
        return grad_x, grad_weight, grad_bias


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    # What torch.compile emits for linear layers on CPUs; it has no gradient. The last argument
    # is the algorithm of a GELU: "none" is the exact one.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "none")


def _recorded_product(x: Tensor, weight: Tensor) -> Tensor:
    return functional.linear(x, weight)


def _needs_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _asks_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and weight.numel() > 0
        and _fit(x, weight, bias)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # which chooses for itself
        and not torch.jit.is_tracing()  # which does not know the operator
        and getattr(forward_ad, "_current_level", -1) < 0  # whose tangents it would drop
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _fit(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN understands them: of a strided bias it reads the wrong numbers.

    What does not go together at all is left to PyTorch, whose errors say so.
    """
    return (
        x.dim() > 0
        and weight.dim() == 2
        and x.shape[-1] == weight.shape[1]
        and (
            bias is None
            or (
                bias.dtype == torch.float32
                and bias.shape == weight.shape[:1]
                and bias.is_contiguous()
            )
        )
    )
