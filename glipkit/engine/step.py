"""One optimizer step over all processes and pieces of a batch, or the reason there is none."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from glipkit.data.train_batch import TrainBatch
from glipkit.engine.optimizer import clip_gradients
from glipkit.engine.parallel import no_sync, unwrap
from glipkit.modeling.criterion import Assignment
from glipkit.runtime.distributed import sum_over_ranks, world_size


class StepReport(NamedTuple):
    """What one step came to, the same on every rank."""

    losses: dict[str, float]  # mean over ranks; of what was computed before a step was skipped
    grad_norm: float | None  # before clipping; None where it did not come to that
    broken: str  # what was not finite; empty for a step that was made
    overflow: bool  # gradients beyond float16, which the scaler answers; no failure
    stop: bool  # some rank was asked to stop


class Stepper:
    """Makes steps: assign, forward, judge, backward, clip, step, in pieces where asked.

    Every decision is made of numbers that were summed over the ranks, so that all ranks decide the
    same: whether the losses are finite before anyone goes backward, whether the gradients are
    before anyone steps.

    Args:
        learner: as `parallel.wrap` gave it.
        optimizer: of its trained parameters.
        device: where this process computes.
        pieces: that a batch is worked through in; losses and gradients are those of the whole.
        autocast_dtype: bfloat16 or float16 for the matrix work; None computes in the weights'.
        clip_norm: largest norm of all gradients; None clips nothing.
        norm_type: exponent of that norm.
    """

    def __init__(
        self,
        learner: nn.Module,
        optimizer: Optimizer,
        *,
        device: torch.device,
        pieces: int = 1,
        autocast_dtype: torch.dtype | None = None,
        clip_norm: float | None = None,
        norm_type: float = 2.0,
    ) -> None:
        self._learner = learner
        self._optimizer = optimizer
        self._device = device
        self._pieces = pieces
        self._autocast_dtype = autocast_dtype
        self._clip_norm = clip_norm
        self._norm_type = norm_type
        self._trained = [p for p in learner.parameters() if p.requires_grad]
        # Only float16 needs it; disabled it hands everything through.
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=autocast_dtype is torch.float16, init_scale=2.0**14
        )

    def __call__(self, batch: TrainBatch, *, stop: bool = False) -> StepReport:
        """Learn from a batch.

        Args:
            batch: this rank's, on the device.
            stop: this rank was asked to stop; handed on to all.
        """
        pieces = batch.split(self._pieces)
        assignments = [self._assign(piece) for piece in pieces]
        normalisers, stopped = self._normalisers(assignments, stop)
        self._optimizer.zero_grad(set_to_none=True)
        total: dict[str, float] = {}
        for index, (piece, assignment) in enumerate(zip(pieces, assignments)):
            with no_sync(self._learner, enabled=index + 1 < len(pieces)):
                with self._autocast():
                    losses = self._learner(
                        *(piece.images, piece.prompts, piece.targets),
                        *(assignment, normalisers, piece.hidden_words),
                    )
                seen = self._seen(losses)
                total = {name: total.get(name, 0.0) + value for name, value in seen.items()}
                broken = [name for name, value in seen.items() if not _is_finite(value)]
                if broken:  # on every rank alike, so nobody waits for a gradient that never comes
                    self._optimizer.zero_grad(set_to_none=True)
                    return StepReport(total, None, f"loss {', '.join(broken)}", False, stopped)
                self.scaler.scale(sum(losses.values())).backward()
        return self._finish(total, stopped)

    def _finish(self, total: dict[str, float], stopped: bool) -> StepReport:
        self.scaler.unscale_(self._optimizer)
        norm = clip_gradients(self._trained, largest=self._clip_norm, norm_type=self._norm_type)
        grad_norm = float(norm)
        if not _is_finite(grad_norm):
            self._optimizer.zero_grad(set_to_none=True)
            if self.scaler.is_enabled():  # shards overflow apart, but all must scale alike
                self.scaler.update(self.scaler.get_scale() * self.scaler.get_backoff_factor())
                return StepReport(total, grad_norm, "", True, stopped)
            return StepReport(total, grad_norm, "gradient", False, stopped)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        return StepReport(total, grad_norm, "", False, stopped)

    def _assign(self, piece: TrainBatch) -> Assignment:
        return unwrap(self._learner).assign(
            piece.images, piece.prompts, piece.targets, piece.hidden_words
        )

    def _normalisers(self, assignments: list[Assignment], stop: bool) -> tuple[Tensor, bool]:
        """Totals of all pieces and ranks per rank; and whether any rank wants to stop."""
        totals = torch.stack([assignment.totals for assignment in assignments]).sum(dim=0)
        shared = sum_over_ranks(torch.cat([totals, totals.new_tensor([float(stop)])]))
        asked = bool(shared[-1] > 0) if world_size() > 1 else stop
        return shared[:-1] / world_size(), asked

    def _seen(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Losses as numbers, averaged over the ranks; not finite if they are not on any rank."""
        values = torch.stack([loss.detach().double() for loss in losses.values()])
        return dict(zip(losses, (sum_over_ranks(values) / world_size()).tolist()))

    def _autocast(self) -> AbstractContextManager[object]:
        if self._autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._autocast_dtype)


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")  # False for NaN too
