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

    This is the largest tensor of a training step: (B, A, T) is 90 MB for 4 pictures of 800x1344 and
    256 tokens. So there is no such tensor of targets or weights, pictures are taken one at a time,
    and the gradient is made along with the loss: it is the only thing kept for the backward pass.

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
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        total = at_least_float32(logits.new_zeros(()))
        for index, (picture, target) in enumerate(zip(logits, targets)):
            into = None if gradient is None else gradient[index]
            total = total + _picture_focal_loss(picture, target, alpha, gamma, into)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_total: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_total.to(gradient.dtype), None, None, None


def _picture_focal_loss(
    logits: Tensor, target: TokenTargets, alpha: float, gamma: float, gradient: Tensor | None
) -> Tensor:
    """The sum over (A, T); its gradient is written into `gradient` (A, T)."""
    logits = at_least_float32(logits)
    truths = torch.where(target.background, -1.0, 1.0).to(logits)  # (T,), the sign of a mistake
    weights = torch.where(target.background, alpha, 1 - alpha).to(logits) * target.selected
    # Positive positions have rows of their own below; here they are sure and right: no loss at all.
    mistakes = (logits * truths).index_fill_(0, target.rows, -torch.inf)
    loss, slope = _focal(mistakes, gamma)
    total = (loss.sum(dim=0) * weights).sum()

    row_truths = torch.where(target.tokens, -1.0, 1.0).to(logits)  # (K, T)
    row_weights = torch.where(target.tokens, alpha, 1 - alpha).to(logits) * target.selected
    row_loss, row_slope = _focal(logits[target.rows] * row_truths, gamma)
    if gradient is not None:
        gradient.copy_(slope.mul_(weights * truths))
        gradient[target.rows] = (row_slope * row_weights * row_truths).to(gradient.dtype)
    return total + (row_loss * row_weights).sum()


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
