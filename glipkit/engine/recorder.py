"""What a run says while it runs: metrics.jsonl for programs, curves and a bar for people."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glipkit.runtime.distributed import from_main, is_main
from glipkit.runtime.files import write_atomically
from glipkit.runtime.progress import step_progress
from glipkit.structures.figures import DECIDING

logger = logging.getLogger(__name__)

METRICS = "metrics.jsonl"


class Recorder:
    """Keeps the numbers of a run; on ranks other than 0 it does nothing.

    Every line of metrics.jsonl is a JSON object with "step", the steps done: losses, rates and
    times where `log` wrote it, "AP" or "R@1" and their companions where `evaluated` did. Numbers
    that are not finite are null. A line is written at once, so a killed process loses none. When a
    run goes on, lines of steps that it will make again are cut, so that no step stands twice.

    Args:
        folder: of the run.
        total_steps: of the whole run.
        first_step: steps done before; 0 begins anew.
        tensorboard_dir: where curves for TensorBoard go; None for none.
        label: what stands before the progress bar.

    Raises:
        ValueError: on every rank: TensorBoard is asked for and not installed.
        OSError: on every rank: the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total_steps: int,
        first_step: int = 0,
        tensorboard_dir: Path | None = None,
        label: str = "training",
    ) -> None:
        self._path = folder / METRICS
        self._first_step = first_step
        self._curves: Any = None
        self._pace = _Pace()

        def begin() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            _rewrite(self._path, lambda entry: 0 < entry["step"] <= first_step)
            self._file = self._path.open("ab", buffering=0)
            if tensorboard_dir is not None:
                self._curves = _curves(tensorboard_dir, first_step)

        from_main(begin)
        self._bar = step_progress(total_steps, first_step, label)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the numbers of training.

        Args:
            step: steps done.
            values: name -> number.
        """
        self._keep(step, values, "")

    def evaluated(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Keep the figures of an evaluation; what an earlier one said of this step is replaced.

        Args:
            step: steps done.
            metrics: name -> number, one of DECIDING among them.
        """
        if is_main() and step == self._first_step:  # it was stopped before it was saved
            self._file.close()
            _rewrite(self._path, lambda entry: entry["step"] != step or not _is_judged(entry))
            self._file = self._path.open("ab", buffering=0)
        self._keep(step, metrics, "validation/")
        self._pace.pause()

    def advance(self, step: int, images: int, postfix: Mapping[str, str]) -> None:
        """Move the bar.

        Args:
            step: steps done.
            images: pictures in the last one, all ranks together.
            postfix: what to show beside the pace.
        """
        if self._bar.disable:
            return
        shown = dict(postfix)
        if pace := self._pace.after(images):
            shown["images/s"] = f"{pace:.3g}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """End the bar and the files."""
        self._bar.close()
        if is_main():
            self._file.close()
        if self._curves is not None:
            self._curves.close()

    def _keep(self, step: int, values: Mapping[str, Any], group: str) -> None:
        if not is_main():
            return
        known = {name: _json_number(value) for name, value in values.items()}
        line = memoryview(json.dumps({"step": step, **known}).encode() + b"\n")
        try:
            while line:  # unbuffered
                line = line[self._file.write(line) :]
        except OSError as error:  # a full disk; a file object's errors do not name it
            kept = "the state saved last stands, and the same command goes on from it"
            raise OSError(error.errno, f"{error.strerror}; {kept}", str(self._path)) from error
        if self._curves is not None:
            for name, value in known.items():
                if value is not None:
                    self._curves.add_scalar(group + name, value, step)


class _Pace:
    """Pictures per second over the last minute or so."""

    def __init__(self) -> None:
        self._rate: float | None = None
        self._last: float | None = None

    def pause(self) -> None:
        """Do not count the time since the last step."""
        self._last = None

    def after(self, images: int) -> float | None:
        """The rate with one more step; None while there is nothing to divide by."""
        now = time.perf_counter()
        if self._last is not None:
            seconds = max(now - self._last, 1e-9)
            own = images / seconds
            share = 1 - math.exp(-seconds / 60)
            self._rate = own if self._rate is None else self._rate + share * (own - self._rate)
        self._last = now
        return self._rate


def _json_number(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _is_judged(entry: Mapping[str, Any]) -> bool:
    """Whether a line comes from an evaluation."""
    return any(name in entry for name in DECIDING)


def _rewrite(path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> None:
    """Leave out lines that are not to be kept, and what was only half written."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    kept = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):  # what follows is half a line
        try:
            if keep(json.loads(line)):
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: line %d is damaged, and left out", path, number)
    if (rest := "".join(kept)) != text:
        write_atomically(path, rest)


def _curves(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            f"curves for TensorBoard need the package tensorboard ({error}): "
            "pip install 'glipkit[tensorboard]', or train without them; metrics.jsonl has the "
            "same numbers, and python -m glipkit.report draws them"
        ) from error
    # What an interrupted run wrote beyond its last saved step is hidden.
    return SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
