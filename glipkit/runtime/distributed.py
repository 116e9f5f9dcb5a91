"""Ranks: who this process is among its fellows, and how they exchange things.

Every function also works when there is no process group; then this is rank 0 of 1.
"""

import os
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

# A rank may wait this long for the slowest one; shares are equal, but machines are not.
PATIENCE = timedelta(hours=4)


def init(*, patience: timedelta = PATIENCE) -> None:
    """Join the process group that torchrun's environment describes, if it describes one.

    `torchrun` and `python -m torch.distributed.launch` both set RANK, WORLD_SIZE and the
    master's address. gloo carries CPU tensors and Python objects; nccl is added where every
    process of this machine can have a GPU of its own.

    Args:
        patience: how long one rank waits for another before it gives up.

    Raises:
        ValueError: the environment describes a group only in part.
    """
    if _integer("WORLD_SIZE", 1) == 1 or distributed.is_initialized():
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set; "
            "start several processes with torchrun --nproc_per_node=N"
        )
    backend = "gloo"
    processes_here = _integer("LOCAL_WORLD_SIZE", _integer("WORLD_SIZE", 1))
    if torch.cuda.is_available() and torch.cuda.device_count() >= processes_here:
        torch.cuda.set_device(_integer("LOCAL_RANK", 0))
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=patience)


def shutdown() -> None:
    """Leave the process group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


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


def broadcast_object(item: Any) -> Any:
    """Rank 0's `item`, on every rank."""
    if not distributed.is_initialized():
        return item
    carrier = [item]
    distributed.broadcast_object_list(carrier)
    return carrier[0]


def _integer(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"the environment's {name} must be an integer, got {value!r}") from None
