"""Figures of a report: curves, average precision, what mending a kind of mistake would give."""

from dataclasses import dataclass

import numpy as np

from glipkit.evaluation.report_matches import FOREGROUND, Boxes, Kind, Matches

RECALLS = np.linspace(0, 1, 101)  # where COCO reads its curves
# Boxes of these kinds cannot be turned into right ones, only be left out.
_USELESS = (Kind.DUPLICATE, Kind.BOTH, Kind.BACKGROUND)


@dataclass(frozen=True, slots=True)
class Curves:
    """Precision at 101 recalls for C classes; NaN for classes without truth."""

    precision: np.ndarray  # (C, 101)

    @property
    def ap(self) -> np.ndarray:
        """(C,) average precision; NaN where there is no truth."""
        return self.precision.mean(axis=1)

    @property
    def mean_ap(self) -> float | None:
        """Over the classes that have truth; None if none has."""
        known = self.ap[~np.isnan(self.ap)]
        return float(known.mean()) if len(known) else None

    @property
    def mean(self) -> np.ndarray:
        """(101,) precision over the classes that have truth; zeros if none has."""
        known = self.precision[~np.isnan(self.ap)]
        return known.mean(axis=0) if len(known) else np.zeros(len(RECALLS))


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The score from which boxes are taken for true, where precision and recall balance best."""

    threshold: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def class_curves(
    category: np.ndarray, score: np.ndarray, is_correct: np.ndarray, num_truth: np.ndarray
) -> Curves:
    """A curve for each class, as COCO AP draws them.

    Args:
        category: (D,) of boxes that are right or wrong.
        score: (D,).
        is_correct: (D,) bool.
        num_truth: (C,) boxes of truth that are to be found.
    """
    order = np.lexsort((-score, category))  # stable, as COCO's sort is
    category, is_correct = category[order], is_correct[order]
    edges = np.searchsorted(category, np.arange(len(num_truth) + 1))
    precision = np.full((len(num_truth), len(RECALLS)), np.nan)
    for index, total in enumerate(num_truth):
        if total > 0:
            hits = is_correct[edges[index] : edges[index + 1]]
            precision[index] = _interpolated(np.cumsum(hits), int(total))
    return Curves(precision)


def _interpolated(hits: np.ndarray, total: int) -> np.ndarray:
    """Precision at `RECALLS`, from the number of hits among the first 1, 2, 3 ... boxes."""
    recall = hits / total
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]  # the best at this recall or beyond
    places = np.searchsorted(recall, RECALLS, side="left")
    return np.append(precision, 0.0)[np.minimum(places, len(hits))]


def curves(found: Boxes, truth: Boxes, matches: Matches, num_classes: int) -> Curves:
    """The curves of all classes at the IoU of the matches.

    Args:
        found: D boxes.
        truth: G boxes.
        matches: of the two.
        num_classes: C.
    """
    judged = matches.kind != Kind.IGNORED
    return class_curves(
        found.category[judged],
        found.score[judged],
        matches.kind[judged] == Kind.CORRECT,
        truth_counts(truth, num_classes),
    )


def truth_counts(truth: Boxes, num_classes: int) -> np.ndarray:
    """(C,) boxes of truth that are to be found: not crowds."""
    return np.bincount(truth.category[~truth.is_crowd], minlength=num_classes)


def operating_point(score: np.ndarray, is_correct: np.ndarray, num_truth: int) -> OperatingPoint:
    """The threshold with the best F1 over these boxes.

    Args:
        score: (D,) of boxes that are right or wrong.
        is_correct: (D,) bool.
        num_truth: boxes of truth that are to be found.
    """
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(is_correct[order])
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf))  # the last of equal scores
    if not len(order) or not num_truth or not hits[-1]:
        return OperatingPoint(0.5, 0.0, 0.0)
    f1 = 2 * hits[ends] / (ends + 1 + num_truth)
    best = ends[int(f1.argmax())]
    return OperatingPoint(
        float(score[order][best]), float(hits[best] / (best + 1)), float(hits[best] / num_truth)
    )


def missed(matches: Matches, truth: Boxes, taken: np.ndarray) -> np.ndarray:
    """(G,) bool: truth that no box found, nor one of another class or near it was meant for.

    Args:
        matches: of all boxes.
        truth: G boxes.
        taken: (D,) bool, the boxes that count.
    """
    is_found = _found(matches, taken)
    blamed = taken & np.isin(matches.kind, (Kind.CONFUSION, Kind.LOCALISATION))
    is_covered = np.zeros(len(truth), dtype=bool)
    is_covered[matches.truth[blamed]] = True
    return ~is_found & ~is_covered & ~truth.is_crowd


def _found(matches: Matches, taken: np.ndarray) -> np.ndarray:
    """(G,) bool: truth whose correct box counts."""
    is_found = matches.finder >= 0
    is_found[is_found] = taken[matches.finder[is_found]]
    return is_found


def gains(
    found: Boxes, truth: Boxes, matches: Matches, num_classes: int
) -> dict[Kind | None, float]:
    """What AP at this IoU would gain if one kind of mistake did not happen (TIDE's dAP).

    Boxes of a wrong class get the right one, boxes near their truth get its place, unless it has
    been found already; duplicates and boxes near nothing go; missed truth (None) is not asked for.

    Args:
        found: D boxes.
        truth: G boxes.
        matches: of the two.
        num_classes: C.

    Returns:
        Kind -> gain in AP, in [0, 1]; empty if there is no truth.
    """
    base = curves(found, truth, matches, num_classes).mean_ap
    if base is None:
        return {}
    totals = truth_counts(truth, num_classes)
    judged = matches.kind != Kind.IGNORED
    is_correct = matches.kind == Kind.CORRECT

    def gain(category: np.ndarray, kept: np.ndarray, correct: np.ndarray, num: np.ndarray) -> float:
        mended = class_curves(category[kept], found.score[kept], correct[kept], num).mean_ap
        return (1.0 if mended is None else mended) - base

    result: dict[Kind | None, float] = {}
    for kind in (Kind.CONFUSION, Kind.LOCALISATION):
        right = _first_for_each_truth(found, matches, kind)
        category = found.category.copy()
        category[right] = truth.category[matches.truth[right]]
        kept = judged & ((matches.kind != kind) | right)
        result[kind] = gain(category, kept, is_correct | right, totals)
    for kind in _USELESS:
        result[kind] = gain(found.category, judged & (matches.kind != kind), is_correct, totals)
    lost = missed(matches, truth, np.ones(len(found), dtype=bool))
    fewer = totals - np.bincount(truth.category[lost], minlength=num_classes)
    result[None] = gain(found.category, judged, is_correct, fewer)
    return result


def _first_for_each_truth(found: Boxes, matches: Matches, kind: Kind) -> np.ndarray:
    """(D,) bool: the best box of a kind for each truth that has not been found."""
    wrong = np.flatnonzero(matches.kind == kind)
    wrong = wrong[matches.finder[matches.truth[wrong]] < 0]
    wrong = wrong[np.argsort(-found.score[wrong], kind="stable")]
    _, first = np.unique(matches.truth[wrong], return_index=True)
    chosen = np.zeros(len(found), dtype=bool)
    chosen[wrong[first]] = True
    return chosen


def picture_errors(
    found: Boxes, truth: Boxes, matches: Matches, taken: np.ndarray, num_images: int
) -> np.ndarray:
    """(I,) how wrong the boxes of each picture are, in [0, 1]; NaN where nothing was to be said.

    The localisation-recall-precision error (Oksuz et al., "Localization Recall Precision", ECCV
    2018): the mean, over boxes that are right, wrong or missing, of 1 for the wrong and the
    missing, and of how far from its truth a right one is (0 at IoU 1, 1 at the matching IoU).

    Args:
        found: D boxes.
        truth: G boxes.
        matches: of the two.
        taken: (D,) bool, the boxes that count.
        num_images: I.
    """
    right = taken & (matches.kind == Kind.CORRECT)
    wrong = taken & (matches.kind > Kind.IGNORED)
    lost = ~_found(matches, taken) & ~truth.is_crowd
    distance = (1 - matches.overlap[right]) / (1 - FOREGROUND)
    error = np.bincount(found.image[right], weights=distance, minlength=num_images)
    others = np.bincount(found.image[wrong], minlength=num_images)
    others = others + np.bincount(truth.image[lost], minlength=num_images)
    total = np.bincount(found.image[right], minlength=num_images) + others
    return np.divide(error + others, total, out=np.full(num_images, np.nan), where=total > 0)


def confusion(
    found: Boxes, truth: Boxes, matches: Matches, taken: np.ndarray, num_classes: int
) -> np.ndarray:
    """(C + 1, C + 1) what was taken for what.

    Rows are classes of truth, the last row is background; columns are classes of boxes, the last
    column is truth that has no box at its place.

    Args:
        found: D boxes.
        truth: G boxes.
        matches: of the two.
        taken: (D,) bool, the boxes that count.
        num_classes: C.
    """
    table = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    placed = taken & np.isin(matches.kind, (Kind.CORRECT, Kind.CONFUSION))
    np.add.at(table, (truth.category[matches.truth[placed]], found.category[placed]), 1)
    nothing = taken & (matches.kind == Kind.BACKGROUND)
    table[-1, :-1] = np.bincount(found.category[nothing], minlength=num_classes)
    has_box = truth.is_crowd.copy()
    has_box[matches.truth[placed]] = True
    table[:-1, -1] = np.bincount(truth.category[~has_box], minlength=num_classes)
    return table
