"""Dataset names and the files behind them."""

import json
from pathlib import Path

import pytest

from glipkit.data.catalog import dataset_root, find_dataset


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASET", str(tmp_path))


def test_published_names_lead_to_published_paths(golden: Path, tmp_path: Path) -> None:
    facts = json.loads((golden / "dataset_names.json").read_text())
    for name, fact in facts.items():
        folder = fact.get("img_dir") or fact.get("img_folder")
        if folder is None:
            with pytest.raises(ValueError, match=f"dataset '{name}' consists of"):
                find_dataset(name)
            continue
        spec = find_dataset(name)
        assert spec.ann_file == tmp_path / fact["ann_file"]
        assert spec.img_dir == tmp_path / folder


def test_root_is_a_folder_here_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASET")
    assert dataset_root() == Path("DATASET")
    assert find_dataset("coco_2017_val").img_dir == Path("DATASET/coco/val2017")


def test_registered_names_come_first(tmp_path: Path) -> None:
    entry = {"ann_file": "mine/a.json", "img_dir": "/data/pictures"}
    spec = find_dataset("coco_2017_val", registered={"coco_2017_val": entry})
    assert spec.ann_file == tmp_path / "mine" / "a.json"
    assert spec.img_dir == Path("/data/pictures")  # absolute paths stay
    assert spec.kind == "coco"


@pytest.mark.parametrize(
    ("name", "suffix", "found"),
    [
        ("train", "_grounding", "train"),  # the suffix names the same files
        ("train_grounding", "", "train"),
        ("val", "_special", "val_special"),  # a name with it is preferred
        ("train", "_special", "train"),
    ],
)
def test_suffix(name: str, suffix: str, found: str) -> None:
    entry = {"ann_file": "a.json", "img_dir": "b"}
    registered = {"train": entry, "val": entry, "val_special": entry}
    assert find_dataset(name, registered=registered, suffix=suffix).name == found


def test_published_kind_survives_registering() -> None:
    registered = {"lvis_val": {"ann_file": "a", "img_dir": "b"}}
    assert find_dataset("lvis_val", registered=registered).kind == "lvis"
    registered["lvis_val"]["kind"] = "coco"
    assert find_dataset("lvis_val", registered=registered).kind == "coco"


def test_lvis_is_known_by_its_name() -> None:  # GLIP's own files say no more
    registered = {"lvis_evaluation_mini_val": {"ann_file": "a", "img_dir": "b"}}
    assert find_dataset("lvis_evaluation_mini_val", registered=registered).kind == "lvis"


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"unknown dataset 'coco_2017_vall'.*coco_2017_val"):
        find_dataset("coco_2017_vall")


def test_incomplete_entry() -> None:
    with pytest.raises(ValueError, match=r"REGISTER\.val needs .* no img_dir \(keys found: ann_f"):
        find_dataset("val", registered={"val": {"ann_file": "a.json"}})


def test_unknown_kind() -> None:
    entry = {"ann_file": "a", "img_dir": "b", "kind": "voc"}
    with pytest.raises(ValueError, match=r"kind must be one of .* got 'voc'"):
        find_dataset("val", registered={"val": entry})
