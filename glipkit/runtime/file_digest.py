"""What a file holds, in a few digits that are computed once."""

from pathlib import Path

from glipkit.runtime.files import file_sha256

_known: dict[tuple[Path, int, int], str] = {}  # (path, bytes, changed at) -> SHA-256


def file_digest(path: Path) -> str:
    """SHA-256 of a file, computed once as long as it does not change.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    stat = path.stat()
    key = (path.absolute(), stat.st_size, stat.st_mtime_ns)
    if key not in _known:
        _known[key] = file_sha256(path)
    return _known[key]
