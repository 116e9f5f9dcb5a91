"""A file is the old one or the new one, whatever happens to its writer."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glipkit.runtime.files import remove_drafts, replacing, replacing_path, write_atomically


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


def test_a_system_that_opens_no_folders_keeps_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows: it has no O_DIRECTORY either."""
    opened = os.open

    def refuse(path: Path, *rest: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(path)
        return opened(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.delattr(os, "O_DIRECTORY")
    write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Nor do processes of one number in two containers: each call has a draft of its own."""
    path, texts = tmp_path / "a.txt", [letter * 100_000 for letter in "abcd"]
    write_atomically(path, texts[0])
    seen = []

    def write(text: str) -> None:
        for _ in range(25):
            write_atomically(path, text)
            seen.append(path.read_text())

    with ThreadPoolExecutor(len(texts)) as threads:
        list(threads.map(write, texts))
    assert len(seen) == 100
    assert set(seen) <= set(texts)
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_its_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refuse(path: Path, *rest: str) -> object:
        if path.suffix == ".tmp":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *rest)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*/a.txt'$") as caught:
        write_atomically(tmp_path / "a.txt", "new")
    assert caught.value.filename == str(tmp_path / "a.txt")


def test_a_draft_is_known_for_one(tmp_path: Path) -> None:
    with replacing_path(tmp_path / "a.bin") as draft, replacing_path(tmp_path / "a.bin") as other:
        assert draft != other
        draft.touch()
        assert remove_drafts(tmp_path, unless=".lock") == [draft]
        draft.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a.bin").read_text() == "one"


def test_only_drafts_of_ones_own_are_removed(tmp_path: Path) -> None:
    kept = [".lock", "a.tmp", ".hidden.tmp", "last.pt", "run/.lock", "run/in/.last.pt.3.tmp"]
    drafts = [".last.pt.17.tmp", "inside/.model.safetensors.4.tmp"]
    for name in (*kept, *drafts):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    removed = remove_drafts(tmp_path, unless=".lock")
    assert sorted(removed) == [tmp_path / name for name in drafts]
    assert all((tmp_path / name).exists() for name in kept)
    assert not any(path.exists() for path in removed)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for place in ("notes", "notes/below"):
        with pytest.raises(NotADirectoryError, match=f"a.txt needs a folder to lie in.*{place}"):
            write_atomically(tmp_path / place / "a.txt", "text")
    assert (tmp_path / "notes").read_text() == "mine"
