"""COCO AP: small cases worked out by hand, and the file that anybody can check."""

import json
from pathlib import Path
from random import Random

import pytest
import torch
from drawn import KnowingDetector, draw, make_test_set, write
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from glipkit.data.datasets.coco import load_coco
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.coco import METRICS, CocoEvaluator, matched
from glipkit.evaluation.coco_results import decimals, to_coco_results
from glipkit.evaluation.evaluator import ClassFigure
from glipkit.evaluation.results import class_table
from glipkit.evaluation.run import evaluate
from glipkit.structures.detections import Detections

IMAGES = [
    {"id": 5, "file_name": "a.png", "height": 100, "width": 100},
    {"id": 6, "file_name": "b.png", "height": 100, "width": 100},
]
CAT = {"image_id": 5, "category_id": 3, "bbox": [10, 10, 20, 20], "id": 0}  # no area, no iscrowd


def answer(boxes: list[list[float]], scores: list[float], phrases: list[int]) -> Detections:
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor(phrases, dtype=torch.int64),
        (100, 100),
    )


def evaluator(folder: Path, boxes: list[dict]) -> CocoEvaluator:
    return CocoEvaluator(load_coco(write(folder, IMAGES, boxes)), [3, 7, 11])


def test_export_counts_pixels_and_names_categories() -> None:
    found = to_coco_results(5, answer([[10, 20, 30.5, 60]], [0.1], [2]), [3, 7, 11])
    assert found == [
        {"image_id": 5, "category_id": 11, "bbox": [10.0, 20.0, 21.5, 41.0], "score": 0.1}
    ]


def test_decimals_read_back_as_the_same_floats() -> None:
    values = torch.rand(1000) * 1000
    text = json.dumps(decimals(values))
    assert torch.equal(torch.tensor(json.loads(text)), values)
    assert decimals(torch.tensor([[0.1, 2.0]])) == [[0.1, 2.0]]
    assert decimals(torch.zeros(0, 4)) == []


def test_annotation_with_the_id_zero_can_be_found(tmp_path: Path) -> None:
    judge = evaluator(tmp_path, [CAT])
    judge.process(5, answer([[10, 10, 29, 29]], [0.9], [0]))
    judge.process(6, answer([], [], []))
    assert judge.evaluate().metrics["AP"] == pytest.approx(1.0)


def test_ap_by_hand(tmp_path: Path) -> None:
    """IoU 15 / 20 = 0.75 passes 6 of 10 thresholds (0.50, 0.55 ... 0.75)."""
    judge = evaluator(tmp_path, [CAT])
    judge.process(5, answer([[10, 10, 29, 24]], [0.9], [0]))
    found = judge.evaluate()
    assert found.metrics["AP"] == pytest.approx(0.6)
    assert found.metrics["AP50"] == pytest.approx(1.0)
    assert found.metrics["APs"] == pytest.approx(0.6)  # 400 square pixels are small
    assert found.metrics["APl"] is None
    assert [each.value50 for each in found.per_class] == [pytest.approx(1.0), None, None]
    assert [(each.name, each.value) for each in found.per_class] == [
        ("cat", pytest.approx(0.6)), ("dog", None), ("owl", None),
    ]  # fmt: skip


def test_picture_without_detections_counts(tmp_path: Path) -> None:
    judge = evaluator(tmp_path, [CAT, {**CAT, "image_id": 6, "id": 1}])
    judge.process(5, answer([[10, 10, 29, 29]], [0.9], [0]))
    # Recall ends at one half: precision 1 on 51 of the 101 points.
    assert judge.evaluate().metrics["AP"] == pytest.approx(51 / 101)


def test_crowds_are_no_false_alarm(tmp_path: Path) -> None:
    crowd = {**CAT, "bbox": [40, 40, 50, 50], "iscrowd": 1, "id": 1}
    judge = evaluator(tmp_path, [CAT, crowd])
    judge.process(5, answer([[50, 50, 60, 60], [10, 10, 29, 29]], [0.95, 0.9], [0, 0]))
    assert judge.evaluate().metrics["AP"] == pytest.approx(1.0)


def test_no_detections_at_all(tmp_path: Path) -> None:
    found = evaluator(tmp_path, [CAT]).evaluate()
    assert found.metrics["AP"] == 0
    assert "Average Precision" in found.table


def test_no_ground_truth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    judge = evaluator(tmp_path, [])
    judge.process(5, answer([[10, 10, 29, 29]], [0.9], [0]))
    found = judge.evaluate()
    assert set(found.metrics.values()) == {None}
    assert "has no boxes to judge against" in caplog.text
    assert len(judge.predictions()) == 1


@pytest.mark.parametrize("area", [None, "big", float("nan")])
def test_area_that_is_none(tmp_path: Path, area: object) -> None:
    judge = evaluator(tmp_path, [{**CAT, "area": area, "iscrowd": None}])
    judge.process(5, answer([[10, 10, 29, 29]], [0.9], [0]))
    assert judge.evaluate().metrics["APs"] == pytest.approx(1.0)


def test_annotations_are_not_changed(tmp_path: Path) -> None:
    judge = evaluator(tmp_path, [CAT])
    judge.evaluate()
    assert judge.dataset.annotations == (CAT,)


