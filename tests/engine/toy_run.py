"""A whole run in miniature, for tests of what survives a kill: `python toy_run.py FOLDER ...`.

It draws random numbers of every kind, so that a run which loses one of them ends elsewhere.
"""

import argparse
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from glipkit.engine.parallel import unwrap, wrap
from glipkit.engine.run_folder import RunFolder
from glipkit.engine.run_state import RunState
from glipkit.runtime import distributed, seeding


class ToyLearner(nn.Module):
    """Two parts as a learner has them, with dropout between."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.5), nn.Linear(width, 1))
        self.criterion = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.criterion(self.model(x)).pow(2).mean()


class Mean:
    """A running mean of all weights."""

    def __init__(self, learner: nn.Module) -> None:
        self.learner = learner
        self.mean = {n: t.detach().clone() for n, t in learner.state_dict().items()}

    def update(self) -> None:
        for name, tensor in self.learner.state_dict().items():
            self.mean[name].lerp_(tensor.detach(), 0.1)

    def state_dict(self) -> dict[str, object]:
        return {"decay": 0.9, "mean": self.mean}

    def load_state_dict(self, state: dict[str, object]) -> None:
        for name, tensor in state["mean"].items():
            self.mean[name].copy_(tensor)


class Loop:
    """How far a run has come."""

    def __init__(self) -> None:
        self.step = 0
        self.history: list[tuple[int, float]] = []

    def state_dict(self) -> dict[str, object]:
        return {"step": self.step, "history": self.history}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.step, self.history = state["step"], state["history"]


class ToyRun:
    """Everything of a run, made and restored in the order a program has to keep."""

    def __init__(self, folder: Path, *, kind: str = "ddp", seed: int = 0, width: int = 8) -> None:
        device = torch.device("cpu")
        torch.manual_seed(seed)
        learner = ToyLearner(width)
        self.module = wrap(learner, kind, device=device)
        self.optimizer = torch.optim.AdamW(
            [{"params": [p], "lr": 0.01 * (1 + i)} for i, p in enumerate(learner.parameters())]
        )
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.9)
        self.mean = Mean(unwrap(self.module))
        self.loop = Loop()
        self.state = RunState(
            folder, learner=self.module, optimizer=self.optimizer, schedule=self.schedule,
            ema=self.mean, device=device,
        )  # fmt: skip
        seeding.seed_rank(seed)

    def run(self, steps: int, *, save_every: int = 2, pause: float = 0.0) -> None:
        """Go on to step `steps`, saving on the way."""
        while self.loop.step < steps:
            batch = torch.rand(6, 4) + random.random() + np.random.rand()
            own = batch.chunk(distributed.world_size())[distributed.rank()]
            loss = self.module(own)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.mean.update()
            self.loop.step += 1
            total = float(distributed.sum_over_ranks(loss.detach()))
            self.loop.history.append((self.loop.step, total))
            time.sleep(pause)
            if self.loop.step % save_every == 0 or self.loop.step == steps:
                self.state.save(self.loop)


def slow_flushes(seconds: float) -> None:
    """Let most of the time pass inside of a save, where a kill hurts most."""
    flush = os.fsync

    def slowly(descriptor: int) -> None:
        time.sleep(seconds)
        flush(descriptor)

    os.fsync = slowly


def main() -> None:
    """Run to the end, from wherever an earlier process was killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--kind", default="ddp")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--slow-flush", type=float, default=0.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    distributed.init("gloo")
    slow_flushes(args.slow_flush)
    with RunFolder.open(args.folder, {"steps": args.steps}) as folder:
        run = ToyRun(args.folder, kind=args.kind)
        if folder.status == "resumes":
            run.state.load(run.loop)
        run.run(args.steps, pause=args.pause)
        folder.finish()
    distributed.shutdown()


if __name__ == "__main__":
    main()
