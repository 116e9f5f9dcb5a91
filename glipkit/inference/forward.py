"""What stands around every forward pass that answers a caller: exact digits, clear errors."""

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


@contextmanager
def full_digits(device: torch.device) -> Iterator[None]:
    """Convolutions of a GPU in float32 where float32 is said, as in evaluation."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
