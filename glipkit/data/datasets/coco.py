"""A dataset in COCO format: pictures, classes and boxes, checked and explained."""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.box_faults import UNUSABLE, box_fault, fault_rows
from glipkit.data.datasets.coco_file import (
    ORPHANED,
    Category,
    CocoFile,
    ImageRecord,
    read_coco_file,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CocoDetection:
    """Pictures with boxes of listed classes. Phrase i of its prompts is `categories[i]`."""

    name: str
    ann_file: Path
    digest: str  # SHA-256 of the annotation file
    img_dir: Path
    images: tuple[ImageRecord, ...]  # in the file's order
    categories: tuple[Category, ...]  # by id, ascending
    annotations: tuple[dict[str, Any], ...]  # of `images`, as in the file

    def __len__(self) -> int:
        return len(self.images)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the pictures lie."""
        return (self.img_dir,)

    def path(self, index: int) -> Path:
        """Where picture `index` lies."""
        return self.img_dir / self.images[index].file_name

    def first(self, count: int) -> "CocoDetection":
        """The same dataset cut to its first `count` pictures (TEST.SUBSET)."""
        return self.subset(range(min(count, len(self))))

    def subset(self, indices: Sequence[int]) -> "CocoDetection":
        """The same dataset with these of its pictures, in this order."""
        images = tuple(self.images[index] for index in indices)
        ids = {image.image_id for image in images}
        annotations = tuple(each for each in self.annotations if each["image_id"] in ids)
        return replace(self, images=images, annotations=annotations)

    def ground_truth(self) -> list[dict[str, Any]]:
        """Annotations that a detection can match, numbered from 1, with what COCO AP looks at.

        Boxes with NaN, negative or no size are left out (the log says how many when the dataset is
        loaded); boxes that reach over the edge stay. Numbering anew makes ids unique and spares
        pycocotools the id 0, which it takes for "not matched". An area that the file leaves out is
        that of the box.
        """
        sizes = {image.image_id: image.size for image in self.images}
        usable = [
            each
            for each in self.annotations
            if box_fault(each["bbox"], sizes[each["image_id"]]) not in UNUSABLE
        ]
        return [
            {
                "id": number,
                "image_id": each["image_id"],
                "category_id": each["category_id"],
                "bbox": each["bbox"],
                "area": area_of(each),
                "iscrowd": int(bool(each.get("iscrowd"))),
            }
            for number, each in enumerate(usable, start=1)
        ]


Form = TypeVar("Form", bound=CocoDetection)


def load_coco(
    spec: DatasetSpec, *, override_categories: Sequence[Mapping[str, Any]] | None = None
) -> CocoDetection:
    """Load a dataset and say in the log what is odd about it.

    Args:
        spec: where it lies.
        override_categories: DATASETS.OVERRIDE_CATEGORY, names that replace the file's:
            `{"id": 1, "name": "penguin"}`, one for each category of the file, by ascending id.

    Raises:
        FileNotFoundError: the annotation file or the image folder is not there.
        ValueError: the file is not usable (see `read_coco_file`), or the overriding categories
            are not those of the file.
    """
    spec.check_files()
    return from_file(CocoDetection, spec, read_coco_file(spec.ann_file), override_categories)


def from_file(
    form: type[Form],
    spec: DatasetSpec,
    file: CocoFile,
    override_categories: Sequence[Mapping[str, Any]] | None,
) -> Form:
    """A dataset of this form (`CocoDetection`, or a subclass of it) from a checked file.

    See `load_coco`, also for the arguments and what is raised.
    """
    categories = file.categories
    if override_categories is not None:
        categories = _overridden(categories, override_categories, spec)
    _report(spec, file.faults, file.num_annotations)
    return form(
        name=spec.name,
        ann_file=spec.ann_file,
        digest=file.digest,
        img_dir=spec.img_dir,
        images=file.images,
        categories=categories,
        annotations=file.annotations,
    )


def area_of(annotation: Mapping[str, Any]) -> float:
    """The object's area in pixels, as the file says, or that of its box if the file does not."""
    area = annotation.get("area")
    if isinstance(area, (int, float)) and abs(area) <= sys.float_info.max:  # a number, not NaN
        return area
    width, height = annotation["bbox"][2:]
    return width * height


def _overridden(
    categories: tuple[Category, ...], override: Sequence[Mapping[str, Any]], spec: DatasetSpec
) -> tuple[Category, ...]:
    for entry in override:
        if "id" not in entry or not str(entry.get("name", "")).strip():
            raise ValueError(
                "DATASETS.OVERRIDE_CATEGORY needs an id and a name in each entry, got "
                f"{dict(entry)}"
            )
    ids = [category.category_id for category in categories]
    given = [entry["id"] for entry in override]
    if given != ids:
        raise ValueError(
            "DATASETS.OVERRIDE_CATEGORY must name every category of the file once, by ascending "
            f"id: {spec.ann_file} has the ids {ids}, the override has {given}"
        )
    return tuple(
        replace(category, name=str(entry["name"])) for category, entry in zip(categories, override)
    )


def _report(spec: DatasetSpec, faults: Mapping[str, int], num_annotations: int) -> None:
    if faults:
        rows = fault_rows(faults, left_out={*UNUSABLE, ORPHANED})
        logger.warning(
            "%s: of %d annotations in %s\n%s", spec.name, num_annotations, spec.ann_file, rows
        )
