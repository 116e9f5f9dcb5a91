"""One function in several processes of this machine, as torchrun runs one script in several."""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from glipkit.data.workers import usable_cpus

_THREADS = "OMP_NUM_THREADS"  # what each process starts with


def run_side_by_side(count: int, function: Callable[..., int], *arguments: Any) -> int:
    """Call a function once in each of `count` new processes, which share the CPUs.

    Small tensors keep several threads of one process waiting for each other, several processes not:
    glip-nano on two cores answered 4.1 pictures a second with two threads, 6.0 with two processes.

    Args:
        count: processes; ranks are in their environment, as `distributed.init` reads them.
        function: a module's, so that the new processes find it; returns an exit code. One that is
            not 0 ends the other processes.
        arguments: of the function; they are pickled.

    Returns:
        0, or the exit code of the first process that failed.

    Raises:
        KeyboardInterrupt: Ctrl-C, after all processes have ended.
        ValueError: `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"at least one process is needed, got {count}")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        local_addr="localhost",  # not the machine's name, which nobody may know
        max_restarts=0,
    )
    try:
        with _threads(max(usable_cpus() // count, 1)):
            elastic_launch(config, _leave_with)(function, arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode
    except SignalException as error:
        if error.sigval != signal.SIGINT:
            raise
        raise KeyboardInterrupt from error
    return 0


def _leave_with(function: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    """An exit code is what others see of this process: by it they know that waiting is in vain."""
    if code := function(*arguments):
        raise SystemExit(code)


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
