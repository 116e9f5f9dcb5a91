"""components/losses.npz: the GIoU and the token focal loss, values and gradients.

Its third part, the focal loss of the class logits, belongs to a loss that is multiplied by zero and
not computed here.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glipkit.layers.losses import TokenTargets, generalized_iou, token_focal_loss
from glipkit.modeling.box_coder import BoxCoder


@pytest.fixture(scope="module")
def values(golden: Path) -> dict[str, Tensor]:
    file = np.load(golden / "components" / "losses.npz")
    return {key: torch.from_numpy(file[key]) for key in file.files}


def test_generalized_iou(values: dict[str, Tensor]) -> None:
    predicted, coder = values["giou_pred"].requires_grad_(), BoxCoder()
    boxes = coder.decode(predicted, values["giou_anchors"])
    truth = coder.decode(values["giou_target"], values["giou_anchors"])
    loss = (values["giou_weight"] * (1 - generalized_iou(boxes, truth))).sum()
    loss.backward()
    assert_close(loss.detach(), values["giou_weighted_sum"], rtol=1e-5, atol=0)
    assert_close(predicted.grad, values["giou_grad"], rtol=1e-5, atol=1e-7)


def test_token_focal_loss(values: dict[str, Tensor]) -> None:
    """One mask of 17 and one of all 256 tokens; every position has a row of its own."""
    logits = values["token_logits"].requires_grad_()
    count, length = logits.shape[1:]
    assert values["token_mask"].sum(dim=1).tolist() == [17, 256]
    targets = [
        TokenTargets(torch.arange(count), wanted > 0, torch.zeros(length).bool(), mask > 0)
        for wanted, mask in zip(values["token_targets"], values["token_mask"])
    ]
    loss = token_focal_loss(logits, targets, alpha=0.25, gamma=2)
    loss.backward()
    assert_close(loss.detach(), values["token_loss_sum"], rtol=1e-5, atol=0)
    assert_close(logits.grad, values["token_grad"], rtol=1e-5, atol=1e-6)
