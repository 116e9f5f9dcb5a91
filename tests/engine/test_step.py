"""One step: pieces that add up, what is skipped, and how float16 finds its scale."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy_training import CPU, ToyRun, spoiled, times, toy_batch

from glipkit.engine.step import Stepper, StepReport
from glipkit.structures.targets import GroundingTarget


def step(run: ToyRun, number: int = 0, **options: object) -> StepReport:
    return Stepper(run.module, run.optimizer, device=CPU, **options)(toy_batch(number))


@pytest.mark.parametrize("pieces", [2, 4])
def test_pieces_add_up_to_the_batch(pieces: int) -> None:
    whole, cut = ToyRun(), ToyRun()
    for number in range(3):
        expected = step(whole, number, clip_norm=0.1)
        found = step(cut, number, clip_norm=0.1, pieces=pieces)
        assert found.losses == pytest.approx(expected.losses)
        assert found.grad_norm == pytest.approx(expected.grad_norm)
        assert expected.grad_norm > 0.1
    assert len(cut.learner.seen) == pieces * len(whole.learner.seen)
    for name, weight in whole.weights().items():
        assert_close(cut.weights()[name], weight)


def test_a_batch_that_has_no_such_pieces() -> None:
    with pytest.raises(ValueError, match="batch of 4 pictures cannot be split in 3 parts"):
        step(ToyRun(), pieces=3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_loss_that_is_not_finite_changes_nothing(value: float, pieces: int) -> None:
    run = ToyRun(spoil=spoiled(range(2, 3), value))
    step(run, 1)
    before, moments = run.weights(), str(run.optimizer.state_dict())
    report = step(run, 0, pieces=pieces)
    assert report.broken == "loss box"
    assert report.suspects == ((0, 1, 2, 3) if pieces == 1 else (2, 3))
    assert report.grad_norm is None
    assert_close(run.weights(), before, rtol=0, atol=0)
    assert str(run.optimizer.state_dict()) == moments
    assert all(parameter.grad is None for parameter in run.learner.parameters())


def bad_gradient(
    losses: dict[str, Tensor], targets: Sequence[GroundingTarget]
) -> dict[str, Tensor]:
    """The square root of 0 is 0, with a slope that is none."""
    return {**losses, "box": (losses["box"] * 0).sqrt()}


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    run = ToyRun(spoil=bad_gradient)
    before = run.weights()
    report = step(run)
    assert (report.broken, report.overflow) == ("gradient", False)
    assert report.suspects == (0, 1, 2, 3)
    assert_close(run.weights(), before, rtol=0, atol=0)


def test_a_step_that_is_asked_to_stop_is_made_first() -> None:
    run = ToyRun()
    before = run.weights()
    report = Stepper(run.module, run.optimizer, device=CPU)(toy_batch(0), asked=lambda: True)
    assert report.stop
    assert not step(run).stop
    assert (run.weights()["criterion.bias"] != before["criterion.bias"]).all()


def test_bfloat16_computes_in_bfloat16() -> None:
    run = ToyRun()
    types = []
    run.learner.model[0].register_forward_hook(lambda _, __, out: types.append(out.dtype))
    stepper = Stepper(run.module, run.optimizer, device=CPU, autocast_dtype=torch.bfloat16)
    assert stepper.loss_scale is None
    report = stepper(toy_batch(0))
    assert types == [torch.bfloat16]
    assert report.losses == pytest.approx(step(ToyRun()).losses, rel=0.02)
    assert {p.dtype for p in run.learner.parameters()} == {torch.float32}


def test_the_scale_of_float16_is_searched_without_calling_it_a_failure() -> None:
    run = ToyRun(spoil=times(16.0), rate=1e-4)  # the gradients are beyond float16 at first
    before = run.weights()
    stepper = Stepper(run.module, run.optimizer, device=CPU, autocast_dtype=torch.float16)
    scales, overflows = [stepper.loss_scale], []
    for _ in range(12):
        report = stepper(toy_batch(0))
        assert not report.broken
        overflows.append(report.overflow)
        scales.append(stepper.loss_scale)
        if report.overflow:
            assert_close(run.weights(), before, rtol=0, atol=0)
    searched = overflows.index(False)
    assert searched > 1
    assert scales[: searched + 1] == [2.0 ** (16 - i) for i in range(searched + 1)]
    assert overflows[searched:] == [False] * (12 - searched)  # and it has found it
    assert (run.weights()["criterion.bias"] != before["criterion.bias"]).all()


def test_float16_and_float32_see_the_same_gradients() -> None:
    exact, half = (ToyRun(spoil=times(2.0**-8)) for _ in range(2))
    expected = step(exact, clip_norm=0.001)
    found = step(half, clip_norm=0.001, autocast_dtype=torch.float16)
    assert found.grad_norm == pytest.approx(expected.grad_norm, rel=0.01)  # unscaled
    assert expected.grad_norm > 0.001
    for name, weight in exact.weights().items():
        assert_close(half.weights()[name], weight, rtol=0.01, atol=0.001)


def test_the_growth_of_the_scale_starts_again_after_an_overflow() -> None:
    run = ToyRun(spoil=times(2.0**-8))
    stepper = Stepper(run.module, run.optimizer, device=CPU, autocast_dtype=torch.float16)
    for _ in range(3):
        stepper(toy_batch(0))
    assert stepper.scaler.state_dict()["_growth_tracker"] == 3
    run.learner.spoil = bad_gradient
    assert stepper(toy_batch(0)).overflow
    assert stepper.scaler.state_dict()["_growth_tracker"] == 0


def test_float16_gradients_that_no_scale_helps_are_a_failure() -> None:
    run = ToyRun(spoil=bad_gradient)
    stepper = Stepper(run.module, run.optimizer, device=CPU, autocast_dtype=torch.float16)
    reports = [stepper(toy_batch(0)) for _ in range(19)]
    assert [report.overflow for report in reports] == [True] * 16 + [False] * 3
    assert [report.broken for report in reports] == [""] * 16 + ["gradient"] * 3
    assert stepper.loss_scale == 1.0


def test_a_float16_loss_that_is_not_finite_is_no_overflow() -> None:
    run = ToyRun(spoil=spoiled(range(1)))
    report = step(run, autocast_dtype=torch.float16)
    assert report.broken == "loss box"
    assert not report.overflow
