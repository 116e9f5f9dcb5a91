"""From raw predictions to boxes: who is a candidate, who survives, what is reported."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glipkit.grounding.alignment import AGGREGATIONS, phrase_scores
from glipkit.modeling.box_coder import BoxCoder
from glipkit.modeling.glip import GroundingOutput
from glipkit.ops.nms import nms
from glipkit.structures.boxes import clip
from glipkit.structures.detections import Detections


class Postprocessor:
    """Decides which predictions are detections (BEHAVIOUR 10).

    On each level: a phrase's score at an anchor is an aggregate of its tokens' probabilities. Where
    it is above `score_threshold` the anchor is a candidate for the phrase; candidates are ranked by
    score x centerness, the best `pre_nms_top_n` are decoded and clipped to the picture, and
    sqrt(score x centerness) is what is reported. Then, over all levels: suppression among boxes of
    the same phrase, and a cap. Everything is computed in float32, whatever the model ran in.

    NaN is never a detection: neither a phrase score, nor a centerness, nor a box.

    Args:
        score_threshold: in [0, 1], before centerness (MODEL.ATSS.INFERENCE_TH).
        pre_nms_top_n: candidates kept per level and picture (MODEL.ATSS.PRE_NMS_TOP_N).
        nms_threshold: a box goes when its IoU with a better one is above (MODEL.ATSS.NMS_TH).
        detections_per_image: how many are reported; all that tie with the last one are. 0 or less
            reports all (MODEL.ATSS.DETECTIONS_PER_IMG).
        aggregation: "MEAN", "MAX", "POWER" or "ONEHOT", see `phrase_scores`
            (MODEL.DYHEAD.SCORE_AGG).
        box_coder: reads the box deltas.

    Raises:
        ValueError: a number is outside its range, or the aggregation is unknown.
    """

    def __init__(
        self,
        *,
        score_threshold: float = 0.05,
        pre_nms_top_n: int = 1000,
        nms_threshold: float = 0.6,
        detections_per_image: int = 100,
        aggregation: str = "MEAN",
        box_coder: BoxCoder | None = None,
    ) -> None:
        if aggregation not in AGGREGATIONS:
            raise ValueError(
                f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}"
            )
        for name, value in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        if pre_nms_top_n < 1:
            raise ValueError(f"pre_nms_top_n must be at least 1, got {pre_nms_top_n}")
        self.score_threshold = score_threshold
        self.pre_nms_top_n = pre_nms_top_n
        self.nms_threshold = nms_threshold
        self.detections_per_image = detections_per_image
        self.aggregation = aggregation
        self.box_coder = box_coder or BoxCoder()

    def __call__(
        self,
        output: GroundingOutput,
        phrase_tokens: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        """The detections of B pictures.

        Args:
            output: of the model, B pictures.
            phrase_tokens: for each picture (P, T) int64; every picture may have its own phrases.
            image_sizes: for each picture (height, width) without padding.

        Returns:
            One per picture, best score first, in pixels of the resized, un-padded picture, on the
            device of the output.

        Raises:
            ValueError: the three arguments do not agree on B.
        """
        num_images = len(output.levels[0].token_logits)
        if not len(phrase_tokens) == len(image_sizes) == num_images:
            raise ValueError(
                f"the output has {num_images} pictures, but {len(phrase_tokens)} phrase matrices "
                f"and {len(image_sizes)} image sizes came with it"
            )
        device = output.levels[0].token_logits.device
        # Thresholds are compared in float32, so no matrix product may be lowered here.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return [
                self._detect(output, image, tokens.to(device), size)
                for image, (tokens, size) in enumerate(zip(phrase_tokens, image_sizes))
            ]

    def _detect(
        self, output: GroundingOutput, image: int, phrase_tokens: Tensor, size: tuple[int, int]
    ) -> Detections:
        levels = [
            self.level_candidates(
                level.token_logits[image],
                level.box_deltas[image],
                level.centerness[image],
                anchors,
                phrase_tokens,
                size,
            )
            for level, anchors in zip(output.levels, output.anchors)
        ]
        found = Candidates(*(torch.cat(values) for values in zip(*levels)))
        kept = nms(found.boxes, found.scores, found.phrase_ids, self.nms_threshold, plus_one=True)
        found = Candidates(*(values[kept] for values in found))
        kept = best(found.scores, self.detections_per_image)
        return Detections(*(values[kept] for values in found), image_size=size)

    def level_candidates(
        self,
        token_logits: Tensor,
        box_deltas: Tensor,
        centerness: Tensor,
        anchors: Tensor,
        phrase_tokens: Tensor,
        image_size: tuple[int, int],
    ) -> "Candidates":
        """What one pyramid level of one picture proposes, before any suppression.

        Args:
            token_logits: (A, T), before the sigmoid.
            box_deltas: (A, 4).
            centerness: (A,), before the sigmoid.
            anchors: (A, 4).
            phrase_tokens: (P, T) int64.
            image_size: (height, width) without padding.

        Returns:
            At most `pre_nms_top_n` candidates.
        """
        probabilities = token_logits.float().sigmoid()
        scores = phrase_scores(probabilities, phrase_tokens, self.aggregation)  # (A, P)
        centerness = centerness.float().sigmoid()
        centerness = centerness.nan_to_num(nan=-1.0)  # ranks last, and is dropped below
        anchor_ids, phrase_ids = (scores > self.score_threshold).nonzero(as_tuple=True)  # (N,) each
        ranks = scores[anchor_ids, phrase_ids] * centerness[anchor_ids]
        if len(ranks) > self.pre_nms_top_n:
            ranks, best_ids = ranks.topk(self.pre_nms_top_n)
            anchor_ids, phrase_ids = anchor_ids[best_ids], phrase_ids[best_ids]
        boxes = self.box_coder.decode(box_deltas[anchor_ids].float(), anchors[anchor_ids].float())
        boxes = clip(boxes, image_size)
        has_size = (boxes[:, 2:] - boxes[:, :2] + 1 >= 0).all(dim=1)  # False for NaN as well
        kept = has_size & (ranks >= 0)
        return Candidates(boxes[kept], ranks[kept].sqrt(), phrase_ids[kept])


class Candidates(NamedTuple):
    """N boxes that may become detections, in no particular order."""

    boxes: Tensor  # (N, 4) float32
    scores: Tensor  # (N,) float32 in [0, 1]
    phrase_ids: Tensor  # (N,) int64


def best(scores: Tensor, limit: int) -> Tensor:
    """Which detections to report: the best `limit`, and all that tie with the last of them.

    Args:
        scores: (N,).
        limit: 0 or less keeps all.

    Returns:
        (K,) int64 indices, in the order they came.
    """
    if limit <= 0 or len(scores) <= limit:
        return torch.arange(len(scores), device=scores.device)
    last = scores.topk(limit).values[-1]
    return (scores >= last).nonzero()[:, 0]
