"""One side of the training benchmark, in a process of its own; `train.py` starts these.

GLIP-T as it is trained, or the published pipeline with the same weights, pictures and targets: a
pass with all chance off, whose losses and gradients are kept to be compared, then whole steps as in
training, timed by phase.
"""

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from memory import GIB, Greatest
from model import CONFIG, SMALL, picture, words
from reference.pipeline import PublishedModel, full_length
from rows import DTYPES, add_options
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.utils.checkpoint import checkpoint
from yacs.config import CfgNode

from glipkit.config.load import load_config
from glipkit.engine.build import build_optimizer
from glipkit.engine.freed_memory import hand_back_between_parts
from glipkit.engine.optimizer import clip_gradients, published_parameters
from glipkit.engine.tuning import prepare
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import build_learner, build_model
from glipkit.modeling.fill import fill_model
from glipkit.modeling.learner import Learner
from glipkit.runtime.allocation import SWITCH, keep_freed_memory
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch
from glipkit.structures.targets import GroundingTarget

REFERENCE = "reference"
REFERENCE_AGAIN = "reference, tower recomputed"  # as its configuration says; in halves of a block
_TOWER, _BACKBONE = "MODEL.DYHEAD.USE_CHECKPOINT", "MODEL.BACKBONE.USE_CHECKPOINT"
_TEXT = "MODEL.LANGUAGE_BACKBONE.USE_CHECKPOINT"
KEPT = "tower recomputed, freed memory kept"
# Side -> the keys that are on in it. Ours is how to train where memory is short.
SIDES: dict[str, tuple[str, ...]] = {
    "ours": (_TOWER, _BACKBONE, _TEXT),
    "tower recomputed": (_TOWER,),
    "all kept": (),
    KEPT: (_TOWER,),
    REFERENCE: (),
    REFERENCE_AGAIN: (_TOWER,),
}
PHASES = ("forward", "backward", "optimizer")
NUM_BOXES = 8
# What modules call the share of things that they drop in training.
_CHANCES = ("p", "drop_prob", "probability", "dropout", "dropout_prob")


class Work(NamedTuple):
    """What a step learns from."""

    images: ImageBatch
    prompts: PromptBatch
    targets: list[GroundingTarget]


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


def build(cfg: CfgNode, side: str, device: str) -> tuple[Learner, Optimizer]:
    """What learns, all of it, in training mode, with the same weights on every side."""
    with torch.device("meta"):
        model = build_model(cfg)
    model.to_empty(device=device)
    fill_model(model)
    learner = build_learner(cfg, model).to(device)
    prepare(model, criterion=learner.criterion).train(learner)
    optimizer = build_optimizer(cfg, learner)
    if not side.startswith(REFERENCE):
        if cfg.MODEL.BACKBONE.USE_CHECKPOINT and device == "cpu":
            hand_back_between_parts(learner)
        return learner, optimizer
    # PyTorch's AdamW as it comes, every parameter at the rate and decay that ours has.
    named = {name: parameter for name, parameter in published_parameters(learner)}
    rates = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    learner.model = PublishedModel(model)
    if side == REFERENCE_AGAIN:
        recompute(learner.model.rpn.head.dyhead_tower)
    learner.train()
    theirs = dict(learner.model.named_parameters())
    groups = [
        {"params": [theirs[name]], **{key: rates[id(p)][key] for key in ("lr", "weight_decay")}}
        for name, p in named.items()
    ]
    return learner, AdamW(groups)


def recompute(parts: nn.ModuleList) -> None:
    """Let each part keep its inputs alone, and run again in the backward pass."""
    for part in parts:
        part.forward = functools.partial(checkpoint, part.forward, use_reentrant=False)


def subject(cfg: CfgNode, arguments: argparse.Namespace) -> Work:
    """A picture of 480 x 640 and COCO's names, and where eight of them are."""
    size = (192, 256) if arguments.quick else (480, 640)
    tokenizer = Tokenizer.load(cfg.MODEL.LANGUAGE_BACKBONE.TOKENIZER_TYPE)
    prompts = words("two" if arguments.quick else "coco", tokenizer)
    targets = [truth(size, len(prompts.phrase_tokens[0])).to(arguments.device)]
    if arguments.side.startswith(REFERENCE):
        prompts = full_length(prompts)
    return Work(picture(size).to(arguments.device), prompts.to(arguments.device), targets)


