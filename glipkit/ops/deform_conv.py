"""Modulated deformable convolution: a convolution whose taps move, as the picture asks.

Source: Deformable ConvNets v2 (Zhu et al., CVPR 2019); the numbers are those of BEHAVIOUR 6.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from glipkit.ops.library import loaded, use_compiled

Pair = int | tuple[int, int]

_NAME = "glipkit::modulated_deform_conv2d"


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Tensor:
    """Convolve, each tap of each output pixel displaced by its own offset and scaled by its mask.

    Tap t of output pixel (i, j) reads the input, bilinearly, at
    `(i, j) * stride - padding + tap * dilation + offset`; what lies outside (-1, H) x (-1, W),
    and every position that is not finite, counts as zero (BEHAVIOUR 6.1). Taps are row-major.

    Shapes: B images, C and O channels in and out, K = KH * KW taps, G offset groups (each owns
    C / G neighbouring input channels). G and `groups` follow from the shapes.

    Half precision is for the matrix work only: positions and sums are float32. (On CPUs, bfloat16
    is multiplied as such where AVX512_BF16 is there, otherwise as float32, like float16.) Under
    autocast `input`, `weight` and `bias` take the low precision, `offset` and `mask` take float32.

    On the CPU results are the same from run to run, whatever the number of threads. On a GPU the
    gradient of `input` is summed in no fixed order, which `torch.use_deterministic_algorithms`
    refuses as usual. There is no second derivative.

    Args:
        input: (B, C, H, W).
        offset: (B, 2 * G * K, OH, OW) in input pixels: channel 2t vertical, 2t + 1 horizontal.
        mask: (B, G * K, OH, OW), a factor for every sample.
        weight: (O, C / groups, KH, KW).
        bias: (O,) or None.
        stride: vertical and horizontal, or one number for both; so are the next two.
        padding: zeros on either side.
        dilation: distance between taps.

    Returns:
        (B, O, OH, OW), in the type of `input`; channels-last in memory if `input` is, which is the
        quickest: nothing is copied or turned.

    Raises:
        TypeError: types that do not go together. `offset` and `mask` may be float32 beside a
            half-precision `input`; everything else has the type of `input`.
        ValueError: shapes that do not go together.
    """
    if _autocasts(input.device.type):
        input, weight, bias = _lower((input, weight, bias), input.device.type)
        offset, mask = (t if t.dtype == torch.float64 else t.float() for t in (offset, mask))
    geometry = _pair(stride), _pair(padding), _pair(dilation)
    _check(input, offset, mask, weight, bias, *geometry)
    if not use_compiled(input.device.type):
        return _convolve(input, offset, mask, weight, bias, *geometry)
    return torch.ops.glipkit.modulated_deform_conv2d(input, offset, mask, weight, bias, *geometry)


def modulated_deform_conv2d_reference(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Tensor:
    """The same as `modulated_deform_conv2d` in plain PyTorch: slower, but needs no compiler.

    One tap is gathered and multiplied at a time, so that a forward pass holds one ninth of a
    3 x 3 kernel's columns.
    """
    geometry = _pair(stride), _pair(padding), _pair(dilation)
    _check(input, offset, mask, weight, bias, *geometry)
    return _convolve(input, offset, mask, weight, bias, *geometry)


def _convolve(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    B, C, H, W = input.shape
    O, group_channels, KH, KW = weight.shape  # noqa: E741
    OH, OW = offset.shape[2:]
    K, P, groups = KH * KW, OH * OW, C // group_channels
    G = mask.shape[1] // K
    compute = torch.promote_types(input.dtype, torch.float32)

    pixels = input.to(compute).reshape(B * G, C // G, H * W).mT.reshape(B * G * H * W, C // G)
    pixels = torch.cat([pixels, pixels.new_zeros(1, C // G)])  # the last row: all that is outside
    y, x = _positions(offset.to(compute), (KH, KW), stride, padding, dilation)  # (B, G, K, P)
    strength = mask.to(compute).reshape(B, G, K, P)
    kernel = weight.to(compute).reshape(groups, O // groups, group_channels, K)

    output = pixels.new_zeros(B, groups, O // groups, P)
    for tap in range(K):
        sampled = _sample(pixels, y[:, :, tap], x[:, :, tap], (H, W))  # (B, G, P, C / G)
        sampled = sampled * strength[:, :, tap, :, None]
        column = sampled.mT.reshape(B, groups, group_channels, P)
        output = output + kernel[..., tap] @ column
    output = output.reshape(B, O, OH, OW)
    if bias is not None:
        output = output + bias.to(compute)[:, None, None]
    return output.to(input.dtype)


def _positions(
    offset: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Where every tap of every output pixel reads: vertical and horizontal, each (B, G, K, P)."""
    B, channels, OH, OW = offset.shape
    KH, KW = kernel
    G = channels // (2 * KH * KW)
    offset = offset.reshape(B, G, KH, KW, 2, OH, OW)

    def regular(axis: int, taps: int, size: int) -> Tensor:
        start = torch.arange(size, device=offset.device) * stride[axis] - padding[axis]
        return torch.arange(taps, device=offset.device)[:, None] * dilation[axis] + start

    y = offset[:, :, :, :, 0] + regular(0, KH, OH)[:, None, :, None]
    x = offset[:, :, :, :, 1] + regular(1, KW, OW)[None, :, None, :]
    return y.reshape(B, G, KH * KW, OH * OW), x.reshape(B, G, KH * KW, OH * OW)


