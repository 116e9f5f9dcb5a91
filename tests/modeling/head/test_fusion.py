"""VLFuse against the plain form, and what must not change its answers."""

import pytest
import torch
from reference.compare import assert_relative
from reference.fusion import RENAMED, PlainVLFuse
from reference.naming import load_published, our_name
from torch import Tensor
from torch.testing import assert_close

from glipkit.layers.cross_attention import CrossModalityAttention
from glipkit.modeling.head.fusion import VLFuse

SIZES = ((6, 8), (3, 4), (2, 2), (1, 1), (1, 1))
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-12}


def pair(
    image_dim: int = 16, text_dim: int = 24, embed_dim: int = 64, num_heads: int = 4
) -> tuple[VLFuse, PlainVLFuse]:
    plain = PlainVLFuse(image_dim, text_dim, embed_dim, num_heads, dropout=0.0).double()
    for parameter in plain.parameters():
        if parameter.dim() == 1:  # norms, scales and biases that are not all alike
            torch.nn.init.normal_(parameter, mean=0.5)
    attention = CrossModalityAttention(
        image_dim, text_dim, embed_dim=embed_dim, num_heads=num_heads, dropout=0.0
    )
    ours = VLFuse(attention, image_dim=image_dim, text_dim=text_dim, num_blocks=6).double()
    return load_published(ours, plain, RENAMED), plain


def inputs(
    image_dim: int = 16,
    text_dim: int = 24,
    dtype: torch.dtype = torch.float64,
    sizes: tuple[tuple[int, int], ...] = SIZES,
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    levels = tuple(3 + torch.randn(2, image_dim, *size, dtype=dtype) for size in sizes)
    text = 2 * torch.randn(2, 9, text_dim, dtype=dtype)
    return levels, text, torch.arange(9) < torch.tensor([[9], [5]])


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize("sizes", [SIZES, ((1, 1),) * 3], ids=["pyramid", "all-size-1"])
@pytest.mark.parametrize("with_grad", [True, False], ids=["whole", "streamed"])
def test_absorbed_is_plain(
    dtype: torch.dtype, sizes: tuple[tuple[int, int], ...], with_grad: bool
) -> None:
    ours, plain = (module.to(dtype).eval() for module in pair(256, 768, 2048, 8))
    levels, text, mask = inputs(256, 768, dtype, sizes)
    with torch.set_grad_enabled(with_grad):
        (got_levels, got_text), (levels, text) = ours(levels, text, mask), plain(levels, text, mask)
    for got, want in zip((*got_levels, got_text), (*levels, text)):
        assert_relative(got, want, LIMITS[dtype])


@pytest.mark.parametrize("dtype", list(LIMITS))
def test_gradients_are_plain(dtype: torch.dtype) -> None:
    ours, plain = (module.to(dtype).train() for module in pair(256, 768, 2048, 8))
    grads = []
    for module in (ours, plain):
        torch.manual_seed(1)
        levels, text, mask = inputs(256, 768, dtype)
        leaves = [*(level.requires_grad_() for level in levels), text.requires_grad_()]
        levels, text = module(levels, text, mask)
        outputs = [*levels, text]
        torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
        grads.append([leaf.grad for leaf in leaves])
    for got, want in zip(*grads):
        assert_relative(got, want, LIMITS[dtype])
    for name, parameter in plain.named_parameters():
        grad = ours.get_parameter(our_name(name, RENAMED)).grad
        assert_relative(grad, parameter.grad, LIMITS[dtype], name)


def test_adds_to_the_normalised_tokens() -> None:
    """With nothing to add, what comes out is the norm of what came in (trap 1)."""
    ours, _ = pair()
    with torch.no_grad():
        ours.image_scale.zero_(), ours.text_scale.zero_()
    levels, text, mask = inputs()
    outputs, text_output = ours(levels, text, mask)
    for level, output in zip(levels, outputs):
        expected = ours.image_norm(level.movedim(1, 3)).movedim(3, 1)
        assert_close(output, expected)
    assert_close(text_output, ours.text_norm(text))


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize("with_grad", [True, False], ids=["whole", "streamed"])
def test_trimmed_is_padded(dtype: torch.dtype, with_grad: bool) -> None:
    ours = pair(256, 768, 2048, 8)[0].to(dtype).eval()
    levels, text, mask = inputs(256, 768, dtype)
    mask[:, 6:] = False
    with torch.set_grad_enabled(with_grad):
        padded_levels, padded_text = ours(levels, text, mask)
        trimmed_levels, trimmed_text = ours(levels, text[:, :6], mask[:, :6])
    for got, want in zip(
        (*trimmed_levels, trimmed_text), (*padded_levels, padded_text[:, :6]), strict=True
    ):
        assert_relative(got, want, LIMITS[dtype])


def test_batch_of_two_is_two_batches() -> None:
    ours, _ = (module.float() for module in pair())
    levels, text, mask = inputs(dtype=torch.float32)
    both_levels, both_text = ours.eval()(levels, text, mask)
    for b in range(2):
        one = slice(b, b + 1)
        alone_levels, alone_text = ours(tuple(x[one] for x in levels), text[one], mask[one])
        for got, want in zip((*alone_levels, alone_text), (*both_levels, both_text)):
            assert_relative(got, want[one], 1e-5)


def test_scales_begin_as_one_over_blocks() -> None:
    attention = CrossModalityAttention(8, 4, embed_dim=16, num_heads=2)
    fusion = VLFuse(attention, image_dim=8, text_dim=4, num_blocks=5)
    assert_close(fusion.image_scale.detach(), torch.full((8,), 0.2))
    assert_close(fusion.text_scale.detach(), torch.full((4,), 0.2))
    with pytest.raises(ValueError, match="num_blocks must be at least 1, got 0"):
        VLFuse(attention, image_dim=8, text_dim=4, num_blocks=0)
