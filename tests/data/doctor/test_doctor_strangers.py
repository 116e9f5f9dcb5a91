"""What is commonly handed in instead of an annotation file is called by its name."""

import gzip
import json
import pickle
from pathlib import Path

import pytest
from sick_datasets import healthy, write

from glipkit.data.doctor.examine import examine

DETECTION = {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}
LABELME = {"version": "5.0", "shapes": [], "imagePath": "1.jpg", "imageHeight": 3}
VOC = "<annotation><filename>1.jpg</filename></annotation>"


def text_of(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("bbox.json", text_of([DETECTION] * 3), "file-results", "list of detections"),
        ("results.json", text_of({"metrics": {}, "protocol": {}}), "file-results", "results.json"),
        ("1.json", text_of(LABELME), "file-format", "labelme"),
        ("via.json", text_of({"_via_settings": 1, "_via_img_metadata": {}}), "file-format", "VGG"),
        ("c.json", text_of([{"image": "1.jpg", "annotations": []}]), "file-format", "CreateML"),
        ("l.json", text_of([{"url": "x", "tag": "y"}]), "file-format", "whose first entry has url"),
        ("1.xml", f"<?xml version='1.0'?>{VOC}".encode(), "file-format", "Pascal VOC"),
        ("1.txt", b"0 0.5 0.5 0.25 0.125\n3 0.1 0.1 0.2 0.2\n", "file-format", "lines of YOLO"),
        ("data.yaml", b"names: [a, b]\n", "file-format", "is YAML, not JSON"),
        ("boxes.csv", b"file,x,y\n", "file-format", "is CSV, not JSON"),
        ("boxes.jsonl", b'{"a": 1}\n{"a": 2}\n', "file-format", "on each line"),
        ("val.json.gz", gzip.compress(b"{}", mtime=0), "file-format", "packed with gzip"),
        ("refs(unc).p", pickle.dumps([1]), "file-format", "finetune_refcoco_val.json"),
    ],
)
def test_files(name: str, content: bytes, code: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    examined = examine(path)
    (finding,) = examined.findings
    assert (finding.code, finding.severity, finding.count) == (code, "error", 1)
    assert said in finding.examples[0]
    assert examined.form == "unknown"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"Annotations/1.xml": VOC, "JPEGImages/1.jpg": ""}, "looks like Pascal VOC: export"),
        ({"data.yaml": "", "labels/train/1.txt": "0 0 0 1 1"}, "looks like YOLO: export"),
        ({"train/labels/1.txt": "0 0 0 1 1"}, "looks like YOLO: export"),
        ({"1.json": json.dumps(LABELME), "1.jpg": ""}, "looks like labelme"),
        ({"Sentences/1.txt": "", "Annotations/1.xml": "", "val.txt": "1"}, "kind: entities"),
        ({"train.tsv": "", "train.lineidx": ""}, "kind: tsv"),
        ({"notes.md": ""}, "of which none is here"),
    ],
)
def test_folders(files: dict[str, str], said: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(IsADirectoryError) as refused:
        examine(tmp_path)
    assert said in str(refused.value)


def test_a_folder_names_its_annotation_files(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    path = write(tmp_path / "annotations", healthy(), "train.json")
    with pytest.raises(IsADirectoryError, match=f"pass its annotation file: {path}"):
        examine(tmp_path)


def test_the_list_of_flickr30k_entities_is_sent_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "Sentences").mkdir()
    (tmp_path / "Sentences" / "1000092795.txt").write_text("[/EN#1/people Two boys] play .")
    path = tmp_path / "val.txt"
    path.write_text("1000092795\n")
    (finding,) = examine(path).findings
    assert "kind: entities" in finding.examples[0]
