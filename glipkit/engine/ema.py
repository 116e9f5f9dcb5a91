"""The running mean of the weights (SOLVER.MODEL_EMA): often better than the weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Ema:
    """mean := decay * mean + (1 - decay) * weight, after every step.

    Only what is trained is kept, the rest is its own mean. Works on sharded weights too: each
    process keeps the mean of its shards.

    Args:
        module: unwrapped; frozen where nothing is learnt.
        decay: in [0, 1).

    Raises:
        ValueError: `decay` is outside.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"SOLVER.MODEL_EMA must lie in [0, 1), got {decay}")
        self.decay = decay
        self._weights = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._means = {n: p.detach().clone().float() for n, p in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of now into the mean."""
        for name, mean in self._means.items():
            mean.lerp_(self._weights[name].detach().to(mean.dtype), 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the mean as its weights inside, and its own again afterwards."""
        own = {name: weight.detach().clone() for name, weight in self._weights.items()}
        try:
            self._write(self._means)
            yield
        finally:
            self._write(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The means by the module's names."""
        return dict(self._means)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        for name, mean in self._means.items():
            mean.copy_(state[name])

    @torch.no_grad()
    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(tensors[name])
