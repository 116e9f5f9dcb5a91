"""Captions whose words have boxes: the good files and the bad."""

import json
import logging
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from glipkit.data.catalog import DatasetSpec, find_dataset
from glipkit.data.datasets.box_faults import NEGATIVE, NOT_FINITE, OUTSIDE, PARTLY_OUTSIDE, ZERO
from glipkit.data.datasets.coco_file import ORPHANED
from glipkit.data.datasets.grounding import GroundingSource, load_grounding
from glipkit.data.datasets.grounding_file import (
    BEYOND,
    BLANK,
    REPEATED,
    WORDLESS,
    read_grounding_file,
)
from glipkit.data.images import ImageError

CAPTION = "a dog and a red ball"  # 20 characters; the dog is [0, 5), the ball [10, 20)


def record(number: int = 7, **changes: Any) -> dict[str, Any]:
    return {
        "id": number, "file_name": "a.png", "height": 40, "width": 60, "caption": CAPTION, **changes
    }  # fmt: skip


def box(number: int, bbox: Any = (2, 3, 10, 5), spans: Any = ((0, 5),), **changes: Any) -> dict:
    words = {"tokens_positive": spans, "bbox": bbox}
    return {"id": number, "image_id": 7, "category_id": 1, "iscrowd": 0, **words, **changes}


def without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}


def write(folder: Path, images: Any, annotations: Any, name: str = "flickr30k_x") -> DatasetSpec:
    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("RGB", (60, 40)).save(folder / "pictures" / "a.png")
    content = {"images": images, "annotations": annotations}
    (folder / "a.json").write_text(json.dumps(content))
    return DatasetSpec(name, folder / "a.json", folder / "pictures", "grounding")


def test_phrases_are_what_boxes_share(tmp_path: Path) -> None:
    ball, dog = [[10, 20]], [[0, 5]]
    boxes = [
        box(1, spans=ball),
        box(2, [20, 8, 6, 6], dog),
        box(3, [2, 3, 10, 5], dog),  # the box of annotation 1 again, for other words
        box(4, [30, 8, 6, 6], [[0, 5], [10, 20]]),
        box(5, [40, 8, 6, 6], ball),
    ]
    source = load_grounding(write(tmp_path, [record()], boxes))
    sample = source.load(0)
    assert sample.prompt.caption == CAPTION
    assert [(phrase.text, phrase.spans) for phrase in sample.prompt.phrases] == [
        ("a red ball", ((10, 20),)),
        ("a dog", ((0, 5),)),
        ("a dog a red ball", ((0, 5), (10, 20))),
    ]
    assert sample.box_phrases.long().argmax(dim=1).tolist() == [0, 1, 1, 2, 0]
    assert sample.box_phrases.sum(dim=1).tolist() == [1] * 5
    assert_close(sample.boxes[0], torch.tensor([2.0, 3.0, 11.0, 7.0]))
    assert (sample.image_id, source.image_id(0), source.size(0)) == (7, 7, (40, 60))
    assert sample.image.size == (60, 40)


def test_boxes_are_cut_to_the_picture_and_those_without_extent_go_with_their_words(
    tmp_path: Path,
) -> None:
    boxes = [
        box(1, [-5.5, 35, 100, 10]),
        box(2, [10, 10, 1, 9], [[10, 20]]),  # one pixel wide: x2 = x1
        box(3, [59, 10, 9, 9], [[2, 5]]),  # one pixel of it is inside
        box(4, [5, 5, 9, 9], [[0, 5]], iscrowd=1),
    ]
    source = load_grounding(write(tmp_path, [record()], boxes))
    sample = source.load(0)
    assert_close(sample.boxes, torch.tensor([[0.0, 35.0, 59.0, 39.0]]))
    assert [phrase.text for phrase in sample.prompt.phrases] == ["a dog"]
    assert source.num_boxes(0) == 1


def test_a_caption_stays_when_all_its_boxes_go(tmp_path: Path) -> None:
    images = [record(), record(8), record(9)]
    boxes = [box(1, image_id=9), box(2, [10, 10, 1, 1], image_id=8)]
    source = load_grounding(write(tmp_path, images, boxes))
    assert [source.num_boxes(index) for index in range(3)] == [0, 0, 1]
    for index in (0, 1):
        sample = source.load(index)
        assert sample.prompt.phrases == ()
        assert sample.boxes.shape == (0, 4)
        assert sample.box_phrases.shape == (0, 0)


def test_words_to_hide(tmp_path: Path) -> None:
    spec = write(tmp_path, [record()], [box(1)])
    assert load_grounding(spec).load(0).maskable is None


