"""What anything that judges detections looks like."""

from collections.abc import Collection, Container
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from glipkit.structures.detections import Detections


@dataclass(frozen=True, slots=True)
class ClassFigure:
    """The main figure of one class; None where the class has no ground truth."""

    category_id: int
    name: str
    value: float | None
    value50: float | None = None  # the same where half an overlap is enough


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an evaluator found.

    Figures lie in [0, 1]; None means that there is nothing to measure (no ground truth).
    """

    metrics: dict[str, float | None]
    per_class: tuple[ClassFigure, ...]
    table: str  # the figures as people know them
    counts: dict[str, int] = field(default_factory=dict)  # what the figures are means of
    details: dict[str, Any] = field(default_factory=dict)  # whatever else is worth keeping, as JSON


class Evaluator(Protocol):
    """Collects the detections of a dataset and judges them together."""

    metric: str  # what is computed, by which protocol

    def process(self, image_id: int, detections: Detections) -> None:
        """Take the detections of one picture, in its original pixels."""
        ...

    def predictions(self) -> Collection[dict[str, Any]]:
        """Everything taken so far, in the field's own result format."""
        ...

    def evaluate(self) -> Judgement:
        """Judge everything taken so far."""
        ...


@runtime_checkable
class MergingEvaluator(Evaluator, Protocol):
    """An evaluator that keeps only what it judges, for detections that would fill the memory.

    Every process fills one with its share of the pictures; rank 0 merges them and judges.
    """

    def share(self) -> Any:
        """What was taken so far, as plain data that can be sent to another process."""
        ...

    def merge(self, share: Any) -> None:
        """Take over the `share` of another process."""
        ...


def check_picture(
    image_id: int, name: str, *, known: Container[int], taken: Container[int]
) -> None:
    """Refuse detections of a picture that is strange, or was judged already.

    Args:
        image_id: of the picture.
        name: of the dataset, for messages.
        known: ids of its pictures.
        taken: of those that were judged.

    Raises:
        ValueError: the dataset has no such picture, or it was taken already.
    """
    if image_id not in known:
        raise ValueError(
            f"{name} has no image with the id {image_id!r}; were these detections made for "
            "another file?"
        )
    if image_id in taken:
        raise ValueError(f"image {image_id} was judged already")


def check_answers(image_id: int, detections: Detections, *, num_phrases: int) -> None:
    """Refuse detections that nobody can judge.

    Args:
        image_id: of the picture, for messages.
        detections: of one picture.
        num_phrases: how many phrases were asked.

    Raises:
        ValueError: a box or score is not finite, or a phrase was not asked.
    """
    if not (detections.boxes.isfinite().all() and detections.scores.isfinite().all()):
        raise ValueError(f"the detections of image {image_id} are not finite; the model is broken")
    phrases = detections.phrase_ids.tolist()
    if phrases and not 0 <= min(phrases) <= max(phrases) < num_phrases:
        raise ValueError(
            f"the detections of image {image_id} answer phrases {min(phrases)} to {max(phrases)}, "
            f"but {num_phrases} were asked"
        )
