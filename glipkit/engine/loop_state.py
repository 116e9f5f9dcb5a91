"""Where a training run stands: what is saved of the loop itself, and how it ends."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How long, how often, how careful. Steps are optimizer steps."""

    total_steps: int
    save_every: int  # steps between checkpoints
    evaluates: bool = False  # at every checkpoint
    judges_mean: bool = False  # evaluate and keep the running mean instead of the weights
    log_every: int = 20
    max_skipped: int = 10  # steps in a row without a finite loss before the run stops
    pieces: int = 1  # that a rank's batch is worked through in
    autocast_dtype: torch.dtype | None = None
    clip_norm: float | None = None
    norm_type: float = 2.0


@dataclass(slots=True)
class LoopState:
    """What changes while the loop runs, besides weights, optimizer and schedule."""

    step: int = 0  # steps done; the place in the data follows from it
    best_ap: float | None = None  # or R@1, where only captions are judged
    best_step: int | None = None
    skipped: int = 0  # steps without a finite loss or gradient, all in all
    skipped_in_row: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)  # of float16
    awaits_evaluation: bool = False  # it was saved before its evaluation, which is still to come

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what was saved."""
        for name in self.__slots__:
            setattr(self, name, state[name])


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run came to its end."""

    reason: Literal["done", "validation stood still"]
    steps: int
    best_ap: float | None  # or R@1, where only captions are judged
    best_step: int | None
    skipped: int
