"""Several processes, one learner: whole copies on each (DDP), or a shard of it on each (FSDP2).

Both compute the same function as one process with the batches of all. Everything here also works
on one process, where nothing is wrapped.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from glipkit.modeling.backbone.swin import SwinBlock
from glipkit.modeling.head.tower import TowerBlock
from glipkit.modeling.language.bert import BertLayer
from glipkit.runtime.distributed import is_main, world_size

KINDS = ("ddp", "fsdp")
# As torch calls it from 2.14 on, and before.
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
# What FSDP2 gathers at once, and lets go of again. The rest of a learner is gathered as a whole.
_UNITS = (SwinBlock, BertLayer, TowerBlock)


def wrap(
    learner: nn.Module,
    kind: str,
    *,
    device: torch.device,
    find_unused_parameters: bool = False,
) -> nn.Module:
    """What to call in the learner's place, so that all processes learn the same.

    Call it before the optimizer is made: FSDP2 replaces the parameters by shards.

    All ranks begin with the weights of rank 0.

    Args:
        learner: on `device`, what is frozen already frozen. All its parameters are used inside its
            own `forward`. FSDP2 shards it in place.
        kind: one of `KINDS`.
        device: where this process computes.
        find_unused_parameters: for DDP: look in every step for parameters that got no gradient.
            Needed only where some are left out of some steps; costs time.

    Returns:
        `learner` itself on one process and for FSDP2, a wrapper around it for DDP.

    Raises:
        ValueError: an unknown kind, or FSDP2 on GPUs without nccl.
    """
    if kind not in KINDS:
        raise ValueError(f"SOLVER.PARALLEL must be one of {', '.join(KINDS)}, got {kind!r}")
    if world_size() == 1:
        return learner
    if kind == "fsdp":
        return _shard(learner, device)
    return DistributedDataParallel(
        learner,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=find_unused_parameters,
        gradient_as_bucket_view=True,
        **{_SYNC_BUFFERS: False},  # none of ours changes in training
    )


def _shard(learner: nn.Module, device: torch.device) -> nn.Module:
    if device.type == "cuda" and "nccl" not in distributed.get_backend_config():
        raise ValueError(
            "SOLVER.PARALLEL fsdp on GPUs needs nccl, but the processes talk by gloo; give every "
            "process a GPU of its own (--backend nccl), or use SOLVER.PARALLEL ddp"
        )
    # Blocks return views; nothing of ours writes into them, and the tests compare the gradients.
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor")
    with torch.no_grad():  # as DDP does: a shard of another rank's weights would fit no other
        for tensor in (*learner.parameters(), *learner.buffers()):
            distributed.broadcast(tensor, 0)
    mesh = init_device_mesh(device.type, (world_size(),))
    for module in learner.modules():
        if isinstance(module, _UNITS):
            fully_shard(module, mesh=mesh)
    return fully_shard(learner, mesh=mesh)


@contextmanager
def no_sync(module: nn.Module, enabled: bool = True) -> Iterator[None]:
    """Let gradients of a forward and backward pass add up on each process, unshared.

    For all pieces of an accumulated step but the last. Both passes must be inside.

    Args:
        module: as `wrap` gave it.
        enabled: False does nothing, for the last piece.
    """
    if not enabled:
        yield
    elif isinstance(module, DistributedDataParallel):
        with module.no_sync():
            yield
    elif isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            module.set_requires_gradient_sync(True)
    else:
        yield


def unwrap(module: nn.Module) -> nn.Module:
    """The learner inside of what `wrap` gave."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def is_sharded(module: nn.Module) -> bool:
    """Whether no process holds all of the module's weights."""
    return isinstance(unwrap(module), FSDPModule)


def on_main(tree: Any) -> Any:
    """A copy of a tree of tensors and plain data with whole tensors on the CPU; on rank 0 only.

    All ranks call it together with trees of the same form. Tensors that are on the CPU and whole
    are not copied.

    Args:
        tree: dicts, lists and tuples around tensors, sharded or not, and anything else.

    Returns:
        The same form on rank 0; elsewhere None stands in place of each tensor.
    """
    if isinstance(tree, Tensor):
        whole = tree.detach()
        if isinstance(whole, DTensor):
            whole = whole.full_tensor()  # together with all other ranks
        return whole.cpu() if is_main() else None
    if isinstance(tree, Mapping):
        return {key: on_main(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)([on_main(value) for value in tree])
    return tree


def placed(tree: Any, like: Any = None) -> Any:
    """A copy of a tree of whole tensors, each placed as its counterpart in `like` is.

    Args:
        tree: as `on_main` gave it on rank 0, and the same on all ranks.
        like: of the same form: whose devices and shards to take. Where it has no tensor the copy
            stays whole and on its device.
    """
    if isinstance(tree, Tensor):
        return _placed(tree.detach(), like)
    if isinstance(tree, Mapping):
        others = like if isinstance(like, Mapping) else {}
        return {key: placed(value, others.get(key)) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        others = (
            like
            if isinstance(like, list | tuple) and len(like) == len(tree)
            else [None] * len(tree)
        )
        return type(tree)([placed(value, other) for value, other in zip(tree, others)])
    return tree


def _placed(whole: Tensor, like: Any) -> Tensor:
    if isinstance(like, DTensor):
        return distribute_tensor(
            whole.to(like.device),
            like.device_mesh,
            like.placements,
            src_data_rank=None,  # each rank cuts out its own part, nothing is sent
        ).clone()
    device = like.device if isinstance(like, Tensor) else whole.device
    return whole.clone() if whole.device == device else whole.to(device)


@torch.no_grad()
def copy_whole(source: nn.Module, target: nn.Module) -> None:
    """Give a plain module the weights of a sharded one of the same architecture, on every rank.

    Evaluation calls parts of a model one by one, which shards do not serve.

    Args:
        source: sharded or not; all ranks call this together.
        target: with plain parameters, on any device.
    """
    places = target.state_dict()
    for name, tensor in source.state_dict().items():
        places[name].copy_(tensor.full_tensor() if isinstance(tensor, DTensor) else tensor)
