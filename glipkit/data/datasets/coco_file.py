"""A COCO-format json file, read with suspicion."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glipkit.data.datasets.box_faults import box_fault
from glipkit.data.datasets.json_values import (
    check_unique,
    first_few,
    hashable,
    is_integer,
    is_number,
    shown,
)

logger = logging.getLogger(__name__)

ORPHANED = "belong to no picture of the file"
_LONGEST = 2**31 - 1  # pixels on a side; no picture format goes beyond


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One picture that the file knows."""

    image_id: int
    file_name: str  # relative to the image folder
    size: tuple[int, int]  # (height, width) in pixels, as the file claims
    # LVIS: categories known to be absent. Of others nobody says that they are, if this is given.
    absent: tuple[int, ...] | None = None
    # LVIS: categories of which some objects have no box.
    partly: tuple[int, ...] = ()
    address: str = ""  # LVIS: the last two parts of its coco_url, "val2017/000000000139.jpg"


@dataclass(frozen=True, slots=True)
class Category:
    """One class."""

    category_id: int
    name: str
    frequency: str | None = None  # LVIS: "r", "c" or "f", in how many training pictures it is


@dataclass(frozen=True, slots=True)
class CocoFile:
    """A checked annotation file: ids are unique and refer to something, boxes have four numbers."""

    path: Path
    digest: str  # SHA-256 of the file, in hex
    images: tuple[ImageRecord, ...]
    categories: tuple[Category, ...]  # by id, ascending
    annotations: tuple[dict[str, Any], ...]  # as in the file, less those of unlisted pictures
    num_annotations: int  # how many the file has
    faults: dict[str, int]  # what is wrong with how many annotations


def read_coco_file(path: Path) -> CocoFile:
    """Read and check an annotation file.

    Broken boxes are counted in `faults` and kept in `annotations`: what to do with them is for
    the user of the file to decide. Annotations of pictures that the file does not list are
    counted and left out.

    Raises:
        ValueError: the file is not JSON, not COCO-shaped, uses an id twice for different pictures
            or categories, or labels boxes with categories that it does not list.
    """
    raw = path.read_bytes()
    try:
        content = json.loads(raw)
    except ValueError as error:  # also what is not UTF-8
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    return checked(path, content, digest=hashlib.sha256(raw).hexdigest())


def checked(path: Path, content: Any, *, digest: str) -> CocoFile:
    """What a file holds, if it is in order; see `read_coco_file`.

    Args:
        path: the file, for messages.
        content: its JSON value.
        digest: SHA-256 of the file, in hex.
    """
    _check_shape(path, content)
    _check_classes(path, content)
    images = tuple(image_record(path, entry) for entry in content["images"])
    check_unique(path, "image ids", (image.image_id for image in images))
    categories = _categories(path, content["categories"])
    known = {category.category_id for category in categories}
    annotations, faults = _annotations(path, content.get("annotations", []), images, known)
    categories = _without_group(path, content["categories"], categories, annotations)
    return CocoFile(
        path=path,
        digest=digest,
        images=images,
        categories=categories,
        annotations=annotations,
        num_annotations=len(content.get("annotations", [])),
        faults=faults,
    )


def _check_classes(path: Path, content: dict[str, Any]) -> None:
    """Refuse captions, whose one category says nothing: its AP would be a figure about "object"."""
    if len({entry.get("name") for entry in content["categories"]}) > 1:
        return  # classes with captions beside them
    has_captions = any("caption" in entry for entry in content["images"])
    if has_captions and any("tokens_positive" in each for each in content.get("annotations", [])):
        raise ValueError(
            f"{path} has captions whose words have boxes (MDETR form), and is read as classes with "
            'boxes. Set kind: "grounding" in DATASETS.REGISTER'
        )


def _check_shape(path: Path, content: Any) -> None:
    expected = '{"images": [...], "annotations": [...], "categories": [...]}'
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is not a COCO annotation file: expected {expected}, got a "
            f"{type(content).__name__}"
        )
    for key in ("images", "annotations", "categories"):
        if key == "annotations" and key not in content:
            continue  # a test set whose labels are secret
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(
                f"{path} is not a COCO annotation file: expected {expected}, but {key!r} is "
                f"{'missing' if key not in content else 'not a list of objects'} "
                f"(keys found: {', '.join(map(str, content)) or 'none'})"
            )
    for key in ("images", "categories"):
        if not content[key]:
            raise ValueError(f"{path} lists no {key}; there is nothing to look for")


