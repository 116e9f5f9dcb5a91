import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from reference.deform_conv import deform_conv_loops
from torch import Tensor

from glipkit.ops import library
from glipkit.ops.deform_conv import modulated_deform_conv2d, modulated_deform_conv2d_reference

FORMS = [modulated_deform_conv2d, modulated_deform_conv2d_reference]
NAMES = ("input", "offset", "mask", "weight", "bias")
needs_compiled = pytest.mark.skipif(
    not library.loaded(), reason="the compiled operators are not built; the plain forms are tested"
)


class Case(NamedTuple):
    """What a call is made of; the offsets reach about `reach` pixels."""

    size: tuple[int, int] = (7, 6)
    batch: int = 2
    channels: int = 4
    outputs: int = 3
    kernel: tuple[int, int] = (3, 3)
    groups: int = 1
    offset_groups: int = 1
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    bias: bool = True
    reach: float = 1.5

    @property
    def geometry(self) -> dict[str, tuple[int, int]]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def draw(self, dtype=torch.float64, device="cpu") -> tuple[Tensor | None, ...]:
        height, width = (
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, p, d, k, s in zip(
                self.size, self.padding, self.dilation, self.kernel, self.stride
            )
        )
        taps = self.offset_groups * self.kernel[0] * self.kernel[1]
        weight = torch.randn(self.outputs, self.channels // self.groups, *self.kernel)
        tensors = (
            torch.randn(self.batch, self.channels, *self.size),
            torch.randn(self.batch, 2 * taps, height, width) * self.reach,
            torch.rand(self.batch, taps, height, width),
            weight / weight[0].numel() ** 0.5,
            torch.randn(self.outputs) if self.bias else None,
        )
        return tuple(None if t is None else t.to(device, dtype) for t in tensors)


SMALL = {
    "plain": Case(),
    "1x1": Case(kernel=(1, 1), padding=(0, 0), size=(5, 1)),
    "5x3": Case(kernel=(5, 3), padding=(2, 1), outputs=5),
    "no bias": Case(bias=False, channels=1, outputs=1, batch=1),
    "groups": Case(channels=6, outputs=4, groups=2),
    "depthwise": Case(channels=4, outputs=8, groups=4, batch=1),
    "offset groups": Case(channels=6, offset_groups=3),
    "groups across offset groups": Case(channels=12, outputs=6, groups=3, offset_groups=2),
    "stride": Case(stride=(2, 3), padding=(0, 2), size=(8, 9)),
    "dilation": Case(dilation=(2, 3), padding=(3, 1), size=(6, 9)),
    "one pixel": Case(size=(1, 1), batch=3),
    "far outside": Case(reach=20.0),
}
LARGE = {  # more than one tile of pixels and panel of channels, and neither full
    "wide": Case(size=(19, 23), channels=72, outputs=40),
    "tall": Case(size=(37, 11), channels=33, outputs=65, kernel=(3, 1), padding=(1, 0)),
    "groups": Case(size=(16, 17), channels=96, outputs=78, groups=2, offset_groups=3),
    "stride": Case(size=(30, 31), channels=64, outputs=32, stride=(2, 2), batch=3),
}


def named(cases: dict[str, Case]):
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def gradients(form, tensors, geometry, grad_output=None) -> list[Tensor]:
    leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
    output = form(*leaves, **geometry)
    output.backward(torch.ones_like(output) if grad_output is None else grad_output)
    return [t.grad for t in leaves if t is not None]


@pytest.mark.parametrize("form", FORMS)
@named(SMALL)
def test_agrees_with_the_definition(form, case, device):
    tensors = case.draw(device=device)
    arrays = [None if t is None else t.cpu().numpy() for t in tensors]
    expected = torch.from_numpy(deform_conv_loops(*arrays, *case.geometry.values()))
    output = form(*tensors, **case.geometry)
    torch.testing.assert_close(output.cpu(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_without_offsets_it_is_a_convolution(form, device):
    case = Case(groups=2, outputs=6, stride=(2, 1), padding=(0, 2), dilation=(1, 2))
    input, offset, mask, weight, bias = case.draw(device=device)
    output = form(input, 0 * offset, 1 + 0 * mask, weight, bias, **case.geometry)
    expected = torch.nn.functional.conv2d(input, weight, bias, groups=2, **case.geometry)
    torch.testing.assert_close(output, expected)


@needs_compiled
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, 1e-12),
        (torch.float32, 1e-5),
        (torch.bfloat16, 2e-2),
        (torch.float16, 2e-3),
    ],
    ids=str,
)
@named(SMALL | LARGE)
def test_compiled_agrees_with_plain(case, dtype, tolerance, device):
    tensors = case.draw(dtype, device)
    exact = [None if t is None else t.double() for t in tensors]
    output = modulated_deform_conv2d(*tensors, **case.geometry)
    expected = modulated_deform_conv2d_reference(*exact, **case.geometry)
    assert output.dtype == dtype
    assert output.is_contiguous()
    close = {"rtol": tolerance, "atol": tolerance, "check_dtype": False}
    torch.testing.assert_close(output, expected, **close)

    grad_output = torch.randn_like(output)
    actual = gradients(modulated_deform_conv2d, tensors, case.geometry, grad_output)
    wanted = gradients(
        modulated_deform_conv2d_reference, exact, case.geometry, grad_output.double()
    )
    for name, gradient, want in zip(NAMES, actual, wanted):
        assert gradient.dtype == dtype
        scale = max(want.abs().max().item(), 1.0)  # sums of many terms: relative to the largest
        torch.testing.assert_close(
            gradient / scale, want / scale, **close, msg=lambda m, name=name: f"{name}: {m}"
        )


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=torch.channels_last)


