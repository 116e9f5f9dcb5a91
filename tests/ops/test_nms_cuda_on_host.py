"""The CUDA code of the suppression, run where there is no GPU.

Kernels and host code are compiled by the C++ compiler, a kernel's threads and blocks as one:
indices, words, groups, sorting and views are what runs on a GPU; what threads do to each other is
not shown.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glipkit.ops.nms import nms_mask_reference, nms_reference

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
NAMESPACE = "glipkit_nms_on_host"
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
FLAGS = [
    *("-std=c++20", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wno-unknown-pragmas"),
    *("-DTORCH_TARGET_VERSION=0x020a000000000000ULL", "-DTORCH_STABLE_ONLY", "-ffp-contract=off"),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler; there is none on PATH"),
    pytest.mark.skipif(not CSRC.is_dir(), reason="needs csrc/, which a wheel does not hold"),
]


@pytest.fixture(scope="module")
def operators(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nms_on_host")
    source = (CSRC / "cuda" / "nms.cu").read_text()
    for pattern, replacement in (
        (r"<<<.*?>>>\(", "("),
        (r"\(glipkit, CUDA, m\)", f"({NAMESPACE}, CPU, m)"),
    ):
        source, count = re.subn(pattern, replacement, source, flags=re.DOTALL)
        assert count, f"nothing in the CUDA source looks like {pattern}"
    (folder / "nms.cpp").write_text(source)
    schemas = (CSRC / "library.cpp").read_text()
    (folder / "library.cpp").write_text(schemas.replace("(glipkit, m)", f"({NAMESPACE}, m)"))
    torch_folder = Path(torch.__file__).parent
    stand_ins = ROOT / "tests" / "reference" / "cuda_on_host"
    command = [COMPILER, *FLAGS, "-isystem", torch_folder / "include", f"-I{stand_ins}"]
    command += ["-include", "cuda/launch.h", f"-I{CSRC}", folder / "nms.cpp"]
    command += [folder / "library.cpp", "-o", folder / "operators.so"]
    command += [f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    torch.ops.load_library(folder / "operators.so")
    return getattr(torch.ops, NAMESPACE)


def draw(shape: tuple[int, ...], num_groups: int, dtype=torch.float32) -> tuple[Tensor, ...]:
    """Boxes on a grid with many ties, in groups of any number, fillers among them."""
    corner = torch.randint(0, 40, (*shape, 2))
    boxes = torch.cat([corner, corner + torch.randint(0, 24, (*shape, 2))], dim=-1).to(dtype)
    scores = torch.randint(0, 50, shape).to(dtype) / 50
    groups = torch.randint(0, num_groups, shape) * 1000 - 5
    return boxes, scores, groups


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("plus_one", [True, False])
@pytest.mark.parametrize(
    ("count", "num_groups"), [(1, 1), (64, 1), (65, 2), (700, 1), (700, 3), (700, 40), (500, 500)]
)
def test_cuda_code_agrees_with_plain(operators, count, num_groups, plus_one, dtype):
    arguments = draw((count,), num_groups, dtype)
    kept = operators.nms(*arguments, 0.45, plus_one)
    assert kept.tolist() == nms_reference(*arguments, 0.45, plus_one=plus_one).tolist()

    boxes, scores, groups = draw((3, count), num_groups, dtype)
    scores[torch.rand_like(scores) < 0.3] = -torch.inf
    scores[0, 0] = torch.nan
    scores[2] = -torch.inf
    kept = operators.nms_mask(boxes, scores, groups, 0.45, plus_one)
    expected = nms_mask_reference(boxes, scores, groups, 0.45, plus_one=plus_one)
    assert torch.equal(kept, expected)
    assert count < 65 or 0 < kept[0].sum() < count
    assert not kept[2].any()


def test_types_may_differ_and_layout_does_not_matter(operators):
    boxes, scores, groups = draw((2, 150), 4)
    scores = scores.double() - 1e300  # below every float32, and still no filler
    boxes = boxes.transpose(0, 1).contiguous().transpose(0, 1)
    expected = nms_mask_reference(boxes, scores, groups, 0.5)
    assert torch.equal(operators.nms_mask(boxes, scores, groups, 0.5, True), expected)
    assert expected.any()


def test_no_boxes(operators):
    boxes = torch.zeros(2, 0, 4)
    groups = torch.zeros(2, 0, dtype=torch.int64)
    assert operators.nms_mask(boxes, boxes[..., 0], groups, 0.5, True).shape == (2, 0)


def test_too_many_boxes_are_refused(operators):
    count = 2048 * 64 + 1
    groups = torch.zeros(1, count, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="at most 131072 boxes of a picture"):
        operators.nms_mask(torch.zeros(1, count, 4), torch.zeros(1, count), groups, 0.5, True)
