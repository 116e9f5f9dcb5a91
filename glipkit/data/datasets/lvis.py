"""A dataset in LVIS form: boxes of many classes, of which each picture was searched for a few.

A picture's classes are of three kinds (LVIS, Gupta et al., CVPR 2019, section 3): those that have
boxes in it, those that somebody looked for in vain (`neg_category_ids`), and all others, of which
nobody knows. `not_exhaustive_category_ids` names classes of the first kind of which some objects
have no box.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco import CocoDetection, area_of, from_file
from glipkit.data.datasets.coco_file import CocoFile, checked
from glipkit.data.datasets.json_stream import JsonArrays
from glipkit.data.datasets.json_values import first_few

logger = logging.getLogger(__name__)

FREQUENCIES = ("r", "c", "f")  # rare, common, frequent
_LOOKED_AT = 100  # pictures that show how the folder is laid out
_OUTLINES = "segmentation"  # nine tenths of the file; boxes need none


@dataclass(frozen=True, slots=True)
class LvisDetection(CocoDetection):
    """Pictures with boxes of some of the listed classes; every class has a frequency."""


def load_lvis(
    spec: DatasetSpec, *, override_categories: Sequence[Mapping[str, Any]] | None = None
) -> LvisDetection:
    """Load an LVIS file (v1 or v0.5) and say in the log what is odd about it.

    Pictures are looked for under the folder by their `file_name`, else by the end of their
    `coco_url` ("val2017/000000000139.jpg", as in LVIS v1, whose pictures are of two splits of
    COCO), else by its last part; which of the three, the first pictures decide for all.

    Args:
        spec: where it lies.
        override_categories: see `load_coco`.

    Raises:
        FileNotFoundError: the annotation file or the image folder is not there.
        ValueError: the file is not usable (see `read_coco_file`), or not labelled like LVIS.
    """
    spec.check_files()
    file = _read(spec.ann_file)
    _check_labels(file)
    dataset = from_file(LvisDetection, spec, file, override_categories)
    names = picture_names(
        spec.img_dir, [(image.file_name, image.address) for image in dataset.images]
    )
    images = (replace(image, file_name=name) for image, name in zip(dataset.images, names))
    return replace(dataset, images=tuple(images))


def refuse_lvis(dataset: CocoDetection) -> None:
    """See to it that a dataset is labelled as COCO AP takes it to be.

    Raises:
        ValueError: its file is labelled like LVIS.
    """
    if any(image.absent is not None for image in dataset.images):
        raise ValueError(
            f"{dataset.ann_file} is labelled like LVIS: its pictures have neg_category_ids, and of "
            "other classes nobody knows whether they are there. COCO AP would count right boxes as "
            f'wrong; register dataset {dataset.name!r} with kind: "lvis" for LVIS AP'
        )


def _read(path: Path) -> CocoFile:
    """The file without outlines, which would take ten times the memory of everything else."""
    arrays = JsonArrays(path, ("images", "annotations", "categories"))
    content: dict[str, list[dict[str, Any]]] = {}
    for key, entry in arrays:
        entry.pop(_OUTLINES, None)
        content.setdefault(key, []).append(entry)
    for key in arrays.keys:  # also those whose list is empty
        content.setdefault(key, [])
    return checked(path, content, digest=arrays.digest)


def _check_labels(file: CocoFile) -> None:
    if unsaid := [image.image_id for image in file.images if image.absent is None]:
        raise ValueError(
            f"{file.path} is not an LVIS file: {len(unsaid)} of {len(file.images)} images have no "
            f"neg_category_ids (image {first_few(unsaid)}); LVIS AP counts a box of a class "
            "without truth as wrong only where that list says so. A file with all boxes of its "
            'classes is of kind: "coco"'
        )
    known = {category.category_id for category in file.categories}
    for image in file.images:
        for key, ids in (
            ("neg_category_ids", image.absent),
            ("not_exhaustive_category_ids", image.partly),
        ):
            if unknown := sorted(set(ids) - known):
                raise ValueError(
                    f"{file.path}: image {image.image_id} has {key} {first_few(unknown)}, which "
                    "the file's categories do not list"
                )
    lacking = [each for each in file.categories if each.frequency not in FREQUENCIES]
    if lacking:
        shown = [f"{each.category_id} {each.name!r} ({each.frequency!r})" for each in lacking]
        raise ValueError(
            f'{file.path}: an LVIS category needs a frequency, "r", "c" or "f" (in up to 10, up to '
            f"100, or more training pictures), for APr, APc and APf; {len(lacking)} of "
            f"{len(file.categories)} have none: {first_few(shown)}"
        )
    if flat := sum(area_of(each) <= 0 for each in file.annotations):
        logger.warning("%s: %d annotations have no area; LVIS AP passes over them", file.path, flat)
    have = {(each["image_id"], each["category_id"]) for each in file.annotations}
    both = sum((image.image_id, each) in have for image in file.images for each in image.absent)
    if both:
        logger.warning(
            "%s: %d times a picture has boxes of a class that its neg_category_ids call absent; "
            "the boxes count",
            *(file.path, both),
        )


def picture_names(folder: Path, names: Sequence[tuple[str, str]]) -> list[str]:
    """The names under which pictures lie in a folder; the first ones decide for all.

    Args:
        folder: of the pictures.
        names: of each picture its `file_name`, and the end of its `coco_url` or "".
    """
    forms = [
        [address or name for name, address in names],
        [name for name, _ in names],
        [(address or name).split("/")[-1] for name, address in names],
    ]

    def found(form: Sequence[str]) -> int:
        # Not Path.is_file, which refuses names that no file can have.
        return sum(os.path.isfile(folder / name) for name in form[:_LOOKED_AT])

    return max(forms, key=found)  # of equals the first, so without any the published layout
