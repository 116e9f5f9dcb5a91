"""Importing what is big, sooner."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Python's search for garbage waits, while something big is imported.

    A million objects of torch and transformers come to stay; searching them again and again while
    they come takes a sixth of the time that importing takes.
    """
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
