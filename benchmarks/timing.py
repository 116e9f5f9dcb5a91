"""How the benchmarks measure: turn by turn, by the median, and saying on what machine."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def turns(
    functions: Sequence[Callable[[], object]], repeats: int, warmup: int = 1
) -> list[list[float]]:
    """The seconds of each call of each function, called in turn: A B A B ...

    What slows the machine down for a while then slows all of them down. On a GPU every call is
    waited for.

    Args:
        functions: what to measure.
        repeats: measured calls of each.
        warmup: calls of each before.
    """
    seconds: list[list[float]] = [[] for _ in functions]
    for turn in range(warmup + repeats):
        for function, measured in zip(functions, seconds):
            _wait()
            start = time.perf_counter()
            function()
            _wait()
            if turn >= warmup:
                measured.append(time.perf_counter() - start)
    return seconds


def interleaved(
    functions: Sequence[Callable[[], object]], repeats: int, warmup: int = 1
) -> list[float]:
    """The median of each function's `turns`."""
    return [statistics.median(measured) for measured in turns(functions, repeats, warmup)]


def machine() -> dict[str, str | int | float]:
    """What the numbers were measured on, for the JSON file beside them."""
    facts: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "vector": torch.backends.cpu.get_cpu_capability(),
        "load": round(os.getloadavg()[0], 2),  # of the last minute: others at work?
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
