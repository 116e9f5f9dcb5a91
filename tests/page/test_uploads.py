import os
import struct
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from glipkit.page.limits import Limits
from glipkit.page.uploads import KEPT, check_upload, make_room, read_upload, uploaded_file

LIMITS = Limits(upload_bytes=100_000, pixels=10_000)


def written(folder: Path, name: str = "a.png", size: tuple[int, int] = (40, 30), **how) -> Path:
    path = folder / name
    Image.new("RGB", size, (200, 30, 30)).save(path, **how)
    return path


def png_claiming(width: int, height: int) -> bytes:
    """A PNG file whose header says so; no picture follows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    crc = struct.pack(">I", zlib.crc32(chunk))
    data = struct.pack(">I", 10) + b"IDAT" + bytes(10)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + crc + data


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
def test_pictures_are_read_as_rgb(tmp_path: Path, kind: str) -> None:
    picture = read_upload(written(tmp_path, f"a.{kind}"), LIMITS)
    assert picture.mode == "RGB"
    assert picture.size == (40, 30)


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path).rename(tmp_path / "a.txt")
    assert read_upload(path, LIMITS).size == (40, 30)


def test_a_turned_photograph_is_turned_back(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert read_upload(written(tmp_path, "a.jpg", exif=exif), LIMITS).size == (30, 40)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just words",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ],
    ids=["empty", "words", "svg", "postscript"],
)
def test_a_disguised_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for look in (check_upload, read_upload):
        with pytest.raises(ValueError, match="not a picture that this page can read"):
            look(path, LIMITS)


@pytest.mark.parametrize("size", [(101, 100), (20_000, 20_000), (60_000, 60_000)])
def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_claiming(*size))
    with pytest.raises(ValueError, match=r"0\.01 megapixels"):
        check_upload(path, LIMITS)


def test_too_many_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bytes(100_001))
    for look in (check_upload, read_upload):
        with pytest.raises(ValueError, match=r"larger than the 0\.1 MB"):
            look(path, LIMITS)


def test_a_damaged_picture_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:60])
    check_upload(path, LIMITS)
    with pytest.raises(ValueError, match="damaged"):
        read_upload(path, LIMITS)


def test_only_uploads_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    inside, outside = written(folder), written(tmp_path)
    assert uploaded_file({"path": str(inside)}, folder) == inside
    link = folder / "link.png"
    link.symlink_to(outside)
    for path in (outside, link, folder, folder / "missing.png", f"{folder}/../a.png"):
        with pytest.raises(ValueError, match="Only pictures that were uploaded"):
            uploaded_file({"path": str(path)}, folder)


@pytest.mark.parametrize("payload", [{}, {"path": 7}, {"path": ""}, {"path": "a\0b"}, [], "a.png"])
def test_nonsense_from_a_client_is_refused(tmp_path: Path, payload: object) -> None:
    with pytest.raises(ValueError, match="choose it again"):
        uploaded_file(payload, tmp_path)


def test_no_picture_is_said_kindly(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Choose a picture first"):
        uploaded_file(None, tmp_path)


def test_the_oldest_uploads_make_room(tmp_path: Path) -> None:
    for age, name in enumerate("dcba"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "picture.png"
        path.write_bytes(bytes(20_000))
        os.utime(path, (time.time() - age,) * 2)

    def kept() -> list[str]:
        return sorted(path.parent.name for path in tmp_path.rglob("*.png"))

    limits = Limits(upload_bytes=20_000, stored_bytes=100_000)
    make_room(tmp_path, 20_000, limits)
    assert kept() == ["a", "b", "c", "d"]
    make_room(tmp_path, 20_001, limits)
    assert kept() == ["b", "c", "d"]
    make_room(tmp_path, 80_000, limits)
    assert kept() == ["d"]


def test_many_tiny_uploads_are_not_free(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    make_room(tmp_path, 1, Limits(stored_bytes=100_000))
    assert 0 < len(list(tmp_path.iterdir())) < 15


def test_old_uploads_go_though_there_is_room(tmp_path: Path) -> None:
    """gradio forgets those that broke off."""
    for name, age in (("old", KEPT + 10), ("new", KEPT - 100)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    make_room(tmp_path, 1, Limits())
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_folders_of_uploads_that_are_gone_go_too(tmp_path: Path) -> None:
    """gradio makes one for each upload and takes away the file alone."""
    for name in ("gone", "kept", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "kept" / "a.png").write_bytes(b"x")
    for name in ("gone", "kept"):
        os.utime(tmp_path / name, (1_000_000,) * 2)
    make_room(tmp_path, 1, Limits())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "new"]
    assert (tmp_path / "kept" / "a.png").exists()


def test_limits_are_positive() -> None:
    with pytest.raises(ValueError, match="limit pixels must be at least 1, got 0"):
        Limits(pixels=0)
