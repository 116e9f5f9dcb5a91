"""What of a dataset's annotations is digested."""

import hashlib
import os
from pathlib import Path

import pytest

from glipkit.data.annotation_digest import annotation_digest
from glipkit.data.catalog import DatasetSpec


def spec(file: Path, kind: str) -> DatasetSpec:
    return DatasetSpec("drawn", file, file.parent, kind)


@pytest.mark.parametrize("kind", ["coco", "lvis", "grounding", "entities"])
def test_one_file_is_digested_whole(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "boxes.json"
    for time, content in enumerate((b"{}", b"[]")):
        file.write_bytes(content)
        os.utime(file, (time, time))  # two writes may come within one tick of the clock
        found = annotation_digest(spec(file, kind))
    assert found == hashlib.sha256(b"[]").hexdigest()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """The files of a TSV dataset, each of which says next to nothing."""
    parts = {"img": "1\tx", "label": "1\t[]", "labelmap": "cat", "linelist": "0", "hw": "1\t2 3"}
    for name, content in parts.items():
        (tmp_path / f"{name}.tsv").write_text(content)
    file = tmp_path / "rows.yaml"
    file.write_text("\n".join(f"{name}: {name}.tsv" for name in parts))
    return file


@pytest.mark.parametrize("part", ["img", "label", "labelmap", "linelist", "hw", "rows"])
def test_every_part_of_a_tsv_dataset_counts(rows: Path, part: str) -> None:
    before = annotation_digest(spec(rows, "tsv"))
    assert annotation_digest(spec(rows, "tsv")) == before
    (file,) = rows.parent.glob(f"{part}.*")
    file.write_text(file.read_text() + "\n")
    assert annotation_digest(spec(rows, "tsv")) != before


def test_the_large_parts_of_a_tsv_dataset_are_not_read(rows: Path) -> None:
    before = annotation_digest(spec(rows, "tsv"))
    (rows.parent / "img.tsv").write_text("1\ty")  # as many bytes
    assert annotation_digest(spec(rows, "tsv")) == before
    (rows.parent / "label.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"label\.tsv"):
        annotation_digest(spec(rows, "tsv"))


def test_other_classes_in_as_many_bytes_are_noticed(rows: Path) -> None:
    before = annotation_digest(spec(rows, "tsv"))
    (rows.parent / "labelmap.tsv").write_text("dog")
    os.utime(rows.parent / "labelmap.tsv", (1, 1))  # both may be written in one tick of the clock
    assert annotation_digest(spec(rows, "tsv")) != before
