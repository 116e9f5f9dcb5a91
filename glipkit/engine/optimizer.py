"""AdamW and its like, with the rates and decays that each parameter's published name asks for."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import SGD, AdamW, Optimizer

from glipkit.engine.naming import published_names

_TEXT_LAYER = re.compile(r"dyhead_tower\.\d+\.(attention|intermediate|output)\.")
_MODEL = "model."  # of a learner; what stands beside it are heads of losses


@dataclass(frozen=True, slots=True)
class Rates:
    """SOLVER's numbers, from which every parameter's own follow (BEHAVIOUR 14)."""

    base: float  # learning rate
    text: float  # of the text encoder, instead of `base`
    backbone_factor: float = 1.0  # of the image encoder, relative to `base`
    text_layer_factor: float = 1.0  # of the tower's text layers, relative to `base`
    bias_factor: float = 1.0  # of biases, relative to their part's rate
    decay: float = 0.0  # weight decay
    decay_bias: float = 0.0  # of biases, instead of `decay`
    decay_norm_factor: float = 1.0  # of norms, relative to `decay`

    def of(self, name: str) -> tuple[float, float]:
        """Learning rate and weight decay of a parameter, by its published name.

        Names decide by what they contain: "bias" also hits the tables of relative positions and
        the biases of the alignment, and the GroupNorms of the tower are called "bn", no norm.
        """
        rate, decay = self.base, self.decay
        if "language_backbone" in name:
            rate = self.text
        elif "backbone.body" in name:
            rate = self.base * self.backbone_factor
        elif _TEXT_LAYER.search(name):
            rate = self.base * self.text_layer_factor
        if "bias" in name:
            rate, decay = rate * self.bias_factor, self.decay_bias
        if "norm" in name or "Norm" in name:
            decay *= self.decay_norm_factor
        return rate, decay


def make_optimizer(
    learner: nn.Module, rates: Rates, *, kind: str = "ADAMW", momentum: float = 0.9
) -> Optimizer:
    """The optimizer of everything in a learner that needs a gradient.

    Parameters of one rate and decay share a group, in the order of the first of them. Each group
    remembers where it started (`base_lr`, `base_weight_decay`), from which a schedule counts.

    Args:
        learner: frozen where nothing is to be learnt; unwrapped, or wrapped for several processes.
        rates: of learning and decay.
        kind: "ADAMW" or "SGD".
        momentum: of SGD.

    Raises:
        ValueError: an unknown kind, or nothing to learn.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in published_parameters(learner):
        groups[rates.of(name)].append(parameter)
    if not groups:
        raise ValueError("nothing is left to train: every parameter is frozen")
    described = [
        {"params": members, "lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]
    for group in described:
        group |= {"base_lr": group["lr"], "base_weight_decay": group["weight_decay"]}
    if kind == "ADAMW":
        # One pass over memory instead of a dozen, and no copies of what it works on.
        return AdamW(described, fused=True)
    if kind == "SGD":
        return SGD(described, momentum=momentum)
    raise ValueError(f"SOLVER.OPTIMIZER must be 'ADAMW' or 'SGD', got {kind!r}")


def published_parameters(learner: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """What is trained, by published names; the heads of losses count as parts of `rpn.head`.

    Args:
        learner: wrapped or not.
    """
    named = {name.removeprefix("module."): p for name, p in learner.named_parameters()}
    ours = {name: name.removeprefix(_MODEL) for name in named if name.startswith(_MODEL)}
    theirs = published_names(ours.values())  # of all: the tower is numbered by what is in it
    return [
        (theirs[ours[name]] if name in ours else f"rpn.head.{name}", parameter)
        for name, parameter in named.items()
        if parameter.requires_grad
    ]


def clip_gradients(
    parameters: Iterable[nn.Parameter], *, largest: float | None, norm_type: float = 2.0
) -> Tensor:
    """Scale all gradients together so that their norm is at most `largest`.

    Args:
        parameters: what is trained; their gradients are unscaled, whole or sharded.
        largest: norm; None clips nothing.
        norm_type: exponent of the norm.

    Returns:
        The norm before clipping, the same on all ranks; not finite if any gradient is not.
    """
    parameters = [each for each in parameters if each.grad is not None]
    if not parameters:
        return torch.zeros(())
    limit = float("inf") if largest is None else largest
    norm = nn.utils.clip_grad_norm_(parameters, limit, norm_type)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def overview(optimizer: Optimizer) -> str:
    """The groups as a table: tensors, parameters, learning rate, weight decay."""
    lines = [f"  {'tensors':>8}  {'parameters':>12}  {'rate':>9}  {'decay':>9}"]
    for group in optimizer.param_groups:
        count = sum(parameter.numel() for parameter in group["params"])
        lines.append(
            f"  {len(group['params']):>8}  {count:>12,}  {group['base_lr']:>9.3g}  "
            f"{group['base_weight_decay']:>9.3g}"
        )
    return "\n".join(lines)