def _sample(pixels: Tensor, y: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Read at (y, x), each (B, G, P), from (B * G * H * W + 1, D) rows: (B, G, P, D)."""
    B, G, P = y.shape
    H, W = size
    inside = (y > -1) & (y < H) & (x > -1) & (x < W)  # False for NaN
    y, x = torch.where(inside, y, 0), torch.where(inside, x, 0)
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    first_row = torch.arange(B * G, device=y.device).reshape(B, G, 1) * (H * W)
    outside_row = pixels.shape[0] - 1

    sampled = pixels.new_zeros(B, G, P, pixels.shape[1])
    for row, vertical in ((top.long(), 1 - down), (top.long() + 1, down)):
        for column, horizontal in ((left.long(), 1 - right), (left.long() + 1, right)):
            exists = inside & (row >= 0) & (row < H) & (column >= 0) & (column < W)
            index = torch.where(exists, first_row + row * W + column, outside_row)
            corner = pixels.index_select(0, index.flatten()).reshape(B, G, P, pixels.shape[1])
            sampled = sampled + corner * (vertical * horizontal)[..., None]
    return sampled


def _autocasts(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def _lower(tensors: tuple[Tensor | None, ...], device_type: str) -> tuple[Tensor | None, ...]:
    """What autocast makes of the operands of a matrix product: float64 stays."""
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _check(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    """Refuse what does not go together, with words for the caller."""
    _check_types(input, offset, mask, weight, bias)
    for name, tensor in (("input", input), ("offset", offset), ("mask", mask), ("weight", weight)):
        if tensor.dim() != 4:
            raise ValueError(f"{name} must have 4 dimensions, got shape {list(tensor.shape)}")
    for name, pair, least in (
        ("stride", stride, 1),
        ("padding", padding, 0),
        ("dilation", dilation, 1),
    ):
        if min(pair) < least:
            raise ValueError(f"{name} must be at least {least}, got {pair}")
    B, C, H, W = input.shape
    O, group_channels, KH, KW = weight.shape  # noqa: E741
    if min(weight.shape) < 1:
        raise ValueError(f"weight must not be empty, got shape {list(weight.shape)}")
    if C == 0 or C % group_channels != 0:
        raise ValueError(
            f"input channels must be a multiple of weight.shape[1] = {group_channels}, got {C}"
        )
    if O % (C // group_channels) != 0:
        raise ValueError(
            f"output channels must be a multiple of the {C // group_channels} groups that input "
            f"{list(input.shape)} and weight {list(weight.shape)} make, got {O}"
        )
    if bias is not None and bias.shape != (O,):
        raise ValueError(f"bias must have shape [{O}], got {list(bias.shape)}")
    OH = (H + 2 * padding[0] - dilation[0] * (KH - 1) - 1) // stride[0] + 1
    OW = (W + 2 * padding[1] - dilation[1] * (KW - 1) - 1) // stride[1] + 1
    if OH < 1 or OW < 1:
        raise ValueError(
            f"the kernel must fit into the padded input, got input {list(input.shape)}, kernel "
            f"{[KH, KW]}, padding {padding}, dilation {dilation}"
        )
    G = max(offset.shape[1] // (2 * KH * KW), 1)
    if offset.shape != (B, 2 * G * KH * KW, OH, OW):
        raise ValueError(
            f"offset must have shape {[B, 2 * G * KH * KW, OH, OW]}, got {list(offset.shape)}"
        )
    if C % G != 0:
        raise ValueError(
            f"input channels must be a multiple of the {G} offset groups that offset "
            f"{list(offset.shape)} makes, got {C}"
        )
    if mask.shape != (B, G * KH * KW, OH, OW):
        raise ValueError(f"mask must have shape {[B, G * KH * KW, OH, OW]}, got {list(mask.shape)}")


def _check_types(
    input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None
) -> None:
    """Refuse types and devices that do not go together."""
    if not input.is_floating_point():
        raise TypeError(f"input must be floating point, got {input.dtype}")
    precise = torch.promote_types(input.dtype, torch.float32)
    named = {"offset": offset, "mask": mask, "weight": weight, "bias": bias}
    for name, tensor in named.items():
        if tensor is None:
            continue
        if tensor.device != input.device:
            raise ValueError(f"{name} must be on {input.device} like input, got {tensor.device}")
        if name in ("offset", "mask") and tensor.dtype == precise:
            continue
        if tensor.dtype != input.dtype:
            raise TypeError(f"{name} must be {input.dtype} like input, got {tensor.dtype}")
    if offset.dtype != mask.dtype:
        raise TypeError(f"mask must be {offset.dtype} like offset, got {mask.dtype}")


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, offset, mask, weight, bias, *ctx.geometry = inputs
    ctx.save_for_backward(input, offset, mask, weight)
    ctx.has_bias = bias is not None


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    if grad_output.is_cuda and ctx.needs_input_grad[0]:
        _tell_of_no_fixed_order()
    gradients = torch.ops.glipkit.modulated_deform_conv2d_backward(
        grad_output, *ctx.saved_tensors, *ctx.geometry
    )
    grad_bias = grad_output.sum(dim=(0, 2, 3)) if ctx.has_bias else None
    return *gradients, grad_bias, None, None, None


def _tell_of_no_fixed_order() -> None:
    """What torch's own operators do where there is no deterministic form of them."""
    if not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        "the gradient of modulated_deform_conv2d's input does not have a deterministic "
        "implementation on CUDA, but you set 'torch.use_deterministic_algorithms(True)'. Turn "
        "that off, or pass warn_only=True"
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)


