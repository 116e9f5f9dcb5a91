"""A training step beside the published pipeline: python benchmarks/train.py [--json PATH].

GLIP-T, one picture of 480 x 640, COCO's 80 names, the same weights and targets: seconds, and the
greatest resident memory of the process. Every side runs in processes of its own, in turn, because
a process never gives back the memory of its greatest moment. Losses and gradients are compared in
a pass with all chance off; the steps that are timed drop what training drops. The ratio of memory
is that of whole processes; the file has what is above weights, gradients and moments too.
"""

import argparse
import functools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
import train_step
from rows import FALSIFY, Row
from rows import main as program
from torch import Tensor
from train_step import PHASES, REFERENCE, REFERENCE_AGAIN, SIDES

ROWS = ("train_step", "train_peak_memory")
AGAINST = "the published pipeline (tests/reference/pipeline.py), torch's AdamW"
# Relative: of each loss, and of each gradient (L2), as the golden numbers are held.
LOSSES, GRADIENTS = 1e-5, 2e-3
LOW = 1e-1  # both, in bfloat16
FLOOR = 1e-6  # of the largest gradient's norm: smaller ones are rounding
ROUNDS, REPEATS = 2, 2  # processes of each side, measured steps of each

Gradients = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


def in_process(
    side: str, arguments: argparse.Namespace, gradients: Path | None, repeats: int = REPEATS
) -> dict:
    """What `train_step.work` gives, from another process.

    Raises:
        RuntimeError: that process failed.
    """
    command = [sys.executable, train_step.__file__, side]
    command += ["--repeats", "1" if arguments.quick else str(repeats)]
    command += ["--gradients", str(gradients)] if gradients else []
    for name in ("threads", "device", "dtype"):
        command += [f"--{name}", str(getattr(arguments, name))]
    command += ["--quick"] if arguments.quick else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the process of {side} ended with {done.returncode}, see above")
    return json.loads(done.stdout.splitlines()[-1])


def apart(ours: Gradients, reference: Gradients) -> tuple[float, float, str]:
    """The greatest relative difference of a loss, and of a gradient, and where that is."""
    (losses, found), (their_losses, wanted) = ours, reference
    if losses.keys() != their_losses.keys() or found.keys() != wanted.keys():
        return float("inf"), float("inf"), "what there is"
    factor = 1.5 if os.environ.get(FALSIFY) else 1.0
    by_loss, _ = greatest(
        {
            name: abs(float(factor * losses[name] - value)) / abs(float(value))
            for name, value in their_losses.items()
        }
    )
    floor = FLOOR * max(float(value.norm()) for value in wanted.values())
    off = {}
    for name, value in wanted.items():
        # A bias of all keys alike moves no softmax: its gradient is rounding, beside the weight's.
        judge = wanted[name.replace("bias", "weight")] if name.endswith("key.bias") else value
        off[name] = float((found[name] - value).double().norm()) / max(float(judge.norm()), floor)
    return by_loss, *greatest(off)


def greatest(differences: Mapping[str, float]) -> tuple[float, str]:
    """The greatest of some differences, and where it is; what is no number is beyond all."""
    where = max(differences, key=lambda name: (math.isnan(differences[name]), differences[name]))
    return differences[where], where


def measure(arguments: argparse.Namespace) -> tuple[dict[str, list[dict]], tuple]:
    """All processes of all sides, and how far our gradients are from the reference's."""
    answers: dict[str, list[dict]] = {side: [] for side in SIDES}
    timed = "train_step" in arguments.names
    repeats = REPEATS if timed else 1  # memory is the same in every step
    with tempfile.TemporaryDirectory() as folder:
        files = {side: Path(folder) / f"{side}.pt" for side in (REFERENCE, "ours")}
        for turn in range(1 if arguments.quick else ROUNDS):
            for side, file in files.items():
                kept = file if turn == 0 else None
                answers[side].append(in_process(side, arguments, kept, repeats))
        # Written by our own processes a moment ago.
        both = [torch.load(files[side], mmap=True) for side in ("ours", REFERENCE)]
        difference = apart(*both)
    for side in answers:
        if timed and not answers[side]:
            answers[side].append(in_process(side, arguments, None, repeats=1))
    return answers, difference


def middle(answers: list[dict]) -> dict[str, float]:
    """The step of median length, whole: its phases add up."""
    runs = sorted((run for answer in answers for run in answer["runs"]), key=lambda r: r["step"])
    return runs[len(runs) // 2]


def summary(answers: list[dict]) -> dict[str, float]:
    """One side in figures."""
    # The first process also kept gradients to be compared, which is no part of training.
    peak = max(answer["peak"] for answer in answers[1:] or answers)
    return middle(answers) | {
        "images_per_second": 1 / middle(answers)["step"],
        "step_without_chance": statistics.median(answer["without_chance"] for answer in answers),
        "peak_gib": peak,
        "above_state_gib": peak - answers[0]["state"],
    }


def table(sides: Mapping[str, Mapping[str, float]]) -> str:
    """Seconds by phase and memory of every side, as people read it."""
    names = (*PHASES, "step", "processor")
    lines = [f"{'':<50}" + "".join(f"{name:>10}" for name in names) + f"{'peak GiB':>10}"]
    for side, figures in sides.items():
        line = f"{side:<50}" + "".join(f"{figures[name]:>10.2f}" for name in names)
        lines.append(line + f"{figures['peak_gib']:>10.2f}")
    return "\n".join(lines)


def rows(arguments: argparse.Namespace) -> list[dict]:
    """The rows of `arguments.names`, measured together."""
    answers, (by_loss, by_gradient, where) = measure(arguments)
    sides = {side: summary(found) for side, found in answers.items() if found}
    print(table(sides))
    one, other = sides["ours"], sides[REFERENCE]
    first = answers["ours"][0]
    exact = arguments.dtype == "float32"
    fields = {
        "against": AGAINST,
        "outputs_match": by_loss <= (LOSSES if exact else LOW)
        and by_gradient <= (GRADIENTS if exact else LOW),
        "difference": by_gradient,
        "tolerance": GRADIENTS if exact else LOW,
        "reason": f"losses differ by {by_loss:.1e}; gradients most in {where}",
        "size": f"{'x'.join(map(str, first['pixels']))} pixels, {first['tokens']} tokens",
        "device": arguments.device,
        "dtype": arguments.dtype,
        "threads": arguments.threads,
        "repeats": sum(len(answer["runs"]) for answer in answers["ours"]),
    }
    extra = {"sides": sides, "state_gib": first["state"], "parameters": first["parameters"]}
    if fair := sides.get(REFERENCE_AGAIN):
        extra["ratios_to_reference_recomputing_its_tower"] = {
            "step": fair["step"] / one["step"],
            "peak": fair["peak_gib"] / one["peak_gib"],
        }
    extra["ratio_of_memory_above_state"] = other["above_state_gib"] / one["above_state_gib"]
    spread = {
        side: (min(steps), max(steps))
        for side, steps in (
            (name, [run["step"] for answer in answers[key] for run in answer["runs"]])
            for name, key in (("ours", "ours"), ("reference", REFERENCE))
        )
    }
    found = [
        Row("train_step", one["step"], other["step"], "s", spread=spread, extra=extra, **fields),
        Row("train_peak_memory", one["peak_gib"], other["peak_gib"], "GiB", extra=extra, **fields),
    ]
    return [row.as_dict() for row in found if row.name in arguments.names]


main = functools.partial(program, ROWS, rows, __doc__)

if __name__ == "__main__":
    sys.exit(main())
