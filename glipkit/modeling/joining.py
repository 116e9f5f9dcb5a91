"""What several looks at one picture found, as one answer: NMS, box voting, soft-NMS."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glipkit.modeling.postprocess import best
from glipkit.ops.nms import nms
from glipkit.structures.boxes import iou
from glipkit.structures.detections import Detections

# TEST.SPECIAL_NMS -> (suppression, boxes are voted)
METHODS = {
    "none": ("hard", False),
    "vote": ("hard", True),
    "soft-nms": ("linear", False),
    "soft-nms-gaussian": ("gaussian", False),
    "soft-vote": ("linear", True),
}
LEAST_SCORE = 0.001  # soft-NMS drops nothing by itself: a score that decayed below this goes
_ROWS_AT_ONCE = 256  # kept boxes whose voters are looked for together: bounds the memory


class Joiner:
    """Joins the answers of several views of one picture, phrase by phrase.

    Widths count pixels, x2 - x1 + 1, as in the model's own suppression (BEHAVIOUR 10). Methods:

    * "none": greedy suppression among boxes of the same phrase, as within a view. A single view is
      left as it is.
    * "vote": the same; each box that stays is moved to the mean of all boxes of its phrase that
      overlap it by more than the threshold, weighted by score x IoU (box voting: Gidaris and
      Komodakis, "Object detection via a multi-region and semantic segmentation-aware CNN model",
      ICCV 2015, who weight by score alone: here a box that lies half beside says less).
    * "soft-nms": the best box of a phrase is taken, those that overlap it by more than the
      threshold have their scores multiplied by 1 - IoU, and so on (Bodla et al., "Soft-NMS",
      ICCV 2017, linear, where an overlap of just the threshold counts, too).
    * "soft-nms-gaussian": the same with exp(-IoU^2 / sigma) for all boxes (same paper).
    * "soft-vote": scores of "soft-nms", boxes of "vote".

    Args:
        method: TEST.SPECIAL_NMS, one of these.
        iou_threshold: TEST.TH.
        sigma: TEST.SOFT_NMS_SIGMA, of the Gaussian.
        limit: boxes reported for each prompt (MODEL.ATSS.DETECTIONS_PER_IMG); all that tie with the
            last one are, 0 or less reports all.

    Raises:
        ValueError: the method is unknown, or a number is outside its range.
    """

    def __init__(
        self,
        *,
        method: str = "none",
        iou_threshold: float = 0.6,
        sigma: float = 0.5,
        limit: int = 100,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if not 0 <= iou_threshold <= 1:
            raise ValueError(f"iou_threshold must lie in [0, 1], got {iou_threshold}")
        if not sigma > 0:
            raise ValueError(f"sigma must be above 0, got {sigma}")
        self.method = method
        self.suppression, self.votes = METHODS[method]
        self.iou_threshold = iou_threshold
        self.sigma = sigma
        self.limit = limit

    @property
    def wants_all(self) -> bool:
        """Whether views should hand over boxes that nothing was suppressed among."""
        return self.method != "none"

    def __call__(self, views: Sequence[Detections], counts: Sequence[int]) -> Detections:
        """One answer.

        Args:
            views: of one picture, on the CPU, in its original pixels; at least one.
            counts: for each prompt of the picture, how many phrases it has.

        Returns:
            Best score first.
        """
        boxes = torch.cat([view.boxes for view in views]).float()
        scores = torch.cat([view.scores for view in views]).float()
        phrase_ids = torch.cat([view.phrase_ids for view in views])
        if self.method == "none" and len(views) == 1:
            kept = torch.arange(len(scores))
            final = scores
        elif self.suppression == "hard":
            kept = nms(boxes, scores, phrase_ids, self.iou_threshold, plus_one=True)
            final = scores[kept]
        else:
            kept, final = self._softly(boxes, scores, phrase_ids)
        order = final.argsort(descending=True, stable=True)
        order = order[self._within_limit(final[order], phrase_ids[kept[order]], counts)]
        kept, final = kept[order], final[order]
        moved = self._voted(boxes, scores, phrase_ids, kept) if self.votes else boxes[kept]
        return Detections(moved, final, phrase_ids[kept], views[0].image_size)

    def _within_limit(self, scores: Tensor, phrase_ids: Tensor, counts: Sequence[int]) -> Tensor:
        """(N,) bool: the best of each prompt's answers, as within a view; scores best first."""
        taken = torch.zeros(len(scores), dtype=torch.bool)
        end = 0
        for count in counts:
            start, end = end, end + count
            of_prompt = ((phrase_ids >= start) & (phrase_ids < end)).nonzero()[:, 0]
            taken[of_prompt] = best(scores[of_prompt][None], self.limit)[0] >= 0
        return taken

    def _softly(self, boxes: Tensor, scores: Tensor, phrase_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes that soft-NMS takes, with their decayed scores."""
        kept, final = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0)]
        for phrase in phrase_ids.unique().tolist():
            own = (phrase_ids == phrase).nonzero()[:, 0]
            taken, values = self._soft_one(boxes[own], scores[own].numpy().copy())
            kept.append(own[taken])
            final.append(torch.tensor(values, dtype=torch.float32))
        return torch.cat(kept), torch.cat(final)

    def _soft_one(self, boxes: Tensor, left: np.ndarray) -> tuple[list[int], list[float]]:
        """Soft-NMS among the boxes of one phrase; `left` (N,) are their scores, used up here.

        What is taken falls in score, so once `limit` boxes are, nothing worse can be reported.
        """
        taken: list[int] = []
        values: list[float] = []
        while len(left):
            place = int(left.argmax())  # the first of equals
            value = float(left[place])
            full = 0 < self.limit <= len(values)
            if value < LEAST_SCORE or (full and value < values[self.limit - 1]):
                break
            taken.append(place)
            values.append(value)
            overlap = iou(boxes[place : place + 1], boxes, plus_one=True)[0].numpy()
            left *= self._decay(overlap)
            left[place] = -1
        return taken, values

    def _decay(self, overlap: np.ndarray) -> np.ndarray:
        """(N,) what is left of scores beside a box that was taken."""
        if self.suppression == "gaussian":
            return np.exp(-(overlap**2) / self.sigma)
        return np.where(overlap > self.iou_threshold, 1 - overlap, 1)

    def _voted(self, boxes: Tensor, scores: Tensor, phrase_ids: Tensor, kept: Tensor) -> Tensor:
        """(K, 4): where the boxes of a phrase see each box that stays."""
        moved = boxes[kept].clone()
        for phrase in phrase_ids[kept].unique().tolist():
            voters = (phrase_ids == phrase).nonzero()[:, 0]
            places = (phrase_ids[kept] == phrase).nonzero()[:, 0]
            for rows in places.split(_ROWS_AT_ONCE):
                overlap = iou(boxes[kept[rows]], boxes[voters], plus_one=True).double()
                votes = (overlap > self.iou_threshold) | (kept[rows, None] == voters)
                weights = overlap * scores[voters].double() * votes
                total = weights.sum(dim=1, keepdim=True)
                mean = (weights / total @ boxes[voters].double()).float()
                moved[rows] = mean.where(total > 0, moved[rows])  # 0: a score of 0 moves nothing
        return moved
