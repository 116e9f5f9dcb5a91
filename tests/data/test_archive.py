"""Zip files that are good, damaged or hostile."""

import stat
import zipfile
from pathlib import Path

import pytest

from glipkit.data.archive import ArchiveError, Limits, unpack


def make(path: Path, members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_an_archive_with_its_own_folder_keeps_it(tmp_path: Path) -> None:
    members = {"Pets/": b"", "Pets/train/a.jpg": b"picture", "Pets/readme": b""}
    archive = make(tmp_path / "Pets.zip", members | {"__MACOSX/Pets/._a": b"noise"})
    assert unpack(archive, tmp_path / "out") == 2
    assert files_below(tmp_path / "out") == {"Pets/train/a.jpg": b"picture", "Pets/readme": b""}


def test_an_archive_without_gets_one(tmp_path: Path) -> None:
    archive = make(tmp_path / "Pets.zip", {"train/a.jpg": b"picture", "Pets/b.jpg": b""})
    unpack(archive, tmp_path / "out")
    assert set(files_below(tmp_path / "out")) == {"Pets/train/a.jpg", "Pets/Pets/b.jpg"}


def test_what_is_there_already_stays_and_what_differs_is_not_written_over(tmp_path: Path) -> None:
    archive = make(tmp_path / "Pets.zip", {"Pets/a": b"one", "Pets/b": b"two"})
    unpack(archive, tmp_path)
    before = (tmp_path / "Pets" / "a").stat().st_mtime_ns
    (tmp_path / "Pets" / "b").unlink()  # as if it had been interrupted
    unpack(archive, tmp_path)
    assert (tmp_path / "Pets" / "a").stat().st_mtime_ns == before
    assert (tmp_path / "Pets" / "b").read_bytes() == b"two"
    (tmp_path / "Pets" / "b").write_bytes(b"six")
    with pytest.raises(ArchiveError, match="is not the archive's"):
        unpack(archive, tmp_path)
    assert (tmp_path / "Pets" / "b").read_bytes() == b"six"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/etc/cron.d/job", "has an absolute path"),
        ("C:/windows/job", "has an absolute path"),
        ("Pets/../../job", r"has a path with \.\."),
        ("..", r"has a path with \.\."),
        ("..\\job", "has a name that is no path"),
        ("Pets/a\0.jpg", "has a name that is no path"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, said: str) -> None:
    archive = tmp_path / "Pets.zip"
    info = zipfile.ZipInfo("Pets/x")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("Pets/good", b"")
        info.filename = info.orig_filename = name
        file.writestr(info, b"evil")
    with pytest.raises(ArchiveError, match=said):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "said"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is no plain file")]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: int, said: str) -> None:
    archive = tmp_path / "Pets.zip"
    info = zipfile.ZipInfo("Pets/door")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(info, b"/etc")
    with pytest.raises(ArchiveError, match=said):
        unpack(archive, tmp_path / "out")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    archive = make(tmp_path / "Pets.zip", {"Pets/zeros": bytes(5_000_000)})
    with pytest.raises(ArchiveError, match="at most 100 times as many"):
        unpack(archive, tmp_path / "out")
    harmless = Limits(ratio=1e6)
    for limits in (Limits(total_bytes=4_999_999, ratio=1e6), Limits(num_files=0, ratio=1e6)):
        with pytest.raises(ArchiveError, match="nothing was unpacked"):
            unpack(archive, tmp_path / "out", limits=limits)
    assert not (tmp_path / "out").exists()
    assert unpack(archive, tmp_path / "out", limits=harmless) == 1


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    archive = make(tmp_path / "Pets.zip", {"Pets/a": b"x" * 1000}, method=zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    entry = content.index(b"PK\1\2")  # the directory at the end, which is what is believed
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path / "out")
    assert files_below(tmp_path / "out") == {}


def test_names_that_one_disk_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    archive = make(tmp_path / "Pets.zip", {"Pets/a": b"1", "Pets/A": b"2"})
    with pytest.raises(ArchiveError, match="twice"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"<html>no such file</html>"])
def test_what_is_no_archive_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Pets.zip"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="is no zip file"):
        unpack(path, tmp_path / "out")


def test_any_flipped_bit_of_the_directory_is_damage_or_none(tmp_path: Path) -> None:
    whole = make(tmp_path / "Pets.zip", {"a.txt": b"hello " * 20, "b/c.txt": b"x"}).read_bytes()
    refused = 0
    for place in range(whole.index(b"PK\x01\x02"), len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            archive = tmp_path / f"{place}-{bit}" / "Pets.zip"
            archive.parent.mkdir()
            archive.write_bytes(damaged)
            try:
                unpack(archive, archive.parent / "out")
            except ArchiveError:  # nothing else may come
                refused += 1
    assert refused > 300


def test_an_end_record_that_leads_before_the_file_is_damage(tmp_path: Path) -> None:
    archive = make(tmp_path / "Pets.zip", {"a.txt": b"hello"})
    content = bytearray(archive.read_bytes())
    end = content.index(b"PK\x05\x06")
    content[end + 12 : end + 16] = (end + 7).to_bytes(4, "little")  # the directory's size
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(archive, tmp_path / "out")


def test_a_name_that_is_no_text_any_more_is_damage(tmp_path: Path) -> None:
    archive = make(tmp_path / "Pets.zip", {"Pets/é": b"abc"})
    content = archive.read_bytes()
    archive.write_bytes(content.replace("é".encode(), b"\xc3a"))
    with pytest.raises(ArchiveError, match="is no zip file, or a damaged one"):
        unpack(archive, tmp_path / "out")


def test_an_archive_cut_short_or_damaged_leaves_no_half_file(tmp_path: Path) -> None:
    archive = make(tmp_path / "Pets.zip", {"Pets/a": b"abc" * 400}, method=zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[100] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(archive, tmp_path / "out")
    assert files_below(tmp_path / "out") == {}
    archive.write_bytes(content[:-30])
    with pytest.raises(ArchiveError, match="is no zip file"):
        unpack(archive, tmp_path / "out")
