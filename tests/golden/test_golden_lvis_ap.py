"""components/lvis_ap.json: fixed AP and normal AP of a small federated dataset."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glipkit.data.catalog import DatasetSpec
from glipkit.data.datasets.lvis import load_lvis
from glipkit.evaluation.lvis import LvisEvaluator
from glipkit.structures.detections import Detections

PROTOCOLS = {
    "fixed_topk10000": {},
    "fixed_topk5": {"limit": 5},
    "normal_ap_max300": {"normal_ap": True},
}


@pytest.fixture(scope="module")
def reference(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "components" / "lvis_ap.json").read_text())


def judge(reference: dict[str, Any], folder: Path, **protocol: object) -> LvisEvaluator:
    path = folder / "lvis.json"
    path.write_text(json.dumps(reference["ground_truth"]))
    dataset = load_lvis(DatasetSpec("toy", path, folder, "lvis"))
    phrase = {each.category_id: index for index, each in enumerate(dataset.categories)}
    evaluator = LvisEvaluator(dataset, list(phrase), **protocol)
    sizes = {image.image_id: image.size for image in dataset.images}
    for each in reference["predictions"]:
        evaluator.process(
            each["image_id"],
            Detections(
                torch.tensor(each["boxes_xyxy"]).reshape(-1, 4),
                torch.tensor(each["scores"]),
                torch.tensor([phrase[label] for label in each["labels"]], dtype=torch.int64),
                sizes[each["image_id"]],
            ),
        )
    return evaluator


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_figure_of_the_reference(
    reference: dict[str, Any], tmp_path: Path, name: str
) -> None:
    found = judge(reference, tmp_path, **PROTOCOLS[name]).evaluate().metrics
    # The reference calls recall AR@300, or AR@-1 where there is no limit for a picture.
    expected = {key.split("@")[0]: value for key, value in reference["expected"][name].items()}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=0, abs=1e-14), key


def test_the_limit_of_classes_is_what_differs(reference: dict[str, Any], tmp_path: Path) -> None:
    assert len(judge(reference, tmp_path, limit=5).predictions()) <= 5 * 6
    assert len(judge(reference, tmp_path).predictions()) == sum(
        len(each["labels"]) for each in reference["predictions"]
    )