def test_annotations_in_any_order(tmp_path: Path) -> None:
    images = [record(8), record(-3), record(7)]
    boxes = [box(n, [n, 0, 9, 9], image_id=i) for n, i in enumerate([7, 8, -3, 7, 8])]
    content = {"annotations": boxes, "images": images}  # boxes before pictures
    (tmp_path / "a.json").write_text(json.dumps(content))
    file = read_grounding_file(tmp_path / "a.json")
    assert [file[index].boxes[:, 0].tolist() for index in range(3)] == [[1, 4], [2], [0, 3]]


def test_what_else_the_file_says_is_kept(tmp_path: Path) -> None:
    extras = {
        "dataset_name": "flickr", "original_img_id": 12, "sentence_id": 3, "data_source": "vg",
        "tokens_negative": [[0, 20]], "tokens_positive_eval": [[[0, 5]], [[2, 5], [10, 20]]],
    }  # fmt: skip
    file = read_grounding_file(write(tmp_path, [record(**extras)], [box(1)]).ann_file)
    assert file[0].extras == extras
    assert file[0].data_source == "vg"
    assert len(file.digest) == 64


def test_oddities_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = [
        box(1),
        box(2, [0, 0, math.nan, 5]),
        box(3, [0, 0, -4, 5]),
        box(4, [0, 0, 4, 0]),
        box(5, [-1.5, 0, 5, 5]),
        box(6, [70, 0, 5, 5]),
        box(7, spans=[]),
        box(8, spans=[[0, 5], [19, 30]]),  # the second range is no part of the caption
        box(9, spans=[[10, 22]]),  # two characters too long: the tokens are found all the same
        box(10, spans=[[5, 5], [21, 22], [-1, 3]]),
        box(11, image_id=404),
        box(12, image_id=9),  # of a blank caption
        box(12, [9, 9, 9, 9]),
    ]
    spec = write(tmp_path, [record(), record(9, caption=" ")], boxes)
    with caplog.at_level(logging.WARNING):
        source = load_grounding(spec)
    assert source.file.faults == {
        NOT_FINITE: 1, NEGATIVE: 1, ZERO: 1, PARTLY_OUTSIDE: 1, OUTSIDE: 1,
        BEYOND: 2, WORDLESS: 2, ORPHANED: 1, BLANK: 1, REPEATED: 1,
    }  # fmt: skip
    assert "of 13 annotations in" in caplog.text
    assert f"2  {WORDLESS} (left out" in caplog.text
    assert len(source) == 1
    assert source.file[0].spans == (
        ((0, 5),), ((0, 5),), ((0, 5),), ((0, 5),), ((10, 20),), ((0, 5),)
    )  # fmt: skip
    assert source.num_boxes(0) == 5  # all but the one outside


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        ([without(record(), "caption")], [box(1)], 'needs a caption, .* kind: "coco"'),
        ([record(caption=None)], [box(1)], "needs a caption"),
        ([record(caption="\ud800")], [box(1)], "surrogates not allowed"),
        ([without(record(), "file_name")], [box(1)], "a file_name"),
        ([record(width=0)], [box(1)], "positive integer height"),
        ([record(2**70)], [box(1)], "too (large|big)"),
        ([record(), record()], [box(1)], "image ids must be unique, .* once: 7"),
        ([], [box(1)], "no image with a caption"),
        ([record(caption="")], [box(1)], "no image with a caption"),
        ([record()], [], r"none of its 0 annotations .* \(none\)"),
        ([record()], [box(1, image_id=5)], r"none of its 1 annotations .*\(1 belong to no picture"),
        ([record()], [without(box(1), "tokens_positive")], "needs tokens_positive"),
        ([record()], [box(1, spans=[0, 5])], "needs tokens_positive"),
        ([record()], [box(1, spans=[[0, "5"]])], "needs tokens_positive"),
        ([record()], [without(box(1), "image_id")], "needs an integer image_id"),
        ([record()], [without(box(1), "bbox")], "needs a bbox of four numbers"),
        ([record()], [box(1, [1, 2, 3])], "needs a bbox of four numbers"),
        ([record()], [box(1, [1, 2, 3, "4"])], "needs a bbox of four numbers"),
        ([record()], 3, "'annotations' is not a list of objects"),
    ],
)
def test_unusable_files(tmp_path: Path, images: Any, annotations: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_grounding(write(tmp_path, images, annotations))
    assert "a.json" in str(caught.value)


def test_half_written_file(tmp_path: Path) -> None:
    spec = write(tmp_path, [record()], [box(1), box(2)])
    text = spec.ann_file.read_text()
    spec.ann_file.write_text(text[:-40])
    with pytest.raises(ValueError, match="the file ends too early; was it copied"):
        load_grounding(spec)
    spec.ann_file.write_text(text[: text.index(', "annotations"')] + "}")
    with pytest.raises(ValueError, match=r"'annotations' is missing \(keys found: images\)"):
        load_grounding(spec)


def test_missing_files(tmp_path: Path) -> None:
    spec = write(tmp_path, [record()], [box(1)])
    source = load_grounding(spec)
    source.path(0).unlink()
    with pytest.raises(ImageError, match=r"a\.png: no such file"):
        source.load(0)
    spec.ann_file.unlink()
    with pytest.raises(FileNotFoundError, match="no annotation file"):
        load_grounding(spec)


def test_pictures_in_two_folders(tmp_path: Path) -> None:
    images = [record(1, data_source="vg"), record(2, data_source="coco")]
    boxes = [box(n, image_id=n) for n in (1, 2)]
    single = write(tmp_path, images, boxes)
    folders = (("coco", tmp_path / "coco"), ("vg", tmp_path / "vg"))
    spec = DatasetSpec("mixed", single.ann_file, tmp_path, "grounding", folders)
    for (source, folder), shade in zip(folders, (10, 20)):
        with pytest.raises(FileNotFoundError, match=f"no image folder.* at .*/{source} "):
            load_grounding(spec)
        folder.mkdir()
        Image.new("RGB", (60, 40), (shade,) * 3).save(folder / "a.png")
    source = load_grounding(spec)
    assert [source.load(i).image.getpixel((0, 0))[0] for i in range(2)] == [20, 10]
    assert load_grounding(single).path(0) == single.img_dir / "a.png"  # one folder: no question


@pytest.mark.parametrize(
    ("said", "message"), [({"data_source": "cc"}, "data_source 'cc'"), ({}, "no data_source")]
)
def test_unknown_collection(tmp_path: Path, said: dict, message: str) -> None:
    images = [record(1, data_source="vg"), record(2, **said)]
    spec = write(tmp_path, images, [box(1, image_id=1)])
    folders = (("coco", tmp_path), ("vg", tmp_path))
    spec = DatasetSpec("mixed", spec.ann_file, tmp_path, "grounding", folders)
    with pytest.raises(ValueError, match=rf"record 2 \(a\.png\) has {message}"):
        load_grounding(spec)


def test_loader_processes_get_a_copy(tmp_path: Path) -> None:
    source = load_grounding(write(tmp_path, [record()], [box(1)]))
    copy: GroundingSource = pickle.loads(pickle.dumps(source))
    assert_close(copy.load(0).boxes, source.load(0).boxes)
    assert copy.load(0).prompt == source.load(0).prompt


def test_a_record_takes_bytes_not_kilobytes(tmp_path: Path) -> None:
    images = [record(number) for number in range(100)]
    boxes = [box(n, image_id=n % 100) for n in range(600)]
    file = read_grounding_file(write(tmp_path, images, boxes).ann_file)
    assert file.nbytes < 400 * len(file)  # json.load takes 7 kB


def test_flickr_pictures(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shared_data / "grounding_mini"
    entry = {
        "ann_file": str(folder / "mdetr_annotations" / "final_flickr_separateGT_train.json"),
        "img_folder": str(folder / "images"),
    }
    source = load_grounding(find_dataset("flickr30k_mini", registered={"flickr30k_mini": entry}))
    samples = [source.load(index) for index in range(len(source))]
    assert len(samples) == 15
    assert sum(len(sample.prompt.phrases) for sample in samples) == 38
    for index, sample in enumerate(samples):
        asked = [
            tuple(map(tuple, phrase))
            for phrase in source.file[index].extras["tokens_positive_eval"]
        ]
        assert {phrase.spans for phrase in sample.prompt.phrases} == set(asked)
        assert (sample.image.height, sample.image.width) == source.size(index)
        assert bool((sample.boxes[:, 2:] > sample.boxes[:, :2]).all())
    assert samples[0].prompt.phrases[0].text == "A white and orange cat"


def test_referring_expressions(shared_data: Path) -> None:
    spec = DatasetSpec(
        "refcoco_val",
        shared_data / "refexp_mini" / "finetune_refcoco_val.json",
        shared_data / "grounding_mini" / "images",
        "grounding",
    )
    source = load_grounding(spec)
    assert len(source) == 37
    assert source.file.faults == {}
    assert [source.num_boxes(index) for index in range(37)] == [1] * 37
    assert {source.file[index].extras["dataset_name"] for index in range(37)} == {"refcoco"}
    np.testing.assert_array_equal(np.diff(source.file.box_starts), 1)
