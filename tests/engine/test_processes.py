"""One function in several processes: they know each other, and one that fails ends the others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from glipkit.engine import processes
from glipkit.engine.processes import run_side_by_side
from glipkit.runtime import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def note_who_is_there(folder: str) -> int:
    distributed.init()
    ranks = distributed.gather_objects((distributed.rank(), torch.get_num_threads()))
    if ranks is not None:
        Path(folder, "ranks").write_text(repr(ranks))
    distributed.shutdown()
    return 0


def fail_in_the_second() -> int:
    if os.environ["RANK"] == "1":
        return 3
    time.sleep(600)
    return 0


def kill_the_second() -> int:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
    return 0


def wait_for_the_end(folder: str) -> int:
    Path(folder, os.environ["RANK"]).touch()
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        Path(folder, f"ended_{os.environ['RANK']}").touch()
        return 130
    return 0


@pytest.mark.slow
def test_every_process_has_a_rank_and_its_share_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("glipkit.engine.processes.usable_cpus", lambda: 4)
    environment, handlers = dict(os.environ), [signal.getsignal(each) for each in SIGNALS]
    assert run_side_by_side(2, note_who_is_there, str(tmp_path)) == 0
    assert (tmp_path / "ranks").read_text() == "[(0, 2), (1, 2)]"
    assert dict(os.environ) == environment  # the caller is left as it was
    assert [signal.getsignal(each) for each in SIGNALS] == handlers


def test_threads_are_those_that_the_user_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with processes._threads(8):
        assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.slow
def test_one_that_fails_ends_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    assert run_side_by_side(2, fail_in_the_second) == 3
    assert time.monotonic() - begun < 300
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_one_that_is_killed_ends_the_others(caplog: pytest.LogCaptureFixture) -> None:
    assert run_side_by_side(2, kill_the_second) == 128 + signal.SIGKILL
    assert "signal 9" in caplog.text


@pytest.mark.slow
def test_ctrl_c_ends_them_all_without_a_word(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from glipkit.engine.processes import run_side_by_side\n"
        "from test_processes import wait_for_the_end\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        f"        run_side_by_side(2, wait_for_the_end, {str(tmp_path)!r})\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    script, said = tmp_path / "program.py", tmp_path / "stderr"
    script.write_text(program)
    with said.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(script)], stderr=stderr, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 300
        while not all((tmp_path / rank).exists() for rank in "01"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(timeout=120) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert said.read_text() == ""
    assert all((tmp_path / f"ended_{rank}").exists() for rank in "01")


def test_one_process_needs_no_other() -> None:
    assert run_side_by_side(1, os.getpid) == os.getpid()


def test_a_process_is_needed() -> None:
    with pytest.raises(ValueError, match="at least one process"):
        run_side_by_side(0, note_who_is_there)
