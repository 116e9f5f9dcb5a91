"""Annotation files, the good and the bad."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from drawn import CATEGORIES, draw, write

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.box_faults import (
    NEGATIVE,
    NOT_FINITE,
    OUTSIDE,
    PARTLY_OUTSIDE,
    ZERO,
    box_fault,
)
from glipkit.data.datasets.coco import load_coco

IMAGES = [{"id": 5, "file_name": "a.png", "height": 40, "width": 60}]


def box(number: int, bbox: list[float], **changes: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 5, "category_id": 3, "bbox": bbox, **changes}


def test_ids_need_not_be_contiguous_nor_sorted(tmp_path: Path) -> None:
    spec = write(tmp_path, IMAGES, [box(1, [0, 0, 9, 9])], CATEGORIES[::-1])
    dataset = load_coco(spec)
    assert [(each.category_id, each.name) for each in dataset.categories] == [
        (3, "cat"), (7, "dog"), (11, "owl"),
    ]  # fmt: skip
    assert dataset.images[0].size == (40, 60)
    assert dataset.path(0) == tmp_path / "pictures" / "a.png"


def test_images_without_annotations_stay(tmp_path: Path) -> None:
    dataset = load_coco(draw(tmp_path))
    labelled = {each["image_id"] for each in dataset.annotations}
    assert len(dataset) == 20
    assert len(labelled) == 16


def test_first_keeps_the_annotations_of_its_images(tmp_path: Path) -> None:
    dataset = load_coco(draw(tmp_path)).first(3)
    assert [image.image_id for image in dataset.images] == [1000, 993, 986]
    assert [each["image_id"] for each in dataset.annotations] == [993, 986, 986]


def test_captions_are_no_classes(tmp_path: Path) -> None:
    """They have one category, "object", whose AP would mean nothing."""
    images = [{**IMAGES[0], "caption": "a cat"}]
    boxes = [box(1, [0, 0, 9, 9], tokens_positive=[[0, 5]])]
    with pytest.raises(ValueError, match=r'MDETR form.* Set kind: "grounding"'):
        load_coco(write(tmp_path, images, boxes, CATEGORIES[:1]))
    assert len(load_coco(write(tmp_path, images, boxes, CATEGORIES))) == 1  # captioned classes
    assert len(load_coco(write(tmp_path, images, [box(1, [0, 0, 9, 9])], CATEGORIES))) == 1


def test_missing_annotation_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASET", str(tmp_path))
    spec = DatasetSpec("val", tmp_path / "nowhere.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json .*DATASET\.md") as caught:
        load_coco(spec)
    assert f"dataset root: {tmp_path}" in str(caught.value)


def test_missing_image_folder(tmp_path: Path) -> None:
    spec = write(tmp_path, IMAGES, [])
    spec = DatasetSpec("val", spec.ann_file, tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"no image folder at .*elsewhere"):
        load_coco(spec)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ('{"images": [', "not valid JSON"),
        ("[]", "expected .*, got a list"),
        ("{}", "'images' is missing"),
        ('{"images": 3, "annotations": [], "categories": []}', "'images' is not a list"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "no images"),
        ('{"images": [{}], "annotations": [], "categories": []}', "no categories"),
        (
            '{"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1, "name": "a"}]}',
            "positive integer height and width",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "height": 0, "width": 5}],'
            '"categories": [{"id": 1, "name": "a"}]}',
            "positive integer height and width",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "height": Infinity, "width": 5}],'
            '"categories": [{"id": 1, "name": "a"}]}',
            "positive integer height and width",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "height": 1' + "0" * 400 + ', "width": 5}],'
            '"categories": [{"id": 1, "name": "a"}]}',
            "positive integer height and width",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "height": 3, "width": 5}],'
            '"categories": [{"id": 1, "name": " "}]}',
            "name that is not empty",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "height": 3, "width": 5}],'
            '"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "category ids must be unique.* 1$",
        ),
    ],
)
def test_files_of_another_shape(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_coco(DatasetSpec("odd", path, tmp_path))
    assert str(path) in str(caught.value)


def test_binary_in_place_of_json(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_coco(DatasetSpec("odd", tmp_path / "odd.json", tmp_path))


def test_unknown_category_ids(tmp_path: Path) -> None:
    boxes = [box(1, [0, 0, 9, 9]), box(2, [0, 0, 9, 9], category_id=99), box(3, [0, 0, 9, 9])]
    with pytest.raises(
        ValueError, match=r"1 of 3 annotations .*99 \(annotation 2\); listed: 3, 7, 11"
    ):
        load_coco(write(tmp_path, IMAGES, boxes))


def test_duplicate_image_ids(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image ids must be unique, but 1 occur more than once: 5"):
        load_coco(write(tmp_path, IMAGES * 2, []))


def test_many_offenders_are_not_all_listed(tmp_path: Path) -> None:
    images = [{**IMAGES[0], "id": i // 2} for i in range(40)]
    with pytest.raises(ValueError, match=r"0, 1, 2, 3, 4, \.\.\. \(20 in all\)"):
        load_coco(write(tmp_path, images, []))


@pytest.mark.parametrize(
    "bbox", [None, [1, 2, 3], ["1", "2", "3", "4"], [None] * 4, {"x": 1}, [10**400, 0, 1, 1]]
)
def test_boxes_that_are_no_boxes(tmp_path: Path, bbox: Any) -> None:
    with pytest.raises(ValueError, match="bbox of four numbers"):
        load_coco(write(tmp_path, IMAGES, [box(1, bbox)]))


@pytest.mark.parametrize(
    ("bbox", "fault"),
    [
        ([0, 0, 60, 40], None),
        ([-0.5, 0, 60.9, 40], None),  # the rounding of annotation tools
        ([math.nan, 0, 5, 5], NOT_FINITE),
        ([0, 0, math.inf, 5], NOT_FINITE),
        ([9, 9, -3, 5], NEGATIVE),
        ([9, 9, 0, 5], ZERO),
        ([61, 0, 5, 5], OUTSIDE),
        ([-9, 0, 9, 5], OUTSIDE),
        ([50, 30, 30, 5], PARTLY_OUTSIDE),
        ([-5, 0, 30, 5], PARTLY_OUTSIDE),
    ],
)
def test_box_faults(bbox: list[float], fault: str | None) -> None:
    assert box_fault(bbox, (40, 60)) == fault


def test_odd_boxes_are_counted_and_judged_where_possible(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = [
        box(0, [1, 2, 9, 9]),
        box(7, [math.nan, 0, 5, 5]),
        box(7, [9, 9, -3, 5]),
        box(2, [9, 9, 0, 5]),
        box(3, [50, 30, 30, 5]),
        box(4, [1, 2, 9, 9], image_id=12345),
        box(5, [1, 2, 9, 9], area=10**400),
    ]
    dataset = load_coco(write(tmp_path, IMAGES, boxes))
    assert [each["bbox"] for each in dataset.ground_truth()] == [
        [1, 2, 9, 9], [50, 30, 30, 5], [1, 2, 9, 9],
    ]  # fmt: skip
    assert [each["id"] for each in dataset.ground_truth()] == [1, 2, 3]
    assert dataset.ground_truth()[-1]["area"] == 81
    for line in (
        "of 7 annotations",
        "1  are not finite (NaN or infinite) (left out of the ground truth)",
        "1  have a negative width or height (left out",
        "1  have no width or no height (left out",
        "1  reach over the edge of their picture",
        "1  belong to no picture of the file (left out",
        "1  have an id that another one has",
    ):
        assert line in caplog.text


def test_a_good_file_needs_no_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_coco(draw(tmp_path))
    assert not caplog.records


def test_roboflow_group_is_no_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    categories = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 1, "name": "raccoon", "supercategory": "animals"},
    ]
    spec = write(tmp_path, IMAGES, [box(1, [0, 0, 9, 9], category_id=1)], categories)
    with caplog.at_level(logging.INFO):
        assert [each.name for each in load_coco(spec).categories] == ["raccoon"]
    assert "category 0 'animals' is no class and is left out of the prompt" in caplog.text


def test_background_is_no_class(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "__background__"}, {"id": 1, "name": "raccoon"}]
    spec = write(tmp_path, IMAGES, [], categories)
    assert [each.name for each in load_coco(spec).categories] == ["raccoon"]


def test_category_zero_with_boxes_is_a_class(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "dog", "supercategory": "cat"},
    ]
    spec = write(tmp_path, IMAGES, [box(1, [0, 0, 9, 9], category_id=0)], categories)
    assert [each.name for each in load_coco(spec).categories] == ["cat", "dog"]


def test_file_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "secret.json"
    path.write_text(json.dumps({"images": IMAGES, "categories": CATEGORIES}))
    dataset = load_coco(DatasetSpec("secret", path, tmp_path))
    assert len(dataset) == 1
    assert dataset.ground_truth() == []


def test_lvis_names_its_files_by_address(tmp_path: Path) -> None:
    images = [{"id": 5, "coco_url": "http://x.org/val2017/000139.jpg", "height": 40, "width": 60}]
    assert load_coco(write(tmp_path, images, [])).images[0].file_name == "val2017/000139.jpg"


def test_override_renames(tmp_path: Path) -> None:
    override = [{"id": 3, "name": "kitten"}, {"id": 7, "name": "puppy"}, {"id": 11, "name": "owl"}]
    dataset = load_coco(draw(tmp_path), override_categories=override)
    assert [each.name for each in dataset.categories] == ["kitten", "puppy", "owl"]


@pytest.mark.parametrize("ids", [[3, 7], [3, 11, 7], [1, 2, 3], [3, 7, 7, 11]])
def test_override_must_fit_the_file(tmp_path: Path, ids: list[int]) -> None:
    override = [{"id": each, "name": "thing"} for each in ids]
    with pytest.raises(ValueError, match=r"has the ids \[3, 7, 11\], the override has"):
        load_coco(draw(tmp_path), override_categories=override)


def test_override_needs_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs an id and a name"):
        load_coco(draw(tmp_path), override_categories=[{"id": 3, "name": ""}])


@pytest.mark.parametrize(
    ("annotations", "num_images", "num_boxes"),
    [
        ("raccoon/train/_annotations.coco.json", 160, 173),
        ("bccd/valid/_annotations.coco.json", 87, 1137),
        ("coco_mini/annotations/instances_val.json", 33, 227),
        ("lvis_sample/lvis_val_3.json", 3, 8),
    ],
)
def test_real_files(shared_data: Path, annotations: str, num_images: int, num_boxes: int) -> None:
    dataset = load_coco(DatasetSpec("real", shared_data / annotations, shared_data))
    assert len(dataset) == num_images
    assert len(dataset.ground_truth()) == num_boxes
