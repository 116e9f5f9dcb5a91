"""The losses of a batch, computed once more by loops, and what must not matter to them."""

import math
from collections.abc import Sequence

import pytest
import torch
from reference import losses as reference
from torch import Tensor
from torch.testing import assert_close

from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.atss import ATSSAssigner
from glipkit.modeling.box_coder import BoxCoder
from glipkit.modeling.criterion import Assignment, Criterion
from glipkit.modeling.glip import GroundingOutput
from glipkit.modeling.head.contrastive import ContrastiveAlignment
from glipkit.modeling.head.masked_language import MaskedLanguageHead
from glipkit.modeling.head.predictor import LevelPrediction
from glipkit.modeling.language.features import TextFeatures
from glipkit.structures.prompts import PromptBatch
from glipkit.structures.targets import GroundingTarget

C, D, T, WORDS = 3, 4, 8, 13
GRID = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]  # of a 64 x 96 picture
ANCHORS = AnchorGenerator()(GRID)
BOXES = torch.tensor([[5.2, 8.1, 70.3, 60.4], [30.5, 3.7, 55.1, 33.3], [1.3, 2.2, 20.1, 17.4]])


def make_prompts(lengths: Sequence[int] = (6, 8)) -> PromptBatch:
    """Two phrases each: tokens 1 and 2 (one of them twice), and token 4."""
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    tokens = torch.zeros(2, T, dtype=torch.int64)
    tokens[0, 1:3], tokens[0, 2], tokens[1, 4] = 1, 2, 1
    return PromptBatch(mask.long(), mask, (tokens,) * len(lengths))


def target(boxes: Tensor, answers: list[list[int]]) -> GroundingTarget:
    phrases = torch.zeros(len(boxes), 2, dtype=torch.bool)
    for box, row in enumerate(answers):
        phrases[box, row] = True
    return GroundingTarget(boxes, phrases, image_id=17)


TARGETS = [target(BOXES[:2], [[0], [0, 1]]), target(BOXES[2:], [[1]])]
EMPTY = target(torch.zeros(0, 4), [])


def make_output(mask: Tensor, dtype: torch.dtype = torch.float64) -> GroundingOutput:
    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype).requires_grad_()

    B = len(mask)
    levels = [
        LevelPrediction(random(B, h * w, T), random(B, h * w, 4), random(B, h * w)) for h, w in GRID
    ]
    text = TextFeatures(random(B, T, D), random(B, T, D), mask)
    return GroundingOutput(tuple(levels), ANCHORS, tuple(random(B, C, h, w) for h, w in GRID), text)


def leaves(output: GroundingOutput) -> list[Tensor]:
    every = [tensor for level in output.levels for tensor in level]
    return [*every, *output.features, output.text.hidden]


def judge(
    criterion: Criterion,
    output: GroundingOutput,
    prompts: PromptBatch,
    targets: list[GroundingTarget],
    words: Tensor | None = None,
) -> tuple[dict[str, Tensor], Assignment]:
    assignment = criterion.assign(output.anchors, targets, prompts, words)
    return criterion(output, prompts, targets, assignment, assignment.totals, words), assignment


def token_loss_by_loops(
    output: GroundingOutput,
    prompts: PromptBatch,
    targets: list[GroundingTarget],
    assignment: Assignment,
    *,
    naming_only: bool = False,
) -> float:
    total = 0.0
    logits = torch.cat([level.token_logits for level in output.levels], dim=1)
    for picture in range(len(targets)):
        spelt = prompts.phrase_tokens[picture] > 0
        lit = [spelt[row].any(dim=0).tolist() for row in targets[picture].box_phrases]
        own = zip(assignment.anchors[picture].tolist(), assignment.boxes[picture].tolist())
        owner = dict(own)
        for anchor, row in enumerate(logits[picture].tolist()):
            background = [token == T - 1 for token in range(T)]
            truth = lit[owner[anchor]] if anchor in owner else background
            for token in range(T):
                counts = bool(output.text.mask[picture, token])
                if naming_only:
                    counts = counts and any(of_box[token] for of_box in lit)
                if counts:
                    total += reference.focal(row[token], truth[token], 0.25, 2.0)
    return total


def box_losses_by_loops(
    output: GroundingOutput, targets: list[GroundingTarget], assignment: Assignment
) -> tuple[float, float, float]:
    """Sums of centerness (1 - GIoU), of centerness' cross-entropy, and of centerness."""
    coder, anchors = BoxCoder(), torch.cat(ANCHORS).double()
    box = entropy = central = 0.0
    deltas = torch.cat([level.box_deltas for level in output.levels], dim=1)
    logits = torch.cat([level.centerness for level in output.levels], dim=1)
    for picture, target in enumerate(targets):
        for anchor, owner in zip(
            assignment.anchors[picture].tolist(), assignment.boxes[picture].tolist()
        ):
            own, truth = anchors[anchor][None], target.boxes[owner].tolist()
            predicted = coder.decode(deltas[picture, anchor][None], own)[0].tolist()
            middle = ((own[:, :2] + own[:, 2:]) / 2)[0].tolist()
            share = reference.centerness(truth, middle)
            box += share * (1 - reference.giou(predicted, truth))
            p = 1 / (1 + math.exp(-logits[picture, anchor].item()))
            entropy -= share * math.log(p) + (1 - share) * math.log(1 - p)
            central += share
    return box, entropy, central


