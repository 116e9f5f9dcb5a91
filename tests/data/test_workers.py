import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.multiprocessing import Event, active_children
from torch.utils.data import DataLoader, Dataset

from glipkit.data import workers
from glipkit.data.workers import usable_cpus

WORKER = """
import os, signal, sys
from glipkit.data.workers import leave_interrupts_to_main
signal.signal(signal.SIGINT, signal.default_int_handler)
leave_interrupts_to_main(0)
os.kill(os.getpid(), signal.SIGINT)
sys.excepthook(ConnectionResetError, ConnectionResetError("gone"), None)
sys.excepthook(KeyError, KeyError("a real fault"), None)
print("still here")
"""


def test_a_worker_outlives_ctrl_c_and_says_nothing_of_a_reader_that_left() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True)
    assert done.stdout == "still here\n"
    assert "a real fault" in done.stderr
    assert "gone" not in done.stderr
    assert done.returncode == 0


TERMINATED = """
import os, signal, time
from glipkit.data import workers
workers.GRACE_SECONDS = 1
workers.leave_interrupts_to_main(0)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(300)
"""


def test_a_worker_outlives_sigterm_for_as_long_as_its_reader_needs() -> None:
    """torchrun sends it to the whole group, and the reader still finishes its step and saves."""
    done = subprocess.run([sys.executable, "-c", TERMINATED], capture_output=True, text=True)
    assert done.returncode == -signal.SIGALRM, done.stderr  # of its own alarm, later


class Stuck(Dataset):
    """Item 1 never comes, like a picture on a disk that is gone; item 0 may be an error."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked = Event()
        self.fails = fails

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if index == 1:
            self.asked.set()
            time.sleep(300)
        if self.fails and self.asked.wait(250):
            raise KeyError("a real fault")
        return index


def test_who_stops_reading_leaves_no_worker_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)  # torch's wait
    before = set(active_children())
    stuck = Stuck()
    loader = DataLoader(
        stuck, batch_size=None, num_workers=2, worker_init_fn=workers.leave_interrupts_to_main
    )
    items = workers.read(loader)
    assert next(items) == 0
    assert stuck.asked.wait(250)
    assert len(set(active_children()) - before) == 2
    items.close()
    assert not set(active_children()) - before


def test_an_error_leaves_no_worker_behind_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is one: the process would wait for the worker before it ends."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    before = set(active_children())
    loader = DataLoader(
        Stuck(fails=True),
        batch_size=None,
        num_workers=2,
        worker_init_fn=workers.leave_interrupts_to_main,
    )
    with pytest.raises(KeyError, match="a real fault") as kept:
        list(workers.read(loader))
    assert not set(active_children()) - before
    assert kept.tb  # which holds the loader's iterator


def test_reading_to_the_end() -> None:
    before = set(active_children())
    loader = DataLoader(range(5), batch_size=2, num_workers=1, collate_fn=list)
    assert list(workers.read(loader)) == [[0, 1], [2, 3], [4]]
    assert not set(active_children()) - before
    assert list(workers.read([1, 2])) == [1, 2]


def test_there_is_a_cpu() -> None:
    assert usable_cpus() >= 1


@pytest.mark.parametrize(
    ("asked", "cpus", "threads", "device", "expected"),
    [
        (4, 2, 2, "cpu", 1),
        (4, 2, 1, "cpu", 1),
        (4, 8, 2, "cpu", 4),
        (4, 8, 6, "cpu", 2),
        (0, 8, 2, "cpu", 0),
        (4, 2, 2, "cuda", 4),
    ],
)
def test_workers_leave_the_cores_to_a_model_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, asked: int, cpus: int, threads: int, device: str, expected: int
) -> None:
    monkeypatch.setattr(workers, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert workers.beside_model(asked, torch.device(device)) == expected
