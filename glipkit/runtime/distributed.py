"""Ranks: who this process is among its fellows, and how they exchange things.

Every function also works when there is no process group; then this is rank 0 of 1.
"""

import gc
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

# A rank may wait this long for the slowest one; shares are equal, but machines are not.
PATIENCE = timedelta(hours=4)
Answer = TypeVar("Answer")
BACKENDS = ("auto", "nccl", "gloo")


def init(backend: str = "auto", *, patience: timedelta = PATIENCE) -> None:
    """Join the process group that torchrun's environment describes, if it describes one.

    `torchrun` and `python -m torch.distributed.launch` both set RANK, WORLD_SIZE and the
    master's address. gloo carries CPU tensors and Python objects in any case; what lies on a GPU
    travels by `backend`.

    Args:
        backend: one of `BACKENDS`. "auto" is nccl where every process of this machine can have a
            GPU of its own, else gloo.
        patience: how long one rank waits for another before it gives up.

    Raises:
        ValueError: the environment describes a group only in part, or nccl was asked for without
            a GPU for every process of this machine.
    """
    if backend not in BACKENDS:
        raise ValueError(f"the backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    processes_here = _integer("LOCAL_WORLD_SIZE", _integer("WORLD_SIZE", 1))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if backend == "nccl":
        _check_nccl(gpus, processes_here)
    if _integer("WORLD_SIZE", 1) == 1 or distributed.is_initialized():
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set; "
            "start several processes with torchrun --nproc_per_node=N"
        )
    own_gpu = gpus >= processes_here
    if own_gpu:
        torch.cuda.set_device(local_rank())
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if own_gpu and backend != "gloo" else "gloo", timeout=patience
    )


def _check_nccl(gpus: int, processes: int) -> None:
    if gpus < processes:
        found = f"this machine has {gpus} GPU{'s' * (gpus != 1)}" if gpus else "there is no GPU"
        fewer = f" or start at most {gpus} processes (torchrun --nproc_per_node)" if gpus else ""
        raise ValueError(
            f"--backend nccl needs a GPU for each process, {processes} on this machine, but "
            f"{found}; use --backend gloo, which needs none,{fewer} or leave the flag out"
        )
    if not distributed.is_nccl_available():
        raise ValueError(
            f"--backend nccl: torch {torch.__version__} was built without nccl; use --backend gloo"
        )


def shutdown() -> None:
    """Leave the process group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
        # A wrapped model that lives on in a cycle keeps gloo's threads; one that lets go of a
        # tensor while Python ends aborts the process, after all the work is done.
        gc.collect()


def rank() -> int:
    """This process among all of them, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def local_rank() -> int:
    """This process among those of its machine, from 0: the index of its GPU."""
    return _integer("LOCAL_RANK", 0)


def is_main() -> bool:
    """Whether this process speaks and writes for all."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process has come here."""
    # Not distributed.barrier(): on a group that knows nccl it would need the GPU for nothing.
    gather_objects(None)
    broadcast_object(None)


def gather_objects(item: Any) -> list[Any] | None:
    """Every rank's `item` in the order of ranks on rank 0; None elsewhere."""
    if not distributed.is_initialized():
        return [item]
    gathered = [None] * world_size() if is_main() else None
    distributed.gather_object(item, gathered)
    return gathered


def send_to_main(item: Any) -> None:
    """Hand `item` to rank 0, which asks for it with `receive_each`; not called there."""
    distributed.send_object_list([item], dst=0, device=torch.device("cpu"))


def receive_each() -> Iterator[Any]:
    """On rank 0 what every other rank sends, one after the other: memory holds one at a time.

    `gather_objects` would hold all of them, twice.
    """
    for source in range(1, world_size()):
        carrier = [None]
        distributed.recv_object_list(carrier, src=source, device=torch.device("cpu"))
        yield carrier.pop()


def broadcast_object(item: Any) -> Any:
    """Rank 0's `item`, on every rank."""
    if not distributed.is_initialized():
        return item
    carrier = [item]
    distributed.broadcast_object_list(carrier)
    return carrier[0]


def from_main(work: Callable[[], Answer]) -> Answer:
    """What `work()` returns on rank 0, on every rank; it runs on rank 0 alone.

    Raises:
        ValueError, OSError: what it raises there is raised on every rank.
    """
    answer, error = None, None
    if is_main():
        try:
            answer = work()
        except (ValueError, OSError) as raised:
            error = raised
    answer, error = broadcast_object((answer, error))
    if error is not None:
        raise error
    return answer


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The elementwise sum of every rank's `tensor`: the same bits on every rank.

    Args:
        tensor: same shape and dtype on all ranks; it is not changed.

    Returns:
        Shape, dtype and device of `tensor`, outside the autograd graph; `tensor` itself where
        there is one process.
    """
    if not distributed.is_initialized():
        return tensor
    total = tensor.detach().clone()
    distributed.all_reduce(total)
    return total


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true on at least one rank: the same answer on every rank."""
    if not distributed.is_initialized():
        return bool(flag)
    carrier = torch.tensor(int(flag), dtype=torch.int32)  # on the CPU: it waits for no GPU
    distributed.all_reduce(carrier, op=distributed.ReduceOp.MAX)
    return bool(carrier.item())


def _integer(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"the environment's {name} must be an integer, got {value!r}") from None
