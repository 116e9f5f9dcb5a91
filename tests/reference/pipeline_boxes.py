"""From predictions to boxes as the published pipeline does it (BEHAVIOUR 8, 9, 10).

Suppression is torchvision's, class by class. It measures widths as x2 - x1, the published code as
x2 - x1 + 1; moving both lower right edges by 1 turns the one into the other, so boxes go in moved.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms


class Level(NamedTuple):
    """Of one picture."""

    logits: Tensor  # (HW, T)
    deltas: Tensor  # (HW, 4)
    centerness: Tensor  # (HW,)
    anchors: Tensor  # (HW, 4)


class Rules(NamedTuple):
    """TEST and ATSS keys of the published configuration."""

    score_threshold: float
    pre_nms_top_n: int
    nms_threshold: float
    detections_per_image: int
    aggregation: str
    columns: int = 80  # at least; TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM where it is set


def level_anchors(
    size: tuple[int, int], stride: int, side: int, device: torch.device | str
) -> Tensor:
    """(HW, 4) float32, made anew in every pass."""
    y, x = (torch.arange(n, device=device, dtype=torch.float32) * stride for n in size)
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 4)
    centre, reach = (stride - 1) / 2, (side - 1) / 2
    return shifts + shifts.new_tensor([centre - reach] * 2 + [centre + reach] * 2)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    widths = anchors[:, 2] - anchors[:, 0] + 1
    heights = anchors[:, 3] - anchors[:, 1] + 1
    x = deltas[:, 0] / 10 * widths + (anchors[:, 0] + anchors[:, 2]) / 2
    y = deltas[:, 1] / 10 * heights + (anchors[:, 1] + anchors[:, 3]) / 2
    limit = math.log(1000 / 16)
    w = torch.exp((deltas[:, 2] / 5).clamp(max=limit)) * widths
    h = torch.exp((deltas[:, 3] / 5).clamp(max=limit)) * heights
    corners = (x - 0.5 * (w - 1), y - 0.5 * (h - 1), x + 0.5 * (w - 1), y + 0.5 * (h - 1))
    return torch.stack(corners, dim=1)


def class_scores(probabilities: Tensor, phrase_tokens: Tensor, rules: Rules) -> Tensor:
    """(HW, T) and (P, T) to (HW, columns), label by label; labels that do not exist stay 0."""
    columns = max(rules.columns, len(phrase_tokens))
    scores = probabilities.new_zeros(len(probabilities), columns)
    if rules.aggregation == "ONEHOT":
        scores[:, : len(phrase_tokens)] = probabilities[:, : len(phrase_tokens)]
        return scores
    everyone = torch.arange(phrase_tokens.shape[1], device=phrase_tokens.device)
    for label, counts in enumerate(phrase_tokens):
        tokens = probabilities[:, everyone.repeat_interleave(counts)]
        if rules.aggregation == "MEAN":
            scores[:, label] = tokens.mean(-1)  # NaN without tokens: above no threshold
        elif rules.aggregation == "MAX":
            scores[:, label] = tokens.max(-1).values
        else:
            scores[:, label] = tokens.prod(-1) ** (1 / tokens.shape[1])
    return scores


def candidates(
    level: Level, phrase_tokens: Tensor, size: tuple[int, int], rules: Rules
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and phrase numbers of one level; `size` is (height, width)."""
    scores = class_scores(level.logits.sigmoid(), phrase_tokens, rules)
    chosen = scores > rules.score_threshold
    count = min(int(chosen.sum()), rules.pre_nms_top_n)
    scores = scores * level.centerness.sigmoid().unsqueeze(1)
    positions, labels = chosen.nonzero().unbind(1)
    scores, best = scores[chosen].topk(count, sorted=False)
    positions, labels = positions[best], labels[best]
    boxes = decode(level.deltas[positions], level.anchors[positions])
    height, width = size
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width - 1)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height - 1)
    kept = ((boxes[:, 2:] - boxes[:, :2] + 1) >= 0).all(1)
    return boxes[kept], scores[kept].sqrt(), labels[kept]


def detect(
    levels: Sequence[Level], phrase_tokens: Tensor, size: tuple[int, int], rules: Rules
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, 4), scores (N,) and phrase numbers (N,) of one picture."""
    parts = zip(*(candidates(level, phrase_tokens, size, rules) for level in levels))
    boxes, scores, labels = (torch.cat(part) for part in parts)
    moved = boxes + boxes.new_tensor([0, 0, 1, 1])
    kept = []
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        kept.append(own[nms(moved[own], scores[own], rules.nms_threshold)])
    kept = torch.cat(kept).sort().values if kept else labels  # in candidate order
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    limit = rules.detections_per_image
    if len(scores) > limit > 0:
        last = scores.kthvalue(len(scores) - limit + 1).values
        kept = scores >= last
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    return boxes, scores, labels
