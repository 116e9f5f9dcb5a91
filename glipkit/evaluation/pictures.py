"""Annotated pictures of an evaluation: what was found, and what should have been."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glipkit.data.caption_test_set import CaptionTestSet
from glipkit.data.datasets.json_stream import json_objects
from glipkit.data.images import ImageError, read_image
from glipkit.data.test_set import ClassTestSet, TestSet
from glipkit.evaluation.drawn import PICTURES, SHEET, save_drawn
from glipkit.structures.boxes import from_xywh
from glipkit.structures.detections import Detections
from glipkit.visualize import contact_sheet, draw

_BOXES_SHOWN = 10  # more than that and nobody can read the picture
Found = Mapping[int, Sequence[Mapping[str, Any]]]  # image id -> its best predictions


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one drawn picture shows."""

    index: int  # of the picture
    number: int  # that tells it from others of the same file
    names: tuple[str, ...]  # of the phrases
    found: Detections
    truth: Detections


def save_pictures(
    test_set: TestSet, folder: Path, *, count: int, score_threshold: float = 0.3
) -> Path | None:
    """Draw the first pictures of a test set with their predictions and, dashed, the truth.

    Args:
        test_set: pictures and names.
        folder: where `evaluate` left predictions.json; pictures go to `folder`/pictures/, and all
            of them together to `folder`/pictures.png.
        count: how many; 0 draws nothing. Where pictures are asked captions, each caption has its
            own.
        score_threshold: boxes below this are left out; at most the 10 best are drawn.

    Returns:
        The sheet with all pictures; None when there is none.
    """
    if count <= 0:
        return None
    found = _best_of_each(folder / "predictions.json", score_threshold)
    by_caption = isinstance(test_set, CaptionTestSet)
    answers = (_of_captions if by_caption else _of_classes)(test_set, found)
    drawn = []
    for answer in islice(answers, count):
        record = test_set.dataset.images[answer.index]
        try:
            image = read_image(test_set.dataset.path(answer.index), record.size)
        except ImageError:
            continue  # the evaluation has named and counted it
        picture = draw(
            image, answer.found, answer.names, score_threshold=score_threshold, truth=answer.truth
        )
        path = folder / PICTURES / f"{Path(record.file_name).stem}_{answer.number}.png"
        save_drawn(picture, path)
        drawn.append(picture)
    if not drawn:
        return None
    sheet = folder / SHEET
    save_drawn(contact_sheet(drawn), sheet)
    return sheet


def _best_of_each(path: Path, score_threshold: float) -> Found:
    """What is drawn of predictions.json, by image id; LVIS's take gigabytes, so one by one."""
    found = defaultdict(list)
    for each in json_objects(path):
        if each["score"] >= score_threshold:
            boxes = found[each["image_id"]]
            boxes.append(each)
            if len(boxes) > 2 * _BOXES_SHOWN:
                boxes[:] = _best(boxes)
    return {image_id: _best(boxes) for image_id, boxes in found.items()}


def _of_classes(test_set: ClassTestSet, best: Found) -> Iterator[_Answer]:
    names = tuple(category.name for category in test_set.dataset.categories)
    phrases = {category: phrase for phrase, category in enumerate(test_set.category_ids)}
    wanted = defaultdict(list)
    for each in test_set.dataset.ground_truth():
        wanted[each["image_id"]].append(each)
    for index, record in enumerate(test_set.dataset.images):
        found, truth = (
            _detections(
                from_xywh(_rows([each["bbox"] for each in boxes])),
                [each.get("score", 1.0) for each in boxes],  # what has no score is certain
                [phrases[each["category_id"]] for each in boxes],
                record.size,
            )
            for boxes in (best.get(record.image_id, ()), wanted[record.image_id])
        )
        yield _Answer(index, record.image_id, names, found, truth)


def _of_captions(test_set: CaptionTestSet, best: Found) -> Iterator[_Answer]:
    for index, record in enumerate(test_set.dataset.images):
        for caption in test_set.dataset.captions(index):
            found = best.get(caption.record_id, ())
            owners = [number for number, boxes in enumerate(caption.boxes) for _ in boxes]
            yield _Answer(
                index=index,
                number=caption.record_id,
                names=tuple(phrase.text for phrase in caption.prompt.phrases),
                found=_detections(
                    _rows([each["box"] for each in found]),
                    [each["score"] for each in found],
                    [each["phrase"] for each in found],
                    record.size,
                ),
                truth=_detections(
                    torch.cat(caption.boxes).float(), [1.0] * len(owners), owners, record.size
                ),
            )


def _best(predictions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(predictions, key=lambda each: -each["score"])[:_BOXES_SHOWN]


def _rows(boxes: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def _detections(
    boxes: Tensor, scores: Sequence[float], phrase_ids: Sequence[int], size: tuple[int, int]
) -> Detections:
    return Detections(boxes, torch.tensor(scores).float(), torch.tensor(phrase_ids).long(), size)
