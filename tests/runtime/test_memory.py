"""Free memory as Linux tells it, and errors that mean there was none."""

from pathlib import Path

import pytest
import torch

from glipkit.runtime import memory
from glipkit.runtime.memory import free_bytes, is_out_of_memory

CPU = torch.device("cpu")


def group(folder: Path, limit: str, used: str = "3000") -> tuple[str, str, str]:
    folder.mkdir(exist_ok=True)
    (folder / "max").write_text(f"{limit}\n")
    (folder / "current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text("anon 2000\ninactive_file 500\nactive_file 7\n")
    return str(folder / "max"), str(folder / "current"), "inactive_file"


def test_the_smallest_bound_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9 kB\nMemFree:  1 kB\nMemAvailable:      7 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_GROUPS", ())
    assert free_bytes(CPU) == 7168
    monkeypatch.setattr(memory, "_GROUPS", (group(tmp_path / "a", "max"),))
    assert free_bytes(CPU) == 7168
    monkeypatch.setattr(memory, "_GROUPS", (group(tmp_path / "a", "9000"),))
    assert free_bytes(CPU) == 9000 - 3000 + 500
    monkeypatch.setattr(memory, "_GROUPS", (group(tmp_path / "a", "2000"),))
    assert free_bytes(CPU) == 0


def test_another_system_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_GROUPS", ())
    assert free_bytes(CPU) is None


def test_this_machine() -> None:
    free = free_bytes(CPU)
    assert free is None or 0 <= free < 2**50


def test_too_large_an_allocation_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shape '[2]' is invalid"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_what_is_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