def image_record(path: Path, entry: dict[str, Any]) -> ImageRecord:
    """Check an entry of "images".

    Raises:
        ValueError: it has no integer id, no file name, or no positive integer height and width, or
            its neg_category_ids or not_exhaustive_category_ids are not integers.
    """
    address = entry.get("coco_url")
    address = "/".join(address.split("/")[-2:]) if isinstance(address, str) else ""
    name = entry.get("file_name") or address
    sizes = (entry.get("height"), entry.get("width"))
    if (
        not is_integer(entry.get("id"))
        or not (isinstance(name, str) and name)
        or not all(is_number(side) and 0 < side <= _LONGEST and side % 1 == 0 for side in sizes)
    ):
        raise ValueError(
            f"{path}: an image needs an integer id, a file_name, and a positive integer height "
            f"and width, got {shown(entry)}"
        )
    absent, partly = (
        _ids(path, entry, key) for key in ("neg_category_ids", "not_exhaustive_category_ids")
    )
    size = (int(sizes[0]), int(sizes[1]))
    return ImageRecord(entry["id"], name, size, absent, partly or (), address)


def _ids(path: Path, entry: dict[str, Any], key: str) -> tuple[int, ...] | None:
    ids = entry.get(key)
    if ids is not None and not (isinstance(ids, list) and all(map(is_integer, ids))):
        raise ValueError(f"{path}: {key} must be a list of category ids, got {shown(entry)}")
    return None if ids is None else tuple(ids)


def _categories(path: Path, entries: Sequence[dict[str, Any]]) -> tuple[Category, ...]:
    for entry in entries:
        name = entry.get("name")
        if not is_integer(entry.get("id")) or not (isinstance(name, str) and name.strip()):
            raise ValueError(
                f"{path}: a category needs an integer id and a name that is not empty, got "
                f"{shown(entry)}"
            )
    check_unique(path, "category ids", (entry["id"] for entry in entries))
    return tuple(
        sorted(
            (Category(entry["id"], entry["name"], entry.get("frequency")) for entry in entries),
            key=lambda category: category.category_id,
        )
    )


def _annotations(
    path: Path,
    entries: Sequence[dict[str, Any]],
    images: Sequence[ImageRecord],
    known_categories: set[int],
) -> tuple[tuple[dict[str, Any], ...], dict[str, int]]:
    sizes = {image.image_id: image.size for image in images}
    kept, unknown, faults, ids = [], [], Counter(), Counter()
    for entry in entries:
        box = entry.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
            raise ValueError(
                f"{path}: an annotation needs a bbox of four numbers [x, y, width, height] in "
                f"pixels, got {shown(entry)}"
            )
        ids[hashable(entry.get("id"))] += 1
        if hashable(entry.get("category_id")) not in known_categories:
            unknown.append(entry)
        elif hashable(entry.get("image_id")) not in sizes:
            faults[ORPHANED] += 1
        else:
            kept.append(entry)
            fault = box_fault(box, sizes[entry["image_id"]])
            faults.update([fault] if fault else [])
    if unknown:
        names = [f"{e.get('category_id')!r} (annotation {e.get('id')!r})" for e in unknown]
        raise ValueError(
            f"{path}: {len(unknown)} of {len(entries)} annotations have a category_id that the "
            f"file's categories do not list: {first_few(names)}; listed: "
            f"{first_few(sorted(known_categories))}"
        )
    repeated = sum(count - 1 for count in ids.values() if count > 1)
    if repeated:
        faults["have an id that another one has (numbered anew)"] = repeated
    return tuple(kept), dict(faults)


def _without_group(
    path: Path,
    entries: Sequence[dict[str, Any]],
    categories: tuple[Category, ...],
    annotations: Sequence[dict[str, Any]],
) -> tuple[Category, ...]:
    """Leave out the category 0 that is no class: a background, or Roboflow's group name.

    Roboflow writes the name of the whole collection as category 0, above all others, and never
    gives it a box.
    """
    first = categories[0]
    groups = {entry.get("supercategory") for entry in entries if entry["id"] != 0}
    is_group = first.name in groups or first.name.strip("_").lower() == "background"
    has_boxes = any(annotation["category_id"] == 0 for annotation in annotations)
    if first.category_id != 0 or has_boxes or not is_group:
        return categories
    logger.info("%s: category 0 %r is no class and is left out of the prompt", path, first.name)
    return categories[1:]
