"""Number ranges that the published model keeps, shared by everything that computes scores."""

import torch
from torch import Tensor

# Values beyond this are cut. Published models were trained in float16, which ends at 65504, and
# their weights have grown used to the cut (BEHAVIOUR 5.1, 5.2 and 7).
VALUE_LIMIT = 50000.0


def limited(values: Tensor) -> Tensor:
    """`values` cut to [-VALUE_LIMIT, VALUE_LIMIT]."""
    return values.clamp(-VALUE_LIMIT, VALUE_LIMIT)


def at_least_float32(values: Tensor) -> Tensor:
    """Half precisions become float32, float32 and float64 stay: for softmaxes and sums."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def product_dtype(values: Tensor) -> torch.dtype:
    """The type matrix products with `values` run in: autocast's, or that of `values`."""
    device = values.device.type
    if torch.is_autocast_enabled(device) and values.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return values.dtype
