"""A whole training step, small: what must not matter to it, and that it learns."""

import pytest
import torch
from sure import without_chance
from tiny import CHANNELS, TEXT_DIM, tiny_glip
from torch import Tensor
from torch.testing import assert_close

from glipkit.modeling.atss import ATSSAssigner
from glipkit.modeling.criterion import Criterion
from glipkit.modeling.head.contrastive import ContrastiveAlignment
from glipkit.modeling.head.masked_language import MaskedLanguageHead
from glipkit.modeling.learner import Learner
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import PromptBatch, TokenizedPrompt, batch_prompts
from glipkit.structures.targets import GroundingTarget

SIZE = (64, 96)
WORDS = 1100
TARGETS = [
    GroundingTarget(
        torch.tensor([[5.2, 8.1, 70.3, 60.4], [60.5, 3.7, 95.1, 41.3]]), torch.eye(2).bool(), 1
    ),
    GroundingTarget(torch.tensor([[11.3, 12.2, 90.1, 57.4]]), torch.tensor([[False, True]]), 2),
]


def make_learner(fused: bool = True) -> Learner:
    torch.manual_seed(1)
    criterion = Criterion(
        ATSSAssigner(),
        contrastive=ContrastiveAlignment(CHANNELS, text_dim=TEXT_DIM),
        masked_language=MaskedLanguageHead(TEXT_DIM, vocabulary_size=WORDS),
    )
    return without_chance(Learner(tiny_glip(fused), criterion))


def prompt(length: int) -> TokenizedPrompt:
    tokens = torch.zeros(2, length, dtype=torch.int64)
    tokens[0, 1:3], tokens[1, 3] = 1, 1
    ids = torch.arange(1000, 1000 + length)
    return TokenizedPrompt(ids, ids > 0, tokens)


PROMPTS = batch_prompts([prompt(7), prompt(5)], multiple=1)


def hidden_words(prompts: PromptBatch = PROMPTS) -> Tensor:
    words = torch.full_like(prompts.token_ids, -100)
    words[0, 2], words[1, 3] = 1002, 1050
    return words


def images(dtype: torch.dtype = torch.float32) -> ImageBatch:
    torch.manual_seed(2)
    return ImageBatch(torch.randn(2, 3, *SIZE, dtype=dtype), (SIZE,) * 2)


def step(
    learner: Learner, batch: ImageBatch, prompts: PromptBatch, targets: list[GroundingTarget]
) -> dict[str, float]:
    words = hidden_words(prompts)
    assignment = learner.assign(batch, prompts, targets, words)
    learner.zero_grad()
    losses = learner(batch, prompts, targets, assignment, assignment.totals, words)
    sum(losses.values()).backward()
    return {name: loss.item() for name, loss in losses.items()}


def gradients(learner: Learner) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in learner.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_padding_of_the_text_does_not_matter(fused: bool) -> None:
    learner, batch = make_learner(fused).double(), images(torch.float64)
    losses = step(learner, batch, PROMPTS, TARGETS)
    expected = gradients(learner)
    padded = [prompt(7).padded(256), prompt(5).padded(256)]
    longer = PromptBatch(
        torch.stack([one.token_ids for one in padded]),
        torch.stack([one.token_mask for one in padded]),
        tuple(one.phrase_tokens for one in padded),
    )
    assert step(learner, batch, longer, TARGETS) == pytest.approx(losses, rel=1e-10)
    for name, gradient in gradients(learner).items():
        assert_close(gradient, expected[name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("boxes", [True, False], ids=["boxes", "no-boxes"])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_every_parameter_takes_part(fused: bool, boxes: bool) -> None:
    """Wrappers for several processes wait for the gradient of each of them."""
    learner = make_learner(fused)
    nothing = GroundingTarget(torch.zeros(0, 4), torch.zeros(0, 2, dtype=torch.bool), 3)
    losses = step(learner, images(), PROMPTS, TARGETS if boxes else [nothing] * 2)
    assert all(torch.tensor(list(losses.values())).isfinite())
    without = [n for n, p in learner.named_parameters() if p.grad is None]
    assert without == [f"model.predictor.class_logits.{part}" for part in ("weight", "bias")]
    assert all(gradient.isfinite().all() for gradient in gradients(learner).values())


def test_the_assignment_is_that_of_the_models_anchors() -> None:
    learner, batch = make_learner(), images()
    assignment = learner.assign(batch, PROMPTS, TARGETS)
    with torch.no_grad():
        output = learner.model(batch, PROMPTS)
    expected = learner.criterion.assign(output.anchors, TARGETS, PROMPTS)
    assert_close(assignment, expected)


def test_it_learns_one_batch() -> None:
    learner, batch = make_learner(), images()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=2e-3)
    first = step(learner, batch, PROMPTS, TARGETS)
    for _ in range(10):
        optimizer.step()
        last = step(learner, batch, PROMPTS, TARGETS)
    # Centerness is left out: its targets are soft, so its loss begins near the least it can be.
    for name in ("token", "box", "contrastive", "mlm"):
        assert last[name] < 0.9 * first[name], f"{name}: {first[name]:.3f} -> {last[name]:.3f}"
