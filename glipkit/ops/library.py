"""Finds and loads the compiled operators, once, when glipkit.ops is imported."""

import logging
import os
import warnings
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parents[1]
BUILD_COMMAND = "pip install --no-build-isolation -e ."
CHOICES = ("compiled", "reference")


def loaded() -> bool:
    """Whether the compiled operators are in use; without them the plain PyTorch forms are."""
    return bool(_LOADED)


def libraries() -> tuple[Path, ...]:
    """The shared libraries that were loaded: the CPU one, then the CUDA one where torch has CUDA."""
    return _LOADED


def has_kernel(operator: str, device_type: str) -> bool:
    """Whether a compiled kernel of an operator is registered for a type of device.

    Args:
        operator: its name, such as "nms".
        device_type: as in torch, "cpu" or "cuda".
    """
    name = f"glipkit::{operator}"
    return loaded() and torch._C._dispatch_has_kernel_for_dispatch_key(name, device_type.upper())


def use_compiled(operator: str, device_type: str) -> bool:
    """Whether a call should go to the compiled kernel, or to the plain PyTorch form.

    Args:
        operator: its name, such as "nms".
        device_type: the type of the device the arguments are on.

    Raises:
        RuntimeError: the operators are built, but not for this device.
    """
    if not loaded():
        return False
    if device_type == "cuda" and not has_kernel(operator, "cuda"):
        raise RuntimeError(
            f"glipkit's {operator} got CUDA tensors, but its operators were built for the CPU only; "
            f"with nvcc on PATH (or FORCE_CUDA=1) run: {BUILD_COMMAND}\n"
            "or set GLIPKIT_OPS=reference for the slower plain PyTorch form"
        )
    return True


def _load(folder: Path) -> tuple[Path, ...]:
    """Load what `folder` holds, see GLIPKIT_OPS; tell once when it is nothing."""
    choice = os.environ.get("GLIPKIT_OPS", "compiled")
    if choice not in CHOICES:
        raise ValueError(f"GLIPKIT_OPS is {choice!r}; known: {', '.join(CHOICES)}")
    if choice == "reference":
        return ()
    names = ["_C_cpu"] + (["_C_cuda"] if torch.version.cuda else [])
    paths = [path for name in names for path in sorted(folder.glob(f"{name}.*so"))]
    if not any(path.name.startswith("_C_cpu") for path in paths):
        warnings.warn(
            "glipkit's compiled operators are not built; the plain PyTorch forms are used, which give "
            f"the same numbers more slowly. In a checkout of glipkit run: {BUILD_COMMAND}",
            stacklevel=2,
        )
        return ()
    for path in paths:
        _load_one(path)
    return tuple(paths)


def _load_one(path: Path) -> None:
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise ImportError(
            f"glipkit's operators at {path} do not load into torch {torch.__version__}: {error}\n"
            f"Build them anew: {BUILD_COMMAND}\n"
            "or set GLIPKIT_OPS=reference for the slower plain PyTorch forms"
        ) from error


_LOADED = _load(FOLDER)
