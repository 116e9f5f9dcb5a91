"""The published LVIS command over real pictures, with glip-nano and 1,230 names in 31 prompts."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from launched import launched

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / "tools" / "test_grounding_net.py"
NANO = REPOSITORY / "glipkit" / "models" / "nano"

sys.path.insert(0, str(REPOSITORY / "tools"))
import test_grounding_net  # noqa: E402

# DESIGN 6, as typed.
PUBLISHED = [
    *("TEST.EVAL_TASK", "detection", "TEST.CHUNKED_EVALUATION", "40", "TEST.IMS_PER_BATCH", "4"),
    *("TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM", "3000", "MODEL.RETINANET.DETECTIONS_PER_IMG", "300"),
    *("MODEL.FCOS.DETECTIONS_PER_IMG", "300", "MODEL.ATSS.DETECTIONS_PER_IMG", "300"),
    *("MODEL.ROI_HEADS.DETECTIONS_PER_IMG", "300"),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (NANO / "model.safetensors").is_file(), reason="needs the weights of glip-nano"
    ),
]


def run(shared_data: Path, folder: Path, *overrides: str, processes: int = 1) -> Path:
    """Where the evaluation left its results."""
    sample = shared_data / "lvis_sample"
    entry = {
        "ann_file": str(sample / "lvis_val_3.json"),
        "img_dir": str(sample / "images"),
        "kind": "lvis",
    }
    folder.mkdir(parents=True, exist_ok=True)
    task = {"DATASETS": {"REGISTER": {"sample": entry}, "TEST": '("sample",)'}}
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    line = ["--config-file", str(NANO / "config.yaml"),
            "--weight", str(NANO / "model.safetensors"), "--task_config", str(folder / "task.yaml"),
            *PUBLISHED, "OUTPUT_DIR", str(folder), "DATALOADER.NUM_WORKERS", "0",
            *overrides]  # fmt: skip
    if processes > 1:
        launched(TOOL, *line, processes=processes, timeout=1200)
    else:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as each of several processes has
        try:
            assert test_grounding_net.main(line) == 0
        finally:
            torch.set_num_threads(threads)
    return folder / "task" / "sample"


@pytest.fixture(scope="module")
def alone(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture at a time."""
    return run(shared_data, tmp_path_factory.mktemp("alone"), "TEST.IMS_PER_BATCH", "1")


def read(folder: Path) -> tuple[dict, list[dict]]:
    results, predictions = (
        json.loads((folder / name).read_text()) for name in ("results.json", "predictions.json")
    )
    return results, predictions


def test_results_state_their_protocol(alone: Path) -> None:
    results, predictions = read(alone)
    assert results["protocol"]["metric"].startswith("LVIS fixed AP (boxes; at most 10000 of a cla")
    assert results["protocol"]["chunk_size"] == 40
    assert results["protocol"]["detections_per_image"] == 300
    assert len(results["protocol"]["captions"]) == 31
    assert results["counts"] == {
        "pictures": 3, "boxes": 8, "classes": 1230, "classes_with_boxes": 8
    }  # fmt: skip
    assert results["failures"] == []
    assert results["metrics"]["AP"] is not None
    assert results["metrics"]["APr"] is None  # no rare class in three pictures
    assert len(predictions) == results["num_predictions"] > 3 * 300


def test_batches_change_nothing_with_nano(shared_data: Path, tmp_path: Path, alone: Path) -> None:
    (expected, one_by_one), (found, together) = read(alone), read(run(shared_data, tmp_path))
    assert found["timing"]["batch_size"] == 4
    assert found["metrics"] == expected["metrics"]
    assert found["protocol"] == expected["protocol"]
    keys = [Counter((each["image_id"], each["category_id"]) for each in predictions)
            for predictions in (one_by_one, together)]  # fmt: skip
    assert keys[0] == keys[1]
    # Kernels may add up in another order for another batch.
    scores = [np.sort([each["score"] for each in predictions])
              for predictions in (one_by_one, together)]  # fmt: skip
    np.testing.assert_allclose(*scores, rtol=1e-4)


def test_two_processes_change_nothing_with_nano(
    shared_data: Path, tmp_path: Path, alone: Path
) -> None:
    folder = run(shared_data, tmp_path, "TEST.IMS_PER_BATCH", "2", processes=2)  # one each
    (expected, one), (found, two) = read(alone), read(folder)
    assert found["timing"]["num_processes"] == 2
    assert found["metrics"] == expected["metrics"]
    assert found["protocol"] == expected["protocol"]
    assert two == one
