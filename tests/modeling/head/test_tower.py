import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glipkit.layers.cross_attention import CrossModalityAttention
from glipkit.modeling.head.dyconv import DyConv
from glipkit.modeling.head.fusion import VLFuse
from glipkit.modeling.head.text_layer import TextLayer
from glipkit.modeling.head.tower import Tower, TowerBlock
from glipkit.modeling.language.features import TextFeatures

CHANNELS, TEXT_DIM = 16, 12


def build(num_blocks: int = 2, fused: bool = True) -> Tower:
    blocks = []
    for _ in range(num_blocks):
        fusion = text_layer = None
        if fused:
            attention = CrossModalityAttention(CHANNELS, TEXT_DIM, embed_dim=32, num_heads=4)
            fusion = VLFuse(attention, image_dim=CHANNELS, text_dim=TEXT_DIM, num_blocks=num_blocks)
            text_layer = TextLayer(TEXT_DIM, num_heads=3, hidden_dim=20)
        blocks.append(TowerBlock(fusion, text_layer, DyConv(CHANNELS)))
    tower = Tower(blocks)
    for name, parameter in tower.named_parameters():
        if ".offset." in name or ".level_attention." in name:
            torch.nn.init.normal_(parameter, std=0.3)
        if name.endswith(("level_attention.bias", "relu.reduce.bias")):
            torch.nn.init.uniform_(parameter, 0.3, 0.9)  # none of them dead
    return tower


def inputs() -> tuple[tuple[Tensor, ...], TextFeatures]:
    levels = tuple(torch.randn(2, CHANNELS, *size) for size in ((9, 7), (5, 4), (3, 2)))
    mask = torch.arange(8) < torch.tensor([[8], [5]])
    return levels, TextFeatures(
        torch.randn(2, 8, TEXT_DIM), torch.randn(2, 8, TEXT_DIM) * mask[:, :, None], mask
    )


@pytest.mark.parametrize("fused", [True, False])
def test_shapes_and_what_changes(fused: bool) -> None:
    levels, text = inputs()
    outputs, text_output = build(fused=fused).eval()(levels, text)
    assert [output.shape for output in outputs] == [level.shape for level in levels]
    assert text_output.hidden.shape == text.hidden.shape
    assert torch.equal(text_output.embedded, text.embedded)
    assert torch.equal(text_output.mask, text.mask)
    assert torch.equal(text_output.hidden, text.hidden) is not fused


def test_gradients_reach_every_parameter() -> None:
    tower = build().train()
    levels, text = inputs()
    outputs, text_output = tower(levels, text)
    (sum(output.square().sum() for output in outputs) + text_output.hidden.cos().sum()).backward()
    unreached = [
        name
        for name, parameter in tower.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert unreached == []


def test_streamed_is_whole() -> None:
    tower = build().eval()
    levels, text = inputs()
    whole_levels, whole_text = tower(levels, text)
    with torch.no_grad():
        streamed_levels, streamed_text = tower(levels, text)
    for got, want in zip(streamed_levels, whole_levels):
        assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert_close(streamed_text.hidden, whole_text.hidden, rtol=1e-4, atol=1e-5)


def test_padding_tokens_change_nothing() -> None:
    tower = build().double().eval()
    levels, text = inputs()
    levels = tuple(level.double() for level in levels)
    text = TextFeatures(text.hidden.double(), text.embedded.double(), text.mask)
    other = text._replace(
        hidden=torch.where(text.mask[:, :, None], text.hidden, 100 * torch.randn_like(text.hidden))
    )
    (levels1, text1), (levels2, text2) = tower(levels, text), tower(levels, other)
    for got, want in zip(levels2, levels1):
        assert_close(got, want, rtol=1e-11, atol=1e-11)
    assert_close(text2.hidden[text.mask], text1.hidden[text.mask], rtol=1e-11, atol=1e-11)


def test_state_dict_round_trip() -> None:
    tower, other = build().eval(), build().eval()
    other.load_state_dict(tower.state_dict())
    levels, text = inputs()
    for got, want in zip(other(levels, text)[0], tower(levels, text)[0]):
        assert_close(got, want)


def test_no_block() -> None:
    with pytest.raises(ValueError, match="at least one block"):
        Tower([])
