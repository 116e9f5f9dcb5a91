"""A base model, and the same model one training step later, for tests of what was tuned."""

import torch
from tiny import tiny_glip
from torch import Tensor

from glipkit.engine.tuning import TuningPlan, prepare
from glipkit.modeling.glip import GLIP
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch

IDS = torch.tensor([[101, 5000, 102, 0, 0], [101, 6000, 7000, 8000, 102]])
PROMPTS = PromptBatch(IDS, IDS > 0, (torch.zeros(1, 5, dtype=torch.int64),) * 2)


def predictions(model: GLIP) -> list[Tensor]:
    """On one picture seen twice; logits of padding tokens left out."""
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    levels = model(ImageBatch(pixels, ((64, 96),) * 2), PROMPTS).levels
    seen = [level.token_logits[:, :, :3] for level in levels]
    return seen + [part for level in levels for part in level[1:]]


def step(model: GLIP) -> None:
    """One step of training towards nothing in particular."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.1)
    sum(part.square().mean() for part in predictions(model)).backward()
    optimizer.step()
    model.zero_grad()


def tuned(mode: str, *, fused: bool = True) -> tuple[GLIP, TuningPlan]:
    """The tiny model of seed 0 after one step in a mode."""
    model = tiny_glip(fused, prompt_offset=True)
    plan = prepare(model, mode=mode)
    plan.train(model)
    step(model)
    return model, plan
