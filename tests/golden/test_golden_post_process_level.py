"""components/post_process_level.npz: one level of two pictures, all the way to detections."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glipkit.grounding.alignment import reading_table
from glipkit.modeling.glip import GroundingOutput
from glipkit.modeling.head.predictor import LevelPrediction
from glipkit.modeling.postprocess import Candidates, Postprocessor


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "components" / "post_process_level.npz"))


@pytest.fixture(scope="module")
def labels(arrays: dict[str, np.ndarray]) -> dict[str, list[int]]:
    return json.loads(arrays["positive_map_json"].item())


@pytest.fixture
def phrase_tokens(labels: dict[str, list[int]]) -> Tensor:
    rows = torch.zeros(len(labels), 256, dtype=torch.int64)
    for row, tokens in zip(rows, labels.values()):
        row[tokens] = 1
    return rows


@pytest.fixture
def output(arrays: dict[str, np.ndarray]) -> GroundingOutput:
    level = LevelPrediction(
        token_logits=torch.from_numpy(arrays["dot_logits"]),
        box_deltas=torch.from_numpy(arrays["bbox_reg"]).flatten(2).mT,
        centerness=torch.from_numpy(arrays["centerness"]).flatten(1),
    )
    return GroundingOutput(levels=(level,), anchors=(torch.from_numpy(arrays["anchors"]),))


def postprocessor(arrays: dict[str, np.ndarray], how: str) -> Postprocessor:
    return Postprocessor(pre_nms_top_n=int(arrays["pre_nms_top_n"]), aggregation=how)


@pytest.mark.parametrize("how", ["MEAN", "MAX"])
@pytest.mark.parametrize("image", [0, 1])
def test_candidates(arrays, labels, output, phrase_tokens, how: str, image: int) -> None:
    height, width = arrays["image_hw"][image].tolist()
    corners = torch.tensor([[width - 1.0, height - 1.0] * 2])
    level = LevelPrediction(*(part[image : image + 1] for part in output.levels[0]))
    table = reading_table([phrase_tokens], how)
    candidates = postprocessor(arrays, how).level_candidates(
        level, output.anchors[0], table, corners
    )
    is_real = candidates.scores[0] >= 0
    found = Candidates(*(part[0, is_real] for part in candidates))
    assert_same_set(found, arrays, f"{how}.pre.{image}", labels)


@pytest.mark.parametrize("how", ["MEAN", "MAX"])
def test_detections(arrays, labels, output, phrase_tokens, how: str) -> None:
    sizes = [tuple(size) for size in arrays["image_hw"].tolist()]
    found = postprocessor(arrays, how)(output, [phrase_tokens] * 2, sizes)
    for image, detections in enumerate(found):
        assert detections.image_size == sizes[image]
        assert detections.scores.diff().max() <= 0
        assert_same_set(detections, arrays, f"{how}.post.{image}", labels)


def assert_same_set(found, arrays, prefix: str, labels: dict[str, list[int]]) -> None:
    expected = {
        name: torch.from_numpy(arrays[f"{prefix}.{name}"]) for name in ("boxes", "scores", "labels")
    }
    assert len(found.scores) == len(expected["scores"])
    ours = found.scores.argsort(descending=True)
    theirs = expected["scores"].argsort(descending=True)
    known = torch.tensor([int(label) for label in labels])
    assert known[found.phrase_ids[ours]].tolist() == expected["labels"][theirs].tolist()
    torch.testing.assert_close(found.scores[ours], expected["scores"][theirs], rtol=1e-5, atol=0)
    torch.testing.assert_close(found.boxes[ours], expected["boxes"][theirs], rtol=0, atol=1e-4)
