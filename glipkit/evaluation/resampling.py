"""How far a difference between two evaluations can be trusted: a paired bootstrap over pictures.

Pictures are drawn with replacement, as many as there are, and both evaluations are judged on the
same draw; the spread of the difference over many draws is its interval (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13: percentile intervals). What the boxes found is
known from the start, so a draw is no more than a weight for each picture: how often it came.

Of few pictures such intervals are too narrow: of one they are a point, whatever chance did to it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

LEAST_PICTURES = 10  # that a figure is measured on, or it gets no interval


class Weighable(Protocol):
    """An evaluation whose pictures can be given weights: everything is matched already.

    Weight 1 for every picture gives the figures of the evaluation itself, weight 2 what they would
    be if the picture were twice in the dataset, 0 if it were not there.
    """

    names: tuple[str, ...]  # M figures, as in results.json
    num_pictures: int  # N
    num_classes: int  # K that have a figure of their own; 0 for captions
    rows_at_once: int  # draws that are worth judging together
    # (M,) and (K,) int64: how many pictures have something that the figure is measured on.
    measured_on: tuple[np.ndarray, np.ndarray]

    def figures(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The figures of R draws.

        Args:
            weights: (R, N) int64, by the dataset's order of pictures.

        Returns:
            (R, M) and, for each class, (R, K) float64; NaN where there is nothing to measure.
        """
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """Between these lies the given share of all draws."""

    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether all of it lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Spread:
    """Intervals of differences; None where nothing, or too little, is measured."""

    metrics: dict[str, Interval | None]
    classes: tuple[Interval | None, ...]


def draws(num_pictures: int, count: int, *, seed: int, at_once: int) -> Iterator[np.ndarray]:
    """How often each picture comes in each draw: `count` rows, (at most `at_once`, N) int64 each.

    The same for the same seed, however many come at once.

    Args:
        num_pictures: N.
        count: of draws.
        seed: of the random numbers.
        at_once: draws that are yielded together, at most.
    """
    random = np.random.default_rng(seed)
    for start in range(0, count, at_once):
        yield np.stack(
            [
                np.bincount(random.integers(0, num_pictures, num_pictures), minlength=num_pictures)
                for _ in range(min(at_once, count - start))
            ]
        )


def paired_spreads(
    evaluations: Sequence[Weighable],
    *,
    resamples: int,
    seed: int = 0,
    level: float = 0.95,
    least_pictures: int = LEAST_PICTURES,
) -> list[Spread]:
    """Intervals of the differences between each further evaluation and the first.

    Args:
        evaluations: two or more of the same pictures, with the same figures.
        resamples: draws of pictures.
        seed: of the draws.
        level: share of the draws that an interval holds.
        least_pictures: figures that are measured on fewer get no interval.

    Returns:
        One for each evaluation but the first: its figures minus those of the first.

    Raises:
        ValueError: there are no pictures, a number is outside its range, or the evaluations are
            not of the same pictures, figures and classes.
    """
    first, *others = evaluations
    if resamples < 1 or not 0 < level < 1 or not first.num_pictures:
        raise ValueError(
            "a bootstrap needs pictures, at least 1 resample and a level between 0 and 1, got "
            f"{first.num_pictures} pictures, {resamples} resamples, level {level}"
        )
    for other in others:
        if _shape(other) != _shape(first):
            raise ValueError(
                "the evaluations have not the same pictures, figures and classes: "
                f"{_shape(first)} and {_shape(other)}"
            )
    at_once = min(each.rows_at_once for each in evaluations)
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in others]
    for weights in draws(first.num_pictures, resamples, seed=seed, at_once=at_once):
        base = first.figures(weights)
        for part, other in zip(parts, others):
            figures = other.figures(weights)
            part.append((figures[0] - base[0], figures[1] - base[1]))
    spreads = []
    for part in parts:
        metrics, classes = (
            _intervals(np.concatenate(each), level, counts >= least_pictures)
            for each, counts in zip(zip(*part), first.measured_on)
        )
        spreads.append(Spread(dict(zip(first.names, metrics)), classes))
    return spreads


def _shape(evaluation: Weighable) -> tuple[int, tuple[str, ...], int]:
    return evaluation.num_pictures, evaluation.names, evaluation.num_classes


def _intervals(
    differences: np.ndarray, level: float, enough: np.ndarray
) -> tuple[Interval | None, ...]:
    """One for each column; draws without the figure (no object of a class came) are left out."""
    ends = [50 * (1 - level), 50 * (1 + level)]
    found: list[Interval | None] = []
    for column, is_enough in zip(differences.T, enough):
        known = column[~np.isnan(column)]
        some = is_enough and len(known)
        found.append(Interval(*np.percentile(known, ends).tolist()) if some else None)
    return tuple(found)
