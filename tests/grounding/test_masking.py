import random
from collections import Counter

import pytest
import torch

from glipkit.grounding.masking import IGNORED, HiddenWords, hide_words

MASK, SPECIAL = 103, frozenset({0, 100, 101, 102, 103})


def hide(ids: torch.Tensor, allowed: torch.Tensor, seed: int = 0) -> HiddenWords:
    return hide_words(
        ids, allowed, mask_id=MASK, special_ids=SPECIAL, vocabulary_size=2000,
        chance=random.Random(seed),
    )  # fmt: skip


def test_shares_of_what_is_asked_and_how() -> None:
    ids = torch.full((60_000,), 1500)
    shown, labels = hide(ids, torch.ones(60_000, dtype=torch.bool))
    asked = labels != IGNORED
    assert set(labels[asked].tolist()) == {1500}
    assert asked.float().mean().item() == pytest.approx(0.15, abs=0.005)
    how = Counter(
        {MASK: "mask", 1500: "kept"}.get(token, "other") for token in shown[asked].tolist()
    )
    assert how["mask"] / asked.sum() == pytest.approx(0.8, abs=0.015)
    assert how["kept"] / asked.sum() == pytest.approx(0.1, abs=0.015)
    assert (shown[~asked] == 1500).all()
    assert not set(shown.tolist()) & (SPECIAL - {MASK})
    assert (ids == 1500).all()


def test_only_where_it_is_allowed_and_never_special_tokens() -> None:
    ids = torch.tensor([101, *range(1000, 1500), 102])
    allowed = torch.arange(502) % 2 == 0  # [CLS] among them
    for seed in range(20):
        shown, labels = hide(ids, allowed, seed)
        assert (shown[~allowed] == ids[~allowed]).all()
        assert (labels[~allowed] == IGNORED).all()
        assert shown[0] == 101
        assert labels[0] == IGNORED
    assert (hide(ids, torch.zeros_like(allowed)).labels == IGNORED).all()


def test_labels_restore_the_prompt() -> None:
    ids = torch.arange(1000, 1400)
    shown, labels = hide(ids, torch.ones(400, dtype=torch.bool))
    assert not torch.equal(shown, ids)
    assert torch.equal(torch.where(labels == IGNORED, shown, labels), ids)


def test_the_same_chance_hides_the_same_words() -> None:
    ids, allowed = torch.arange(1000, 1400), torch.ones(400, dtype=torch.bool)
    assert torch.equal(hide(ids, allowed, 1).token_ids, hide(ids, allowed, 1).token_ids)
    assert not torch.equal(hide(ids, allowed, 1).labels, hide(ids, allowed, 2).labels)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"shape \(T,\), got \(3,\) and \(2,\)"):
        hide(torch.tensor([5, 6, 7]), torch.ones(2, dtype=torch.bool))
