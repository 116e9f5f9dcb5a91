"""What an LVIS file says of pictures and classes, as sorted arrays."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from glipkit.data.datasets.coco import area_of
from glipkit.data.datasets.lvis import LvisDetection


@dataclass(frozen=True, slots=True)
class LvisTruth:
    """Boxes and labels by key: class x number of pictures + picture.

    Classes are numbered as `dataset.categories`, pictures by ascending id.
    """

    num_images: int
    keys: np.ndarray  # (M,) int64, ascending: of each box
    boxes: np.ndarray  # (M, 4) float64, x, y, width, height
    areas: np.ndarray  # (M,) float64, of the object's outline where the file says so
    labelled: np.ndarray  # (J,) int64, ascending: class is in the picture, or known not to be
    partly: np.ndarray  # (E,) int64, ascending: some objects of the class have no box

    def rows(self, first_class: int, last_class: int) -> slice:
        """The boxes of the classes from `first_class` to before `last_class`."""
        ends = np.array([first_class, last_class]) * self.num_images
        return slice(*np.searchsorted(self.keys, ends).tolist())

    def judges(self, keys: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Which detections count: those with an area, where their class is labelled.

        A box without area is neither right nor wrong, as in the `lvis` package.

        Args:
            keys: (N,) int64.
            boxes: (N, 4) x, y, width, height.

        Returns:
            (N,) bool.
        """
        has_area = boxes[:, 2:].astype(np.float64).prod(axis=1) > 0
        return among(keys, self.labelled) & has_area


def image_order(dataset: LvisDetection) -> dict[int, int]:
    """Picture id -> its number, by ascending id."""
    ids = sorted(image.image_id for image in dataset.images)
    return {image_id: number for number, image_id in enumerate(ids)}


def read_truth(dataset: LvisDetection) -> LvisTruth:
    """The truth of a dataset.

    Objects whose area is 0 are not there, as in the `lvis` package: neither they nor their label.
    A class whose only boxes have no width or height is in its picture still.
    """
    images = image_order(dataset)
    classes = {each.category_id: index for index, each in enumerate(dataset.categories)}

    def key(image_id: int, category_id: int) -> int:
        return classes[category_id] * len(images) + images[image_id]

    usable = [each for each in dataset.ground_truth() if each["area"] > 0]
    keys = np.array([key(each["image_id"], each["category_id"]) for each in usable], dtype=np.int64)
    order = np.argsort(keys, kind="stable")  # of equal overlaps the last in the file wins
    boxes = np.array([each["bbox"] for each in usable], dtype=np.float64).reshape(-1, 4)
    areas = np.array([each["area"] for each in usable], dtype=np.float64)
    present = (
        key(each["image_id"], each["category_id"])
        for each in dataset.annotations
        if area_of(each) > 0
    )
    absent = (key(image.image_id, each) for image in dataset.images for each in image.absent or ())
    partly = (key(image.image_id, each) for image in dataset.images for each in image.partly)
    return LvisTruth(
        num_images=len(images),
        keys=keys[order],
        boxes=boxes[order],
        areas=areas[order],
        labelled=_sorted({*present, *absent}),
        partly=_sorted(set(partly)),
    )


def among(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N,) bool: which `keys` are in `known`, which ascends."""
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    return known[np.searchsorted(known, keys).clip(max=len(known) - 1)] == keys


def _sorted(keys: Iterable[int]) -> np.ndarray:
    return np.array(sorted(keys), dtype=np.int64)
