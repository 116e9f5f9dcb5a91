"""The folder of a run: who may write there, and whether a run begins, goes on or is over."""

import json
import logging
import os
import platform
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
import transformers

from glipkit import __version__
from glipkit.engine.state_file import LAST, drop_previous, has_state
from glipkit.runtime.distributed import from_main, is_main, world_size
from glipkit.runtime.files import remove_drafts, write_atomically
from glipkit.runtime.locks import LOCK, FolderLock, this_command
from glipkit.runtime.settings import differences, flatten_settings

logger = logging.getLogger(__name__)

RUN = "run.json"
Status = Literal["fresh", "resumes", "finished"]

# Settings that a run may go on without a question when they change.
# They say where things go, how fast they come and when the run gives up.
_NO_MATTER = {
    "OUTPUT_DIR",
    "TENSORBOARD_EXP",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.LOG_PERIOD",
    "SOLVER.MAX_SKIPPED_STEPS",
    "TEST.IMS_PER_BATCH",
    "TEST.STRICT",
}
# They compute the same numbers in another order, so that the last bits differ: what helps when the
# memory turns out to be too small, or the machine another one.
_LAST_BITS = {
    "MODEL.DEVICE",
    "MODEL.BACKBONE.USE_CHECKPOINT",
    "MODEL.LANGUAGE_BACKBONE.USE_CHECKPOINT",
    "MODEL.DYHEAD.USE_CHECKPOINT",
    "SOLVER.ACCUMULATION",
    "SOLVER.FIND_UNUSED_PARAMETERS",
    "SOLVER.PARALLEL",
}
# All of them: whatever their values, it is the same run.
SAME_RUN = frozenset(_NO_MATTER | _LAST_BITS)
# Weights that a run saves for others.
_SAVED = ("model_*.safetensors", "tuned_*.safetensors")


class RunFolder:
    """A folder that this run alone writes to; a context manager, made by `open`.

    `run.json` in it says what the run is made with, so that the same command goes on where it
    stopped and another one is refused.

    Attributes:
        path: the folder.
        status: "fresh": nothing of a run is there, or nothing it has saved. "resumes": there is a
            state to load. "finished": the run came to its end, and this command would repeat it.
    """

    def __init__(self, path: Path, status: Status, lock: FolderLock | None) -> None:
        self.path = path
        self.status = status
        self._lock = lock  # rank 0's
        self._changed: Mapping[str, Any] | None = None  # rank 0's: run.json with other settings

    @classmethod
    def open(
        cls,
        path: str | Path,
        settings: Mapping[str, Any],
        *,
        data: Mapping[str, str] | None = None,
        allow_changes: bool = False,
    ) -> "RunFolder":
        """Take the folder, or say why not. All ranks call this together.

        Args:
            path: made when missing.
            settings: all that the result depends on, nested or with dotted keys, of what JSON can
                hold: the configuration, and beside it what the command line adds (--weight).
            data: name -> SHA-256, in hex, of the annotations that the result depends on; those
                that nobody could look at may be left out. Rank 0's count.
            allow_changes: go on with a run that was made with other settings or data.

        Raises:
            ValueError: another process uses the folder, or it holds a run of other settings or
                data; names them with both values.
        """
        path = Path(path)
        lock: FolderLock | None = None
        changed: Mapping[str, Any] | None = None

        def claim() -> Status:
            nonlocal lock, changed
            lock = FolderLock(path)
            for draft in remove_drafts(path, unless=LOCK):
                logger.info("removed %s, which a killed run left half-written", draft)
            status, changed = _decide(path, settings, data or {}, allow_changes)
            return status

        try:
            folder = cls(path, from_main(claim), lock)
        except (ValueError, OSError):
            if lock is not None:
                lock.release()
            raise
        folder._changed = changed
        return folder

    def adopt(self) -> None:
        """Make other settings, if they were allowed, those of the run: its state fits them.

        Until then a mistake leaves the run as it was.
        """
        if self._changed is not None:
            _write(self.path, self._changed)
            self._changed = None

    def finish(self) -> None:
        """Note that the run came to its end: the same command will have nothing to do."""
        if is_main():
            _write(self.path, {**_read(self.path), "status": "finished"})
            drop_previous(self.path)
        self.status = "finished"

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _decide(
    path: Path, settings: Mapping[str, Any], data: Mapping[str, str], allow_changes: bool
) -> tuple[Status, Mapping[str, Any] | None]:
    """What the run in a folder is to these settings and data, and run.json where they differ.

    The data stand beside the settings, not among them, so that a run goes on with a glipkit that
    knew of no data, and one of those goes on with this.
    """
    now = flatten_settings(json.loads(json.dumps(settings)))
    start = {
        "time": datetime.now().isoformat(" ", "seconds"),
        "command": this_command(),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "processes": world_size(),
        "versions": {
            "glipkit": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        },
    }
    if not has_state(path):
        saved = _saved(path)
        if saved is not None and _is_over(path, saved, now, data):
            return "finished", None
        _write(path, {"status": "running", "settings": now, "data": data, "starts": [start]})
        return "fresh", None
    run = _read(path)
    noted = run.get("data", {})
    if data and not noted:
        logger.info(
            "%s was begun before annotation files were noted; they are taken to be what they were",
            path,
        )
    finished = run["status"] == "finished"
    changed_data = _changed_data(noted, data)
    changed = _compare(path, run["settings"], now, changed_data, allow_changes, finished=finished)
    if finished and not changed:
        return "finished", None
    run = {
        "status": "running",
        "settings": now,
        "data": {**noted, **data},
        "starts": [*run["starts"], start],
    }
    if changed:
        start["changed"] = changed
        return "resumes", run
    _write(path, run)
    return "resumes", None


