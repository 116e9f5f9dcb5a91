"""What becomes of freed memory: kept for what comes next, or handed back at once.

glibc gives large tensors back to the system as they are freed and asks for the next ones; each page
of them is then found missing and cleared again. In training steps of GLIP-T on one picture, always
the same, 277,000 missing pages became 10,000, at the same greatest moment. Off by default: glibc
2.36 does not fit a tensor into the hole that one of the same size left, so that a process may grow,
and what steps of changing sizes do was not measured.
"""

import ctypes
import logging
import os
import platform

logger = logging.getLogger(__name__)

SWITCH = "GLIPKIT_KEEP_MEMORY"  # "1" turns it on
# Whoever set one of these has decided already; a preloaded allocator is not ours to speak to.
_DECIDED = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_",
            "MALLOC_TOP_PAD_", "GLIBC_TUNABLES", "LD_PRELOAD")  # fmt: skip
# Parameters of mallopt (malloc.h), and what they become.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1  # bytes at the end of the heap from which on they are given back: the largest


def keep_freed_memory() -> bool:
    """Ask the C library, where it is glibc, to give nothing back to the system before the end.

    Only where GLIPKIT_KEEP_MEMORY=1 asks for it, and nobody set malloc otherwise (MALLOC_*,
    GLIBC_TUNABLES) or put another allocator in its place (LD_PRELOAD). Call it before the first
    large tensor.

    Returns:
        Whether memory is kept from here on.
    """
    if os.environ.get(SWITCH) != "1" or any(os.environ.get(name) for name in _DECIDED):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = mallopt(_MMAP_MAX, 0) == 1 and mallopt(_TRIM_THRESHOLD, _NEVER) == 1
    if kept:
        logger.info("freed memory is kept for what comes next (%s)", SWITCH)
    return kept


def hand_back() -> bool:
    """Give the system back all that was freed and lies idle, where the C library is glibc.

    Returns:
        Whether the C library was asked: not where GLIPKIT_KEEP_MEMORY=1 says to keep it.
    """
    if os.environ.get(SWITCH) == "1" or platform.libc_ver()[0] != "glibc":
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True
