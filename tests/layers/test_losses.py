"""Losses against loops over the definitions, their gradients, and what costs nothing."""

import pytest
import torch
from reference import losses as reference
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from glipkit.layers.losses import (
    TokenTargets,
    centerness_targets,
    generalized_iou,
    token_focal_loss,
)

T = 5


def token_targets(rows: list[int], *, seen: int = T, background: int | None = None) -> TokenTargets:
    """Positive `rows` that light up tokens by their number; the first `seen` tokens count."""
    tokens = torch.zeros(len(rows), T, dtype=torch.bool)
    for index, row in enumerate(rows):
        tokens[index, [row % T, (row + 2) % T]] = True
    last = torch.arange(T) == (-1 if background is None else background)
    return TokenTargets(torch.tensor(rows, dtype=torch.int64), tokens, last, torch.arange(T) < seen)


TARGETS = [token_targets([1, 4, 6]), token_targets([], seen=3), token_targets([2], background=4)]


def focal_by_loops(
    logits: Tensor, targets: list[TokenTargets], alpha: float, gamma: float
) -> float:
    total = 0.0
    for picture, target in zip(logits.tolist(), targets):
        wanted = dict(zip(target.rows.tolist(), target.tokens.tolist()))
        for index, position in enumerate(picture):
            truth = wanted.get(index, target.background.tolist())
            for logit, matches, counts in zip(position, truth, target.selected.tolist()):
                total += counts * reference.focal(logit, matches, alpha, gamma)
    return total


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.5)])
def test_focal_loss_is_its_definition(alpha: float, gamma: float) -> None:
    logits = torch.randn(3, 8, T, dtype=torch.float64) * 3
    loss = token_focal_loss(logits, TARGETS, alpha=alpha, gamma=gamma)
    assert loss.item() == pytest.approx(focal_by_loops(logits, TARGETS, alpha, gamma), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_gradient(gamma: float) -> None:
    logits = torch.randn(3, 8, T, dtype=torch.float64).requires_grad_()
    gradcheck(lambda x: 3 * token_focal_loss(x, TARGETS, alpha=0.25, gamma=gamma), logits)


def test_focal_loss_of_many_positions(device: str) -> None:
    """More than are worked on at a time; autograd of the plain formula is the oracle."""
    logits = (torch.randn(1, 30000, T, device=device) * 4).requires_grad_()
    rows = torch.arange(0, 30000, 7, device=device)
    tokens = torch.rand(len(rows), T, device=device) < 0.3
    none, every = torch.zeros(T, device=device).bool(), torch.ones(T, device=device).bool()
    loss = token_focal_loss(logits, [TokenTargets(rows, tokens, none, every)], alpha=0.25, gamma=2)
    (gradient,) = torch.autograd.grad(loss, logits)

    exact = logits.detach().double().requires_grad_()
    truth = torch.zeros_like(exact)
    truth[0, rows] = tokens.double()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(exact, truth, reduction="none")
    wrong = (truth - exact.sigmoid()).abs()
    expected = ((0.75 - 0.5 * truth) * entropy * wrong**2).sum()
    assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    (by_autograd,) = torch.autograd.grad(expected, exact)
    assert_close(gradient.double(), by_autograd, rtol=1e-5, atol=1e-7)


def test_focal_loss_at_the_ends_of_the_range() -> None:
    """Sure and right costs nothing, sure and wrong the logit itself; nothing overflows."""
    logits = torch.tensor([[[50000.0, -50000.0], [50000.0, -50000.0]]], requires_grad=True)
    targets = TokenTargets(
        torch.tensor([0]), torch.tensor([[True, False]]),
        torch.zeros(2).bool(), torch.ones(2).bool(),
    )  # fmt: skip
    loss = token_focal_loss(logits, [targets], alpha=0.25, gamma=2)
    loss.backward()
    assert loss.item() == pytest.approx(0.75 * 50000)
    assert_close(logits.grad, torch.tensor([[[0.0, 0], [0.75, 0]]]))


def test_focal_loss_without_positions_or_tokens() -> None:
    for shape in ((2, 0, T), (2, 3, 0)):
        logits = torch.zeros(shape, requires_grad=True)
        nothing = torch.zeros(shape[2]).bool()
        empty = TokenTargets(
            torch.zeros(0, dtype=torch.int64), torch.zeros(0, shape[2]).bool(), nothing, nothing
        )
        loss = token_focal_loss(logits, [empty] * 2, alpha=0.25, gamma=2)
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.shape == shape


def test_focal_loss_of_low_precision_is_summed_in_float32() -> None:
    logits = torch.randn(1, 4000, T).bfloat16().requires_grad_()
    loss = token_focal_loss(logits, [token_targets([3])], alpha=0.25, gamma=2)
    loss.backward()
    exact = token_focal_loss(logits.float(), [token_targets([3])], alpha=0.25, gamma=2)
    assert loss.dtype == torch.float32
    assert_close(loss, exact)
    assert logits.grad.dtype == torch.bfloat16


def test_focal_loss_needs_targets_for_every_picture() -> None:
    with pytest.raises(ValueError, match="2 pictures of logits came with 1 targets"):
        token_focal_loss(torch.zeros(2, 3, T), [token_targets([])], alpha=0.25, gamma=2)


def random_boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2, dtype=torch.float64) * 40
    return torch.cat([corner, corner + torch.rand(count, 2, dtype=torch.float64) * 60 + 1], dim=1)


def test_giou_is_its_definition() -> None:
    predicted, target = random_boxes(50), random_boxes(50)
    predicted[:5, 2:] -= 80  # corners crossed
    predicted[5:10] += 500  # far away
    predicted[10] = target[10]
    expected = [reference.giou(*pair) for pair in zip(predicted.tolist(), target.tolist())]
    found = generalized_iou(predicted, target)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert found[10].item() == pytest.approx(1)
    assert -1 < found[5:10].max() < 0


def test_giou_gradient() -> None:
    predicted, target = random_boxes(20).requires_grad_(), random_boxes(20)
    gradcheck(lambda boxes: generalized_iou(boxes, target), predicted)


def test_giou_of_nothing_and_of_points() -> None:
    assert generalized_iou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
    point = torch.tensor([[3.0, 3, 3, 3]])
    assert generalized_iou(point, point).isfinite().all()
    with pytest.raises(ValueError, match=r"\(N, 4\), got \(2, 4\) and \(1, 4\)"):
        generalized_iou(torch.zeros(2, 4), point)


def test_centerness_is_its_definition() -> None:
    boxes = random_boxes(30)
    share = torch.rand(30, 2, dtype=torch.float64) * 0.9 + 0.05
    points = boxes[:, :2] + share * (boxes[:, 2:] - boxes[:, :2])
    expected = [reference.centerness(*pair) for pair in zip(boxes.tolist(), points.tolist())]
    assert_close(centerness_targets(boxes, points), torch.tensor(expected, dtype=torch.float64))


def test_centerness_of_special_points() -> None:
    box = torch.tensor([[0.0, 0, 10, 20]]).expand(4, 4).clone()
    box[3] = torch.tensor([5.0, 5, 5, 5])  # no width
    points = torch.tensor([[5.0, 10], [0, 10], [-3, 10], [5, 5]])  # middle, edge, outside, on it
    assert centerness_targets(box, points).tolist() == [1, 0, 0, 0]
