"""One process at a time in a folder, whatever becomes of that process."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
from datetime import datetime
from pathlib import Path

logger = logging.getLogger(__name__)

LOCK = ".lock"
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_held: set["FolderLock"] = set()


class FolderLock:
    """An exclusive hold on a folder, until `release` or the end of this process.

    The kernel keeps the lock (flock on the file `.lock`) and drops it with the process, also after
    kill -9: nothing has to be cleaned up. Processes that this one forks do not hold it.

    Args:
        folder: created when missing.

    Raises:
        ValueError: another process holds it; the message says which.
        OSError: nothing can be written there; nobody holds it then.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOCK
        self._descriptor: int | None = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._holder()
            self._close()
            raise ValueError(
                f"{folder} is in use by another run: {holder}. Wait for its end, stop it, or "
                "choose another folder"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                self._close()
                raise
            logger.warning(
                "%s lies on a file system without locks (%s): take care that no two runs use it",
                folder,
                error.strerror,
            )
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(_this_process()).encode(), 0)
        except OSError as error:  # a full disk; what speaks of a descriptor names no file
            self._close()
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        _held.add(self)

    def release(self) -> None:
        """Let others have the folder; a second call does nothing."""
        _held.discard(self)
        self._close()

    def _holder(self) -> str:
        said = os.pread(self._descriptor, 1 << 16, 0)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(said)
            return (
                f"process {entry['process']} on {entry['host']}, since {entry['since']}: "
                f"{entry['command']}"
            )
        return f"a process that has not written its name into {self._path} yet"

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def this_command() -> str:
    """The command line of this process, as it could be typed again."""
    return shlex.join(sys.argv)


def _this_process() -> dict[str, object]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().isoformat(" ", "seconds"),
        "command": this_command(),
    }


def _let_go() -> None:
    """In a forked process, such as a data loader's worker, which may outlive a killed parent."""
    for lock in _held:
        lock._close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
