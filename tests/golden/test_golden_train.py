"""One training step of the whole model against the reference: assignment, losses, gradients.

Weights are filled by name and everything random is off (golden/README.md). Each model is run twice:
with the text padded to 256 tokens, as the reference runs, and cut to the captions, as we run.
How far each value is from the reference goes to the log (`pytest --log-cli-level=INFO`).
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.compare import distance
from golden.forward_run import FUSED, UNFUSED
from sure import without_chance
from torch import Tensor

from glipkit.config.load import load_config
from glipkit.grounding.alignment import normalised, token_targets
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.build import build_learner, build_model
from glipkit.modeling.criterion import Assignment
from glipkit.modeling.fill import fill_model, sample_indices
from glipkit.modeling.learner import Learner
from glipkit.modeling.official import our_name, published_name
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import Phrase, Prompt, PromptBatch, batch_prompts
from glipkit.structures.targets import GroundingTarget

pytestmark = pytest.mark.slow
logger = logging.getLogger(__name__)

PRETRAIN = Path(__file__).parents[2] / "configs" / "pretrain"
LOSSES = {"box": "loss_reg", "centerness": "loss_centerness", "token": "loss_dot_product_token"}
# golden/README.md, tolerances
LOSS_LIMIT, NORM_LIMIT, GRADIENT_LIMIT = 2e-4, 1e-3, 2e-3


@dataclass
class Step:
    """Inputs, goldens, and what one forward and backward pass gave."""

    config: str
    trimmed: bool
    goldens: dict[str, np.ndarray]
    prompts: PromptBatch
    targets: list[GroundingTarget]
    assignment: Assignment
    losses: dict[str, float]
    gradients: dict[str, Tensor | None]  # by the published names


def read_prompts(goldens: dict[str, np.ndarray], trimmed: bool) -> PromptBatch:
    """The two captions; every box has a phrase of its own."""
    tokenizer = Tokenizer.load("bert-base-uncased")
    prompts = []
    for caption, boxes in zip(goldens["captions"], json.loads(str(goldens["spans_json"]))):
        caption = str(caption)
        phrases = [Phrase("", tuple(map(tuple, spans))) for spans in boxes]
        prompts.append(tokenizer(Prompt(caption, tuple(phrases)), pad_to=256))
    if trimmed:
        return batch_prompts(prompts)
    return PromptBatch(
        torch.stack([prompt.token_ids for prompt in prompts]),
        torch.stack([prompt.token_mask for prompt in prompts]),
        tuple(prompt.phrase_tokens for prompt in prompts),
    )


def read_targets(goldens: dict[str, np.ndarray]) -> list[GroundingTarget]:
    boxes = [torch.from_numpy(goldens[f"target{index}.boxes_xyxy"]) for index in range(2)]
    return [GroundingTarget(b, torch.eye(len(b)).bool(), index) for index, b in enumerate(boxes)]


def run(learner: Learner, config: str, trimmed: bool, golden: Path) -> Step:
    goldens = dict(np.load(golden / f"train_{config}_seed0.npz"))
    inputs = np.load(golden / "inputs_seed0.npz")
    sizes = tuple((int(h), int(w)) for h, w in inputs["image_sizes_hw"])
    images = ImageBatch(torch.from_numpy(inputs["batch"]), sizes)
    prompts, targets = read_prompts(goldens, trimmed), read_targets(goldens)
    assignment = learner.assign(images, prompts, targets)
    learner.zero_grad(set_to_none=True)
    losses = learner(images, prompts, targets, assignment, assignment.totals)
    sum(losses.values()).backward()
    fused = config == FUSED
    gradients = {
        published_name(name, fused=fused): parameter.grad
        for name, parameter in learner.model.named_parameters()
    }
    values = {name: loss.item() for name, loss in losses.items()}
    return Step(config, trimmed, goldens, prompts, targets, assignment, values, gradients)


@pytest.fixture(scope="module")
def learners() -> Iterator[Callable[[str], Learner]]:
    """The learner of a model, one at a time: each takes 2 GB with its gradients."""
    built: dict[str, Learner] = {}

    def learner(config: str) -> Learner:
        if config not in built:
            built.clear()
            cfg = load_config([PRETRAIN / f"{config}.yaml"])
            with torch.device("meta"):  # random numbers would only be overwritten
                empty = build_model(cfg)
            model = empty.to_empty(device="cpu")
            fill_model(model, seed=0)
            built[config] = without_chance(build_learner(cfg, model))
        return built[config]

    yield learner
    built.clear()


@pytest.fixture(
    scope="module",
    params=[(config, trimmed) for config in (UNFUSED, FUSED) for trimmed in (False, True)],
    ids=lambda case: f"{case[0]}-{'trimmed' if case[1] else 'padded'}",
)
def step(request: pytest.FixtureRequest, learners: Callable[[str], Learner], golden: Path) -> Step:
    config, trimmed = request.param
    return run(learners(config), config, trimmed, golden)


def test_token_targets(step: Step) -> None:
    """What the boxes should light up: the map that the reference's loss received."""
    length = step.prompts.token_mask.shape[1]
    assert length == (24 if step.trimmed else 256)
    maps = []
    for index, (target, tokens) in enumerate(zip(step.targets, step.prompts.phrase_tokens)):
        maps.append(token_targets(target.box_phrases, tokens))
        expected = step.goldens[f"target{index}.positive_map_normalised"][:, :length]
        np.testing.assert_allclose(normalised(maps[-1]).numpy(), expected, rtol=1e-6)
    expected = step.goldens["positive_map_batched"]
    np.testing.assert_array_equal(torch.cat(maps).numpy(), expected[:, :length] > 0)
    assert not expected[:, length:].any()


