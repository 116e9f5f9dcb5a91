"""One optimizer step over all processes and pieces of a batch, or the reason there is none."""

from collections.abc import Callable, Sequence
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

# Gradients that are not finite although they were hardly scaled, or not at all, are no matter of
# float16's range any more.
_SMALLEST_SCALE = 1.0


class StepReport(NamedTuple):
    """What one step came to: the same on every rank, except for `suspects`."""

    losses: dict[str, float]  # mean over ranks; of what was computed before a step was skipped
    grad_norm: float | None = None  # before clipping; None where it did not come to that
    broken: str = ""  # what was not finite; empty for a step that was made
    suspects: tuple[int, ...] = ()  # ids of this rank's pictures that may have broken it
    overflow: bool = False  # gradients beyond float16, which the scaler answers; no failure
    stop: bool = False  # some rank was asked to stop


class Stepper:
    """Makes steps: assign, forward, judge, backward, clip, step, in pieces where asked.

    Every decision is made of numbers that were summed over the ranks, so that all ranks decide the
    same: whether the losses are finite before anyone goes backward, whether the gradients are
    before anyone steps. For these two looks a GPU is waited for, and for the assignment, whose
    shapes depend on the boxes.

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
        self.scaler = torch.amp.GradScaler(device.type, enabled=autocast_dtype is torch.float16)

    def __call__(self, batch: TrainBatch, *, asked: Callable[[], bool] = bool) -> StepReport:
        """Learn from a batch.

        Args:
            batch: this rank's, on the device.
            asked: whether this rank was asked to stop; its answer is handed on to all.
        """
        pieces = batch.split(self._pieces)
        assignments = [self._assign(piece) for piece in pieces]
        normalisers = _per_rank([assignment.totals for assignment in assignments])
        self._optimizer.zero_grad(set_to_none=True)
        report = StepReport(losses={})
        for index, (piece, assignment) in enumerate(zip(pieces, assignments)):
            with no_sync(self._learner, enabled=index + 1 < len(pieces)):
                with self._autocast():
                    losses = self._learner(
                        *(piece.images, piece.prompts, piece.targets),
                        *(assignment, normalisers, piece.hidden_words),
                    )
                report = _looked_at(report, losses, piece, asked())
                # All ranks give up here, so nobody waits for a gradient that never comes. Once a
                # piece went backward the others have to as well: a wrapper may still hold its
                # gradients, and only lets go of them with the last piece.
                if report.broken and index == 0:
                    return report
                self.scaler.scale(sum(losses.values())).backward()
        if report.broken:
            self._optimizer.zero_grad(set_to_none=True)
            return report
        return self._finish(report, batch)

    @property
    def loss_scale(self) -> float | None:
        """What float16's losses are multiplied by; None for other types. Waits for the device."""
        return self.scaler.get_scale() if self.scaler.is_enabled() else None

    def _finish(self, report: StepReport, batch: TrainBatch) -> StepReport:
        """Clip and step, unless a gradient is not finite."""
        self.scaler.unscale_(self._optimizer)
        norm = clip_gradients(self._trained, largest=self._clip_norm, norm_type=self._norm_type)
        report = report._replace(grad_norm=float(norm))
        if _is_finite(report.grad_norm):
            self.scaler.step(self._optimizer)
            self.scaler.update()
            return report
        self._optimizer.zero_grad(set_to_none=True)
        if self.scaler.is_enabled() and self.scaler.get_scale() > _SMALLEST_SCALE:
            self._scale_less()
            return report._replace(overflow=True)
        if self.scaler.is_enabled():
            self.scaler.update(_SMALLEST_SCALE)  # ends what unscale_ began
        return report._replace(broken="gradient", suspects=batch.image_ids)

    def _scale_less(self) -> None:
        """What the scaler does after an overflow; decided by the norm, on all ranks alike."""
        scale = self.scaler.get_scale() * self.scaler.get_backoff_factor()
        self.scaler.update(max(scale, _SMALLEST_SCALE))
        self.scaler.load_state_dict({**self.scaler.state_dict(), "_growth_tracker": 0})

    def _assign(self, piece: TrainBatch) -> Assignment:
        return unwrap(self._learner).assign(
            piece.images, piece.prompts, piece.targets, piece.hidden_words
        )

    def _autocast(self) -> AbstractContextManager[object]:
        if self._autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._autocast_dtype)


def _per_rank(totals: Sequence[Tensor]) -> Tensor:
    """What losses are divided by: totals of all pieces and ranks, per rank."""
    return sum_over_ranks(torch.stack(list(totals)).sum(dim=0)) / world_size()


def _looked_at(
    report: StepReport, losses: dict[str, Tensor], piece: TrainBatch, stop: bool
) -> StepReport:
    """The report after another piece: its losses added, averaged over the ranks."""
    own = torch.stack([loss.detach().double() for loss in losses.values()])
    *means, stops = (sum_over_ranks(torch.cat([own, own.new_tensor([float(stop)])]))).tolist()
    means = dict(zip(losses, (value / world_size() for value in means)))
    broken = [name for name, value in means.items() if not _is_finite(value)]
    suspects = piece.image_ids if broken and not bool(own.isfinite().all()) else ()
    return report._replace(
        losses={name: report.losses.get(name, 0.0) + value for name, value in means.items()},
        broken=report.broken or (f"loss {', '.join(broken)}" if broken else ""),
        suspects=report.suspects + suspects,
        stop=report.stop or stops > 0,
    )


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")  # False for NaN too
