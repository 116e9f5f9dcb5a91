"""Predictions made so far, on disk, so that an interruption loses nothing.

One file of JSON lines for each rank. The first line says what the predictions depend on; each
other line holds one picture's detections. A line counts once its newline is written.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from glipkit.evaluation.coco_results import decimals
from glipkit.runtime.settings import differences
from glipkit.structures.detections import Detections

logger = logging.getLogger(__name__)

_PATTERN = "journal-*.jsonl"
METRIC = "metric"  # the one key of `depends_on` that may differ when an evaluation is resumed
_BLOCK = 1 << 20  # bytes looked at together


class JournalError(ValueError):
    """A journal that cannot be continued: it is damaged, or belongs to another evaluation."""


class Journal:
    """The predictions of one rank, appended as they are made; a context manager.

    Args:
        folder: where the journals of all ranks lie; created when missing.
        rank: whose journal this is.
        depends_on: what the predictions depend on, as plain data, and `METRIC`, which may change.
        resume: append to what is there instead of replacing it.

    Raises:
        JournalError: what is there belongs to another evaluation or is damaged.
    """

    def __init__(
        self, folder: Path, rank: int, depends_on: Mapping[str, Any], *, resume: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"journal-{rank}.jsonl"
        if resume and path.exists():
            for _ in _read(path, depends_on):  # rank 0 sees no other machine's disk
                pass
            _cut_torn_line(path)
        self._file = path.open("ab" if resume else "wb", buffering=0)
        if self._file.tell() == 0:
            self._write({"depends_on": depends_on})

    def add(self, image_id: int, detections: Detections) -> None:
        """Append one picture's detections (on the CPU, in original pixels) and flush them."""
        self._write(
            {
                "image_id": image_id,
                "image_size": list(detections.image_size),
                "boxes": decimals(detections.boxes),
                "scores": decimals(detections.scores),
                "phrase_ids": detections.phrase_ids.tolist(),
            }
        )

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = memoryview(json.dumps(entry).encode() + b"\n")
        try:
            while line:  # unbuffered: a killed process loses nothing; only a dead machine could
                line = line[self._file.write(line) :]
        except OSError as error:  # a full disk; a file object's errors do not name it
            kept = "what was predicted so far is kept, and --resume goes on from it"
            raise OSError(error.errno, f"{error.strerror}; {kept}", self._file.name) from error


def discard_journals(folder: Path) -> None:
    """Forget what an earlier evaluation left in `folder`."""
    for path in folder.glob(_PATTERN):
        path.unlink()


def can_go_on(folder: Path, depends_on: Mapping[str, Any]) -> bool:
    """Whether there are journals in `folder` that are whole and depend on just that."""
    try:
        for _ in walk_journals(folder, depends_on):
            pass
    except JournalError as error:
        logger.info("judged from the beginning: %s", error)
        return False
    return any(folder.glob(_PATTERN))


def walk_journals(folder: Path, depends_on: Mapping[str, Any]) -> Iterator[tuple[int, Detections]]:
    """Everything that the journals of all ranks in `folder` hold: image id and detections.

    Picture by picture, so that memory never holds all of it.

    Raises:
        JournalError: a journal was written for other weights, data, words or settings (all
            differences are named), or is damaged before its last line.
    """
    for path in sorted(folder.glob(_PATTERN)):
        yield from _read(path, depends_on)


def _read(path: Path, depends_on: Mapping[str, Any]) -> Iterator[tuple[int, Detections]]:
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if not line.endswith(b"\n"):
                return  # torn
            try:
                entry = json.loads(line)
                if number == 0:
                    _check_same(path, entry["depends_on"], depends_on)
                    continue
                known = entry["image_id"], _detections(entry)
            except JournalError:
                raise
            except (ValueError, KeyError, TypeError) as error:
                raise JournalError(
                    f"{path} is damaged ({error!r}); run without --resume to start again"
                ) from error
            yield known


def _detections(entry: Mapping[str, Any]) -> Detections:
    return Detections(
        boxes=torch.tensor(entry["boxes"], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(entry["scores"], dtype=torch.float32),
        phrase_ids=torch.tensor(entry["phrase_ids"], dtype=torch.int64),
        image_size=tuple(entry["image_size"]),
    )


def _check_same(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    # How answers are judged changes none of them: LVIS has two protocols, and takes hours.
    then, now = ({key: each[key] for key in each if key != METRIC} for each in (then, now))
    if differing := differences(then, now):
        rows = "\n".join(f"  {key}: {values}" for key, values in differing.items())
        raise JournalError(
            f"{path} belongs to another evaluation and cannot be resumed:\n{rows}\n"
            "Run without --resume to start again, or choose another OUTPUT_DIR"
        )


def _cut_torn_line(path: Path) -> None:
    """Cut what follows the last newline; from the end, for LVIS's journals take gigabytes."""
    with path.open("r+b") as file:
        whole, start = 0, file.seek(0, os.SEEK_END)
        while start and not whole:
            end, start = start, max(start - _BLOCK, 0)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            whole = start + newline + 1 if newline >= 0 else 0
        file.truncate(whole)
