"""Absorbed cross-attention is the published one: all projections of all image tokens."""

from functools import partial

import pytest
import torch
from reference.compare import assert_relative
from reference.fusion import RENAMED, PlainCrossAttention
from reference.naming import load_published
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from glipkit.layers.cross_attention import CrossModalityAttention
from glipkit.ops import cross_attention, cross_attention_chunked
from glipkit.ops.cross_attention_dropout import draw_seed, dropout_factors

NAMES = {
    theirs.removeprefix("b_attn.attn."): ours.removeprefix("attention.")
    for theirs, ours in RENAMED.items()
    if theirs.startswith("b_attn.attn.")
}
PUBLISHED = {"image_dim": 256, "text_dim": 768, "embed_dim": 2048, "num_heads": 8}
SMALL = {"image_dim": 12, "text_dim": 10, "embed_dim": 36, "num_heads": 3}
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-12}


def pair(
    image_dim: int, text_dim: int, embed_dim: int, num_heads: int, dropout: float = 0.0
) -> tuple[CrossModalityAttention, PlainCrossAttention]:
    """Ours and the plain form with the same random weights and biases, in float64."""
    plain = PlainCrossAttention(image_dim, text_dim, embed_dim, num_heads, dropout).double()
    ours = CrossModalityAttention(
        image_dim, text_dim, embed_dim=embed_dim, num_heads=num_heads, dropout=dropout
    )
    return load_published(ours.double(), plain, NAMES), plain


def tokens(
    sizes: dict[str, int], B: int = 2, V: int = 45, T: int = 9, visible: tuple[int, ...] = (9, 5)
) -> tuple[Tensor, Tensor, Tensor]:
    image = torch.randn(B, V, sizes["image_dim"], dtype=torch.float64)
    text = torch.randn(B, T, sizes["text_dim"], dtype=torch.float64)
    return image, text, torch.arange(T) < torch.tensor(visible[:B])[:, None]


