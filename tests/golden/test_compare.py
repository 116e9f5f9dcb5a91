"""The measure must be able to say no."""

import numpy as np
import pytest
import torch
from golden.compare import Golden, Tolerance, assert_follows, count_unmatched, golden_tensor

LIMIT = Tolerance(1e-3, 1e-2)


def sampled(values: torch.Tensor, count: int) -> Golden:
    flat = values.double().flatten().numpy()
    step = len(flat) // count
    goldens = {
        "x.sample": flat[: count * step : step].astype(np.float32),
        "x.shape": np.array(values.shape),
        "x.stats": np.array([flat.mean(), flat.std(), flat.min(), flat.max(),
                             np.linalg.norm(flat)]),
    }  # fmt: skip
    return golden_tensor(goldens, "x")


def test_the_same_follows() -> None:
    x = torch.randn(3, 5, 7)
    assert assert_follows(x, sampled(x, 21), LIMIT) == (0, 0)
    whole = golden_tensor({"x": x.numpy()}, "x")
    assert assert_follows(x + 1e-5, whole, LIMIT)[1] == pytest.approx(1e-5, rel=0.1)


def test_differences_are_named() -> None:
    x = torch.randn(3, 5, 7)
    golden = sampled(x, 21)
    with pytest.raises(AssertionError, match="relative L2"):
        assert_follows(x * 1.01, golden, LIMIT)
    with pytest.raises(AssertionError, match=r"shape \(3, 5\)"):
        assert_follows(x[:, :, 0], golden, LIMIT)
    hidden = x.clone()
    hidden[0, 0, 1] += 9  # between two samples: only the statistics see it
    with pytest.raises(AssertionError, match="the reference's"):
        assert_follows(hidden, golden, LIMIT)
    assert_follows(hidden, golden, LIMIT, keep=torch.ones(1, 1, 1, dtype=torch.bool))


def test_masked_elements_do_not_count() -> None:
    x = torch.randn(2, 4)
    keep = torch.tensor([[True], [False]])
    other = x.clone()
    other[1] += 5
    golden = golden_tensor({"x": x.numpy()}, "x")
    assert assert_follows(other, golden, LIMIT, keep=keep) == (0, 0)
    with pytest.raises(AssertionError, match="4 elements compared"):
        assert_follows(other.flip(0), golden, LIMIT, keep=keep)


def detections(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.rand(count, 4) * 100, torch.rand(count), torch.arange(count) % 3


def test_detections_pair_up() -> None:
    boxes, scores, labels = detections(6)
    expected = (boxes.numpy(), scores.numpy(), labels.numpy())
    order = torch.randperm(6)
    assert count_unmatched((boxes[order], scores[order], labels[order]), expected) == 0
    assert count_unmatched((boxes[:4], scores[:4], labels[:4]), expected) == 2
    assert count_unmatched((boxes, scores, (labels + 1) % 3), expected) == 6
    assert count_unmatched((boxes + 0.04, scores, labels), expected) == 0
    assert count_unmatched((boxes + 0.06, scores, labels), expected) == 6
    assert count_unmatched((boxes, scores + 2e-4, labels), expected) == 6
    # One detection is no partner of two.
    twice = (boxes[[0, 0]], scores[[0, 0]], labels[[0, 0]])
    assert count_unmatched(twice, tuple(part[:1] for part in expected)) == 1
    none = tuple(part[:0] for part in (boxes, scores, labels))
    assert count_unmatched(none, expected) == 6
    assert count_unmatched((boxes, scores, labels), tuple(p.numpy() for p in none)) == 6
