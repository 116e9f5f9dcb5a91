"""Dropout that is a function of a seed and a position, so that it can be computed again.

The numbers are those of csrc/cpu/cross_attention_kernels.h, bit for bit.
"""

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def draw_seed(device: torch.device, wanted: bool) -> Tensor:
    """One int64 number from the default generator of the device; 0 if it is not wanted."""
    if not wanted:
        return torch.zeros(1, dtype=torch.int64, device=device)
    return torch.randint(2**63 - 1, (1,), dtype=torch.int64, device=device)


def dropout_factors(
    seed: Tensor, which: int, p: float, tokens: Tensor, columns: int, dtype: torch.dtype
) -> Tensor:
    """0 for the weights that are dropped, 1 / (1 - p) for the others.

    Args:
        seed: one int64 number.
        which: 0 for what the image reads, 1 for what the text reads.
        p: the probability of dropping one.
        tokens: (...) int64, numbers of image tokens, counted through all pictures of the batch.
        columns: H * T.
        dtype: of the answer.

    Returns:
        (..., columns).
    """
    # splitmix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014): one key
    # for each row. int64 wraps as uint64 does; its shifts need their sign bits cut off.
    x = seed + (2 * tokens + which) * _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    key = _shift(x ^ _shift(x, 31), 32)
    # Wellons' lowbias32: 32 bits for each weight of the row.
    column = torch.arange(columns, device=seed.device)
    x = (key[..., None] + column * 0x9E3779B9) & _MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    x = x ^ (x >> 16)
    dropped = x < min(round(p * 2**32), _MASK)
    return (~dropped).to(dtype) * (1 / (1 - p) if p < 1 else 0.0)


def _signed(x: int) -> int:
    """The int64 with the bits of a uint64."""
    return x - 2**64 if x >= 2**63 else x


def _shift(x: Tensor, by: int) -> Tensor:
    """Zeros come in from the left."""
    return (x >> by) & ((1 << (64 - by)) - 1)
