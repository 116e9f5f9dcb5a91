"""COCO-form files as something to learn from."""

import json
from pathlib import Path

import pytest
import torch
from drawn import draw, write

from glipkit.data.datasets.coco import load_coco
from glipkit.data.datasets.coco_pictures import CocoPictures

IMAGE = {"id": 5, "file_name": "5.png", "height": 60, "width": 90}
BOX = {"id": 1, "image_id": 5, "category_id": 7, "bbox": [1, 2, 30, 40]}


def pictures_of(folder: Path, image: dict, *boxes: dict) -> CocoPictures:
    return CocoPictures(load_coco(write(folder, [image], list(boxes))))


def test_labels_count_from_one(tmp_path: Path) -> None:
    pictures = CocoPictures(load_coco(draw(tmp_path)))
    assert pictures.classes == {1: "cat", 2: "dog", 3: "owl"}  # their ids are 3, 7 and 11
    assert len(pictures) == 20
    content = json.loads((tmp_path / "boxes.json").read_text())
    label_of = {3: 1, 7: 2, 11: 3}
    for index, image in enumerate(content["images"]):
        own = [each for each in content["annotations"] if each["image_id"] == image["id"]]
        labels, boxes, is_crowd = pictures.labels_and_boxes(index)
        assert labels == [label_of[each["category_id"]] for each in own]
        expected = torch.tensor([each["bbox"] for each in own]).reshape(-1, 4)
        torch.testing.assert_close(boxes, expected)
        assert is_crowd == [False] * len(own)
        assert pictures.size(index) == (image["height"], image["width"])
        assert pictures.read(index).size == (image["width"], image["height"])
        assert pictures.negatives(index) is None


def test_crowd_absence_and_endless_numbers(tmp_path: Path) -> None:
    endless = {**BOX, "id": 2, "bbox": [0, 0, 1e300, 5], "iscrowd": 1}
    pictures = pictures_of(tmp_path, {**IMAGE, "neg_category_ids": [11, 3]}, BOX, endless)
    labels, boxes, is_crowd = pictures.labels_and_boxes(0)
    assert labels == [2, 2]
    assert is_crowd == [False, True]
    assert boxes[1, 2] == float("inf")
    assert pictures.negatives(0) == (3, 1)


def test_lvis_v1_finds_pictures_by_their_address(tmp_path: Path) -> None:
    image = {
        "id": 5,
        "coco_url": "http://images.cocodataset.org/train2017/000000000005.jpg",
        "height": 60,
        "width": 90,
        "neg_category_ids": [],
    }
    dataset = load_coco(write(tmp_path, [image], [BOX]))
    assert dataset.path(0) == tmp_path / "pictures" / "train2017" / "000000000005.jpg"
    assert CocoPictures(dataset).negatives(0) == ()


@pytest.mark.parametrize(
    ("absent", "complaint"), [([3, 99], r"neg_category_ids \[99\]"), ("cat", "must be a list")]
)
def test_bad_negatives(tmp_path: Path, absent: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        pictures_of(tmp_path, {**IMAGE, "neg_category_ids": absent}, BOX)


def test_classes_without_boxes_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crowd = {**BOX, "id": 2, "category_id": 3, "iscrowd": 1}
    pictures_of(tmp_path, IMAGE, BOX, crowd)
    assert "2 of 3 classes have no box to learn from" in caplog.text
    assert "'cat', 'owl'" in caplog.text
