"""Pictures and boxes in the rows of TSV files."""

import base64
import io
import json
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.tsv import TsvPictures, load_tsv
from glipkit.data.images import ImageError

NAMES = {"img": "a.tsv", "label": "a.label.tsv", "hw": "a.hw.tsv", "labelmap": "a.labelmap.tsv"}
LABELS = [
    [{"class": "cat", "rect": [1, 2, 11.5, 7], "conf": 1.0}],
    [],
    [
        {"class": "dog", "rect": [0, 0, 5, 5]},
        {"class": "cat", "rect": [3, 3, 3, 9], "iscrowd": 1},
    ],
]


def png(index: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (10 + index, 8), (index,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, **parts: Any) -> DatasetSpec:
    """Three pictures of 8 x 10, 8 x 11 and 8 x 12; a part that is given replaces the usual text."""
    texts = {
        "img": rows(base64.b64encode(png(index)).decode() for index in range(3)),
        "label": rows(map(json.dumps, LABELS)),
        "hw": rows(f"8 {10 + index}" for index in range(3)),
        "labelmap": "cat\ndog\n",
        "yaml": json.dumps({**NAMES, **({"linelist": "a.lines.tsv"} if "lines" in parts else {})}),
        "lines": "",
        **parts,
    }
    for part, text in texts.items():
        name = {**NAMES, "yaml": "a.yaml", "lines": "a.lines.tsv"}[part]
        (folder / name).write_text(text)
    return DatasetSpec("objects", folder / "a.yaml", folder, "tsv")


def rows(columns: Any, keys: Sequence[str] = ("p0", "p1", "p2")) -> str:
    return "".join(f"{key}\t{column}\n" for key, column in zip(keys, columns))


def test_pictures_and_boxes(tmp_path: Path) -> None:
    pictures = load_tsv(write(tmp_path))
    assert (pictures.name, len(pictures)) == ("objects", 3)
    assert dict(pictures.classes) == {0: "__background__", 1: "cat", 2: "dog"}
    assert [pictures.size(index) for index in range(3)] == [(8, 10), (8, 11), (8, 12)]
    assert [pictures.image_id(index) for index in range(3)] == [0, 1, 2]
    assert [pictures.key(index) for index in range(3)] == ["p0", "p1", "p2"]
    assert [pictures.read(index).getpixel((0, 0))[0] for index in (2, 0, 1)] == [2, 0, 1]
    assert pictures.image_bytes(1) == png(1)

    labels, boxes, is_crowd = pictures.labels_and_boxes(0)
    assert (labels, is_crowd) == ((1,), ())
    assert_close(boxes, torch.tensor([[1.0, 2.0, 10.5, 5.0]]))
    assert pictures.labels_and_boxes(1).boxes.shape == (0, 4)
    assert pictures.labels_and_boxes(2).labels == (2, 1)
    assert pictures.labels_and_boxes(2).is_crowd == (False, True)
    assert pictures.negatives(0) is None


def test_linelist_chooses_and_repeats(tmp_path: Path) -> None:
    pictures = load_tsv(write(tmp_path, lines="2\n0\n2\n"))
    assert [pictures.image_id(index) for index in range(len(pictures))] == [2, 0, 2]
    assert pictures.size(0) == (8, 12)
    assert pictures.labels_and_boxes(2).labels == (2, 1)


def test_sizes_are_optional_and_may_be_json(tmp_path: Path) -> None:
    names = {part: name for part, name in NAMES.items() if part != "hw"}
    pictures = load_tsv(write(tmp_path, yaml=json.dumps(names)))
    assert pictures.size(0) is None
    assert pictures.read(0).size == (10, 8)
    said = ['{"height": 8, "width": 10}', '[{"width": 11, "height": 8}]', "8 12"]
    assert load_tsv(write(tmp_path, hw=rows(said))).size(1) == (8, 11)


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("__background__\ncat\ndog\n", "tsv"),
        ("cat\t172\ndog\t3", "tsv"),
        ('{"dog": 2, "cat": 1}', "json"),
        ('{"label_to_idx": {"__background__": 0, "cat": 1, "dog": 2}, "x": 1}', "json"),
    ],
)
def test_label_maps(tmp_path: Path, text: str, suffix: str) -> None:
    spec = write(tmp_path, yaml=json.dumps({**NAMES, "labelmap": f"map.{suffix}"}))
    (tmp_path / f"map.{suffix}").write_text(text)
    classes = load_tsv(spec).classes
    assert list(classes.items()) == [(0, "__background__"), (1, "cat"), (2, "dog")]


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    good = base64.b64encode(png(0)).decode()
    spec = write(tmp_path, img=f"p0\t{good[:-2]}\np1\tno base64!\np2\n")
    pictures = load_tsv(spec)
    for index, message in enumerate(("is not base64, or cut off", "not base64", "row is cut off")):
        with pytest.raises(ImageError, match=rf"a\.tsv:{index + 1}: .*{message}"):
            pictures.read(index)


