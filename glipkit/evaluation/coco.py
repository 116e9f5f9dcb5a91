"""COCO average precision: pycocotools' figures, computed by faster-coco-eval, its port to C++."""

import contextlib
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import faster_coco_eval
import numpy as np
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.datasets.lvis import refuse_lvis
from glipkit.evaluation.coco_results import to_coco_results
from glipkit.evaluation.evaluator import ClassFigure, Judgement, check_picture
from glipkit.structures.detections import Detections

logger = logging.getLogger(__name__)
Judge = TypeVar("Judge", COCOeval, COCOeval_faster)

# The familiar twelve, in pycocotools' order.
METRICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip


class CocoEvaluator:
    """Judges boxes against a COCO-format dataset.

    A picture without detections counts: its boxes are missed. The numbers that are judged are
    those of `predictions()`, so whoever runs pycocotools on the written file finds the same AP, but
    for the last bit of a float64.

    Raises:
        ValueError: the dataset is labelled like LVIS.
    """

    metric = "COCO box AP (pycocotools)"

    def __init__(self, dataset: CocoDetection, category_ids: Sequence[int]) -> None:
        refuse_lvis(dataset)
        self.dataset = dataset
        self.category_ids = tuple(category_ids)  # phrase id -> category id
        self._known = {image.image_id for image in dataset.images}
        self._results: dict[int, list[dict[str, Any]]] = {}

    def process(self, image_id: int, detections: Detections) -> None:
        """Take the detections of one picture, in its original pixels.

        Raises:
            ValueError: the dataset has no such picture, it was taken already, or the detections
                are not finite or answer a phrase that was not asked.
        """
        check_picture(image_id, self.dataset.name, known=self._known, taken=self._results)
        self._results[image_id] = to_coco_results(image_id, detections, self.category_ids)

    def predictions(self) -> list[dict[str, Any]]:
        """COCO results (image_id, category_id, bbox, score), by the dataset's order of pictures."""
        return [
            result
            for image in self.dataset.images
            for result in self._results.get(image.image_id, ())
        ]

    def evaluate(self) -> Judgement:
        """The twelve COCO figures and AP per class; None for figures without ground truth."""
        if not self.dataset.ground_truth():
            logger.warning(
                "%s has no boxes to judge against: AP is n/a. Predictions are written all the same",
                self.dataset.name,
            )
        table: list[str] = []
        judge = _prepared(COCOeval_faster, faster_coco_eval.COCO, self.dataset, self.predictions())
        judge.print_function = table.append
        judge.evaluate()
        judge.accumulate()
        table.clear()  # its timings say nothing here
        judge.summarize()
        return Judgement(
            metrics={name: _figure(value) for name, value in zip(METRICS, judge.stats)},
            per_class=self._per_class(judge),
            table="\n".join(table[: len(METRICS)]),  # it has two more
        )

    def _per_class(self, judge: COCOeval_faster) -> tuple[ClassFigure, ...]:
        # precision: (IoU thresholds from 0.5, recall thresholds, classes, areas, detection limits)
        precision = judge.eval["precision"][:, :, :, 0, -1]
        return tuple(
            ClassFigure(
                category.category_id,
                category.name,
                _mean(precision[:, :, index]),
                _mean(precision[0, :, index]),
            )
            for index, category in enumerate(self.dataset.categories)
        )


def matched(dataset: CocoDetection, results: Sequence[Mapping[str, Any]]) -> COCOeval:
    """What every box found, as pycocotools says, box by box; not accumulated yet.

    Args:
        dataset: the truth.
        results: COCO results, as `CocoEvaluator.predictions` makes them.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # its timings say nothing here
        judge = _prepared(COCOeval, COCO, dataset, results)
        judge.evaluate()
    return judge


def _prepared(
    judge: type[Judge],
    index: type[COCO | faster_coco_eval.COCO],
    dataset: CocoDetection,
    results: Sequence[Mapping[str, Any]],
) -> Judge:
    """Pycocotools' classes, or those that stand in for them, ready to evaluate.

    Pictures and classes are numbered from 0 by ascending id, as pycocotools sorts them: the C++
    keeps ids as float64.
    """
    images = _places(image.image_id for image in dataset.images)
    classes = _places(each.category_id for each in dataset.categories)

    def indexed(annotations: Sequence[Mapping[str, Any]]) -> COCO | faster_coco_eval.COCO:
        made = index()  # its loadRes refuses an empty list
        made.dataset = {
            "images": [{"id": place} for place in images.values()],
            "categories": [{"id": place} for place in classes.values()],
            "annotations": [
                {
                    **each,
                    "image_id": images[each["image_id"]],
                    "category_id": classes[each["category_id"]],
                }
                for each in annotations
                if each["image_id"] in images and each["category_id"] in classes
            ],
        }
        made.createIndex()
        return made

    found = [
        {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for number, result in enumerate(results, start=1)
    ]
    made = judge(indexed(dataset.ground_truth()), indexed(found), iouType="bbox")
    made.params.imgIds = list(images.values())
    made.params.catIds = list(classes.values())
    return made


def _places(ids: Iterable[int]) -> dict[int, int]:
    return {each: place for place, each in enumerate(sorted(ids))}


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _figure(value: np.floating) -> float | None:
    return None if value == -1 else float(value)
