"""A run's state on the disk: whole, or the one before, or a message that says what is wrong."""

import errno
import logging
import os
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from glipkit.engine.state_file import (
    DAMAGED,
    LAST,
    PREVIOUS,
    drop_previous,
    has_state,
    read_state,
    write_state,
)
from glipkit.engine.tensor_files import CheckpointError


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((1000,), float(step))}


def flip_a_bit(path: Path) -> None:
    """Damage one of the weights in the file."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((8,), 2.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_round_trip_keeps_types_and_views_alone(tmp_path: Path) -> None:
    large = torch.arange(100_000)
    content = {
        "view": large[3:5],
        "array": np.arange(3, dtype=np.float32),
        "number": np.float64(0.5),
        "nested": [(0.9, 0.999), {7: None, "best": True}],
    }
    write_state(tmp_path, content)
    assert (tmp_path / LAST).stat().st_size < 10_000
    loaded = read_state(tmp_path)
    assert loaded["view"].tolist() == [3, 4]
    assert loaded["array"].tolist() == [0, 1, 2]
    assert type(loaded["number"]) is float
    assert loaded["nested"] == [(0.9, 0.999), {7: None, "best": True}]


def test_what_would_have_to_run_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['loop'\]\[1\] is a PosixPath"):
        write_state(tmp_path, {"loop": [1, tmp_path]})
    assert not has_state(tmp_path)


def test_the_state_before_is_kept_until_the_end(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write_state(tmp_path, state(step))
    assert read_state(tmp_path)["step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS, LAST]
    drop_previous(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    write_state(tmp_path, state(1))
    (tmp_path / LAST).rename(tmp_path / PREVIOUS)
    assert has_state(tmp_path)
    assert read_state(tmp_path)["step"] == 1


@pytest.mark.parametrize("damage", ["bit", "cut", "empty"])
def test_a_damaged_file_gives_way_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_state(tmp_path, state(1))
    write_state(tmp_path, state(2))
    last = tmp_path / LAST
    if damage == "bit":
        flip_a_bit(last)
    else:
        os.truncate(last, last.stat().st_size // 2 if damage == "cut" else 0)
    with caplog.at_level(logging.WARNING):
        assert read_state(tmp_path)["step"] == 1
    assert "last.pt is damaged" in caplog.text
    assert (tmp_path / DAMAGED).exists()
    write_state(tmp_path, state(2))  # and the run goes on as ever
    assert read_state(tmp_path)["step"] == 2


@pytest.mark.parametrize(
    ("place", "bit"),
    [(6, 7), (8, 0), (10, 3), (21, 0), (34, 1), (46, 7)],
    ids=["version", "encrypted", "compressed", "size", "disk", "name"],
)
def test_a_bit_of_the_directory_at_the_end_is_damage_too(
    tmp_path: Path, place: int, bit: int
) -> None:
    """Neither Python nor torch sees all of these, and Python has many words for them."""
    write_state(tmp_path, state(1))
    write_state(tmp_path, state(2))
    content = bytearray((tmp_path / LAST).read_bytes())
    content[content.index(b"PK\x01\x02") + place] ^= 1 << bit  # of its first entry
    (tmp_path / LAST).write_bytes(content)
    assert read_state(tmp_path)["step"] == 1
    assert (tmp_path / DAMAGED).exists()


def test_nothing_whole_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no state of a run in"):
        read_state(tmp_path)
    write_state(tmp_path, state(2))
    flip_a_bit(tmp_path / LAST)
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged \(the checksum of .* no whole"):
        read_state(tmp_path)
    assert (tmp_path / LAST).exists()


def test_other_files_are_no_state(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="not a state that this glipkit wrote"):
        read_state(tmp_path)
    torch.save(Path("x"), tmp_path / LAST)
    with pytest.raises(CheckpointError, match="is not the state of a run"):
        read_state(tmp_path)


def test_no_room_is_seen_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        write_state(tmp_path, state(step))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=500_000))
    with pytest.raises(OSError, match=r"it needs 0\.001 GB, and 0\.001 GB are free") as caught:
        write_state(tmp_path, state(3))
    assert "the state saved before stands in last.pt" in str(caught.value)
    assert not (tmp_path / PREVIOUS).exists()  # given up for the room it took
    assert read_state(tmp_path)["step"] == 2


def test_a_disk_that_fills_up_while_writing(tmp_path: Path) -> None:
    """A limit on file sizes ends a write half way, as a full disk or a quota does."""
    write_state(tmp_path, state(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large.*Cannot save.*last\.pt") as caught:
            write_state(tmp_path, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    assert read_state(tmp_path)["step"] == 1


def test_a_disk_that_is_full_when_it_flushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network file systems say so late."""
    write_state(tmp_path, state(1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device\. Cannot save the state"):
        write_state(tmp_path, state(2))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    assert read_state(tmp_path)["step"] == 1


@pytest.fixture
def two_megabytes(tmp_path: Path):
    """A file system with room for one state of 0.8 MB, not for two."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", tmp_path]).returncode:
        pytest.skip("needs the right to mount a file system")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_file_system_that_is_full(two_megabytes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(two_megabytes, {"weights": torch.zeros(200_000)})
    (two_megabytes / "other").write_bytes(bytes(1_000_000))
    with pytest.raises(OSError, match=r"needs 0\.002 GB, and 0\.001 GB are free there"):
        write_state(two_megabytes, {"weights": torch.ones(200_000)})
    roomy = shutil.disk_usage(two_megabytes)._replace(free=1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: roomy)  # another writer is as quick
    with pytest.raises(OSError, match="No space left on device"):
        write_state(two_megabytes, {"weights": torch.ones(200_000)})
    assert read_state(two_megabytes)["weights"].sum() == 0
    assert not list(two_megabytes.glob(".*.tmp"))
