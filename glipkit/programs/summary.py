"""Several fine-tuning runs side by side: a line each, mean and deviation over seeds."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glipkit.runtime.files import write_atomically

_LINE = "{:<{width}}  {:>7}  {:>16}  {:>16}  {:>10}"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run came to."""

    name: str
    group: str  # the same for runs that differ only in their seed
    steps: int
    best_step: int | None
    best_val: float | None  # AP on the monitored data at `best_step`; None: not evaluated
    figures: Mapping[str, float | None]  # "best/test", say -> AP
    saved: Mapping[str, int]  # file -> bytes
    trained_parameters: int
    failed: str = ""  # why the run came to nothing

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "figures": dict(self.figures),
            "saved": dict(self.saved),
        }


@dataclass(frozen=True, slots=True)
class Spread:
    """Figures of one kind over seeds."""

    mean: float | None
    deviation: float | None  # of a sample; None below two figures
    count: int

    def __str__(self) -> str:
        if self.mean is None:
            return "n/a"
        return f"{self.mean:.4f}" + (
            f" ± {self.deviation:.4f}" if self.deviation is not None else ""
        )


def spread(figures: Sequence[float | None]) -> Spread:
    """Mean and deviation of the figures that are known."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return Spread(None, None, 0)
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), deviation, len(known))


def judged(result: RunResult) -> float | None:
    """The figure that stands for a run: of the best weights, on the test data if there are some."""
    for kind in ("best/", "final/"):
        if kind + "test" in result.figures:
            return result.figures[kind + "test"]
        known = [value for name, value in result.figures.items() if name.startswith(kind)]
        if known:
            return spread(known).mean
    return None


def table(results: Sequence[RunResult]) -> str:
    """A line for each run, one for each group of seeds, and one for everything."""
    width = max(len(name) for each in results for name in (each.name, each.group + " (mean)"))
    lines = [_LINE.format("run", "best at", "AP val", "AP test", "saved", width=width)]
    groups = list(dict.fromkeys(each.group for each in results))
    for group in groups:
        members = [each for each in results if each.group == group]
        lines += [_line(each, width) for each in members]
        if len(members) > 1:
            lines.append(_mean_line(f"{group} (mean)", members, width))
    if len(groups) > 1:
        lines.append(_mean_line("all", results, width))
    return "\n".join(lines)


def write_summary(folder: Path, results: Sequence[RunResult]) -> None:
    """Leave summary.json in `folder`: every run, and the spread over the seeds of each group."""
    groups = {}
    for each in results:
        groups.setdefault(each.group, []).append(each)
    content = {
        "runs": [each.to_json() for each in results],
        "groups": {
            name: {
                "val": _as_json(spread([each.best_val for each in members])),
                "test": _as_json(spread([judged(each) for each in members])),
            }
            for name, members in groups.items()
        },
    }
    write_atomically(folder / "summary.json", json.dumps(content, indent=2) + "\n")


def _line(each: RunResult, width: int) -> str:
    if each.failed:
        return f"{each.name:<{width}}  failed: {each.failed}"
    step = "-" if each.best_step is None else str(each.best_step)
    saved = _size(max(each.saved.values(), default=0))
    figures = [str(spread([value])) for value in (each.best_val, judged(each))]
    return _LINE.format(each.name, step, *figures, saved, width=width)


def _mean_line(name: str, members: Sequence[RunResult], width: int) -> str:
    figures = [
        str(spread([each.best_val for each in members])),
        str(spread([judged(each) for each in members])),
    ]
    return _LINE.format(name, "", *figures, "", width=width)


def _as_json(figures: Spread) -> dict[str, Any]:
    return {"mean": figures.mean, "deviation": figures.deviation, "count": figures.count}


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
