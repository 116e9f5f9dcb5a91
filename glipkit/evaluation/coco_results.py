"""Detections in COCO's result format."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from glipkit.evaluation.evaluator import check_answers
from glipkit.structures.boxes import to_xywh
from glipkit.structures.detections import Detections

_POWERS = 10.0 ** np.arange(13)


def to_coco_results(
    image_id: int, detections: Detections, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """One picture's detections as COCO results, in their order.

    Boxes become x, y, width, height with width = x2 - x1 + 1, counted in the original picture, as
    the published export does (BEHAVIOUR 10).

    Args:
        image_id: the picture's id in its annotation file.
        detections: in the picture's original pixels.
        category_ids: phrase id -> category id.

    Raises:
        ValueError: a box or score is not finite, or a phrase id has no category.
    """
    check_answers(image_id, detections, num_phrases=len(category_ids))
    boxes, scores = detections.boxes.float(), detections.scores.float()
    phrases = detections.phrase_ids.tolist()
    return [
        {"image_id": image_id, "category_id": category_ids[phrase], "bbox": box, "score": score}
        for phrase, box, score in zip(
            phrases, decimals(to_xywh(boxes, plus_one=True)), decimals(scores)
        )
    ]


def decimals(values: Tensor) -> list:
    """Nested lists of the shortest decimals that read back as the same float32."""
    return shortest(values.float().numpy()).tolist()


def shortest(values: np.ndarray) -> np.ndarray:
    """float64 nearest to the shortest decimals that read back as the same float32, same shape."""
    exact = values.astype(np.float32).astype(np.float64).ravel()
    result = exact.copy()
    size = np.abs(exact)
    usual = (size < 1e7) & ((size >= 1e-4) | (size == 0))
    left = np.flatnonzero(usual)
    for power in _POWERS:  # decimal by decimal; str() is many times slower
        rounded = np.rint(exact[left] * power) / power
        same = rounded.astype(np.float32) == exact[left]
        result[left[same]] = rounded[same]
        left = left[~same]
    for index in (*left.tolist(), *np.flatnonzero(~usual).tolist()):
        result[index] = float(str(np.float32(exact[index])))
    return result.reshape(values.shape)
