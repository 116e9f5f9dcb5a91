"""Window attention: the compiled operator against the plain form, and that against loops."""

import math
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glipkit.ops import library
from glipkit.ops.window_attention import (
    shift_mask,
    to_windows,
    window_attention,
    window_attention_reference,
    window_order,
)

FORMS = [window_attention, window_attention_reference]
needs_compiled = pytest.mark.skipif(
    not library.loaded(), reason="the compiled operators are not built; the plain form is tested"
)


class Case(NamedTuple):
    """What a call is made of."""

    size: tuple[int, int] = (6, 9)
    heads: int = 2
    width: int = 3
    window: int = 4
    shift: int = 2
    batch: int = 2

    @property
    def geometry(self) -> dict[str, object]:
        return {"size": self.size, "window": self.window, "shift": self.shift}

    def draw(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
        channels, positions = 3 * self.heads * self.width, self.window**2
        return (
            torch.randn(self.batch, self.size[0] * self.size[1], channels).to(dtype),
            torch.randn(channels).to(dtype),
            torch.randn(self.heads, positions, positions).to(
                torch.promote_types(dtype, torch.float32)
            ),
        )


CASES = {
    "padded": Case(),
    "not moved": Case(shift=0),
    "whole windows": Case((8, 8)),
    "smaller than a window": Case((2, 3)),
    "one position": Case((1, 1), batch=1),
    "one line": Case((1, 10), batch=1),
    "window of one": Case((3, 2), window=1, shift=0),
    "of Swin": Case((15, 20), heads=2, width=32, window=7, shift=3),
    "wide heads": Case((8, 5), heads=1, width=40, window=7, shift=3),
    "large windows": Case((12, 13), heads=1, width=33, window=12, shift=6, batch=1),
    "no pictures": Case(batch=0),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def loops(
    qkv: Tensor, bias: Tensor, relative: Tensor, size: tuple[int, int], window: int, shift: int
) -> Tensor:
    """The definition for one picture: every position looks for the keys of its window."""
    height, width = (math.ceil(side / window) * window for side in size)
    heads = len(relative)
    padded = bias.expand(height, width, -1).clone()
    padded[: size[0], : size[1]] = qkv.view(*size, -1)
    query, key, value = padded.view(height, width, 3, heads, -1).unbind(2)
    output = torch.empty_like(query)

    def region(place: int, side: int) -> int:
        return (place >= side - window) + (place >= side - shift)

    places = [
        (y, x, (y - shift) % height, (x - shift) % width)
        for y in range(height)
        for x in range(width)
    ]
    for y, x, to_y, to_x in places:
        scores, values = [], []
        for key_y, key_x, at_y, at_x in places:
            if (at_y // window, at_x // window) != (to_y // window, to_x // window):
                continue
            score = (query[y, x] * key[key_y, key_x]).sum(-1) / query.shape[-1] ** 0.5
            score = (
                score
                + relative[
                    :,
                    to_y % window * window + to_x % window,
                    at_y % window * window + at_x % window,
                ]
            )
            same = region(at_y, height) == region(to_y, height)
            same = same and region(at_x, width) == region(to_x, width)
            scores.append(score if same or shift == 0 else score - 100)
            values.append(value[key_y, key_x])
        shares = torch.stack(scores).softmax(dim=0)[:, :, None]
        output[y, x] = (shares * torch.stack(values)).sum(dim=0)
    return output[: size[0], : size[1]].reshape(size[0] * size[1], -1)


def gradients(form, case: Case, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Of every operand, when every output counts differently."""
    operands = [operand.detach().requires_grad_() for operand in operands]
    output = form(*operands, **case.geometry)
    ramp = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view(output.shape)
    return torch.autograd.grad(output, operands, ramp.to(output.dtype), materialize_grads=True)


def test_windows_row_by_row() -> None:
    x = torch.arange(2 * 4 * 6 * 1.0).view(2, 4, 6, 1)
    windows = to_windows(x, 2)
    assert windows.shape == (2 * 6, 4, 1)
    assert windows[1].flatten().tolist() == [2, 3, 8, 9]


@pytest.mark.parametrize("size", [(4, 6), (5, 4), (1, 7), (1, 1)])
def test_order_is_pad_then_roll_then_cut(size: tuple[int, int]) -> None:
    order = window_order(size, 4, 2, torch.device("cpu"))
    x = torch.rand(1, *size, 1) + 1
    bottom, right = -size[0] % 4, -size[1] % 4
    moved = torch.nn.functional.pad(x, (0, 0, 0, right, 0, bottom)).roll((-2, -2), dims=(1, 2))
    assert order.padded_size == tuple(moved.shape[1:3])
    assert order.has_padding is bool(bottom or right)
    cut = x.flatten()[order.take] * order.is_real
    assert torch.equal(cut, to_windows(moved, 4).flatten())
    assert torch.equal(cut[order.put], x.flatten())


@each_case
@pytest.mark.parametrize("form", FORMS)
def test_definition(form, case: Case) -> None:
    operands = case.draw()
    found = form(*operands, **case.geometry)
    assert found.shape == (*operands[0].shape[:2], case.heads * case.width)
    for one, qkv in zip(found, operands[0]):
        assert_close(one, loops(qkv, *operands[1:], **case.geometry))


# Read and written in bfloat16, 8 bits of mantissa; the sums are float32.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@each_case
def test_types(case: Case, dtype: torch.dtype) -> None:
    operands = case.draw(dtype)
    precise = [operand.double() for operand in operands]
    found = window_attention(*operands, **case.geometry)
    assert found.dtype == dtype
    expected = window_attention_reference(*precise, **case.geometry)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype], "check_dtype": False}
    assert_close(found, expected, **close)
    for one, other, operand in zip(
        gradients(window_attention, case, operands),
        gradients(window_attention_reference, case, precise),
        operands,
    ):
        assert one.dtype == operand.dtype
        scale = max(1.0, other.abs().max().item()) if other.numel() else 1.0
        assert_close(one / scale, other / scale, **close)


@needs_compiled
@pytest.mark.parametrize(
    "case", [Case((3, 5), window=2, shift=1), Case((3, 3), window=2, shift=0, heads=1)]
)
def test_gradcheck(case: Case) -> None:
    operands = [operand.requires_grad_() for operand in case.draw()]
    assert torch.autograd.gradcheck(lambda *o: window_attention(*o, **case.geometry), operands)


@needs_compiled
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype) -> None:
    case = Case()
    operands = [operand.requires_grad_() for operand in case.draw(dtype)]
    arguments = (*operands, list(case.size), case.window, case.shift)
    torch.library.opcheck(torch.ops.glipkit.window_attention.default, arguments)


def test_strided_operands() -> None:
    case = CASES["of Swin"]
    qkv, bias, relative = case.draw(torch.float32)
    strided = qkv.mT.contiguous().mT, bias.repeat(2)[::2][: len(bias)], relative.mT
    straight = [operand.contiguous() for operand in strided]
    assert_close(
        window_attention(*strided, **case.geometry), window_attention(*straight, **case.geometry)
    )
    assert_close(
        gradients(window_attention, case, strided), gradients(window_attention, case, straight)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_not_finite_shows(dtype: torch.dtype) -> None:
    """A NaN spoils its window and nothing else."""
    case = Case((8, 8), shift=0, batch=1)
    operands = case.draw(dtype)
    operands[0][0, 9] = torch.nan  # (1, 1), of the first window
    spoilt = window_attention(*operands, **case.geometry).isnan().all(dim=2).view(8, 8)
    assert spoilt[:4, :4].all()
    assert spoilt.sum() == 16


@needs_compiled
def test_same_bits_for_any_number_of_threads(bits_by_threads) -> None:
    qkv = torch.randn(2, 30 * 41, 3 * 64, requires_grad=True)
    bias, relative = torch.randn(192, requires_grad=True), torch.randn(2, 49, 49).requires_grad_()

    def parts() -> tuple[Tensor, ...]:
        output = window_attention(qkv, bias, relative, size=(30, 41), window=7, shift=3)
        return output, *torch.autograd.grad(output.square().sum(), (qkv, bias, relative))

    one, *others = bits_by_threads(parts)
    assert others == [one, one]


SETS = """
import torch
from glipkit.ops.window_attention import window_attention, window_attention_reference
torch.manual_seed(0)
for dtype in (torch.float32, torch.float64):
    operands = [
        torch.randn(2, 90, 126, dtype=dtype), torch.randn(126, dtype=dtype),
        torch.randn(2, 49, 49, dtype=dtype),
    ]
    found = []
    for form in (window_attention, window_attention_reference):
        for operand in operands:
            operand.requires_grad_()
        output = form(*operands, size=(9, 10), window=7, shift=3)
        found.append([output, *torch.autograd.grad(output.square().sum(), operands)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
print("agreed")
"""


# More than the processor has must not be asked for: PyTorch's own kernels would use it.
@needs_compiled
@pytest.mark.parametrize("instructions", ["default", "avx2", None])
def test_every_instruction_set(instructions: str | None) -> None:
    allowed = {} if instructions is None else {"ATEN_CPU_CAPABILITY": instructions}
    run = subprocess.run(
        [sys.executable, "-c", SETS],
        env=os.environ | allowed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "agreed\n", run.stderr


@needs_compiled
def test_no_second_derivative() -> None:
    case = Case()
    qkv, *rest = case.draw()
    output = window_attention(qkv.requires_grad_(), *rest, **case.geometry)
    (grad,) = torch.autograd.grad(output.square().sum(), qkv, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        grad.sum().backward()


def test_regions() -> None:
    """Of 9 regions, the last window of a map of whole windows has 4."""
    mask = shift_mask((8, 8), 4, 2, torch.device("cpu"))
    assert mask.shape == (4, 1, 16, 16)
    assert [int((one == 0).sum()) for one in mask] == [256, 128, 128, 64]
    assert mask.unique().tolist() == [-100, 0]


ERRORS = {
    "qkv must be floating point": lambda q, b, r, g: (q.long(), b, r, g),
    "qkv_bias must be torch.float64 like qkv": lambda q, b, r, g: (q, b.float(), r, g),
    "relative_bias must be torch.float64": lambda q, b, r, g: (q, b, r.float(), g),
    "relative_bias must have shape .heads, 16, 16.": lambda q, b, r, g: (q, b, r[:, 1:], g),
    "qkv must have shape .B, 54, 3 . C.": lambda q, b, r, g: (q[:, 1:], b, r, g),
    "multiple of 3 . 2 heads, got 17": lambda q, b, r, g: (q[:, :, 1:], b[1:], r, g),
    "qkv_bias must have shape .18.": lambda q, b, r, g: (q, b[1:], r, g),
    "from 0 to window - 1, got 4": lambda q, b, r, g: (q, b, r, g | {"shift": 4}),
    "qkv_bias must be on cpu": lambda q, b, r, g: (q, b.to("meta"), r, g),
}


@pytest.mark.parametrize("message", ERRORS)
@pytest.mark.parametrize("form", FORMS)
def test_errors(form, message: str) -> None:
    case = Case()
    *operands, geometry = ERRORS[message](*case.draw(), case.geometry)
    with pytest.raises((TypeError, ValueError), match=message):
        form(*operands, **geometry)
