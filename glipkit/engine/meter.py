"""Means over a stretch of steps: losses, pace, memory."""

import resource
import sys
from collections import defaultdict

import torch

from glipkit.engine.step import StepReport
from glipkit.runtime.distributed import world_size


class Meter:
    """Adds steps up until they are written down.

    Args:
        window: steps that the progress bar's means look back on, about.
        device: whose memory is watched.
    """

    def __init__(self, window: int, device: torch.device) -> None:
        self._smoothing = 2 / (window + 1)
        self._device = device
        self._recent: dict[str, float] = {}  # running means for the bar
        self.num_images = 0  # in the last step, all ranks together
        self._clear()

    def add(
        self, report: StepReport, images: int, rate: float, data: float, seconds: float
    ) -> None:
        """Take note of a step.

        Args:
            report: of the step.
            images: in this rank's batch.
            rate: the learning rate, of the first group.
            data: seconds spent waiting for the batch.
            seconds: of the whole step.
        """
        self.num_images = images * world_size()
        self._seconds += seconds
        self._data += data
        self._images += self.num_images
        self._steps += 1
        self._rate = rate
        if report.broken:
            return
        values = {f"loss/{name}": value for name, value in report.losses.items()}
        values["loss/total"] = sum(report.losses.values())
        for name, value in values.items():
            self._sums[name] += value
            mean = self._recent.get(name, value)
            self._recent[name] = mean + self._smoothing * (value - mean)
        self._counted += 1
        if not report.overflow:
            self._norms.append(report.grad_norm)

    def postfix(self) -> dict[str, str]:
        """What the progress bar shows beside the steps."""
        shown = {name.removeprefix("loss/"): f"{v:.3g}" for name, v in self._recent.items()}
        return shown | {"lr": f"{self._rate:.2g}", "memory": f"{self._memory():.0f}M"}

    def flush(self) -> dict[str, float]:
        """The means since the last call."""
        values = {name: value / self._counted for name, value in self._sums.items()}
        if self._norms:
            values["grad_norm"] = sum(self._norms) / len(self._norms)
        values |= {
            "lr": self._rate,
            "time/step_seconds": self._seconds / max(self._steps, 1),
            "time/data_seconds": self._data / max(self._steps, 1),
            "images_per_second": self._images / max(self._seconds, 1e-9),
            "memory_mib": self._memory(),
        }
        self._clear()
        return values

    def _clear(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._norms: list[float] = []
        self._counted = self._steps = self._images = 0
        self._seconds = self._data = 0.0

    def _memory(self) -> float:
        """MiB at most so far: of the GPU, or resident in this process."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
