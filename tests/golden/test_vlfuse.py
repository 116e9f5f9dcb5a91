"""The fusion block against the published one, float64 (five levels, one padded caption)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from reference.fusion import RENAMED, PlainVLFuse
from reference.naming import load_published
from torch.testing import assert_close

from glipkit.layers.cross_attention import CrossModalityAttention
from glipkit.modeling.fill import fill_value
from glipkit.modeling.head.fusion import VLFuse


def filled(plain: PlainVLFuse) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(fill_value(f"vlfuse_unit.{name}", value.shape, 0)).double()
        for name, value in plain.state_dict().items()
    }


def build(form: str) -> torch.nn.Module:
    plain = PlainVLFuse().double()
    plain.load_state_dict(filled(plain))
    if form == "plain":
        return plain.eval()
    ours = VLFuse(CrossModalityAttention(256, 768), image_dim=256, text_dim=768, num_blocks=6)
    return load_published(ours.double(), plain, RENAMED).eval()


@pytest.mark.parametrize("with_grad", [True, False], ids=["whole", "streamed"])
@pytest.mark.parametrize("form", ["plain", "absorbed"])
def test_vlfuse(golden: Path, form: str, with_grad: bool) -> None:
    case = np.load(golden / "components" / "vlfuse_f64.npz")
    levels = tuple(torch.from_numpy(case[f"in{index}"]) for index in range(5))
    mask = torch.from_numpy(case["masks"]).bool()
    with torch.set_grad_enabled(with_grad):
        levels, text = build(form)(levels, torch.from_numpy(case["hidden"]), mask)
    for index, level in enumerate(levels):
        expected = torch.from_numpy(case[f"out{index}"])
        assert_close(level.detach(), expected, rtol=1e-10, atol=1e-10)
    # Padding rows are part of the golden numbers: they read the image as all others do.
    expected = torch.from_numpy(case["out_hidden"])
    assert_close(text.detach(), expected, rtol=1e-10, atol=1e-10)
