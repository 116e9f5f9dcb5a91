"""A Swin block written as its definition: loops over positions, no windows cut, no maps moved.

Follows BEHAVIOUR 2. Position (y, x) of the padded map stands, after the cyclic shift by s, at
((y - s) mod H, (x - s) mod W). Two positions share a window if their shifted places do; they lie
-100 apart if their shifted places fall into different regions.
"""

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

Weights = dict[str, Tensor]


def region(place: int, side: int, window: int, shift: int) -> int:
    """Which third of a side a shifted place belongs to."""
    if place < side - window:
        return 0
    return 1 if place < side - shift else 2


def attention(x: Tensor, weights: Weights, *, num_heads: int, window: int, shift: int) -> Tensor:
    """x (H, W, C), normalised; returns the same shape."""
    H, W, C = x.shape
    tall, wide = -(-H // window) * window, -(-W // window) * window
    padded = x.new_zeros(tall, wide, C)
    padded[:H, :W] = x
    qkv = linear(padded, weights["qkv.weight"], weights["qkv.bias"])
    width = C // num_heads
    output = torch.empty_like(x)
    places = {}  # position -> shifted place
    for y in range(tall):
        for x_ in range(wide):
            places[y, x_] = ((y - shift) % tall, (x_ - shift) % wide)
    for (y, x_), (py, px) in places.items():
        if y >= H or x_ >= W:
            continue
        keys = [
            (key, (ky, kx))
            for key, (ky, kx) in places.items()
            if ky // window == py // window and kx // window == px // window
        ]
        for head in range(num_heads):
            own = slice(head * width, (head + 1) * width)
            query = qkv[y, x_, :C][own] * width**-0.5
            scores = []
            for key, (ky, kx) in keys:
                dy = py % window - ky % window + window - 1
                dx = px % window - kx % window + window - 1
                bias = weights["relative_position_bias_table"][dy * (2 * window - 1) + dx, head]
                score = query @ qkv[key][C : 2 * C][own] + bias
                apart = shift > 0 and (
                    region(ky, tall, window, shift) != region(py, tall, window, shift)
                    or region(kx, wide, window, shift) != region(px, wide, window, shift)
                )
                scores.append(score - 100 if apart else score)
            shares = torch.stack(scores).softmax(0)
            values = torch.stack([qkv[key][2 * C :][own] for key, _ in keys])
            output[y, x_, own] = shares @ values
    return linear(output, weights["projection.weight"], weights["projection.bias"])


def block(x: Tensor, weights: Weights, *, num_heads: int, window: int, shift: int) -> Tensor:
    """x (H, W, C); weights by the names of `SwinBlock`."""

    def norm(value: Tensor, name: str) -> Tensor:
        scale, offset = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return layer_norm(value, value.shape[-1:], scale, offset, eps=1e-5)

    own = {
        name.removeprefix("attention."): value
        for name, value in weights.items()
        if name.startswith("attention.")
    }
    x = x + attention(norm(x, "norm1"), own, num_heads=num_heads, window=window, shift=shift)
    inner = gelu(linear(norm(x, "norm2"), weights["mlp.fc1.weight"], weights["mlp.fc1.bias"]))
    return x + linear(inner, weights["mlp.fc2.weight"], weights["mlp.fc2.bias"])


def merge(x: Tensor, weights: Weights) -> Tensor:
    """x (H, W, C); weights by the names of `PatchMerging`."""
    H, W, C = x.shape
    merged = []
    for y in range(0, H, 2):
        row = []
        for x_ in range(0, W, 2):
            corners = [
                x[cy, cx] if cy < H and cx < W else x.new_zeros(C)
                for cy, cx in ((y, x_), (y + 1, x_), (y, x_ + 1), (y + 1, x_ + 1))
            ]
            row.append(torch.cat(corners))
        merged.append(torch.stack(row))
    joined = layer_norm(torch.stack(merged), (4 * C,), weights["norm.weight"], weights["norm.bias"])
    return joined @ weights["reduction.weight"].T
