"""LVIS through the driver: batches, processes and interruptions change nothing."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import drawn
import pytest
import torch
from launched import launched

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.lvis import load_lvis
from glipkit.data.test_set import ClassTestSet
from glipkit.evaluation import lvis, pictures
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.report import report_on
from glipkit.evaluation.results import Results
from glipkit.evaluation.run import Detector, evaluate
from glipkit.structures.detections import Detections


def draw_lvis(folder: Path, num_images: int = 19) -> DatasetSpec:
    """Noise whose boxes are labelled like LVIS: in every second picture owls were looked for."""
    spec = drawn.draw(folder, num_images)
    content = json.loads(spec.ann_file.read_text())
    for number, image in enumerate(content["images"]):
        image["neg_category_ids"] = [11] * (number % 2)
        image["not_exhaustive_category_ids"] = [7] * (number % 3 == 0)
    for category, frequency in zip(content["categories"], "rcf"):
        category["frequency"] = frequency
    spec.ann_file.write_text(json.dumps(content))
    return replace(spec, kind="lvis")


def make_test_set(spec: DatasetSpec) -> ClassTestSet:
    return replace(drawn.make_test_set(spec, chunk_size=2), dataset=load_lvis(spec))


@pytest.fixture
def test_set(tmp_path: Path) -> ClassTestSet:
    return make_test_set(draw_lvis(tmp_path / "data"))


def stopping(detector: Detector, after: int) -> Detector:
    """The detector until the user presses Ctrl-C."""
    calls = iter(range(after))

    def detect(*args: object) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return detector(*args)

    return detect


def run(
    detector: Detector,
    test_set: ClassTestSet,
    folder: Path,
    *,
    normal_ap: bool = False,
    **options: object,
) -> Results:
    options = {"batch_size": 4, "depends_on": {"weights": "abc", "chunk_size": 2}, **options}
    cfg = SimpleNamespace(DATASETS=SimpleNamespace(LVIS_USE_NORMAL_AP=normal_ap))
    evaluator = build_evaluator(test_set, cfg)
    return evaluate(detector, test_set, evaluator, output_dir=folder, **options)


def test_batches_and_interruptions_change_nothing(test_set: ClassTestSet, tmp_path: Path) -> None:
    detector = drawn.KnowingDetector(test_set, mistakes=True)
    expected = run(detector, test_set, tmp_path / "one", batch_size=1)
    assert 0.05 < expected.metrics["AP"] < 0.95
    assert expected.num_predictions > 20
    with pytest.raises(KeyboardInterrupt):
        run(stopping(detector, after=2), test_set, tmp_path / "cut")
    detector.batch_sizes.clear()
    resumed = run(detector, test_set, tmp_path / "cut", resume=True)
    assert sum(detector.batch_sizes) == 19 - 8
    assert resumed.judgement == expected.judgement
    written = [(tmp_path / name / "predictions.json").read_text() for name in ("one", "cut")]
    assert written[0] == written[1]
    assert len(json.loads(written[0])) == expected.num_predictions


def test_the_truth_gives_one_and_the_file_says_by_which_protocol(
    test_set: ClassTestSet, tmp_path: Path
) -> None:
    knowing = drawn.KnowingDetector(test_set)  # in COCO's way, where x2 belongs to the box

    def detect(*args: object) -> list[Detections]:
        wider = torch.tensor([0.0, 0.0, 1.0, 1.0])
        return [replace(each, boxes=each.boxes + wider) for each in knowing(*args)]

    results = run(detect, test_set, tmp_path)
    assert results.metrics["AP"] == pytest.approx(1.0)
    assert results.metrics["APr"] == pytest.approx(1.0)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["protocol"]["metric"].startswith("LVIS fixed AP (boxes; at most 10000 of a cl")
    assert written["protocol"]["chunk_size"] == 2
    assert written["counts"]["classes_with_boxes"] == 3
    assert "LVIS fixed AP" in results.report()
    assert report_on(test_set, tmp_path) is None  # right boxes would be called mistakes
    assert not (tmp_path / "report.html").exists()


def test_pictures_show_the_best_boxes(
    test_set: ClassTestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"image_id": test_set.dataset.images[1].image_id, "category_id": 11}
    entries = [
        {**entry, "bbox": [1.0, 2.0, 10.0, 12.5], "score": score / 100}
        for score in (*range(0, 100, 2), *range(1, 100, 2))
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    shown = []
    monkeypatch.setattr(
        pictures, "draw", lambda image, found, names, **rest: shown.append(found) or image
    )
    pictures.save_pictures(test_set, tmp_path, count=2, score_threshold=0.95)
    pictures.save_pictures(test_set, tmp_path, count=2)
    assert [len(each) for each in shown] == [0, 5, 0, 10]
    assert shown[3].scores.tolist() == pytest.approx([score / 100 for score in range(99, 89, -1)])
    assert shown[3].boxes[0].tolist() == [1.0, 2.0, 11.0, 14.5]


def test_one_run_gives_both_protocols(
    test_set: ClassTestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lvis, "PER_IMAGE", 2)
    detector = drawn.KnowingDetector(test_set, mistakes=True)
    fixed = run(detector, test_set, tmp_path / "both")
    normal = run(detector, test_set, tmp_path / "normal", normal_ap=True)
    assert normal.num_predictions < fixed.num_predictions
    detector.batch_sizes.clear()
    again = run(detector, test_set, tmp_path / "both", normal_ap=True, resume=True)
    assert detector.batch_sizes == []
    assert again.judgement == normal.judgement
    written = json.loads((tmp_path / "both" / "results.json").read_text())
    assert written["protocol"]["metric"] == "LVIS normal AP (boxes; at most 2 of a picture)"


TWO_PROCESSES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import drawn, test_lvis_run
from glipkit.data.catalog import DatasetSpec
from glipkit.runtime import distributed

folder = Path(sys.argv[2])
distributed.init()
test_set = test_lvis_run.make_test_set(
    DatasetSpec("drawn", folder / "boxes.json", folder / "pictures", "lvis")
)
detector = drawn.KnowingDetector(test_set, mistakes=True)
results = test_lvis_run.run(detector, test_set, Path(sys.argv[3]), batch_size=2)
assert results.num_images == len(test_set)
assert sum(detector.batch_sizes) < len(test_set)
distributed.shutdown()
"""


@pytest.mark.slow
def test_two_processes_change_nothing_for_lvis(test_set: ClassTestSet, tmp_path: Path) -> None:
    detector = drawn.KnowingDetector(test_set, mistakes=True)
    expected = run(detector, test_set, tmp_path / "one")
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launched(script, Path(__file__).parent, tmp_path / "data", tmp_path / "two")
    written = json.loads((tmp_path / "two" / "results.json").read_text())
    assert written["metrics"] == expected.metrics
    assert (tmp_path / "two" / "predictions.json").read_text() == (
        tmp_path / "one" / "predictions.json"
    ).read_text()
