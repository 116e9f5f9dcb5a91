"""How many processes read pictures, and how they behave."""

import os
import signal


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux: a container may have fewer than the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the one that answers it should speak."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
