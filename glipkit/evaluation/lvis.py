"""LVIS average precision, computed here.

Two protocols (BEHAVIOUR 15), both with boxes against boxes and the federated labels of LVIS: a box
of a class counts only in pictures where that class is labelled, as present or as absent.

* fixed AP (Dave et al., "Evaluating Large-Vocabulary Object Detectors", 2021): the 10,000 best
  boxes of a class over all pictures, any number in a picture. Classes do not compete.
* normal AP (Gupta et al., CVPR 2019): the 300 best boxes of a picture over all classes.

The limits apply before labels are looked at, as in the published evaluation.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.datasets.json_values import first_few
from glipkit.data.datasets.lvis import LvisDetection
from glipkit.evaluation.coco_results import shortest
from glipkit.evaluation.evaluator import (
    ClassFigure,
    Judgement,
    check_answers,
    check_picture,
)
from glipkit.evaluation.lvis_figures import ClassDetections, class_figures, summarise
from glipkit.evaluation.lvis_store import RECORD, BestOfClasses
from glipkit.evaluation.lvis_table import lvis_table
from glipkit.evaluation.lvis_truth import LvisTruth, image_order, read_truth
from glipkit.structures.boxes import to_xywh
from glipkit.structures.detections import Detections

PER_CLASS = 10_000  # boxes of a class over all pictures: fixed AP
PER_IMAGE = 300  # boxes of a picture: normal AP


class LvisEvaluator:
    """Judges boxes against an LVIS dataset; a `MergingEvaluator`.

    A picture without detections counts: its boxes are missed. The numbers that are judged are
    those of `predictions()`, so whoever runs the `lvis` package on the written file finds the same
    AP. Of boxes with the same score the first picture's leftmost counts as the better one: no
    figure depends on the order in which detections come.

    Args:
        dataset: pictures, classes, labels.
        category_ids: phrase id -> category id; those of `dataset.categories`, in their order.
        normal_ap: the 300 best boxes of a picture instead of fixed AP.
        limit: boxes that are kept, of a class or with `normal_ap` of a picture; None is the
            published number.

    Raises:
        ValueError: the dataset is not in LVIS form, or the classes are others or in another order.
    """

    def __init__(
        self,
        dataset: CocoDetection,
        category_ids: Sequence[int],
        *,
        normal_ap: bool = False,
        limit: int | None = None,
    ) -> None:
        if not isinstance(dataset, LvisDetection):
            raise ValueError(
                f"{dataset.ann_file} is not read as an LVIS file; LVIS AP needs its "
                f"neg_category_ids and frequencies: register dataset {dataset.name!r} with kind: "
                '"lvis", or judge it by COCO AP'
            )
        _check_order(dataset, category_ids)
        self.dataset = dataset
        published = PER_IMAGE if normal_ap else PER_CLASS
        self._limit = published if limit is None else limit
        self._normal_ap = normal_ap
        self._images = image_order(dataset)
        self._taken: set[int] = set()
        self._kept = BestOfClasses(
            len(dataset.categories), limit=None if normal_ap else self._limit
        )

    @property
    def metric(self) -> str:
        """What is computed, by which protocol."""
        if self._normal_ap:
            return f"LVIS normal AP (boxes; at most {self._limit} of a picture)"
        return f"LVIS fixed AP (boxes; at most {self._limit} of a class over all pictures)"

    def process(self, image_id: int, detections: Detections) -> None:
        """Take the detections of one picture, in its original pixels.

        Raises:
            ValueError: the dataset has no such picture, it was taken already, or the detections
                are not finite or answer a phrase that was not asked.
        """
        check_picture(image_id, self.dataset.name, known=self._images, taken=self._taken)
        check_answers(image_id, detections, num_phrases=len(self.dataset.categories))
        self._taken.add(image_id)
        records = np.empty(len(detections.scores), dtype=RECORD)
        records["score"] = detections.scores.float().numpy()
        records["image"] = self._images[image_id]
        records["box"] = to_xywh(detections.boxes.float(), plus_one=False).numpy()
        classes = detections.phrase_ids.numpy()
        if self._normal_ap and len(records) > self._limit:
            box = records["box"]
            order = np.lexsort((*box.T[::-1], classes, -records["score"]))[: self._limit]
            classes, records = classes[order], records[order]
        self._kept.add(classes, records)

    def share(self) -> dict[str, Any]:
        """See `MergingEvaluator.share`."""
        classes, records = self._kept.all()
        return {"image_ids": self._taken, "classes": classes, "records": records}

    def merge(self, share: dict[str, Any]) -> None:
        """See `MergingEvaluator.merge`.

        Raises:
            ValueError: both processes judged the same picture.
        """
        if twice := self._taken & share["image_ids"]:
            raise ValueError(f"two processes judged the images {first_few(sorted(twice))}")
        self._taken |= share["image_ids"]
        self._kept.add(share["classes"], share["records"])

    def predictions(self) -> Collection[dict[str, Any]]:
        """What is judged, in the LVIS result format, class by class, best first.

        "bbox" is x, y, width, height with width = x2 - x1, unlike COCO's (BEHAVIOUR 10). The
        entries are made one by one when they are asked for.
        """
        return _Predictions(self.dataset, sorted(self._images), self._kept)

    def evaluate(self) -> Judgement:
        """LVIS's figures and AP per class; None for figures without ground truth."""
        truth = read_truth(self.dataset)
        categories = self.dataset.categories
        figures = class_figures(self._judged(truth), truth, len(categories))
        precision = [[_figure(each[0].mean()), _figure(each[0, 0])] for each in figures.precision]
        metrics = summarise(figures, [each.frequency for each in categories])
        per_class = tuple(
            ClassFigure(category.category_id, category.name, *values)
            for category, values in zip(categories, precision)
        )
        counts = {
            "pictures": len(self._images),
            "boxes": len(truth.keys),
            "classes": len(categories),
            "classes_with_boxes": sum(each.value is not None for each in per_class),
        }
        return Judgement(
            metrics=metrics,
            per_class=per_class,
            table=lvis_table(self.metric, metrics, counts, categories, per_class),
            counts=counts,
        )

    def _judged(self, truth: LvisTruth) -> Iterator[ClassDetections]:
        """What counts of each class, best first."""
        for index in range(len(self.dataset.categories)):
            records = self._kept.of_class(index)
            images = records["image"].astype(np.int64)
            counts = truth.judges(index * truth.num_images + images, records["box"])
            yield ClassDetections(images[counts], shortest(records["box"][counts]))


