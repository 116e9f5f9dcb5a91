"""Kinds of mistakes, counted by hand; matches and AP, against pycocotools."""

import contextlib
import io
from pathlib import Path

import drawn
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from glipkit.data.datasets.coco import CocoDetection, load_coco
from glipkit.evaluation.report_figures import (
    class_curves,
    confusion,
    curves,
    gains,
    missed,
    operating_point,
    picture_errors,
)
from glipkit.evaluation.report_matches import Boxes, Kind, best_of_each_class, match, read_boxes

CAT, DOG, OWL = 0, 1, 2


def boxes(*rows: tuple) -> Boxes:
    """From (image, category, x1, y1, x2, y2, score[, is_crowd])."""
    table = np.array([[*row, 0][:8] for row in rows], dtype=float).reshape(-1, 8)
    return Boxes(
        *(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:6], table[:, 6]),
        is_crowd=table[:, 7] > 0,
    )


TRUTH = boxes(
    (0, CAT, 0, 0, 100, 100, 1),
    (0, DOG, 200, 0, 300, 100, 1),
    (0, OWL, 400, 0, 500, 100, 1),
    (0, CAT, 600, 0, 700, 100, 1, 1),  # a crowd
)


@pytest.mark.parametrize(
    ("box", "kind", "truth"),
    [
        ((CAT, 0, 0, 100, 90), Kind.CORRECT, 0),
        ((CAT, 0, 0, 100, 49), Kind.LOCALISATION, 0),
        ((CAT, 0, 0, 100, 9), Kind.BACKGROUND, -1),
        ((DOG, 0, 0, 100, 90), Kind.CONFUSION, 0),
        ((DOG, 0, 0, 100, 40), Kind.BOTH, 0),
        ((CAT, 800, 800, 900, 900), Kind.BACKGROUND, -1),
        ((CAT, 610, 10, 640, 40), Kind.IGNORED, -1),
        ((DOG, 610, 10, 640, 40), Kind.BACKGROUND, -1),
        ((CAT, 5, 5, 5, 5), Kind.BACKGROUND, -1),  # without a size
    ],
)
def test_each_kind(box: tuple, kind: Kind, truth: int) -> None:
    found = match(boxes((0, *box, 0.9)), TRUTH)
    assert found.kind.tolist() == [kind]
    assert found.truth.tolist() == [truth]


def test_the_better_box_is_right_and_the_other_a_duplicate() -> None:
    found = boxes((0, CAT, 0, 0, 100, 100, 0.9), (0, CAT, 0, 0, 100, 99, 0.8))
    matches = match(found, TRUTH)
    assert matches.kind.tolist() == [Kind.CORRECT, Kind.DUPLICATE]
    assert matches.finder.tolist() == [0, -1, -1, -1]
    assert matches.overlap[1] == pytest.approx(0.99)


def test_a_second_choice_is_taken() -> None:
    """Two truths of a class side by side: each box gets one of them."""
    truth = boxes((0, CAT, 0, 0, 100, 100, 1), (0, CAT, 10, 0, 110, 100, 1))
    found = boxes((0, CAT, 1, 0, 101, 100, 0.9), (0, CAT, 2, 0, 102, 100, 0.8))
    assert match(found, truth).kind.tolist() == [Kind.CORRECT, Kind.CORRECT]


def test_nothing_found_and_nothing_to_find() -> None:
    none = boxes()
    matches = match(none, TRUTH)
    assert len(matches.kind) == 0
    assert missed(matches, TRUTH, np.zeros(0, dtype=bool)).tolist() == [True, True, True, False]
    found = boxes((0, CAT, 0, 0, 9, 9, 0.9))
    assert match(found, none).kind.tolist() == [Kind.BACKGROUND]
    assert gains(found, none, match(found, none), 3) == {}
    assert np.isnan(picture_errors(none, none, match(none, none), np.zeros(0, bool), 2)).all()
    assert operating_point(np.zeros(0), np.zeros(0, dtype=bool), 3).f1 == 0


def test_missed_is_what_no_box_accounts_for() -> None:
    found = boxes(
        (0, CAT, 0, 0, 100, 45, 0.9),  # badly placed: the cat is accounted for
        (0, OWL, 200, 0, 300, 100, 0.8),  # the dog is taken for an owl
    )
    matches = match(found, TRUTH)
    assert missed(matches, TRUTH, np.array([True, True])).tolist() == [False, False, True, False]
    assert missed(matches, TRUTH, np.array([True, False])).tolist() == [False, True, True, False]


def test_gains_are_what_a_mended_detector_scores() -> None:
    found = boxes((0, CAT, 0, 0, 100, 45, 0.9), (0, OWL, 200, 0, 300, 100, 0.8))
    matches = match(found, TRUTH)
    gained = gains(found, TRUTH, matches, 3)
    assert curves(found, TRUTH, matches, 3).mean_ap == 0
    assert gained[Kind.LOCALISATION] == pytest.approx(1 / 3)  # cats: all of one
    assert gained[Kind.CONFUSION] == pytest.approx(1 / 3)  # dogs
    assert gained[Kind.BACKGROUND] == gained[Kind.DUPLICATE] == 0
    assert gained[None] == pytest.approx(0)  # without the owl, cats and dogs still score 0


def test_mending_gives_each_truth_one_box() -> None:
    found = boxes((0, CAT, 0, 0, 100, 45, 0.9), (0, CAT, 0, 0, 100, 44, 0.8))
    cats = boxes((0, CAT, 0, 0, 100, 100, 1))
    assert gains(found, cats, match(found, cats), 1)[Kind.LOCALISATION] == pytest.approx(1)