@pytest.mark.parametrize("naming_only", [False, True])
def test_losses_are_their_definition(naming_only: bool) -> None:
    """The second caption fills all tokens: there the background lights up the last one."""
    criterion = Criterion(
        ATSSAssigner(), token_weight=1.5, box_weight=3.0, max_tokens=T,
        only_naming_tokens=naming_only,
    )  # fmt: skip
    prompts = make_prompts()
    output = make_output(prompts.token_mask)
    losses, assignment = judge(criterion, output, prompts, TARGETS)
    positives, central, _ = assignment.totals.tolist()
    assert positives == sum(map(len, assignment.anchors)) > 10
    assert losses.keys() == {"token", "box", "centerness"}

    token = token_loss_by_loops(output, prompts, TARGETS, assignment, naming_only=naming_only)
    box, entropy, own_central = box_losses_by_loops(output, TARGETS, assignment)
    # Targets are made in float32, the precision of boxes and anchors.
    assert central == pytest.approx(own_central, rel=1e-5)
    assert losses["token"].item() == pytest.approx(1.5 * token / positives, rel=1e-10)
    assert losses["box"].item() == pytest.approx(3 * box / central, rel=1e-5)
    assert losses["centerness"].item() == pytest.approx(entropy / positives, rel=1e-5)


def test_the_last_token_is_that_of_a_full_caption() -> None:
    """Text that is trimmed to T tokens has no place for "no object"; rounded up beyond, it has."""
    prompts = make_prompts((T, T))
    output = make_output(prompts.token_mask)
    values = {
        limit: judge(Criterion(ATSSAssigner(), max_tokens=limit), output, prompts, TARGETS)[0]
        for limit in (256, T, T - 1)
    }
    assert len({losses["token"].item() for losses in values.values()}) == 3
    # Where that token is masked, nothing of it is left.
    shorter = make_prompts((T - 1, T - 1))
    output = output._replace(text=output.text._replace(mask=shorter.token_mask))
    for limit in (256, T):
        other, _ = judge(Criterion(ATSSAssigner(), max_tokens=limit), output, shorter, TARGETS)
        values[limit] = other
    assert_close(values[256]["token"], values[T]["token"])


def test_the_mask_of_the_features_counts() -> None:
    """MASK_SPECIAL hides tokens that the prompt shows."""
    prompts = make_prompts()
    output = make_output(prompts.token_mask)
    hidden = output.text.mask.clone()
    hidden[:, 0] = False
    output = output._replace(text=output.text._replace(mask=hidden))
    losses, assignment = judge(Criterion(ATSSAssigner(), max_tokens=T), output, prompts, TARGETS)
    expected = token_loss_by_loops(output, prompts, TARGETS, assignment)
    assert losses["token"].item() == pytest.approx(expected / assignment.totals[0].item())


def full_criterion() -> Criterion:
    return Criterion(
        ATSSAssigner(),
        max_tokens=T,
        contrastive=ContrastiveAlignment(C, text_dim=D, hidden_dim=2),
        contrastive_weight=0.5,
        masked_language=MaskedLanguageHead(D, vocabulary_size=WORDS),
        masked_language_weight=0.3,
    ).double()


def make_words() -> Tensor:
    words = torch.full((2, T), -100)
    words[0, 1], words[1, 2], words[1, 4] = 3, 5, 12
    return words


def test_contrast_sees_the_positive_anchors() -> None:
    criterion, prompts = full_criterion(), make_prompts()
    output = make_output(prompts.token_mask)
    losses, assignment = judge(criterion, output, prompts, TARGETS, make_words())
    positions = torch.cat([level.flatten(2).mT for level in output.features], dim=1)
    features = [positions[picture, own] for picture, own in enumerate(assignment.anchors)]
    lit = torch.zeros(2, 3, T, dtype=torch.bool)  # picture, box, token
    lit[0, 0, 1:3] = lit[0, 1, 1:3] = lit[0, 1, 4] = lit[1, 0, 4] = True
    named = [lit[picture, boxes] for picture, boxes in enumerate(assignment.boxes)]
    loss = criterion.contrastive.loss(features, output.text.hidden, named, output.text.mask)
    assert_close(losses["contrastive"], 0.5 * loss / assignment.totals[0])


def test_hidden_words_are_counted_and_guessed() -> None:
    criterion, prompts, words = full_criterion(), make_prompts(), make_words()
    output = make_output(prompts.token_mask)
    losses, assignment = judge(criterion, output, prompts, TARGETS, words)
    assert assignment.totals[2] == 3
    loss = criterion.masked_language.loss(output.text.hidden, words)
    assert_close(losses["mlm"], 0.3 * loss / 3)


