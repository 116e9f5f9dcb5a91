"""A COCO-form dataset (COCO, ODinW, LVIS, Objects365 json) as something to learn from."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.detection_source import LabelledBoxes
from glipkit.data.images import read_image

logger = logging.getLogger(__name__)

_SHOWN = 10  # class names that a message lists


class CocoPictures:
    """The pictures of a `CocoDetection` as `LabelledPictures`.

    Labels are 1 to C by ascending category id, whatever the ids: so the published code numbers
    them, and what is drawn from a seed depends on it. Boxes lie in flat arrays that loader
    processes share instead of copying.

    Args:
        dataset: pictures, classes and boxes.

    Raises:
        ValueError: a picture's neg_category_ids name a category that the file does not list.
    """

    def __init__(self, dataset: CocoDetection) -> None:
        self.name = dataset.name
        self.classes: Mapping[int, str] = {
            label: category.name for label, category in enumerate(dataset.categories, start=1)
        }
        self._img_dir = dataset.img_dir
        self._images = dataset.images
        label_of = {each.category_id: label for label, each in enumerate(dataset.categories, 1)}
        self._negatives = _negatives(dataset, label_of)
        row_of = {image.image_id: row for row, image in enumerate(dataset.images)}
        rows = np.array([row_of[each["image_id"]] for each in dataset.annotations], dtype=np.int64)
        order = np.argsort(rows, kind="stable")  # of one picture: as in the file
        entries = [dataset.annotations[index] for index in order]
        self._starts = np.searchsorted(rows[order], np.arange(len(self._images) + 1))
        self._labels = np.array([label_of[each["category_id"]] for each in entries], dtype=np.int64)
        self._is_crowd = np.array([bool(each.get("iscrowd")) for each in entries], dtype=bool)
        with np.errstate(over="ignore"):  # becomes infinite, and is dropped as such
            boxes = np.array([each["bbox"] for each in entries], dtype=np.float64)
            self._boxes = torch.from_numpy(boxes.reshape(-1, 4).astype(np.float32))
        self._warn_about_missing_classes()

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._images)

    def size(self, index: int) -> tuple[int, int]:
        """See `LabelledPictures.size`."""
        return self._images[index].size

    def image_id(self, index: int) -> int:
        """See `LabelledPictures.image_id`."""
        return self._images[index].image_id

    def read(self, index: int) -> Image.Image:
        """See `LabelledPictures.read`."""
        record = self._images[index]
        return read_image(self._img_dir / record.file_name, expected_size=record.size)

    def labels_and_boxes(self, index: int) -> LabelledBoxes:
        """See `LabelledPictures.labels_and_boxes`."""
        rows = slice(self._starts[index], self._starts[index + 1])
        return LabelledBoxes(
            self._labels[rows].tolist(), self._boxes[rows], self._is_crowd[rows].tolist()
        )

    def negatives(self, index: int) -> Sequence[int] | None:
        """See `LabelledPictures.negatives`: LVIS lists them, the others do not."""
        return self._negatives.get(index)

    def _warn_about_missing_classes(self) -> None:
        present = set(self._labels[~self._is_crowd].tolist())
        missing = [name for label, name in self.classes.items() if label not in present]
        if missing and present:  # no box at all is an error of its own
            shown = ", ".join(map(repr, missing[:_SHOWN]))
            logger.warning(
                "%s: %d of %d classes have no box to learn from and will only ever be absent: %s%s",
                self.name,
                len(missing),
                len(self.classes),
                shown,
                ", ..." if len(missing) > _SHOWN else "",
            )


def _negatives(dataset: CocoDetection, label_of: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
    """Picture -> labels known to be absent, where the file says so."""
    negatives = {}
    for row, image in enumerate(dataset.images):
        if image.absent is None:
            continue
        unknown = [each for each in image.absent if each not in label_of]
        if unknown:
            raise ValueError(
                f"{dataset.ann_file}: image {image.image_id} has neg_category_ids {unknown[:5]}, "
                "which the file's categories do not list"
            )
        negatives[row] = tuple(label_of[each] for each in image.absent)
    return negatives
