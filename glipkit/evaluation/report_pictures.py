"""Pictures of a report: truth beside prediction, small enough to be part of one file."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.images import ImageError, read_image
from glipkit.evaluation.report_matches import Boxes, image_ids
from glipkit.structures.detections import Detections
from glipkit.visualize import draw, side_by_side

_SIDE = 520  # pixels of the longer side of each half
_QUALITY = 82  # of JPEG


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of a report."""

    file_name: str
    error: float  # of `picture_errors`
    num_truth: int
    num_found: int  # boxes that are shown
    source: str  # a data URI; empty if the picture could not be read
    reason: str  # why not


def extremes(errors: np.ndarray, weights: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """The worst and the best pictures, half of `count` each, none of them twice.

    Args:
        errors: (I,) of `picture_errors`, NaN for pictures that are left out.
        weights: (I,) boxes that are right, wrong or missing; of equal errors, those with more
            come first.
        count: pictures altogether.

    Returns:
        Indices of the worst, the worst first, and of the best, the best first.
    """
    known = np.flatnonzero(~np.isnan(errors))
    by_error = known[np.lexsort((known, -weights[known], errors[known]))]
    worst_first = known[np.lexsort((known, -weights[known], -errors[known]))]
    worst = worst_first[: min((count + 1) // 2, (len(known) + 1) // 2)].tolist()
    best = [index for index in by_error.tolist() if index not in set(worst)]
    return worst, best[: count // 2]


def show(
    dataset: CocoDetection,
    truth: Boxes,
    found: Boxes,
    errors: np.ndarray,
    chosen: Sequence[int],
    *,
    threshold: float,
) -> list[Shown]:
    """Draw the chosen pictures.

    Args:
        dataset: whose pictures.
        truth: of all pictures.
        found: of all pictures.
        errors: (I,) of all pictures.
        chosen: which to draw, counted by ascending image id.
        threshold: boxes with a lower score are left out.
    """
    place = {record.image_id: index for index, record in enumerate(dataset.images)}
    ids = image_ids(dataset)
    names = [category.name for category in dataset.categories]
    return [
        _show(dataset, place[ids[index]], truth, found, names, (index, errors[index], threshold))
        for index in chosen
    ]


def _show(
    dataset: CocoDetection,
    place: int,
    truth: Boxes,
    found: Boxes,
    names: Sequence[str],
    which: tuple[int, float, float],
) -> Shown:
    index, error, threshold = which
    record = dataset.images[place]
    wanted = _detections(truth, truth.of_image(index), record.size)
    answers = _best(_detections(found, found.of_image(index), record.size), threshold)
    about = (record.file_name, float(error), len(wanted), len(answers))
    try:
        image = read_image(dataset.path(place), record.size)
    except ImageError as problem:
        return Shown(*about, source="", reason=problem.reason)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    wanted, answers, names = _renumbered(wanted, answers, names)
    pair = side_by_side(
        draw(image, wanted, names, score_threshold=0, scores=False),
        draw(image, answers, names, score_threshold=0),
    )
    return Shown(*about, source=_data_uri(pair), reason="")


def _detections(boxes: Boxes, rows: slice, size: tuple[int, int]) -> Detections:
    corners = torch.from_numpy(boxes.corners[rows]).float()
    return Detections(
        torch.nan_to_num(corners),
        torch.from_numpy(boxes.score[rows]),
        torch.from_numpy(boxes.category[rows]),
        size,
    )


def _best(boxes: Detections, threshold: float) -> Detections:
    """Those that score at least the threshold."""
    kept = boxes.scores >= threshold
    return Detections(
        boxes.boxes[kept], boxes.scores[kept], boxes.phrase_ids[kept], boxes.image_size
    )


def _renumbered(
    wanted: Detections, answers: Detections, names: Sequence[str]
) -> tuple[Detections, Detections, list[str]]:
    """The same boxes with as few different classes as there are, since colours are few."""
    together = torch.cat([wanted.phrase_ids, answers.phrase_ids])
    classes, numbers = together.unique(return_inverse=True)
    first, second = numbers.split([len(wanted), len(answers)])
    return (
        replace(wanted, phrase_ids=first),
        replace(answers, phrase_ids=second),
        [names[index] for index in classes.tolist()],
    )


def _data_uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
