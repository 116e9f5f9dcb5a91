"""Several evaluations beside the first of them: what `glipkit compare` says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glipkit.evaluation.resampling import LEAST_PICTURES, Interval, Spread, paired_spreads
from glipkit.evaluation.results_file import Difference, ResultsFile, read_results, refuse
from glipkit.programs.judged import NotJudgedAgain, weigh
from glipkit.runtime.settings import flatten_settings


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of all evaluations; differences are to the first one."""

    name: str
    values: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...]  # of each difference; None where there is none

    @property
    def differences(self) -> tuple[float | None, ...]:
        """Of each further evaluation to the first."""
        first, *others = self.values
        return tuple(None if None in (first, each) else each - first for each in others)

    @property
    def largest_change(self) -> float:
        """The largest difference, without its sign; -1 if there is none."""
        return max((abs(each) for each in self.differences if each is not None), default=-1.0)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "values": list(self.values),
            "differences": list(self.differences),
            "intervals": [None if each is None else [each.low, each.high]
                          for each in self.intervals],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """What there is to say about two evaluations or more."""

    files: tuple[ResultsFile, ...]
    differing: tuple[tuple[Difference, ...], ...]  # of each further one, allowed by the caller
    metrics: tuple[Row, ...]
    classes: tuple[Row, ...]  # the largest change first
    resamples: int  # 0: no intervals at all
    seed: int
    level: float
    without: str | None  # why there are no intervals
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "files": [
                {
                    "path": str(each.path),
                    "dataset": each.content["dataset"],
                    "num_images": each.content["num_images"],
                    "weights": each.content["protocol"].get("weights"),
                }
                for each in self.files
            ],
            "protocol_differences": [
                {each.field: list(each.values) for each in differing}
                for differing in self.differing
            ],
            "metrics": [row.to_json() for row in self.metrics],
            "per_class": [row.to_json() for row in self.classes],
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "level": self.level,
                "least_pictures": LEAST_PICTURES,
                "left_out": self.without,
            },
            "notes": list(self.notes),
        }


def compare_results(
    paths: Sequence[Path],
    *,
    varied: Sequence[str] = (),
    anyway: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    annotations: Path | None = None,
) -> Comparison:
    """Read results files and set them side by side.

    Args:
        paths: results.json of two evaluations or more, or their folders; differences are to the
            first.
        varied: fields of the protocol that may differ.
        anyway: all of them may.
        resamples: of the pictures, for intervals, 2 / (1 - level) at least; 0 makes none.
        seed: of the draws, 0 or more.
        level: share of the draws that an interval holds.
        annotations: the annotation file, if it is not where config.yaml says.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is not usable, named twice, or of another protocol, dataset or measure.
    """
    if len(paths) < 2:
        raise ValueError("a comparison takes two results files or more, got one")
    _check_draws(resamples, seed, level)
    files = [read_results(path) for path in paths]
    _refuse_twice(files)
    first, *others = files
    differing = [tuple(refuse(first, each, varied=varied, anyway=anyway)) for each in others]
    spreads, without = None, "not asked for (--resamples 0)"
    if resamples:
        try:
            names = _in_common(files)
            weighed = [weigh(each, names, annotations=annotations) for each in files]
            spreads = paired_spreads(weighed, resamples=resamples, seed=seed, level=level)
            without = None
        except NotJudgedAgain as error:
            without = str(error)
    return Comparison(
        files=tuple(files),
        differing=tuple(differing),
        metrics=_metric_rows(files, spreads),
        classes=_class_rows(files, spreads),
        resamples=0 if spreads is None else resamples,
        seed=seed,
        level=level,
        without=without,
        notes=tuple(_notes(files)),
    )


def _check_draws(resamples: int, seed: int, level: float) -> None:
    if not 0 < level < 1 or seed < 0:
        raise ValueError(
            f"expected a level between 0 and 1 and a seed of 0 or more, got {level} and {seed}"
        )
    least = math.ceil(2 / (1 - level) - 1e-9)
    if resamples != 0 and resamples < least:
        raise ValueError(
            f"expected 0 resamples, or {least} at least for a level of {level:g}: both ends of an "
            f"interval need draws beyond them; got {resamples}"
        )


def _refuse_twice(files: Sequence[ResultsFile]) -> None:
    seen: dict[Path, Path] = {}
    for each in files:
        place = each.path.resolve()
        if place in seen:
            raise ValueError(
                f"{each.path} and {seen[place]} are the same file; name results of two evaluations"
            )
        seen[place] = each.path


def _in_common(files: Sequence[ResultsFile]) -> list[str]:
    """Names of the figures that all have."""
    return [name for name in files[0].metrics if all(name in each.metrics for each in files)]


def _metric_rows(files: Sequence[ResultsFile], spreads: list[Spread] | None) -> tuple[Row, ...]:
    return tuple(
        Row(
            name,
            tuple(each.metrics[name] for each in files),
            tuple(spread.metrics.get(name) for spread in spreads or ())
            or (None,) * (len(files) - 1),
        )
        for name in _in_common(files)
    )


def _class_rows(files: Sequence[ResultsFile], spreads: list[Spread] | None) -> tuple[Row, ...]:
    """By the ids of classes: their names may be what is compared."""
    classes = [each.per_class for each in files]
    rows = []
    for place, key in enumerate(classes[0]):
        if not all(key in each for each in classes):
            continue
        names, values = zip(*(each[key] for each in classes))
        intervals = tuple(
            spread.classes[place] if place < len(spread.classes) else None
            for spread in spreads or ()
        )
        name = " / ".join(dict.fromkeys(names))
        rows.append(Row(name, values, intervals or (None,) * (len(files) - 1)))
    return tuple(sorted(rows, key=lambda row: -row.largest_change))


def _notes(files: Sequence[ResultsFile]) -> list[str]:
    """What a reader should know besides figures."""
    first, notes = files[0], []
    for other in files[1:]:
        if other.failures != first.failures:
            notes.append(
                f"{first.path}: {len(first.failures)} pictures could not be read; {other.path}: "
                f"{len(other.failures)}. Not the same ones, and their boxes count as missed"
            )
        same_weights = first.protocol.get("weights") == other.protocol.get("weights")
        if same_weights and first.protocol == other.protocol:
            notes.append(f"{other.path} has the weights and the protocol of {first.path}")
        one, two = (flatten_settings(each.content.get("versions") or {}) for each in (first, other))
        if changed := [name for name in {**one, **two} if one.get(name) != two.get(name)]:
            said = ", ".join(f"{name} {one.get(name)} and {two.get(name)}" for name in changed)
            notes.append(f"versions differ: {said}")
    return notes
