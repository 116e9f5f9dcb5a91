"""The text layer against the plain form, and what padding may not do."""

import pytest
import torch
from reference.compare import assert_relative
from reference.naming import load_published, our_name
from reference.text_layer import RENAMED, PlainTextLayer
from torch import Tensor
from torch.testing import assert_close

from glipkit.modeling.head.text_layer import TextLayer

LIMITS = {torch.float32: 1e-5, torch.float64: 1e-12}


def pair(
    dim: int = 24, num_heads: int = 4, hidden_dim: int = 40
) -> tuple[TextLayer, PlainTextLayer]:
    plain = PlainTextLayer(dim, num_heads, hidden_dim, dropout=0.0).double()
    ours = TextLayer(dim, num_heads=num_heads, hidden_dim=hidden_dim, dropout=0.0).double()
    return load_published(ours, plain, RENAMED), plain


def inputs(dim: int = 24) -> tuple[Tensor, Tensor]:
    return torch.randn(2, 9, dim).double(), torch.arange(9) < torch.tensor([[9], [5]])


@pytest.mark.parametrize("dtype", list(LIMITS))
def test_is_plain_with_gradients(dtype: torch.dtype) -> None:
    ours, plain = (module.to(dtype).train() for module in pair(768, 12, 3072))
    text, mask = inputs(768)
    results = []
    for module in (ours, plain):
        leaf = text.to(dtype).clone().requires_grad_()
        output = module(leaf, mask)
        output.backward(output.detach().cos())
        results.append((output, leaf.grad))
    for got, want in zip(*results):
        assert_relative(got, want, LIMITS[dtype])
    for name, parameter in plain.named_parameters():
        if name == "attention.self.key.bias":  # moves all scores of a query alike: no gradient
            continue
        grad = ours.get_parameter(our_name(name, RENAMED)).grad
        assert parameter.grad.abs().sum() > 0
        assert_relative(grad, parameter.grad, LIMITS[dtype], name)


@pytest.mark.parametrize("theirs", ["attention.self.query", "intermediate.dense", "output.dense"])
def test_limits_are_plain(theirs: str) -> None:
    """In float64: scores around 1e5 leave float32 no digits for a softmax."""
    ours, plain = pair(768, 12, 3072)
    text, mask = inputs(768)
    usual = plain(text, mask)
    with torch.no_grad():
        plain.get_submodule(theirs).weight.mul_(3e5)
    expected = plain(text, mask)
    assert not torch.allclose(expected, usual)
    assert_relative(load_published(ours, plain, RENAMED)(text, mask), expected, 1e-9)


@pytest.mark.parametrize("dtype", list(LIMITS))
def test_trimmed_is_padded(dtype: torch.dtype) -> None:
    ours = pair(768, 12, 3072)[0].to(dtype)
    text, mask = inputs(768)
    text = text.to(dtype)
    mask[:, 6:] = False
    assert_relative(ours(text[:, :6], mask[:, :6]), ours(text, mask)[:, :6], LIMITS[dtype])


def test_padding_is_never_heard() -> None:
    ours, _ = pair()
    text, mask = inputs()
    other = torch.where(mask[:, :, None], text, 100 * torch.randn_like(text))
    assert_close(ours(other, mask)[mask], ours(text, mask)[mask], rtol=1e-12, atol=1e-12)


def test_nothing_visible_is_finite() -> None:
    ours, _ = pair()
    text, mask = inputs()
    assert ours(text, torch.zeros_like(mask)).isfinite().all()


def test_dropout_only_in_training() -> None:
    layer = TextLayer(24, num_heads=4, hidden_dim=40, dropout=0.5)
    text, mask = inputs()
    text = text.float()
    assert not torch.allclose(layer.train()(text, mask), layer(text, mask))
    assert_close(layer.eval()(text, mask), layer(text, mask), rtol=0, atol=0)


def test_batch_of_two_is_two_batches() -> None:
    ours, _ = (module.float() for module in pair(768, 12, 3072))
    text, mask = inputs(768)
    both = ours(text.float(), mask)
    for b in range(2):
        one = slice(b, b + 1)
        assert_relative(ours(text[one].float(), mask[one]), both[one], 1e-5)


def test_bfloat16_autocast() -> None:
    ours, plain = (module.float() for module in pair())
    text, mask = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        output = ours(text.float(), mask)
    assert_relative(output, plain(text.float(), mask), 0.02)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="num_heads=5, dim=24"):
        TextLayer(24, num_heads=5)
    with pytest.raises(ValueError, match=r"probability in \[0, 1\], got -1"):
        TextLayer(24, num_heads=4, dropout=-1)
