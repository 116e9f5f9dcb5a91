"""Random numbers go on where they stood."""

import random

import numpy as np
import pytest
import torch

from glipkit.runtime import seeding


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        *torch.rand(3),
    ]


def test_restored_generators_repeat_themselves() -> None:
    draw()  # leaves half of a pair of normal numbers in two of the generators
    state = seeding.random_state()
    first = draw()
    assert draw() != first
    seeding.restore_random_state(state)
    assert draw() == first


def test_a_state_is_made_of_what_a_checkpoint_may_hold(tmp_path) -> None:
    torch.save(seeding.random_state(), tmp_path / "state.pt")
    first = draw()
    seeding.restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == first


def test_every_rank_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    for rank in (0, 1):
        for seed in (0, 1, -1):
            monkeypatch.setattr(seeding, "rank", lambda rank=rank: rank)
            seeding.seed_rank(seed)
            drawn[rank, seed] = tuple(draw())
    assert len(set(drawn.values())) == 6
    seeding.seed_rank(-1)
    assert tuple(draw()) == drawn[1, -1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_goes_on_too() -> None:
    device = torch.device("cuda", 0)
    state = seeding.random_state(device)
    first = torch.rand(3, device=device)
    seeding.restore_random_state(state, device)
    torch.testing.assert_close(torch.rand(3, device=device), first, rtol=0, atol=0)
