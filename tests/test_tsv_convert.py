"""COCO json to TSV and back: the same pictures, boxes and classes."""

import json
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from drawn import CATEGORIES, draw, write
from torch.testing import assert_close

from glipkit.data.catalog import DatasetSpec, find_dataset
from glipkit.data.datasets.coco import load_coco
from glipkit.data.datasets.tsv import load_tsv
from glipkit.tsv_convert import check, convert, main


def assert_same(spec: DatasetSpec, yaml_file: Path) -> None:
    dataset = load_coco(spec)
    found = load_tsv(find_dataset("mine", registered={"mine": {"yaml_path": str(yaml_file)}}))
    names = {category.category_id: category.name for category in dataset.categories}
    boxes = defaultdict(list)
    for each in dataset.ground_truth():
        boxes[each["image_id"]].append(each)
    assert list(found.classes.values()) == ["__background__", *names.values()]
    assert len(found) == len(dataset)
    for index, record in enumerate(dataset.images):
        truth = boxes[record.image_id]
        labels, corners, is_crowd = found.labels_and_boxes(index)
        assert found.key(index) == str(record.image_id)
        assert found.size(index) == record.size
        assert found.image_bytes(index) == dataset.path(index).read_bytes()
        assert [found.classes[label] for label in labels] == [
            names[each["category_id"]] for each in truth
        ]
        expected = torch.tensor([each["bbox"] for each in truth], dtype=torch.float32)
        assert_close(corners, expected.reshape(-1, 4))
        crowds = [bool(each["iscrowd"]) for each in truth]
        assert list(is_crowd) == (crowds if any(crowds) else [])


def test_there_and_back(tmp_path: Path) -> None:
    spec = draw(tmp_path)
    assert_same(spec, convert(spec.ann_file, spec.img_dir, tmp_path / "tsv", name="val"))
    made = {path.name for path in (tmp_path / "tsv").iterdir()}
    assert {"val.yaml", "val.tsv", "val.lineidx", "val.label.lineidx", "val.hw.lineidx"} <= made
    assert not any(name.startswith(".") for name in made)


def test_real_pictures(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "coco_mini"
    spec = DatasetSpec("val", folder / "annotations" / "instances_val.json", folder / "val")
    target = convert(spec.ann_file, spec.img_dir, tmp_path)
    assert_same(spec, target)
    assert check(target) == []


def test_what_exists_is_not_written_over(tmp_path: Path) -> None:
    spec = draw(tmp_path, num_images=2)
    convert(spec.ann_file, spec.img_dir, tmp_path)
    with pytest.raises(FileExistsError, match="pass --force"):
        convert(spec.ann_file, spec.img_dir, tmp_path)
    convert(spec.ann_file, spec.img_dir, tmp_path, force=True)


def test_a_missing_picture_leaves_nothing_behind(tmp_path: Path) -> None:
    spec = draw(tmp_path, num_images=3)
    (spec.img_dir / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2\.png"):
        convert(spec.ann_file, spec.img_dir, tmp_path / "tsv")
    assert list((tmp_path / "tsv").iterdir()) == []


def test_classes_of_one_name(tmp_path: Path) -> None:
    spec = write(
        tmp_path,
        [{"id": 1, "file_name": "a.png", "height": 4, "width": 4}],
        [],
        [*CATEGORIES, {"id": 20, "name": "cat"}],
    )
    with pytest.raises(ValueError, match="tells classes by their names"):
        convert(spec.ann_file, spec.img_dir, tmp_path)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = draw(tmp_path, num_images=3)
    out = tmp_path / "tsv"
    assert main([str(spec.ann_file), str(spec.img_dir), str(out), "--name", "val"]) == 0
    assert f'yaml_path: "{out / "val.yaml"}"' in capsys.readouterr().out
    assert main([str(spec.ann_file), str(spec.img_dir), str(out), "--name", "val"]) == 2
    assert "--force" in capsys.readouterr().err

    assert main(["--check", str(out / "val.yaml")]) == 0
    sizes = out / "val.hw.tsv"
    sizes.write_text(sizes.read_text().replace("60 90", "61 90"))
    labels = out / "val.label.tsv"
    labels.write_text(labels.read_text().replace("owl", "elk").replace("dog", "elk"))
    assert main(["--check", str(out / "val.yaml")]) == 1
    told = capsys.readouterr().out
    assert "val.tsv:1: the annotations say 61x90" in told
    assert "does not list elk" in told
    with pytest.raises(SystemExit):
        main([str(spec.ann_file)])


def test_json_stays_the_same_whoever_reads_it(tmp_path: Path) -> None:
    spec = draw(tmp_path, num_images=5)
    target = convert(spec.ann_file, spec.img_dir, tmp_path)
    rows = target.with_name("train.label.tsv").read_text().splitlines()
    key, text = rows[4].split("\t")
    first = json.loads(text)[0]
    (bbox,) = [
        each["bbox"]
        for each in json.loads(spec.ann_file.read_text())["annotations"]
        if each["image_id"] == int(key)
    ][:1]
    x, y, width, height = bbox
    assert first["rect"] == [x, y, x + width, y + height]  # continuous, not counted pixels
