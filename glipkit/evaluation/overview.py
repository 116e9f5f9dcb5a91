"""Several evaluations side by side: one line each, and the mean."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from glipkit.evaluation.results import Results
from glipkit.runtime.files import write_atomically

# Of classes, of captions, of referring expressions.
_COLUMNS = ("AP", "AP50", "AP75", "R@1", "R@5", "R@10", "P@1", "P@5", "P@10")


def overview(results: Mapping[str, Results]) -> str:
    """A table with a line for each evaluation, and the mean over those that have a figure.

    Args:
        results: name of the evaluation -> its results.
    """
    columns = _columns(results)
    width = max(map(len, (*results, "mean")))
    lines = [" " * width + "".join(f"{column:>8}" for column in columns) + "  images  unread"]
    for name, each in results.items():
        figures = "".join(
            _cell(each.metrics[column]) if column in each.metrics else " " * 8 for column in columns
        )
        lines.append(f"{name:<{width}}{figures}{each.num_images:>8}{len(each.failures):>8}")
    means = _means(results, columns)
    lines.append(f"{'mean':<{width}}" + "".join(_cell(means[column]) for column in columns))
    return "\n".join(lines)


def write_summary(folder: Path, results: Mapping[str, Results]) -> None:
    """Leave summary.json in `folder`: every figure of every evaluation, and the means."""
    content = {
        "mean": _means(results, _columns(results)),
        "evaluations": {
            name: {"metrics": each.metrics, "num_images": each.num_images}
            for name, each in results.items()
        },
    }
    write_atomically(folder / "summary.json", json.dumps(content, indent=2) + "\n")


def _columns(results: Mapping[str, Results]) -> list[str]:
    """The figures that any of the evaluations speaks of."""
    known = {name for each in results.values() for name in each.metrics}
    return [column for column in _COLUMNS if column in known]


def _means(results: Mapping[str, Results], columns: Sequence[str]) -> dict[str, float | None]:
    means = {}
    for column in columns:
        figures = [each.metrics.get(column) for each in results.values()]
        known = [figure for figure in figures if figure is not None]
        means[column] = sum(known) / len(known) if known else None
    return means


def _cell(value: float | None) -> str:
    return f"{'n/a' if value is None else f'{value:.3f}':>8}"
