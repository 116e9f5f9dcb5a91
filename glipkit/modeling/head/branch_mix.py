"""The end of a DyConv in two passes over its branches, when nobody wants a gradient.

GroupNorm, level attention and DyReLU depend on a map through averages only. Those of the
normalised, weighted, resized branches follow from the averages and variances of the branches as
they were convolved; so one pass gathers these, and one writes the result (BEHAVIOUR 6).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glipkit.layers.dynamic import DyReLU, ScaleAttention
from glipkit.ops.branches import branch_moments, mix_branches


def mix_at_once(
    branches: tuple[Tensor, Tensor | None, Tensor | None],
    norms: Sequence[nn.GroupNorm],
    attention: ScaleAttention,
    relu: DyReLU,
) -> Tensor:
    """Normalise, weigh, resize, average and activate.

    Args:
        branches: (B, C, H, W) of the same level and of the finer one, (B, C, h, w) of the coarser
            one, as convolved; None for a neighbour that does not exist.
        norms: of the three branches.
        attention: gives the weight of a branch.
        relu: applied to the mean of the weighted branches.

    Returns:
        (B, C, H, W), channels last.
    """
    size = branches[0].shape[-2:]
    present = [(norm, branch) for norm, branch in zip(norms, branches) if branch is not None]
    with torch.autocast(branches[0].device.type, enabled=False):
        moments = [branch_moments(branch, size) for _, branch in present]
        scales, shifts = zip(*(_as_affine(norm, *m.unbind(1)[:2]) for (norm, _), m in
                               zip(present, moments)))  # fmt: skip
        scale, shift = torch.stack(scales), torch.stack(shifts)  # (N, B, C)
        average = torch.stack(moments)[:, :, 2] * scale + shift
        low = attention.weight.dtype  # of a model in half precision
        weight = attention.of_average(average.to(low)).to(scale.dtype) / len(present)  # (N, B, 1)
        lines = relu.lines((weight * average).sum(dim=0).to(low))
        factors = iter((weight * scale).unbind(0))
        nothing = torch.zeros_like(average[0])
        rows = [nothing if branch is None else next(factors) for branch in branches]
        rows += [(weight * shift).sum(dim=0), *lines]
        return mix_branches(*branches, torch.stack(rows, dim=1))


def _as_affine(norm: nn.GroupNorm, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and summand, (B, C) each, that normalise channels of these moments (B, C)."""
    groups = (norm.num_groups, -1)
    grouped = mean.unflatten(1, groups)
    # The variance of a group: that within its channels and that between them.
    between, center = torch.var_mean(grouped, dim=2, correction=0, keepdim=True)
    spread = variance.unflatten(1, groups).mean(dim=2, keepdim=True) + between
    factor = (spread + norm.eps).rsqrt()
    scale = factor * norm.weight.to(mean.dtype).unflatten(0, groups)
    shift = norm.bias.to(mean.dtype).unflatten(0, groups) - center * scale
    return scale.flatten(1), shift.flatten(1)
