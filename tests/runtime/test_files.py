"""A file is the old one or the new one, whatever happens to its writer."""

from pathlib import Path

import pytest

from glipkit.runtime.files import remove_drafts, replacing, write_atomically


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")  # cannot be encoded: fails half way
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_new_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_only_drafts_are_removed(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("a.tmp", ".hidden.tmp", ".lock", "last.pt")]
    drafts = [tmp_path / ".last.pt.17.tmp", tmp_path / "inside" / ".model.safetensors.4.tmp"]
    for path in (*kept, *drafts):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert sorted(remove_drafts(tmp_path)) == sorted(drafts)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in drafts)
