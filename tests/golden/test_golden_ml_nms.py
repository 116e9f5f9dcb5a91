"""components/ml_nms.npz: suppression inside classes, with pairs exactly at and just above 0.6."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glipkit.ops.nms import nms, nms_reference


@pytest.mark.parametrize("suppress", [nms, nms_reference])
def test_survivors(golden: Path, suppress: Callable[..., Tensor], device: str) -> None:
    arrays = np.load(golden / "components" / "ml_nms.npz")
    boxes, scores, labels = (
        torch.from_numpy(arrays[name]).to(device) for name in ("boxes", "scores", "labels")
    )
    kept = suppress(boxes, scores, labels, float(arrays["threshold"]), plus_one=True)
    assert kept.cpu().sort().values.tolist() == arrays["keep_sorted_by_index"].tolist()
    assert scores[kept].diff().max() <= 0  # best first
