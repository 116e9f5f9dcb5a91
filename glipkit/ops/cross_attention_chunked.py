"""Bi-directional attention in plain PyTorch: for GPUs, most half precision, without a compiler.

Some image tokens at a time; `attention_with_map` is the same with everything at once: the oracle.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from glipkit.ops.cross_attention_dropout import dropout_factors

# Score of a masked text token: no softmax gives it any weight (BEHAVIOUR 5.1).
MASKED = -9e15
# Scores that are alive at once. A CPU is fastest when they stay in its cache between the passes
# over them (4 MB in float32), an accelerator when it has enough to do.
CPU_CHUNK = 2**20
ACCELERATOR_CHUNK = 2**27


def attention_with_map(
    image: Tensor,
    keys: Tensor,
    key_bias: Tensor,
    values: Tensor,
    text_mask: Tensor,
    num_heads: int,
    residual: bool,
    limit: float,
    image_dropout: float,
    text_dropout: float,
    seed: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """`bidirectional_attention` as its definition says; autograd does the rest."""
    precise = torch.promote_types(image.dtype, torch.float32)
    scores = (image @ keys.mT + key_bias[:, None]).to(precise).clamp(-limit, limit)
    text_reads = scores.softmax(dim=1)
    scores = scores.unflatten(2, (num_heads, -1)).masked_fill(~text_mask[:, None, None], MASKED)
    image_reads = scores.softmax(dim=3).flatten(2)
    tokens = torch.arange(image[..., 0].numel(), device=image.device).reshape(image.shape[:2])
    columns = keys.shape[1]
    if image_dropout:
        factors = dropout_factors(seed, 0, image_dropout, tokens, columns, precise)
        image_reads = image_reads * factors
    if text_dropout:
        text_reads = text_reads * dropout_factors(seed, 1, text_dropout, tokens, columns, precise)
    context = text_reads.mT @ image.to(precise)
    reads = image_reads.to(image.dtype) @ values
    return image + reads if residual else reads, context, text_reads.sum(dim=1)


def chunked_attention(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `attention_with_map` without ever holding the map, in the backward pass either.

    The softmax over the image keeps a running maximum and sum (Milakov and Gimelshein, "Online
    normalizer calculation for softmax", 2018). Products run in the type of the image, softmaxes
    and sums in float32 at least.
    """
    return _Chunked.apply(*inputs)[:3]


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        keys: Tensor,
        key_bias: Tensor,
        values: Tensor,
        text_mask: Tensor,
        num_heads: int,
        residual: bool,
        limit: float,
        image_dropout: float,
        text_dropout: float,
        seed: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.options = num_heads, residual, limit, image_dropout, text_dropout
        precise = torch.promote_types(image.dtype, torch.float32)
        sums = _sum_dtype(image.dtype)
        columns = keys.shape[1]
        reads = torch.empty_like(image)
        context = torch.zeros(keys.shape, dtype=precise, device=image.device)
        total, kept = torch.zeros(2, *key_bias.shape, dtype=precise, device=image.device)
        largest = torch.full_like(total, -torch.finfo(precise).max)
        for rows, tokens in _chunks(image, columns):
            scores = _scores(image[:, rows], keys, key_bias).clamp_(-limit, limit)
            larger = torch.maximum(largest, scores.amax(dim=1))
            faded = (largest - larger).exp_()  # what the sums so far are worth now
            weights = (scores - larger[:, None]).exp_()
            total = total * faded + weights.sum(dim=1)
            if text_dropout:
                weights *= dropout_factors(seed, 1, text_dropout, tokens, columns, precise)
                kept = kept * faded + weights.sum(dim=1)
            read = weights.to(sums).mT @ image[:, rows].to(sums)
            context = context * faded[..., None] + read
            largest = larger
            weights = _over_text(scores, text_mask, num_heads)
            if image_dropout:
                weights *= dropout_factors(seed, 0, image_dropout, tokens, columns, precise)
            read = weights.to(image.dtype) @ values
            reads[:, rows] = image[:, rows] + read if residual else read
        context = context / total[..., None]
        kept = kept / total if text_dropout else torch.ones_like(total)
        ctx.mark_non_differentiable(largest, total)
        ctx.save_for_backward(
            image, keys, key_bias, values, text_mask, context, kept, largest, total, seed
        )
        return reads, context, kept, largest, total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_reads: Tensor, grad_context: Tensor, grad_kept: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, ...]:
        """What csrc/cpu/cross_attention_backward.cpp explains."""
        image, keys, key_bias, values, mask, context, kept, largest, total, seed = ctx.saved_tensors
        num_heads, residual, limit, image_dropout, text_dropout = ctx.options
        dtype, precise = image.dtype, context.dtype
        columns, sums = keys.shape[1], _sum_dtype(dtype)
        mean = (grad_context * context).sum(dim=2) + grad_kept * kept
        grad_context = grad_context.to(dtype)
        grad_image = torch.empty_like(image)
        grad_keys, grad_values = torch.zeros(2, *keys.shape, dtype=precise, device=image.device)
        grad_bias = torch.zeros_like(total)
        for rows, tokens in _chunks(image, columns):
            part, grad_read = image[:, rows], grad_reads[:, rows].to(dtype)
            raw = _scores(part, keys, key_bias)
            scores = raw.clamp(-limit, limit)
            weights = _over_text(scores, mask, num_heads)
            grad = (grad_read @ values.mT).to(precise)
            if image_dropout:
                factors = dropout_factors(seed, 0, image_dropout, tokens, columns, precise)
                grad = grad * factors
            inner = (weights * grad).unflatten(2, (num_heads, -1)).sum(dim=3, keepdim=True)
            grad = weights.unflatten(2, (num_heads, -1)) * (
                grad.unflatten(2, (num_heads, -1)) - inner
            )
            grad = grad.masked_fill(~mask[:, None, None], 0).flatten(2)
            if image_dropout:
                weights = weights * factors
            grad_values += weights.to(sums).mT @ grad_read.to(sums)

            weights = (scores - largest[:, None]).exp() / total[:, None]
            seen = (part @ grad_context.mT).to(precise) + grad_kept[:, None]
            if text_dropout:
                factors = dropout_factors(seed, 1, text_dropout, tokens, columns, precise)
                grad = grad + weights * (seen * factors - mean[:, None])
                weights = weights * factors
            else:
                grad = grad + weights * (seen - mean[:, None])
            grad = grad.masked_fill(raw.abs() > limit, 0)
            grad_bias += grad.sum(dim=1)
            grad_keys += grad.to(sums).mT @ part.to(sums)
            grad = grad.to(dtype) @ keys + weights.to(dtype) @ grad_context
            grad_image[:, rows] = grad + grad_read if residual else grad
        gradients = grad_image, grad_keys.to(dtype), grad_bias.to(dtype), grad_values.to(dtype)
        return *gradients, *(None for _ in range(7))


