"""Few pictures that show every class often enough, the same ones for the same seed."""

import logging
from pathlib import Path

import pytest
from drawn import CATEGORIES, draw, write

from glipkit.data.datasets.coco import CocoDetection, load_coco
from glipkit.data.few_shot import few_shot, prepared_few_shot

IMAGE = {"id": 5, "file_name": "5.png", "height": 60, "width": 90}
BOX = {"id": 1, "image_id": 5, "category_id": 7, "bbox": [1, 2, 30, 40]}


def ids(dataset: CocoDetection) -> list[int]:
    return [image.image_id for image in dataset.images]


def counts(dataset: CocoDetection) -> dict[int, int]:
    found = [each["category_id"] for each in dataset.annotations]
    return {category["id"]: found.count(category["id"]) for category in CATEGORIES}


@pytest.mark.parametrize("seed", [0, 3, 30, 300])
@pytest.mark.parametrize("shots", [1, 3, 5])
def test_few_shot_has_enough_and_repeats(tmp_path: Path, shots: int, seed: int) -> None:
    whole = load_coco(draw(tmp_path, num_images=60))
    chosen = few_shot(whole, shots=shots, seed=seed)
    assert min(counts(chosen).values()) >= shots
    assert len(chosen) <= 3 * shots  # every picture was taken for a class that still needed it
    assert ids(chosen) == ids(few_shot(whole, shots=shots, seed=seed))
    assert set(ids(chosen)) == {each["image_id"] for each in chosen.annotations}
    order = ids(whole)
    assert ids(chosen) == sorted(ids(chosen), key=order.index)
    own = [each for each in whole.annotations if each["image_id"] in ids(chosen)]
    assert list(chosen.annotations) == own


def test_few_shot_seeds_differ_and_zero_is_the_order_of_the_file(tmp_path: Path) -> None:
    whole = load_coco(draw(tmp_path, num_images=60))
    assert len({tuple(ids(few_shot(whole, shots=3, seed=seed))) for seed in range(6)}) == 6
    row_of = ids(whole).index
    last = max(map(row_of, ids(few_shot(whole, shots=1, seed=0))))
    before = {e["category_id"] for e in whole.annotations if row_of(e["image_id"]) < last}
    assert len(before) < 3, "went on although every class had been found"


def test_few_shot_names_rare_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [{**IMAGE, "id": number} for number in range(4)]
    boxes = [
        {**BOX, "id": 1, "image_id": 0},
        {**BOX, "id": 2, "image_id": 1, "iscrowd": 1},
        {**BOX, "id": 3, "image_id": 2, "bbox": [1, 1, 0, 5]},
        {**BOX, "id": 4, "image_id": 3, "category_id": 3},
    ]
    whole = load_coco(write(tmp_path, images, boxes))
    chosen = few_shot(whole, shots=2, seed=5)
    assert ids(chosen) == [0, 3]
    assert "3 classes have fewer than 2 boxes" in caplog.text
    assert "'cat' (1), 'dog' (1), 'owl' (0)" in caplog.text


def test_few_shot_of_nothing(tmp_path: Path) -> None:
    whole = load_coco(write(tmp_path, [IMAGE], []))
    with pytest.raises(ValueError, match="none of its 1 pictures has a box"):
        few_shot(whole, shots=1, seed=0)
    with pytest.raises(ValueError, match="FEW_SHOT"):
        few_shot(whole, shots=0, seed=0)


def test_prepared_files_are_preferred(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "three.json").write_text("{}")
    folder = str(tmp_path)
    registered = {
        "train": {"img_dir": folder, "ann_file": str(tmp_path / "all.json")},
        "train_3_30": {"img_dir": folder, "ann_file": str(tmp_path / "three.json")},
        "train_5_30": {"img_dir": folder, "ann_file": str(tmp_path / "five.json")},
    }

    def prepared(shots: int, suffix: str = "", *, quiet: bool = False) -> str | None:
        return prepared_few_shot(
            "train", shots=shots, seed=30, registered=registered, suffix=suffix, quiet=quiet
        )

    assert prepared(3) == prepared(3, "_grounding") == "train_3_30"
    assert prepared(1) is None
    assert not caplog.records
    with caplog.at_level(logging.INFO):
        assert (prepared(3, quiet=True), prepared(5, quiet=True)) == ("train_3_30", None)
        assert not caplog.records
        assert prepared(5) is None
    assert "five.json" in caplog.text
    assert "DATASETS.REGISTER.train_5_30" in caplog.text
