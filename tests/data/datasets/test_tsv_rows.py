"""Rows are found where the .lineidx says, or an error says that it is not the right one."""

import logging
from pathlib import Path

import pytest

from glipkit.data.datasets import tsv_rows
from glipkit.data.datasets.tsv_rows import TsvRows, line_starts

TEXT = b"a\tone\nb\t\n\nlong key\t" + b"x" * 50 + b"\textra\r\nlast\tend"
ROWS = [[b"a", b"one"], [b"b", b""], [b""], [b"long key", b"x" * 50, b"extra"], [b"last", b"end"]]


def write(folder: Path, text: bytes = TEXT) -> Path:
    (folder / "a.tsv").write_bytes(text)
    return folder / "a.tsv"


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: bytes) -> None:
    monkeypatch.setattr(tsv_rows, "_BLOCK", block)
    rows = TsvRows(write(tmp_path, TEXT + end))
    assert [rows[index] for index in (4, 0, 3, 2, 1)] == [ROWS[index] for index in (4, 0, 3, 2, 1)]
    assert [rows.key(index) for index in range(len(rows))] == ["a", "b", "", "long key", "last"]
    assert str(rows.where(2)).endswith("a.tsv:3")
    with pytest.raises(IndexError):
        rows[5]
    rows.close()
    assert rows[0] == ROWS[0]  # opened again


def test_the_index_is_kept_beside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    TsvRows(path)
    kept = path.with_suffix(".lineidx")
    assert [int(line) for line in kept.read_text().splitlines()] == line_starts(path).tolist()
    assert [TsvRows(path)[index] for index in range(5)] == ROWS


def test_the_index_goes_elsewhere_where_the_folder_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path.with_suffix(".lineidx").mkdir()  # cannot be written, whoever runs the test
    with caplog.at_level(logging.WARNING):
        assert TsvRows(path)[3] == ROWS[3]
    assert "could not be kept in" in caplog.text
    assert len(list((tmp_path / "cache" / "glipkit").iterdir())) == 1
    monkeypatch.setattr(tsv_rows, "line_starts", None)  # not scanned again
    assert TsvRows(path)[3] == ROWS[3]


def test_no_place_for_an_index_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))  # a file
    path.with_suffix(".lineidx").mkdir()
    assert TsvRows(path)[3] == ROWS[3]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("0\n", "not the row index"),  # the file has grown
        ("0\n6\n9\n10\n75\n900\n", "not the row index"),  # the file is cut short
        ("0\n9\n6\n10\n75\n", "not the row index"),
        ("6\n9\n10\n75\n", "not the row index"),
        ("", "not the row index"),
        ("0\nsix\n", "one number to a line"),
    ],
)
def test_an_index_of_another_file(tmp_path: Path, index: str, message: str) -> None:
    path = write(tmp_path)
    path.with_suffix(".lineidx").write_text(index)
    with pytest.raises(ValueError, match=message) as caught:
        TsvRows(path)
    assert "a.lineidx" in str(caught.value)


def test_an_index_that_is_wrong_in_the_middle(tmp_path: Path) -> None:
    path = write(tmp_path)
    starts = line_starts(path).tolist()
    starts[1] += 1
    path.with_suffix(".lineidx").write_text("".join(f"{start}\n" for start in starts))
    rows = TsvRows(path)
    for row in (0, 1):
        with pytest.raises(ValueError, match=rf"a\.tsv:{row + 1}: no row begins or ends where"):
            rows[row]
    assert rows[3] == ROWS[3]


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no TSV file at"):
        TsvRows(tmp_path / "a.tsv")
    with pytest.raises(ValueError, match="is empty"):
        TsvRows(write(tmp_path, b""))
