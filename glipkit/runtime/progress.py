"""How far a long walk over pictures or through a file has come."""

import sys

from tqdm import tqdm

from glipkit.runtime.distributed import is_main, world_size


def image_progress(total: int, label: str) -> tqdm:
    """A bar with images per second on rank 0, silent elsewhere; use it as a context manager.

    With several processes it counts rank 0's own share. Where stderr is a file, a line is
    written every half minute instead of several a second.

    Args:
        total: images that this process will walk over.
        label: what stands before the bar.
    """
    if world_size() > 1:
        label = f"{label} (rank 0 of {world_size()})"
    return tqdm(
        total=total,
        desc=label,
        unit=" images",
        disable=not is_main(),
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
        dynamic_ncols=True,
    )


def byte_progress(total: int, label: str, *, hidden: bool = False) -> tqdm:
    """A bar with bytes per second on rank 0, silent elsewhere; use it as a context manager.

    Args:
        total: bytes of the file that is read or written.
        label: what stands before the bar.
        hidden: show nothing, for files that take no time.
    """
    return tqdm(
        total=total,
        desc=label,
        unit="B",
        unit_scale=True,
        disable=hidden or not is_main(),
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
        dynamic_ncols=True,
    )


def step_progress(total: int, first: int, label: str) -> tqdm:
    """A bar over the steps of a run with the time left, silent on ranks other than 0.

    Args:
        total: steps of the whole run.
        first: steps done when this process began.
        label: what stands before the bar.
    """
    return tqdm(
        total=total,
        initial=first,
        desc=label,
        unit=" steps",
        disable=not is_main(),
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
        dynamic_ncols=True,
    )
