"""How learning rate and weight decay change: with the step, or with what validation says."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is decided before the run; `factor` and `decay_factor` are functions of the step."""

    total_steps: int
    milestones: tuple[int, ...] = ()  # steps at which the rate falls
    gamma: float = 0.1  # factor at each of them
    warmup_steps: int = 0
    warmup_factor: float = 1.0  # at step 0
    warmup_method: str = "linear"  # or "constant"
    cosine: bool = False  # instead of milestones
    flat: float = 0.0  # share of the run before the cosine begins, warm-up included
    min_rate: float = 0.0  # where the cosine and automatic steps end
    decay_ratio: float | None = None  # weight decay falls at this share of each milestone

    def warmup(self, step: int) -> float:
        """Factor in (0, 1] of the first steps, 1 afterwards."""
        if step >= self.warmup_steps:
            return 1.0
        if self.warmup_method == "constant":
            return self.warmup_factor
        done = step / self.warmup_steps
        return self.warmup_factor * (1 - done) + done

    def factor(self, step: int) -> float:
        """Factor of the base rate at a step, without warm-up."""
        return self.gamma ** sum(step >= milestone for milestone in self.milestones)

    def annealed(self, step: int, base: float) -> float:
        """The rate that a half cosine gives between its beginning and the end of the run.

        It begins where the flat part ends, but not before the end of the warm-up.
        """
        start = max(self.warmup_steps, round(self.flat * self.total_steps))
        done = min(max(step - start, 0) / max(self.total_steps - start, 1), 1.0)
        lowest = min(self.min_rate, base)
        return lowest + (base - lowest) * (1 + math.cos(math.pi * done)) / 2

    def decay_factor(self, step: int) -> float:
        """Factor of the base weight decay at a step (WEIGHT_DECAY_SCHEDULE)."""
        if self.decay_ratio is None:
            return 1.0
        return self.gamma ** sum(step >= self.decay_ratio * each for each in self.milestones)


@dataclass(frozen=True, slots=True)
class Patience:
    """What validation may do to the rate and to the run."""

    before_step: int | None = None  # evaluations without a better AP before the rate falls
    before_end: int | None = None  # evaluations without a better AP before the run ends


class Schedule:
    """Sets the rates of an optimizer before each step.

    What wins: with `Patience.before_step` (USE_AUTOSTEP) the rate falls by gamma when validation
    stands still, never below MIN_LR, and neither the cosine nor milestones are looked at; else the
    cosine goes before the milestones. The warm-up always stays, and weight decay falls by the
    milestones alone. All of it follows from the step, except for what validation decided: that is
    the state.

    Args:
        optimizer: made by `make_optimizer`. What its groups begin with is noted here, so a run that
            goes on with another BASE_LR has it although the optimizer's saved state is loaded.
        plan: what is decided before the run.
        patience: what validation decides.
    """

    def __init__(self, optimizer: Optimizer, plan: Plan, patience: Patience = Patience()) -> None:
        self._optimizer = optimizer
        self._bases = [
            (group["base_lr"], group["base_weight_decay"]) for group in optimizer.param_groups
        ]
        self.plan = plan
        self.patience = patience
        self._falls = 0  # automatic steps so far
        self._since_step = 0  # evaluations without a better AP, since the best or the last fall
        self._since_best = 0

    def apply(self, step: int) -> float:
        """Set the rates for a step.

        Returns:
            The learning rate of the first group: of the first weights that are trained.
        """
        groups = self._optimizer.param_groups
        for group, (rate, decay) in zip(groups, self._bases, strict=True):
            group["lr"] = self.rate(step, rate)
            group["weight_decay"] = decay * self.plan.decay_factor(step)
        return groups[0]["lr"]

    def rate(self, step: int, base: float) -> float:
        """The learning rate at a step of a group that began with `base`."""
        warmup = self.plan.warmup(step)
        if self.patience.before_step is not None:
            floor = min(self.plan.min_rate, base)
            return warmup * max(base * self.plan.gamma**self._falls, floor)
        if self.plan.cosine:
            return warmup * self.plan.annealed(step, base)
        return warmup * base * self.plan.factor(step)

    def judged(self, *, better: bool) -> None:
        """Take note of an evaluation.

        Args:
            better: its AP is higher than all before.
        """
        if better:
            self._since_step = self._since_best = 0
            return
        self._since_step += 1
        self._since_best += 1
        before = self.patience.before_step
        if before is not None and self._since_step >= before:
            self._falls += 1
            self._since_step = 0
            logger.info(
                "validation AP stood still for %d evaluations: the learning rate falls by %g",
                before,
                self.plan.gamma,
            )

    @property
    def is_exhausted(self) -> bool:
        """Whether validation stood still for so long that the run should end."""
        limit = self.patience.before_end
        return limit is not None and self._since_best >= limit

    def state_dict(self) -> dict[str, int]:
        """What validation decided."""
        return {
            "falls": self._falls,
            "since_step": self._since_step,
            "since_best": self._since_best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._falls = state["falls"]
        self._since_step = state["since_step"]
        self._since_best = state["since_best"]


def milestones(steps: Sequence[float], total_steps: int) -> tuple[int, ...]:
    """SOLVER.STEPS as steps: shares of the run are below 1, everything else is a step."""
    return tuple(round(each * total_steps) if each < 1 else int(each) for each in steps)
