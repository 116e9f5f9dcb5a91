"""What stands around every forward pass that answers a caller: exact digits, clear errors."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image

from glipkit.runtime.memory import is_out_of_memory


@contextmanager
def memory_errors(device: torch.device, image: Image.Image) -> Iterator[None]:
    """Every way to say that memory ran out becomes a MemoryError that says what to do.

    Raises:
        MemoryError: there was not enough for one picture, `image`, and one prompt on `device`.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"not enough memory on {device} for one picture of {(image.height, image.width)} "
            "(height, width) and one prompt; load the model on another device, or a smaller model"
        ) from error


class _SharedSwitch:
    """torch's one switch for TF32 in convolutions, off for as long as anybody needs it off.

    The first to come saves what the caller had set, the last to go puts it back: threads that each
    saved and restored would take one another's setting for the caller's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = False

    def hold_off(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._users += 1

    def let_go(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                torch.backends.cudnn.allow_tf32 = self._before


_TF32 = _SharedSwitch()


@contextmanager
def full_digits(device: torch.device) -> Iterator[None]:
    """Convolutions of a GPU in float32 where float32 is said, as in evaluation.

    Any number of threads may be inside at once.
    """
    if device.type != "cuda":
        yield
        return
    _TF32.hold_off()
    try:
        yield
    finally:
        _TF32.let_go()
