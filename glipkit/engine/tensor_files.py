"""Named tensors in files: read without trusting them, write without ever leaving half a file."""

import logging
import pickle
import re
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glipkit.runtime.files import replacing_path

logger = logging.getLogger(__name__)

TORCH_SUFFIXES = (".pth", ".pt", ".bin")

# First bytes of what is found under the name of a checkpoint when a download or a copy went wrong.
_FOREIGN_BYTES = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive (unpack it first)",
    b"7z\xbc\xaf": "a 7z archive (unpack it first)",
    b"%PDF": "a PDF",
}
_ZIP = b"PK\x03\x04"
# torch.save before 1.6 starts with this number, pickled (protocol 2).
_LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."

# Numbers that numpy left beside the weights (a best metric, a learning rate). They hold bytes and
# run nothing; torch's own documentation allows exactly these.
_HARMLESS = [
    (np.dtype, "numpy.dtype"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    *(type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "u8", "?")),
]

# What Python's zipfile raises when it opens and reads a damaged file: RuntimeError where a bit says
# that it is encrypted or too new, ValueError where a name is no text, OSError where a place lies
# before the file's beginning.
DAMAGED_ZIP = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(RuntimeError, ValueError, EOFError, OSError),
)
# What unpickling a damaged file may raise: the list of Python's pickle documentation, and what
# torch's reader adds.
_DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    AssertionError,
)


class CheckpointError(ValueError):
    """A file of weights that cannot be used, with the reason and what to do about it."""


def read_tensors(path: str | Path, *, part: str | None = None) -> dict[str, Tensor]:
    """The named tensors of a checkpoint file, whatever wraps them.

    What the file is gets decided by its content, not by its suffix: safetensors, `torch.save`
    of today, or `torch.save` of torch 1.x. A `{"model": ...}` or `{"state_dict": ...}` around the
    weights is taken off (optimizer, scheduler and the like are left aside), and so is the
    `module.` that DistributedDataParallel puts before names. Nothing in the file is executed.

    Args:
        path: the file.
        part: which entry holds the weights, where it is neither `model` nor `state_dict`:
            `"model_ema"`, say, which is never taken without being asked for.

    Returns:
        Name -> tensor on the CPU. Memory is mapped where the format allows it: a tensor takes
        up memory once it is looked at.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is empty, truncated, not a checkpoint, not made of tensors, or asks
            to run code.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "safetensors":
        content: Any = _read_safetensors(path)
    else:
        content = _read_torch(path, is_zip=kind == "zip")
    return _strip_module(_weights_of(content, path, part), path)


def read_names(path: str | Path) -> list[str]:
    """The names in a checkpoint file, as `read_tensors` gives them; numbers are not looked at."""
    path = Path(path)
    if _kind(path) != "safetensors":
        return list(read_tensors(path))
    with _opened(path) as file:
        return list(_strip_module(dict.fromkeys(file.keys(), torch.empty(0)), path))


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a safetensors file says about itself; other checkpoint files say nothing."""
    path = Path(path)
    if _kind(path) != "safetensors":
        return {}
    with _opened(path) as file:
        return dict(file.metadata() or {})


