r"""One .tsv file whose rows are found by seeking: rows of megabytes, millions of them.

Beside `x.tsv` lies `x.lineidx`: text, one number to a line, the byte at which each row begins.
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from glipkit.runtime.files import write_atomically
from glipkit.runtime.progress import byte_progress

logger = logging.getLogger(__name__)

_BLOCK = 1 << 24  # bytes scanned at a time
_LARGE = 1 << 28  # bytes; files from here on show how far the scan is
_LONGEST_KEY = 512  # bytes that the first column is looked for in


class TsvRows:
    """The rows of a .tsv file, each a list of its columns as bytes.

    Survives pickling and forking: each process opens the file when it first reads a row.

    Args:
        path: the .tsv file. Where there is no .lineidx beside it, one is made there, or in
            ~/.cache/glipkit where that folder cannot be written to.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, or the .lineidx is not that of this file.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"no TSV file at {path.absolute()}")
        self.path = path
        self._starts = _line_index(path)  # (rows + 1,), the last one is the size of the file
        self._file: BinaryIO | None = None
        self._process = 0  # that opened the file

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> list[bytes]:
        """Columns of a row.

        Raises:
            ValueError: the .lineidx is not that of this file.
        """
        row = range(len(self))[row]
        start, end = self._starts[row : row + 2].tolist()
        before = min(start, 1)  # the end of the row before, if there is one
        text = self._read(start - before, end - start + before)
        is_last = row == len(self) - 1
        if text[:before].strip(b"\n") or b"\n" in text[before:-1]:
            self._fail_stale(row)
        if len(text) < end - start + before or not (is_last or text.endswith(b"\n")):
            self._fail_stale(row)
        return text[before:].rstrip(b"\r\n").split(b"\t")

    def key(self, row: int) -> str:
        """The first column of a row, without reading the others."""
        start, end = self._starts[row : row + 2].tolist()
        return (
            self._read(start, min(end - start, _LONGEST_KEY))
            .split(b"\t")[0]
            .decode(errors="replace")
            .strip()
        )

    def where(self, row: int) -> Path:
        """How messages name a row: file:line, as editors do."""
        return Path(f"{self.path}:{row + 1}")

    def close(self) -> None:
        """Close the file, if this process has it open; reading opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}

    def _read(self, start: int, length: int) -> bytes:
        if self._file is None or self._process != os.getpid():  # a fork shares the position
            self._file, self._process = self.path.open("rb"), os.getpid()
        self._file.seek(start)
        return self._file.read(length)

    def _fail_stale(self, row: int) -> None:
        raise ValueError(
            f"{self.where(row)}: no row begins or ends where the .lineidx says, so that is of "
            "another version of the file; delete the .lineidx and it will be made anew"
        )


def line_starts(path: Path) -> np.ndarray:
    """(rows,) int64, the byte at which each row of a file begins."""
    size = path.stat().st_size
    starts, position = [np.zeros(1, dtype=np.int64)], 0
    with (
        path.open("rb") as file,
        byte_progress(size, f"finding the rows of {path.name}", hidden=size < _LARGE) as progress,
    ):
        while block := file.read(_BLOCK):
            ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))
            starts.append(ends + position + 1)
            position += len(block)
            progress.update(len(block))
    found = np.concatenate(starts)
    return found[found < size]


def write_line_index(path: Path, starts: np.ndarray) -> None:
    """Write a .lineidx file."""
    write_atomically(path, "".join(f"{start}\n" for start in starts.tolist()))


def _line_index(path: Path) -> np.ndarray:
    """Where the rows begin, with the size of the file at the end."""
    size = path.stat().st_size
    if not size:
        raise ValueError(f"{path} is empty")
    beside, cached = path.with_suffix(".lineidx"), _cached_index(path)
    for index in (beside, cached):
        if index.is_file():
            return _with_size(_checked(_read_index(index), path, index), size)
    starts = line_starts(path)
    for index in (beside, cached):
        try:
            write_line_index(index, starts)
        except OSError as error:  # a folder that cannot be written to, a full disk
            logger.warning("%s: the row index could not be kept in %s (%s)", path, index, error)
        else:
            break
    return _with_size(starts, size)


def _read_index(index: Path) -> np.ndarray:
    try:
        return np.array(index.read_bytes().split()).astype(np.int64)
    except ValueError as error:
        raise ValueError(f"{index} must hold one number to a line: {error}") from None


def _checked(starts: np.ndarray, path: Path, index: Path) -> np.ndarray:
    size = path.stat().st_size
    fits = len(starts) and starts[0] == 0 and bool((np.diff(starts) > 0).all())
    if fits and starts[-1] < size:
        with path.open("rb") as file:
            file.seek(int(starts[-1]))
            fits = len(file.readline()) == size - starts[-1]
    if not fits or starts[-1] >= size:
        raise ValueError(
            f"{index} is not the row index of {path} ({size:,} bytes): its {len(starts):,} rows "
            f"end elsewhere. If the .tsv is whole, delete the .lineidx and it will be made anew; "
            "else copy or download the .tsv again"
        )
    return starts


def _cached_index(path: Path) -> Path:
    status = path.stat()
    name = hashlib.sha256(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}".encode())
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "glipkit" / f"{name.hexdigest()[:32]}.lineidx"


def _with_size(starts: np.ndarray, size: int) -> np.ndarray:
    return np.append(starts, size)
