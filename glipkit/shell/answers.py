"""The folder of a `glipkit detect`: what was found so far, on disk at once, and how to go on."""

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from glipkit.inference.sources import is_video
from glipkit.runtime.files import remove_drafts, replacing, write_atomically
from glipkit.runtime.locks import LOCK, FolderLock
from glipkit.runtime.settings import differences
from glipkit.shell.tally import Tally

logger = logging.getLogger(__name__)

ANSWERS, STATE, PICTURES = "found.jsonl", "detect.json", "pictures"
_KINDS = {"file": str, "phrases": list, "boxes": list, "drawn": str | None}  # of a line
_KINDS_OF_BOX = {"label": str, "score": int | float}


class AnswerFolder:
    """DIR of `glipkit detect --out DIR`; a context manager.

    found.jsonl holds a line for each picture or frame, whole or not at all; detect.json what was
    asked, and which videos are done. The same call again goes on with the pictures that are not
    done; a video that was interrupted, tracked pictures, and files of another size or time than
    when they were looked at are done anew. Pictures may have come since.

    Args:
        folder: created when missing; other files in it are left alone.
        call: what was asked, as plain data.
        overwrite: forget what an earlier call left.

    Raises:
        ValueError: another call's answers, or files of these names that are no answers, are there;
            or another process is writing there.
        OSError: nothing can be written there.
    """

    def __init__(self, folder: Path, call: Mapping[str, Any], *, overwrite: bool = False) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out {folder} is a file; name a folder")
        self.folder = folder
        self.tally = Tally()
        self.copies: dict[str, str] = {}  # file that is done -> its copy, a name below pictures/
        self._frames: Counter[str] = Counter()  # of each video, by this call
        self._lock = _lock(folder)
        try:
            self._state = self._begin(json.loads(json.dumps(call)), overwrite)
            self._done = self._take_up()
            remove_drafts(folder / PICTURES, unless=LOCK)  # of annotated videos, by a killed call
            self._file = (folder / ANSWERS).open("ab", buffering=0)
        except BaseException:
            self._lock.release()
            raise

    def has(self, path: Path) -> bool:
        """Whether this picture or video is done."""
        return str(path) in self._done

    def add(self, line: Mapping[str, Any]) -> None:
        """Append the answer about one picture or frame.

        Raises:
            OSError: it cannot be written; what was written stays.
        """
        text = memoryview(json.dumps(line).encode() + b"\n")
        try:
            while text:  # unbuffered: a killed process loses nothing
                text = text[self._file.write(text) :]
        except OSError as error:  # a full disk; a file object's errors do not name it
            kept = "what was found so far is kept, and the same call goes on from it"
            raise OSError(error.errno, f"{error.strerror}; {kept}", self._file.name) from error
        self.tally.count(line)
        if "frame" in line:
            self._frames[line["file"]] += 1

    def finish_video(self, path: Path, stamp: list[int] | None) -> None:
        """Every frame of it has its line; `stamp` is `file_stamp` of before the first one."""
        self._state["videos_done"].append(str(path))
        self._state["stamps"] = {**self._state.get("stamps", {}), str(path): stamp}
        counts = {**self._state.get("frames", {}), str(path): self._frames[str(path)]}
        self._state["frames"] = counts
        self._write_state()

    def finish(self, failures: Iterable[tuple[str, str]]) -> None:
        """Note that everything was looked at, and what could not be read."""
        self._state["unreadable"] = [{"file": file, "reason": why} for file, why in failures]
        self._state["finished"] = True
        self._write_state()

    def __enter__(self) -> "AnswerFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.tally.pictures:
            logger.warning(
                "%d pictures are done and kept in %s; the same call goes on from there",
                self.tally.pictures,
                self.folder / ANSWERS,
            )
        self._file.close()
        self._lock.release()

    def _begin(self, call: dict[str, Any], overwrite: bool) -> dict[str, Any]:
        """The state to go on from; a new one when there is none, or it is to be forgotten."""
        path = self.folder / STATE
        present = [name for name in (ANSWERS, PICTURES) if (self.folder / name).exists()]
        if not path.exists():
            if present:
                raise ValueError(
                    f"{self.folder} has {' and '.join(present)}, but not of a glipkit detect; "
                    "choose another --out"
                )
        else:
            state = _read_state(path)  # and if it is not ours, nothing is thrown away
            if not overwrite and _has_lines(self.folder / ANSWERS):
                self._check_same(state["call"], call)
                return state | {"finished": False}
            (self.folder / ANSWERS).unlink(missing_ok=True)
            if state["call"].get("save_pictures"):
                shutil.rmtree(self.folder / PICTURES, ignore_errors=True)
        state = {"call": call, "videos_done": [], "unreadable": [], "finished": False}
        write_atomically(path, json.dumps(state, indent=2) + "\n")
        return state

    def _check_same(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        if differing := differences(then, now):
            rows = "\n".join(f"  {key}: {values}" for key, values in differing.items())
            raise ValueError(
                f"{self.folder} holds the answers of another call:\n{rows}\n"
                "pass --overwrite to replace them, or choose another --out"
            )

    def _take_up(self) -> frozenset[str]:
        """The files that are done; lines that are torn, or of files that are not, are dropped."""
        path = self.folder / ANSWERS
        if not path.exists():
            return frozenset()
        changed = self._forget_videos(path)
        videos = frozenset(self._state["videos_done"])
        done = set(videos)
        with replacing(path) as kept:
            for raw, line in _lines(path):
                if line is None:
                    continue
                if line["drawn"]:  # also of what is done again: its copy takes the same place
                    self.copies[line["file"]] = line["drawn"].removeprefix(f"{PICTURES}/")
                if not (line["file"] in videos or self._stands_alone(line["file"])):
                    continue
                if _is_replaced(line["file"], line.get("stamp")):
                    changed.add(line["file"])
                    continue
                kept.write(raw)
                self.tally.count(line)
                done.add(line["file"])
        if changed:
            logger.warning(
                "%d file%s done again: changed since, or not all of its lines are in %s",
                len(changed),
                "s" * (len(changed) != 1),
                ANSWERS,
            )
        return frozenset(done)

    def _forget_videos(self, path: Path) -> set[str]:
        """Those that are another file now, or of which a frame has no line any more.

        Before their lines are dropped: a call killed in between would take them for done.
        """
        stamps, frames = (self._state.get(key, {}) for key in ("stamps", "frames"))
        done = self._state["videos_done"]
        forgotten = {file for file in done if _is_replaced(file, stamps.get(file))}
        if frames:
            left = Counter(line["file"] for _, line in _lines(path) if line and "frame" in line)
            forgotten |= {file for file in done if left[file] != frames.get(file, left[file])}
        if forgotten:
            self._state["videos_done"] = [file for file in done if file not in forgotten]
            self._write_state()
        return forgotten

    def _stands_alone(self, file: str) -> bool:
        """Whether the answer about a file does not depend on others: numbers of objects do."""
        return not is_video(Path(file)) and not self._state["call"].get("track")

    def _write_state(self) -> None:
        write_atomically(self.folder / STATE, json.dumps(self._state, indent=2) + "\n")


def copy_names(paths: Iterable[Path], known: Mapping[str, str] | None = None) -> dict[Path, str]:
    """Where the annotated copy of each picture goes: no two to the same place.

    The folders below what all have in common are kept; a copy of what is neither JPEG nor PNG is a
    PNG, of a video an mp4.

    Args:
        paths: of pictures and videos.
        known: path -> name, of copies that are there already.
    """
    paths = list(paths)
    absolute = [Path(os.path.abspath(path)) for path in paths]
    shared = os.path.commonpath([path.parent for path in absolute]) if absolute else ""
    known = known or {}
    used = {name.lower() for name in known.values()}
    names = {path: known[str(path)] for path in paths if str(path) in known}
    for path, place in zip(paths, absolute):
        if path in names:
            continue
        name = str(place.relative_to(shared))
        suffix = path.suffix.lower()
        if is_video(path):
            name += "" if suffix == ".mp4" else ".mp4"
        elif suffix not in (".jpg", ".jpeg", ".png"):
            name += ".png"
        number, plain = 1, Path(name)
        while name.lower() in used:  # also where upper and lower case are one
            number += 1
            name = str(plain.with_name(f"{plain.stem}_{number}{plain.suffix}"))
        used.add(name.lower())
        names[path] = name
    return names


def file_stamp(path: Path | str) -> list[int] | None:
    """Bytes and time of change (ns) of a file; None where it is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: no path at all
        return None
    return [found.st_size, found.st_mtime_ns]


def _is_replaced(file: str, stamp: list[int] | None) -> bool:
    """Whether another file is there now; `stamp` None: of answers that do not say."""
    return stamp is not None and file_stamp(file) not in (stamp, None)


def _lock(folder: Path) -> FolderLock:
    try:
        return FolderLock(folder)
    except OSError as error:
        said = f"nothing can be written to --out: {error.strerror}"
        raise OSError(error.errno, said, str(folder)) from error


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_bytes())
        tables = (state["call"], state.get("stamps", {}), state.get("frames", {}))
        if isinstance(state["videos_done"], list) and all(isinstance(t, dict) for t in tables):
            return state
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is not of a glipkit detect, or damaged; choose another --out")


def _has_lines(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Each line and what it says; None where it was torn, or is no answer."""
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw) if raw.endswith(b"\n") else None
            except ValueError:
                line = None
            yield raw, line if _is_answer(line) else None


def _is_answer(line: Any) -> bool:
    return (
        _has(line, _KINDS)
        and all(isinstance(phrase, str) for phrase in line["phrases"])
        and all(_has(box, _KINDS_OF_BOX) for box in line["boxes"])
        and all(isinstance(box.get("track_id", -1), int) for box in line["boxes"])
    )


def _has(record: Any, kinds: Mapping[str, Any]) -> bool:
    return isinstance(record, dict) and all(
        key in record and isinstance(record[key], kind) for key, kind in kinds.items()
    )
