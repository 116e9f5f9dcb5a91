"""The file of a run's state: written whole or not at all, checked before it is believed."""

import logging
import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from glipkit.engine.tensor_files import DAMAGED_ZIP, CheckpointError
from glipkit.runtime.distributed import from_main, rank
from glipkit.runtime.files import replacing

logger = logging.getLogger(__name__)

LAST = "last.pt"
PREVIOUS = "last.prev.pt"  # the state before, for a disk that did not keep what it promised
DAMAGED = "last.damaged.pt"
_FORMAT = "glipkit_run_state"
_VERSION = 1
_SLACK = 1 << 20  # bytes a file may need beside its tensors


def has_state(folder: Path) -> bool:
    """Whether a run can be continued in `folder`."""
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def write_state(folder: Path, content: Mapping[str, Any]) -> None:
    """Make `content` the last state of a run, and what was the last state the previous one.

    At every moment a whole state is on the disk, so there must be room for two; the previous one
    stays only where there is.

    Args:
        folder: of the run.
        content: dicts, lists and tuples around tensors on the CPU, numbers, text and None.

    Raises:
        OSError: it could not be written, for lack of room, say. The last state is as it was; the
            message says what is needed and what is free.
        TypeError: `content` holds something else.
    """
    content = {_FORMAT: _VERSION, **_plain(content, "state")}
    last, previous = folder / LAST, folder / PREVIOUS
    folder.mkdir(parents=True, exist_ok=True)
    needed = _bytes_of(content) + _SLACK
    if _free(folder) < needed:
        previous.unlink(missing_ok=True)
    if _free(folder) < needed:
        raise OSError(_cannot_save(last, needed))
    try:
        with replacing(last) as file:
            _save(content, file)
            file.flush()
            os.fsync(file.fileno())
            if last.exists():
                last.replace(previous)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}. {_cannot_save(last, needed)}") from error


def read_state(folder: Path) -> dict[str, Any]:
    """The last state of a run; the one before where that file is damaged, with a warning.

    Going on from the state before repeats some steps and comes to the same end. All ranks call
    this together and read the same file.

    Returns:
        What `write_state` was given. Tensors are mapped from the file: copy what you keep.

    Raises:
        FileNotFoundError: there is no state, or this machine does not see it.
        CheckpointError: no state is whole, or the file is not one of a run.
    """
    path = folder / from_main(lambda: _find_whole(folder))
    if not path.exists():
        raise FileNotFoundError(
            f"rank {rank()} sees no {path}; OUTPUT_DIR must be a folder that all machines share"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is not the state of a run ({reason})") from error
    version = content.pop(_FORMAT, None) if isinstance(content, dict) else None
    if version != _VERSION:
        raise CheckpointError(
            f"{path} is not a state that this glipkit wrote (its version is {version}, expected "
            f"{_VERSION}); to begin from its weights, give it as --weight in a new OUTPUT_DIR"
        )
    return content


def drop_previous(folder: Path) -> None:
    """Free the room of the state before the last; for runs that have come to their end."""
    (folder / PREVIOUS).unlink(missing_ok=True)


def _find_whole(folder: Path) -> str:
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.exists():
        if not previous.exists():
            raise FileNotFoundError(f"no state of a run in {folder}: expected {LAST}")
        previous.replace(last)  # killed between the two renames of a save
    if damage := _damage(last):
        if not previous.exists() or _damage(previous):
            raise CheckpointError(
                f"{last} is damaged ({damage}), and no whole {PREVIOUS} stands beside it. If "
                "there is no copy of either, start again in another OUTPUT_DIR; --weight with one "
                f"of the .safetensors in {folder} starts from what was learnt"
            )
        logger.warning(
            "%s is damaged (%s): going on from the state before it, which repeats some steps; "
            "the damaged file is kept as %s, remove it when you like",
            last,
            damage,
            DAMAGED,
        )
        last.replace(folder / DAMAGED)
        previous.replace(last)
    return LAST


def _damage(path: Path) -> str | None:
    """What is wrong with the bytes of a file, which Python and torch each see in part.

    Torch does not compare checksums, and Python overlooks some of the directory at the end.
    """
    with path.open("rb") as file:  # that it may not be opened is no damage
        try:
            with zipfile.ZipFile(file) as archive:
                entry = archive.testzip()
        except DAMAGED_ZIP as error:
            return f"{path.stat().st_size:,} bytes: {str(error) or type(error).__name__}"
    if entry is not None:
        return f"the checksum of {entry} is wrong"
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    except pickle.UnpicklingError:  # whole, but no state of ours
        return None
    return None


class _Watched:
    """A file that remembers why it could not be written: torch forgets it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """`_save`'s caller flushes, where an error is seen."""


def _save(content: Mapping[str, Any], file: BinaryIO) -> None:
    watched = _Watched(file)
    try:
        torch.save(content, watched)
    except RuntimeError as error:
        if watched.error is None:
            raise
        raise watched.error from error


def _plain(value: Any, where: str) -> Any:
    """The same as what torch reads back without running code, each tensor with its own storage."""
    if isinstance(value, Tensor):
        tensor = value.detach().contiguous()
        return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(inner, f"{where}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        inner = [_plain(part, f"{where}[{index}]") for index, part in enumerate(value)]
        return inner if isinstance(value, list) else tuple(inner)
    raise TypeError(f"{where} is a {type(value).__name__}; a state is tensors and plain data")


def _bytes_of(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(_bytes_of, value.values()))
    return sum(map(_bytes_of, value)) if isinstance(value, list | tuple) else 0


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _cannot_save(path: Path, needed: int) -> str:
    stands = (
        f"the state saved before stands in {path.name}: make room and start the same command "
        "again to go on from it"
        if has_state(path.parent)
        else "no state was saved before: make room and start the same command again"
    )
    return (
        f"Cannot save the state of this run as {path}: it needs {needed / 1e9:.3f} GB, and "
        f"{_free(path.parent) / 1e9:.3f} GB are free there; {stands}"
    )
