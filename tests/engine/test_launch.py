"""Words on a command line end up where GLIP's users expect them."""

import io
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from glipkit.data.workers import read
from glipkit.engine import launch


def parsed(*words: str):
    return launch.parse(launch.base_parser("a tool", "python tool.py"), ["--config-file", *words])


def test_overrides_may_follow_the_task_files() -> None:
    args = parsed("m.yaml", "--task_config", "a.yaml", "b.yaml", "TEST.SUBSET", "-1")
    assert args.task_config == ["a.yaml", "b.yaml"]
    assert args.opts == ["TEST.SUBSET", "-1"]


def test_flags_may_stand_between_overrides() -> None:
    args = parsed("m.yaml", "A.B", "1", "--weight", "w.pth", "C.D", "(2, 3)")
    assert args.weight == "w.pth"
    assert args.opts == ["A.B", "1", "C.D", "(2, 3)"]


def test_the_last_override_wins_wherever_it_stands() -> None:
    args = parsed("m.yaml", "A.B", "1", "--task_config", "a.yaml", "A.B", "2", "--device", "cpu")
    assert args.opts == ["A.B", "1", "A.B", "2"]


def test_a_second_task_flag_replaces_the_files_and_loses_no_override() -> None:
    words = ["--task_config", "a.yaml", "A.B", "1", "--task", "b.yaml", "c.yaml", "C.D", "-2"]
    args = parsed("m.yaml", *words)
    assert args.task_config == ["b.yaml", "c.yaml"]
    assert args.opts == ["A.B", "1", "C.D", "-2"]


def test_commas_and_patterns_stay_whole() -> None:
    args = parsed("m.yaml", "--task_config", "a.yaml,b.yaml", "configs/*.yaml", "--device", "cpu")
    assert args.task_config == ["a.yaml,b.yaml", "configs/*.yaml"]
    assert args.opts == []


@pytest.mark.parametrize("word", ["configs/odinw_13", "configs/no_suffix", "nowhere"])
def test_what_follows_the_flag_is_a_file_even_a_missing_one(word: str) -> None:
    args = parsed("m.yaml", "--task_config", word, "TEST.SUBSET", "1")
    assert args.task_config == [word]
    assert args.opts == ["TEST.SUBSET", "1"]


@pytest.mark.parametrize("spelling", ["--local_rank=1", "--local-rank=1"])
def test_old_launchers_may_pass_their_rank(spelling: str) -> None:
    assert parsed("m.yaml", spelling).config_file == "m.yaml"


def test_nccl_without_a_gpu_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parsed("m.yaml").backend == "auto"
    backend = parsed("m.yaml", "--backend", "nccl").backend
    with pytest.raises(SystemExit, match="2"), launch.session(backend):
        pytest.fail("the program went on")
    assert "--backend nccl needs a GPU" in capsys.readouterr().err


def test_cpu_serves_where_the_files_say_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert launch.choose_device(None, "cuda") == torch.device("cpu")


def test_a_gpu_asked_for_by_flag_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device cuda: this machine has no GPU"):
        launch.choose_device("cuda", "cpu")


def test_a_gpu_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert launch.choose_device("cuda:1", "cpu") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="has 2 GPUs, and GPU 7"):
        launch.choose_device("cuda:7", "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "xpu:1", "meta", "cuda:-1"])
def test_other_devices_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"--device is '{name}'; glipkit runs on cpu"):
        launch.choose_device(name, "cuda")
    with pytest.raises(ValueError, match=f"MODEL.DEVICE is '{name}'"):
        launch.choose_device(None, name)


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"cannot write to OUTPUT_DIR {folder}"):
            launch.start_run(str(folder), "cpu", "cpu", 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("too small"), 2),
        (FileNotFoundError("not there"), 2),
        (OSError(28, "No space left on device", "predictions.json"), 2),
        (MemoryError("not enough memory on cpu to ask one prompt"), 2),
        (MemoryError(), 2),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, code, capsys: pytest.CaptureFixture) -> None:
    with launch.session() as outcome:
        raise error
    assert outcome.exit_code == code
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert re.fullmatch(r"error: .+\n", told) or code == 130


def test_too_little_memory_for_a_tensor_says_what_helps(capsys: pytest.CaptureFixture) -> None:
    """A plain RuntimeError, on the CPU."""
    with launch.session() as outcome:
        torch.empty(1 << 50)
    assert outcome.exit_code == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: .*DefaultCPUAllocator.* lower SOLVER.IMS_PER_BATCH", told)


def test_what_a_user_cannot_mend_flies() -> None:
    with pytest.raises(RuntimeError), launch.session():
        raise RuntimeError("a defect")


class Deadly(Dataset):
    """What kills the worker that reads it, as the system does where memory runs out."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        assert get_worker_info() is not None  # never the tests' own process
        os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_worker_that_was_killed_is_one_line_too(capsys: pytest.CaptureFixture) -> None:
    with launch.session() as outcome:
        next(read(DataLoader(Deadly(), num_workers=1)))
    assert outcome.exit_code == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: DataLoader worker (pid")
    assert "lower DATALOADER.NUM_WORKERS" in told[-1]
    assert "Traceback" not in "\n".join(told)


def test_debugging_lets_everything_fly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIPKIT_DEBUG", "1")
    with pytest.raises(ValueError, match="too small"), launch.session():
        raise ValueError("too small")


def test_a_class_that_the_terminal_cannot_spell_is_printed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding="latin-1"))
    with launch.session() as outcome:
        sys.stdout.write("\N{RACCOON} 0.5")
        sys.stdout.flush()
    assert outcome.exit_code == 0
    assert terminal.getvalue() == rb"\U0001f99d 0.5"
