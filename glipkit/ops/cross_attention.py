"""Attention between image and text in both directions, without the map of their scores.

What cross-modality attention of GLIP does once its projections are on the text side (DESIGN 3,
"Absorbed fusion"; BEHAVIOUR 5.1). Shapes: B images, V image tokens, T text tokens, H heads,
C channels of an image token; columns are the H * T text tokens of all heads, heads outermost.
"""

from typing import Any

import torch
from torch import Tensor

from glipkit.ops.cross_attention_chunked import chunked_attention
from glipkit.ops.cross_attention_dropout import draw_seed
from glipkit.ops.library import loaded, use_compiled

_NAME = "glipkit::bidirectional_attention"
_BFLOAT16_NAME = "glipkit::bidirectional_attention_bfloat16"
_COMPILED_TYPES = (torch.float32, torch.float64)
_HALF_TYPES = (torch.bfloat16, torch.float16)
# Whether this processor multiplies bfloat16, and ATEN_CPU_CAPABILITY allows it.
MULTIPLIES_BFLOAT16 = loaded() and torch.ops.glipkit.has_bfloat16_products()


def bidirectional_attention(
    image: Tensor,
    keys: Tensor,
    key_bias: Tensor,
    values: Tensor,
    text_mask: Tensor,
    num_heads: int,
    *,
    residual: bool = False,
    limit: float = float("inf"),
    image_dropout: float = 0.0,
    text_dropout: float = 0.0,
    seed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Image tokens read text tokens, and text tokens read image tokens, by the same scores.

    With `scores = image @ keys.mT + key_bias`, cut to [-limit, limit]: a softmax over the text
    tokens of a head gives what the image reads, the sum of `values` over all heads. A softmax over
    the image gives the context of every column. Masked text tokens are not read by the image; if
    all of a picture's are masked, they are read alike. Scores that were cut pass no gradient.

    The (B, V, H * T) scores and weights are never in memory, and nothing of that size is kept for
    the backward pass, which computes them again. Dropout is a function of `seed` and the position
    of a weight, so that this redraws the same. On the CPU in float32 and float64 results are the
    same whatever the number of threads. There is no second derivative.

    In half precision products are of that type, and softmaxes and sums float32. Processors with
    AVX512_BF16 have a compiled operator for bfloat16 without gradients and dropout, of which the
    same holds for threads.

    Args:
        image: (B, V, C), of the type of the others; or float32 beside half precision, to which it
            is rounded for products: as autocast has it, with no digit of a residual lost.
        keys: (B, H * T, C), with the scale of the scores in them.
        key_bias: (B, H * T).
        values: (B, H * T, C).
        text_mask: (B, T) bool, False where the image must not read.
        num_heads: H.
        residual: add what the image reads to the image.
        limit: of the scores.
        image_dropout: probability with which a weight of the image's reads is dropped; the others
            are scaled by 1 / (1 - image_dropout).
        text_dropout: the same for the text's, independently.
        seed: one int64 number on the device of `image`; None draws one where there is dropout.

    Returns:
        What the image reads, or the image and that, (B, V, C), in the type of `image`; the context,
        (B, H * T, C), and the sum of the weights that made it, (B, H * T), which is 1 but for
        dropout: both in float32 for half-precision inputs.

    Raises:
        TypeError: types that do not go together.
        ValueError: shapes or probabilities that do not go together.
    """
    _check(image, keys, key_bias, values, text_mask, num_heads)
    for name, p in (("image_dropout", image_dropout), ("text_dropout", text_dropout)):
        if not 0 <= p <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {p}")
    if seed is None:
        seed = draw_seed(image.device, image_dropout > 0 or text_dropout > 0)
    dropout = (image_dropout, text_dropout, seed)
    text = (keys, key_bias, values, text_mask)
    has_text = keys.shape[1] > 0  # the operators answer zeros without, also where a residual is due
    if has_text and _applies(keys):
        options = (num_heads, residual, limit, *dropout)
        return torch.ops.glipkit.bidirectional_attention(image, *text, *options)[:3]
    dropped = image_dropout or text_dropout
    if has_text and not dropped and _applies_in_bfloat16(image, *text[:3]):
        options = (num_heads, residual, limit)
        return torch.ops.glipkit.bidirectional_attention_bfloat16(image, *text, *options)
    if image.dtype == keys.dtype:
        return chunked_attention(image, *text, num_heads, residual, limit, *dropout)
    rounded = image.to(keys.dtype)
    reads, *others = chunked_attention(rounded, *text, num_heads, False, limit, *dropout)
    return image + reads if residual else reads.to(image.dtype), *others


def _applies(keys: Tensor) -> bool:
    """Whether the compiled operator is for such products; there is none for GPUs or half types."""
    return (
        keys.device.type in ("cpu", "meta")
        and keys.dtype in _COMPILED_TYPES
        and use_compiled(keys.device.type)
    )


def _applies_in_bfloat16(image: Tensor, keys: Tensor, key_bias: Tensor, values: Tensor) -> bool:
    """Whether the operator for bfloat16, which has no gradient, is for such tensors."""
    inputs = (image, keys, key_bias, values)
    return (
        MULTIPLIES_BFLOAT16
        and keys.device.type in ("cpu", "meta")
        and keys.dtype == torch.bfloat16
        and use_compiled(keys.device.type)
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs))
    )


def _check(
    image: Tensor,
    keys: Tensor,
    key_bias: Tensor,
    values: Tensor,
    text_mask: Tensor,
    num_heads: int,
) -> None:
    """Refuse what does not go together, with words for the caller."""
    if image.dim() != 3:
        raise ValueError(f"image must have shape (B, V, C), got {list(image.shape)}")
    if image.dtype not in (*_COMPILED_TYPES, *_HALF_TYPES):
        raise TypeError(f"image must be floating point, got {image.dtype}")
    if text_mask.dtype != torch.bool:
        raise TypeError(f"text_mask must be bool, got {text_mask.dtype}")
    B, _, C = image.shape
    if text_mask.dim() != 2 or text_mask.shape[0] != B:
        raise ValueError(f"text_mask must have shape ({B}, T), got {list(text_mask.shape)}")
    if num_heads < 1:
        raise ValueError(f"num_heads must be at least 1, got {num_heads}")
    columns = num_heads * text_mask.shape[1]
    rounds = image.dtype == torch.float32 and keys.dtype in _HALF_TYPES
    dtype, why = (keys.dtype, "like keys") if rounds else (image.dtype, "like image")
    for name, tensor, shape in (
        ("keys", keys, (B, columns, C)),
        ("key_bias", key_bias, (B, columns)),
        ("values", values, (B, columns, C)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {list(shape)}, got {list(tensor.shape)}")
        if tensor.dtype != dtype:
            raise TypeError(f"{name} must be {dtype} {why}, got {tensor.dtype}")
        if tensor.device != image.device:
            raise ValueError(f"{name} must be on {image.device} like image, got {tensor.device}")


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, num_heads, residual, limit, image_dropout, text_dropout, seed = inputs
    _, *sums = output  # of the outputs only the image's reads are large, and they are not needed
    ctx.mark_non_differentiable(*output[3:])
    ctx.save_for_backward(*tensors, *sums, seed)
    ctx.options = (num_heads, residual, limit, image_dropout, text_dropout)


def _backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, seed = ctx.saved_tensors
    answers = torch.ops.glipkit.bidirectional_attention_backward(
        *gradients[:3], *tensors, *ctx.options, seed
    )
    return *answers, *(None for _ in range(7))


def _setup_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """A second derivative needs nothing, for there is none."""


def _refuse_second_derivative(ctx: Any, *_: Tensor) -> None:
    raise NotImplementedError("bidirectional_attention has no second derivative")


def _fake(image: Tensor, keys: Tensor, key_bias: Tensor, *_: Any) -> tuple[Tensor, ...]:
    columns = [image.new_empty(key_bias.shape) for _ in range(3)]
    return image.new_empty(image.shape), image.new_empty(keys.shape), *columns


def _fake_bfloat16(image: Tensor, keys: Tensor, key_bias: Tensor, *_: Any) -> tuple[Tensor, ...]:
    sums = (image.new_empty(tensor.shape, dtype=torch.float32) for tensor in (keys, key_bias))
    return image.new_empty(image.shape), *sums


def _fake_backward(
    grad_reads: Tensor,
    grad_context: Tensor,
    grad_kept: Tensor,
    image: Tensor,
    keys: Tensor,
    key_bias: Tensor,
    values: Tensor,
    *_: Any,
) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (image, keys, key_bias, values))


if loaded():
    torch.library.register_fake(_NAME, _fake)
    torch.library.register_autograd(_NAME, _backward, setup_context=_setup_context)
    torch.library.register_fake(_BFLOAT16_NAME, _fake_bfloat16)
    torch.library.register_fake(f"{_NAME}_backward", _fake_backward)
    torch.library.register_autograd(
        f"{_NAME}_backward", _refuse_second_derivative, setup_context=_setup_nothing
    )
