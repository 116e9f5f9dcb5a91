"""The figures of an LVIS evaluation for people."""

from collections.abc import Mapping, Sequence

from glipkit.data.datasets.coco_file import Category
from glipkit.evaluation.evaluator import ClassFigure
from glipkit.structures.figures import figure_text

_GROUPS = {"r": "rare", "c": "common", "f": "frequent"}


def lvis_table(
    metric: str,
    metrics: Mapping[str, float | None],
    counts: Mapping[str, int],
    categories: Sequence[Category],
    per_class: Sequence[ClassFigure],
) -> str:
    """Every figure, and of how many classes it is the mean.

    Args:
        metric: which protocol.
        metrics: the figures by name.
        counts: "classes", "classes_with_boxes", "boxes" and "pictures".
        categories: the classes.
        per_class: their figures, in the same order.
    """
    lines = [
        f" {metric}",
        _row(metrics, {"AP": "IoU 0.50 to 0.95", "AP50": "IoU 0.50", "AP75": "IoU 0.75"}),
        _row(metrics, {"APs": "small", "APm": "medium", "APl": "large objects"}),
        _row(metrics, {f"AP{key}": _group(key, categories, per_class) for key in _GROUPS}),
        _row(metrics, {"AR": "all", "ARs": "small", "ARm": "medium", "ARl": "large objects"}),
        f"  {counts['boxes']:,} boxes of {counts['classes_with_boxes']:,} classes in "
        f"{counts['pictures']:,} pictures",
    ]
    if missing := counts["classes"] - counts["classes_with_boxes"]:
        lines.append(
            f"  {missing:,} of {counts['classes']:,} classes have no box here and count in no mean"
        )
    return "\n".join(lines)


def _group(key: str, categories: Sequence[Category], per_class: Sequence[ClassFigure]) -> str:
    values = [each.value for category, each in zip(categories, per_class)
              if category.frequency == key]  # fmt: skip
    known = sum(value is not None for value in values)
    return f"{_GROUPS[key]}, {known} of {len(values)} classes"


def _row(metrics: Mapping[str, float | None], notes: Mapping[str, str]) -> str:
    cells = []
    for name, note in notes.items():
        cells.append(f"{name} = {figure_text(metrics[name])} ({note})")
    return "  " + "   ".join(cells)
