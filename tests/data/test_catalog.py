"""Dataset names and the files behind them."""

import json
from pathlib import Path

import pytest

from glipkit.data.catalog import dataset_root, family, find_dataset


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASET", str(tmp_path))


def test_published_names_lead_to_published_paths(golden: Path, tmp_path: Path) -> None:
    facts = json.loads((golden / "dataset_names.json").read_text())
    for name, fact in facts.items():
        spec = find_dataset(name)
        assert spec.name == name
        assert spec.ann_file == tmp_path / (fact.get("ann_file") or fact["yaml_path"])
        assert (spec.kind == "tsv") == ("yaml_path" in fact)
        if "vg_img_dir" in fact:
            folders = {"coco": fact["coco_img_dir"], "vg": fact["vg_img_dir"]}
            assert spec.kind == "grounding"
            assert dict(spec.sources) == {key: tmp_path / each for key, each in folders.items()}
        elif spec.kind != "tsv":
            assert spec.img_dir == tmp_path / (fact.get("img_dir") or fact["img_folder"])
            assert spec.sources == ()


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


def test_captions_with_pictures_in_several_folders(tmp_path: Path) -> None:
    entry = {"ann_file": "a.json", "coco_img_dir": "c", "flickr_img_dir": "/f", "kind": "grounding"}
    spec = find_dataset("mine", registered={"mine": entry})
    assert spec.sources == (("coco", tmp_path / "c"), ("flickr", Path("/f")))
    (tmp_path / "a.json").touch()
    with pytest.raises(FileNotFoundError, match=r"no image folder at .*/c "):
        spec.check_files()
    (tmp_path / "c").mkdir()
    spec.check_files()  # one folder is enough until the file is read
    with pytest.raises(FileNotFoundError, match="image folder of data_source 'flickr' at /f"):
        spec.check_folder("flickr")


def test_tsv(tmp_path: Path) -> None:
    spec = find_dataset("mine", registered={"mine": {"yaml_path": "tsv/train.yaml"}})
    assert (spec.kind, spec.ann_file) == ("tsv", tmp_path / "tsv" / "train.yaml")
    with pytest.raises(FileNotFoundError, match=r"'mine': no YAML file at .*train\.yaml"):
        spec.check_files()
    with pytest.raises(ValueError, match="needs yaml_path, but has no yaml_path"):
        find_dataset("mine", registered={"mine": {"ann_file": "a.json", "kind": "tsv"}})


@pytest.mark.parametrize(
    ("name", "entry", "kind"),
    [
        ("flickr30k_mine", {"ann_file": "a", "img_folder": "b"}, "grounding"),
        ("finetune_refcoco", {"ann_file": "a", "img_dir": "b", "kind": "grounding"}, "grounding"),
        ("refcocog_val", {"ann_file": "a", "img_dir": "b"}, "grounding"),
        ("mixed_train", {"ann_file": "a", "img_dir": "b"}, "grounding"),
        ("mixed_fruit", {"ann_file": "a", "img_dir": "b"}, "coco"),
        ("coco_dt_train", {"ann_file": "a", "img_dir": "b"}, "coco"),  # no longer the TSV of old
    ],
)
def test_kind_of_registered_names(name: str, entry: dict[str, str], kind: str) -> None:
    assert find_dataset(name, registered={name: entry}).kind == kind


@pytest.mark.parametrize(
    ("name", "judged"),
    [
        ("flickr30k_val", "phrases"),
        ("refexp_all_val", "expressions"),
        ("refcoco_testA", "expressions"),
        ("refcoco+_testB", "expressions"),
        ("refcocog_test", "expressions"),
    ],
)
def test_how_captions_are_judged(name: str, judged: str) -> None:
    assert find_dataset(name).judged == judged
    entry = {"ann_file": "a", "img_dir": "b", "kind": "grounding"}
    assert find_dataset(name, registered={name: entry}).judged == judged
    told = {name: {**entry, "judged": "phrases"}}
    assert find_dataset(name, registered=told).judged == "phrases"
    with pytest.raises(ValueError, match=r"judged must be one of phrases, expressions, got 'all'"):
        find_dataset(name, registered={name: {**entry, "judged": "all"}})


def test_types_of_phrases_are_used_where_they_are(tmp_path: Path) -> None:
    assert find_dataset("flickr30k_val").entities is None
    folder = tmp_path / "flickr30k" / "flickr30k_entities"
    folder.mkdir(parents=True)
    assert find_dataset("flickr30k_val").entities == folder
    assert find_dataset("refcoco_val").entities is None
    original = find_dataset("flickr30k_entities_val")
    assert (original.kind, original.ann_file) == ("entities", folder / "val.txt")
    entry = {"ann_file": "a", "img_dir": "b", "kind": "grounding", "entities": "e"}
    (tmp_path / "a").touch()
    (tmp_path / "b").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder of Flickr30K Entities at .*/e "):
        find_dataset("mine", registered={"mine": entry}).check_files()


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("coco_grounding_train", "coco"),
        ("coco_dt_train", "coco"),
        ("lvisv1_dt_train", "lvis"),
        ("lvis_grounding_train", "lvis"),
        ("flickr30k_train", "flickr"),
        ("mixed_train_no_coco", "mixed"),
        ("object365_dt_train", "object365"),
        ("objects365_odtsv_train", "object365"),
        ("vg_train", "vg"),
        ("imagenetod_train", "in"),
        ("openimages_train", "oi"),
        ("train", ""),
        ("coconut", ""),
        ("phrasecut_train", ""),
    ],
)
def test_family(name: str, copies: str) -> None:
    assert family(name) == copies
