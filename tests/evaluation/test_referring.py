"""Accuracy on referring expressions: by hand, and on real ones."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from captioned import KnowingCaptions, answer, caption_test_set, record, write_captions
from test_phrase_recall import Shuffled

from glipkit.data.caption_test_set import CaptionTestSet
from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.captioned_pictures import load_captioned
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.overview import overview
from glipkit.evaluation.referring import ReferringAccuracy
from glipkit.evaluation.results import Results
from glipkit.evaluation.run import Detector, evaluate
from glipkit.structures.detections import Detections

SIZE = (40, 60)
DOG, CAT, OWL = [1.0, 1, 11, 11], [20.0, 20, 30, 30], [30.0, 5, 40, 15]


@pytest.fixture
def judge(tmp_path: Path) -> ReferringAccuracy:
    """Three expressions of one picture, one of them of another collection."""
    images = [
        {**record(number, "a.png", SIZE, text), "dataset_name": collection}
        for number, text, collection in (
            (4, "the dog", "refcoco"), (5, "cat on the right", "refcoco"), (6, "owl", "refcoco+")
        )
    ]  # fmt: skip
    boxes = [
        answer(number, number, [x1, y1, x2 - x1, y2 - y1], [[0, 3]])
        for number, (x1, y1, x2, y2) in ((4, DOG), (5, CAT), (6, OWL))
    ]
    spec = write_captions(tmp_path, images, boxes)
    return ReferringAccuracy(load_captioned(replace(spec, judged="expressions")))


def test_the_best_box_decides(judge: ReferringAccuracy) -> None:
    rows = [(0, 0.9, DOG), (0, 0.95, CAT), (1, 0.3, CAT), (1, 0.2, DOG)]
    phrases, scores, boxes = zip(*rows)
    judge.process(
        4, Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(phrases), SIZE)
    )
    judgement = judge.evaluate()
    figures = {name: round(value, 4) for name, value in judgement.metrics.items()}
    assert figures == {
        "P@1": 0.3333, "P@5": 0.6667, "P@10": 0.6667,
        "P@1/refcoco": 0.5, "P@5/refcoco": 1, "P@10/refcoco": 1,
        "P@1/refcoco+": 0, "P@5/refcoco+": 0, "P@10/refcoco+": 0,
    }  # fmt: skip
    assert judgement.counts == {
        "expressions": 3, "expressions_without_box": 0,
        "expressions/refcoco": 2, "expressions/refcoco+": 1,
    }  # fmt: skip
    assert judgement.table.splitlines() == [
        " Accuracy (P@1) of 3 referring expressions, IoU >= 0.50",
        "               P@1     P@5    P@10  expressions",
        "  all        0.333   0.667   0.667            3",
        "  refcoco    0.500   1.000   1.000            2",
        "  refcoco+   0.000   0.000   0.000            1",
    ]


@pytest.fixture
def real(shared_data: Path) -> CaptionTestSet:
    file = shared_data / "refexp_mini" / "finetune_refcoco_val.json"
    images = shared_data / "grounding_mini" / "images"
    return caption_test_set(DatasetSpec("mini", file, images, "grounding", judged="expressions"))


def run(detector: Detector, test_set: CaptionTestSet, folder: Path, **options: int) -> Results:
    judge = build_evaluator(test_set)
    return evaluate(detector, test_set, judge, output_dir=folder, depends_on={}, **options)


def test_truth_as_predictions_gives_one(real: CaptionTestSet, tmp_path: Path) -> None:
    results = run(KnowingCaptions(real), real, tmp_path)
    assert results.metrics == {"P@1": 1.0, "P@5": 1.0, "P@10": 1.0}
    assert results.judgement.counts == {"expressions": 37, "expressions_without_box": 0}
    file = json.loads((tmp_path / "results.json").read_text())
    assert file["protocol"]["metric"].startswith("referring expressions, P@1 (accuracy)")
    lines = overview({"a": results, "b": results}).splitlines()
    assert lines[0].split() == ["P@1", "P@5", "P@10", "images", "unread"]
    assert lines[-1].split() == ["mean", *["1.000"] * 3]


def test_figures_depend_neither_on_batches_nor_on_order(
    real: CaptionTestSet, tmp_path: Path
) -> None:
    detector = KnowingCaptions(real, mistakes=True)
    one = run(detector, real, tmp_path / "1", batch_size=1)
    four = run(Shuffled(detector), real, tmp_path / "4", batch_size=4)
    assert 0 < one.metrics["P@1"] < 1
    assert four.metrics == one.metrics
    files = [(tmp_path / name / "predictions.json").read_text() for name in "14"]
    assert files[0] == files[1]
