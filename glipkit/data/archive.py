"""Unpack a zip file that nobody has to trust."""

import errno
import logging
import lzma
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from glipkit.runtime.files import draft_of
from glipkit.runtime.progress import byte_progress

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20
_NOISE = "__MACOSX"  # what macOS adds to every archive


class ArchiveError(ValueError):
    """An archive that is damaged, or that would do more than put files into one folder."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may unpack to.

    Attributes:
        total_bytes: all files together.
        num_files: how many.
        ratio: bytes unpacked for each byte of the archive; pictures stay near 1, json below 30.
    """

    total_bytes: int = 64 << 30
    num_files: int = 1_000_000
    ratio: float = 100.0


def unpack(archive: Path, folder: Path, *, limits: Limits | None = None) -> int:
    """Put the files of a zip archive below `folder`; nothing is written if one is refused.

    A file that is there with the same content stays, so that an interrupted call can be repeated.

    Args:
        archive: a zip file.
        folder: made when missing. An archive whose files all lie in a folder called like itself
            (Aquarium.zip: Aquarium/...) makes that folder; another one gets it made.
        limits: how much it may unpack to.

    Returns:
        How many files there are.

    Raises:
        ArchiveError: it is no zip file or damaged; a member has an absolute path, one with "..",
            or is no plain file; two members have one name; a file would be written over another
            one; it unpacks to more than `limits`.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = _checked(archive, file, limits or Limits())
            place = folder if _has_own_folder(archive, members) else folder / archive.stem
            total = sum(member.file_size for member in members)
            with byte_progress(total, f"unpacking {archive.name}") as bar:
                for member in members:
                    _write(file, member, place / member.filename)
                    bar.update(member.file_size)
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError),
        UnicodeDecodeError,  # of a member's name
    ) as error:
        raise ArchiveError(f"{archive} is no zip file, or a damaged one: {error}") from error
    except OSError as error:
        # zipfile went to a place before the file's begin, or bz2 met what it did not write.
        if error.filename is not None or error.errno not in (errno.EINVAL, None):
            raise
        raise ArchiveError(f"{archive} is damaged: {error.strerror or error}") from error
    return len(members)


def _checked(archive: Path, file: zipfile.ZipFile, limits: Limits) -> list[zipfile.ZipInfo]:
    """The plain files of an archive, all of them found harmless."""
    members, seen = [], set()
    for member in file.infolist():
        problem = _problem(member)
        if problem:
            raise ArchiveError(
                f"{archive}: member {member.filename!r} {problem}; nothing was unpacked"
            )
        if member.is_dir() or member.filename.startswith(f"{_NOISE}/"):
            continue
        key = str(PurePosixPath(member.filename)).casefold()
        if key in seen:
            raise ArchiveError(f"{archive} holds {member.filename!r} twice; nothing was unpacked")
        seen.add(key)
        members.append(member)
    total, packed = sum(member.file_size for member in members), archive.stat().st_size
    too_much = {
        f"{len(members)} files (at most {limits.num_files})": len(members) > limits.num_files,
        f"{total} bytes (at most {limits.total_bytes})": total > limits.total_bytes,
        f"{total} bytes of {packed} (at most {limits.ratio:g} times as many)": (
            total > limits.ratio * packed
        ),
    }
    for what, is_too_much in too_much.items():
        if is_too_much:
            raise ArchiveError(f"{archive} would unpack to {what}; nothing was unpacked")
    if not members:
        raise ArchiveError(f"{archive} holds no files")
    return members


def _problem(member: zipfile.ZipInfo) -> str:
    """Why a member is refused; "" if it is not."""
    name = member.orig_filename  # `filename` was cut at a NUL
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or "\\" in name:
        return "has a name that is no path"
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        return "has an absolute path"
    if ".." in parts:
        return "has a path with .."
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link" if kind == stat.S_IFLNK else "is no plain file"
    if member.flag_bits & 1:
        return "is encrypted"
    return ""


def _has_own_folder(archive: Path, members: list[zipfile.ZipInfo]) -> bool:
    paths = [PurePosixPath(member.filename).parts for member in members]
    return all(len(parts) > 1 and parts[0] == archive.stem for parts in paths)


def _write(file: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if path.exists():
        if path.is_file() and _same(path, member):
            return
        raise ArchiveError(f"{path} is there already and is not the archive's; move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        with file.open(member) as source, draft.open("wb") as target:
            left = member.file_size
            while block := source.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    raise ArchiveError(f"{member.filename!r} is longer than the archive says")
                target.write(block)
        if left:
            raise ArchiveError(f"{member.filename!r} is shorter than the archive says")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _same(path: Path, member: zipfile.ZipInfo) -> bool:
    if path.stat().st_size != member.file_size:
        return False
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum == member.CRC
