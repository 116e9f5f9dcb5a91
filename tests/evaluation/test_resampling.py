"""Weights on pictures, beside datasets in which pictures really are several times or not at all."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import make_test_set, write

from glipkit.data.datasets.coco import CocoDetection
from glipkit.data.datasets.coco_file import ImageRecord
from glipkit.evaluation.coco import METRICS, CocoEvaluator
from glipkit.evaluation.evaluator import Judgement
from glipkit.evaluation.resampling import Interval, draws, paired_spreads
from glipkit.evaluation.weighed_ap import RECALLS, _needed
from glipkit.evaluation.weighed_coco import WeighedCoco
from glipkit.evaluation.weighed_shares import WeighedShares

SIDE = 400


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[CocoDetection, list[dict]]:
    """30 pictures with boxes of all sizes, some of them crowds, and predictions of all kinds."""
    folder = tmp_path_factory.mktemp("case")
    random = np.random.default_rng(3)
    images, boxes, results = [], [], []
    for number in range(30):
        image_id = 500 - 7 * number
        images.append({"id": image_id, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for _ in range(number % 6):
            w, h = random.integers(8, 200, 2)
            x, y = random.integers(0, SIDE - w), random.integers(0, SIDE - h)
            category = int(random.choice([3, 7]))
            box = [int(each) for each in (x, y, w, h)]
            boxes.append(
                {"id": len(boxes), "image_id": image_id, "category_id": category, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": int(random.random() < 0.15)}
            )  # fmt: skip
            for _ in range(3):
                shift = random.normal(0, 0.12, 4) * [w, h, w, h]
                moved = (np.array(box) + shift).clip(min=1).round(2).tolist()
                results.append([image_id, category, moved])
        for _ in range(3):
            box = random.integers(5, 150, 4).tolist()
            results.append([image_id, int(random.choice([3, 7, 11])), box])
    scores = random.permutation(len(results)) / len(results)
    predictions = [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": float(score)}
        for (image_id, category, box), score in zip(results, scores)
    ]
    test_set = make_test_set(write(folder, images, boxes))
    return test_set.dataset, predictions


def judged(dataset: CocoDetection, predictions: list[dict]) -> Judgement:
    """What the evaluation itself says."""
    judge = CocoEvaluator(dataset, [each.category_id for each in dataset.categories])
    judge.predictions = lambda: predictions
    return judge.evaluate()


def as_floats(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def repeated(
    dataset: CocoDetection, predictions: list[dict], weights: np.ndarray
) -> tuple[CocoDetection, list[dict]]:
    """The dataset with each picture as often as its weight says, under new ids."""
    images, annotations, results = [], [], []
    for image, weight in zip(dataset.images, weights):
        for copy in range(weight):
            new = image.image_id * 100 + copy
            images.append(ImageRecord(new, image.file_name, image.size))
            for entries, kept in ((dataset.annotations, annotations), (predictions, results)):
                kept += [
                    {**each, "image_id": new}
                    for each in entries
                    if each["image_id"] == image.image_id
                ]
    return replace(dataset, images=tuple(images), annotations=tuple(annotations)), results


def test_weights_of_one_give_the_evaluation_to_the_last_bit(
    case: tuple[CocoDetection, list[dict]],
) -> None:
    dataset, predictions = case
    judgement = judged(dataset, predictions)
    metrics, classes = WeighedCoco(dataset, predictions).figures(np.ones((1, 30), dtype=np.int64))
    assert metrics[0].tolist() == list(judgement.metrics.values())
    assert None not in judgement.metrics.values()
    assert 0.05 < judgement.metrics["AP"] < 0.9
    np.testing.assert_array_equal(
        classes[0], as_floats([each.value for each in judgement.per_class])
    )


def test_weights_are_copies_of_pictures(case: tuple[CocoDetection, list[dict]]) -> None:
    dataset, predictions = case
    weights = next(draws(30, 4, seed=5, at_once=4))
    weights[3] = 0
    weights[3, 5] = 2  # of all classes at most the few of one picture are left
    metrics, classes = WeighedCoco(dataset, predictions).figures(weights)
    for row in range(4):
        expected = judged(*repeated(dataset, predictions, weights[row]))
        np.testing.assert_allclose(
            metrics[row], as_floats(list(expected.metrics.values())), rtol=1e-12
        )
        np.testing.assert_allclose(
            classes[row], as_floats([each.value for each in expected.per_class]), rtol=1e-12
        )


def test_nothing_found_and_nothing_to_find(case: tuple[CocoDetection, list[dict]]) -> None:
    dataset, predictions = case
    ones = np.ones((2, 30), dtype=np.int64)
    metrics, _ = WeighedCoco(dataset, []).figures(ones)
    assert metrics[:, :3].tolist() == [[0.0] * 3] * 2
    bare = replace(dataset, annotations=())
    metrics, classes = WeighedCoco(bare, predictions).figures(ones)
    assert np.isnan(metrics).all()
    assert np.isnan(classes).all()


def test_hits_that_reach_a_recall_are_compared_as_floats() -> None:
    totals = np.array([1, 3, 7, 49, 100, 1000, 12345])
    needed = _needed(totals)
    for total, row in zip(totals, needed):
        shares = np.arange(total + 1) / total
        np.testing.assert_array_equal(row, np.searchsorted(shares, RECALLS))


def test_the_interval_of_two_pictures_by_hand() -> None:
    asked = np.ones((2, 1), dtype=np.int64)
    first = WeighedShares(["R@1"], np.array([[1], [1]]), asked)
    second = WeighedShares(["R@1"], np.array([[1], [0]]), asked)
    # Drawn twice of two: difference 0, -1/2 and -1 in a quarter, a half and a quarter of all.
    (spread,) = paired_spreads([first, second], resamples=1000, least_pictures=2)
    assert spread.metrics == {"R@1": Interval(-1.0, 0.0)}
    (narrow,) = paired_spreads([first, second], resamples=1000, level=0.4, least_pictures=2)
    assert narrow.metrics == {"R@1": Interval(-0.5, -0.5)}
    assert narrow.metrics["R@1"].is_clear
    assert not spread.metrics["R@1"].is_clear


def test_no_difference_has_no_spread(case: tuple[CocoDetection, list[dict]]) -> None:
    weighed = WeighedCoco(*case)
    (spread,) = paired_spreads([weighed, WeighedCoco(*case)], resamples=20, least_pictures=1)
    assert set(spread.metrics) == set(METRICS)
    assert {*spread.metrics.values()} == {Interval(0.0, 0.0)}
    assert spread.classes == (Interval(0.0, 0.0), Interval(0.0, 0.0), None)  # no owl to find


def test_intervals_of_differences_computed_the_long_way(
    case: tuple[CocoDetection, list[dict]],
) -> None:
    """Every draw made a dataset of its own and judged by pycocotools, then sorted."""
    dataset, first = case
    random = np.random.default_rng(8)
    second = [
        {**each, "bbox": [*each["bbox"][:2], *(side * random.uniform(0.6, 1.2)
                                               for side in each["bbox"][2:])]}
        for each in first
        if random.random() > 0.15
    ]  # fmt: skip
    (spread,) = paired_spreads(
        [WeighedCoco(dataset, first), WeighedCoco(dataset, second)],
        resamples=9, seed=4, level=0.75, least_pictures=1,
    )  # fmt: skip
    pictures = np.random.default_rng(4)
    differences = []
    for _ in range(9):
        weights = np.zeros(30, dtype=np.int64)
        for picture in pictures.integers(0, 30, 30):
            weights[picture] += 1
        one, two = (judged(*repeated(dataset, each, weights)) for each in (first, second))
        differences.append(
            [as_floats([*each.metrics.values(), *(figure.value for figure in each.per_class)])
             for each in (one, two)]
        )  # fmt: skip
    change = np.diff(np.array(differences), axis=1)[:, 0]
    assert (change[:, 0] < 0).any()
    found = [*spread.metrics.values(), *spread.classes]
    assert found[-1] is None  # no owl to find
    for column, interval in zip(change.T[:-1], found):
        low, high = np.sort(column)[[1, 7]]  # an eighth of the way from either end, of 9
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def test_figures_of_few_pictures_get_no_interval(case: tuple[CocoDetection, list[dict]]) -> None:
    dataset, predictions = case
    weighed = WeighedCoco(dataset, predictions)
    pictures = [
        len({each["image_id"] for each in dataset.annotations
             if each["category_id"] == number and not each["iscrowd"]})
        for number in (3, 7, 11)
    ]  # fmt: skip
    small, large = (
        len({each["image_id"] for each in dataset.annotations
             if low <= each["area"] <= high and not each["iscrowd"]})
        for low, high in ((0, 32**2), (96**2, 1e10))
    )  # fmt: skip
    metrics, classes = weighed.measured_on
    assert classes.tolist() == pictures
    assert (metrics[METRICS.index("APs")], metrics[METRICS.index("ARl")]) == (small, large)
    assert 0 < small < pictures[0] <= metrics[0] == metrics[METRICS.index("AR1")] <= 25
    (spread,) = paired_spreads([weighed, weighed], resamples=3, least_pictures=small + 1)
    assert spread.metrics["APs"] is None
    assert spread.metrics["AP"] == Interval(0.0, 0.0)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """The second model finds a fifth less; 200 times 60 pictures are drawn and judged."""
    random = np.random.default_rng(11)
    asked = random.integers(1, 5, (60, 1))
    held = clear = 0
    for seed in range(200):
        hard = random.random((60, 1))
        first, second = (random.binomial(asked, np.clip(share - hard / 2, 0, 1))
                         for share in (0.95, 0.75))  # fmt: skip
        (spread,) = paired_spreads(
            [WeighedShares(["R@1"], first, asked), WeighedShares(["R@1"], second, asked)],
            resamples=100, seed=seed,
        )  # fmt: skip
        held += spread.metrics["R@1"].low <= -0.2 <= spread.metrics["R@1"].high
        clear += spread.metrics["R@1"].is_clear
    assert 0.88 <= held / 200 <= 0.99
    assert clear > 190


def test_draws_do_not_depend_on_how_many_come_at_once() -> None:
    one = np.concatenate(list(draws(7, 10, seed=1, at_once=3)))
    two = np.concatenate(list(draws(7, 10, seed=1, at_once=10)))
    np.testing.assert_array_equal(one, two)
    assert (one.sum(axis=1) == 7).all()
    assert (one != np.concatenate(list(draws(7, 10, seed=2, at_once=10)))).any()


def test_what_cannot_be_drawn() -> None:
    asked = np.ones((2, 1), dtype=np.int64)
    two = WeighedShares(["R@1"], asked, asked)
    with pytest.raises(ValueError, match="not the same pictures"):
        paired_spreads([two, WeighedShares(["R@5"], asked, asked)], resamples=5)
    for wrong in ({"resamples": 0}, {"resamples": 5, "level": 1.0}):
        with pytest.raises(ValueError, match="at least 1 resample"):
            paired_spreads([two, two], **wrong)
