"""A learner of a few numbers with the signatures of the real one, for tests of the loop.

Also a program for several processes, `python toy_training.py SCENARIO FOLDER`.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glipkit.data.train_batch import TrainBatch
from glipkit.engine.ema import Ema
from glipkit.engine.loop_state import LoopSettings, LoopState, Outcome
from glipkit.engine.optimizer import Rates, make_optimizer
from glipkit.engine.parallel import on_main, unwrap, wrap
from glipkit.engine.schedule import Patience, Plan, Schedule
from glipkit.engine.train_loop import train
from glipkit.runtime import distributed, seeding
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch
from glipkit.structures.targets import GroundingTarget

CPU = torch.device("cpu")
FAR = 10**6
Spoil = Callable[[dict[str, Tensor], Sequence[GroundingTarget]], dict[str, Tensor]]


class ToyAssignment(NamedTuple):
    """What the loop knows of an assignment."""

    totals: Tensor


class ToyLearner(nn.Module):
    """Guesses the left border of a picture's boxes from its mean colour."""

    def __init__(self, *, drop: float = 0.0, spoil: Spoil | None = None) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(drop), nn.Linear(8, 1))
        self.criterion = nn.Linear(1, 1)
        self.spoil = spoil
        self.seen: list[tuple[int, ...]] = []

    def assign(
        self, images: ImageBatch, prompts: PromptBatch, targets: Any, hidden_words: Any = None
    ) -> ToyAssignment:
        count = sum(len(target.boxes) for target in targets)
        return ToyAssignment(torch.tensor([count, 2 * count, 0], dtype=torch.float64))

    def forward(
        self,
        images: ImageBatch,
        prompts: PromptBatch,
        targets: Sequence[GroundingTarget],
        assignment: ToyAssignment,
        normalisers: Tensor,
        hidden_words: Tensor | None = None,
    ) -> dict[str, Tensor]:
        self.seen.append(tuple(target.image_id for target in targets))
        guesses = self.criterion(self.model(images.pixels.mean(dim=(2, 3))))[:, 0].float()
        wrong = [g - target.boxes[:, 0] for g, target in zip(guesses, targets)]
        losses = {
            "token": sum(each.square().sum() for each in wrong) / normalisers[0],
            "box": sum(each.abs().sum() for each in wrong) / normalisers[1],
        }
        return losses if self.spoil is None else self.spoil(losses, targets)


class ToyLoader:
    """Batch s depends on s alone, and rank r has its share; picture ids are 10 s, 10 s + 1 …"""

    def __init__(self, size: int = 4, rank: int = 0, world_size: int = 1) -> None:
        self.size, self.rank, self.world_size = size, rank, world_size

    def batches(self, first_step: int) -> Iterator[TrainBatch]:
        step = first_step
        while True:
            whole = toy_batch(step, self.size)
            yield whole.split(self.world_size)[self.rank]
            step += 1


def toy_batch(step: int, size: int = 4) -> TrainBatch:
    chance = torch.Generator().manual_seed(step)
    ids = torch.ones(size, 2, dtype=torch.int64)
    colours = torch.rand(size, 3, 1, 1, generator=chance)
    targets = []
    for index in range(size):
        boxes = torch.rand(1 + (step + index) % 3, 4, generator=chance)
        boxes[:, 0] = 2 * colours[index, 0, 0, 0]
        boxes[:, 2:] += boxes[:, :2]
        targets.append(GroundingTarget(boxes, torch.ones(len(boxes), 1).bool(), 10 * step + index))
    return TrainBatch(
        ImageBatch(colours.expand(size, 3, 4, 4), ((4, 4),) * size),
        PromptBatch(ids, ids > 0, (torch.zeros(1, 2, dtype=torch.int64),) * size),
        tuple(targets),
    )


class ToyRecorder:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.logged: dict[int, dict[str, float]] = {}
        self.shown: list[tuple[int, int, Mapping[str, str]]] = []
        self.evaluations: list[tuple[int, dict[str, float | None]]] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.logged[step] = dict(values)

    def advance(self, step: int, images: int, postfix: Mapping[str, str]) -> None:
        self.shown.append((step, images, postfix))

    def evaluated(self, step: int, metrics: Mapping[str, float | None]) -> None:
        self.evaluations.append((step, dict(metrics)))