class _Predictions(Collection):
    """Entries of a file of LVIS results, which nobody holds all at once."""

    def __init__(
        self, dataset: LvisDetection, image_ids: Sequence[int], kept: BestOfClasses
    ) -> None:
        self._dataset, self._image_ids, self._kept = dataset, image_ids, kept

    def __len__(self) -> int:
        return int(self._kept.counts().sum())

    def __contains__(self, entry: object) -> bool:
        return any(each == entry for each in self)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index, category in enumerate(self._dataset.categories):
            records = self._kept.of_class(index)
            rows = zip(
                records["image"].tolist(),
                shortest(records["box"]).tolist(),
                shortest(records["score"]).tolist(),
            )
            for image, box, score in rows:
                yield {
                    "image_id": self._image_ids[image],
                    "category_id": category.category_id,
                    "bbox": box,
                    "score": score,
                }


def _check_order(dataset: LvisDetection, category_ids: Sequence[int]) -> None:
    expected = [category.category_id for category in dataset.categories]
    given = list(category_ids)
    if given == expected:
        return
    if sorted(given) == expected:
        place = next(i for i, (a, b) in enumerate(zip(given, expected)) if a != b)
        problem = f"the class list is in another order: number {place} is {given[place]}"
        problem += f" instead of {expected[place]} ({dataset.categories[place].name!r})"
    else:
        problem = f"the class list has {len(given)} ids, of which "
        problem += f"{len(set(given) - set(expected))} are not among the file's {len(expected)}"
    raise ValueError(
        f"{problem}; expected the categories of {dataset.ann_file} by ascending id "
        f"({first_few(expected)}), so that phrase i of the prompts is class i"
    )


def _figure(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
