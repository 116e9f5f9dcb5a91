"""components/atss_assignment.npz: positives, the boxes they find, and what they should say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from glipkit.layers.losses import centerness_targets
from glipkit.modeling.anchors import AnchorGenerator
from glipkit.modeling.atss import ATSSAssigner
from glipkit.modeling.box_coder import BoxCoder


@pytest.mark.parametrize("case", range(4))
def test_assignment(golden: Path, case: int) -> None:
    file = np.load(golden / "components" / "atss_assignment.npz")
    values = {
        key.split(".", 1)[1]: torch.from_numpy(file[key])
        for key in file.files
        if key.startswith(f"case{case}.")
    }
    levels = AnchorGenerator()(values["grids"].tolist())
    anchors = torch.cat(levels)
    assert len(anchors) == values["num_anchors"]

    matches = ATSSAssigner(topk=9)(levels, values["boxes"])
    assert matches.anchors.tolist() == values["positive_indices"].tolist()
    assert matches.boxes.tolist() == values["matched_gt"].tolist()
    labels = values["labels"][matches.boxes]
    assert labels.tolist() == values["anchor_labels_nonzero"].tolist()

    own, coder = anchors[matches.anchors], BoxCoder()
    deltas = coder.encode(values["boxes"][matches.boxes], own)
    assert_close(deltas, values["reg_targets_pos"], rtol=1e-5, atol=1e-6)
    centerness = centerness_targets(coder.decode(deltas, own), (own[:, :2] + own[:, 2:]) / 2)
    assert_close(centerness, values["centerness"], rtol=1e-5, atol=1e-6)
