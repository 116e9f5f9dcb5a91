"""The tower's text layer against the published one, float64 (one padded caption)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from reference.naming import load_published
from reference.text_layer import RENAMED, PlainTextLayer
from torch.testing import assert_close

from glipkit.modeling.fill import fill_value
from glipkit.modeling.head.text_layer import TextLayer


@pytest.mark.parametrize("form", ["plain", "ours"])
def test_text_layer(golden: Path, form: str) -> None:
    case = np.load(golden / "components" / "bert_encoder_layer_f64.npz")
    layer = PlainTextLayer().double()
    for name, value in layer.state_dict().items():
        value.copy_(torch.from_numpy(fill_value(f"bertlayer_unit.{name}", value.shape, 0)))
    if form == "ours":
        layer = load_published(TextLayer(768).double(), layer, RENAMED)
    hidden, mask = torch.from_numpy(case["hidden"]), torch.from_numpy(case["masks"]).bool()
    text = layer.eval()(hidden, mask)
    assert_close(text.detach(), torch.from_numpy(case["out_hidden"]), rtol=1e-10, atol=1e-10)
