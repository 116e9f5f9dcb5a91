"""Answers in the forms of other libraries; what is not installed is asked for by name."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from glipkit.evaluation.coco_results import decimals

if TYPE_CHECKING:  # optional, and slow to import
    import pandas
    import supervision


def data_frame(
    boxes: Tensor,
    scores: Tensor,
    phrase_ids: Tensor,
    labels: Sequence[str],
    track_ids: Tensor | None,
    source: str | None,
) -> "pandas.DataFrame":
    """One row per box: label, phrase_id, score, x1, y1, x2, y2, source, and track_id if tracked.

    Args:
        boxes: (N, 4).
        scores: (N,).
        phrase_ids: (N,).
        labels: N texts.
        track_ids: (N,), or None.
        source: where the picture is from.

    Raises:
        ImportError: pandas is not installed.
    """
    pandas = _optional("pandas")
    columns: dict[str, Any] = {
        "label": _texts(labels),
        "phrase_id": phrase_ids.numpy(),
        "score": np.array(decimals(scores), dtype=np.float64),
    }
    corners = np.array(decimals(boxes), dtype=np.float64).reshape(-1, 4)
    columns |= {name: corners[:, index] for index, name in enumerate(("x1", "y1", "x2", "y2"))}
    columns["source"] = _texts([source] * len(labels))
    if track_ids is not None:
        columns["track_id"] = track_ids.numpy()
    return pandas.DataFrame(columns)


def _texts(values: Sequence[str | None]) -> Any:
    """A column of text; to pandas a list without entries is one of numbers."""
    return list(values) or np.array([], dtype=object)


def supervision_detections(
    boxes: Tensor,
    scores: Tensor,
    phrase_ids: Tensor,
    labels: Sequence[str],
    track_ids: Tensor | None,
) -> "supervision.Detections":
    """`class_id` is the phrase, `data["class_name"]` its text, `tracker_id` the track.

    Args:
        boxes: (N, 4).
        scores: (N,).
        phrase_ids: (N,).
        labels: N texts.
        track_ids: (N,), or None.

    Raises:
        ImportError: supervision is not installed.
    """
    supervision = _optional("supervision")
    return supervision.Detections(
        xyxy=boxes.numpy().copy(),
        confidence=scores.numpy().copy(),
        class_id=phrase_ids.numpy().copy(),
        tracker_id=None if track_ids is None else track_ids.numpy().copy(),
        data={"class_name": np.array(labels, dtype=np.str_)},
    )


def _optional(name: str) -> ModuleType:
    try:
        if name == "pandas":
            import pandas

            return pandas
        import supervision

        return supervision
    except ImportError as error:
        raise ImportError(f"{name} is not installed: pip install 'glipkit[{name}]'") from error
