"""One function in several processes of this machine, as torchrun runs one script in several."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch.multiprocessing
from torch.distributed import TCPStore

from glipkit.data.workers import usable_cpus
from glipkit.runtime.collector import skip_last_collection

# How long processes may take to end after Ctrl-C, which a terminal sends to all of them; after it
# was sent again to those that missed it; and after SIGTERM.
PATIENCE_SECONDS = (5, 30, 10)
_HOST = "127.0.0.1"
_THREADS = "OMP_NUM_THREADS"  # what each process starts with
logger = logging.getLogger(__name__)


def run_side_by_side(count: int, function: Callable[..., int], *arguments: Any) -> int:
    """Call a function once in each of `count` new processes, which share the CPUs.

    Small tensors keep several threads of one process waiting for each other, several processes not:
    glip-nano on two cores answered 4.1 pictures a second with two threads, 6.0 with two processes.

    Args:
        count: processes; ranks are in their environment, as `distributed.init` reads them. With 1
            the function is called here.
        function: a module's, so that the new processes find it; returns an exit code. One that is
            not 0 ends the other processes.
        arguments: of the function; they are pickled.

    Returns:
        0, or the exit code of the first process that failed: 1 where it raised, 128 + n where
        signal n killed it, as shells say.

    Raises:
        KeyboardInterrupt: Ctrl-C, after all processes have ended.
        ValueError: `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"at least one process is needed, got {count}")
    if count == 1:
        return function(*arguments)
    # They find each other here; it lives as long as they do.
    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    context = torch.multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_run, args=(rank, count, store.port, function, arguments))
        for rank in range(count)
    ]
    try:
        with _threads(max(usable_cpus() // count, 1)):
            for process in processes:
                process.start()
        return _first_failure(processes)
    except KeyboardInterrupt:
        _wait(processes, PATIENCE_SECONDS[0])
        for process in _alive(processes):
            os.kill(process.pid, signal.SIGINT)
        _wait(processes, PATIENCE_SECONDS[1])
        raise
    finally:
        _end(processes)


def _run(
    rank: int, count: int, port: int, function: Callable[..., int], arguments: tuple[Any, ...]
) -> None:
    """In a new process: say who it is, and let its exit code tell how it went."""
    os.environ |= {
        **{name: str(rank) for name in ("RANK", "LOCAL_RANK")},
        **{name: str(count) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")},
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # torch's word for: the store is there already
    }
    skip_last_collection()
    sys.exit(function(*arguments))


def _first_failure(processes: Sequence[BaseProcess]) -> int:
    """Wait until all have ended, or one has failed; its exit code, 0 if there is none."""
    waiting = {process.sentinel: process for process in processes}
    while waiting:
        for sentinel in connection.wait(list(waiting)):
            process = waiting.pop(sentinel)
            process.join()
            if process.exitcode < 0:
                logger.error(
                    "a process was ended by signal %d; the system sends 9 where memory runs out, "
                    "of which each process takes its own",
                    -process.exitcode,
                )
                return 128 - process.exitcode
            if process.exitcode:
                return process.exitcode
    return 0


def _alive(processes: Sequence[BaseProcess]) -> list[BaseProcess]:
    return [process for process in processes if process.pid is not None and process.is_alive()]


def _wait(processes: Sequence[BaseProcess], seconds: float) -> None:
    for process in _alive(processes):
        process.join(seconds)


def _end(processes: Sequence[BaseProcess]) -> None:
    """Leave none behind."""
    for process in _alive(processes):
        process.terminate()
    _wait(processes, PATIENCE_SECONDS[2])
    for process in _alive(processes):
        process.kill()
    _wait(processes, PATIENCE_SECONDS[2])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """For processes that start meanwhile, unless the user decided."""
    if _THREADS in os.environ:
        yield
        return
    os.environ[_THREADS] = str(count)
    try:
        yield
    finally:
        del os.environ[_THREADS]
