"""The order of learning: whole batches, every sample once, the same for every world."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from glipkit.data.train_sampler import Draw, RankBatches, TrainOrder, share_of_rank

SHAPES = np.array([0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1])  # 8 wide, 5 tall


def first_batches(order: TrainOrder, count: int, first_step: int = 0) -> list[list[Draw]]:
    return list(islice(order.batches(first_step), count))


def test_an_epoch_shows_every_sample_and_fills_its_last_batch_from_its_start() -> None:
    order = TrainOrder(10, batch_size=4, seed=0)
    assert order.steps_per_epoch == 3
    draws = [draw for batch in first_batches(order, 3) for draw in batch]
    assert sorted(draw.index for draw in draws[:10]) == list(range(10))
    assert [draw.index for draw in draws[10:]] == [draw.index for draw in draws[:2]]
    assert [draw.lap for draw in draws] == [0] * 10 + [1] * 2
    assert {draw.epoch for draw in draws} == {0}


def test_fewer_samples_than_a_batch() -> None:
    (batch,) = first_batches(TrainOrder(2, batch_size=5, seed=0), 1)
    assert Counter(draw.index for draw in batch) in ({0: 3, 1: 2}, {0: 2, 1: 3})
    assert [draw.lap for draw in batch] == [0, 0, 1, 1, 2]
    assert len(set(batch)) == 5


def test_any_step_is_a_start() -> None:
    order = TrainOrder(13, batch_size=4, seed=5, shapes=SHAPES)
    straight = first_batches(order, 40)
    for first_step in (0, 1, 3, 4, 17, 39):
        assert first_batches(order, 40 - first_step, first_step) == straight[first_step:]
    far = first_batches(order, 1, 4 * 10**9 + 2)[0]  # no replay of what came before
    assert {draw.epoch for draw in far} == {10**9}


def test_epochs_and_seeds_differ() -> None:
    order = TrainOrder(50, batch_size=5, seed=0)
    assert order.epoch(0).tolist() != order.epoch(1).tolist()
    assert order.epoch(0).tolist() == TrainOrder(50, batch_size=5, seed=0).epoch(0).tolist()
    assert order.epoch(0).tolist() != TrainOrder(50, batch_size=5, seed=1).epoch(0).tolist()


def test_files_can_be_learnt_in_their_order() -> None:
    order = TrainOrder(10, batch_size=4, seed=0, in_order=True)
    batches = [[draw.index for draw in batch] for batch in first_batches(order, 4)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1], [0, 1, 2, 3]]


def test_files_in_order_still_give_batches_of_a_shape() -> None:
    order = TrainOrder(13, batch_size=4, seed=0, shapes=SHAPES, in_order=True)
    first, second, third = order.epoch(0)[:3].tolist()
    assert (first, second, third) == ([0, 2, 3, 5], [1, 4, 7, 9], [6, 8, 10, 11])


def test_equal_draws_have_equal_chances() -> None:
    draws = [Draw(0, 0), Draw(0, 0, 1), Draw(1, 0), Draw(0, 1)]
    numbers = [draw.chance(0).python.random() for draw in draws] + [
        Draw(0, 0).chance(1).python.random()
    ]
    assert len(set(numbers)) == 5
    assert numbers[0] == Draw(0, 0).chance(0).python.random()


def test_batches_have_one_shape_until_only_leftovers_remain() -> None:
    order = TrainOrder(13, batch_size=3, seed=0, shapes=SHAPES)
    for epoch in range(5):
        batches = order.epoch(epoch)
        assert batches.shape == (5, 3)
        assert sorted(batches.reshape(-1)[:13].tolist()) == list(range(13))
        # 8 wide make two whole batches and 5 tall one; 2 and 2 are left over.
        assert all(len(set(SHAPES[batch])) == 1 for batch in batches[:3])
        assert sorted(SHAPES[batches.reshape(-1)[9:13]]) == [0, 0, 1, 1]


def test_batches_of_a_shape_follow_the_order_drawn() -> None:
    order = TrainOrder(13, batch_size=3, seed=0, shapes=SHAPES)
    drawn = TrainOrder(13, batch_size=3, seed=0).epoch(0).reshape(-1)[:13].tolist()
    waiting, whole = {0: [], 1: []}, []
    for index in drawn:
        group = waiting[SHAPES[index]]
        group.append(index)
        if len(group) == 3:
            whole.append(list(group))
            group.clear()
    assert order.epoch(0)[: len(whole)].tolist() == whole


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_share_every_batch_in_contiguous_pieces(world_size: int) -> None:
    order = TrainOrder(20, batch_size=6, seed=0)
    ranks = [
        iter(RankBatches(order, first_step=2, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for batch in first_batches(order, 6, 2):
        pieces = [next(rank) for rank in ranks]
        assert {len(piece) for piece in pieces} == {6 // world_size}
        assert [draw for piece in pieces for draw in piece] == batch


def test_shares() -> None:
    assert share_of_rank(64, 16) == 4
    assert share_of_rank(64, 16, pieces=2) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((6, 4), r"IMS_PER_BATCH is 6 .* 4 processes cannot.*set SOLVER\.IMS_PER_BATCH 4"),
        ((2, 4), r"set SOLVER\.IMS_PER_BATCH 4, or start a number .* divides 2"),
        ((12, 2, 4), r"ACCUMULATION is 4, .* 6 pictures .*\(SOLVER\.IMS_PER_BATCH 12 / 2.*1, 2, 3"),
    ],
)
def test_shares_that_do_not_come_out_even(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        share_of_rank(*arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples": 0}, "no samples to learn from"),
        ({"batch_size": 0}, "at least 1 sample, got 0"),
        ({"seed": -1}, "SEED must be at least 0, got -1"),
        ({"shapes": SHAPES}, "5 samples came with 13 shapes"),
    ],
)
def test_bad_orders(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainOrder(**{"num_samples": 5, "batch_size": 2, "seed": 0, **changes})


def test_bad_starts() -> None:
    order = TrainOrder(5, batch_size=2, seed=0)
    with pytest.raises(ValueError, match="steps count from 0, got -1"):
        next(order.batches(-1))
    with pytest.raises(ValueError, match=r"rank must lie in \[0, 2\), got 2"):
        RankBatches(order, first_step=0, rank=2, world_size=2)
