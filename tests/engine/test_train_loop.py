"""The loop: what it does in which order, and what must not matter to it."""

import logging
import os
import random
import signal
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy_training import ToyRun, spoiled, times

from glipkit.engine import train_loop
from glipkit.engine.ema import Ema
from glipkit.engine.schedule import Patience, Plan, Schedule
from glipkit.structures.targets import GroundingTarget


def scores(*figures: float | None) -> Callable[[int], dict[str, float | None]]:
    """An evaluation that finds one AP after the other."""
    found = iter(figures)
    return lambda step: {"AP": next(found), "AP50": 0.5}


def test_it_learns_and_counts() -> None:
    run = ToyRun()
    outcome = run.go(60, save_every=25, log_every=20)
    logged = run.recorder.logged
    assert list(logged) == [20, 40, 60]
    assert logged[60]["loss/total"] < 0.5 * logged[20]["loss/total"]
    assert logged[20].keys() == {
        *("loss/token", "loss/box", "loss/total", "grad_norm", "lr", "skipped_steps"),
        *("time/step_seconds", "time/data_seconds", "images_per_second", "memory_mib"),
    }
    assert [save["step"] for save in run.saves] == [25, 50, 60]
    assert [(step, images) for step, images, _ in run.recorder.shown] == [
        (step, 4) for step in range(1, 61)
    ]
    assert (outcome.reason, outcome.steps, outcome.best_ap) == ("done", 60, None)
    assert run.learner.seen == [tuple(range(10 * s, 10 * s + 4)) for s in range(60)]


def test_what_is_logged_are_means_since_the_last_time() -> None:
    each, both = ToyRun(), ToyRun()
    each.go(4, log_every=1)
    both.go(4, log_every=2)
    for name in ("loss/token", "loss/box", "loss/total", "grad_norm"):
        values = [each.recorder.logged[step][name] for step in (3, 4)]
        assert both.recorder.logged[4][name] == pytest.approx(sum(values) / 2)
    totals = each.recorder.logged[1]
    assert totals["loss/total"] == pytest.approx(totals["loss/token"] + totals["loss/box"])


def test_the_rate_follows_the_schedule() -> None:
    run = ToyRun(plan=Plan(4, (2,), warmup_steps=1, warmup_factor=0.5), rate=0.1)
    run.go(4, log_every=1)
    rates = [run.recorder.logged[step]["lr"] for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.05, 0.1, 0.01, 0.01])


def test_accumulation_is_the_batch() -> None:
    whole, cut = ToyRun(), ToyRun()
    whole.go(5, clip_norm=0.5)
    cut.go(5, clip_norm=0.5, pieces=2)
    for name, weight in whole.weights().items():
        assert_close(cut.weights()[name], weight)


def disturb(run: ToyRun) -> Callable[[int], dict[str, float]]:
    """An evaluation that draws numbers, changes modes and leaves gradients off behind it."""

    def evaluate(step: int) -> dict[str, float]:
        run.learner.eval()
        torch.rand(step), random.random(), np.random.rand(3)
        torch.manual_seed(step)
        random.seed(step)
        np.random.seed(step)
        with torch.inference_mode():
            run.learner.model(torch.rand(2, 3))
        return {"AP": step / 100}

    return evaluate


@pytest.mark.parametrize("judges_mean", [False, True])
def test_an_evaluation_leaves_no_trace(judges_mean: bool) -> None:
    undisturbed = ToyRun(drop=0.5, ema=0.9)
    undisturbed.go(9)
    run = ToyRun(drop=0.5, ema=0.9)
    run.go(9, save_every=2, evaluate=disturb(run), judges_mean=judges_mean)
    assert [step for step, _ in run.recorder.evaluations] == [2, 4, 6, 8, 9]
    assert_close(run.weights(), undisturbed.weights(), rtol=0, atol=0)
    assert_close(run.ema.state_dict(), undisturbed.ema.state_dict(), rtol=0, atol=0)
    assert run.learner.training


@pytest.mark.parametrize("judges_mean", [False, True])
def test_which_weights_are_judged(judges_mean: bool) -> None:
    run = ToyRun(ema=0.5)
    seen = []

    def evaluate(step: int) -> dict[str, float]:
        seen.append(run.weights())
        return {"AP": 0.0}

    run.go(3, save_every=2, evaluate=evaluate, judges_mean=judges_mean)
    last = run.ema.state_dict() if judges_mean else run.weights()
    for name, weight in last.items():
        assert_close(seen[-1][name], weight.detach(), rtol=0, atol=0)
        assert (seen[0][name] != weight).any()


def test_the_best_is_the_first_of_the_highest(caplog: pytest.LogCaptureFixture) -> None:
    run = ToyRun()
    with caplog.at_level(logging.WARNING):
        outcome = run.go(
            6, save_every=1, evaluate=scores(float("nan"), 0.25, 0.5, None, 0.5, 0.375)
        )
    assert (outcome.best_ap, outcome.best_step) == (0.5, 3)
    assert run.best == [1, 2, 3]  # 0 is better than nothing
    assert caplog.text.count("the evaluation gave no AP; it counts as 0") == 2
    assert run.recorder.evaluations[4] == (5, {"AP": 0.5, "AP50": 0.5, "best_AP": 0.5})


