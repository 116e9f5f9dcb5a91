"""Everything a run needs to go on as if it had never stopped, saved and loaded together."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from glipkit import __version__
from glipkit.engine.naming import summarise
from glipkit.engine.parallel import on_main, placed, unwrap
from glipkit.engine.state_file import LAST, read_state, write_state
from glipkit.engine.tensor_files import CheckpointError
from glipkit.runtime.distributed import from_main, gather_objects, rank, world_size
from glipkit.runtime.seeding import random_state, restore_random_state, seed_rank

logger = logging.getLogger(__name__)

_MODEL = "model."  # where a learner keeps what remains after training


class Stateful(Protocol):
    """Whatever can be saved and loaded: a schedule, a running mean, the state of the loop."""

    def state_dict(self) -> Mapping[str, Any]:
        """Tensors and plain data."""

    def load_state_dict(self, state: Any) -> object:
        """Become what the state describes."""


class RunState:
    """Saves and loads a run in its folder; every rank has one and calls it together.

    The file `last.pt` holds: the learner's weights (`model` by GLIP's own names, so that the file
    serves as a checkpoint, and `criterion`), the running mean, optimizer, schedule, state of the
    loop, and the random numbers of every rank. Sharded weights are saved whole: a run may go on
    with another number of processes, sharded or not.

    Args:
        folder: of the run, seen by all ranks.
        learner: as `parallel.wrap` gave it, or plain. Its `model` is a GLIP.
        optimizer: of the learner's parameters.
        schedule: sets the optimizer's learning rates before each step, out of its own state.
        ema: the running mean of the weights, if there is one.
        device: where this rank computes.
        whole: save all weights. Otherwise only buffers and what is trained; the rest comes from
            the base weights, which the program loads before.
        base_hash: names the base weights where not `whole`; a state of another base is refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        learner: nn.Module,
        optimizer: Optimizer,
        schedule: Stateful,
        ema: Stateful | None = None,
        device: torch.device,
        whole: bool = True,
        base_hash: str = "",
    ) -> None:
        self._folder = folder
        self._learner = unwrap(learner)
        self._optimizer = optimizer
        self._schedule = schedule
        self._ema = ema
        self._device = device
        self._whole = whole
        self._base_hash = base_hash

    def save(self, loop: Stateful) -> None:
        """Write the state; on return it is on the disk, and stays there whatever happens.

        Args:
            loop: where the loop stands, scaler included.

        Raises:
            OSError: on every rank: it could not be written; the state saved before is untouched.
        """
        tensors = on_main(self._weights())
        content = {
            "model": _inside(tensors),
            "criterion": _outside(tensors),
            "ema": on_main(self._ema.state_dict()) if self._ema is not None else None,
            "optimizer": self._optimizer_state(),
            "schedule": self._schedule.state_dict(),
            "loop": loop.state_dict(),
            "random": gather_objects(random_state(self._device)),
            "made_with": self._surroundings(),
            "base_hash": self._base_hash,
        }
        from_main(lambda: write_state(self._folder, content))

    def load(self, loop: Stateful) -> None:
        """Put everything back where it was saved. Changes nothing when an error is raised.

        Args:
            loop: becomes what was saved of it.

        Raises:
            FileNotFoundError: no state was saved.
            CheckpointError: it is damaged, or of another model, optimizer or base; says which.
        """
        content = read_state(self._folder)
        weights = {_MODEL + name: tensor for name, tensor in content["model"].items()}
        weights |= content["criterion"]
        source = self._folder / LAST
        self._check(content, weights, source)
        self._report_surroundings(content["made_with"])
        with torch.no_grad():
            for name, tensor in self._weights().items():
                tensor.copy_(placed(weights[name], tensor))
        self._load_optimizer(content["optimizer"])
        if self._ema is not None:
            self._ema.load_state_dict(placed(content["ema"], self._ema.state_dict()))
        self._schedule.load_state_dict(placed(content["schedule"]))
        loop.load_state_dict(placed(content["loop"]))
        self._restore_random(content["random"])

    def _weights(self) -> dict[str, Tensor]:
        """What is saved of the learner, by its names."""
        state = self._learner.state_dict()
        if self._whole:
            return state
        frozen = {name for name, p in self._learner.named_parameters() if not p.requires_grad}
        return {name: tensor for name, tensor in state.items() if name not in frozen}

    def _names(self) -> list[list[str]]:
        """The names of the optimizer's parameters, group by group."""
        names = {id(p): name for name, p in self._learner.named_parameters()}
        return [[names[id(p)] for p in group["params"]] for group in self._optimizer.param_groups]

    def _optimizer_state(self) -> dict[str, Any]:
        """Optimizer state by names, so that a mistaken order cannot go unnoticed."""
        state = self._optimizer.state_dict()
        names = self._names()
        flat = [name for group in names for name in group]
        return {
            "kind": type(self._optimizer).__name__,
            "names": names,
            "state": {
                flat[index]: on_main(values) for index, values in sorted(state["state"].items())
            },
        }

    def _load_optimizer(self, saved: Mapping[str, Any]) -> None:
        flat = [name for group in self._names() for name in group]
        parameters = dict(self._learner.named_parameters())
        state = {
            index: {
                key: placed(
                    value, parameters[name] if _follows(key, value, parameters[name]) else None
                )
                for key, value in saved["state"][name].items()
            }
            for index, name in enumerate(flat)
            if name in saved["state"]
        }
        # Rates and decays are those of this configuration, and for the schedule to set.
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _check(
        self, content: Mapping[str, Any], weights: Mapping[str, Tensor], source: Path
    ) -> None:
        own = self._weights()
        shapes = [
            f"{name}: {_form(weights[name])} there, {_form(tensor)} here"
            for name, tensor in own.items()
            if name in weights and _form(weights[name]) != _form(tensor)
        ]
        optimizer = type(self._optimizer).__name__
        saved = content["optimizer"]
        problems = [
            ("weights that only this run has", summarise(sorted(own.keys() - weights.keys()))),
            ("weights that only the file has", summarise(sorted(weights.keys() - own.keys()))),
            ("weights of another form", "; ".join(shapes[:10])),
            ("optimizer", _unequal(saved["kind"], optimizer)),
            ("base weights", _unequal(content["base_hash"], self._base_hash)),
            ("running mean", _unequal(content["ema"] is not None, self._ema is not None)),
        ]
        if saved["names"] != self._names():
            then, now = (
                {n for group in names for n in group} for names in (saved["names"], self._names())
            )
            changed = summarise(sorted(then ^ now)) or "the groups they are in"
            problems.append(("parameters that the optimizer trains", changed))
        rows = "\n".join(f"  {what}: {how}" for what, how in problems if how)
        if rows:
            raise CheckpointError(
                f"{source} is the state of another run; it differs in\n{rows}\n"
                "Start with the configuration it was made with, or choose another OUTPUT_DIR"
            )

    def _surroundings(self) -> dict[str, Any]:
        """What changes the last bits of a result, but not what is computed."""
        return {
            "glipkit": __version__,
            "torch": str(torch.__version__),
            "numpy": str(np.__version__),
            "device": self._device.type,
            "processes": world_size(),
        }

    def _report_surroundings(self, then: Mapping[str, Any]) -> None:
        now = self._surroundings()
        changed = [f"{key} {then.get(key)} then, {now[key]} now" for key in now
                   if now[key] != then.get(key)]  # fmt: skip
        if changed:
            logger.warning(
                "this run goes on with %s: the same training, but not the same bits as without "
                "an interruption",
                "; ".join(changed),
            )

    def _restore_random(self, states: list[Any]) -> None:
        if len(states) == world_size():
            restore_random_state(states[rank()], self._device)
        else:  # no state is everybody's; what follows is drawn from rank 0's
            restore_random_state(states[0], self._device)
            seed_rank(int(torch.randint(1 << 31, ()).item()))


def _inside(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {n.removeprefix(_MODEL): t for n, t in tensors.items() if n.startswith(_MODEL)}


def _outside(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {n: t for n, t in tensors.items() if not n.startswith(_MODEL)}


def _follows(key: str, value: Any, parameter: Tensor) -> bool:
    """Whether an entry of an optimizer's state lies where its parameter lies; counters do not."""
    return key != "step" and isinstance(value, Tensor) and value.shape == parameter.shape


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}".replace("torch.", "")


def _unequal(then: object, now: object) -> str:
    return "" if then == now else f"{then!r} there, {now!r} here"
