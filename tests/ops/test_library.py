import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from glipkit.ops import library

PACKAGE = Path(library.__file__).parents[1]
OPERATORS = ["nms", "nms_mask", "modulated_deform_conv2d", "modulated_deform_conv2d_backward"]
CALL = """
import torch
from glipkit.ops.library import loaded
from glipkit.ops.nms import nms
boxes = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 8], [40, 40, 50, 50.0]])
scores = torch.tensor([0.1, 0.2, 0.3])
print(loaded(), nms(boxes, scores, torch.zeros(3, dtype=torch.int64), 0.5).tolist())
"""


def has_kernel(operator: str, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"glipkit::{operator}", key)


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run Python code in a process that finds glipkit in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(folder), "GLIPKIT_OPS": "compiled"} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def unbuilt(tmp_path: Path) -> Path:
    """A folder with a copy of glipkit that holds no compiled operators."""
    shutil.copytree(PACKAGE, tmp_path / "glipkit", ignore=shutil.ignore_patterns("_C_*", "__pyc*"))
    return tmp_path


@pytest.mark.parametrize("operator", OPERATORS)
def test_cpu_library_is_loaded(operator):
    assert library.loaded()
    assert library.libraries()[0].name == "_C_cpu.abi3.so"
    assert has_kernel(operator, "CPU")


@pytest.mark.skipif(not torch.version.cuda, reason="this torch was built without CUDA")
@pytest.mark.skipif(
    os.environ.get("GLIPKIT_CUDA") == "0" or not (os.environ.get("NVCC") or shutil.which("nvcc")),
    reason="the CUDA operators are not built here: no nvcc, or GLIPKIT_CUDA=0",
)
@pytest.mark.parametrize("operator", OPERATORS)
def test_cuda_library_is_loaded_with_or_without_a_gpu(operator):
    assert [path.name for path in library.libraries()] == ["_C_cpu.abi3.so", "_C_cuda.abi3.so"]
    assert has_kernel(operator, "CUDA")
    assert library.use_compiled("cuda")


def test_operators_do_not_need_torchvision():
    code = (
        "import sys, glipkit.ops.nms, glipkit.ops.deform_conv; print('torchvision' in sys.modules)"
    )
    told = run(code, PACKAGE.parent)
    assert told.stdout == "False\n", told.stderr


def test_reference_can_be_asked_for():
    told = run(CALL, PACKAGE.parent, GLIPKIT_OPS="reference")
    assert told.stdout == "False [2, 1]\n", told.stderr
    assert "Warning" not in told.stderr


def test_unknown_choice_is_refused():
    told = run(CALL, PACKAGE.parent, GLIPKIT_OPS="fast")
    assert told.returncode != 0
    assert "GLIPKIT_OPS is 'fast'; known: compiled, reference" in told.stderr


def test_without_a_library_it_works_and_says_so_once(unbuilt):
    told = run("import glipkit.ops.deform_conv" + CALL, unbuilt)
    assert told.stdout == "False [2, 1]\n", told.stderr
    assert told.stderr.count("UserWarning") == 1
    assert "run: pip install --no-build-isolation -e ." in told.stderr


def test_broken_library_is_an_error(unbuilt):
    broken = unbuilt / "glipkit" / "_C_cpu.abi3.so"
    broken.write_bytes(b"not a library")
    told = run(CALL, unbuilt)
    assert told.returncode != 0
    assert f"ImportError: {broken} does not load into torch {torch.__version__}" in told.stderr
    assert f"Build glipkit's operators anew: {library.BUILD_COMMAND}" in told.stderr


def test_device_without_kernels_is_told_once():
    with pytest.warns(UserWarning, match="operators are not built for xpu"):
        assert not library.use_compiled("xpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not library.use_compiled("xpu")
