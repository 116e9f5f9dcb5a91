"""Attention in both directions with products in bfloat16: compiled, where the processor can."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from reference.compare import assert_relative
from test_bidirectional_attention import SHAPES
from test_bidirectional_attention import inputs as inputs_of
from torch import Tensor
from torch.testing import assert_close

from glipkit.ops import cross_attention
from glipkit.ops.cross_attention import bidirectional_attention
from glipkit.ops.cross_attention_chunked import attention_with_map, chunked_attention
from glipkit.ops.library import loaded

NO_SEED = torch.tensor([0])
LIMIT = 50000.0
compiled = pytest.mark.skipif(
    not (loaded() and torch.ops.glipkit.has_bfloat16_products()),
    reason="needs the compiled operators and a processor with AVX512_BF16",
)


@pytest.fixture(params=["compiled", "chunked"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "chunked":
        monkeypatch.setattr(cross_attention, "MULTIPLIES_BFLOAT16", False)
    elif not cross_attention.MULTIPLIES_BFLOAT16:
        pytest.skip("needs the compiled operators and a processor with AVX512_BF16")
    return request.param


inputs = partial(inputs_of, dtype=torch.bfloat16)


def whole_map(tensors: tuple[Tensor, ...], num_heads: int, residual: bool) -> tuple[Tensor, ...]:
    """The oracle in float64, of the same rounded inputs."""
    *tensors, mask = tensors
    doubles = (tensor.double() for tensor in tensors)
    return attention_with_map(*doubles, mask, num_heads, residual, LIMIT, 0.0, 0.0, NO_SEED)


def distance(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("V", "T", "H", "C"), [*SHAPES, (700, 64, 8, 256), (500, 200, 8, 256), (500, 256, 8, 256)]
)
@compiled
def test_is_the_whole_map(V: int, T: int, H: int, C: int, residual: bool) -> None:
    """And no further from it than products that round what they give."""
    tensors = inputs(V=V, T=T, H=H, C=C, visible=(T, (T + 1) // 2))
    got = bidirectional_attention(*tensors, H, residual=residual, limit=LIMIT)
    want = whole_map(tensors, H, residual)
    rounded = chunked_attention(*tensors, H, residual, LIMIT, 0.0, 0.0, NO_SEED)
    assert got[0].dtype == torch.bfloat16
    assert got[1].dtype == got[2].dtype == torch.float32
    assert_relative(got[0], want[0], 3e-3)  # half a unit in the last place of bfloat16 is 2e-3
    assert_relative(got[1], want[1], 1.5e-3)
    for ours, theirs, exact in zip(got[:2], rounded, want):
        assert distance(ours, exact) <= distance(theirs, exact)
    assert_close(got[2], torch.ones_like(got[2]), rtol=0, atol=0)


def test_float32_image_keeps_its_digits(form: str) -> None:
    *text, mask = inputs(V=300)[1:]
    image = torch.randn(2, 300, 12)
    reads, context, _ = bidirectional_attention(image, *text, mask, 3, limit=LIMIT)
    total, same, _ = bidirectional_attention(image, *text, mask, 3, limit=LIMIT, residual=True)
    assert reads.dtype == total.dtype == torch.float32
    assert_close(same, context, rtol=0, atol=0)
    assert_close(total, image + reads, rtol=0, atol=2e-6)
    want = whole_map((image.bfloat16(), *text, mask), 3, False)
    assert_relative(reads, want[0], 5e-3)


def test_masked_text_is_never_read(form: str) -> None:
    *tensors, mask = inputs(visible=(9, 4))
    tensors[3][1].unflatten(0, (3, 9))[:, 4:] = 1e6
    reads, _, _ = bidirectional_attention(*tensors, mask, 3)
    assert float(reads.abs().max()) < 100


def test_all_masked_is_read_alike(form: str) -> None:
    *tensors, _ = inputs()
    mask = torch.tensor([[True] * 9, [False] * 9])
    reads, _, _ = bidirectional_attention(*tensors, mask, 3)
    alike = tensors[3][1].double().unflatten(0, (3, 9)).mean(dim=1).sum(dim=0).expand(45, 12)
    assert_relative(reads[1], alike, 5e-3)


@pytest.mark.parametrize("scale", [30, 1e4, 1e6])
@compiled
def test_huge_scores(scale: float) -> None:
    """Weights of 0 and 1, columns whose largest score comes late, and nothing overflows."""
    image, *text = inputs(V=700)
    image = (image.float().sort(dim=1).values * scale).bfloat16()
    got = bidirectional_attention(image, *text, 3, limit=LIMIT)
    want = whole_map((image, *text), 3, False)
    for ours, exact in zip(got[:2], want):
        assert ours.isfinite().all()
        assert_relative(ours, exact, 5e-3)  # products of bfloat16 are exact in float32


def test_nan_is_not_hidden(form: str) -> None:
    image, *others = inputs()
    image[0, 7, 3] = float("nan")
    reads, context, _ = bidirectional_attention(image, *others, 3)
    assert reads[0, 7].isnan().all()
    assert context[0].isnan().all()
    assert reads[0, 8].isfinite().all()
    assert context[1].isfinite().all()


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 4), (2, 5, 0)], ids=["B", "V", "T"])
def test_empty(shape: tuple[int, int, int], form: str) -> None:
    B, V, T = shape
    tensors = tuple(tensor[:B] for tensor in inputs(B=max(B, 1), V=V, T=T))
    reads, context, kept = bidirectional_attention(*tensors, 3)
    assert reads.shape == (B, V, 12)
    assert context.shape == (B, 3 * T, 12)
    assert kept.shape == (B, 3 * T)
    assert not reads.any()


def test_layouts(form: str) -> None:
    tensors = inputs()
    want = bidirectional_attention(*tensors, 3)
    turned = (t.mT.contiguous().mT if t.dim() == 3 else t for t in tensors)
    strided = (t.repeat_interleave(2, dim=-1)[..., ::2] for t in tensors)
    for others in (turned, strided):
        for a, b in zip(bidirectional_attention(*others, 3), want):
            assert_close(a, b)


def test_gradients_and_dropout_stay_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are those of the chunked form, also where inference has the compiled one."""
    tensors = inputs()
    leaves = [tensor.requires_grad_() for tensor in tensors[:4]]
    reads, context, _ = bidirectional_attention(*leaves, tensors[4], 3)
    grads = torch.autograd.grad(reads.float().sum() + context.sum(), leaves)
    with torch.no_grad():
        dropped = bidirectional_attention(*tensors, 3, text_dropout=0.5, seed=NO_SEED)
    monkeypatch.setattr(cross_attention, "MULTIPLIES_BFLOAT16", False)
    reads, context, _ = bidirectional_attention(*leaves, tensors[4], 3)
    want = torch.autograd.grad(reads.float().sum() + context.sum(), leaves)
    for a, b in zip(grads, want):
        assert torch.equal(a, b)
    for a, b in zip(dropped, bidirectional_attention(*tensors, 3, text_dropout=0.5, seed=NO_SEED)):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@compiled