@pytest.fixture(params=["compiled", 1, 200, 7 * 54], ids=lambda chunk: f"chunk-{chunk}")
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled; and in plain PyTorch, token by token, and in chunks that leave a rest."""
    if request.param != "compiled":
        monkeypatch.setattr(cross_attention, "use_compiled", lambda device_type: False)
        monkeypatch.setattr(cross_attention_chunked, "CPU_CHUNK", request.param)


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize("sizes", [PUBLISHED, SMALL], ids=["published", "small"])
def test_updates_are_plain(sizes: dict[str, int], dtype: torch.dtype, chunk: None) -> None:
    ours, plain = (module.to(dtype).eval() for module in pair(**sizes))
    image, text, mask = tokens(sizes)
    with torch.no_grad():
        actual = ours(image.to(dtype), text.to(dtype), mask)
        expected = plain(image.to(dtype), text.to(dtype), mask)
    for got, want in zip(actual, expected):
        assert_relative(got, want, LIMITS[dtype])


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize("sizes", [PUBLISHED, SMALL], ids=["published", "small"])
def test_gradients_are_plain(sizes: dict[str, int], dtype: torch.dtype, chunk: None) -> None:
    ours, plain = (module.to(dtype).train() for module in pair(**sizes))
    image, text, mask = (x.to(dtype) if x.is_floating_point() else x for x in tokens(sizes))
    results = []
    for module in (ours, plain):
        inputs = [image.clone().requires_grad_(), text.clone().requires_grad_()]
        outputs = module(*inputs, mask)
        torch.autograd.backward(outputs, [output.detach().cos() for output in outputs])
        results.append([*outputs, *(tensor.grad for tensor in inputs)])
    for got, want in zip(*results):
        assert_relative(got, want, LIMITS[dtype])
    for name, parameter in plain.named_parameters():
        theirs, kind = name.split(".")
        grad = ours.get_submodule(NAMES[theirs]).get_parameter(kind).grad
        assert_relative(grad, parameter.grad, LIMITS[dtype], name)


class FixedDropout(nn.Module):
    """Multiplies by `factors`, (B, V, H, T), which the plain form orders differently."""

    def __init__(self, factors: Tensor, order: tuple[int, ...]):
        super().__init__()
        self.factors = factors.permute(order)

    def forward(self, weights: Tensor) -> Tensor:
        return weights * self.factors


def test_dropout_is_plain(chunk: None) -> None:
    ours, plain = (module.train() for module in pair(**SMALL, dropout=0.4))
    image, text, mask = tokens(SMALL)
    B, V, T, H = *image.shape[:2], text.shape[1], SMALL["num_heads"]
    torch.manual_seed(3)
    seed, rows = draw_seed(image.device, wanted=True), torch.arange(B * V).reshape(B, V)
    image_factors, text_factors = (
        dropout_factors(seed, which, 0.4, rows, H * T, torch.float64).unflatten(2, (H, T))
        for which in (0, 1)
    )
    plain.v_dropout = FixedDropout(image_factors, order=(0, 2, 1, 3))
    plain.l_dropout = FixedDropout(text_factors, order=(0, 2, 3, 1))
    results = []
    for module in (ours, plain):
        torch.manual_seed(3)
        inputs = [image.clone().requires_grad_(), text.clone().requires_grad_()]
        outputs = module(*inputs, mask)
        torch.autograd.backward(outputs, [output.detach().cos() for output in outputs])
        results.append([*outputs, *(tensor.grad for tensor in inputs)])
    for got, want in zip(*results):
        assert_relative(got, want, 1e-12)
    bias = ours.image_value.bias.grad  # its factor is what dropout leaves of each column
    assert_relative(bias, plain.values_v_proj.bias.grad, 1e-12)


def test_checkpoint_redraws_dropout(chunk: None) -> None:
    ours = pair(**SMALL, dropout=0.4)[0].train()
    image, text, mask = tokens(SMALL)
    grads = []
    for call in (ours, partial(checkpoint, ours, use_reentrant=False)):
        torch.manual_seed(3)
        leaf = image.clone().requires_grad_()
        sum(update.square().sum() for update in call(leaf, text, mask)).backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


def test_compiles_whole(chunk: None) -> None:
    ours = pair(**SMALL)[0].eval()
    image, text, mask = tokens(SMALL)
    torch._dynamo.reset()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for got, want in zip(compiled(image, text, mask), ours(image, text, mask)):
            assert_relative(got, want, 1e-12)


def test_image_scale_adds_to_the_image(chunk: None) -> None:
    for dropout in (0.0, 0.4):
        ours = pair(**SMALL, dropout=dropout)[0].train()
        image, text, mask = tokens(SMALL)
        scale = torch.randn(SMALL["image_dim"], dtype=torch.float64)
        torch.manual_seed(3)
        update, _ = ours(image, text, mask)
        torch.manual_seed(3)
        whole, _ = ours(image, text, mask, image_scale=scale)
        assert_relative(whole, image + scale * update, 1e-12)


def test_dropout_leaves_the_mean() -> None:
    ours, _ = pair(**SMALL, dropout=0.3)
    image, text, mask = tokens(SMALL)
    with torch.no_grad():
        expected = ours.eval()(image, text, mask)
        ours.train()
        runs = [ours(image, text, mask) for _ in range(3000)]
    for side in (0, 1):
        mean = torch.stack([run[side] for run in runs]).mean(dim=0)
        assert float((runs[0][side] - expected[side]).norm()) > 0.05 * float(expected[side].norm())
        assert_relative(mean, expected[side], 0.05)


def test_scores_beyond_the_limit(chunk: None) -> None:
    ours, plain = pair(**SMALL)
    image, text, mask = tokens(SMALL)
    with torch.no_grad():
        for module, name in ((ours, "image_query"), (plain, "v_proj")):
            getattr(module, name).weight *= 4e5
    scores = plain.heads(plain.v_proj(image)) @ plain.heads(plain.l_proj(text)).mT / 12**0.5
    beyond = (scores.abs() > 50000).double().mean()
    assert 0.1 < float(beyond) < 0.9
    for with_grad in (True, False):
        with torch.set_grad_enabled(with_grad):
            for got, want in zip(ours.eval()(image, text, mask), plain.eval()(image, text, mask)):
                assert_relative(got, want, 1e-9)


@pytest.mark.parametrize("with_grad", [True, False], ids=["train", "inference"])
def test_trimmed_is_padded(with_grad: bool) -> None:
    ours, _ = pair(**SMALL)
    image, text, mask = tokens(SMALL, visible=(6, 4))
    with torch.set_grad_enabled(with_grad):
        padded_image, padded_text = ours.eval()(image, text, mask)
        trimmed_image, trimmed_text = ours(image, text[:, :6], mask[:, :6])
    assert_relative(trimmed_image, padded_image, 1e-12)
    assert_relative(trimmed_text, padded_text[:, :6], 1e-12)


@pytest.mark.parametrize("with_grad", [True, False], ids=["train", "inference"])
def test_padding_is_never_read(with_grad: bool) -> None:
    ours, _ = pair(**SMALL)
    image, text, mask = tokens(SMALL)
    other = torch.where(mask[:, :, None], text, 100 * torch.randn_like(text))
    with torch.set_grad_enabled(with_grad):
        before, after = ours.eval()(image, text, mask), ours(image, other, mask)
    assert_close(after[0], before[0], rtol=1e-12, atol=1e-12)
    assert_close(after[1][mask], before[1][mask], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(after[1][~mask], before[1][~mask])  # padding itself does read


def test_batch_of_two_is_two_batches(chunk: None) -> None:
    ours, _ = (module.float().eval() for module in pair(**PUBLISHED))
    image, text, mask = tokens(PUBLISHED)
    image, text = image.float(), text.float()
    with torch.no_grad():
        both = ours(image, text, mask)
        for b in range(2):
            alone = ours(image[b : b + 1], text[b : b + 1], mask[b : b + 1])
            for got, want in zip(alone, both):
                assert_relative(got[0], want[b], 1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.mark.parametrize("with_grad", [True, False], ids=["train", "inference"])
def test_no_image_sized_projection(with_grad: bool) -> None:
    sizes = {"image_dim": 16, "text_dim": 10, "embed_dim": 512, "num_heads": 2}
    ours, _ = pair(**sizes)
    image, text, mask = tokens(sizes, V=2000, T=4, visible=(4, 3))
    with torch.set_grad_enabled(with_grad), LargestTensor() as largest:
        sum(update.sum() for update in ours.eval()(image, text, mask))
    assert largest.elements == image.numel()  # and embed_dim is 32 times image_dim


def test_all_scores_are_never_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_attention, "use_compiled", lambda device_type: False)
    monkeypatch.setattr(cross_attention_chunked, "CPU_CHUNK", 4096)
    ours, _ = pair(**SMALL, dropout=0.1)
    image, text, mask = tokens(SMALL, V=500)
    with LargestTensor() as largest:
        updates = ours.train()(image.requires_grad_(), text, mask)
        sum(update.sum() for update in updates).backward()
    assert largest.elements == image.numel() < 500 * 3 * 9


@pytest.mark.parametrize("with_grad", [True, False], ids=["train", "inference"])
@pytest.mark.parametrize("gain", [1.0, 1e4])
def test_bfloat16_autocast(gain: float, with_grad: bool) -> None:
    ours, plain = (module.float().eval() for module in pair(**PUBLISHED))
    image, text, mask = tokens(PUBLISHED)
    with torch.set_grad_enabled(with_grad), torch.autocast("cpu", torch.bfloat16):
        updates = ours(gain * image.float(), gain * text.float(), mask)
    assert all(update.isfinite().all() for update in updates)
    if gain == 1:
        for got, want in zip(updates, plain(image.float(), text.float(), mask)):
            assert_relative(got, want, 0.02)


@pytest.mark.parametrize("mode", ["train", "inference", "dropout"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_the_digits_of_the_image(dtype: torch.dtype, mode: str) -> None:
    ours = pair(**SMALL, dropout=0.1)[0].float().train(mode == "dropout")
    image, text, mask = tokens(SMALL)
    image, scale = image.to(dtype), torch.zeros(SMALL["image_dim"])
    with torch.set_grad_enabled(mode != "inference"), torch.autocast("cpu", torch.bfloat16):
        total, _ = ours(image, text.float(), mask, image_scale=scale)
    assert torch.equal(total, image)


@pytest.mark.parametrize("mode", ["train", "inference", "dropout"])
def test_bfloat16_weights(mode: str) -> None:
    ours, plain = (module.float().eval() for module in pair(**SMALL, dropout=0.1))
    image, text, mask = (x.float() if x.is_floating_point() else x for x in tokens(SMALL))
    expected = plain(image, text, mask)
    with torch.set_grad_enabled(mode != "inference"):
        updates = ours.bfloat16().train(mode == "dropout")(image.bfloat16(), text.bfloat16(), mask)
    for got, want in zip(updates, expected):
        assert got.dtype == torch.bfloat16
        assert_relative(got, want, 0.5 if mode == "dropout" else 0.03)


def test_float16_sums_do_not_overflow() -> None:
    """Equal scores sum 20000 tokens of size 9, which float16 (at most 65504) cannot hold."""
    ours, plain = (module.float().eval() for module in pair(**SMALL))
    with torch.no_grad():
        for layer in (ours.image_query, plain.v_proj):
            layer.weight.zero_()
    image, text, mask = tokens(SMALL, V=20000)
    image = image.float() + 9
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        updates = ours(image, text.float(), mask)
    for got, want in zip(updates, plain(image, text.float(), mask)):
        assert_relative(got, want, 0.01)


def test_begins_xavier_uniform() -> None:
    ours = CrossModalityAttention(8, 24, embed_dim=64, num_heads=4)
    for layer in (ours.image_query, ours.text_key, ours.image_value, ours.text_value):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert_close(layer.bias, torch.zeros_like(layer.bias))


def test_heads_must_divide() -> None:
    with pytest.raises(ValueError, match="num_heads=3, embed_dim=64"):
        CrossModalityAttention(8, 8, embed_dim=64, num_heads=3)


def test_dropout_must_be_a_probability() -> None:
    with pytest.raises(ValueError, match="dropout"):
        CrossModalityAttention(8, 8, embed_dim=64, num_heads=4, dropout=1.5)
