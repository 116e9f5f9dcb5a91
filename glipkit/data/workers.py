"""How many processes read pictures, and how they behave."""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TypeVar

import torch
from torch.multiprocessing import active_children

# How long a worker outlives SIGTERM. torchrun, Slurm and Kubernetes send it to every process, and
# kill what is left after 30 seconds unless told otherwise.
GRACE_SECONDS = 60

Item = TypeVar("Item")


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux: a container may have fewer than the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def beside_model(num_workers: int, device: torch.device) -> int:
    """How many of the workers that were asked for help a model on this device.

    A model on the CPU keeps as many cores busy as PyTorch has threads. Where none is left, one
    worker still hides a slow disk; more of them only take turns with the model (measured on 2
    cores).

    Args:
        num_workers: DATALOADER.NUM_WORKERS.
        device: where the model is.
    """
    if device.type != "cpu":
        return num_workers
    return min(num_workers, max(usable_cpus() - torch.get_num_threads(), 1))


def read(loader: Iterable[Item]) -> Iterator[Item]:
    """What a loader yields; whoever stops reading leaves no worker behind, nor does an error.

    torch asks its workers to end, waits 5 seconds for each and sends SIGTERM, which ours outlive
    (`leave_interrupts_to_main`). So a worker that hangs, on a dead disk say, is killed here: the
    process that read would wait for it before it ends.

    Args:
        loader: a DataLoader, or anything that starts its processes when it is iterated.
    """
    before = set(active_children())
    iterator = iter(loader)
    workers = set(active_children()) - before
    try:
        with suppress(GeneratorExit):
            yield from iterator
    finally:
        _end(iterator, workers)


def _end(iterator: Iterator[object], workers: Iterable[BaseProcess]) -> None:
    """End the workers of a loader, those that hang too.

    torch has to try first: only then does it no longer mind how one ends. By itself it tries when
    nobody has the iterator any more, and after Ctrl-C or an error the traceback has.
    """
    try:
        if hasattr(iterator, "_shutdown_workers"):  # not without workers
            iterator._shutdown_workers()
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def lost_worker(error: Exception) -> str:
    """What to tell a user whose worker died: torch's words, and what helps; "" for other errors.

    torch hears of the death in a signal handler and raises wherever the program is just then, so
    this is asked of what comes out at the end and not where batches are read.

    Args:
        error: of any origin.
    """
    if not (isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")):
        return ""
    return (
        f"{' '.join(str(error).split())} It read pictures. Most often the system killed it because "
        "memory ran out: lower DATALOADER.NUM_WORKERS (0 reads in the main process) or the batch "
        "(SOLVER.IMS_PER_BATCH, TEST.IMS_PER_BATCH). A training run goes on with the same command"
    )


def leave_interrupts_to_main(worker: int) -> None:
    """For `worker_init_fn`: be silent when the reading process is stopped.

    Ctrl-C reaches every process of the terminal; only the one that answers it should speak. The
    others notice at most that nobody takes their pictures any more. So with SIGTERM: the reading
    process still finishes its step and saves, in which the death of a worker would disturb it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE_SECONDS))
    sys.excepthook = _report_unless_left_alone


def _report_unless_left_alone(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    # multiprocessing.resource_sharer reports here when the reader stops in mid-sentence.
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