def test_confusion_counts_boxes_by_place() -> None:
    found = boxes(
        (0, CAT, 0, 0, 100, 100, 0.9),
        (0, OWL, 200, 0, 300, 100, 0.8),
        (0, OWL, 800, 0, 900, 100, 0.7),
    )
    table = confusion(found, TRUTH, match(found, TRUTH), np.ones(3, dtype=bool), 3)
    assert table.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


def test_operating_point_balances() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    point = operating_point(scores, np.array([True, True, False, False, False]), 2)
    assert (point.threshold, point.precision, point.recall) == (0.8, 1.0, 1.0)
    tied = operating_point(np.full(4, 0.5), np.array([True, False, False, False]), 1)
    assert (tied.precision, tied.recall) == (0.25, 1.0)  # equal scores come together


def test_picture_error_is_one_for_nothing_right() -> None:
    truth = boxes(*[(i, CAT, 0, 0, 100, 100, 1) for i in range(4)])
    found = boxes(
        (0, CAT, 0, 0, 100, 100, 0.9),  # perfect
        (1, CAT, 0, 0, 100, 75, 0.9),  # half way between perfect and the threshold
        (2, DOG, 0, 0, 100, 100, 0.9),  # wrong, and the cat is missing
        (4, CAT, 0, 0, 9, 9, 0.9),  # nothing is there
    )
    errors = picture_errors(found, truth, match(found, truth), np.ones(4, dtype=bool), 6)
    np.testing.assert_allclose(errors, [0, 0.5, 1, 1, 1, np.nan])


def test_only_the_best_hundred_of_a_class_count() -> None:
    rows = [(0, i % 2, 0, 0, 10, 10, 1 - i / 1000) for i in range(300)]
    kept = best_of_each_class(boxes(*rows))
    assert len(kept) == 200
    assert kept.score.min() == pytest.approx(1 - 199 / 1000)


def random_world(folder: Path) -> tuple[CocoDetection, list[dict]]:
    """A drawn dataset with a crowd, and predictions good and bad, many with equal scores."""
    spec = drawn.draw(folder, num_images=40)
    dataset = load_coco(spec)
    dataset.annotations[3]["iscrowd"] = 1
    random = np.random.default_rng(0)
    ids = [category.category_id for category in dataset.categories]
    predictions = []
    for each in dataset.ground_truth():
        for _ in range(random.integers(0, 4)):
            box = np.array(each["bbox"]) + random.normal(0, 1, 4)
            predictions.append(
                {
                    "image_id": each["image_id"],
                    "category_id": each["category_id"] if random.random() < 0.7 else ids[0],
                    "bbox": [*box[:2].tolist(), *np.maximum(box[2:], 1).tolist()],
                    "score": round(float(random.random()), 1),
                }
            )
    return dataset, predictions


@pytest.mark.parametrize(("threshold", "row"), [(0.5, 0), (0.75, 5)])
def test_ap_is_that_of_pycocotools(tmp_path: Path, threshold: float, row: int) -> None:
    dataset, predictions = random_world(tmp_path)
    truth = read_boxes(dataset, dataset.ground_truth(), origin="truth")
    found = best_of_each_class(read_boxes(dataset, predictions, origin="predictions"))
    mine = curves(found, truth, match(found, truth, threshold=threshold), len(dataset.categories))

    def index(annotations: list[dict]) -> COCO:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image.image_id} for image in dataset.images],
            "categories": [{"id": each.category_id} for each in dataset.categories],
            "annotations": annotations,
        }
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        answers = [
            {**each, "id": number, "area": each["bbox"][2] * each["bbox"][3], "iscrowd": 0}
            for number, each in enumerate(predictions, start=1)
        ]
        judge = COCOeval(index(dataset.ground_truth()), index(answers), iouType="bbox")
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][row, :, :, 0, -1].T  # (classes, recalls)
    np.testing.assert_allclose(mine.precision, precision, atol=1e-9)
    assert 0.05 < mine.mean_ap < 0.9


def test_a_class_without_truth_has_no_figure() -> None:
    curve = class_curves(np.array([1]), np.array([0.9]), np.array([False]), np.array([0, 2]))
    assert np.isnan(curve.ap[0])
    assert curve.ap[1] == curve.mean_ap == 0


def test_predictions_of_another_dataset_are_refused(tmp_path: Path) -> None:
    dataset = load_coco(drawn.draw(tmp_path, num_images=2))
    wrong = [{"image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1}]
    with pytest.raises(ValueError, match=r"predictions.json does not belong to .*KeyError 5"):
        read_boxes(dataset, wrong, origin="predictions.json")


def test_a_large_evaluation_is_matched() -> None:
    """5,000 pictures with 100 boxes each."""
    random = np.random.default_rng(0)

    def many(per_image: int) -> Boxes:
        count = 5000 * per_image
        corners = random.uniform(0, 500, (count, 4))
        corners[:, 2:] = corners[:, :2] + random.uniform(20, 200, (count, 2))
        score = np.sort(random.random((5000, per_image)))[:, ::-1].ravel()
        return Boxes(
            np.repeat(np.arange(5000), per_image),
            random.integers(0, 80, count),
            corners,
            score,
            np.zeros(count, dtype=bool),
        )

    truth, found = many(7), many(100)
    matches = match(found, truth)
    assert set(np.unique(matches.kind)) > {Kind.CORRECT, Kind.CONFUSION, Kind.BACKGROUND}
    assert len(gains(found, truth, matches, 80)) == 6