def test_assignment(step: Step) -> None:
    assignment, goldens = step.assignment, step.goldens
    for index in range(2):
        key = f"assign{index}"
        np.testing.assert_array_equal(
            assignment.anchors[index].numpy(), goldens[f"{key}.positive_indices"]
        )
        np.testing.assert_array_equal(assignment.boxes[index].numpy(), goldens[f"{key}.matched_gt"])
        labels = goldens[f"target{index}.labels"][assignment.boxes[index].numpy()]
        expected = goldens[f"{key}.labels"]
        np.testing.assert_array_equal(labels, expected[assignment.anchors[index].numpy()])
        assert np.count_nonzero(expected) == len(labels)
        np.testing.assert_allclose(
            assignment.deltas[index].numpy(), goldens[f"{key}.reg_targets_pos"], rtol=1e-5
        )
    centerness = torch.cat(assignment.centerness).numpy()
    np.testing.assert_allclose(centerness, goldens["centerness_targets"], rtol=1e-5)
    positives, central, words = assignment.totals.tolist()
    assert positives == goldens["num_positives"]
    assert central == pytest.approx(centerness.astype(np.float64).sum())
    assert words == 0


def test_losses(step: Step) -> None:
    assert step.losses.keys() == LOSSES.keys()
    assert step.goldens["loss.loss_cls"] == 0  # and so it is left out
    pairs = [
        (name, step.losses[name], float(step.goldens[f"loss.{LOSSES[name]}"])) for name in LOSSES
    ]
    pairs.append(("total", sum(step.losses.values()), float(step.goldens["loss.total"])))
    for name, value, expected in pairs:
        error = abs(value - expected) / expected
        logger.info("%s: %.1e", name, error)
        assert error <= LOSS_LIMIT, f"{name} is {value}, the reference's {expected}"


def test_gradient_norms(step: Step) -> None:
    norms = {
        name: gradient.double().norm().item()
        for name, gradient in step.gradients.items()
        if gradient is not None
    }
    worst = 0.0
    for name, expected in zip(step.goldens["grad_norm_names"], step.goldens["grad_norms"]):
        if expected == 0:
            assert norms[name] == 0, f"{name} has a gradient"
            continue
        error = abs(norms[name] - expected) / expected
        worst = max(worst, error)
        assert error <= NORM_LIMIT, f"{name}: norm {norms[name]}, the reference's {expected}"
    total = float(np.linalg.norm(list(norms.values())))
    expected = float(step.goldens["grad_norm_total"])
    logger.info("gradient norms: worst %.1e, total %.1e", worst, abs(total - expected) / expected)
    assert total == pytest.approx(expected, rel=NORM_LIMIT)


def test_gradients(step: Step) -> None:
    names = [key for key in step.goldens if key.startswith("grad.")]
    assert len(names) >= 14
    for key in names:
        expected = step.goldens[key]
        actual = step.gradients[key.removeprefix("grad.")].flatten().numpy()
        kept = actual[sample_indices(actual.size, len(expected))]
        relative, _ = distance(kept, expected)
        logger.info("%s: relative L2 %.1e", key, relative)
        assert relative <= GRADIENT_LIMIT, f"{key}: relative L2 {relative:.1e}"


def test_what_is_not_trained(step: Step) -> None:
    without = {name for name, gradient in step.gradients.items() if gradient is None}
    assert without == set(step.goldens["params_without_grad"].tolist())
    zero = {
        n for n, gradient in step.gradients.items() if gradient is not None and not gradient.any()
    }
    assert zero == set(step.goldens["params_with_all_zero_grad"].tolist())
    fused = step.config == FUSED
    assert all(our_name(name, fused=fused) for name in step.gradients)
