"""Contrastive alignment against a loop over its equations, and that it brings pairs together."""

import math

import pytest
import torch
from reference import losses as reference
from torch import Tensor
from torch.testing import assert_close

from glipkit.modeling.head.contrastive import TEMPERATURE, ContrastiveAlignment, contrast

C, D, T = 6, 5, 4


@pytest.fixture
def head() -> ContrastiveAlignment:
    return ContrastiveAlignment(C, text_dim=D, hidden_dim=3)


def test_by_hand() -> None:
    """One box with two tokens of three, all equally near."""
    pairs = torch.tensor([[True, True, False]])
    loss = contrast(torch.zeros(1, 3), pairs)
    # Box to token: mean over its two tokens of log 3. Token to box: there is only one box.
    assert loss.item() == pytest.approx(math.log(3) / 2)


def test_is_its_definition() -> None:
    similarity = torch.randn(7, T, dtype=torch.float64) * 3
    pairs = torch.rand(7, T) < 0.4
    pairs[2], pairs[:, 1] = False, False  # a box and a token without partner
    expected = reference.contrast(similarity.tolist(), pairs.tolist())
    assert contrast(similarity, pairs).item() == pytest.approx(expected, rel=1e-12)


def random_batch() -> tuple[list[Tensor], Tensor, list[Tensor], Tensor]:
    features = [torch.randn(count, C) for count in (3, 0, 5)]
    named = [torch.rand(len(picture), T) < 0.5 for picture in features]
    mask = torch.ones(3, T, dtype=torch.bool)
    mask[2, 3:] = False
    return features, torch.randn(3, T, D), named, mask


def test_pictures_do_not_mix_and_hidden_tokens_do_not_compete(head: ContrastiveAlignment) -> None:
    features, text, named, mask = random_batch()
    whole = head.loss(features, text, named, mask)
    boxes, words = head(features[0], text[0])
    first = contrast(boxes @ words.mT / TEMPERATURE, named[0])
    boxes, words = head(features[2], text[2, :3])
    third = contrast(boxes @ words.mT / TEMPERATURE, named[2][:, :3])
    assert_close(whole, first + third)

    text[2, 3] = 1e6
    named[2][:, 3] = True
    assert_close(head.loss(features, text, named, mask), whole)


def test_no_anchor_is_zero_and_connected(head: ContrastiveAlignment) -> None:
    text = torch.randn(2, T, D, requires_grad=True)
    features = [torch.zeros(0, C, requires_grad=True) for _ in range(2)]
    named = [torch.zeros(0, T, dtype=torch.bool)] * 2
    loss = head.loss(features, text, named, torch.ones(2, T, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    for tensor in (text, *features, *head.parameters()):
        assert_close(tensor.grad, torch.zeros_like(tensor))


def test_unit_vectors(head: ContrastiveAlignment) -> None:
    for vectors in head(torch.randn(9, C), torch.randn(2, T, D).bfloat16()):
        assert vectors.dtype == torch.float32
        assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))


def test_it_learns(head: ContrastiveAlignment) -> None:
    features, text = [torch.randn(T, C)], torch.randn(1, T, D)
    named, mask = [torch.eye(T).bool()], torch.ones(1, T, dtype=torch.bool)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    first = head.loss(features, text, named, mask).item()
    for _ in range(100):
        optimizer.zero_grad()
        head.loss(features, text, named, mask).backward()
        optimizer.step()
    assert head.loss(features, text, named, mask).item() < 0.1 * first
    boxes, words = head(features[0], text[0])
    assert (boxes @ words.mT).argmax(dim=1).tolist() == list(range(T))
