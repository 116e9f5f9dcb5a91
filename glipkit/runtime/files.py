"""Files that are either whole or not there."""

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_DRAFT = re.compile(r"\..+\.\d+\.tmp")


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never half of it.

    See `replacing`.
    """
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that becomes `path` when the block ends, and is gone if it fails.

    See `replacing_path`.

    Raises:
        OSError: nothing can be written there.
    """
    with replacing_path(path) as draft, draft.open("wb") as file:
        yield file


@contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """Where to write a file that becomes `path` when the block ends, and is gone if it fails.

    The draft, beside `path`, is flushed to the disk and then renamed, so a reader sees the old
    file or the new one, never half of it, also when this process is killed or the machine stops,
    and when others write the same file: the last one stays. Missing folders are created.

    Raises:
        OSError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        said = f"{path.name} needs a folder to lie in, and this is or goes through a file"
        raise NotADirectoryError(errno.ENOTDIR, said, str(path.parent)) from error
    draft = draft_of(path)
    try:
        yield draft
        flush_to_disk(draft)
        draft.replace(path)
    except OSError as error:
        if error.filename == str(draft) and error.filename2 is None:  # which nobody knows
            error.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)
    flush_to_disk(path.parent)


def draft_of(path: Path) -> Path:
    """A name beside `path` for a file that will become it; another one at every call.

    Threads share a process's number, and containers that share a folder may have the same.
    """
    return path.with_name(f".{path.name}.{secrets.randbelow(10**12)}.tmp")


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut."""
    if not hasattr(os, "O_DIRECTORY") and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows: to flush
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of what a file holds, in 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def remove_drafts(folder: Path, *, unless: str) -> list[Path]:
    """Remove what killed writers left in `folder` and below it; nobody may be writing there.

    Args:
        folder: where to look.
        unless: folders below that hold a file of this name are somebody else's and left alone.

    Returns:
        The files that were removed.
    """
    removed = []
    for place, folders, names in os.walk(folder):
        if unless in names and Path(place) != folder:
            folders.clear()
            continue
        drafts = [Path(place) / name for name in names if _DRAFT.fullmatch(name)]
        for draft in drafts:
            draft.unlink(missing_ok=True)
        removed += drafts
    return removed
