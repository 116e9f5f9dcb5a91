"""The parts of the published pipeline against slower and more obvious forms of the same."""

import json
from pathlib import Path

import pytest
import torch
from reference.compare import assert_relative
from reference.dyconv import PlainDyConv
from reference.pipeline import PublishedModel
from reference.pipeline_head import TorchvisionDyConv
from reference.pipeline_image import Block, PatchMerging, shift_mask
from reference.pipeline_text import EagerTextLayer
from reference.swin import block as looped_block
from reference.swin import merge as looped_merge
from reference.text_layer import PlainTextLayer

from glipkit.config.load import load_config
from glipkit.modeling.build import build_model
from glipkit.modeling.official import is_derived

PRETRAIN = Path(__file__).parents[2] / "configs" / "pretrain"


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 12), (5, 9), (3, 3)])  # whole windows, not, smaller than one
def test_swin_block(size: tuple[int, int], shift: int) -> None:
    block = Block(6, 2, 4, shift, 12, 0.0).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(*size, 6, dtype=torch.float64)
    tall, wide = (-(-side // 4) * 4 for side in size)
    weights = {
        name.replace("attn.proj.", "attn.projection.").replace("attn.", "attention."): value
        for name, value in block.state_dict().items()
    }
    with torch.no_grad():
        expected = looped_block(x, weights, num_heads=2, window=4, shift=shift)
        (found,) = block(x[None], shift_mask(tall, wide, 4, x))
    torch.testing.assert_close(found, expected)


def test_patch_merging() -> None:
    merging = PatchMerging(3).double()
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(merging(x[None])[0], looped_merge(x, merging.state_dict()))


def test_dyconv() -> None:
    plain, fast = PlainDyConv(16, 4).double(), TorchvisionDyConv(16, 4).double()
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    fast.load_state_dict(plain.state_dict())
    levels = [torch.randn(2, 16, *size, dtype=torch.float64) for size in ((9, 14), (5, 7), (3, 4))]
    with torch.no_grad():
        for found, expected in zip(fast(levels), plain(levels), strict=True):
            torch.testing.assert_close(found, expected)


def test_text_layer() -> None:
    plain = PlainTextLayer(24, heads=4, hidden_dim=40).double().eval()
    eager = EagerTextLayer(24, heads=4, hidden_dim=40).double().eval()
    eager.load_state_dict(plain.state_dict())
    x, mask = torch.randn(2, 7, 24, dtype=torch.float64), torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    with torch.no_grad():
        assert_relative(eager(x, mask), plain(x, mask), 1e-9)


@pytest.mark.parametrize("name", ["glip_Swin_T_O365_GoldG", "glip_A_Swin_T_O365", "glip_Swin_L"])
def test_names_and_shapes_are_the_published_ones(name: str, golden: Path) -> None:
    """The published parameters, all of them and no other: the same work for them, then."""
    manifest = json.loads((golden / "manifests" / f"{name}.json").read_text())
    with torch.device("meta"):
        model = PublishedModel(build_model(load_config([PRETRAIN / f"{name}.yaml"])))
    held = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert held == {
        entry["name"]: entry["shape"]
        for entry in manifest["entries"]
        if not is_derived(entry["name"])
    }
    assert sum(p.numel() for p in model.parameters()) == manifest["num_parameters"]
