"""What a report is written from: predictions matched with truth, and where to draw the line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glipkit.data.datasets.coco import CocoDetection
from glipkit.evaluation.report_figures import Curves, OperatingPoint, curves, operating_point
from glipkit.evaluation.report_matches import (
    Boxes,
    Kind,
    Matches,
    best_of_each_class,
    match,
    read_boxes,
)


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the sections of a report are written from."""

    dataset: CocoDetection
    results: Mapping[str, Any]  # results.json
    truth: Boxes
    found: Boxes
    matches: Matches  # at IoU 0.5
    taken: np.ndarray  # (D,) bool: boxes that score at least `point.threshold`
    point: OperatingPoint
    loose: Curves  # at IoU 0.5
    strict: Curves  # at IoU 0.75

    @property
    def num_classes(self) -> int:
        """C, the classes of the dataset."""
        return len(self.dataset.categories)


def study(
    dataset: CocoDetection,
    results: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    *,
    origin: str,
) -> Findings:
    """Match predictions with the truth.

    Args:
        dataset: what was judged.
        results: what results.json holds.
        predictions: what predictions.json holds.
        origin: what errors call the predictions.
    """
    truth = read_boxes(dataset, dataset.ground_truth(), origin=str(dataset.ann_file))
    found = best_of_each_class(read_boxes(dataset, predictions, origin=origin))
    matches = match(found, truth)
    num_classes = len(dataset.categories)
    judged = matches.kind != Kind.IGNORED
    point = operating_point(
        found.score[judged],
        matches.kind[judged] == Kind.CORRECT,
        int((~truth.is_crowd).sum()),
    )
    return Findings(
        dataset=dataset,
        results=results,
        truth=truth,
        found=found,
        matches=matches,
        taken=found.score >= point.threshold,
        point=point,
        loose=curves(found, truth, matches, num_classes),
        strict=curves(found, truth, match(found, truth, threshold=0.75), num_classes),
    )