def _setup_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """A second derivative needs nothing, for there is none."""


def _refuse_second_derivative(ctx: Any, *_: Tensor) -> None:
    raise NotImplementedError(
        "modulated_deform_conv2d has no second derivative; "
        "modulated_deform_conv2d_reference has one"
    )


def _has_rows(map: Tensor) -> bool:
    """Whether the operator answers this map channels-last; as `has_rows` of csrc/deform_conv.h."""
    _, C, H, W = map.shape
    if map.is_contiguous() or C < 2 or map.stride(1) != 1:
        return False
    return H < 2 or W < 2 or map.stride(2) == W * map.stride(3)


def _new_map(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty map of the type and the layout of another."""
    B, C, H, W = shape
    if _has_rows(like):
        return like.new_empty(B, H, W, C).permute(0, 3, 1, 2)
    return like.new_empty(shape)


def _fake(input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return _new_map(input, (input.shape[0], weight.shape[0], *offset.shape[2:]))


def _fake_backward(grad_output: Tensor, input: Tensor, *others: Any) -> tuple[Tensor, ...]:
    gradients = (tensor.new_empty(tensor.shape) for tensor in others[:3])
    return _new_map(input, input.shape), *gradients


if loaded():
    torch.library.register_fake(_NAME, _fake)
    torch.library.register_autograd(_NAME, _backward, setup_context=_setup_context)
    torch.library.register_fake(f"{_NAME}_backward", _fake_backward)
    torch.library.register_autograd(
        f"{_NAME}_backward", _refuse_second_derivative, setup_context=_setup_nothing
    )
