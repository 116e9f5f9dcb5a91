"""The head's outputs as published (BEHAVIOUR 7), from the parameters of a state dict of ours.

Slow and obvious, and without a line of the package.
"""

import math

import torch
from torch import Tensor


def predict(
    state: dict[str, Tensor], levels: list[Tensor], text: Tensor
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Per level: token logits (B, HW, T), box deltas (B, HW, 4), centerness (B, HW)."""
    outputs = []
    for index, x in enumerate(levels):
        B, _, H, W = x.shape
        T = text.shape[1]
        logits = x.new_zeros(B, H * W, T)
        for b in range(B):
            for j in range(T):
                e = text[b, j] / max(float(text[b, j].norm()), 1e-12)
                t = state["text_projection.weight"] @ (e / 2) + state["text_projection.bias"]
                token_bias = e @ state["text_bias"] + state["bias"]
                match = (x[b] * t[:, None, None]).sum(0).flatten()
                logits[b, :, j] = match / math.exp(float(state["log_scale"])) + token_bias
        logits = torch.clamp(torch.clamp(logits, max=50000), min=-50000)
        maps = {}
        for name in ("box", "centerness"):
            weight, bias = state[f"{name}.weight"][:, :, 0, 0], state[f"{name}.bias"]
            maps[name] = torch.einsum("oc,bchw->bhwo", weight, x).flatten(1, 2) + bias
        deltas = maps["box"] * state[f"level_scales.{index}.scale"]
        outputs.append((logits, deltas, maps["centerness"][:, :, 0]))
    return outputs
