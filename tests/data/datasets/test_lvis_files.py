"""LVIS files: v1 and v0.5, where their pictures lie, and what is refused."""

import json
import logging
from pathlib import Path

import federated
import pytest

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.coco import load_coco
from glipkit.data.datasets.lvis import LvisDetection, load_lvis


def write(folder: Path, **changes: object) -> Path:
    """A file with one picture and two classes, and changes to its picture or first class."""
    path = federated.write_lvis(
        folder, [{"id": 139}], [{"image_id": 139, "category_id": 1, "bbox": [1, 2, 3, 4]}], 2
    )
    content = json.loads(path.read_text())
    for key, value in changes.items():
        entry = content["categories" if key == "frequency" else "images"][0]
        entry[key] = value
        if value is None:
            del entry[key]
    path.write_text(json.dumps(content))
    return path


def load(path: Path) -> LvisDetection:
    return load_lvis(DatasetSpec("lvis", path, path.parent, "lvis"))


def test_labels_are_read_and_outlines_are_not(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, neg_category_ids=[3], not_exhaustive_category_ids=[1]))
    assert dataset.images[0].absent == (3,)
    assert dataset.images[0].partly == (1,)
    assert [each.frequency for each in dataset.categories] == ["r", "c"]
    assert dataset.annotations[0].keys() == {"id", "image_id", "category_id", "bbox", "area"}
    assert dataset.digest == load_coco(DatasetSpec("same", dataset.ann_file, tmp_path)).digest


@pytest.mark.parametrize(
    ("file_name", "on_disk", "expected"),
    [
        (None, "val2017/000000000139.jpg", "val2017/000000000139.jpg"),  # v1
        ("COCO_val2014_000000000139.jpg", "val2017/000000000139.jpg", "val2017/000000000139.jpg"),
        ("val2014/a.jpg", "val2014/a.jpg", "val2014/a.jpg"),
        (None, "000000000139.jpg", "000000000139.jpg"),  # all pictures in one folder
        (None, None, "val2017/000000000139.jpg"),  # as published; what is missing is said later
    ],
)
def test_pictures_are_found(
    tmp_path: Path, file_name: str | None, on_disk: str | None, expected: str
) -> None:
    path = write(tmp_path, **({} if file_name is None else {"file_name": file_name}))
    if on_disk:
        (tmp_path / on_disk).parent.mkdir(exist_ok=True)
        (tmp_path / on_disk).touch()
    assert load(path).images[0].file_name == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neg_category_ids": None}, r"1 of 1 images have no neg_category_ids \(image 139\)"),
        ({"neg_category_ids": [4]}, "image 139 has neg_category_ids 4, which"),
        ({"not_exhaustive_category_ids": [5]}, "has not_exhaustive_category_ids 5, which"),
        ({"not_exhaustive_category_ids": "none"}, "must be a list of category ids"),
        ({"frequency": None}, r"needs a frequency.*1 of 2 have none: 1 'thing 0' \(None\)"),
        ({"frequency": "x"}, r"1 of 2 have none: 1 'thing 0' \('x'\)"),
        ({"height": 0}, "positive integer height"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "not a JSON object"), ('{"images": []}', "'annotations'|'categories'|no images")],
)
def test_other_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path)
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_labels_that_contradict_each_other_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    load(write(tmp_path, neg_category_ids=[1, 3]))
    assert "1 times a picture has boxes of a class that its neg_category_ids call" in caplog.text


def test_objects_without_area_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = write(tmp_path)
    path.write_text(path.read_text().replace('"area": 12', '"area": 0'))
    load(path)
    assert "1 annotations have no area; LVIS AP passes over them" in caplog.text


def test_classes_can_be_renamed_but_not_moved(tmp_path: Path) -> None:
    spec = DatasetSpec("lvis", write(tmp_path), tmp_path, "lvis")
    names = [{"id": 1, "name": "bird"}, {"id": 3, "name": "nest"}]
    renamed = load_lvis(spec, override_categories=names).categories
    assert [(each.name, each.frequency) for each in renamed] == [("bird", "r"), ("nest", "c")]
    with pytest.raises(ValueError, match=r"by ascending id.*\[1, 3\], the override has \[3, 1\]"):
        load_lvis(spec, override_categories=names[::-1])


def test_v0_5(shared_data: Path) -> None:
    folder = shared_data / "lvis_sample"
    spec = DatasetSpec("lvis", folder / "lvis_val_100.json", folder / "images", "lvis")
    dataset = load_lvis(spec)
    assert (len(dataset), len(dataset.categories), len(dataset.annotations)) == (100, 1230, 977)
    have = [dataset.path(index).is_file() for index in range(100)]
    assert sum(have) == 3  # those that the sample has, found although file_name says COCO_val2014_