@contextmanager
def without_chance(module: nn.Module) -> Iterator[None]:
    """Nothing is dropped inside, although the module trains."""
    found = [
        (part, name, rate)
        for part in module.modules()
        for name in _CHANCES
        if isinstance(rate := getattr(part, name, None), float)
    ]
    for part, name, _ in found:
        setattr(part, name, 0.0)
    try:
        yield
    finally:
        for part, name, rate in found:
            setattr(part, name, rate)


class Steps:
    """Makes training steps and watches the clock.

    Args:
        learner: in training mode.
        optimizer: of the learner.
        work: what to learn from, always the same.
        low: type of the products, float32 or bfloat16 by autocast.
        largest: norm of the gradients; longer ones are scaled down.
    """

    def __init__(
        self,
        learner: Learner,
        optimizer: Optimizer,
        work: Work,
        low: torch.dtype,
        largest: float | None,
    ) -> None:
        self.learner, self.optimizer, self.work = learner, optimizer, work
        self.low, self.largest = low, largest
        self.device = work.images.pixels.device.type

    def losses(self) -> dict[str, Tensor]:
        """A forward pass, judged."""
        assignment = self.learner.assign(*self.work)
        with torch.autocast(self.device, self.low, enabled=self.low != torch.float32):
            return self.learner(*self.work, assignment, assignment.totals)

    def step(self, seed: int) -> dict[str, float]:
        """A whole step; seconds of each phase and of all, and what the processor worked."""
        torch.manual_seed(seed)
        processor, moments = time.process_time(), [self.now()]
        losses = self.losses()
        moments.append(self.now())
        sum(losses.values()).backward()
        moments.append(self.now())
        clip_gradients(self.learner.parameters(), largest=self.largest)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        moments.append(self.now())
        seconds = {n: b - a for n, a, b in zip(PHASES, moments, moments[1:])}
        return seconds | {
            "step": moments[-1] - moments[0],
            "processor": time.process_time() - processor,
        }

    def gradients(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses, and gradients by published names, of a pass without chance."""
        with without_chance(self.learner):
            losses = self.losses()
            sum(losses.values()).backward()
        if isinstance(self.learner.model, PublishedModel):
            named = list(self.learner.model.named_parameters())
        else:
            named = published_parameters(self.learner)
        found = {name: p.grad.cpu() for name, p in named if p.grad is not None}
        self.optimizer.zero_grad(set_to_none=True)
        return {name: loss.detach().cpu() for name, loss in losses.items()}, found

    def now(self) -> float:
        """Seconds; a GPU is waited for."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def work(arguments: argparse.Namespace) -> dict:
    """Gradients into a file, if asked for; then steps."""
    torch.set_num_threads(arguments.threads)
    if arguments.side == KEPT:
        os.environ[SWITCH] = "1"
        keep_freed_memory()
    on = SIDES[arguments.side]
    switches = [word for key in (_TOWER, _BACKBONE, _TEXT) for word in (key, str(key in on))]
    files = [CONFIG, SMALL] if arguments.quick else [CONFIG]
    cfg = load_config(files, switches, training=True)
    # torchvision's deformable convolution has no bfloat16 on a CPU.
    plain = arguments.side.startswith(REFERENCE) and arguments.device == "cpu"
    learner, optimizer = build(cfg, arguments.side, arguments.device)
    steps = Steps(
        learner,
        optimizer,
        subject(cfg, arguments),
        torch.float32 if plain else DTYPES[arguments.dtype],
        cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE,
    )
    if arguments.gradients:
        torch.save(steps.gradients(), arguments.gradients)
    greatest = Greatest(arguments.device)
    greatest.start()
    runs = [steps.step(seed) for seed in range(1 + arguments.repeats)]  # the first one warms up
    with without_chance(learner):
        sure = steps.step(0)["step"]
    trained = [p for p in learner.parameters() if p.requires_grad]
    weights = sum(p.nbytes for p in learner.parameters())
    state = sum(
        value.nbytes
        for p in trained
        for value in optimizer.state[p].values()
        if isinstance(value, Tensor)
    )
    return {
        "runs": runs[1:],  # seconds
        "without_chance": sure,  # seconds of a step
        "peak": greatest.whole() / GIB,
        "state": (weights + sum(p.nbytes for p in trained) + state) / GIB,
        "parameters": sum(p.numel() for p in trained),
        "tokens": steps.work.prompts.token_ids.shape[1],
        "pixels": list(steps.work.images.pixels.shape[2:]),
    }


def main() -> None:
    """One side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--gradients", type=Path, help="keep losses and gradients here")
    parser.add_argument("--repeats", type=int, default=2)
    add_options(parser)
    sys.stdout.write(json.dumps(work(parser.parse_args())) + "\n")


if __name__ == "__main__":
    main()