def every_other(tensor: Tensor) -> Tensor:
    return torch.stack([tensor, tensor], dim=-1)[..., 0]


def shifted(tensor: Tensor) -> Tensor:
    """Contiguous, but not on a 16-byte boundary."""
    flat = torch.cat([tensor.new_zeros(1), tensor.flatten()])
    return flat[1:].view(tensor.shape)


def cut_from_tokens(tensor: Tensor) -> Tensor:
    """A level of a pyramid whose levels lie one behind the other as rows of channels."""
    if tensor.dim() != 4:
        return tensor
    tokens = tensor.flatten(2).mT
    others = tokens.new_full((tokens.shape[0], 3, tokens.shape[2]), float("nan"))
    cut = torch.cat([others, tokens, others], dim=1)[:, 3:-3]
    return cut.mT.unflatten(2, tensor.shape[2:])


@needs_compiled
@pytest.mark.parametrize("layout", [channels_last, every_other, shifted, cut_from_tokens])
@named({"small": SMALL["5x3"], "large": LARGE["groups"]})
def test_layout_does_not_matter(case, layout, device):
    tensors = case.draw(torch.float32, device)
    laid_out = [layout(t) if t.dim() == 4 or layout is not channels_last else t for t in tensors]
    output = modulated_deform_conv2d(*tensors, **case.geometry)
    torch.testing.assert_close(modulated_deform_conv2d(*laid_out, **case.geometry), output)
    grad_output = torch.randn_like(output)
    expected = gradients(modulated_deform_conv2d, tensors, case.geometry, grad_output)
    actual = gradients(modulated_deform_conv2d, laid_out, case.geometry, layout(grad_output))
    torch.testing.assert_close(actual, expected)


@needs_compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [channels_last, cut_from_tokens])
@named({name: LARGE[name] for name in ("groups", "stride")})
def test_rows_of_channels_stay_rows(case, layout, dtype, device):
    input, *others = case.draw(dtype, device)
    leaf = layout(input).requires_grad_()
    output = modulated_deform_conv2d(leaf, *others, **case.geometry)
    assert output.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(output.sum(), leaf)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    fake = modulated_deform_conv2d(
        *(t if t is None else t.to("meta") for t in (leaf, *others)), **case.geometry
    )
    assert fake.stride() == output.stride()


@needs_compiled
def test_opcheck_rows_of_channels(device):
    input, *others = LARGE["groups"].draw(torch.float32, device)
    arguments = (cut_from_tokens(input).requires_grad_(), *others, [1, 1], [1, 1], [1, 1])
    torch.library.opcheck(torch.ops.glipkit.modulated_deform_conv2d.default, arguments)


@needs_compiled
def test_expanded_gradient(device):
    tensors = Case().draw(device=device)
    leaves = [t.requires_grad_() for t in tensors]
    modulated_deform_conv2d(*leaves, padding=1).sum().backward()  # a gradient of stride zero
    expected = gradients(modulated_deform_conv2d_reference, tensors, {"padding": 1})
    torch.testing.assert_close([t.grad for t in leaves], expected)


@pytest.mark.parametrize("form", FORMS)
def test_batch_of_none(form, device):
    tensors = Case(batch=0).draw(device=device)
    assert form(*tensors, padding=1).shape == (0, 3, 7, 6)
    for tensor, gradient in zip(tensors, gradients(form, tensors, {"padding": 1})):
        torch.testing.assert_close(gradient, torch.zeros_like(tensor))


