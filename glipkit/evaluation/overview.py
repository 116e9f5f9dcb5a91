"""Several evaluations side by side: one line each, and the mean."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from glipkit.evaluation.results import Results
from glipkit.runtime.files import write_atomically
from glipkit.structures.figures import figure_text

# Of classes, of captions, of referring expressions, of several wordings.
_COLUMNS = (
    *("AP", "AP50", "AP75", "R@1", "R@5", "R@10", "P@1", "P@5", "P@10"),
    *("best_AP", "mean_AP", "configured_AP"),
)


def overview(results: Mapping[str, Results]) -> str:
    """A table with a line for each evaluation, and the mean over those that have a figure.

    Args:
        results: name of the evaluation -> its results.
    """
    columns = _columns(results)
    width = max(map(len, (*results, "mean")))
    wide = {column: max(len(column) + 2, 8) for column in columns}
    head = "".join(f"{column:>{wide[column]}}" for column in columns)
    lines = [" " * width + head + "  images  unread"]
    for name, each in results.items():
        figures = "".join(
            f"{figure_text(each.metrics[column]) if column in each.metrics else '':>{wide[column]}}"
            for column in columns
        )
        lines.append(f"{name:<{width}}{figures}{each.num_images:>8}{len(each.failures):>8}")
    means = _means(results, columns)
    cells = (f"{figure_text(means[column]):>{wide[column]}}" for column in columns)
    lines.append(f"{'mean':<{width}}" + "".join(cells))
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
