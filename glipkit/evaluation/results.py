"""What an evaluation found: a table for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from glipkit import __version__
from glipkit.data.sample import Failure
from glipkit.evaluation.drawn import discard_drawn
from glipkit.evaluation.evaluator import ClassFigure, Judgement
from glipkit.runtime.files import replacing, write_atomically
from glipkit.structures.figures import figure_text

_PACKAGES = ("torch", "torchvision", "transformers", "pycocotools", "faster-coco-eval",
             "pillow", "numpy")  # fmt: skip
_FAILURES_SHOWN = 10
_BLOCK = 10_000  # predictions that are text at a time
_LONGEST_NAME = 48  # of a class, in characters; results.json has it whole
_MOST_CLASSES = 400  # a table of more shows only the ends
_ENDS = 30
_ABOUT_THE_RUN = frozenset({"timing", "versions", "config"})


@dataclass(frozen=True, slots=True)
class Timing:
    """How long this run took; pictures taken over from a journal do not count."""

    seconds: float  # wall time for reading and detecting, on all processes together
    num_images: int  # pictures looked at in this run
    num_processes: int
    batch_size: int

    @property
    def seconds_per_image(self) -> float | None:
        """Wall time per picture; None when none was looked at."""
        return self.seconds / self.num_images if self.num_images else None


@dataclass(frozen=True, slots=True)
class Results:
    """The outcome of one evaluation, and everything it depends on."""

    dataset: str
    judgement: Judgement
    num_images: int  # pictures that were judged, failures included
    num_predictions: int
    failures: tuple[Failure, ...]
    depends_on: dict[str, Any]  # data, words, weights, thresholds
    config: dict[str, Any]
    timing: Timing

    @property
    def metrics(self) -> dict[str, float | None]:
        """Figures by name, such as AP and AP50."""
        return self.judgement.metrics

    def report(self) -> str:
        """A few lines for people: the table, the classes, what went wrong."""
        per_image = self.timing.seconds_per_image
        pace = f", {per_image:.3f} s per image" if per_image is not None else ""
        parts = [
            f"{self.dataset}: {self.num_images} images, {self.num_predictions} predictions{pace}",
            self.judgement.table,
            class_table(self.judgement.per_class),
        ]
        if None in self.metrics.values():
            coco = " (-1.000 above)" if "-1.000" in self.judgement.table else ""
            parts.append(f"n/a{coco}: the dataset has no box to measure this on")
        if self.failures:
            parts.append(failure_table(self.failures, self.num_images))
        return "\n".join(part for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        """Plain data for results.json."""
        return {
            "dataset": self.dataset,
            "metrics": self.metrics,
            "counts": self.judgement.counts,
            **({"details": self.judgement.details} if self.judgement.details else {}),
            "per_class": [asdict(figure) for figure in self.judgement.per_class],
            "num_images": self.num_images,
            "num_predictions": self.num_predictions,
            "failures": [
                {"image_id": each.image_id, "path": str(each.path), "reason": each.reason}
                for each in self.failures
            ],
            "protocol": self.depends_on,
            "timing": {**asdict(self.timing), "seconds_per_image": self.timing.seconds_per_image},
            "versions": versions(),
            "config": self.config,
        }

    def write(self, folder: Path, predictions: Iterable[Mapping[str, Any]]) -> None:
        """Leave results.json and predictions.json (COCO's result format) in `folder`.

        A report and pictures that were made of other results are removed.
        """
        said, path = self.to_json(), folder / "results.json"
        if not _says_the_same(path, said):
            discard_drawn(folder)
        entries = iter(predictions)
        with replacing(folder / "predictions.json") as file:
            between = b"["
            while block := list(islice(entries, _BLOCK)):
                file.write(between + json.dumps(block)[1:-1].encode())
                between = b", "
            file.write(b"]" if between == b", " else b"[]")
        write_atomically(path, json.dumps(said, indent=2) + "\n")


def _says_the_same(path: Path, said: Mapping[str, Any]) -> bool:
    """Whether results that are there already differ in nothing but how they were come by."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    own = json.loads(json.dumps({k: v for k, v in said.items() if k not in _ABOUT_THE_RUN}))
    return isinstance(found, dict) and own == {
        key: value for key, value in found.items() if key not in _ABOUT_THE_RUN
    }


def class_table(figures: Sequence[ClassFigure]) -> str:
    """AP of each class, several classes a line when there are many, the best and worst of LVIS."""
    if not figures:
        return ""
    title = " AP by class"
    if len(figures) > _MOST_CLASSES:
        known = sorted((each for each in figures if each.value is not None), key=_value)[::-1]
        shown = "classes with boxes" if len(known) <= 2 * _ENDS else "best and worst classes"
        title = f" AP by class: the {shown}, of {len(figures):,} (all are in results.json)"
        figures = known if len(known) <= 2 * _ENDS else [*known[:_ENDS], *known[-_ENDS:]]
    columns = 1 if len(figures) <= 20 else 3
    names = [_on_one_line(figure.name) for figure in figures]
    width = max(map(len, names), default=0)
    cells = [f"{name:<{width}}  {figure_text(each.value):>6}" for name, each in zip(names, figures)]
    rows = ["    ".join(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return "\n".join([title, *(f"  {row}" for row in rows)])


def failure_table(failures: Sequence[Failure], num_images: int) -> str:
    """Which pictures could not be read, and what that did to the figures."""
    rows = [f"  {failure}" for failure in failures[:_FAILURES_SHOWN]]
    if len(failures) > _FAILURES_SHOWN:
        rows.append(f"  ... and {len(failures) - _FAILURES_SHOWN} more, all in results.json")
    head = f"{len(failures)} of {num_images} images could not be read; their boxes count as missed:"
    return "\n".join([head, *rows])


def versions() -> dict[str, str | None]:
    """The versions that numbers may depend on; None for what is not installed as a package."""
    return {"glipkit": __version__, **{name: _version(name) for name in _PACKAGES}}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _value(figure: ClassFigure) -> float:
    return figure.value or 0.0


def _on_one_line(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
