"""What DyConv does with its convolved branches, in one pass for statistics and one for the result.

On the CPU, forward only: a pass over a map costs more than the arithmetic in it (BEHAVIOUR 6).
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from glipkit.ops.library import loaded, use_compiled

_MULTIPLE = 16  # channels: a register of any instruction set is full


def can_mix(branches: tuple[Tensor | None, ...]) -> bool:
    """Whether `branch_moments` and `mix_branches` are compiled for these maps.

    They are for whole registers of channels on the CPU that lie together (channels last), when
    nobody wants a gradient.
    """
    return not torch.is_grad_enabled() and all(
        branch is None
        or (
            branch.device.type == "cpu"
            and branch.dtype in (torch.float32, torch.float64, torch.bfloat16)
            and branch.shape[1] % _MULTIPLE == 0
            and branch.numel() > 0
            and branch.is_contiguous(memory_format=torch.channels_last)
            and use_compiled("cpu")
        )
        for branch in branches
    )


def branch_moments(branch: Tensor, size: tuple[int, int]) -> Tensor:
    """Statistics of every channel of a branch.

    Args:
        branch: (B, C, h, w).
        size: (H, W) to which the branch will be resized (bilinear, corners aligned).

    Returns:
        (B, 3, C), at least float32: mean and variance (biased) over the branch, and the mean that
        it will have when it is resized.
    """
    if can_mix((branch,)):
        return torch.ops.glipkit.branch_moments(branch, size)
    return branch_moments_reference(branch, size)


def branch_moments_reference(branch: Tensor, size: tuple[int, int]) -> Tensor:
    """The same as `branch_moments` in plain PyTorch."""
    branch = _precise(branch)
    variance, mean = torch.var_mean(branch, dim=(2, 3), correction=0)
    return torch.stack([mean, variance, _resized(branch, size).mean(dim=(2, 3))], dim=1)


def mix_branches(
    same: Tensor, finer: Tensor | None, coarser: Tensor | None, coefficients: Tensor
) -> Tensor:
    """Add the branches with factors, and take the larger of two lines of the sum.

    Args:
        same: (B, C, H, W).
        finer: (B, C, H, W) or None.
        coarser: (B, C, h, w), resized to (H, W) (bilinear, corners aligned), or None.
        coefficients: (B, 8, C): the factors of the three, what is added to their sum s, then a, b,
            c and d of max(a s + b, c s + d).

    Returns:
        (B, C, H, W), channels last, in the type of `same`.
    """
    if can_mix((same, finer, coarser)):
        return torch.ops.glipkit.mix_branches(same, finer, coarser, coefficients)
    return mix_branches_reference(same, finer, coarser, coefficients)


def mix_branches_reference(
    same: Tensor, finer: Tensor | None, coarser: Tensor | None, coefficients: Tensor
) -> Tensor:
    """The same as `mix_branches` in plain PyTorch."""
    *factors, mixed, slope1, intercept1, slope2, intercept2 = coefficients[..., None, None].unbind(
        1
    )
    for branch, factor in zip((same, finer, coarser), factors):
        if branch is not None:
            mixed = mixed + factor * _resized(_precise(branch), same.shape[-2:])
    mixed = torch.maximum(slope1 * mixed + intercept1, slope2 * mixed + intercept2)
    return mixed.to(same.dtype, memory_format=torch.channels_last)


def _precise(branch: Tensor) -> Tensor:
    return branch.to(torch.promote_types(branch.dtype, torch.float32))


def _resized(branch: Tensor, size: tuple[int, int]) -> Tensor:
    if branch.shape[-2:] == size:
        return branch
    return interpolate(branch, size=size, mode="bilinear", align_corners=True)


def _fake_moments(branch: Tensor, size: list[int]) -> Tensor:
    dtype = torch.promote_types(branch.dtype, torch.float32)
    return branch.new_empty(branch.shape[0], 3, branch.shape[1], dtype=dtype)


def _fake_mix(same: Tensor, *_: Tensor | None) -> Tensor:
    B, C, H, W = same.shape
    return same.new_empty(B, H, W, C).permute(0, 3, 1, 2)


if loaded():
    torch.library.register_fake("glipkit::branch_moments", _fake_moments)
    torch.library.register_fake("glipkit::mix_branches", _fake_mix)
