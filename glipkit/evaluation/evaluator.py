"""What anything that judges detections looks like."""

from dataclasses import dataclass
from typing import Any, Protocol

from glipkit.structures.detections import Detections


@dataclass(frozen=True, slots=True)
class ClassFigure:
    """The main figure of one class; None where the class has no ground truth."""

    category_id: int
    name: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an evaluator found.

    Figures lie in [0, 1]; None means that there is nothing to measure (no ground truth).
    """

    metrics: dict[str, float | None]
    per_class: tuple[ClassFigure, ...]
    table: str  # the figures as people know them


class Evaluator(Protocol):
    """Collects the detections of a dataset and judges them together."""

    def process(self, image_id: int, detections: Detections) -> None:
        """Take the detections of one picture, in its original pixels."""
        ...

    def predictions(self) -> list[dict[str, Any]]:
        """Everything taken so far, in the field's own result format."""
        ...

    def evaluate(self) -> Judgement:
        """Judge everything taken so far."""
        ...
