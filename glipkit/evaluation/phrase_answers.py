"""What was found for the phrases of captions, and where among it the first right box stands."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glipkit.data.datasets.captioned_pictures import CaptionedPictures
from glipkit.data.datasets.judged_caption import ALL
from glipkit.evaluation.coco_results import decimals
from glipkit.evaluation.evaluator import check_answers
from glipkit.structures.boxes import iou
from glipkit.structures.detections import Detections
from glipkit.structures.figures import figure_text

RANKS = (1, 5, 10)
IOU = 0.5  # from which on a box is a right one


@dataclass(frozen=True, slots=True)
class Hit:
    """How well one phrase was found."""

    image_id: int  # of the picture
    record_id: int  # of the image record with its caption
    phrase: int  # of the caption, from 0
    groups: tuple[str, ...]  # what it is counted under besides ALL
    rank: int | None  # of the first right box, from 1; None if none is right


class PhraseAnswers:
    """Collects detections that answer the phrases of captions, as `predictions()` has them.

    Their order does not matter: equal scores are put in order of their boxes.

    Args:
        dataset: pictures, captions and boxes.
    """

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
            raise ValueError(
                f"{self.dataset.name} has no image with the id {image_id!r}; expected that of the "
                f"first record of a picture in {self.dataset.source.file.path}. Were these "
                "detections made for another file?"
            )
        if image_id in self._results:
            raise ValueError(f"image {image_id} was judged already")
        asked = [
            (caption.record_id, phrase)
            for caption in self.dataset.captions(self._index[image_id])
            for phrase in range(len(caption.boxes))
        ]
        check_answers(image_id, detections, num_phrases=len(asked))
        found = zip(
            detections.phrase_ids.tolist(), decimals(detections.boxes), decimals(detections.scores)
        )
        self._results[image_id] = [
            {"image_id": asked[number][0], "phrase": asked[number][1], "box": box, "score": score}
            for number, box, score in sorted(found, key=lambda each: (-each[2], each[0], each[1]))
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

    def hits(self) -> list[Hit]:
        """One for each phrase that has a box, in the dataset's order; not found is no hit."""
        found: dict[tuple[int, int], list[list[float]]] = defaultdict(list)
        for each in self.predictions():
            found[each["image_id"], each["phrase"]].append(each["box"])
        hits = []
        for index, image in enumerate(self.dataset.images):
            for caption in self.dataset.captions(index):
                for phrase, truth in enumerate(caption.boxes):
                    if len(truth):
                        boxes = torch.tensor(found[caption.record_id, phrase], dtype=torch.float64)
                        rank = first_hit(boxes.reshape(-1, 4), truth)
                        groups = tuple(dict.fromkeys(caption.groups[phrase]))
                        hits.append(Hit(image.image_id, caption.record_id, phrase, groups, rank))
        return hits


def first_hit(found: Tensor, truth: Tensor) -> int | None:
    """Which of the boxes found is the first right one, counted from 1; None if none is.

    A box is right when its IoU with any box of the truth, plain geometry without + 1, is at least
    0.5 (BEHAVIOUR 15).

    Args:
        found: (N, 4) x1 y1 x2 y2, best first.
        truth: (M, 4).
    """
    if not len(found) or not len(truth):
        return None
    right = (iou(found.double(), truth.double(), plus_one=False) >= IOU).any(dim=1)
    return int(right.int().argmax()) + 1 if right.any() else None


def by_group(hits: Iterable[Hit]) -> dict[str, list[int | None]]:
    """The ranks of all phrases, and those of each group unless one group is all phrases.

    A phrase of several groups counts once in each (BEHAVIOUR 15).
    """
    ranks: dict[str, list[int | None]] = {ALL: []}
    groups: dict[str, list[int | None]] = defaultdict(list)
    for hit in hits:
        ranks[ALL].append(hit.rank)
        for group in hit.groups:
            groups[group].append(hit.rank)
    if len(groups) == 1 and ranks[ALL] in groups.values():
        return ranks
    return ranks | dict(sorted(groups.items()))


def share_within(ranks: Sequence[int | None], count: int | None) -> float | None:
    """The share of phrases with a right box among their first ones; None without phrases.

    Args:
        ranks: of the first right box of each phrase.
        count: how many of a phrase's boxes are looked at; None looks at all.
    """
    if not ranks:
        return None
    right = [rank for rank in ranks if rank is not None and (count is None or rank <= count)]
    return len(right) / len(ranks)


def figures(
    ranks: dict[str, list[int | None]], columns: dict[str, int | None]
) -> dict[str, float | None]:
    """Every figure by name: "R@1" of all phrases, "R@1/people" of a group.

    Args:
        ranks: as `by_group` gives them.
        columns: name of a figure -> how many boxes are looked at; None: all.
    """
    return {
        name if group == ALL else f"{name}/{group}": share_within(each, count)
        for group, each in ranks.items()
        for name, count in columns.items()
    }


def table(
    title: str, ranks: dict[str, list[int | None]], columns: dict[str, int | None], counted: str
) -> str:
    """The figures for people, a row for each group.

    Args:
        title: the first line.
        ranks: as `by_group` gives them.
        columns: as for `figures`.
        counted: what the last column counts.
    """
    width = max(map(len, ranks))
    head = "".join(f"{name:>8}" for name in columns)
    rows = [title, f"  {'':<{width}}{head}  {counted}"]
    for group, each in ranks.items():
        cells = [share_within(each, count) for count in columns.values()]
        shown = "".join(f"{figure_text(cell):>8}" for cell in cells)
        rows.append(f"  {group:<{width}}{shown}  {len(each):>{len(counted)}}")
    return "\n".join(rows)
