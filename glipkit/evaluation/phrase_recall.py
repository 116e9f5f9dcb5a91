"""Phrase recall: is a right box among the first few that a phrase of a caption got?"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glipkit.data.datasets.captioned_pictures import CaptionedPictures
from glipkit.evaluation.coco_results import decimals
from glipkit.evaluation.evaluator import Judgement, check_answers
from glipkit.structures.boxes import iou
from glipkit.structures.detections import Detections

RANKS = (1, 5, 10)
IOU = 0.5  # from which on a box is a right one


def first_hit(found: Tensor, truth: Tensor) -> int | None:
    """Which of the boxes found is the first right one, counted from 1; None if none is.

    A box is right when its IoU with any box of the truth, plain geometry without + 1, is at least
    0.5: the "any" protocol of Flickr30k Entities (BEHAVIOUR 15).

    Args:
        found: (N, 4) x1 y1 x2 y2, best first.
        truth: (M, 4).
    """
    if not len(found) or not len(truth):
        return None
    right = (iou(found.double(), truth.double(), plus_one=False) >= IOU).any(dim=1)
    return int(right.int().argmax()) + 1 if right.any() else None


def recall_at(hits: Sequence[int | None], count: int | None) -> float | None:
    """The share of phrases with a right box among their first ones; None without phrases.

    Args:
        hits: `first_hit` of each phrase.
        count: how many of a phrase's boxes are looked at; None looks at all.
    """
    if not hits:
        return None
    right = [hit for hit in hits if hit is not None and (count is None or hit <= count)]
    return len(right) / len(hits)


class PhraseRecall:
    """Judges what was found for the phrases of captions: R@1, R@5 and R@10, every phrase the same.

    A picture without detections counts: its phrases are missed. Phrases that have no box are left
    out. The boxes that are judged are those of `predictions()`.
    """

    metric = f'phrase recall, "any" protocol (IoU >= {IOU} with any box of the phrase)'

    def __init__(self, dataset: CaptionedPictures) -> None:
        self.dataset = dataset
        self._index = {image.image_id: index for index, image in enumerate(dataset.images)}
        self._results: dict[int, list[dict[str, Any]]] = {}

    def process(self, image_id: int, detections: Detections) -> None:
        """Take the detections of one picture, in its original pixels.

        Args:
            image_id: of the picture's first record.
            detections: their phrase ids run on over the captions of the picture.

        Raises:
            ValueError: the dataset has no such picture, it was taken already, or the detections
                are not finite or answer a phrase that was not asked.
        """
        if image_id not in self._index:
            raise ValueError(f"{self.dataset.name} has no image with the id {image_id!r}")
        if image_id in self._results:
            raise ValueError(f"image {image_id} was judged already")
        asked = [
            (caption.record_id, phrase)
            for caption in self.dataset.captions(self._index[image_id])
            for phrase in range(len(caption.boxes))
        ]
        check_answers(image_id, detections, num_phrases=len(asked))
        order = detections.scores.argsort(descending=True, stable=True)
        self._results[image_id] = [
            {"image_id": asked[number][0], "phrase": asked[number][1], "box": box, "score": score}
            for number, box, score in zip(
                detections.phrase_ids[order].tolist(),
                decimals(detections.boxes[order]),
                decimals(detections.scores[order]),
            )
        ]

    def predictions(self) -> list[dict[str, Any]]:
        """Everything found, by the dataset's order of pictures, best first.

        "image_id" is that of the image record with the caption, "phrase" counts its phrases from
        0, "box" is x1, y1, x2, y2 in pixels.
        """
        return [
            result
            for image in self.dataset.images
            for result in self._results.get(image.image_id, ())
        ]

    def evaluate(self) -> Judgement:
        """The three figures over all phrases, and how many these are."""
        found: dict[tuple[int, int], list[list[float]]] = defaultdict(list)
        for each in self.predictions():
            found[each["image_id"], each["phrase"]].append(each["box"])
        hits, num_captions = [], 0
        for index in range(len(self.dataset)):
            for caption in self.dataset.captions(index):
                num_captions += 1
                for phrase, truth in enumerate(caption.boxes):
                    if len(truth):
                        boxes = torch.tensor(found[caption.record_id, phrase], dtype=torch.float64)
                        hits.append(first_hit(boxes.reshape(-1, 4), truth))
        figures = {f"R@{rank}": recall_at(hits, rank) for rank in RANKS}
        return Judgement(
            metrics=figures,
            per_class=(),
            table=_table(figures, len(hits), num_captions),
            counts={"phrases": len(hits), "captions": num_captions},
        )


def _table(figures: dict[str, float | None], num_phrases: int, num_captions: int) -> str:
    lines = [f" Recall of {num_phrases} phrases in {num_captions} captions, any box of a phrase,"]
    lines[0] += f" IoU >= {IOU:.2f}"
    for name, value in figures.items():
        lines.append(f"  {name:<5} = {'n/a' if value is None else f'{value:.3f}'}")
    return "\n".join(lines)