def test_opcheck(dtype: torch.dtype) -> None:
    image, *text = inputs()
    arguments = (image.to(dtype), *text, 3, True, LIMIT)
    torch.library.opcheck(torch.ops.glipkit.bidirectional_attention_bfloat16.default, arguments)


def test_compiles_whole(form: str) -> None:
    tensors = inputs()

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return bidirectional_attention(*tensors, 3, limit=LIMIT)

    torch._dynamo.reset()
    whole = torch.compile(function, fullgraph=True, backend="aot_eager")
    for grads in (False, True):
        with torch.set_grad_enabled(grads):
            for a, b in zip(whole(*tensors), function(*tensors)):
                assert_close(a, b)


@compiled
def test_threads_do_not_change_a_bit(bits_by_threads) -> None:
    tensors = inputs(V=3000, T=25, H=4, C=41)
    one, *others = bits_by_threads(lambda: bidirectional_attention(*tensors, 4))
    assert len(one) == 3
    assert others == [one, one]


@pytest.mark.parametrize("capability", ["default", "avx2"])
@pytest.mark.skipif(not loaded(), reason="needs the compiled operators")
def test_older_processors_keep_the_chunked_form(capability: str) -> None:
    code = """
import torch
from glipkit.ops.cross_attention import bidirectional_attention
from glipkit.ops.cross_attention_chunked import chunked_attention
assert not torch.ops.glipkit.has_bfloat16_products()
tensors = [torch.randn(1, n, 8).bfloat16() for n in (50, 6, 6)]
tensors.insert(2, torch.randn(1, 6).bfloat16())
tensors.append(torch.ones(1, 3, dtype=torch.bool))
want = chunked_attention(*tensors, 2, False, 9.0, 0.0, 0.0, torch.tensor([0]))
for a, b in zip(bidirectional_attention(*tensors, 2, limit=9.0), want):
    assert torch.equal(a, b)
try:
    torch.ops.glipkit.bidirectional_attention_bfloat16(*tensors, 2, False, 9.0)
except RuntimeError as error:
    assert "AVX512_BF16" in str(error)
else:
    raise AssertionError("not refused")
"""
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_refuses_mixed_types(form: str) -> None:
    image, keys, bias, values, mask = inputs()
    with pytest.raises(TypeError, match=r"values must be torch\.bfloat16 like image"):
        bidirectional_attention(image, keys, bias, values.float(), mask, 3)
    with pytest.raises(TypeError, match=r"values must be torch\.bfloat16 like keys"):
        bidirectional_attention(image.float(), keys, bias, values.float(), mask, 3)
    with pytest.raises(TypeError, match=r"keys must be torch\.float64 like image"):
        bidirectional_attention(image.double(), keys, bias, values, mask, 3)


@compiled
def test_the_operator_refuses_too() -> None:
    image, keys, bias, values, mask = inputs()
    call, options = torch.ops.glipkit.bidirectional_attention_bfloat16, (3, False, 1.0)
    for words, arguments in (
        ("image must have shape", (image[0], keys, bias, values, mask)),
        ("image must be bfloat16 or float32", (image.double(), keys, bias, values, mask)),
        ("keys must have shape", (image, keys[:, 1:], bias, values, mask)),
        ("key_bias must be BFloat16", (image, keys, bias.float(), values, mask)),
        ("text_mask must be bool", (image, keys, bias, values, mask.long())),
    ):
        with pytest.raises(RuntimeError, match=words):
            call(*arguments, *options)
