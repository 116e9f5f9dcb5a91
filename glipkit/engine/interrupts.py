"""Ctrl-C and SIGTERM as a wish: the step is finished, the run is saved, then it ends."""

import logging
import signal
import threading
from types import FrameType

logger = logging.getLogger(__name__)


class Interrupts:
    """While entered, the first SIGINT or SIGTERM only sets `asked`; the second one interrupts.

    Outside the main thread signals cannot be caught; there it does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        logger.warning("stopping after this step; once more stops at once, without saving")
