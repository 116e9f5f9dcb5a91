"""Learning rate and weight decay, step by step, against numbers written by hand."""

import pytest
import torch
from torch import nn

from glipkit.engine.schedule import Patience, Plan, Schedule, milestones


def make_schedule(
    plan: Plan, patience: Patience | None = None, bases: tuple[float, ...] = (1.0,)
) -> tuple[Schedule, torch.optim.Optimizer]:
    groups = [
        {"params": [nn.Parameter(torch.zeros(1))], "lr": base, "weight_decay": base / 10}
        for base in bases
    ]
    for group in groups:
        group |= {"base_lr": group["lr"], "base_weight_decay": group["weight_decay"]}
    optimizer = torch.optim.AdamW(groups)
    return Schedule(optimizer, plan, patience or Patience()), optimizer


def rates(schedule: Schedule, steps: list[int]) -> list[float]:
    return [schedule.apply(step) for step in steps]


def test_as_published() -> None:
    """GLIP-T: from a thousandth over 2000 steps, then a tenth at 67 % and 89 % of the run."""
    places = milestones((0.67, 0.89), 100_000)
    assert places == (67_000, 89_000)
    plan = Plan(100_000, places, warmup_steps=2000, warmup_factor=0.001)
    schedule, _ = make_schedule(plan, bases=(1e-4,))
    steps = [0, 500, 1000, 1999, 2000, 66_999, 67_000, 88_999, 89_000, 99_999]
    factors = [0.001, 0.25075, 0.5005, 0.9995005, 1, 1, 0.1, 0.1, 0.01, 0.01]
    assert rates(schedule, steps) == pytest.approx([1e-4 * factor for factor in factors])


def test_each_group_falls_from_its_own_rate() -> None:
    schedule, optimizer = make_schedule(Plan(10, (5,)), bases=(1.0, 0.25, 2.0))
    assert schedule.apply(5) == pytest.approx(0.1)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.1, 0.025, 0.2])
    assert [g["weight_decay"] for g in optimizer.param_groups] == pytest.approx([0.1, 0.025, 0.2])


def test_constant_warm_up() -> None:
    plan = Plan(10, warmup_steps=3, warmup_factor=0.2, warmup_method="constant")
    assert rates(make_schedule(plan)[0], [0, 2, 3, 9]) == pytest.approx([0.2, 0.2, 1, 1])


def test_milestones_as_steps_and_as_shares() -> None:
    assert milestones((30, 40.0), 100) == (30, 40)
    assert milestones((0.29, 0.57), 100) == (29, 57)  # 0.29 * 100 is a little less than 29
    assert milestones((), 100) == ()


def test_cosine() -> None:
    plan = Plan(12, (6,), warmup_steps=2, warmup_factor=0.5, cosine=True, min_rate=0.2)
    schedule, _ = make_schedule(plan)
    # From 1 at step 2 to 0.2 at step 12, half way between at step 7; milestones are not looked at.
    expected = [0.5, 0.75, 1.0, 0.6, 0.2, 0.2]
    assert rates(schedule, [0, 1, 2, 7, 12, 13]) == pytest.approx(expected)
    quarter = 0.2 + 0.8 * (1 + 2**-0.5) / 2
    assert plan.annealed(4.5, 1.0) == pytest.approx(quarter)


def test_a_cosine_may_begin_late() -> None:
    plan = Plan(12, warmup_steps=2, warmup_factor=0.5, cosine=True, flat=2 / 3, min_rate=0.2)
    # The full rate until step 8, half way down at step 10.
    expected = [0.5, 1.0, 1.0, 0.6, 0.2]
    assert rates(make_schedule(plan)[0], [0, 2, 8, 10, 12]) == pytest.approx(expected)
    # A warm-up that is longer than the flat part is not cut short; all of a run may be flat.
    late = Plan(12, warmup_steps=4, warmup_factor=0.0, cosine=True, flat=0.1)
    assert rates(make_schedule(late)[0], [2, 4, 8, 12]) == pytest.approx([0.5, 1, 0.5, 0])
    assert rates(make_schedule(Plan(10, cosine=True, flat=1.0))[0], [0, 9]) == [1, 1]


def test_a_rate_below_the_floor_is_not_raised() -> None:
    cosine, _ = make_schedule(Plan(10, cosine=True, min_rate=0.5), bases=(0.1,))
    assert rates(cosine, [0, 5, 10]) == pytest.approx([0.1, 0.1, 0.1])
    automatic, _ = make_schedule(Plan(10, min_rate=0.5), Patience(before_step=1), bases=(0.1,))
    automatic.judged(better=False)
    assert automatic.apply(3) == pytest.approx(0.1)


def test_weight_decay_falls_before_the_rate() -> None:
    """WEIGHT_DECAY_SCHEDULE of GLIP-L: at two thirds of the way to each milestone."""
    plan = Plan(100, (60, 90), decay_ratio=0.667)
    schedule, optimizer = make_schedule(plan)
    decays = []
    for step in (0, 40, 41, 60, 61, 99):  # 0.667 * 60 = 40.02, 0.667 * 90 = 60.03
        schedule.apply(step)
        decays.append(optimizer.param_groups[0]["weight_decay"])
    assert decays == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_automatic_steps() -> None:
    """A new best resets the count, and so does a fall; the warm-up stays, milestones do not."""
    plan = Plan(100, (1,), warmup_steps=2, warmup_factor=0.5, min_rate=0.005)
    schedule, _ = make_schedule(plan, Patience(before_step=2))
    seen = [schedule.apply(1), schedule.apply(50)]
    for better in (True, False, True, False, False, False, False, False, False):
        schedule.judged(better=better)
        seen.append(schedule.apply(50))
    expected = [0.75, 1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.005]
    assert seen == pytest.approx(expected)


def test_automatic_steps_win_over_the_cosine() -> None:
    schedule, _ = make_schedule(Plan(10, cosine=True), Patience(before_step=1))
    assert rates(schedule, [0, 5, 9]) == [1, 1, 1]
    schedule.judged(better=False)
    assert schedule.apply(9) == pytest.approx(0.1)


def test_the_end_comes_when_validation_stands_still() -> None:
    schedule, _ = make_schedule(Plan(10), Patience(before_step=1, before_end=3))
    ends = []
    for better in (True, False, False, True, False, False, False):
        schedule.judged(better=better)
        ends.append(schedule.is_exhausted)
    assert ends == [False] * 6 + [True]


def test_without_patience_a_run_never_ends_early() -> None:
    schedule, _ = make_schedule(Plan(10))
    for _ in range(50):
        schedule.judged(better=False)
    assert not schedule.is_exhausted
    assert schedule.apply(3) == 1


def test_going_on_needs_the_step_and_the_state_alone() -> None:
    plan, patience = Plan(100, warmup_steps=5, warmup_factor=0.1), Patience(2, 4)
    first, _ = make_schedule(plan, patience)
    for better in (True, False, False, False):
        first.judged(better=better)
    second, _ = make_schedule(plan, patience)
    second.load_state_dict(first.state_dict())
    for schedule in (first, second):
        assert schedule.apply(7) == pytest.approx(0.1)
        schedule.judged(better=False)
        assert schedule.apply(8) == pytest.approx(0.01)
        assert schedule.is_exhausted


def test_a_new_base_rate_outlives_the_optimizers_saved_state() -> None:
    _, before = make_schedule(Plan(10), bases=(1.0,))
    schedule, optimizer = make_schedule(Plan(10), bases=(0.5,))
    optimizer.load_state_dict(before.state_dict())
    assert schedule.apply(0) == 0.5
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.05)