def _chunks(image: Tensor, columns: int) -> Iterator[tuple[slice, Tensor]]:
    """Slices of image tokens, and the numbers of these tokens in the batch, (B, tokens)."""
    B, V, _ = image.shape
    chunk = CPU_CHUNK if image.device.type == "cpu" else ACCELERATOR_CHUNK
    step = max(1, chunk // max(B * columns, 1))
    first = torch.arange(B, device=image.device)[:, None] * V
    for begin in range(0, V, step):
        end = min(begin + step, V)
        yield slice(begin, end), first + torch.arange(begin, end, device=image.device)


def _scores(tokens: Tensor, keys: Tensor, key_bias: Tensor) -> Tensor:
    """(B, tokens, H * T), in float32 at least, not yet cut."""
    scores = torch.baddbmm(key_bias[:, None], tokens, keys.mT)
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _over_text(scores: Tensor, text_mask: Tensor, num_heads: int) -> Tensor:
    """The softmax of every head over the text tokens that may be read."""
    scores = scores.unflatten(2, (num_heads, -1)).masked_fill(~text_mask[:, None, None], MASKED)
    return scores.softmax(dim=3).flatten(2)


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of a sum over all image tokens, which may leave float16."""
    return torch.float32 if dtype == torch.float16 else dtype
