"""A whole run in miniature, for tests of what survives a kill: `python toy_run.py FOLDER ...`.

The loop, its parts and its files are the real ones. The learner draws random numbers of every kind,
so that a run which loses one of them ends elsewhere.
"""

import argparse
import os
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from toy_training import CPU, ToyRun

from glipkit.engine.loop_state import LoopState
from glipkit.engine.recorder import Recorder
from glipkit.engine.run_folder import RunFolder
from glipkit.engine.run_state import RunState
from glipkit.engine.schedule import Patience, Plan
from glipkit.runtime import distributed, seeding
from glipkit.structures.targets import GroundingTarget


def by_chance(losses: dict[str, Tensor], targets: Sequence[GroundingTarget]) -> dict[str, Tensor]:
    """Losses that depend on every generator; the learner's dropout reads torch's."""
    return {**losses, "box": losses["box"] * (random.random() + np.random.rand())}


class SavedRun(ToyRun):
    """A run whose files lie in `folder`, made in the order that a program has to keep.

    Args:
        folder: of the run.
        kind: of `parallel.wrap`.
        pause: seconds that each evaluation takes.
        stays_at: the step whose evaluation does not end.
        other: a seed that nothing of a resumed run may depend on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kind: str = "ddp",
        pause: float = 0.0,
        stays_at: int | None = None,
        other: int = 0,
    ) -> None:
        super().__init__(
            drop=0.3,
            spoil=by_chance,
            kind=kind,
            plan=Plan(40, warmup_steps=3, warmup_factor=0.1),
            patience=Patience(before_step=2),
            ema=0.9,
        )
        with torch.no_grad():
            for parameter in self.learner.parameters():
                parameter.add_(other)
        self.folder, self.pause, self.stays_at = folder, pause, stays_at
        self.files = RunState(
            folder,
            learner=self.module,
            optimizer=self.optimizer,
            schedule=self.schedule,
            ema=self.ema,
            device=CPU,
        )
        seeding.seed_rank(other)

    def save(self, state: LoopState) -> None:
        """To the disk."""
        self.files.save(state)

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Any figure; draws random numbers, as evaluations may."""
        time.sleep(600 if step == self.stays_at else self.pause)
        torch.rand(3)
        return {"AP": (step * 7 % 10) / 10}

    def to_the_end(self, steps: int, *, resumes: bool = False) -> "SavedRun":
        """Go on from where the files stand, or begin."""
        if resumes:
            self.files.load(self.state)
        self.recorder = Recorder(self.folder, total_steps=steps, first_step=self.state.step)
        with closing(self.recorder):
            self.go(steps, save_every=2, log_every=2, evaluate=self.evaluate)
        return self


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
    parser.add_argument("--kind", default="ddp")
    parser.add_argument("--slowly", type=float, default=0.0)
    parser.add_argument("--stay-at", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    distributed.init("gloo")
    with RunFolder.open(args.folder, {"kind": args.kind}) as folder:
        slow_flushes(args.slowly)
        resumes = folder.status == "resumes"
        run = SavedRun(
            args.folder,
            kind=args.kind,
            pause=args.slowly,
            stays_at=args.stay_at,
            other=int(resumes),
        )
        run.to_the_end(40, resumes=resumes)
        folder.finish()
    distributed.shutdown()


if __name__ == "__main__":
    main()
