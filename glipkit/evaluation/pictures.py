"""Annotated pictures of an evaluation: what was found, and what should have been."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from glipkit.data.images import ImageError, read_image
from glipkit.data.test_set import TestSet
from glipkit.structures.boxes import from_xywh
from glipkit.structures.detections import Detections
from glipkit.visualize import contact_sheet, draw

_BOXES_SHOWN = 10  # more than that and nobody can read the picture


def save_pictures(
    test_set: TestSet, folder: Path, *, count: int, score_threshold: float = 0.3
) -> Path | None:
    """Draw the first pictures of a test set with their predictions and, dashed, the truth.

    Args:
        test_set: pictures and names.
        folder: where `evaluate` left predictions.json; pictures go to `folder`/pictures/, and all
            of them together to `folder`/pictures.png.
        count: how many pictures; 0 draws nothing.
        score_threshold: boxes below this are left out; at most the 10 best are drawn.

    Returns:
        The sheet with all pictures; None when there is none.
    """
    predictions = json.loads((folder / "predictions.json").read_text()) if count > 0 else []
    dataset = test_set.dataset
    ground_truth = dataset.ground_truth() if count > 0 else []
    drawn = []
    for index, record in enumerate(dataset.images[: max(count, 0)]):
        try:
            image = read_image(dataset.path(index), record.size)
        except ImageError:
            continue  # the evaluation has named and counted it
        truth = [each for each in ground_truth if each["image_id"] == record.image_id]
        found = [each for each in predictions if each["image_id"] == record.image_id]
        found = sorted(found, key=lambda each: -each["score"])[:_BOXES_SHOWN]
        picture = draw(
            image,
            _detections(found, test_set, record.size),
            [category.name for category in dataset.categories],
            score_threshold=score_threshold,
            truth=_detections(truth, test_set, record.size),
        )
        path = folder / "pictures" / f"{Path(record.file_name).stem}_{record.image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        drawn.append(picture)
    if not drawn:
        return None
    sheet = folder / "pictures.png"
    contact_sheet(drawn).save(sheet)
    return sheet


def _detections(
    annotations: Sequence[Mapping[str, Any]], test_set: TestSet, size: tuple[int, int]
) -> Detections:
    """COCO annotations or results as detections; what has no score is certain."""
    phrases = {category: phrase for phrase, category in enumerate(test_set.category_ids)}
    known = [each for each in annotations if each["category_id"] in phrases]
    boxes = torch.tensor([each["bbox"] for each in known], dtype=torch.float32).reshape(-1, 4)
    return Detections(
        boxes=from_xywh(boxes),
        scores=torch.tensor([each.get("score", 1.0) for each in known], dtype=torch.float32),
        phrase_ids=torch.tensor([phrases[each["category_id"]] for each in known]).long(),
        image_size=size,
    )