@pytest.mark.parametrize("form", FORMS)
def test_image_of_nothing_but_padding(form, device):
    case = Case(size=(0, 4), kernel=(1, 1))
    input, offset, mask, weight, bias = case.draw(device=device)
    output = form(input, offset, mask, weight, bias, padding=1)
    torch.testing.assert_close(output, bias[:, None, None].expand(2, 3, 2, 6))
    *_, grad_weight, _ = gradients(form, (input, offset, mask, weight, bias), case.geometry)
    torch.testing.assert_close(grad_weight, torch.zeros_like(weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 2.0**31, -(2.0**63)]
)
def test_positions_beyond_reason_are_outside(form, value, dtype, device):
    case = Case(size=(9, 8))
    input, offset, mask, weight, bias = case.draw(dtype, device)
    wild = torch.rand_like(offset) < 0.3
    output = form(input, offset.masked_fill(wild, value), mask, weight, bias, **case.geometry)
    outside = form(input, offset.masked_fill(wild, 100.0), mask, weight, bias, **case.geometry)
    torch.testing.assert_close(output, outside, rtol=0, atol=0)
    actual = gradients(
        form, (input, offset.masked_fill(wild, value), mask, weight, bias), case.geometry
    )
    assert all(gradient.isfinite().all() for gradient in actual)
    assert (actual[1][wild] == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_border_is_where_the_definition_puts_it(form, device):
    input = torch.ones(1, 1, 4, 4, dtype=torch.float64, device=device)
    places = torch.tensor([-1.0, -0.75, 0.0, 3.0, 3.25, 4.0], dtype=torch.float64, device=device)
    expected = torch.tensor([0.0, 0.25, 1.0, 1.0, 0.75, 0.0], dtype=torch.float64, device=device)
    for axis in (0, 1):
        for place, value in zip(places, expected):
            offset = torch.zeros(1, 2, 4, 4, dtype=torch.float64, device=device)
            offset[0, axis, 0, 0] = place
            output = form(
                input, offset, torch.ones_like(input), torch.ones_like(input[..., :1, :1])
            )
            torch.testing.assert_close(output[0, 0, 0, 0], value)


@pytest.mark.parametrize("form", FORMS)
def test_an_infinite_pixel_stays_where_it_is(form, device):
    input = torch.zeros(1, 1, 3, 3, device=device)
    input[0, 0, 0, 0] = float("inf")  # where an index that is cut to the image would read
    offset = torch.full((1, 2, 3, 3), -0.5, device=device)
    mask = torch.ones(1, 1, 3, 3, device=device)
    weight = torch.ones(1, 1, 1, 1, device=device)
    output = form(input, offset, mask, weight)[0, 0]
    assert output[0, 0].isposinf()
    assert output.isfinite().sum() == 5
    assert not output.isnan().any()


@needs_compiled
@named({name: SMALL[name] for name in SMALL if name not in ("far outside", "one pixel")})
def test_gradcheck(case, device):
    case = case._replace(size=tuple(min(size, 6) for size in case.size), batch=1)
    input, offset, mask, weight, bias = case.draw(device=device)
    # A sample on a pixel's very row or column has a kink there: keep a distance.
    offset = offset.floor() + 0.1 + 0.8 * torch.rand_like(offset)
    leaves = [t.requires_grad_() for t in (input, offset, mask, weight, bias) if t is not None]

    def convolve(*tensors):
        return modulated_deform_conv2d(*tensors, **case.geometry)

    # On a GPU the gradient of the input is added up in no fixed order.
    noise = 1e-12 if device == "cuda" else 0.0
    assert torch.autograd.gradcheck(convolve, leaves, fast_mode=True, nondet_tol=noise)


@needs_compiled
@pytest.mark.parametrize("grad", [False, True])
@named({name: SMALL[name] for name in ("plain", "no bias", "groups across offset groups")})
def test_opcheck(case, grad, device):
    tensors = tuple(t if t is None else t.requires_grad_(grad) for t in case.draw(device=device))
    geometry = tuple(list(pair) for pair in case.geometry.values())
    torch.library.opcheck(torch.ops.glipkit.modulated_deform_conv2d.default, (*tensors, *geometry))


@needs_compiled
def test_opcheck_backward(device):
    tensors = Case().draw(device=device)
    geometry = [1, 1], [1, 1], [1, 1]
    grad_output = torch.randn_like(torch.ops.glipkit.modulated_deform_conv2d(*tensors, *geometry))
    torch.library.opcheck(
        torch.ops.glipkit.modulated_deform_conv2d_backward.default,
        (grad_output, *tensors[:4], *geometry),
    )


@needs_compiled
def test_second_derivative_is_refused(device):
    tensors = [t.requires_grad_() for t in Case().draw(device=device)]
    output = modulated_deform_conv2d(*tensors, padding=1)
    (gradient,) = torch.autograd.grad(output.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        gradient.sum().backward()


@needs_compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@named({"wide": LARGE["wide"], "many": Case(size=(42, 40), channels=64), "five": Case(batch=5)})
def test_same_bits_from_run_to_run_and_for_any_threads(case, dtype):
    tensors = case.draw(dtype)
    grad_output = torch.randn(case.batch, case.outputs, *case.size).to(dtype)
    threads = torch.get_num_threads()

    def run(count: int) -> list[Tensor]:
        torch.set_num_threads(count)
        output = modulated_deform_conv2d(*tensors, padding=1)
        return [
            output,
            *gradients(modulated_deform_conv2d, tensors, {"padding": 1}, grad_output)[:4],
        ]

    try:
        runs = [run(1), run(1), run(2), run(3)]
    finally:
        torch.set_num_threads(threads)
    for other in runs[1:]:
        torch.testing.assert_close(other, runs[0], rtol=0, atol=0)


@needs_compiled
def test_deterministic_algorithms(device):
    tensors = SMALL["plain"].draw(torch.float32, device)
    torch.use_deterministic_algorithms(True)
    try:
        if device == "cpu":
            gradients(modulated_deform_conv2d, tensors, {"padding": 1})
        else:
            with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
                gradients(modulated_deform_conv2d, tensors, {"padding": 1})
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_positions_keep_their_precision_beside_half_inputs(form, half, device):
    case = Case(size=(4, 300), batch=1)  # at 256 and above, bfloat16 counts in steps of two
    input, offset, mask, weight, bias = case.draw(torch.float32, device)
    low = [t.to(half) for t in (input, weight, bias)]
    output = form(low[0], offset, mask, low[1], low[2], **case.geometry)
    exact = form(low[0].float(), offset, mask, low[1].float(), low[2].float(), **case.geometry)
    assert output.dtype == half
    torch.testing.assert_close(output.float(), exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast(dtype, device):
    case = LARGE["wide"]
    tensors = [t.requires_grad_() for t in case.draw(dtype, device)]
    exact = modulated_deform_conv2d(*tensors, **case.geometry)
    with torch.autocast(device, torch.bfloat16):
        output = modulated_deform_conv2d(*tensors, **case.geometry)
    assert output.dtype == (torch.bfloat16 if dtype == torch.float32 else torch.float64)
    torch.testing.assert_close(output.to(dtype), exact, rtol=3e-2, atol=3e-2)
    output.sum().backward()
    assert all(t.grad.dtype == dtype for t in tensors)


def test_autocast_takes_what_autocast_made(device):
    input, offset, mask, *others = LARGE["wide"].draw(torch.float32, device)
    with torch.autocast(device, torch.bfloat16):
        output = modulated_deform_conv2d(
            input.bfloat16(), offset.bfloat16(), mask.half(), *others, padding=1
        )
        expected = modulated_deform_conv2d(
            input, offset.bfloat16().float(), mask.half().float(), *others, padding=1
        )
    torch.testing.assert_close(output, expected)


@needs_compiled
@pytest.mark.slow
def test_compiles_into_one_graph(device):
    case = LARGE["groups"]
    tensors = case.draw(torch.float32, device)

    def convolve(*arguments):
        return modulated_deform_conv2d(*arguments, **case.geometry).relu()

    compiled = torch.compile(convolve, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*tensors), convolve(*tensors))
    torch.testing.assert_close(
        gradients(compiled, tensors, {}), gradients(convolve, tensors, {}), rtol=1e-4, atol=1e-4
    )
    with torch.autocast(device, torch.bfloat16):
        torch.testing.assert_close(compiled(*tensors), convolve(*tensors))


@needs_compiled
def test_fake_tensors_have_the_shapes_of_real_ones():
    case = LARGE["stride"]
    tensors = case.draw(torch.bfloat16, "meta")
    output = modulated_deform_conv2d(*tensors, **case.geometry)
    assert output.shape == (3, 32, 15, 16)
    assert output.dtype == torch.bfloat16
    assert output.is_meta


# Half the vector widths of this machine would otherwise never run here.
@needs_compiled
@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_older_processors(capability):
    tests = "test_compiled_agrees_with_plain or test_same_bits or test_layout"
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*pytest_run, __file__, "-k", f"({tests}) and not cuda"],
        env=os.environ | {"ATEN_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


BAD = {
    "input": (lambda t: t[0], ValueError, r"input must have 4 dimensions, got shape \[4, 7, 6\]"),
    "integers": (lambda t: t.long(), TypeError, "input must be floating point, got torch.int64"),
    "channels": (
        lambda t: t[:, :3],
        ValueError,
        r"input channels must be a multiple of weight.shape\[1\] = 4, got 3",
    ),
    "kernel": (
        lambda t: t[..., :0],
        ValueError,
        r"the kernel must fit into the padded input, got input \[2, 4, 7, 0\], kernel \[3, 3\]",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input(form, change, error, message):
    input, *others = Case().draw()
    with pytest.raises(error, match=message):
        form(change(input), *others, padding=1)


BAD_ARGUMENTS = {
    "offset dimensions": ("offset", (2, 18, 42), r"offset must have 4 dim.*\[2, 18, 42\]"),
    "offset size": ("offset", (2, 18, 7, 5), r"offset must have shape \[2, 18, 7, 6\], got \[2"),
    "offset larger": ("offset", (2, 18, 14, 12), r"shape \[2, 18, 7, 6\], got \[2, 18, 14, 12\]"),
    "offset batch": ("offset", (1, 18, 7, 6), r"offset must have shape \[2, 18, 7, 6\], got \[1"),
    "offset channels": ("offset", (2, 20, 7, 6), r"shape \[2, 18, 7, 6\], got \[2, 20, 7, 6\]"),
    "too few offsets": ("offset", (2, 9, 7, 6), r"shape \[2, 18, 7, 6\], got \[2, 9, 7, 6\]"),
    "offset groups": ("offset", (2, 54, 7, 6), r"multiple of the 3 offset groups that offset"),
    "mask": ("mask", (2, 18, 7, 6), r"mask must have shape \[2, 9, 7, 6\], got \[2, 18, 7, 6\]"),
    "mask size": ("mask", (2, 9, 6, 7), r"mask must have shape \[2, 9, 7, 6\], got \[2, 9, 6, 7\]"),
    "weight": ("weight", (3, 4, 9), r"weight must have 4 dimensions, got shape \[3, 4, 9\]"),
    "empty weight": ("weight", (0, 4, 3, 3), r"weight must not be empty, got shape \[0, 4, 3, 3\]"),
    "output groups": ("weight", (3, 2, 3, 3), r"multiple of the 2 groups.*got 3"),
    "bias": ("bias", (4,), r"bias must have shape \[3\], got \[4\]"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "shape", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys()
)
def test_bad_shapes(form, name, shape, message):
    arguments = dict(zip(NAMES, Case().draw()))
    arguments[name] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        form(**arguments, padding=1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"stride": 0}, r"stride must be at least 1, got \(0, 0\)"),
        ({"padding": (1, -1)}, r"padding must be at least 0, got \(1, -1\)"),
        ({"dilation": (0, 1)}, r"dilation must be at least 1, got \(0, 1\)"),
        ({"dilation": 9}, "the kernel must fit into the padded input"),
    ],
)
def test_bad_geometry(form, geometry, message):
    with pytest.raises(ValueError, match=message):
        form(*Case().draw(), **geometry)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES[1:])
def test_bad_types(form, name):
    arguments = dict(zip(NAMES, Case().draw()))
    arguments[name] = arguments[name].float()
    with pytest.raises(TypeError, match=rf"{name} must be torch.float64 like input, got"):
        form(**arguments, padding=1)


@pytest.mark.parametrize("form", FORMS)
def test_offset_and_mask_share_their_type(form):
    input, offset, mask, weight, bias = Case().draw(torch.bfloat16)
    with pytest.raises(TypeError, match=r"mask must be torch\.float32 like offset"):
        form(input, offset.float(), mask, weight, bias, padding=1)


@pytest.mark.parametrize("form", FORMS)
def test_other_device(form):
    input, offset, *others = Case().draw()
    with pytest.raises(ValueError, match="offset must be on cpu like input, got meta"):
        form(input, offset.to("meta"), *others, padding=1)


@needs_compiled
@pytest.mark.parametrize(
    ("name", "shape"), [bad[:2] for bad in BAD_ARGUMENTS.values()], ids=BAD_ARGUMENTS.keys()
)
def test_the_operator_itself_checks_too(name, shape):
    arguments = dict(zip(NAMES, Case().draw()))
    arguments[name] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"must (have|be a multiple of)"):
        torch.ops.glipkit.modulated_deform_conv2d(*arguments.values(), [1, 1], [1, 1], [1, 1])
