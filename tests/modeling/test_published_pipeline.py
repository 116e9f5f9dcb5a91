"""What "times faster" is measured against computes the same, and does all the work it claims."""

from collections import Counter

import pytest
import torch
from golden.compare import count_unmatched
from reference.compare import assert_relative
from reference.pipeline import MAX_TOKENS, PublishedPipeline, full_length
from sure import without_chance
from tiny import tiny_glip
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from glipkit.grounding.captions import class_prompts
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.modeling.atss import ATSSAssigner
from glipkit.modeling.criterion import Criterion
from glipkit.modeling.fill import unit_noise
from glipkit.modeling.glip import GLIP
from glipkit.modeling.learner import Learner
from glipkit.modeling.multi_prompt import Detector
from glipkit.modeling.official import published_name
from glipkit.modeling.postprocess import Postprocessor
from glipkit.structures.detections import Detections
from glipkit.structures.images import ImageBatch, pad_images
from glipkit.structures.prompts import PromptBatch, TokenizedPrompt, batch_prompts
from glipkit.structures.targets import GroundingTarget

NAMES = ["cat", "dog", "traffic light", "owl", "hair drier"]
DECIDE = {"score_threshold": 0.02, "pre_nms_top_n": 60, "detections_per_image": 40}


@pytest.fixture(scope="module")
def prompts() -> list[TokenizedPrompt]:
    """Three chunks of two, two and one class."""
    tokenizer = Tokenizer.load("bert-base-uncased")
    return [tokenizer(prompt) for prompt in class_prompts(NAMES, tokenizer, chunk_size=2)]


@pytest.fixture(params=[True, False], ids=["fused", "unfused"])
def model(request: pytest.FixtureRequest) -> GLIP:
    return tiny_glip(fused=request.param)


def pictures(*sizes: tuple[int, int]) -> ImageBatch:
    noise = (torch.from_numpy(unit_noise(str(size), (3, *size), 0)).float() for size in sizes)
    return pad_images(list(noise))


def at_words(values: Tensor, mask: Tensor) -> Tensor:
    """Rows (B, T, D) of visible tokens; padding is nobody's business."""
    return values[mask]


@torch.no_grad()
def test_every_map_is_ours(model: GLIP, prompts: list[TokenizedPrompt]) -> None:
    plain = PublishedPipeline.of(model, Postprocessor()).model
    images, words = pictures((90, 130), (128, 100)), batch_prompts(prompts[:2])
    full = full_length(words)
    assert full.token_mask.shape == (2, MAX_TOKENS)

    levels, text = model.encode_image(images.pixels), model.encode_text(*astuple(words))
    their_levels = plain.backbone.fpn(plain.backbone.body(images.pixels))
    hidden, embedded = plain.language_backbone(*astuple(full))
    assert_relative(at_words(text.hidden, text.mask), at_words(hidden, full.token_mask), 1e-5)
    assert_relative(at_words(text.embedded, text.mask), at_words(embedded, full.token_mask), 1e-5)
    assert not embedded[~full.token_mask].any()

    parts = iter(plain.rpn.head.dyhead_tower)
    for block in model.tower.blocks:
        for index, (level, theirs) in enumerate(zip(levels, their_levels, strict=True)):
            assert_relative(level, theirs, 1e-4, f"level {index}")
        levels, text = block(levels, text)
        if block.fusion is not None:
            their_levels, hidden = next(parts)(their_levels, hidden, full.token_mask)
            hidden = next(parts)(hidden, full.token_mask)
        their_levels = next(parts)(their_levels)
        assert_relative(at_words(text.hidden, text.mask), at_words(hidden, full.token_mask), 1e-4)
    assert next(parts, None) is None

    ours, theirs = model(images, words), plain(images, words)
    for index, (mine, other) in enumerate(zip(ours.levels, theirs.levels, strict=True)):
        assert other.token_logits.shape[2] == MAX_TOKENS
        logits = at_words(mine.token_logits.mT, words.token_mask)
        assert_relative(logits, at_words(other.token_logits.mT, full.token_mask), 1e-4)
        assert_relative(mine.box_deltas, other.box_deltas, 1e-4, f"boxes {index}")
        assert_relative(mine.centerness, other.centerness, 1e-4, f"centerness {index}")
        assert_relative(ours.features[index], theirs.features[index], 1e-4, f"features {index}")
        assert torch.equal(ours.anchors[index], theirs.anchors[index])
    known_before = plain.anchor_levels(tuple(images.pixels.shape[2:]))
    assert all(torch.equal(a, b) for a, b in zip(known_before, ours.anchors, strict=True))


def astuple(words: PromptBatch) -> tuple[Tensor, Tensor]:
    return words.token_ids, words.token_mask


def assert_same_detections(found: Detections, expected: Detections) -> None:
    assert found.image_size == expected.image_size
    (one, other) = ((d.boxes, d.scores, d.phrase_ids) for d in (found, expected))
    assert count_unmatched(one, [value.numpy() for value in other]) == 0
    assert found.scores.diff().max() <= 0  # best first


@pytest.mark.parametrize("aggregation", ["MEAN", "MAX", "POWER", "ONEHOT"])
def test_detections_are_ours(model: GLIP, prompts: list[TokenizedPrompt], aggregation: str) -> None:
    decide = Postprocessor(**DECIDE, aggregation=aggregation)
    images, originals = pictures((90, 130), (128, 100)), [(180, 260), (128, 100)]
    expected = Detector(model, decide)(images, prompts, originals)
    found = PublishedPipeline.of(model, decide)(images, prompts, originals)
    for mine, other in zip(expected, found, strict=True):
        assert len(mine) > 40  # the cap is for each chunk
        assert set(mine.phrase_ids.tolist()) == set(range(len(NAMES)))
        assert_same_detections(other, mine)


