"""Python's search for garbage, where it takes long and finds nothing.

torch and transformers bring a million objects that stay. Searching them again and again while they
come takes a sixth of the time that importing them takes, and searching them once more at the end of
Python takes 1.5 s on the same machine.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """For importing what is big: the collector waits, and counts what came as old."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # nobody uses it: a way to make all objects old, unsearched
            gc.freeze()
            gc.unfreeze()
        if was_on:
            gc.enable()


def skip_last_collection() -> None:
    """Let Python end without a last search; may be called again.

    For the entry points of our own programs, which close their files: what a reference cycle still
    holds then is given back by the system, without a call of `__del__`. Nothing that can be called
    from Python may decide that for its caller.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
