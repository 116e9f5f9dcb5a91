"""The training loop, on one page, in the order things happen."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from glipkit.data.train_batch import TrainBatch
from glipkit.engine.ema import Ema
from glipkit.engine.interrupts import Interrupts
from glipkit.engine.loop_state import LoopSettings, LoopState, Outcome
from glipkit.engine.meter import Meter
from glipkit.engine.schedule import Schedule
from glipkit.engine.step import Stepper, StepReport
from glipkit.runtime.distributed import any_rank, broadcast_object, gather_objects
from glipkit.runtime.seeding import random_state, restore_random_state
from glipkit.structures.figures import deciding

logger = logging.getLogger(__name__)


class Batches(Protocol):
    """Where batches come from."""

    def batches(self, first_step: int) -> Iterator[TrainBatch]:
        """This rank's batches from a step on, without end."""


class Recorder(Protocol):
    """Who keeps the numbers and shows the progress."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keep numbers."""

    def advance(self, step: int, images: int, postfix: Mapping[str, str]) -> None:
        """Show that a step was made."""

    def evaluated(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Keep what an evaluation found."""


def train(
    learner: nn.Module,
    loader: Batches,
    optimizer: Optimizer,
    schedule: Schedule,
    *,
    settings: LoopSettings,
    state: LoopState,
    device: torch.device,
    recorder: Recorder,
    set_modes: Callable[[], None],
    save: Callable[[LoopState], None],
    evaluate: Callable[[int], Mapping[str, float | None]] | None = None,
    keep_best: Callable[[int], None] | None = None,
    ema: Ema | None = None,
) -> Outcome:
    """Learn until the steps are done or validation stands still. All ranks call this together.

    Args:
        learner: as `parallel.wrap` gave it.
        loader: of this rank's batches.
        optimizer: of the learner.
        schedule: of the optimizer.
        settings: how long, how often.
        state: where to begin; changed as the run goes on.
        device: where this rank computes.
        recorder: keeps the numbers.
        set_modes: puts what learns into training mode and what is frozen into evaluation mode.
        save: writes everything needed to go on. Called before an evaluation, which a run that is
            stopped meanwhile makes again.
        evaluate: step -> figures of the weights as they are then, of which one decides which are
            the best (`deciding`); those of rank 0 count.
        keep_best: keeps the weights as they are then, which are the best so far.
        ema: the running mean of the weights.

    Raises:
        ValueError: losses or gradients were not finite for too many steps in a row.
        KeyboardInterrupt: the run was asked to stop; it is saved.
    """
    stepper = Stepper(
        *(learner, optimizer),
        device=device,
        pieces=settings.pieces,
        autocast_dtype=settings.autocast_dtype,
        clip_norm=settings.clip_norm,
        norm_type=settings.norm_type,
    )
    if state.scaler:
        stepper.scaler.load_state_dict(state.scaler)
    mean = ema if settings.judges_mean else None
    meter = Meter(settings.log_every, device)
    batches = loader.batches(state.step)
    set_modes()
    with Interrupts() as interrupts:
        while True:
            if state.awaits_evaluation and evaluate is not None:
                with mean.applied() if mean is not None else nullcontext(), interrupts.saved():
                    better = _judge(state, evaluate, keep_best, recorder, device)
                schedule.judged(better=better)
                set_modes()
            state.awaits_evaluation = False
            if state.step >= settings.total_steps or schedule.is_exhausted:
                # Nobody has looked since the last save; whatever follows the run must not begin.
                if any_rank(interrupts.asked):
                    raise KeyboardInterrupt
                break

            started = time.perf_counter()
            batch = next(batches).to(device)
            fetched = time.perf_counter()

            rate = schedule.apply(state.step)
            report = stepper(batch, asked=lambda: interrupts.asked)
            state.step += 1
            if report.broken:
                _count_broken(report, state, settings.max_skipped)
            elif not report.overflow:
                state.skipped_in_row = 0
                if ema is not None:
                    ema.update()

            last = state.step == settings.total_steps
            meter.add(report, len(batch), rate, fetched - started, time.perf_counter() - started)
            recorder.advance(state.step, meter.num_images, meter.postfix())
            if last or report.stop or state.step % settings.log_every == 0:
                recorder.log(state.step, meter.flush() | _figures(state, stepper))

            due = last or state.step % settings.save_every == 0
            if due or report.stop:  # before an evaluation, which can then fail without a loss
                state.awaits_evaluation = due and settings.evaluates and evaluate is not None
                state.scaler = stepper.scaler.state_dict()
                save(state)
            if report.stop or (due and any_rank(interrupts.asked)):
                logger.warning("stopped and saved at step %d; the same command goes on", state.step)
                raise KeyboardInterrupt
    reason = "done" if state.step >= settings.total_steps else "validation stood still"
    return Outcome(reason, state.step, state.best_ap, state.best_step, state.skipped)


def _judge(
    state: LoopState,
    evaluate: Callable[[int], Mapping[str, float | None]],
    keep_best: Callable[[int], None] | None,
    recorder: Recorder,
    device: torch.device,
) -> bool:
    """Whether the weights are the best so far. Leaves no trace: the run goes on with its chance."""
    chance = random_state(device)
    metrics = broadcast_object(evaluate(state.step))  # what follows is the same on all ranks
    name = deciding(metrics)
    figure = metrics.get(name)
    if figure is None or math.isnan(figure):
        logger.warning("step %d: the evaluation gave no %s; it counts as 0", state.step, name)
        figure = 0.0
    better = state.best_ap is None or figure > state.best_ap
    if better:
        state.best_ap, state.best_step = figure, state.step
        if keep_best is not None:
            keep_best(state.step)
    recorder.evaluated(state.step, {**metrics, f"best_{name}": state.best_ap})
    restore_random_state(chance, device)
    return better


def _figures(state: LoopState, stepper: Stepper) -> dict[str, float]:
    """What is logged beside the means."""
    scale = stepper.loss_scale
    return {"skipped_steps": state.skipped} | ({} if scale is None else {"loss_scale": scale})


def _count_broken(report: StepReport, state: LoopState, limit: int) -> None:
    """Say which step was skipped and why; give up after too many in a row, on all ranks alike."""
    state.skipped += 1
    state.skipped_in_row += 1
    shares = broadcast_object(gather_objects(report.suspects))
    ids = ", ".join(str(image_id) for share in shares for image_id in share)
    what = f"step {state.step}: the {report.broken} was not finite (pictures {ids})"
    if state.skipped_in_row >= limit:
        raise ValueError(
            f"{what}. So it was for {limit} steps in a row, and the run stops; what was saved "
            "before stands. Lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS, train without "
            "SOLVER.USE_AMP, or look at these pictures and their boxes"
        )
    logger.warning("%s; skipped, %d in a row", what, state.skipped_in_row)
