"""What a prediction costs: words, boxes, centerness. Sums, never means: who calls knows the share.

All of it in float32 at least (BEHAVIOUR 13).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import softplus

from glipkit.layers.numerics import at_least_float32

# softplus(x) is x from here on: exp(-50) is nothing beside 50 in any precision.
_SOFTPLUS_IS_LINEAR = 50.0
# Elements worked on at a time: in a CPU's cache, or with few launches on an accelerator.
_CPU_CHUNK, _ACCELERATOR_CHUNK = 2**17, 2**22


class TokenTargets(NamedTuple):
    """Which tokens the positions of one picture, on one level, should light up.

    Shapes: K positive positions, T text tokens.
    """

    rows: Tensor  # (K,) int64, the positive positions, each once
    tokens: Tensor  # (K, T) bool, what each of them should light up
    background: Tensor  # (T,) bool, what every other position should
    selected: Tensor  # (T,) bool, tokens that count at all


def token_focal_loss(
    logits: Tensor, targets: Sequence[TokenTargets], *, alpha: float, gamma: float
) -> Tensor:
    """The focal loss of every position with every selected token, summed.

    Focal loss (Lin et al., ICCV 2017) as GLIP aligns words by it (BEHAVIOUR 13): the cross-entropy
    of a pair times (1 - p_t)^gamma, p_t the probability given to the truth, and times `alpha` for a
    pair that matches, 1 - `alpha` for one that does not.

    The logits are large: 90 MB for 4 pictures of 800x1344 and 256 tokens. So there is no tensor of
    their size for targets, weights or steps between; the gradient is made along with the loss, and
    is the only thing kept for the backward pass.

    Args:
        logits: (B, A, T), before the sigmoid.
        targets: B of them.
        alpha: in [0, 1].
        gamma: 0 or more.

    Returns:
        A scalar.

    Raises:
        ValueError: there are not as many targets as pictures.
    """
    if len(targets) != len(logits):
        raise ValueError(f"{len(logits)} pictures of logits came with {len(targets)} targets")
    return _TokenFocalLoss.apply(logits, tuple(targets), alpha, gamma)


class _TokenFocalLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits: Tensor,
        targets: tuple[TokenTargets, ...],
        alpha: float,
        gamma: float,
    ) -> Tensor:
        # First what the derivative is taken of, then the derivative: one tensor for both.
        work = at_least_float32(logits).clone()
        pairs = zip(work, targets)
        totals = [_picture_focal_loss(picture, target, alpha, gamma) for picture, target in pairs]
        ctx.save_for_backward(work.to(logits.dtype))
        return torch.stack(totals).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_total: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_total.to(gradient.dtype), None, None, None


def _picture_focal_loss(logits: Tensor, target: TokenTargets, alpha: float, gamma: float) -> Tensor:
    """The loss of one picture; its `logits` (A, T) are replaced by the gradient."""
    # (T,) and (K, T): the sign that makes a logit a mistake, and what a mistake weighs.
    truths, weights = _signs_and_weights(target.background, target.selected, alpha, logits)
    row_truths, row_weights = _signs_and_weights(target.tokens, target.selected, alpha, logits)
    row_loss, row_slope = _focal(logits[target.rows] * row_truths, gamma)

    # The positive rows are done; as one of many they shall be sure and right, which costs nothing.
    logits.mul_(truths).index_fill_(0, target.rows, -torch.inf)
    by_token = torch.zeros_like(truths)
    chunk_size = _CPU_CHUNK if logits.device.type == "cpu" else _ACCELERATOR_CHUNK
    for chunk in logits.split(max(1, chunk_size // max(1, len(truths)))):
        loss, slope = _focal(chunk, gamma)
        by_token += loss.sum(dim=0)
        chunk.copy_(slope)
    logits.mul_(weights * truths)
    logits[target.rows] = row_slope * row_weights * row_truths
    return (by_token * weights).sum() + (row_loss * row_weights).sum()


def _signs_and_weights(
    matches: Tensor, selected: Tensor, alpha: float, like: Tensor
) -> tuple[Tensor, Tensor]:
    signs = torch.where(matches, like.new_full((), -1), like.new_full((), 1))
    weights = torch.where(matches, like.new_full((), alpha), like.new_full((), 1 - alpha))
    return signs, weights * selected


def _focal(mistakes: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Loss and its derivative for logits of being wrong, without the weight alpha.

    With q = sigmoid(x): q^gamma softplus(x), and q^gamma (q + gamma (1 - q) softplus(x)).
    """
    entropy = softplus(mistakes, threshold=_SOFTPLUS_IS_LINEAR)
    wrong = mistakes.sigmoid()
    focus = wrong**gamma
    slope = (1 - wrong).mul_(entropy).mul_(gamma).add_(wrong).mul_(focus)
    return entropy.mul_(focus), slope


def generalized_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al., CVPR 2019) of each predicted box with its target.

    Plain geometry, w = x2 - x1, unlike the rest of the model. A predicted box whose corners crossed
    counts as empty. 1e-7 keeps empty unions from dividing by zero (BEHAVIOUR 13).

    Args:
        predicted: (N, 4) x1 y1 x2 y2.
        target: (N, 4).

    Returns:
        (N,) in [-1, 1].

    Raises:
        ValueError: the two shapes differ or are not (N, 4).
    """
    if predicted.shape != target.shape or predicted.dim() != 2 or predicted.shape[1] != 4:
        raise ValueError(
            f"predicted and target must both have shape (N, 4), got {tuple(predicted.shape)} and "
            f"{tuple(target.shape)}"
        )
    top_left, bottom_right = predicted[:, :2], predicted[:, 2:]
    bottom_right = torch.maximum(bottom_right, top_left)
    other_top_left, other_bottom_right = target[:, :2], target[:, 2:]
    shared = torch.minimum(bottom_right, other_bottom_right) - torch.maximum(
        top_left, other_top_left
    )
    around = torch.maximum(bottom_right, other_bottom_right) - torch.minimum(
        top_left, other_top_left
    )
    intersection = shared.clamp(min=0).prod(dim=1)
    areas = (bottom_right - top_left).prod(dim=1) + (other_bottom_right - other_top_left).prod(
        dim=1
    )
    union = areas - intersection + 1e-7
    enclosing = around.prod(dim=1) + 1e-7
    return intersection / union - (enclosing - union) / enclosing


def centerness_targets(boxes: Tensor, points: Tensor) -> Tensor:
    """How central each point lies in its box (FCOS, Tian et al., ICCV 2019; BEHAVIOUR 13).

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of the distances to the four sides.

    Args:
        boxes: (N, 4) x1 y1 x2 y2.
        points: (N, 2) x y, each inside its box; a point outside counts as on the edge.

    Returns:
        (N,) in [0, 1]: 1 in the middle, 0 on the edge.
    """
    before = (points - boxes[:, :2]).clamp(min=0)  # to the left and the top side
    after = (boxes[:, 2:] - points).clamp(min=0)
    smaller, larger = torch.minimum(before, after), torch.maximum(before, after)
    # A box without width has its point on both edges.
    shares = torch.where(larger > 0, smaller / larger, torch.zeros_like(larger))
    return shares.prod(dim=1).sqrt()