def test_a_picture_of_another_size_than_claimed(tmp_path: Path) -> None:
    pictures = load_tsv(write(tmp_path, hw=rows(["8 10", "9 11", "8 12"])))
    assert pictures.read(0).size == (10, 8)
    with pytest.raises(ImageError, match=r"a\.tsv:2: the annotations say 9x11"):
        pictures.read(1)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (rows(["[]"] * 3, keys=("p0", "p2", "p1")), r":2 is about 'p2', but .* about 'p1'"),
        (rows(["[]", '[{"class": "owl", "rect": [0, 0, 1, 1]}]', "[]"]), "does not list owl among"),
        (rows(["[]", '[{"class": "cat", "re', "[]"]), "a tab and a JSON list: Unterminated"),
        ("p0\t[]\np1\np2\t[]\n", r":2 must be a key, a tab and a JSON list"),
        (
            rows(["[]", '[{"class": "cat"}]', "[]"]),
            r"a class and a rect .* got {\"class\": \"cat\"}",
        ),
        (rows(["[]", '[{"class": 3, "rect": [0, 0, 1, 1]}]', "[]"]), "needs a class"),
        (rows(["[]", '[{"class": "cat", "rect": [0, 0, 1]}]', "[]"]), "a rect"),
        (rows(["[]", "[7]", "[]"]), "needs a class"),
    ],
)
def test_broken_labels(tmp_path: Path, label: str, message: str) -> None:
    pictures = load_tsv(write(tmp_path, label=label))
    assert pictures.labels_and_boxes(0).labels == ()
    with pytest.raises(ValueError, match=message) as caught:
        pictures.labels_and_boxes(1)
    assert "a.label.tsv:2" in str(caught.value)


def test_broken_rects_are_for_the_reader_of_boxes(tmp_path: Path) -> None:
    rect = [{"class": "cat", "rect": [math.nan, 0, 1, 1]}]
    pictures = load_tsv(write(tmp_path, label=rows(map(json.dumps, [rect, [], []]))))
    assert bool(pictures.labels_and_boxes(0).boxes.isnan().any())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"yaml": "img: a.tsv"}, r"a\.yaml must .* no label and no labelmap \(keys found: img\)"),
        ({"yaml": "- a.tsv"}, r"no img and no label and no labelmap \(keys found: none\)"),
        ({"yaml": "img: ["}, "not valid YAML"),
        ({"yaml": json.dumps({**NAMES, "composite": True})}, "is composite"),
        ({"labelmap": "cat\ncat\n"}, "at least one class, each once"),
        ({"labelmap": "__background__\n"}, "at least one class"),
        ({"labelmap": "cat\n\ndog\n"}, "at least one class, each once"),
        ({"hw": rows(["8 10", "8", "8 12"])}, r"a\.hw\.tsv:2 must be .* \"height width\""),
        ({"hw": rows(["8 10", "8 11"])}, r"equally many rows, got .*a\.tsv: 3, .*\(hw\): 2"),
        ({"label": rows(["[]"])}, r"equally many rows, got .*a\.label\.tsv: 1"),
        ({"img": ""}, r"a\.tsv is empty"),
        ({"lines": "0\n3\n"}, "must name rows from 0 to 2, got 0, 3"),
        ({"lines": "0\t3\n"}, "composite"),
    ],
)
def test_unusable_sets(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_tsv(write(tmp_path, **parts))


@pytest.mark.parametrize("part", ["img", "label", "hw", "labelmap"])
def test_missing_parts(tmp_path: Path, part: str) -> None:
    spec = write(tmp_path)
    (tmp_path / NAMES[part]).unlink()
    with pytest.raises(FileNotFoundError, match=NAMES[part]):
        load_tsv(spec)


class Read(Dataset):
    """Pictures read from a loader process, after the main one has read too."""

    def __init__(self, pictures: TsvPictures) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> int:
        return int(np.asarray(self.pictures.read(index % 3))[0, 0, 0])


def test_loader_processes_do_not_share_a_position(tmp_path: Path) -> None:
    pictures = load_tsv(write(tmp_path))
    pictures.read(0)  # open here, before the loader forks
    loader = DataLoader(Read(pictures), num_workers=2, multiprocessing_context="fork")
    assert [int(batch) for batch in loader] == [0, 1, 2] * 10
    assert pickle.loads(pickle.dumps(pictures)).read(2).size == (12, 8)
