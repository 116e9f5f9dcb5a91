"""Finds and loads the compiled operators, once, when glipkit.ops is imported."""

import functools
import os
import warnings
from pathlib import Path

import torch

FOLDER = Path(__file__).parents[1]
BUILD_COMMAND = "pip install --no-build-isolation -e ."
CHOICES = ("compiled", "reference")


def loaded() -> bool:
    """Whether the compiled operators are in use; without them the plain PyTorch forms are."""
    return bool(_LOADED)


def libraries() -> tuple[Path, ...]:
    """The shared libraries in use: the CPU one, then the CUDA one where torch has CUDA."""
    return _LOADED


def use_compiled(device_type: str) -> bool:
    """Whether a call with tensors on such a device goes to the compiled operator.

    Else it goes to the plain PyTorch form of the same numbers; a warning tells so, once a device.

    Args:
        device_type: as in torch: "cpu", "cuda", ...
    """
    if not _LOADED:
        return False  # told when glipkit.ops was imported
    if device_type in _DEVICES:
        return True
    _warn_slow(device_type)
    return False


@functools.cache
def _warn_slow(device_type: str) -> None:
    advice = "; with nvcc on PATH run: " + BUILD_COMMAND if device_type == "cuda" else ""
    warnings.warn(
        f"glipkit's operators are not built for {device_type}; the plain PyTorch forms are used, "
        f"which give the same numbers more slowly{advice}",
        stacklevel=4,
    )


def _load(folder: Path) -> tuple[Path, ...]:
    """Load the libraries in `folder`; warn when there is none. GLIPKIT_OPS=reference: none."""
    choice = os.environ.get("GLIPKIT_OPS", "compiled")
    if choice not in CHOICES:
        raise ValueError(f"GLIPKIT_OPS is {choice!r}; known: {', '.join(CHOICES)}")
    if choice == "reference":
        return ()
    paths = sorted(folder.glob("_C_cpu.*so"))
    if not paths:
        warnings.warn(
            "glipkit's compiled operators are not built; the plain PyTorch forms are used, which "
            f"give the same numbers more slowly. In a checkout of glipkit run: {BUILD_COMMAND}",
            stacklevel=2,
        )
        return ()
    if torch.version.cuda:
        paths += sorted(folder.glob("_C_cuda.*so"))
    for path in paths:
        _load_one(path)
    return tuple(paths)


def _load_one(path: Path) -> None:
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise ImportError(
            f"{path} does not load into torch {torch.__version__}: {error}\n"
            f"Build glipkit's operators anew: {BUILD_COMMAND}\n"
            "or set GLIPKIT_OPS=reference for the slower plain PyTorch forms"
        ) from error


_LOADED = _load(FOLDER)
_DEVICES = frozenset(
    ["cpu", "meta"] + ["cuda"] * any(path.name.startswith("_C_cuda") for path in _LOADED)
)