def test_recall_decides_where_only_captions_are_judged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = ToyRun()
    figures = iter([0.25, 0.5, None])
    with caplog.at_level(logging.WARNING):
        outcome = run.go(3, save_every=1, evaluate=lambda step: {"R@1": next(figures), "R@5": 1.0})
    assert (outcome.best_ap, outcome.best_step) == (0.5, 2)
    assert run.recorder.evaluations[1] == (2, {"R@1": 0.5, "R@5": 1.0, "best_R@1": 0.5})
    assert "gave no R@1; it counts as 0" in caplog.text


def test_the_rate_falls_and_the_run_ends_when_validation_stands_still() -> None:
    run = ToyRun(patience=Patience(before_step=2, before_end=3), rate=0.1)
    outcome = run.go(100, save_every=2, log_every=1, evaluate=scores(0.3, 0.4, 0.4, 0.1, 0.2))
    assert (outcome.reason, outcome.steps) == ("validation stood still", 10)
    assert (outcome.best_ap, outcome.best_step) == (0.4, 4)
    rates = [run.recorder.logged[step]["lr"] for step in (8, 9, 10)]
    assert rates == pytest.approx([0.1, 0.01, 0.01])


def test_one_evaluation_at_the_end_of_the_run() -> None:
    run = ToyRun()
    run.go(4, save_every=2, evaluate=scores(0.1, 0.2))
    assert [step for step, _ in run.recorder.evaluations] == [2, 4]
    assert [save["step"] for save in run.saves] == [2, 4]


def broken_steps(run: ToyRun) -> list[int]:
    return [step for step, values in run.recorder.logged.items() if "loss/total" not in values]


def test_skipped_steps_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    run = ToyRun(spoil=spoiled(range(32, 42)), ema=0.5)
    with caplog.at_level(logging.WARNING):
        outcome = run.go(8, log_every=1, max_skipped=3)
    assert broken_steps(run) == [4, 5]
    assert outcome.skipped == run.state.skipped == 2
    assert run.state.skipped_in_row == 0
    assert [v["skipped_steps"] for v in run.recorder.logged.values()] == [0, 0, 0, 1, *[2] * 4]
    assert "step 4: the loss box was not finite (pictures 30, 31, 32, 33)" in caplog.text
    assert all(weight.isfinite().all() for weight in run.weights().values())
    assert all(mean.isfinite().all() for mean in run.ema.state_dict().values())


def test_a_skipped_step_is_as_if_it_had_not_been() -> None:
    run, other = ToyRun(spoil=spoiled(range(20, 30)), ema=0.5), ToyRun(ema=0.5)
    run.go(4)
    batches = [next(other.loader.batches(step)) for step in (0, 1, 3)]
    other.loader.batches = lambda first_step: iter(batches)
    other.go(3)
    assert_close(run.weights(), other.weights(), rtol=0, atol=0)
    assert_close(run.ema.state_dict(), other.ema.state_dict(), rtol=0, atol=0)


def test_too_many_skipped_steps_end_the_run() -> None:
    run = ToyRun(spoil=spoiled(range(32, 1000)))
    with pytest.raises(ValueError, match="3 steps in a row") as caught:
        run.go(100, save_every=2, max_skipped=3)
    message = str(caught.value)
    assert "step 6: the loss box was not finite (pictures 50, 51, 52, 53)" in message
    assert "SOLVER.BASE_LR" in message
    assert [save["step"] for save in run.saves] == [2, 4]


def test_the_count_goes_on_with_the_run() -> None:
    run = ToyRun(spoil=spoiled(range(1000)))
    run.go(2, max_skipped=3)
    again = ToyRun(spoil=spoiled(range(1000)))
    again.state.load_state_dict(run.saves[-1])
    with pytest.raises(ValueError, match=r"step 3: .* 3 steps in a row"):
        again.go(9, max_skipped=3)


def kill_self_at(run: ToyRun, step: int, number: int) -> None:
    """Let a signal arrive in the middle of a step."""

    def spoil(losses: dict[str, Tensor], targets: Sequence[GroundingTarget]) -> dict[str, Tensor]:
        if run.state.step == step - 1:
            os.kill(os.getpid(), number)
        return losses

    run.learner.spoil = spoil


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_leaves(number: int, caplog: pytest.LogCaptureFixture) -> None:
    run = ToyRun()
    kill_self_at(run, 5, number)
    before = signal.getsignal(number)
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        run.go(100)
    assert [save["step"] for save in run.saves] == [5]
    assert list(run.recorder.logged) == [5]
    assert "the same command goes on" in caplog.text
    assert signal.getsignal(number) is before


