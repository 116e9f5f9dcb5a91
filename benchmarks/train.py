"""A training step, plain and with activations recomputed: python benchmarks/train.py [--json PATH].

GLIP-T, one picture, seconds and peak memory. Every variant runs in processes of its own, in turn
(A B A B), because a process never gives back the memory of its greatest moment. Weights are filled
by name (no download). Ratios are refused where the gradients of two variants differ.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import zlib
from pathlib import Path

import torch
from model import CONFIG, PROMPTS, picture, size, words
from timing import machine
from torch import Tensor
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.engine.build import build_optimizer
from glipkit.engine.optimizer import clip_gradients
from glipkit.engine.tuning import prepare
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import build_learner, build_model
from glipkit.modeling.fill import fill_model
from glipkit.modeling.learner import Learner
from glipkit.ops.library import loaded
from glipkit.structures.targets import GroundingTarget

_TOWER, _BACKBONE = "MODEL.DYHEAD.USE_CHECKPOINT", "MODEL.BACKBONE.USE_CHECKPOINT"
_TEXT = "MODEL.LANGUAGE_BACKBONE.USE_CHECKPOINT"
# Variant -> the keys that are on in it; the first one is what the others are compared with.
VARIANTS = {
    "plain": (),
    "tower": (_TOWER,),
    "tower+backbone": (_TOWER, _BACKBONE),
    "all three": (_TOWER, _BACKBONE, _TEXT),
}
PHASES = ("forward", "backward", "optimizer")
TOLERANCE = 1e-4  # of a gradient, relative; float32 sums in another order
NUM_BOXES = 8
GIB = 1 << 30


def truth(pixels: tuple[int, int], num_phrases: int) -> GroundingTarget:
    """Boxes of several sizes in two rows over a picture of `pixels` (height, width)."""
    height, width = pixels
    boxes, named = [], torch.zeros(NUM_BOXES, num_phrases, dtype=torch.bool)
    for index in range(NUM_BOXES):
        side = 24 * 1.4**index
        x, y = width * (index % 4 + 0.5) / 4, height * (index // 4 + 0.5) / 2
        box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        boxes.append([max(0.0, min(at, limit - 1)) for at, limit in zip(box, (width, height) * 2)])
        named[index, index % num_phrases] = True
    return GroundingTarget(torch.tensor(boxes), named, image_id=0)


def build(cfg: CfgNode, device: torch.device) -> Learner:
    """What learns, all of it, in training mode, with the same weights each time."""
    with torch.device("meta"):
        model = build_model(cfg)
    model.to_empty(device=device)
    fill_model(model)
    learner = build_learner(cfg, model).to(device)
    prepare(model, criterion=learner.criterion).train(learner)
    return learner


def work(arguments: argparse.Namespace) -> dict:
    """In a process of its own: a few steps of one variant."""
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    on = VARIANTS[arguments.work]
    switches = [word for key in (_TOWER, _BACKBONE, _TEXT) for word in (key, str(key in on))]
    cfg = load_config([arguments.config], switches, training=True)
    learner = build(cfg, device)
    optimizer = build_optimizer(cfg, learner)
    images = picture(arguments.size).to(device)
    tokenizer = Tokenizer.load(cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE)
    prompts = words(arguments.prompt, tokenizer).to(device)
    targets = [truth(arguments.size, len(prompts.phrase_tokens[0])).to(device)]
    before = peak(device)
    runs, first_pass, gradients = [], 0, {}
    for turn in range(1 + arguments.repeats):  # the first one warms up
        torch.manual_seed(turn)  # the same dropout in every variant
        processor, moments = time.process_time(), [now(device)]
        assignment = learner.assign(images, prompts, targets)
        enabled = arguments.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            losses = learner(images, prompts, targets, assignment, assignment.totals)
        moments.append(now(device))
        sum(losses.values()).backward()
        moments.append(now(device))
        if turn == 0:
            first_pass, gradients = peak(device), fingerprint(learner)
        start = now(device)
        clip_gradients(learner.parameters(), largest=cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = [moments[1] - moments[0], moments[2] - moments[1], now(device) - start]
        runs.append(dict(zip(PHASES, seconds)) | {"processor": time.process_time() - processor})
    return {
        "runs": runs[1:],  # seconds
        "before_gib": before / GIB,
        "first_pass_gib": first_pass / GIB,  # the optimizer has no memory of its own yet
        "peak_gib": peak(device) / GIB,
        "gradients": gradients,
        "losses": {name: float(loss.detach()) for name, loss in losses.items()},
        "machine": machine() | {"compiled": loaded()},
        "pixels": list(images.pixels.shape),
        "tokens": prompts.token_ids.shape[1],
        "positives": int(assignment.totals[0]),
        "parameters": sum(p.numel() for p in learner.parameters() if p.requires_grad),
    }


def fingerprint(learner: Learner) -> dict[str, tuple[float, float]]:
    """Of every gradient its norm, and its product with random signs, the same in each process.

    Two gradients that differ by d differ in the product by about the norm of d.
    """
    found = {}
    for name, parameter in learner.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.detach().flatten().double().cpu()
            found[name] = (float(gradient.norm()), float(gradient @ signs(name, len(gradient))))
    return found


def signs(name: str, count: int) -> Tensor:
    """(count,) float64 of -1 and 1 that depend on `name` alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randint(2, (count,), generator=generator).double() * 2 - 1