def _saved(path: Path) -> Path | None:
    """Weights that a run has saved; None where there are none, or no run to which they belong."""
    if not (path / RUN).exists():
        return None
    return next((file for pattern in _SAVED for file in sorted(path.glob(pattern))), None)


def _is_over(path: Path, saved: Path, now: Mapping[str, Any], data: Mapping[str, str]) -> bool:
    """Whether this run is finished, whose state somebody removed to save room.

    Raises:
        ValueError: the weights are of another run, and nothing is mixed with those.
    """
    run = _read(path)
    other = {key for key in differences(run["settings"], now) if key not in SAME_RUN}
    if other := other | _changed_data(run.get("data", {}), data).keys():
        raise ValueError(
            f"{path} holds weights of another run ({saved.name}; different: "
            f"{', '.join(sorted(other))}) and no {LAST} to go on from. Choose another OUTPUT_DIR; "
            f"--weight {saved} starts from what was learnt"
        )
    return run["status"] == "finished"


def _changed_data(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The data that are known both then and now, and differ. Names are among the settings."""
    return {
        f"annotations of {name}": f"then {then[name][:12]}..., now {now[name][:12]}..."
        for name in sorted(then.keys() & now.keys())
        if then[name] != now[name]
    }


def _compare(
    path: Path,
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    data: Mapping[str, str],
    allow_changes: bool,
    *,
    finished: bool,
) -> dict[str, str]:
    """The settings that differ and matter, and `data`, which do; refused unless allowed."""
    found = differences(then, now)
    bits = [f"{key}: {values}" for key, values in found.items() if key in _LAST_BITS]
    if bits:
        logger.warning(
            "this run goes on with %s: the same training, but not the same bits", "; ".join(bits)
        )
    settings = {key: values for key, values in found.items() if key not in SAME_RUN}
    other = " and ".join(["settings"] * bool(settings) + ["data"] * bool(data))
    changed = {**settings, **data}
    rows = "\n".join(f"  {key}: {values}" for key, values in changed.items())
    if finished and data and not settings:  # there is no step left that would see the new ones
        raise ValueError(
            f"{path} holds a finished run, which learnt from other data:\n{rows}\n"
            "Choose another OUTPUT_DIR to train on the new ones"
        )
    if changed and not allow_changes:
        raise ValueError(
            f"{path} holds a run with other {other}:\n{rows}\n"
            "Give them as they were to go on with it, choose another OUTPUT_DIR for another run, "
            "or add --allow-changes to go on with the new ones"
        )
    if changed:
        logger.warning("%s goes on with other %s:\n%s", path, other, rows)
    return changed


def _read(path: Path) -> dict[str, Any]:
    file = path / RUN
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        complete = isinstance(run["settings"], dict) and isinstance(run["starts"], list)
        complete = complete and isinstance(run.get("data", {}), dict)
        if complete and run["status"] in ("running", "finished"):
            return run
    except FileNotFoundError:
        raise ValueError(
            f"{path} holds the state of a run ({LAST}), but no {RUN} that says of which one; "
            "choose another OUTPUT_DIR, or move the state away"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}); choose another OUTPUT_DIR") from error
    raise ValueError(f"{file} is not what a run of glipkit writes; choose another OUTPUT_DIR")


def _write(path: Path, run: Mapping[str, Any]) -> None:
    write_atomically(path / RUN, json.dumps(run, indent=2) + "\n")
