"""From raw predictions to boxes: who is a candidate, who survives, what is reported."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glipkit.grounding.alignment import AGGREGATIONS, read_phrases, reading_table
from glipkit.layers.linear import linear
from glipkit.modeling.box_coder import BoxCoder
from glipkit.modeling.glip import GroundingOutput
from glipkit.modeling.head.predictor import LevelPrediction
from glipkit.ops.nms import nms_mask
from glipkit.structures.detections import Detections


class Postprocessor:
    """Decides which predictions are detections (BEHAVIOUR 10).

    On each level: a phrase's score at an anchor is an aggregate of its tokens' probabilities. Where
    it is above `score_threshold` the anchor is a candidate for the phrase; candidates are ranked by
    score x centerness, the best `pre_nms_top_n` are decoded and clipped to the picture, and
    sqrt(score x centerness) is what is reported. Then, over all levels: suppression among boxes of
    the same phrase, and a cap. Everything is computed in float32, whatever the model ran in.

    NaN is never a detection: neither a phrase score, nor a centerness, nor a box.

    Nothing on the way depends on the data in its size, so a GPU is given all its work without being
    waited for: who is no candidate scores minus infinity, and only the answer, on the host, is cut.

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
        """The detections of B pictures: `decide`, then `collect`.

        Args:
            output: of the model, B pictures.
            phrase_tokens: for each picture (P, T) int64; every picture may have its own phrases.
                They are best left on the CPU.
            image_sizes: for each picture (height, width) without padding.

        Returns:
            One per picture, best score first, in pixels of the resized, un-padded picture, on the
            CPU.

        Raises:
            ValueError: the three arguments do not agree on B.
        """
        return self.collect(self.decide(output, phrase_tokens, image_sizes), image_sizes)

    def decide(
        self,
        output: GroundingOutput,
        phrase_tokens: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """What will be reported, on the device of the output, which is not waited for.

        Args and errors are those of `__call__`. Work on the next pictures may be given to the
        device before `collect` is called.

        Returns:
            (B, N, 6) float32: x1, y1, x2, y2, score and phrase id, best score first. Rows that
            report nothing come last and score -1.
        """
        num_images = len(output.levels[0].token_logits)
        if not len(phrase_tokens) == len(image_sizes) == num_images:
            raise ValueError(
                f"the output has {num_images} pictures, but {len(phrase_tokens)} phrase matrices "
                f"and {len(image_sizes)} image sizes came with it"
            )
        device = output.levels[0].token_logits.device
        table = _without_waiting(reading_table(phrase_tokens, self.aggregation), device)
        corners = [(width - 1.0, height - 1.0) * 2 for height, width in image_sizes]
        return self.select(output, table, _without_waiting(torch.tensor(corners), device))

    def collect(self, reports: Tensor, image_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Bring reports to the host, in one copy, and cut them to size.

        Args:
            reports: of B pictures, as `decide` makes them; here the device is waited for.
            image_sizes: as `decide` got them.

        Returns:
            As `__call__`.
        """
        reports = reports.cpu()
        counts = (reports[..., 4] >= 0).sum(dim=1).tolist()
        return [
            Detections(
                boxes=rows[:count, :4].clone(memory_format=torch.contiguous_format),
                scores=rows[:count, 4].contiguous(),
                phrase_ids=rows[:count, 5].long(),
                image_size=size,
            )
            for rows, count, size in zip(reports, counts, image_sizes)
        ]

    @torch.no_grad()
    def select(self, output: GroundingOutput, table: Tensor, corners: Tensor) -> Tensor:
        """`decide` for tensors alone, all of them on one device.

        Args:
            output: of the model, B pictures.
            table: how their phrases are read, see `reading_table`.
            corners: (B, 4) float32, (W - 1, H - 1, W - 1, H - 1), what boxes are cut to.
        """
        # Thresholds are compared in float32, so no matrix product may be lowered here.
        with torch.autocast(table.device.type, enabled=False):
            levels = [
                self.level_candidates(level, anchors, table, corners)
                for level, anchors in zip(output.levels, output.anchors)
            ]
            found = Candidates(*(torch.cat(values, dim=1) for values in zip(*levels)))
            kept = nms_mask(*found, self.nms_threshold, plus_one=True)
            scores, order = found.scores.where(kept, -1).sort(dim=1, descending=True, stable=True)
            scores = best(scores, self.detections_per_image)
            boxes = found.boxes.gather(1, order[..., None].expand_as(found.boxes))
            phrase_ids = found.phrase_ids.gather(1, order)
        return torch.cat([boxes, scores[..., None], phrase_ids[..., None]], dim=2)

    def level_candidates(
        self, level: LevelPrediction, anchors: Tensor, table: Tensor, corners: Tensor
    ) -> "Candidates":
        """What one pyramid level of B pictures proposes, before any suppression.

        Args:
            level: predictions for A anchors.
            anchors: (A, 4).
            table: as for `select`.
            corners: as for `select`.

        Returns:
            `pre_nms_top_n` candidates a picture, or all pairs of anchor and phrase if these are
            fewer.
        """
        probabilities = level.token_logits.float().sigmoid()
        scores = read_phrases(probabilities, table, self.aggregation, product=_product)
        scores = scores.nan_to_num_(nan=-1.0)  # (B, A, P)
        centerness = level.centerness.float().sigmoid()
        centerness = centerness.nan_to_num(nan=-torch.inf)[..., None]  # (B, A, 1)
        anchor_ids = self._best_anchors(scores, centerness)  # (B, K)
        scores = scores.gather(1, anchor_ids[..., None].expand(-1, -1, scores.shape[2]))
        ranks = self._ranks(scores, centerness.gather(1, anchor_ids[..., None]))  # (B, K, P)
        P = max(ranks.shape[2], 1)
        ranks, pairs = ranks.flatten(1).topk(min(self.pre_nms_top_n, ranks[0].numel()), dim=1)
        anchor_ids = anchor_ids.gather(1, pairs // P)  # (B, N)
        deltas = level.box_deltas.gather(1, anchor_ids[..., None].expand(-1, -1, 4))
        boxes = self.box_coder.decode(
            deltas.float().flatten(0, 1), anchors[anchor_ids].float().flatten(0, 1)
        ).unflatten(0, ranks.shape)
        boxes = boxes.clamp(min=0).minimum(corners[:, None])  # clip: each picture to its own size
        has_size = (boxes[..., 2:] - boxes[..., :2] + 1 >= 0).all(dim=2)  # False for NaN as well
        scores = torch.where(has_size & (ranks >= 0), ranks.sqrt(), -torch.inf)
        return Candidates(boxes, scores, pairs % P)

    def _ranks(self, scores: Tensor, centerness: Tensor) -> Tensor:
        """Scores of phrases with what they are ranked by; minus infinity for no candidate."""
        is_candidate = (scores > self.score_threshold) & (centerness >= 0)
        return torch.where(is_candidate, scores * centerness, -torch.inf)

    def _best_anchors(self, scores: Tensor, centerness: Tensor) -> Tensor:
        """Anchors (B, K) that hold the best `pre_nms_top_n` of all (B, A, P) pairs with a phrase.

        An anchor with one of these pairs has a best phrase that is among the best, too. To choose
        anchors first, then phrases, is several times as fast as to sort out all pairs.
        """
        B, A, P = scores.shape
        if self.pre_nms_top_n >= A or P == 0:
            return torch.arange(A, device=scores.device).expand(B, A)
        ranks = self._ranks(scores.amax(dim=2, keepdim=True), centerness)
        return ranks.squeeze(2).topk(self.pre_nms_top_n, dim=1).indices


class Candidates(NamedTuple):
    """N boxes for each of B pictures that may become detections, in no particular order."""

    boxes: Tensor  # (B, N, 4) float32
    scores: Tensor  # (B, N) float32 in [0, 1]; minus infinity for no candidate
    phrase_ids: Tensor  # (B, N) int64


def best(scores: Tensor, limit: int) -> Tensor:
    """Leave the best `limit` scores, and all that tie with the last of them.

    Args:
        scores: (B, N), best first.
        limit: 0 or less leaves all.

    Returns:
        (B, N), -1 in place of the others.
    """
    if limit <= 0 or scores.shape[1] <= limit:
        return scores
    return scores.where(scores >= scores[:, limit - 1 : limit], -1)


def _product(values: Tensor, weights: Tensor) -> Tensor:
    """(B, A, T) and (B, P, T) to (B, A, P): picture by picture on CPUs, where oneDNN is asked."""
    if values.device.type != "cpu":
        return values @ weights.mT
    if len(values) == 1:
        return linear(values[0], weights[0])[None]  # without the copy of a stack
    return torch.stack([linear(*one) for one in zip(values, weights)])


def _without_waiting(values: Tensor, device: torch.device) -> Tensor:
    """`values` on another device. From memory that can be paged out, a GPU would be waited for."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