def test_an_interrupt_while_saving_comes_before_the_evaluation() -> None:
    run = ToyRun()
    run.save = lambda state: (ToyRun.save(run, state), os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run.go(9, save_every=3, evaluate=scores(0.5, 0.5))
    assert [(save["step"], save["awaits_evaluation"]) for save in run.saves] == [(3, True)]
    assert run.recorder.evaluations == []


@pytest.mark.parametrize("evaluates", [True, False])
def test_an_interrupt_after_the_last_save_is_not_lost(
    evaluates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def look(asked: bool) -> bool:
        if not looked:  # behind the only save; it comes when this look is over
            os.kill(os.getpid(), signal.SIGINT)
        looked.append(asked)
        return asked

    monkeypatch.setattr(train_loop, "any_rank", look)
    run = ToyRun(ema=0.5)
    with pytest.raises(KeyboardInterrupt):
        run.go(4, save_every=4, evaluate=scores(0.5) if evaluates else None)
    assert looked[0] is False
    assert [save["step"] for save in run.saves] == [4]
    assert run.recorder.evaluations == []
    monkeypatch.undo()
    again = resumed(run, ema=0.5)
    outcome = again.go(4, save_every=4, evaluate=scores(0.5) if evaluates else None)
    assert (outcome.steps, outcome.reason) == (4, "done")


def resumed(run: ToyRun, **options: object) -> ToyRun:
    """Another run with all that would have been saved of this one."""
    again = ToyRun(**options)
    again.learner.load_state_dict(run.learner.state_dict())
    again.optimizer.load_state_dict(run.optimizer.state_dict())
    again.schedule.load_state_dict(run.schedule.state_dict())
    again.ema.load_state_dict(run.ema.state_dict())
    again.state.load_state_dict(run.saves[-1])
    return again


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_run_that_ends_in_an_evaluation_makes_it_again(error: type[BaseException]) -> None:
    options = {"ema": 0.9, "patience": Patience(1, 4), "rate": 0.1}
    whole = ToyRun(**options)
    whole.go(8, save_every=2, evaluate=scores(0.1, 0.3, 0.2, 0.25), judges_mean=True)

    def fail(step: int) -> dict[str, float]:
        if step == 2:
            return {"AP": 0.1}
        if error is KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
        raise error

    cut = ToyRun(**options)
    with pytest.raises(error):
        cut.go(8, save_every=2, evaluate=fail, judges_mean=True)
    assert cut.saves[-1]["step"] == 4
    again = resumed(cut, **options)
    outcome = again.go(8, save_every=2, evaluate=scores(0.3, 0.2, 0.25), judges_mean=True)
    assert [step for step, _ in again.recorder.evaluations] == [4, 6, 8]
    assert (outcome.best_ap, outcome.best_step) == (0.3, 4)
    assert_close(again.weights(), whole.weights(), rtol=0, atol=0)
    assert again.schedule.state_dict() == whole.schedule.state_dict()


def test_going_on_after_the_end_only_judges() -> None:
    run = ToyRun(ema=0.5)
    run.go(4, save_every=4, evaluate=scores(0.5))
    before = run.weights()
    again = resumed(run, ema=0.5)
    outcome = again.go(4, save_every=4, evaluate=scores(0.5))
    assert (outcome.steps, outcome.best_ap, again.learner.seen) == (4, 0.5, [])
    assert_close(again.weights(), before, rtol=0, atol=0)


def test_an_ended_run_goes_on_with_more_patience() -> None:
    run = ToyRun(ema=0.5, patience=Patience(before_end=1))
    assert run.go(9, save_every=2, evaluate=scores(0.5, 0.1)).steps == 4
    # What was saved stands before the evaluation that ended the run.
    run.schedule.load_state_dict({"falls": 0, "since_step": 0, "since_best": 0})
    again = resumed(run, ema=0.5, patience=Patience(before_end=2))
    assert again.go(9, save_every=2, evaluate=scores(0.1, 0.6, 0.7, 0.8)).reason == "done"
    assert again.state.best_ap == 0.8


def test_the_scale_of_float16_is_saved_and_logged() -> None:
    run = ToyRun(spoil=times(2.0**-8))
    run.go(2, log_every=1, autocast_dtype=torch.float16)
    assert run.recorder.logged[2]["loss_scale"] == 2.0**16
    assert run.saves[-1]["scaler"]["_growth_tracker"] == 2
    again = ToyRun()
    again.state.load_state_dict(
        {**run.saves[-1], "scaler": {**run.saves[-1]["scaler"], "scale": 8.0}}
    )
    again.go(3, log_every=1, autocast_dtype=torch.float16)
    assert again.recorder.logged[3]["loss_scale"] == 8.0
    assert again.saves[-1]["scaler"]["_growth_tracker"] == 3


def test_parts_are_put_together_by_hand_too() -> None:
    """The README's page: no configuration is needed."""
    run = ToyRun()
    run.ema = Ema(run.learner, 0.9)
    run.schedule = Schedule(run.optimizer, Plan(3, cosine=True))
    assert run.go(3).steps == 3
