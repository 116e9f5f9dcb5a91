"""Less memory in training: run again what would have to be kept, keep nothing for what is frozen.

A backward pass needs what the forward pass computed on its way. Where memory is short, a block
keeps only its inputs and is run a second time in the backward pass (Chen et al., "Training Deep
Nets with Sublinear Memory Cost", 2016): the same gradients, bit for bit, for about a third more
time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Answer = TypeVar("Answer")


def needs_gradient(module: nn.Module, *inputs: object) -> bool:
    """Whether a backward pass would go through `module`: into its parameters or to its inputs."""
    upstream = any(isinstance(value, Tensor) and value.requires_grad for value in inputs)
    return upstream or any(parameter.requires_grad for parameter in module.parameters())


@contextmanager
def gradients_where_needed(module: nn.Module, *inputs: object) -> Iterator[bool]:
    """Run what is frozen as in inference: faster on CPUs, and the fusion keeps no score maps.

    Yields:
        Whether gradients are recorded inside. They never are where they were not outside.
    """
    recorded = torch.is_grad_enabled() and needs_gradient(module, *inputs)
    with torch.set_grad_enabled(recorded):
        yield recorded


def run(
    module: nn.Module,
    *inputs: object,
    recompute: bool,
    through: Callable[..., Answer] | None = None,
) -> Answer:
    """`module(*inputs)`, keeping what the backward pass needs, or the inputs alone.

    Dropout falls on the same elements when the module is run again. Nothing changes where no
    gradient is recorded: in evaluation, and before the first part that is trained.

    Args:
        module: whose parameters decide, with the inputs, whether there is a backward pass.
        inputs: tensors, side by side: inside tuples they would not be seen. Others may be anything.
        recompute: run `module` again in the backward pass instead of keeping its activations.
        through: called in place of `module`, which it must call.
    """
    call = module if through is None else through
    with gradients_where_needed(module, *inputs) as recorded:
        if recorded and recompute:
            return checkpoint(call, *inputs, use_reentrant=False)
        return call(*inputs)
