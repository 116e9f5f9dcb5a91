"""Ranks, with and without fellows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glipkit.runtime import distributed

SCRIPT = """
import sys
import torch
from glipkit.runtime import distributed
distributed.init("gloo")
assert distributed.world_size() == 2
gathered = distributed.gather_objects({"rank": distributed.rank()})
if distributed.is_main():
    assert gathered == [{"rank": 0}, {"rank": 1}], gathered
else:
    assert gathered is None
if distributed.is_main():
    assert list(distributed.receive_each()) == [("from", 1)]
else:
    distributed.send_to_main(("from", distributed.rank()))
assert distributed.broadcast_object(distributed.rank() + 40) == 40
own = torch.tensor([1.0, distributed.rank()], dtype=torch.float64, requires_grad=True)
total = distributed.sum_over_ranks(own)
assert total.tolist() == [2.0, 1.0] and total.dtype == torch.float64, total
assert own.tolist() == [1.0, distributed.rank()] and not total.requires_grad
assert distributed.any_rank(distributed.rank() == 1)
assert not distributed.any_rank(False)
assert distributed.local_rank() == distributed.rank()
distributed.barrier()
distributed.shutdown()
assert distributed.world_size() == 1
open(sys.argv[-1] + str(distributed.local_rank()), "w").close()
"""


@pytest.mark.slow
def test_two_processes_of_the_old_launcher(tmp_path: Path) -> None:
    """Evaluation's tests cover torchrun; the old launcher also puts --local-rank on the line."""
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    repository = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torch.distributed.launch", "--standalone",
         "--nproc_per_node=2", str(script), str(tmp_path / "done")],
        check=True, timeout=600, cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert sorted(path.name for path in tmp_path.glob("done*")) == ["done0", "done1"]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_alone(alone: pytest.MonkeyPatch) -> None:
    distributed.init()
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.is_main()
    assert distributed.gather_objects("a") == ["a"]
    assert list(distributed.receive_each()) == []
    assert distributed.broadcast_object("a") == "a"
    own = torch.ones(3)
    assert distributed.sum_over_ranks(own) is own
    assert distributed.any_rank(True)
    assert not distributed.any_rank(False)
    distributed.barrier()
    distributed.shutdown()


@pytest.mark.parametrize(
    ("gpus", "processes", "message"),
    [
        (0, 1, r"GPU for each process, 1 on this machine, but there is no GPU; use --backend gloo"),
        (2, 4, r"each process, 4 on .* this machine has 2 GPUs; .* at most 2 processes"),
    ],
)
def test_nccl_without_a_gpu_for_each(
    alone: pytest.MonkeyPatch, gpus: int, processes: int, message: str
) -> None:
    alone.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    alone.setattr(torch.cuda, "device_count", lambda: gpus)
    alone.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(ValueError, match=message):
        distributed.init("nccl")


def test_a_backend_that_does_not_exist(alone: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="one of auto, nccl, gloo, got 'mpi'"):
        distributed.init("mpi")


def test_half_an_environment(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"RANK, MASTER_ADDR, MASTER_PORT is not set.*torchrun"):
        distributed.init()


def test_numbers_that_are_none(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("WORLD_SIZE", "two")
    with pytest.raises(ValueError, match="WORLD_SIZE must be an integer, got 'two'"):
        distributed.init()
