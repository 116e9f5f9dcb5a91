"""Attention inside the windows of a map, read from and written to where its positions stand.

Source: Swin Transformer (Liu et al., ICCV 2021); the numbers are those of BEHAVIOUR 2.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glipkit.ops.library import loaded

# What is added to the score of two positions that only the cyclic shift brought together. Not
# minus infinity: the published weights were trained with this (BEHAVIOUR 2).
_FAR_APART = -100.0
_NAME = "glipkit::window_attention"


def window_attention(
    qkv: Tensor,
    qkv_bias: Tensor,
    relative_bias: Tensor,
    *,
    size: tuple[int, int],
    window: int,
    shift: int,
) -> Tensor:
    """What every position of a map reads in its window.

    The map is padded to whole windows on the right and at the bottom, then moved cyclically up
    and left by `shift`. Padding is a key like any other: a zero that went through the linear
    layer, so its row is the bias of that layer.

    bfloat16 is for reading and writing: scores and sums are float32. On the CPU results are the
    same from run to run, whatever the number of threads; the backward pass keeps no scores but
    computes them again, and there is no second derivative.

    Shapes: B images, S = window ** 2 positions of a window.

    Args:
        qkv: (B, H * W, 3 * C), queries, keys and values of the map's positions, row by row; heads
            are neighbouring channels.
        qkv_bias: (3 * C,), of the linear layer that made `qkv`; read on padding only.
        relative_bias: (heads, S, S), added to the score of query and key; float32, or float64
            like `qkv`.
        size: (H, W).
        window: side of a window in positions.
        shift: from 0 to window - 1.

    Returns:
        (B, H * W, C), in the type of `qkv`.

    Raises:
        TypeError: types that do not go together.
        ValueError: shapes that do not go together, or such a shift.
    """
    _check(qkv, qkv_bias, relative_bias, size, window, shift)
    if qkv.device.type != "cpu" or qkv.dtype == torch.float16 or not loaded():
        return _attend(qkv, qkv_bias, relative_bias, size, window, shift)
    return torch.ops.glipkit.window_attention(
        qkv, qkv_bias, relative_bias, list(size), window, shift
    )


def window_attention_reference(
    qkv: Tensor,
    qkv_bias: Tensor,
    relative_bias: Tensor,
    *,
    size: tuple[int, int],
    window: int,
    shift: int,
) -> Tensor:
    """The same as `window_attention` in plain PyTorch: slower on CPUs, but needs no compiler."""
    _check(qkv, qkv_bias, relative_bias, size, window, shift)
    return _attend(qkv, qkv_bias, relative_bias, size, window, shift)


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut a map of whole windows: (B, H, W, C) -> (B * windows, window**2, C), row by row."""
    B, H, W, C = x.shape
    x = x.view(B, H // window, window, W // window, window, C)
    return x.transpose(2, 3).reshape(-1, window * window, C)


class WindowOrder(NamedTuple):
    """How the positions of a map, row by row, become windows, and back."""

    take: Tensor  # (windows * window**2,) int64: which position stands there; any, on padding
    is_real: Tensor  # (windows * window**2,) bool: False on padding
    has_padding: bool  # whether one of them is padding
    put: Tensor  # (H * W,) int64: where each position went
    padded_size: tuple[int, int]  # (H, W) rounded up to whole windows


@lru_cache(maxsize=32)  # of four stages, shifted and not: the last four sizes of pictures
def window_order(
    size: tuple[int, int], window: int, shift: int, device: torch.device
) -> WindowOrder:
    """Pad a map to whole windows, move it cyclically by -shift and cut it, in one permutation.

    Args:
        size: (H, W) of the map.
        window: side of a window.
        shift: positions that the padded map moves up and left.
        device: where the order is needed.
    """
    with torch.inference_mode(False):  # the memory outlives an inference, and training uses it
        height, width = size
        padded_size = (height + -height % window, width + -width % window)
        y, x = ((torch.arange(side) + shift) % side for side in padded_size)
        positions = torch.where(
            (y < height)[:, None] & (x < width), y[:, None] * width + x, -1
        )  # (padded H, padded W), -1 on padding
        positions = to_windows(positions[None, :, :, None], window).flatten()
        is_real = positions >= 0
        put = torch.empty(height * width, dtype=torch.int64)
        put[positions[is_real]] = is_real.nonzero()[:, 0]
        return WindowOrder(
            take=positions.clamp(min=0).to(device),
            is_real=is_real.to(device),
            has_padding=padded_size != size,
            put=put.to(device),
            padded_size=padded_size,
        )


@lru_cache(maxsize=16)  # of four stages: 15 MB for a picture of 800 x 1088
def shift_mask(size: tuple[int, int], window: int, shift: int, device: torch.device) -> Tensor:
    """What keeps positions apart that are no neighbours before the cyclic shift.

    Args:
        size: (H, W) of the padded map, whole windows.
        window: side of a window.
        shift: positions that the padded map moved up and left.
        device: where the mask is needed.

    Returns:
        (windows, 1, window**2, window**2) float32: 0 where query and key are of one region of the
        shifted map, -100 where not. The padding counts as part of the last regions.
    """
    with torch.inference_mode(False):
        regions = []
        for side in size:
            positions = torch.arange(side, device=device)
            regions.append((positions >= side - window).long() + (positions >= side - shift).long())
        numbers = (3 * regions[0][:, None] + regions[1])[None, :, :, None]  # (1, H, W, 1), 0 to 8
        numbers = to_windows(numbers, window).squeeze(2)  # (windows, window**2)
        apart = numbers[:, :, None] != numbers[:, None, :]
        return (apart.float() * _FAR_APART).unsqueeze(1)


def _attend(
    qkv: Tensor,
    qkv_bias: Tensor,
    relative_bias: Tensor,
    size: tuple[int, int],
    window: int,
    shift: int,
) -> Tensor:
    B, heads, S = len(qkv), len(relative_bias), window * window
    order = window_order(tuple(size), window, shift, qkv.device)
    windows = qkv.index_select(1, order.take)  # (B, windows * S, 3C)
    if order.has_padding:
        windows = torch.where(order.is_real[:, None], windows, qkv_bias)
    windows = windows.view(B * len(order.take) // S, S, 3, heads, qkv.shape[2] // (3 * heads))
    query, key, value = windows.permute(2, 0, 3, 1, 4)  # each (B * windows, heads, S, C / heads)
    # Written out because PyTorch's fused attention was 10 to 30 % slower on windows this small.
    scores = (query * query.shape[-1] ** -0.5) @ key.mT + relative_bias
    if shift:
        mask = shift_mask(order.padded_size, window, shift, qkv.device).to(scores.dtype)
        scores = (scores.unflatten(0, (B, len(mask))) + mask).flatten(0, 1)
    read = scores.softmax(dim=-1).to(value.dtype) @ value
    read = read.transpose(1, 2).reshape(
        B, len(order.take), qkv.shape[2] // 3
    )  # (B, windows * S, C)
    return read.index_select(1, order.put)


def _check(
    qkv: Tensor,
    qkv_bias: Tensor,
    relative_bias: Tensor,
    size: tuple[int, int],
    window: int,
    shift: int,
) -> None:
    """Refuse what does not go together, with words for the caller."""
    if not qkv.is_floating_point():
        raise TypeError(f"qkv must be floating point, got {qkv.dtype}")
    if qkv_bias.dtype != qkv.dtype:
        raise TypeError(f"qkv_bias must be {qkv.dtype} like qkv, got {qkv_bias.dtype}")
    precise = torch.promote_types(qkv.dtype, torch.float32)
    if relative_bias.dtype != precise:
        raise TypeError(f"relative_bias must be {precise}, got {relative_bias.dtype}")
    for name, tensor in (("qkv_bias", qkv_bias), ("relative_bias", relative_bias)):
        if tensor.device != qkv.device:
            raise ValueError(f"{name} must be on {qkv.device} like qkv, got {tensor.device}")
    if window < 1 or not 0 <= shift < window:
        raise ValueError(f"shift must be from 0 to window - 1, got {shift} and window {window}")
    S, positions = window * window, size[0] * size[1]
    if relative_bias.dim() != 3 or relative_bias.shape[1:] != (S, S) or len(relative_bias) == 0:
        raise ValueError(
            f"relative_bias must have shape [heads, {S}, {S}], got {list(relative_bias.shape)}"
        )
    heads = len(relative_bias)
    if min(size) < 1 or qkv.dim() != 3 or qkv.shape[1] != positions:
        raise ValueError(f"qkv must have shape [B, {positions}, 3 * C], got {list(qkv.shape)}")
    if qkv.shape[2] == 0 or qkv.shape[2] % (3 * heads) != 0:
        raise ValueError(
            f"channels of qkv must be a multiple of 3 * {heads} heads, got {qkv.shape[2]}"
        )
    if qkv_bias.shape != qkv.shape[2:]:
        raise ValueError(f"qkv_bias must have shape [{qkv.shape[2]}], got {list(qkv_bias.shape)}")


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.geometry = inputs[3:]


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.glipkit.window_attention_backward(
        grad_output, *ctx.saved_tensors, *ctx.geometry
    )
    return *gradients, None, None, None


def _setup_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """A second derivative needs nothing, for there is none."""


def _refuse_second_derivative(ctx: Any, *_: Tensor) -> None:
    raise NotImplementedError(
        "window_attention has no second derivative; window_attention_reference has one"
    )


def _fake(qkv: Tensor, *_: Any) -> Tensor:
    return qkv.new_empty(qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3)


def _fake_backward(grad_output: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:3])


if loaded():
    torch.library.register_fake(_NAME, _fake)
    torch.library.register_autograd(_NAME, _backward, setup_context=_setup_context)
    torch.library.register_fake(f"{_NAME}_backward", _fake_backward)
    torch.library.register_autograd(
        f"{_NAME}_backward", _refuse_second_derivative, setup_context=_setup_nothing
    )
