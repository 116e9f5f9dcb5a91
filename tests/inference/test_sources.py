"""Paths, folders and patterns become the pictures they mean, or an error says what is there."""

import errno
import os
from pathlib import Path

import pytest

from glipkit.data.images import ImageError
from glipkit.inference.frames import read_frames
from glipkit.inference.sources import find_all, find_sources, is_video


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    for name in ("10.jpg", "2.JPG", "deep/er/1.png", "clip.mp4", "notes.txt", ".hidden.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(paths: list[Path], folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def test_folder_with_all_below_it(shots: Path) -> None:
    assert names(find_sources(shots), shots) == ["2.JPG", "10.jpg", "clip.mp4", "deep/er/1.png"]


def test_folder_that_may_not_be_read_is_named(
    shots: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scan = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    failures: list[ImageError] = []
    found = find_all([shots], failures=failures)
    assert names(found, shots) == ["2.JPG", "10.jpg", "clip.mp4"]
    said = f"{shots / 'deep'}: the folder cannot be read: Permission denied"
    assert [str(error) for error in failures] == [said]
    assert f"left out: {said}" in caplog.text
    for source in (shots, [shots], iter([shots])):
        seen: list[ImageError] = []
        assert list(read_frames(source, failures=seen)) == []  # the others are empty files
        assert [str(error) for error in seen].count(said) == 1
    for source in (shots, [shots], iter([shots])):
        with pytest.raises(ImageError, match="the folder cannot be read"):
            next(iter(read_frames(source, strict=True)))


def test_a_folder_alone_that_may_not_be_read(shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    failures: list[ImageError] = []
    picture = shots / "10.jpg"
    assert find_all([picture, shots], failures=failures) == [picture]
    assert [error.path for error in failures] == [shots]
    with pytest.raises(ValueError, match=r"no pictures to look at: .*cannot be read"):
        find_all([shots], failures=[])


def test_a_link_that_leads_nowhere_is_found_to_be_named(shots: Path) -> None:
    (shots / "3.jpg").symlink_to("nowhere")
    assert shots / "3.jpg" in find_sources(shots)
    assert shots / "3.jpg" in find_sources(f"{shots}/*.jpg")


def test_own_output_is_not_looked_at(shots: Path) -> None:
    found = find_sources(shots, outside=shots / "deep")
    assert "deep/er/1.png" not in names(found, shots)


def test_pattern(shots: Path) -> None:
    assert names(find_sources(f"{shots}/**/*.png"), shots) == ["deep/er/1.png"]
    with pytest.raises(FileNotFoundError, match="1 files do"):
        find_sources(f"{shots}/*.txt")


def test_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    odd = tmp_path / "[1].jpg"
    odd.write_bytes(b"")
    assert find_sources(odd) == [odd]


def test_each_file_once(shots: Path) -> None:
    found = find_all([shots / "10.jpg", shots])
    assert names(found, shots) == ["10.jpg", "2.JPG", "clip.mp4", "deep/er/1.png"]


def test_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="an empty folder"):
        find_sources(tmp_path)
    (tmp_path / "data.csv").write_text("")
    with pytest.raises(FileNotFoundError, match=r"data\.csv"):
        find_sources(tmp_path)


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("no/such/place", FileNotFoundError, "no file or folder"),
        ("http://example.com/a.jpg", ValueError, "address"),
        ("", ValueError, "empty"),
        ("  ", ValueError, "empty"),
    ],
)
def test_what_is_not_there(source: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        find_sources(source)


def test_nothing_at_all() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        find_all([])


def test_videos_are_told_by_their_names() -> None:
    assert is_video(Path("a.MP4"))
    assert not is_video(Path("a.mp4.png"))
