"""Attention in both directions: against the whole map of scores, compiled and by chunks."""

import os
import subprocess
import sys

import pytest
import torch
from reference.compare import assert_relative
from torch import Tensor
from torch.testing import assert_close

from glipkit.ops import cross_attention, cross_attention_chunked
from glipkit.ops.cross_attention import bidirectional_attention
from glipkit.ops.cross_attention_chunked import attention_with_map
from glipkit.ops.cross_attention_dropout import draw_seed, dropout_factors
from glipkit.ops.library import loaded

LIMITS = {torch.float32: 3e-6, torch.float64: 1e-12}
NO_LIMIT = float("inf")
# Image tokens, text tokens, heads, channels.
SHAPES = [
    (45, 9, 3, 12),
    (1, 1, 1, 1),
    (300, 16, 8, 64),  # several tiles, full panels
    (261, 13, 5, 37),  # nothing is a multiple of anything
    (115, 70, 9, 8),  # several groups of heads, the last one smaller
    (30, 600, 2, 260),  # a group of more columns, channels of more than one depth
    (2000, 8, 8, 32),  # several slices
]
needs_library = pytest.mark.skipif(not loaded(), reason="needs the compiled operators")


@pytest.fixture(params=["compiled", "chunked"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "chunked":
        monkeypatch.setattr(cross_attention, "use_compiled", lambda device_type: False)
        monkeypatch.setattr(cross_attention_chunked, "CPU_CHUNK", 1000)
    elif not loaded():
        pytest.skip("needs the compiled operators")
    return request.param


def inputs(
    B: int = 2,
    V: int = 45,
    T: int = 9,
    H: int = 3,
    C: int = 12,
    dtype: torch.dtype = torch.float64,
    visible: tuple[int, ...] = (9, 5),
) -> tuple[Tensor, ...]:
    """Image, keys, key_bias, values, text_mask."""
    image, keys = torch.randn(B, V, C), torch.randn(B, H * T, C) * (2 / C**0.5)
    bias, values = torch.randn(B, H * T), torch.randn(B, H * T, C)
    mask = torch.arange(T) < torch.tensor([visible[b % len(visible)] for b in range(B)])[:, None]
    return *(t.to(dtype) for t in (image, keys, bias, values)), mask


def results(function, tensors: tuple[Tensor, ...], *options, **named) -> list[Tensor]:
    """Outputs, and the gradients of all inputs."""
    *tensors, mask = tensors
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    outputs = function(*leaves, mask, *options, **named)
    torch.autograd.backward(outputs, [(3 * output.detach()).cos() for output in outputs])
    return [*(output.detach() for output in outputs), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize(("V", "T", "H", "C"), SHAPES)
def test_is_the_whole_map(V: int, T: int, H: int, C: int, dtype: torch.dtype, form: str) -> None:
    tensors = inputs(V=V, T=T, H=H, C=C, dtype=dtype, visible=(T, (T + 1) // 2))
    got = results(bidirectional_attention, tensors, H, limit=50000.0)
    seed = draw_seed(torch.device("cpu"), wanted=False)
    doubles = (*(t.double() for t in tensors[:4]), tensors[4])
    want = results(attention_with_map, doubles, H, False, 50000.0, 0.0, 0.0, seed)
    for i, (a, b) in enumerate(zip(got, want)):
        assert a.dtype == dtype
        if V > 1:  # of one image token the scores have no gradient but rounding errors
            assert_relative(a, b.to(dtype), 5 * LIMITS[dtype] if i > 2 else LIMITS[dtype])


def test_masked_text_is_never_read(form: str) -> None:
    *tensors, mask = inputs(visible=(9, 4))
    tensors[3][1].unflatten(0, (3, 9))[:, 4:] = 1e6
    reads, _, _ = bidirectional_attention(*tensors, mask, 3)
    assert float(reads.abs().max()) < 100


def test_all_masked_is_read_alike(form: str) -> None:
    *tensors, _ = inputs()
    mask = torch.tensor([[True] * 9, [False] * 9])
    got = results(bidirectional_attention, (*tensors, mask), 3)
    expected = tensors[3][1].unflatten(0, (3, 9)).mean(dim=1).sum(dim=0).expand(45, 12)
    assert_close(got[0][1], expected)
    seed = draw_seed(torch.device("cpu"), wanted=False)
    want = results(attention_with_map, (*tensors, mask), 3, False, NO_LIMIT, 0.0, 0.0, seed)
    for a, b in zip(got, want):
        assert_relative(a, b, 1e-12)


def test_cut_scores_pass_no_gradient(form: str) -> None:
    tensors = inputs()
    seed = draw_seed(torch.device("cpu"), wanted=False)
    got = results(bidirectional_attention, tensors, 3, limit=1.0)
    want = results(attention_with_map, tensors, 3, False, 1.0, 0.0, 0.0, seed)
    whole = results(attention_with_map, tensors, 3, False, NO_LIMIT, 0.0, 0.0, seed)
    for a, b in zip(got, want):
        assert_relative(a, b, 1e-12)
    assert not torch.allclose(got[4], whole[4], rtol=0.05)


def test_residual(form: str) -> None:
    tensors = inputs(V=300)
    seed = torch.tensor([1])
    got = results(bidirectional_attention, tensors, 3, residual=True)
    want = results(attention_with_map, tensors, 3, True, NO_LIMIT, 0.0, 0.0, seed)
    for a, b in zip(got, want):
        assert_relative(a, b, 1e-12)


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_huge_scores(scale: float, form: str) -> None:
    """Weights of 0 and 1, columns whose largest score comes late, and nothing overflows."""
    image, keys, bias, values, mask = inputs(V=700, dtype=torch.float32)
    image = image.sort(dim=1).values * scale
    reads, context, _ = bidirectional_attention(image, keys, bias, values, mask, 3, limit=50000.0)
    seed = draw_seed(torch.device("cpu"), wanted=False)
    doubles = (t.double() for t in (image, keys, bias, values))
    want = attention_with_map(*doubles, mask, 3, False, 50000.0, 0.0, 0.0, seed)
    assert reads.isfinite().all()
    assert context.isfinite().all()
    if scale == 1e3:  # beyond, float32 scores are too coarse to agree
        assert_relative(context, want[1].float(), 1e-3)


def test_nan_is_not_hidden(form: str) -> None:
    image, *others = inputs(dtype=torch.float32)
    image[0, 7, 3] = float("nan")
    reads, context, _ = bidirectional_attention(image, *others, 3)
    assert reads[0, 7].isnan().all()
    assert context[0].isnan().all()
    assert reads[0, 8].isfinite().all()
    assert context[1].isfinite().all()


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 4), (2, 5, 0)], ids=["B", "V", "T"])
def test_empty(shape: tuple[int, int, int]) -> None:
    B, V, T = shape
    tensors = inputs(B=B, V=V, T=T) if B else inputs(B=1, V=V, T=T)
    tensors = tuple(
        tensor[:B].float() if tensor.is_floating_point() else tensor[:B] for tensor in tensors
    )
    reads, context, kept = bidirectional_attention(*tensors, 3)
    assert reads.shape == (B, V, 12)
    assert context.shape == (B, 3 * T, 12)
    assert kept.shape == (B, 3 * T)
    assert not reads.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_text_the_image_remains(dtype: torch.dtype) -> None:
    image, *text, mask = inputs(T=0)
    image, *text = (tensor.to(dtype).requires_grad_() for tensor in (image, *text))
    total, _, _ = bidirectional_attention(image, *text, mask, 3, residual=True)
    assert torch.equal(total, image)
    assert torch.equal(torch.autograd.grad(total.sum(), image)[0], torch.ones_like(image))
    with torch.no_grad():
        assert torch.equal(bidirectional_attention(image, *text, mask, 3, residual=True)[0], image)


def test_layouts(form: str) -> None:
    """Maps of channels-last levels arrive as they lie; anything else must do too."""
    tensors = inputs()
    want = bidirectional_attention(*tensors, 3)
    turned = (t.mT.contiguous().mT if t.dim() == 3 else t for t in tensors)
    for a, b in zip(bidirectional_attention(*turned, 3), want):
        assert_close(a, b)
    strided = (t.repeat_interleave(2, dim=-1)[..., ::2] for t in tensors)
    for a, b in zip(bidirectional_attention(*strided, 3), want):
        assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    tensors = inputs(V=200, dtype=dtype)
    reads, context, kept = bidirectional_attention(*tensors, 3)
    seed = draw_seed(torch.device("cpu"), wanted=False)
    want = attention_with_map(
        *(t.double() for t in tensors[:4]), tensors[4], 3, False, NO_LIMIT, 0, 0, seed
    )
    assert reads.dtype == dtype
    assert context.dtype == kept.dtype == torch.float32
    for a, b in zip((reads, context), want):
        assert_relative(a.double(), b, 0.03)


@pytest.mark.parametrize("p", [(0.3, 0.0), (0.0, 0.2), (0.1, 0.6), (1.0, 1.0)])
def test_dropout_is_the_whole_map(p: tuple[float, float], form: str) -> None:
    tensors = inputs(V=300)
    seed = torch.tensor([-1234567890123456789])
    got = results(
        bidirectional_attention, tensors, 3, image_dropout=p[0], text_dropout=p[1], seed=seed
    )
    want = results(attention_with_map, tensors, 3, False, NO_LIMIT, *p, seed)
    for a, b in zip(got, want):
        assert_relative(a, b, 1e-12) if b.any() else assert_close(a, b)


def test_dropout_rate_scale_and_independence() -> None:
    seed, p = torch.tensor([42]), 0.3
    factors = [
        dropout_factors(seed, which, p, torch.arange(400), 512, torch.float64) for which in (0, 1)
    ]
    n, dropped = 400 * 512, [factor == 0 for factor in factors]
    for factor, drop in zip(factors, dropped):
        assert_close(factor[~drop], torch.full_like(factor[~drop], 1 / (1 - p)))
        spread = (p * (1 - p) / n) ** 0.5
        assert abs(float(drop.double().mean()) - p) < 4 * spread
        for axis in (0, 1):  # no row and no column is special
            rates = drop.double().mean(dim=axis)
            assert float((rates - p).abs().max()) < 5 * (p * (1 - p) / drop.shape[axis]) ** 0.5
        for by in (1, 2, 8):  # neighbours know nothing of each other
            for axis in (0, 1):
                both = (drop & drop.roll(by, dims=axis)).double().mean()
                assert abs(float(both) - p**2) < 5 * (p**2 * (1 - p**2) / n) ** 0.5
    both = float((dropped[0] & dropped[1]).double().mean())
    assert abs(both - p**2) < 5 * (p**2 * (1 - p**2) / n) ** 0.5
    other = dropout_factors(seed + 1, 0, p, torch.arange(400), 512, torch.float64) == 0
    assert abs(float((dropped[0] & other).double().mean()) - p**2) < 5 * (p**2 / n) ** 0.5


def test_dropout_follows_the_generator(form: str) -> None:
    tensors = inputs()
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(bidirectional_attention(*tensors, 3, image_dropout=0.5, text_dropout=0.5))
    again = bidirectional_attention(*tensors, 3, image_dropout=0.5, text_dropout=0.5)
    for first, same, other, next_draw in zip(*runs, again):
        assert torch.equal(first, same)
        assert not torch.equal(first, other)
        assert not torch.equal(other, next_draw)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_gradcheck(p: float, form: str) -> None:
    *tensors, mask = inputs(V=7, T=3, H=2, C=4, visible=(3, 2))
    seed = torch.tensor([5])

    def function(*leaves: Tensor) -> tuple[Tensor, ...]:
        return bidirectional_attention(*leaves, mask, 2, image_dropout=p, text_dropout=p, seed=seed)

    leaves = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(function, leaves)


@needs_library
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_opcheck(p: float) -> None:
    *tensors, mask = inputs(dtype=torch.float32)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    seed = torch.tensor([5])
    arguments = (*leaves, mask, 3, False, 50000.0, p, p, seed)
    torch.library.opcheck(torch.ops.glipkit.bidirectional_attention.default, arguments)
    outputs = torch.ops.glipkit.bidirectional_attention(*arguments)
    gradients = [torch.randn_like(output) for output in outputs[:3]]
    arguments = (*gradients, *arguments[:5], *outputs[1:], *arguments[5:])
    arguments = [a.detach() if isinstance(a, Tensor) else a for a in arguments]
    torch.library.opcheck(torch.ops.glipkit.bidirectional_attention_backward.default, arguments)


def test_compiles_whole(form: str) -> None:
    tensors = inputs(dtype=torch.float32)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return bidirectional_attention(*tensors, 3, limit=50000.0)

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for a, b in zip(results(compiled, tensors), results(function, tensors)):
        assert_close(a, b)


def test_no_second_derivative(form: str) -> None:
    *tensors, mask = inputs()
    leaves = [tensor.requires_grad_() for tensor in tensors]
    reads, _, _ = bidirectional_attention(*leaves, mask, 3)
    (grad,) = torch.autograd.grad(reads.sum(), leaves[0], create_graph=True)
    words = "second derivative|not require grad"
    with pytest.raises((NotImplementedError, RuntimeError), match=words):
        grad.sum().backward()


@needs_library
def test_threads_do_not_change_a_bit(bits_by_threads) -> None:
    tensors = inputs(V=3000, T=24, H=4, C=40, dtype=torch.float32)
    dropped = {"text_dropout": 0.1, "seed": torch.tensor([1])}
    one, *others = bits_by_threads(lambda: results(bidirectional_attention, tensors, 4, **dropped))
    assert len(one) == 7
    assert others == [one, one]


# More than the processor has must not be asked for: PyTorch's own kernels would use it.
@pytest.mark.parametrize("capability", ["default", "avx2", None])
@needs_library
def test_every_instruction_set(capability: str | None) -> None:
    code = """
import sys
sys.path[:0] = ["tests"]
from ops import test_bidirectional_attention as tests
for dtype in tests.LIMITS:
    tests.test_is_the_whole_map(261, 13, 5, 37, dtype, "compiled")
    tests.test_is_the_whole_map(300, 16, 8, 64, dtype, "compiled")
tests.test_dropout_is_the_whole_map((0.1, 0.6), "compiled")
"""
    allowed = {} if capability is None else {"ATEN_CPU_CAPABILITY": capability}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | allowed)


def test_refuses_what_does_not_go_together(form: str) -> None:
    image, keys, bias, values, mask = inputs()

    def refused(kind: type[Exception], words: str, *arguments, **named) -> None:
        with pytest.raises(kind, match=words):
            bidirectional_attention(*arguments, **named)

    refused(ValueError, r"image must have shape \(B, V, C\)", image[0], keys, bias, values, mask, 3)
    refused(TypeError, "image must be floating", image.long(), keys, bias, values, mask, 3)
    refused(ValueError, r"keys must have shape \[2, 18, 12\]", image, keys, bias, values, mask, 2)
    refused(ValueError, "key_bias must have", image, keys, bias[:, 1:], values, mask, 3)
    refused(ValueError, "values must have", image, keys, bias, values[..., 1:], mask, 3)
    refused(TypeError, "values must be torch.float64", image, keys, bias, values.float(), mask, 3)
    refused(
        ValueError, r"text_mask must have shape \(2, T\)", image, keys, bias, values, mask[0], 3
    )
    refused(TypeError, "text_mask must be bool", image, keys, bias, values, mask.long(), 3)
    refused(ValueError, "num_heads", image, keys, bias, values, mask, 0)
    for name in ("image_dropout", "text_dropout"):
        refused(ValueError, name, image, keys, bias, values, mask, 3, **{name: 1.5})


@needs_library
def test_the_operator_refuses_too() -> None:
    image, keys, bias, values, mask = inputs()
    call, seed = torch.ops.glipkit.bidirectional_attention, torch.tensor([0])
    options = (3, False, 1.0, 0.0, 0.0)
    for words, arguments in (
        ("image must have shape", (image[0], keys, bias, values, mask, *options, seed)),
        ("keys must have shape", (image, keys[:, 1:], bias, values, mask, *options, seed)),
        ("key_bias must be Double", (image, keys, bias.float(), values, mask, *options, seed)),
        ("text_mask must be bool", (image, keys, bias, values, mask.long(), *options, seed)),
        ("seed must be one int64", (image, keys, bias, values, mask, *options, seed.float())),
        (
            "image must be float32 or float64",
            (*(t.half() for t in (image, keys, bias, values)), mask, *options, seed),
        ),
    ):
        with pytest.raises(RuntimeError, match=words):
            call(*arguments)