def test_a_batch_is_its_pieces() -> None:
    """Divided by what is common to all, pieces add up: losses and gradients (DESIGN 5)."""
    criterion, prompts, words = full_criterion(), make_prompts(), make_words()
    output = make_output(prompts.token_mask)
    whole, assignment = judge(criterion, output, prompts, TARGETS, words)
    sum(whole.values()).backward()
    every = [*leaves(output), *criterion.parameters()]
    expected = [tensor.grad for tensor in every]
    for tensor in every:
        tensor.grad = None

    pieces, totals = [], torch.zeros(3, dtype=torch.float64)
    for index in range(2):
        own = slice(index, index + 1)
        piece = PromptBatch(
            prompts.token_ids[own], prompts.token_mask[own], prompts.phrase_tokens[own]
        )
        part = criterion.assign(ANCHORS, TARGETS[own], piece, words[own])
        totals += part.totals
        pieces.append((own, piece, part))
    assert_close(totals, assignment.totals)
    added = dict.fromkeys(whole, 0.0)
    for own, piece, part in pieces:
        of_piece = GroundingOutput(
            tuple(LevelPrediction(*(x[own] for x in level)) for level in output.levels),
            ANCHORS,
            tuple(level[own] for level in output.features),
            TextFeatures(*(x[own] for x in output.text)),
        )
        losses = criterion(of_piece, piece, TARGETS[own], part, totals, words[own])
        sum(losses.values()).backward()
        added = {name: added[name] + losses[name].item() for name in whole}
    assert added == pytest.approx({name: loss.item() for name, loss in whole.items()}, rel=1e-12)
    for tensor, gradient in zip(every, expected):
        assert_close(tensor.grad, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("targets", [[EMPTY, EMPTY], [EMPTY, TARGETS[1]]], ids=["all", "one"])
def test_pictures_without_boxes(targets: list[GroundingTarget]) -> None:
    """All of such a picture is background; every loss is finite and reaches everything."""
    criterion, prompts = full_criterion(), make_prompts()
    output = make_output(prompts.token_mask)
    words = torch.full((2, T), -100)
    losses, assignment = judge(criterion, output, prompts, targets, words)
    positives = max(assignment.totals[0].item(), 1)
    expected = token_loss_by_loops(output, prompts, targets, assignment) / positives
    assert losses["token"].item() == pytest.approx(expected)
    if targets[1] is EMPTY:
        assert assignment.totals.tolist() == [0, 0, 0]
        assert {n: x.item() for n, x in losses.items() if n != "token"} == dict.fromkeys(
            ("box", "centerness", "contrastive", "mlm"), 0
        )
    sum(losses.values()).backward()
    for tensor in (*leaves(output), *criterion.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_normalisers_below_one_are_one() -> None:
    """One process of many may find a share of a positive (BEHAVIOUR 13)."""
    criterion, prompts, words = full_criterion(), make_prompts(), make_words()
    output = make_output(prompts.token_mask)
    assignment = criterion.assign(ANCHORS, TARGETS, prompts, words)
    small = criterion(output, prompts, TARGETS, assignment, torch.full((3,), 0.25), words)
    one = criterion(output, prompts, TARGETS, assignment, torch.ones(3), words)
    for name in ("token", "centerness", "contrastive", "mlm"):
        assert_close(small[name], one[name])
    assert_close(small["box"], 4 * one["box"])  # a sum of shares has no such floor


def test_low_precision_is_judged_in_float32() -> None:
    criterion, prompts, words = full_criterion().float(), make_prompts(), make_words()
    output = make_output(prompts.token_mask, torch.bfloat16)
    exact = GroundingOutput(
        tuple(LevelPrediction(*(x.float() for x in level)) for level in output.levels),
        ANCHORS,
        tuple(level.float() for level in output.features),
        output.text._replace(hidden=output.text.hidden.float()),
    )
    expected, _ = judge(criterion, exact, prompts, TARGETS, words)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, _ = judge(criterion, output, prompts, TARGETS, words)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert_close(loss, expected[name], rtol=1e-5, atol=1e-6)


def test_arguments_that_do_not_agree() -> None:
    criterion, prompts = full_criterion(), make_prompts()
    output = make_output(prompts.token_mask)
    with pytest.raises(ValueError, match="1 targets came with 2 prompts"):
        criterion.assign(ANCHORS, TARGETS[:1], prompts)
    three = GroundingTarget(BOXES[:1], torch.ones(1, 3, dtype=torch.bool), 17)
    with pytest.raises(ValueError, match=r"boxes of image 17 answer 3 phrases.* prompt has 2"):
        criterion.assign(ANCHORS, [three, EMPTY], prompts)
    with pytest.raises(ValueError, match=r"hidden_words must be \(2, 8\).*got \(2, 7\)"):
        criterion.assign(ANCHORS, TARGETS, prompts, make_words()[:, 1:])
    assignment = criterion.assign(ANCHORS, TARGETS, prompts)
    with pytest.raises(ValueError, match="without hidden words"):
        criterion(output, prompts, TARGETS, assignment, assignment.totals)
    one = assignment._replace(anchors=assignment.anchors[:1])
    with pytest.raises(ValueError, match="2 pictures and an assignment for 1"):
        criterion(output, prompts, TARGETS, one, assignment.totals)
