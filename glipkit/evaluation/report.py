"""report.html: what an evaluation says about a detector, to be looked at.

Made from what an evaluation leaves in its folder (results.json, predictions.json) and the truth, so
it can be made long after.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.datasets.lvis import LvisDetection
from glipkit.data.test_set import TestSet
from glipkit.evaluation.drawn import REPORT
from glipkit.evaluation.report_figures import picture_errors
from glipkit.evaluation.report_findings import Findings, study
from glipkit.evaluation.report_page import page
from glipkit.evaluation.report_pictures import Shown, extremes, show
from glipkit.evaluation.report_sections import (
    class_section,
    confusion_section,
    curve_section,
    figure_section,
    mistake_section,
    picture_section,
    protocol_section,
)
from glipkit.evaluation.results_file import check_annotations
from glipkit.runtime.files import write_atomically

logger = logging.getLogger(__name__)

NUM_PICTURES = 16


def write_report(folder: Path, dataset: CocoDetection, *, num_pictures: int = NUM_PICTURES) -> Path:
    """Leave report.html beside the results of an evaluation.

    Args:
        folder: where `evaluate` left results.json and predictions.json.
        dataset: what was judged.
        num_pictures: how many pictures are shown, half of them the worst and half the best.

    Returns:
        The report.

    Raises:
        FileNotFoundError: the folder holds no evaluation.
        ValueError: it holds that of another dataset, or none of detections.
    """
    results = _read(folder / "results.json")
    predictions = _read(folder / "predictions.json")
    _check(folder, results, dataset)
    findings = study(dataset, results, predictions, origin=str(folder / "predictions.json"))
    worst, best = _pictures(findings, num_pictures)
    sections = [
        figure_section(findings),
        curve_section(findings),
        class_section(findings),
        mistake_section(findings),
        confusion_section(findings),
        picture_section(findings.point, worst, best),
        protocol_section(results),
    ]
    path = folder / REPORT
    write_atomically(path, page(f"{results['dataset']}: evaluation report", sections))
    return path


def check_figures(folder: Path, metrics: Mapping[str, Any]) -> None:
    """See that an evaluation is about boxes with classes, before its dataset is read as such.

    Args:
        folder: of the evaluation.
        metrics: its figures by name.

    Raises:
        ValueError: it is about captions, or several wordings.
    """
    if "AP50" not in metrics:
        raise ValueError(
            f"{folder} holds figures other than average precision "
            f"({', '.join(metrics) or 'none'}); reports are made of detections"
        )


def report_on(test_set: TestSet, folder: Path) -> Path | None:
    """`write_report` on a test set that was just judged.

    None, and a line in the log, for captions and for LVIS, of whose boxes nobody knows all.

    Args:
        test_set: what was judged.
        folder: where its results were left.
    """
    dataset = test_set.dataset
    if isinstance(dataset, LvisDetection):
        logger.warning(
            "%s: no report, which would call right boxes of unlabelled classes mistakes",
            test_set.name,
        )
        return None
    if isinstance(dataset, CocoDetection):
        return write_report(folder, dataset)
    logger.warning("%s: no report, which is made of boxes with classes only", test_set.name)
    return None


def _pictures(findings: Findings, count: int) -> tuple[list[Shown], list[Shown]]:
    """The worst and the best."""
    truth, found, taken = findings.truth, findings.found, findings.taken
    num_images = len(findings.dataset)
    errors = picture_errors(found, truth, findings.matches, taken, num_images)
    weights = np.bincount(found.image[taken], minlength=num_images)
    weights = weights + np.bincount(truth.image, minlength=num_images)
    worst, best = (
        show(findings.dataset, truth, found, errors, chosen, threshold=findings.point.threshold)
        for chosen in extremes(errors, weights, count)
    )
    return worst, best


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}; expected the folder of an evaluation, where "
            "tools/test_grounding_net.py left results.json and predictions.json"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _check(folder: Path, results: Mapping[str, Any], dataset: CocoDetection) -> None:
    if isinstance(dataset, LvisDetection):
        raise ValueError(
            f"{folder} is about LVIS, of whose boxes nobody knows all: a report would call right "
            "boxes of unlabelled classes mistakes"
        )
    check_figures(folder, results.get("metrics", {}))
    check_annotations(dataset.ann_file, dataset.digest, results["protocol"])
