"""Swin against its definition in loops, against timm, and at awkward sizes."""

import math

import pytest
import timm
import torch
from reference import swin as reference
from timm.models.swin_transformer import SwinTransformerBlock
from torch import nn
from torch.testing import assert_close

from glipkit.modeling.backbone.swin import (
    PatchMerging,
    SwinBlock,
    SwinTransformer,
    WindowAttention,
)


def shake(module: nn.Module) -> nn.Module:
    """Random values everywhere: fresh norms, biases and tables would hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def small(**options: object) -> SwinTransformer:
    numbers = {"embed_dim": 8, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 4), "window": 3}
    return shake(SwinTransformer(**numbers | options))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(6, 9), (7, 5), (4, 4), (2, 3), (1, 1), (1, 10)])
def test_block_is_its_definition(size: tuple[int, int], shifted: bool) -> None:
    block = shake(SwinBlock(8, num_heads=2, window=4, shifted=shifted)).double()
    x = torch.randn(2, *size, 8, dtype=torch.float64)
    expected = [
        reference.block(
            one, block.state_dict(), num_heads=2, window=4, shift=2 if shifted else 0
        )
        for one in x
    ]  # fmt: skip
    assert_close(block(x), torch.stack(expected))


@pytest.mark.parametrize("size", [(4, 6), (5, 4), (1, 3), (1, 1)])
def test_merging_is_its_definition(size: tuple[int, int]) -> None:
    merging = shake(PatchMerging(3)).double()
    x = torch.randn(2, *size, 3, dtype=torch.float64)
    expected = torch.stack([reference.merge(one, merging.state_dict()) for one in x])
    assert_close(merging(x), expected)
    assert expected.shape[1:3] == (math.ceil(size[0] / 2), math.ceil(size[1] / 2))


@pytest.mark.parametrize("shift", [0, 3])
def test_whole_windows_agree_with_timm(shift: int) -> None:
    """Where nothing is padded, padding before or after the shift is the same."""
    theirs = SwinTransformerBlock(
        16, input_resolution=(14, 21), num_heads=2, window_size=7, shift_size=shift
    )
    theirs = shake(theirs).double()
    ours = SwinBlock(16, num_heads=2, window=7, shifted=shift > 0).double()
    state = {
        name.replace("attn.proj.", "attention.projection.").replace("attn.", "attention."): value
        for name, value in theirs.state_dict().items()
        if "index" not in name and "attn_mask" not in name
    }
    ours.load_state_dict(state)
    x = torch.randn(2, 14, 21, 16, dtype=torch.float64)
    assert_close(ours(x), theirs(x))


def test_whole_network_agrees_with_timm() -> None:
    """Every map is several whole windows: timm pads none and, as we always do, shifts all."""
    theirs = timm.create_model(
        "swin_tiny_patch4_window7_224", pretrained=False, features_only=True, embed_dim=12,
        depths=(2, 2, 2), num_heads=(1, 2, 2), img_size=(224, 448),
    )  # fmt: skip
    shake(theirs)
    ours = SwinTransformer(embed_dim=12, depths=(2, 2, 2), num_heads=(1, 2, 2)).eval()
    state = {}
    for name, value in theirs.state_dict().items():
        stage, _, rest = name.partition(".")
        if stage == "patch_embed":
            state[f"patch_embed.{rest.replace('proj.', 'projection.')}"] = value
            continue
        number = int(stage.removeprefix("layers_"))
        if rest.startswith("downsample"):  # timm merges at the start of a stage, we at the end
            number -= 1
        rest = rest.replace("attn.proj.", "attn.projection.").replace("attn.", "attention.")
        state[f"stages.{number}.{rest}"] = value
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(name.startswith("output_norms.") for name in missing)
    ours.output_norms = nn.ModuleList(nn.Identity() for _ in ours.output_norms)
    pixels = torch.randn(1, 3, 224, 448)
    with torch.no_grad():
        for mine, other in zip(ours.all_stages(pixels), theirs(pixels)):
            assert_close(mine, other.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (50, 33), (1, 1), (7, 200), (31, 5)])
def test_any_picture_size(size: tuple[int, int]) -> None:
    model = small()
    maps = model.all_stages(torch.randn(2, 3, *size))
    for index, (features, stride) in enumerate(zip(maps, (4, 8, 16, 32))):
        height, width = size
        expected = (2, 8 * 2**index, math.ceil(height / stride), math.ceil(width / stride))
        assert features.shape == expected
        assert features.isfinite().all()
    assert model.out_channels == (16, 32, 64)
    for given, whole in zip(model(torch.zeros(1, 3, *size)), maps[1:]):
        assert given.shape[1:] == whole.shape[1:]


def test_coarser_maps_alone() -> None:
    whole, part = small(), small(num_maps=2)
    norms = [name for name in part.state_dict() if name.startswith("output_norms.")]
    part.load_state_dict(
        {name: value for name, value in whole.state_dict().items() if name[:6] != "output"}
        | {name: part.state_dict()[name] for name in norms}
    )
    part.output_norms.load_state_dict(whole.output_norms[1:].state_dict())
    assert part.out_channels == (32, 64)
    pixels = torch.randn(1, 3, 64, 96)
    assert_close(part(pixels), whole(pixels)[1:])
    with pytest.raises(ValueError, match="4 stages hand on 1 to 3 maps, got 4"):
        small(num_maps=4)


def test_a_batch_is_its_pictures() -> None:
    model = small().double()
    pixels = torch.randn(3, 3, 40, 56, dtype=torch.float64)
    together = model(pixels)
    for index in range(3):
        for batch, alone in zip(together, model(pixels[index : index + 1])):
            assert_close(batch[index : index + 1], alone)


def test_gradient_reaches_every_parameter() -> None:
    model = small()
    with torch.inference_mode():
        model(torch.randn(1, 3, 40, 56))  # what an inference remembers must not spoil a training
    sum(m.square().sum() for m in model(torch.randn(1, 3, 40, 56))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []


def test_state_dict_holds_parameters_only_and_travels() -> None:
    first, second = small(), small()
    assert set(first.state_dict()) == {name for name, _ in first.named_parameters()}
    second.load_state_dict(first.state_dict())
    pixels = torch.randn(1, 3, 40, 40)
    assert_close(first(pixels), second(pixels))


@pytest.mark.parametrize("size", [(64, 96), (50, 33)])
def test_inference_gives_what_training_sees(size: tuple[int, int]) -> None:
    """Without gradients the MLPs go by rows and add in place."""
    model = small()
    pixels = torch.randn(2, 3, *size)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = model.all_stages(pixels)
        assert_close(found, model.all_stages(pixels), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model.all_stages(pixels)
        with torch.no_grad():
            found = model.all_stages(pixels)
    assert_close(found, expected, rtol=0.02, atol=0.05)


def test_input_survives() -> None:
    block = shake(SwinBlock(8, num_heads=2, window=4, shifted=True))
    x = torch.randn(1, 5, 6, 8)
    kept = x.clone()
    with torch.no_grad():
        block(x)
    assert torch.equal(x, kept)


def test_drop_path_grows_linearly_and_only_trains() -> None:
    model = small(drop_path=0.4)
    rates = [
        getattr(block.drop_path, "drop_prob", 0.0)
        for stage in model.stages
        for block in stage.blocks
    ]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    pixels = torch.randn(1, 3, 32, 32)
    assert_close(model(pixels), model(pixels))
    model.train()
    assert any(not torch.equal(model(pixels)[2], model(pixels)[2]) for _ in range(8))


def test_errors() -> None:
    with pytest.raises(ValueError, match="num_heads must divide dim, got 3 and 8"):
        WindowAttention(8, num_heads=3, window=4)
    with pytest.raises(ValueError, match=r"same two or more stages, got \(1, 1\) and \(1,\)"):
        SwinTransformer(embed_dim=8, depths=(1, 1), num_heads=(1,))