def write_tensors(
    tensors: Mapping[str, Tensor],
    path: str | Path,
    *,
    wrap: str | None = "model",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named tensors to `path`, completely or not at all.

    Args:
        tensors: name -> tensor, on any device.
        path: `.safetensors`, or `.pth`, `.pt`, `.bin` for `torch.save`. Its folder is created.
        wrap: for `torch.save`: the key the tensors are put under; None for none.
        metadata: for safetensors: text that goes into the header.

    Raises:
        ValueError: the suffix is none of these.
        OSError: it could not be written, for lack of room, say; what was at `path` stands.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise ValueError(
            f"weights are written as .safetensors or {', '.join(TORCH_SUFFIXES)}, got {path}"
        )
    ready = _self_contained(tensors)
    with replacing_path(path) as draft:
        draft.touch()
        mode = draft.stat().st_mode
        try:
            if path.suffix == ".safetensors":
                save_file(ready, draft, metadata={"format": "pt", **(metadata or {})})
            else:
                torch.save({wrap: ready} if wrap else ready, draft)
        except (SafetensorError, RuntimeError) as error:  # what both make of the system's error
            needed = sum(tensor.nbytes for tensor in ready.values())
            free = shutil.disk_usage(path.parent).free
            raise OSError(
                f"cannot write {path}: it needs {needed / 1e9:.3f} GB, and {free / 1e9:.3f} GB are "
                f"free there ({str(error).splitlines()[0]}); make room and start again"
            ) from error
        # safetensors makes its files readable by their owner alone; this way the umask decides.
        draft.chmod(mode)


def _self_contained(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, and each with a storage of its own that holds nothing else."""
    ready: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() > tensor.nbytes:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        ready[name] = tensor
    return ready


def _kind(path: Path) -> str:
    """What the bytes say: safetensors, zip (torch.save) or legacy (torch.save of torch 1.x)."""
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}; {list_files(path.parent)}")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; a checkpoint is one file. {list_files(path)}")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes): the copy or download never began")
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(_ZIP):
        return _torch_zip(path, size)
    if head.startswith(_LEGACY_MAGIC):
        return "legacy"
    # The header's length comes first, so a safetensors file may begin with any byte, \x80 included.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    if head.startswith(b"\x80"):
        raise CheckpointError(
            f"{path} is a plain pickle, not a file of torch.save; it may run code, so it is "
            f"refused unread. {_RESAVE}"
        )
    raise CheckpointError(
        f"{path} is not a checkpoint but {_describe_foreign(head, size)}; expected the bytes of "
        "torch.save or safetensors. Fetch the file again"
    )


def _torch_zip(path: Path, size: int) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGED_ZIP as error:
        raise CheckpointError(
            f"{path} is truncated or damaged: it begins like a file of torch.save, but after "
            f"{size:,} bytes the directory at its end is missing or wrong ({error}). Fetch it again"
        ) from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript program, which holds code; expected a file of tensors. "
            "Save the state_dict() of the module it was made from"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a zip archive, but not of torch.save; it holds {_some(names)}. "
            "If the checkpoint is inside, unpack it first"
        )
    return "zip"


def _describe_foreign(head: bytes, size: int) -> str:
    for magic, what in _FOREIGN_BYTES.items():
        if head.startswith(magic):
            return what
    try:
        # The head may end in the middle of a character, at most three bytes before its end.
        text = head.decode("utf-8", errors="strict" if len(head) < 512 else "ignore").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.replace("\n", " ").replace("\t", " ").replace("\r", " ").isprintable():
        return f"something unknown of {size:,} bytes that begin with {head[:8].hex(' ')}"
    if text.startswith("version https://git-lfs"):
        return "a git-lfs pointer, the note that stands for a large file (run: git lfs pull)"
    line = " ".join(text.split())[:120]
    if re.match(r"<!doctype html|<html", text, flags=re.IGNORECASE):
        return f"a web page, often what a server answers instead of the file: {line!r}"
    return f"a text of {size:,} bytes that begins {line!r}"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is a safetensors file that is truncated or damaged ({error}), "
            f"{path.stat().st_size:,} bytes. Fetch it again"
        ) from error


_RESAVE = "If you trust where it comes from, load it once yourself and torch.save a dict of tensors"


def _read_torch(path: Path, *, is_zip: bool) -> Any:
    try:
        # warnings: torch announces what it thinks of old protocols; the outcome says enough.
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix == ".safetensors":  # torch would believe the name; the content says no
                with path.open("rb") as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(
            f"{path} begins like a file of torch.save, but is truncated or damaged ({reason}), "
            f"{path.stat().st_size:,} bytes. Fetch it again"
        ) from error


def _refusal(path: Path, torch_message: str) -> str:
    """Why torch would not unpickle: something that is not a tensor, or bytes that make no sense."""
    unsupported = re.search(r"(?:GLOBAL|class) ([\w.]+\.\w+)", torch_message)
    if unsupported:
        return (
            f"{path} is refused: besides tensors it holds {unsupported[1]}, and unpickling that "
            f"could run code. Nothing of it was executed. {_RESAVE}"
        )
    reason = re.search(r"WeightsUnpickler error:\s*(.+)", torch_message)
    return (
        f"{path} is refused: it is not made of tensors, or damaged "
        f"({reason[1] if reason else torch_message.splitlines()[0]}). Nothing of it was executed. "
        f"Fetch it again. {_RESAVE}"
    )


def _weights_of(content: Any, path: Path, part: str | None) -> dict[str, Any]:
    """The dict of weights in what the file held, with everything beside it left aside."""
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; expected a dict of named tensors, "
            'or {"model": such a dict}'
        )
    keys = [part] if part else ["model", "state_dict"]
    found = next((key for key in keys if isinstance(content.get(key), dict)), None)
    if found is not None:
        aside = [str(key) for key in content if key != found]
        if aside:
            logger.info("%s: reading %r, leaving aside %s", path, found, _some(aside))
        return content[found]
    if part or not any(isinstance(value, Tensor) for value in content.values()):
        wanted = f"no weights under {part!r}" if part else "no weights"
        ema = (
            "; pass part='model_ema' (convert: --part model_ema)" if "model_ema" in content else ""
        )
        raise CheckpointError(
            f'{path} holds {wanted}. Expected named tensors, or {{"model": named tensors}}; it '
            f"has the entries {_some([str(key) for key in content])}{ema}"
        )
    return content


def _strip_module(weights: dict[str, Any], path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: {name!r} among the weights is a {type(value).__name__}, not a tensor. "
                f"{_RESAVE}"
            )
        while name.startswith("module."):
            name = name.removeprefix("module.")
        if name in tensors:
            raise CheckpointError(
                f"{path} holds {name!r} twice, with and without 'module.' before it; "
                "nobody can say which of them is meant"
            )
        tensors[name] = value.detach()
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors at all")
    return tensors


def _some(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "nothing") + more


def list_files(folder: Path) -> str:
    """A sentence that says which files a folder holds."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(
        str(file.relative_to(folder)) for file in folder.iterdir() if file.name[0] != "."
    )
    return f"{folder} holds {_some(names, 12)}"