@pytest.mark.parametrize(
    ("image_id", "detections", "message"),
    [
        (99, answer([], [], []), "no image with the id 99"),
        (5, answer([[0, 0, float("nan"), 1]], [0.5], [0]), "of image 5 are not finite"),
        (5, answer([[0, 0, 1, 1]], [float("inf")], [0]), "of image 5 are not finite"),
        (5, answer([[0, 0, 1, 1]], [0.5], [3]), "answer phrases 3 to 3, but 3 were asked"),
    ],
)
def test_answers_that_cannot_be(
    tmp_path: Path, image_id: int, detections: Detections, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluator(tmp_path, [CAT]).process(image_id, detections)


def test_twice_the_same_picture(tmp_path: Path) -> None:
    judge = evaluator(tmp_path, [CAT])
    judge.process(5, answer([], [], []))
    with pytest.raises(ValueError, match="image 5 was judged already"):
        judge.process(5, answer([], [], []))


def test_pycocotools_finds_the_same_in_the_written_file(tmp_path: Path) -> None:
    spec = draw(tmp_path / "data")
    content = json.loads(spec.ann_file.read_text())
    for annotation in content["annotations"]:
        annotation["id"] += 1  # pycocotools alone cannot match the id 0
    spec.ann_file.write_text(json.dumps(content))
    test_set = make_test_set(spec)
    results = evaluate(
        KnowingDetector(test_set, mistakes=True),
        test_set,
        build_evaluator(test_set),
        output_dir=tmp_path,
        depends_on={},
    )
    truth = COCO(str(spec.ann_file))
    judge = COCOeval(truth, truth.loadRes(str(tmp_path / "predictions.json")), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    expected = dict(zip(METRICS, judge.stats))
    assert 0.05 < results.metrics["AP"] < 0.95
    for name, value in results.metrics.items():
        assert (-1 if value is None else value) == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_crowds_ties_and_sizes_are_judged_as_pycocotools_does(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    images = [{"id": n, "file_name": f"{n}.png", "height": 300, "width": 300} for n in range(9)]
    boxes = [
        {
            "id": number,
            "image_id": random.randrange(8),  # the last picture has no box, class 11 neither
            "category_id": random.choice([3, 7]),
            "bbox": [
                *random.choices(range(0, 60, 4), k=2),
                *random.choices([12, 40, 96, 150], k=2),
            ],
            "iscrowd": int(random.random() < 0.2),
            "area": random.choice([500, 1024, 4000, 9216, 20000]),  # on the limits, too
        }
        for number in range(1, 90)
    ]
    dataset = load_coco(write(tmp_path, images, boxes))
    judge = CocoEvaluator(dataset, [3, 7, 11])
    for image in dataset.images:
        near = [box["bbox"] for box in boxes if box["image_id"] == image.image_id] * 2
        near += [[8, 8, 32, 32], [0, 0, 95, 95]]
        found = [
            [x + random.choice([0, 0, 4]), y, x + width - 1, y + height * random.choice([1, 0.75])]
            for x, y, width, height in near
        ]
        scores = random.choices([0.2, 0.5, 0.9], k=len(found))  # many are equal
        judge.process(
            image.image_id, answer(found, scores, random.choices([0, 1, 2], k=len(found)))
        )
    found = judge.evaluate()
    expected = matched(dataset, judge.predictions())
    expected.accumulate()
    expected.summarize()
    assert 0.01 < found.metrics["AP"] < 0.9
    for name, value in zip(METRICS, expected.stats):
        assert found.metrics[name] == pytest.approx(value, abs=1e-14), name
    precision = expected.eval["precision"][:, :, :, 0, -1]
    assert [each.value for each in found.per_class] == [
        pytest.approx(precision[:, :, 0].mean(), abs=1e-14),
        pytest.approx(precision[:, :, 1].mean(), abs=1e-14),
        None,
    ]


@pytest.mark.parametrize("first", [7, 2**53, 17 * 10**17])
def test_ids_may_be_large(tmp_path: Path, first: int) -> None:
    """Neighbours of 2^53 are one float64."""
    images = [{**IMAGES[0], "id": first + 1}, {**IMAGES[1], "id": first}]
    boxes = [
        {"id": 1, "image_id": first, "category_id": 3, "bbox": [10, 10, 20, 20]},
        {"id": 2, "image_id": first + 1, "category_id": 3, "bbox": [50, 50, 20, 20]},
    ]
    judge = CocoEvaluator(load_coco(write(tmp_path, images, boxes)), [3, 7, 11])
    judge.process(first, answer([[10, 10, 29, 29]], [0.9], [0]))
    judge.process(first + 1, answer([[10, 10, 29, 29]], [0.9], [0]))  # the other picture's box
    found = judge.evaluate().metrics
    assert found["AR100"] == pytest.approx(0.5)
    assert {each["image_id"] for each in judge.predictions()} == {first, first + 1}


def test_a_long_or_broken_name_leaves_the_table_a_table() -> None:
    names = ["owl", "a\nb", "word " * 80]
    rows = class_table([ClassFigure(i, name, 0.5) for i, name in enumerate(names)]).splitlines()
    assert len(rows) == 4  # a heading, and a line for each
    assert rows[2].startswith("  a b ")
    assert {len(row) for row in rows[1:]} == {2 + 48 + 2 + 6}


def test_report_for_people(tmp_path: Path) -> None:
    test_set = make_test_set(draw(tmp_path / "data"))
    results = evaluate(
        KnowingDetector(test_set),
        test_set,
        build_evaluator(test_set),
        output_dir=tmp_path,
        depends_on={},
    )
    report = results.report()
    assert "drawn: 20 images, 40 predictions" in report
    assert report.count("Average") == 12
    assert "  owl   1.000" in report
    assert "n/a" in report  # nothing there is large
