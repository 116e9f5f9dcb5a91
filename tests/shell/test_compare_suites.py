"""`glipkit compare` on captions, referring expressions and LVIS."""

import json
from dataclasses import replace
from pathlib import Path

import federated
import pytest
import yaml
from captioned import answer, draw_captions, write_captions
from evaluated import PROTOCOL, compared, evaluated, refused, write_config

from glipkit.data.catalog import DatasetSpec
from glipkit.evaluation.looks import chosen
from glipkit.evaluation.lvis import LvisEvaluator
from glipkit.evaluation.results import Results, Timing
from glipkit.structures.detections import Detections


def test_recall_of_phrases(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = draw_captions(tmp_path / "data", num_pictures=12)
    folders = [evaluated(tmp_path / name, spec, mistakes=mistakes)
               for name, mistakes in (("right", False), ("wrong", True))]  # fmt: skip
    found = compared(capsys, *folders)
    assert found["bootstrap"]["left_out"] is None
    first = found["metrics"][0]
    assert first["name"] == "R@1"
    low, high = first["intervals"][0]
    assert low <= first["differences"][0] <= high < 0
    assert found["per_class"] == []


def test_recall_of_types_of_phrases(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = draw_captions(tmp_path / "data", num_pictures=12)
    content = json.loads(spec.ann_file.read_text())
    for number, each in enumerate(content["images"]):
        kinds = ["people"] if number < 10 else ["animals", "scene"]
        each["phrase_types"] = [kinds] * len(each["tokens_positive_eval"])
    spec.ann_file.write_text(json.dumps(content))
    folders = [evaluated(tmp_path / name, spec, mistakes=mistakes)
               for name, mistakes in (("right", False), ("wrong", True))]  # fmt: skip
    found = compared(capsys, *folders)
    rows = {each["name"]: each for each in found["metrics"]}
    assert {"R@1/people", "R@all/animals", "R@5/scene"} <= set(rows)
    low, high = rows["R@1/people"]["intervals"][0]
    assert low <= rows["R@1/people"]["differences"][0] <= high
    assert rows["R@1/animals"]["intervals"] == rows["R@1/scene"]["intervals"]
    # Another machine, where the file says nothing of types.
    results = json.loads((folders[1] / "results.json").read_text())
    results["metrics"]["R@1/vehicles"] = 0.5
    (folders[1] / "results.json").write_text(json.dumps(results))
    assert compared(capsys, *folders)["metrics"] == found["metrics"]  # of what both have
    results = json.loads((folders[0] / "results.json").read_text())
    results["metrics"]["R@1/vehicles"] = 0.6
    (folders[0] / "results.json").write_text(json.dumps(results))
    assert (
        "no phrase that R@1/vehicles is of" in compared(capsys, *folders)["bootstrap"]["left_out"]
    )


def test_a_config_that_says_which_truth(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Protocol, subset and truth are those of config.yaml, as they were at the evaluation."""
    spec = draw_captions(tmp_path / "data", num_pictures=12)
    folders = [evaluated(tmp_path / name, spec, mistakes=mistakes)
               for name, mistakes in (("right", False), ("wrong", True))]  # fmt: skip
    for folder in folders:
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        settings["TEST"]["SUBSET"] = 5
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    said = compared(capsys, *folders)["bootstrap"]["left_out"]
    assert "has no caption with the image record" in said
    for folder in folders:
        content = json.loads((folder / "results.json").read_text())
        content["metrics"] = {"CIDEr": 0.5}
        (folder / "results.json").write_text(json.dumps(content))
        write_config(folder, spec)
    said = compared(capsys, *folders)["bootstrap"]["left_out"]
    assert "intervals of captions are made for R@... and P@..., not for CIDEr" in said


def test_accuracy_of_referring_expressions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = expressions(tmp_path / "data")
    folders = [evaluated(tmp_path / name, spec, mistakes=mistakes)
               for name, mistakes in (("right", False), ("wrong", True))]  # fmt: skip
    found = compared(capsys, *folders)
    assert found["bootstrap"]["left_out"] is None
    rows = {each["name"]: each for each in found["metrics"]}
    assert set(rows) == {f"P@{rank}{group}" for rank in (1, 5, 10)
                         for group in ("", "/refcoco", "/refcoco+")}  # fmt: skip
    assert rows["P@1"]["values"][0] == 1
    low, high = rows["P@1"]["intervals"][0]
    assert low <= rows["P@1"]["differences"][0] <= high < 0
    assert rows["P@1/refcoco+"]["intervals"] == [None]  # of 4 pictures
    assert rows["P@1/refcoco"]["intervals"] != [None]
    by_phrases = evaluated(tmp_path / "captions", draw_captions(tmp_path / "other"), mistakes=False)
    assert "not of the same pictures and boxes" in refused(capsys, folders[0], by_phrases)


def expressions(folder: Path) -> DatasetSpec:
    """Two expressions a picture, of 14 pictures; those of 4 pictures are of RefCOCO+."""
    spec = draw_captions(folder, num_pictures=14)
    content = json.loads(spec.ann_file.read_text())
    images, boxes = [], []
    for number, each in enumerate(2 * content["images"][:14]):
        collection = "refcoco+" if number % 14 < 4 else "refcoco"
        record = {**each, "id": 7 * number, "dataset_name": collection}
        del record["tokens_positive_eval"]
        images.append(record)
        box = [3 + number, 5, 20, 12 + number]
        boxes.append(answer(number, 7 * number, box, [[0, len(each["caption"])]]))
    written = write_captions(folder, images, boxes)
    return replace(written, judged="expressions")


def test_federated_classes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = DatasetSpec("lvis_drawn", federated.random_file(tmp_path, 0), tmp_path, "lvis")
    dataset = federated.load(spec.ann_file)
    answers = federated.random_answers(dataset, 0)
    fewer = {image_id: chosen(each, each.scores > 0.4) for image_id, each in answers.items()}
    folders = [judged_lvis(tmp_path / name, spec, each)
               for name, each in (("all", answers), ("fewer", fewer))]  # fmt: skip
    found = compared(capsys, *folders)
    assert found["bootstrap"]["left_out"] is None
    rows = {each["name"]: each for each in found["metrics"]}
    assert rows["AP"]["values"][1] < rows["AP"]["values"][0]
    low, high = rows["AP"]["intervals"][0]
    assert low <= rows["AP"]["differences"][0] <= high
    assert rows["APs"]["intervals"] == [None]
    entries = json.loads((folders[1] / "predictions.json").read_text())
    (folders[1] / "predictions.json").write_text(json.dumps([*entries, entries[0]]))
    said = compared(capsys, *folders)["bootstrap"]["left_out"]
    assert "do not stand together" in said


def judged_lvis(folder: Path, spec: DatasetSpec, answers: dict[int, Detections]) -> Path:
    dataset = federated.load(spec.ann_file)
    evaluator = LvisEvaluator(dataset, [each.category_id for each in dataset.categories])
    for image_id, each in answers.items():
        evaluator.process(image_id, each)
    protocol = {**PROTOCOL, "annotations_sha256": dataset.digest, "num_images": len(dataset),
                "metric": evaluator.metric, "weights": folder.name}  # fmt: skip
    predictions = list(evaluator.predictions())
    folder.mkdir()
    Results(
        dataset=spec.name, judgement=evaluator.evaluate(), num_images=len(dataset),
        num_predictions=len(predictions), failures=(), depends_on=protocol, config={},
        timing=Timing(1.0, len(dataset), 1, 1),
    ).write(folder, predictions)  # fmt: skip
    write_config(folder, spec)
    return folder
