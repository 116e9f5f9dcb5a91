"""Who holds a folder, and for how long."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glipkit.runtime.locks import FolderLock

HOLD = """
import sys, time
from pathlib import Path
from glipkit.runtime.locks import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_the_holder_is_named(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "run")
    with pytest.raises(
        ValueError, match=rf"run is in use by another run: process {os.getpid()} on"
    ):
        FolderLock(tmp_path / "run")
    lock.release()
    lock.release()
    FolderLock(tmp_path / "run").release()


def test_kill_9_lets_go(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"process {holder.pid} on .*since"):
            FolderLock(tmp_path)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    FolderLock(tmp_path).release()


def test_a_full_disk_is_named_and_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*\.lock'"):
        FolderLock(tmp_path)
    monkeypatch.undo()
    FolderLock(tmp_path).release()


def linger(started) -> None:
    started.set()
    time.sleep(600)


def test_forked_children_do_not_hold_it(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    started = fork.Event()
    lock = FolderLock(tmp_path)
    child = fork.Process(target=linger, args=(started,))
    child.start()
    try:
        assert started.wait(timeout=300)
        lock.release()
        FolderLock(tmp_path).release()
    finally:
        child.kill()
        child.join()
