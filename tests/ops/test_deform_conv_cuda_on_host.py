"""The CUDA code of the deformable convolution, run where there is no GPU.

Kernels and host code are compiled by the C++ compiler, a kernel's threads as one loop and a warp as
one lane: indices, layouts, chunks, types and views are what runs on a GPU; what threads do to each
other is not shown here.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from test_deform_conv import LARGE, SMALL, Case, channels_last, cut_from_tokens, named, shifted

from glipkit.ops.deform_conv import modulated_deform_conv2d_reference

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
NAMESPACE = "glipkit_cuda_on_host"
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
FLAGS = [
    *("-std=c++20", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wno-unknown-pragmas"),
    *("-DTORCH_TARGET_VERSION=0x020a000000000000ULL", "-DTORCH_STABLE_ONLY"),
]
SMALL_CHUNK = "1 << 12"  # bytes of columns: several chunks even for few pixels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler; there is none on PATH"),
    pytest.mark.skipif(not CSRC.is_dir(), reason="needs csrc/, which a wheel does not hold"),
]


def replace(pattern: str, replacement: str, text: str) -> str:
    text, count = re.subn(pattern, replacement, text, flags=re.DOTALL)
    assert count, f"nothing in the CUDA source looks like {pattern}"
    return text


@pytest.fixture(scope="module")
def operators(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuda_on_host")
    source = (CSRC / "cuda" / "deform_conv.cu").read_text()
    source = replace(r"<<<.*?>>>\(", "(", source)
    kernels = (CSRC / "cuda" / "deform_conv_kernels.h").read_text()
    kernels = replace(r"kWarp = 32;", "kWarp = 1;", kernels)
    source = replace(r"kColumnBytes = [^;]*;", f"kColumnBytes = {SMALL_CHUNK};", source)
    source = replace(r"\(glipkit, CUDA, m\)", f"({NAMESPACE}, CPU, m)", source)
    schemas = (CSRC / "library.cpp").read_text()
    schemas = replace(r"LIBRARY\(glipkit, m\)", f"LIBRARY({NAMESPACE}, m)", schemas)
    (folder / "cuda").mkdir()
    (folder / "cuda" / "deform_conv_kernels.h").write_text(kernels)
    (folder / "deform_conv.cpp").write_text(source)
    (folder / "library.cpp").write_text(schemas)
    torch_folder = Path(torch.__file__).parent
    stand_ins = ROOT / "tests" / "reference" / "cuda_on_host"
    command = [COMPILER, *FLAGS, "-isystem", torch_folder / "include", f"-I{stand_ins}"]
    command += ["-include", "cuda/launch.h"]  # nvcc knows __device__ and its like from the start
    command += [f"-I{folder}", f"-I{CSRC}", folder / "deform_conv.cpp", folder / "library.cpp"]
    command += ["-o", folder / "operators.so", f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    torch.ops.load_library(folder / "operators.so")
    return getattr(torch.ops, NAMESPACE)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, 1e-12),
        (torch.float32, 1e-5),
        (torch.bfloat16, 3e-2),
        (torch.float16, 3e-3),
    ],
    ids=str,
)
@named(
    SMALL
    | LARGE
    | {
        "vectors": Case(channels=16, size=(9, 8), offset_groups=2),
        "chunks across images": Case(channels=8, size=(3, 5), batch=7),
    }
)
def test_cuda_code_agrees_with_plain(operators, case, dtype, tolerance):
    tensors = case.draw(dtype)
    exact = [None if t is None else t.clone().double().requires_grad_() for t in tensors]
    expected = modulated_deform_conv2d_reference(*exact, **case.geometry)
    grad_output = torch.randn_like(expected).to(dtype)
    wanted = torch.autograd.grad(expected, exact[:4], grad_output.double())

    geometry = case.geometry.values()
    output = operators.modulated_deform_conv2d(*tensors, *geometry)
    gradients = operators.modulated_deform_conv2d_backward(grad_output, *tensors[:4], *geometry)
    for actual, want in zip((output, *gradients), (expected, *wanted)):
        assert actual.dtype == dtype
        assert actual.is_contiguous()
        scale = max(want.abs().max().item(), 1.0)  # sums of many terms: relative to the largest
        torch.testing.assert_close(
            actual / scale, want / scale, rtol=tolerance, atol=tolerance, check_dtype=False
        )


@pytest.mark.parametrize("layout", [channels_last, cut_from_tokens, shifted])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@named({name: LARGE[name] for name in ("groups", "stride")} | {"plain": SMALL["plain"]})
def test_layout_does_not_matter(operators, case, layout, dtype):
    input, *others = case.draw(dtype)
    geometry = case.geometry.values()
    expected = operators.modulated_deform_conv2d(input, *others, *geometry)
    output = operators.modulated_deform_conv2d(layout(input), *others, *geometry)
    torch.testing.assert_close(output, expected)
    grad_output = torch.randn_like(expected)
    backward = operators.modulated_deform_conv2d_backward
    gradients = backward(layout(grad_output), layout(input), *others[:3], *geometry)
    torch.testing.assert_close(
        gradients, backward(grad_output, input, *others[:3], *geometry), rtol=2e-2, atol=1e-3
    )
    if layout is not shifted:  # what was read as rows of channels is answered so
        for answer in (output, gradients[0]):
            assert answer.is_contiguous(memory_format=torch.channels_last)


def test_channels_last_and_wild_offsets(operators):
    input, offset, mask, weight, bias = LARGE["groups"].draw(torch.float32)
    offset[:, ::5], offset[:, 1::7], offset[:, 2::9] = float("nan"), 1e30, -float("inf")
    geometry = LARGE["groups"].geometry
    expected = modulated_deform_conv2d_reference(input, offset, mask, weight, bias, **geometry)
    output = operators.modulated_deform_conv2d(
        input.to(memory_format=torch.channels_last), offset, mask, weight, bias, *geometry.values()
    )
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_empty_batch(operators):
    tensors = Case(batch=0).draw(torch.float32)
    geometry = Case().geometry.values()
    output = operators.modulated_deform_conv2d(*tensors, *geometry)
    assert output.shape == (0, 3, 7, 6)
    gradients = operators.modulated_deform_conv2d_backward(output, *tensors[:4], *geometry)
    torch.testing.assert_close(gradients[3], torch.zeros_like(tensors[3]))
