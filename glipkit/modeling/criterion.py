"""The judge: what the model said, and the truth, as losses.

Two steps. `assign` says which anchors should find which box, from boxes alone; its totals can then
be summed over processes and over the pieces of an accumulated batch. `forward` divides by them, so
that the gradients of all pieces together are those of one large batch (BEHAVIOUR 12, 13).

The published model also reports a `loss_cls`, the focal loss of its unused class logits times 0. It
is left out: it is zero, and those logits are never computed here.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from glipkit.grounding.alignment import token_targets
from glipkit.layers.losses import (
    TokenTargets,
    centerness_targets,
    generalized_iou,
    token_focal_loss,
)
from glipkit.layers.numerics import at_least_float32
from glipkit.modeling.atss import ATSSAssigner
from glipkit.modeling.box_coder import BoxCoder
from glipkit.modeling.glip import GroundingOutput
from glipkit.modeling.head.contrastive import ContrastiveAlignment
from glipkit.modeling.head.masked_language import MaskedLanguageHead, count_hidden
from glipkit.structures.prompts import PromptBatch
from glipkit.structures.targets import GroundingTarget


class Assignment(NamedTuple):
    """Which anchors are positive, and what they should say. K differs from picture to picture."""

    anchors: tuple[Tensor, ...]  # B times (K,) int64 over all levels, ascending
    boxes: tuple[Tensor, ...]  # B times (K,) int64, the box that each should find
    deltas: tuple[Tensor, ...]  # B times (K, 4), that box as `BoxCoder` encodes it
    centerness: tuple[Tensor, ...]  # B times (K,) in [0, 1]
    # (3,) float64: positive anchors, sum of their centerness, hidden words; of these pictures.
    # To be summed over all that makes up one step.
    totals: Tensor


class _Truth(NamedTuple):
    """What one picture should say about its tokens."""

    tokens: Tensor  # (K, T) bool, what each positive anchor should light up
    selected: Tensor  # (T,) bool, tokens that count


class Criterion(nn.Module):
    """Token alignment, boxes and centerness; on request hidden words and contrast (BEHAVIOUR 13).

    Args:
        assigner: anchors and boxes -> positives.
        alpha: weight of matching pairs in the focal loss (TOKEN_ALPHA).
        gamma: its focusing exponent (TOKEN_GAMMA).
        token_weight: factor of the alignment loss (DOT_PRODUCT_TOKEN_LOSS_WEIGHT).
        box_weight: factor of the GIoU loss (ATSS.REG_LOSS_WEIGHT).
        max_tokens: length of a full caption (MAX_QUERY_LEN). The last token of a caption that fills
            it stands for "no object": background lights it up.
        only_naming_tokens: tokens that name no box of the picture stay out of the alignment loss
            (MLM_OBJ_FOR_ONLY_POSITIVE).
        contrastive: the contrastive alignment, if wanted.
        contrastive_weight: its factor.
        masked_language: the head that guesses hidden words, if wanted.
        masked_language_weight: the factor of its loss.
    """

    def __init__(
        self,
        assigner: ATSSAssigner,
        *,
        alpha: float = 0.25,
        gamma: float = 2.0,
        token_weight: float = 1.0,
        box_weight: float = 2.0,
        max_tokens: int = 256,
        only_naming_tokens: bool = False,
        contrastive: ContrastiveAlignment | None = None,
        contrastive_weight: float = 1.0,
        masked_language: MaskedLanguageHead | None = None,
        masked_language_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.assigner = assigner
        self.box_coder = BoxCoder()
        self.alpha = alpha
        self.gamma = gamma
        self.token_weight = token_weight
        self.box_weight = box_weight
        self.max_tokens = max_tokens
        self.only_naming_tokens = only_naming_tokens
        self.contrastive = contrastive
        self.contrastive_weight = contrastive_weight
        self.masked_language = masked_language
        self.masked_language_weight = masked_language_weight

    @torch.no_grad()
    def assign(
        self,
        anchors: Sequence[Tensor],
        targets: Sequence[GroundingTarget],
        prompts: PromptBatch,
        hidden_words: Tensor | None = None,
    ) -> Assignment:
        """Which anchors should find which box. Nothing of the model is needed.

        Args:
            anchors: (H*W, 4) of each level, as `GLIP.anchor_levels` gives them.
            targets: B of them, on the anchors' device. Pictures without boxes are all background.
            prompts: B of them.
            hidden_words: (B, T) int64 or None, as in `forward`.

        Raises:
            ValueError: the targets do not fit the prompts, or the hidden words their tokens.
        """
        _check(targets, prompts, hidden_words)
        every = torch.cat(tuple(anchors))
        matches = [self.assigner(anchors, target.boxes) for target in targets]
        deltas, centerness = [], []
        for match, target in zip(matches, targets):
            own = every[match.anchors]
            encoded = self.box_coder.encode(target.boxes[match.boxes], own)
            # Measured in the box that the head would draw if it were right (BEHAVIOUR 13).
            drawn = self.box_coder.decode(encoded, own)
            deltas.append(encoded)
            centerness.append(centerness_targets(drawn, (own[:, :2] + own[:, 2:]) / 2))
        totals = (
            sum(len(match.anchors) for match in matches),
            torch.cat(centerness).sum(dtype=torch.float64),
            0 if hidden_words is None else count_hidden(hidden_words),
        )
        return Assignment(
            tuple(match.anchors for match in matches),
            tuple(match.boxes for match in matches),
            tuple(deltas),
            tuple(centerness),
            torch.stack([torch.as_tensor(t, dtype=torch.float64).to(every.device) for t in totals]),
        )

    def forward(
        self,
        output: GroundingOutput,
        prompts: PromptBatch,
        targets: Sequence[GroundingTarget],
        assignment: Assignment,
        normalisers: Tensor,
        hidden_words: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The losses of B pictures.

        Args:
            output: of the model.
            prompts: B of them, as the model read them.
            targets: B of them.
            assignment: of these pictures.
            normalisers: (3,), `Assignment.totals` summed over all processes and all pieces of an
                accumulated batch, and divided by the number of processes.
            hidden_words: (B, T) int64, the token that stood where a word was hidden, -100
                elsewhere. Only a criterion with a head for them reads it.

        Returns:
            "token", "box", "centerness" and, where built, "contrastive" and "mlm": scalars, already
            weighted, whose sum is the loss. Finite and connected to every parameter also when no
            anchor is positive and no word hidden. In float32 at least, also under autocast.

        Raises:
            ValueError: the arguments do not agree on B, P or T, or hidden words are missing.
        """
        _check(targets, prompts, hidden_words)
        logits = output.levels[0].token_logits
        if len(logits) != len(targets) or len(assignment.anchors) != len(targets):
            raise ValueError(
                f"{len(targets)} targets came with an output for {len(logits)} pictures and an "
                f"assignment for {len(assignment.anchors)}"
            )
        with torch.autocast(logits.device.type, enabled=False):
            normalisers = normalisers.to(at_least_float32(logits).dtype)
            positives, words = normalisers[0].clamp(min=1), normalisers[2].clamp(min=1)
            rows = _rows_by_level(assignment.anchors, [len(level) for level in output.anchors])
            truths = self._truths(output, prompts, targets, assignment)
            box, centerness = self._localisation(output, assignment, normalisers[1])
            losses = {
                "token": self.token_weight * self._alignment(output, rows, truths) / positives,
                "box": self.box_weight * box,
                "centerness": centerness / positives,
            }
            if self.contrastive is not None:
                loss = self.contrastive.loss(
                    _features_at(output.features, rows),
                    output.text.hidden,
                    [truth.tokens for truth in truths],
                    output.text.mask,
                )
                losses["contrastive"] = self.contrastive_weight * loss / positives
            if self.masked_language is not None:
                if hidden_words is None:
                    raise ValueError(
                        "the masked-language loss is on (FUSE_CONFIG.MLM_LOSS), but the batch came "
                        "without hidden words; turn it off or hide words while loading"
                    )
                loss = self.masked_language.loss(output.text.hidden, hidden_words)
                losses["mlm"] = self.masked_language_weight * loss / words
        return losses

    def _truths(
        self,
        output: GroundingOutput,
        prompts: PromptBatch,
        targets: Sequence[GroundingTarget],
        assignment: Assignment,
    ) -> list[_Truth]:
        truths = []
        for target, phrase_tokens, boxes, visible in zip(
            targets, prompts.phrase_tokens, assignment.boxes, output.text.mask
        ):
            of_box = token_targets(target.box_phrases, phrase_tokens)  # (N, T)
            if self.only_naming_tokens:
                visible = visible & of_box.any(dim=0)
            truths.append(_Truth(of_box[boxes], visible))
        return truths

    def _alignment(
        self,
        output: GroundingOutput,
        rows: Sequence[Sequence[Tensor]],
        truths: Sequence[_Truth],
    ) -> Tensor:
        """The focal loss of all anchors with all tokens, summed."""
        mask = output.text.mask
        background = torch.arange(mask.shape[1], device=mask.device) == self.max_tokens - 1
        counts = [[len(of_picture) for of_picture in of_level] for of_level in rows]
        tokens = [truth.tokens.split(list(sizes)) for truth, sizes in zip(truths, zip(*counts))]
        total = 0
        for index, level in enumerate(output.levels):
            of_level = [
                TokenTargets(own_rows, own_tokens[index], background, truth.selected)
                for own_rows, own_tokens, truth in zip(rows[index], tokens, truths)
            ]
            total = total + token_focal_loss(
                level.token_logits, of_level, alpha=self.alpha, gamma=self.gamma
            )
        return total

    def _localisation(
        self, output: GroundingOutput, assignment: Assignment, all_centerness: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The box loss, normalised, and the centerness loss, summed; both of positives alone."""
        where = _pictures(assignment.anchors), torch.cat(assignment.anchors)
        deltas = torch.cat([level.box_deltas for level in output.levels], dim=1)[where]
        central = torch.cat([level.centerness for level in output.levels], dim=1)[where]
        deltas, central = at_least_float32(deltas), at_least_float32(central)
        anchors = torch.cat(output.anchors)[where[1]].to(deltas.dtype)
        truth = torch.cat(assignment.deltas).to(deltas.dtype)
        share = torch.cat(assignment.centerness).to(deltas.dtype)

        overlap = generalized_iou(
            self.box_coder.decode(deltas, anchors), self.box_coder.decode(truth, anchors)
        )
        # No centerness in all the batch: then every term of the sum is 0 as well.
        divisor = torch.where(all_centerness > 0, all_centerness, 1)
        box = (share * (1 - overlap)).sum() / divisor
        return box, binary_cross_entropy_with_logits(central, share, reduction="sum")


def _rows_by_level(anchors: Sequence[Tensor], sizes: Sequence[int]) -> list[list[Tensor]]:
    """For each level and each picture: positive anchors (K,), counted from the level's first."""
    starts = [0, *accumulate(sizes)]
    found: list[list[Tensor]] = [[] for _ in sizes]
    for of_picture in anchors:
        ends = torch.searchsorted(of_picture, of_picture.new_tensor(starts)).tolist()
        for level, (first, last) in enumerate(pairwise(ends)):
            found[level].append(of_picture[first:last] - starts[level])
    return found


def _features_at(levels: Sequence[Tensor], rows: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """For each picture the features (K, C) of its positive anchors, in ascending order."""
    found, pictures = [], []
    for level, of_level in zip(levels, rows):
        picture = _pictures(of_level)
        found.append(level.flatten(2).mT[picture, torch.cat(tuple(of_level))])
        pictures.append(picture)
    order = torch.cat(pictures).argsort(stable=True)
    counts = [sum(map(len, of_picture)) for of_picture in zip(*rows)]
    return torch.cat(found)[order].split(counts)


def _pictures(of_pictures: Sequence[Tensor]) -> Tensor:
    """Which picture each element of the tensors (K,) belongs to, for all of them in a row."""
    return torch.cat([torch.full_like(one, index) for index, one in enumerate(of_pictures)])


def _check(
    targets: Sequence[GroundingTarget], prompts: PromptBatch, hidden_words: Tensor | None
) -> None:
    if len(targets) != len(prompts):
        raise ValueError(f"{len(targets)} targets came with {len(prompts)} prompts")
    for target, phrase_tokens in zip(targets, prompts.phrase_tokens):
        if target.box_phrases.shape[1] != len(phrase_tokens):
            raise ValueError(
                f"the boxes of image {target.image_id} answer {target.box_phrases.shape[1]} "
                f"phrases, but its prompt has {len(phrase_tokens)}"
            )
    if hidden_words is not None and hidden_words.shape != prompts.token_ids.shape:
        raise ValueError(
            f"hidden_words must be {tuple(prompts.token_ids.shape)}, as the tokens are, got "
            f"{tuple(hidden_words.shape)}"
        )
