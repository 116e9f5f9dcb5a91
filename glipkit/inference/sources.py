"""Which pictures and videos a path, a folder or a pattern means."""

import glob
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from glipkit.data.images import ImageError

logger = logging.getLogger(__name__)

PICTURE_SUFFIXES = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"),
        *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
    }
)
VIDEO_SUFFIXES = frozenset(
    {
        *(".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"),
        *(".ts", ".webm", ".wmv"),
    }
)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_DIGITS = re.compile(r"(\d+)")


def is_video(path: Path) -> bool:
    """Whether a file is called like a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(
    source: str | os.PathLike,
    *,
    outside: Path | None = None,
    failures: list[ImageError] | None = None,
) -> list[Path]:
    """The pictures and videos that `source` means, in natural order ("2.jpg" before "10.jpg").

    Args:
        source: a file, taken whatever its suffix; a folder, searched with all folders below it
            for files called like pictures or videos, hidden ones left out, and those that may
            not be read, with a log line; or a pattern, as `"shots/**/*.jpg"`.
        outside: a folder whose files are not meant, because they are this run's own output.
        failures: folders that may not be read are appended here.

    Returns:
        At least one path; none only where `failures` says why.

    Raises:
        FileNotFoundError: there is no such file, or nothing that is called like a picture.
        ValueError: it is an address of the network.
    """
    text = os.fsdecode(source)
    if _ADDRESS.match(text):
        raise ValueError(f"{text} is an address; nothing is fetched here. Download it, pass a file")
    if not text.strip():
        raise ValueError("the path of the pictures is empty; pass a file, a folder or a pattern")
    path = Path(text)
    if path.is_dir():
        closed: list[ImageError] = []
        found = _without(_in_folder(path, closed), outside)
        if failures is not None:
            failures += closed
        if not found and not (failures and closed):
            raise FileNotFoundError(
                f"no pictures in {path} or below it; looked for {_suffixes()}, found "
                f"{_what_is_in(path)}"
            )
        return found
    if path.exists():  # before patterns: a file may be called "[1].jpg"
        return [path]
    if not glob.has_magic(text):
        raise FileNotFoundError(f"no file or folder {path} in {Path.cwd()}")
    matches = sorted((Path(match) for match in glob.glob(text, recursive=True)), key=natural)
    # A link that leads nowhere is meant as well: it is named when its turn comes.
    files = [match for match in matches if match.is_file() or not match.exists()]
    files = _without(files, outside)
    known = [file for file in files if _is_known(file)]
    if not known:
        raise FileNotFoundError(
            f"no pictures match {text!r}: {len(files)} files do, none with {_suffixes()}"
        )
    return known


def is_several(text: str) -> bool:
    """Whether a path is one of a folder, or a pattern."""
    return os.path.isdir(text) or (glob.has_magic(text) and not os.path.lexists(text))


def find_all(
    sources: Iterable[str | os.PathLike],
    *,
    outside: Path | None = None,
    failures: list[ImageError] | None = None,
) -> list[Path]:
    """`find_sources` of each, what comes twice once, at its first place.

    Raises:
        FileNotFoundError, ValueError: as `find_sources`; or there is no source at all.
    """
    found = [
        path
        for source in sources
        for path in find_sources(source, outside=outside, failures=failures)
    ]
    if not found:
        why = f": {failures[0]}" if failures else "; pass files, folders or patterns"
        raise ValueError(f"there are no pictures to look at{why}")
    first: dict[str, Path] = {}
    for path in found:
        first.setdefault(os.path.abspath(path), path)
    return list(first.values())


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """A sorting key that counts numbers inside names as numbers."""
    parts = _DIGITS.split(str(path).lower())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _in_folder(folder: Path, closed: list[ImageError]) -> list[Path]:
    def leave_out(error: OSError) -> None:
        why = f"the folder cannot be read: {error.strerror}"
        closed.append(ImageError(Path(error.filename), why))
        logger.warning("left out: %s", closed[-1])

    found = []
    for place, folders, names in os.walk(folder, onerror=leave_out):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(place, name) for name in names if not name.startswith("."))
        found += [file for file in files if _is_known(file)]
    return sorted(found, key=natural)


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES


def _without(paths: list[Path], folder: Path | None) -> list[Path]:
    if folder is None:
        return paths
    inside = folder.resolve()
    return [path for path in paths if inside not in path.resolve().parents]


def _suffixes() -> str:
    return "names that end in .jpg, .png, .webp, .mp4 and the like"


def _what_is_in(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return "an empty folder"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