def difference(one: dict[str, list[float]], other: dict[str, list[float]]) -> tuple[float, str]:
    """The greatest relative difference of two sets of gradients, and where it is."""
    if one.keys() != other.keys():
        return float("inf"), min(one.keys() ^ other.keys())
    # A bias of all keys alike moves no softmax: its gradient is rounding, and so is any difference.
    floor = 1e-6 * max(norm for norm, _ in one.values())
    return max(
        (abs(one[name][1] - other[name][1]) / max(one[name][0], floor), name) for name in one
    )


def peak(device: torch.device) -> int:
    """Bytes at the greatest moment so far: of the process, or on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def now(device: torch.device) -> float:
    """Seconds; a GPU is waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(arguments: argparse.Namespace, prompt: str) -> dict:
    """All variants in turn, each in fresh processes."""
    answers: dict[str, list[dict]] = {variant: [] for variant in arguments.variants}
    for _ in range(arguments.rounds):
        for variant in arguments.variants:
            answers[variant].append(in_process(arguments, prompt, variant))
    first = answers[arguments.variants[0]][0]
    report = {key: first[key] for key in ("pixels", "tokens", "positives", "parameters", "machine")}
    report["variants"] = {}
    for variant, rounds in answers.items():
        off, where = difference(first["gradients"], rounds[0]["gradients"])
        runs = [run for answer in rounds for run in answer["runs"]]
        runs = [run | {"step": sum(run[name] for name in PHASES)} for run in runs]
        runs.sort(key=lambda run: run["step"])
        seconds = runs[len(runs) // 2]  # the step of median length, whole: its phases add up
        report["variants"][variant] = {
            "seconds": seconds,
            "fastest_and_slowest_seconds": [runs[0]["step"], runs[-1]["step"]],
            "before_gib": statistics.median(answer["before_gib"] for answer in rounds),
            "first_pass_gib": max(answer["first_pass_gib"] for answer in rounds),
            "peak_gib": max(answer["peak_gib"] for answer in rounds),
            "gradients_differ_by": off,
            "in": where,
            "losses": rounds[0]["losses"],
        }
    return report


def in_process(arguments: argparse.Namespace, prompt: str, variant: str) -> dict:
    """What `work` gives, from another process."""
    height, width = arguments.size
    command = [sys.executable, __file__, "--work", variant, "--prompts", prompt]
    command += ["--size", f"{height}x{width}", "--config", str(arguments.config)]
    for name in ("precision", "device", "threads", "repeats"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{variant}, {prompt}: the process ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def table(report: dict) -> str:
    """As people read it; the first variant is what the others are compared with.

    `pass` is the first forward and backward: weights, gradients and activations. `peak` holds the
    optimizer's two moments as well. `processor` is what all threads worked, waiting for others left
    out.
    """
    names = (*PHASES, "step", "processor")
    lines = [
        f"{'':<16}" + "".join(f"{name:>11}" for name in names) + f"{'pass GiB':>10}{'peak GiB':>10}"
        f"{'time':>7}{'memory':>8}"
    ]
    base = next(iter(report["variants"].values()))
    for variant, figures in report["variants"].items():
        line = f"{variant:<16}" + "".join(f"{figures['seconds'][name]:>11.2f}" for name in names)
        line += f"{figures['first_pass_gib']:>10.2f}{figures['peak_gib']:>10.2f}"
        if figures is not base and figures["gradients_differ_by"] > TOLERANCE:
            off = figures["gradients_differ_by"]
            line += f"  no ratio: gradients differ by {off:.1e} in {figures['in']}"
        elif figures is not base:
            line += f"{figures['seconds']['step'] / base['seconds']['step']:>7.2f}"
            line += f"{figures['first_pass_gib'] / base['first_pass_gib']:>8.2f}"
        lines.append(line)
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure, print a table for each prompt, and write the JSON file if one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG, help="YAML file of the model")
    parser.add_argument("--size", type=size, default=(480, 640), help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--prompts", nargs="+", choices=sorted(PROMPTS), default=["coco", "two"])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), metavar="VARIANT",
                        default=["plain", "tower+backbone"],
                        help=f"of {', '.join(VARIANTS)}; compared with the first")  # fmt: skip
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=2, help="steps of a process, after one more")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each variant")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="a small picture, two names, once")
    parser.add_argument("--work", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.size, arguments.repeats, arguments.rounds = (256, 320), 1, 1
        arguments.prompts = ["two"]
    if arguments.work:
        arguments.prompt = arguments.prompts[0]
        sys.stdout.write(json.dumps(work(arguments)) + "\n")
        return
    report = {key: getattr(arguments, key) for key in ("precision", "device", "rounds", "repeats")}
    report |= {"model": arguments.config.stem, "prompts": {}}
    for prompt in arguments.prompts:
        figures = measure(arguments, prompt)
        report["machine"] = figures.pop("machine")
        report["prompts"][prompt] = figures
        print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
        print(
            f"{report['model']}, {report['precision']} on {report['device']}, pixels "
            f"{figures['pixels']}, {figures['tokens']} tokens, {figures['positives']} positive "
            f"anchors, {figures['parameters']:,} parameters"
        )
        print(table(figures), flush=True)
        if report["machine"]["load"] > arguments.threads + 1:
            print("others were at work on this machine: the seconds hold little, the memory holds")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
