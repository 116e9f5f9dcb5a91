"""Every way to build and install glipkit, in scratch venvs that borrow this one's torch."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ["setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "csrc", "glipkit"]
TRY_OUT = """
import torch, glipkit
from glipkit.ops.library import libraries
from glipkit.ops.nms import nms
boxes = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 8], [40, 40, 50, 50.0]])
kept = nms(boxes, torch.tensor([0.1, 0.2, 0.3]), torch.zeros(3, dtype=torch.int64), 0.5)
print(glipkit.__file__, [path.name for path in libraries()], kept.tolist())
"""
NANO = """
import numpy
found = glipkit.load("nano")(numpy.zeros((64, 64, 3), "uint8"), "a red circle", threshold=0.0)
print(found.phrases)
"""


def run(command: list, cwd: Path, **environment: str) -> str:
    """What a command printed; a command that fails fails the test, with its words."""
    told = attempt(command, cwd, **environment)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def attempt(command: list, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    choices = ("PYTHONPATH", "GLIPKIT_OPS", "GLIPKIT_CUDA", "FORCE_CUDA")
    clean = {k: v for k, v in os.environ.items() if k not in choices}
    environment = clean | {"TORCH_CUDA_ARCH_LIST": "9.0"} | environment
    command = [str(word) for word in command]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


PUBLISHED = {path.name for path in (ROOT / "configs" / "pretrain").glob("*.yaml")}


def models_in(names: list[str]) -> set[str]:
    """What lies in glipkit/models/ of an archive."""
    return {name.partition("glipkit/models/")[2] for name in names if "glipkit/models/" in name}


def make_venv(folder: Path) -> Path:
    """A venv's python. What is not installed in it is looked up in the venv the tests run in."""
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain copy of the sources: nothing built in it."""
    folder = tmp_path_factory.mktemp("plain checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("*.so", "__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module", params=["setuptools==69.*", "setuptools==84.*"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = make_venv(tmp_path_factory.mktemp("venv") / "venv")
    run([python, "-m", "pip", "install", "-q", "--no-deps", request.param], python.parent)
    return python


WAYS = {
    "setup.py build develop": ["setup.py", "build", "develop"],
    "pip -e": ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "-e", "."],
    "pip": ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "."],
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_install(way, python, checkout, tmp_path):
    # torch asks for a newer setuptools than 69: resolved, it would replace the one on trial.
    run([python, *WAYS[way]], checkout, PIP_NO_DEPS="1")
    home, libraries, kept, phrases = re.fullmatch(
        r"(.+) (\[.*\]) (\[.*\])\n(.+)\n", run([python, "-c", TRY_OUT + NANO], tmp_path)
    ).groups()
    where = python.parents[1] if way == "pip" else checkout
    assert Path(home).is_relative_to(where)
    assert "'_C_cpu.abi3.so'" in libraries
    assert ("'_C_cuda.abi3.so'" in libraries) == bool(torch.version.cuda and shutil.which("nvcc"))
    assert kept == "[2, 1]"
    assert phrases == "('a red circle',)"
    run([python, "-m", "pip", "uninstall", "-q", "-y", "glipkit"], tmp_path)


# Torch 2.14 asks for a setuptools newer than 69, which `build` would insist on.
PYPROJECT_BUILD = ["-m", "build", "--no-isolation", "--skip-dependency-check"]


def test_one_wheel_for_every_python(python, checkout, tmp_path):
    run([python, *PYPROJECT_BUILD, "--wheel", "-o", tmp_path], checkout)
    (wheel,) = tmp_path.glob("*.whl")
    assert re.fullmatch(r"glipkit-[\d.]+-cp310-abi3-linux_\w+\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert "glipkit/_C_cpu.abi3.so" in names
    assert not [n for n in names if n.startswith(("csrc", "tests", "build"))]
    assert [n for n in names if n.endswith("LICENSE")]
    assert PUBLISHED | {"nano/config.yaml", "nano/model.safetensors"} <= models_in(names)


def test_sdist_holds_all_that_a_wheel_needs(checkout, tmp_path):
    """`build` alone makes the sdist, and the wheel from it."""
    run([sys.executable, *PYPROJECT_BUILD, "-o", tmp_path], checkout, GLIPKIT_CUDA="0")
    (wheel,) = tmp_path.glob("*-abi3-*.whl")
    assert not [n for n in zipfile.ZipFile(wheel).namelist() if "_C_cuda" in n]
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        files = [member.name for member in archive if member.isfile()]  # no links
    assert models_in(files) >= PUBLISHED


def test_without_a_compiler_the_plain_forms_are_installed(python, checkout, tmp_path):
    fresh = tmp_path / "checkout"
    shutil.copytree(checkout, fresh, ignore=shutil.ignore_patterns("build", "*.so", "*.egg-info"))
    run([python, *WAYS["pip"]], fresh, PATH=str(python.parent), CXX="")
    told = attempt([python, "-c", TRY_OUT], tmp_path)
    assert told.stdout.endswith(" [] [2, 1]\n"), told.stderr
    assert "operators are not built" in told.stderr
    run([python, "-m", "pip", "uninstall", "-q", "-y", "glipkit"], tmp_path)


def fake_tool(folder: Path, name: str, script: str) -> None:
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


BUILD = [sys.executable, "setup.py", "build_ext"]


def test_force_cuda_needs_nvcc(checkout, tmp_path):
    fake_tool(tmp_path, "c++", "exit 1")
    told = attempt(BUILD, checkout, PATH=str(tmp_path), FORCE_CUDA="1", NVCC="")
    assert told.returncode != 0
    assert "FORCE_CUDA=1, but there is no nvcc on PATH" in told.stderr


@pytest.mark.skipif(not torch.version.cuda, reason="this torch was built without CUDA")
def test_foreign_cuda_is_left_out(checkout, tmp_path):
    fake_tool(tmp_path, "nvcc", "echo Cuda compilation tools, release 9.1, V9.1.85")
    problem = f"is CUDA 9.1, but torch was built with CUDA {torch.version.cuda}"
    told = attempt(BUILD, checkout, NVCC=str(tmp_path / "nvcc"))
    assert told.returncode == 0, told.stderr
    assert problem in told.stdout
    told = attempt(BUILD, checkout, NVCC=str(tmp_path / "nvcc"), FORCE_CUDA="1")
    assert told.returncode != 0
    assert problem in told.stderr


@pytest.mark.skipif(
    not (torch.version.cuda and shutil.which("nvcc")), reason="needs nvcc and a CUDA build of torch"
)
def test_unreadable_architectures_are_refused(checkout):
    told = attempt(BUILD, checkout, TORCH_CUDA_ARCH_LIST="Hopper")
    assert told.returncode != 0
    assert "TORCH_CUDA_ARCH_LIST is 'Hopper'; expected numbers such as 8.0;9.0+PTX" in told.stderr


def test_compile_error_fails_the_build(checkout, tmp_path):
    fresh = tmp_path / "checkout"
    shutil.copytree(checkout, fresh, ignore=shutil.ignore_patterns("build", "*.so", "*.egg-info"))
    shutil.rmtree(fresh / "csrc" / "cpu")
    (fresh / "csrc" / "broken.cpp").write_text("int broken( {")
    told = attempt(BUILD, fresh, GLIPKIT_CUDA="0")
    assert told.returncode != 0
    assert "operators did not compile" in told.stderr


WITH_THE_VERSION = """
import pytest, sys, torch
print(torch.__version__, flush=True)
sys.exit(pytest.main())
"""


def test_operators_run_on_an_older_torch(tmp_path):
    """Built here, tested on torch 2.13.0+cpu: what the stable ABI is for."""
    python = make_venv(tmp_path / "venv")
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "torch==2.13.0+cpu"]
    told = attempt(install, tmp_path)
    if "No matching distribution found" in told.stderr:
        pytest.skip("torch 2.13.0+cpu is not to be had from this machine's package index")
    assert told.returncode == 0, told.stderr
    pytest_run = [python, "-c", WITH_THE_VERSION, "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    told = run([*pytest_run, "tests/ops"], ROOT, PYTHONPATH=str(ROOT))
    assert told.startswith("2.13.0+cpu\n")
    assert " passed" in told
    assert " failed" not in told