class Calls(TorchDispatchMode):
    """Which operators are called, how often."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.name().partition(".")[0]] += 1
        return func(*args, **(kwargs or {}))


def test_it_does_all_the_work(model: GLIP, prompts: list[TokenizedPrompt]) -> None:
    plain = PublishedPipeline.of(model, Postprocessor(**DECIDE))
    pixels, tokens = [], []
    body, bert = plain.model.backbone.body, plain.model.language_backbone.body.model
    body.register_forward_pre_hook(lambda _, args: pixels.append(tuple(args[0].shape)))
    bert.register_forward_pre_hook(
        lambda *args: tokens.append(tuple(args[2]["input_ids"].shape)), with_kwargs=True
    )
    images = pictures((90, 130), (96, 100))
    with Calls() as calls:
        plain(images, prompts, images.sizes)
    times = len(images) * len(prompts)
    assert pixels == [(1, 3, 96, 160)] * times
    assert tokens == [(1, MAX_TOKENS)] * times
    # Five levels look at themselves, four at a coarser one, four at a finer one.
    assert calls.counts["torchvision::deform_conv2d"] == times * 13 * len(model.tower.blocks)
    assert {name.partition("::")[0] for name in calls.counts} == {"aten", "torchvision"}
    assert bert.config._attn_implementation == "eager"


def test_no_linear_of_ours_and_the_model_stays_as_it_is(
    model: GLIP, prompts: list[TokenizedPrompt]
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(part) for part in model.modules()]
    plain = PublishedPipeline.of(model, Postprocessor())
    linears = [part for part in plain.modules() if isinstance(part, nn.Linear)]
    assert len(linears) > 10
    assert all(type(part) is nn.Linear for part in linears)
    output = plain.forward(pictures((64, 64)), batch_prompts(prompts[:1]))
    sum(level.token_logits.sum() for level in output.levels).backward()
    optimizer = torch.optim.SGD(plain.parameters(), lr=1.0)
    optimizer.step()
    assert not torch.equal(plain.model.rpn.head.bias0, model.predictor.bias)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [type(part) for part in model.modules()] == kinds
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_gives_our_losses_and_gradients(
    model: GLIP, prompts: list[TokenizedPrompt]
) -> None:
    without_chance(model)
    criterion = Criterion(ATSSAssigner(9))
    plain = without_chance(PublishedPipeline.of(model, Postprocessor()))
    images, words = pictures((96, 128), (90, 100)), batch_prompts(prompts[:2])
    boxes = torch.tensor([[8.0, 10, 60, 70], [50, 20, 90, 80]])
    targets = [GroundingTarget(boxes, torch.eye(2).bool(), index) for index in range(2)]
    losses = []
    for learner, own in (
        (Learner(model, criterion), words),
        (Learner(plain.model, criterion), full_length(words)),
    ):
        assert learner.model.training
        assignment = learner.assign(images, own, targets)
        losses.append(learner(images, own, targets, assignment, assignment.totals))
        sum(losses[-1].values()).backward()
    assert losses[0].keys() == losses[1].keys()
    for name, loss in losses[0].items():
        torch.testing.assert_close(loss, losses[1][name], rtol=1e-4, atol=1e-6)

    fused = model.tower.blocks[0].fusion is not None
    theirs = dict(plain.model.named_parameters())
    largest = max(float(p.grad.norm()) for p in model.parameters() if p.grad is not None)
    for name, parameter in model.named_parameters():
        gradient = theirs[published_name(name, fused=fused)].grad
        assert (gradient is None) == (parameter.grad is None), name
        if gradient is not None and gradient.norm() > 1e-6 * largest:  # below that it is rounding
            assert_relative(parameter.grad, gradient, 2e-3, name)


def test_training_drops_what_ours_drops(model: GLIP, prompts: list[TokenizedPrompt]) -> None:
    plain = PublishedPipeline.of(model.train(), Postprocessor())
    assert plain.model.training
    rates = Counter(part.p for part in plain.modules() if isinstance(part, nn.Dropout))
    blocks = len(model.tower.blocks) if model.tower.blocks[0].fusion is not None else 0
    assert rates[0.1] >= 3 * blocks + 1  # both directions of the fusion, the text layer, BERT
    assert plain.model.backbone.fpn.drop_block.probability == 0.3
    depth = [
        block.drop_path for stage in plain.model.backbone.body.layers for block in stage.blocks
    ]
    assert [d.drop_prob for d in depth] == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    images, words = pictures((64, 64)), batch_prompts(prompts[:1])
    once, twice = (plain.forward(images, words).levels[0].box_deltas for _ in range(2))
    assert not torch.equal(once, twice)


def test_a_learned_prompt_and_what_is_frozen_come_along(prompts: list[TokenizedPrompt]) -> None:
    model = tiny_glip(prompt_offset=True)
    nn.init.normal_(model.prompt_offset.weight)
    model.backbone.requires_grad_(False)
    plain = PublishedPipeline.of(model, Postprocessor())
    assert not any(p.requires_grad for p in plain.model.backbone.body.parameters())
    assert all(p.requires_grad for p in plain.model.backbone.fpn.parameters())
    images, words = pictures((64, 64)), batch_prompts(prompts[:1])
    with torch.no_grad():
        ours, theirs = model(images, words).levels[0], plain.forward(images, words).levels[0]
    assert_relative(ours.box_deltas, theirs.box_deltas, 1e-4)
