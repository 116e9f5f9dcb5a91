"""Ctrl-C and SIGTERM as a wish: the step is finished, the run is saved, then it ends."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


class Interrupts:
    """While entered, the first SIGINT or SIGTERM only sets `asked`.

    The second one ends the process without a word and at once, even where it waits for another one
    that is gone. Outside the main thread signals cannot be caught; there nothing is done.
    """

    def __init__(self) -> None:
        self.asked = False
        self._is_saved = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            # None: it was not set from Python, and cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Inside, nothing is lost by stopping: the first signal raises KeyboardInterrupt.

        So does one that came since somebody last looked at `asked`.
        """
        if self.asked:
            raise KeyboardInterrupt
        self._is_saved = True
        try:
            yield
        finally:
            self._is_saved = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._is_saved:
            logger.warning("stopped; the run was saved before, and the same command goes on")
            raise KeyboardInterrupt
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        logger.warning("stopping after this step; once more stops at once, without saving")