class ToyRun:
    """All parts of a run, from one seed; `go` trains."""

    def __init__(
        self,
        *,
        drop: float = 0.0,
        spoil: Spoil | None = None,
        size: int = 4,
        kind: str = "ddp",
        plan: Plan | None = None,
        patience: Patience | None = None,
        rate: float = 0.05,
        ema: float | None = None,
        find_unused_parameters: bool = False,
        optimizer: str = "ADAMW",
    ) -> None:
        torch.manual_seed(0)
        self.learner = ToyLearner(drop=drop, spoil=spoil)
        self.module = wrap(
            self.learner, kind, device=CPU, find_unused_parameters=find_unused_parameters
        )
        self.loader = ToyLoader(size, distributed.rank(), distributed.world_size())
        self.optimizer = make_optimizer(
            self.learner, Rates(base=rate, text=rate, decay=0.01), kind=optimizer
        )
        self.schedule = Schedule(self.optimizer, plan or Plan(FAR), patience or Patience())
        self.ema = None if ema is None else Ema(self.learner, ema)
        self.state, self.recorder = LoopState(), ToyRecorder()
        self.saves: list[dict[str, Any]] = []
        self.best: list[int] = []
        seeding.seed_rank(0)

    def go(
        self,
        steps: int,
        *,
        save_every: int = FAR,
        evaluate: Callable[[int], Mapping[str, float | None]] | None = None,
        **settings: Any,
    ) -> Outcome:
        """Train until `steps` steps are done."""
        return train(
            *(self.module, self.loader, self.optimizer, self.schedule),
            settings=LoopSettings(
                total_steps=steps,
                save_every=save_every,
                evaluates=evaluate is not None,
                **settings,
            ),
            state=self.state,
            device=CPU,
            recorder=self.recorder,
            set_modes=self.module.train,
            save=self.save,
            evaluate=evaluate,
            keep_best=self.best.append,
            ema=self.ema,
        )

    def save(self, state: LoopState) -> None:
        """Remember where the loop stands."""
        self.saves.append(state.state_dict())

    def weights(self) -> dict[str, Tensor]:
        """Whole copies, on rank 0."""
        weights = on_main(dict(unwrap(self.module).state_dict()))
        return {name: w if w is None else w.clone() for name, w in weights.items()}


def spoiled(ids: range, value: float = float("nan")) -> Spoil:
    """Adds `value` to the box loss of batches with one of these pictures."""

    def spoil(losses: dict[str, Tensor], targets: Sequence[GroundingTarget]) -> dict[str, Tensor]:
        if any(target.image_id in ids for target in targets):
            return {**losses, "box": losses["box"] + value}
        return losses

    return spoil


def spoiled_gradient(ids: range) -> Spoil:
    """Small losses; with one of these pictures 0, with a slope that is none."""

    def spoil(losses: dict[str, Tensor], targets: Sequence[GroundingTarget]) -> dict[str, Tensor]:
        losses = times(2.0**-8)(losses, targets)
        if any(target.image_id in ids for target in targets):
            return {**losses, "box": (losses["box"] * 0).sqrt()}
        return losses

    return spoil


def times(factor: float) -> Spoil:
    """Makes all losses larger or smaller."""
    return lambda losses, targets: {name: loss * factor for name, loss in losses.items()}


def everything(folder: Path) -> None:
    """What several processes do together, one after the other; rank 0 writes the results."""
    results: dict[str, Any] = {}
    for kind in ("ddp", "fsdp"):
        torch.manual_seed(distributed.rank())  # each its own weights
        results[f"{kind} start"] = on_main(
            unwrap(wrap(ToyLearner(), kind, device=CPU)).state_dict()
        )
        for pieces in (1, 2):
            run = ToyRun(kind=kind, ema=0.5, size=8, optimizer="SGD")
            run.go(5, pieces=pieces, clip_norm=0.5, log_every=1)
            with run.ema.applied():
                mean = run.weights()
            results[f"{kind} {pieces}"] = (run.weights(), mean, run.recorder.logged)
            # Pictures 24 … 27 are on rank 1, and 26 and 27 in its second piece.
            for name, ids in (("first", range(24, 25)), ("second", range(26, 27))):
                run = ToyRun(
                    kind=kind, size=8, spoil=spoiled(ids), find_unused_parameters=pieces == 1
                )
                run.go(5, pieces=pieces)
                results[f"{kind} {pieces} broken {name}"] = (run.weights(), run.state.skipped)
        # Rank 1 alone overflows, in its second piece of step 3; both have to scale less.
        run = ToyRun(kind=kind, size=8, spoil=spoiled_gradient(range(26, 27)), rate=0.01)
        run.go(5, pieces=2, clip_norm=0.5, log_every=1, autocast_dtype=torch.float16)
        scales = [values["loss_scale"] for values in run.recorder.logged.values()]
        results[f"{kind} float16"] = (run.weights(), run.state.skipped, scales)
    run = ToyRun(size=8, spoil=spoiled(range(24, 1000)))
    try:
        run.go(9, max_skipped=3)
    except ValueError as error:
        results["stopped"] = (run.state.step, distributed.gather_objects(str(error)))
    # Only rank 1 knows a figure, and it does not count.
    run = ToyRun()
    outcome = run.go(2, save_every=1, evaluate=lambda step: {"AP": 0.1 * distributed.rank() * step})
    results["best"] = distributed.gather_objects((outcome.best_ap, outcome.best_step, run.best))
    if distributed.is_main():
        torch.save(results, folder / "results.pt")


def stopped(folder: Path) -> None:
    """A signal reaches rank 1 alone, in step 4 of 1000."""
    run = ToyRun()

    def signal_rank_1(
        losses: dict[str, Tensor], targets: Sequence[GroundingTarget]
    ) -> dict[str, Tensor]:
        if distributed.rank() == 1 and run.state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses

    run.learner.spoil = signal_rank_1
    try:
        run.go(1000)
    except KeyboardInterrupt:
        (folder / f"stopped_{distributed.rank()}").write_text(f"{run.saves[-1]['step']}")


def main() -> None:
    """Run a scenario."""
    torch.set_num_threads(1)
    distributed.init("gloo")
    {"everything": everything, "stopped": stopped}[sys.argv[1]](Path(sys.argv[2]))
    distributed.shutdown()


if __name__ == "__main__":
    main()
