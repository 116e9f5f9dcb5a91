"""Where weights are: a path, the MODEL folder, the hub's cache, or the hub itself."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from glipkit.engine.tensor_files import CheckpointError, list_files
from glipkit.grounding.language_files import ROOTS
from glipkit.runtime.files import file_sha256

logger = logging.getLogger(__name__)

# The authors' files, and the repository they put them into.
PUBLISHED_REPOSITORY = "GLIPModel/GLIP"
PUBLISHED_FILES = (
    "glip_tiny_model_o365_goldg_cc_sbu.pth",
    "glip_tiny_model_o365_goldg.pth",
    "glip_tiny_model_o365.pth",
    "glip_a_tiny_o365.pth",
    "glip_large_model.pth",
)
# The image encoders that the published configurations start pre-training from, and where on the hub
# timm keeps the same weights.
SWIN_FILES = {
    "swin_tiny_patch4_window7_224.pth": "hf://timm/swin_tiny_patch4_window7_224.ms_in1k",
    "swin_large_patch4_window12_384_22k.pth": "hf://timm/swin_large_patch4_window12_384.ms_in22k",
}
# The hub's client has been requests and httpx; its own error derives from theirs.
_NETWORK_ERRORS = (OSError, *HfHubHTTPError.__bases__)
_SUFFIXES = ("", ".safetensors", ".pth")


def find_weights(
    spec: str | Path, root: str | Path = "MODEL", *, sha256: str | None = None
) -> Path:
    """The file that is meant by `spec`, fetched from the hub if it is nowhere on this machine.

    Looked up in this order: the path itself; the name, with or without suffix, in `root`; the
    hub's cache; the hub, unless HF_HUB_OFFLINE is set. The hub is asked for the published GLIP
    files by their names, and for anything named `hf://owner/repository/file`.

    A fresh download is compared with the SHA-256 that the hub has on record for the file; a file
    found locally is not hashed again, unless `sha256` is given. The authors published no checksums
    to compare with.

    Args:
        spec: a path, a file name, or `hf://owner/repository/file`.
        root: the folder of weights.
        sha256: the checksum the file must have, 64 hexadecimal digits.

    Raises:
        FileNotFoundError: the file is nowhere; the message says what to put where.
        CheckpointError: its checksum is wrong.
        ValueError: `spec` is empty, or `sha256` is no checksum.
    """
    if not str(spec):
        raise ValueError("no weights were named; pass --weight FILE or set MODEL.WEIGHT")
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"a SHA-256 has 64 hexadecimal digits, got {sha256!r}")
    path = _local(str(spec), Path(root)) or _from_hub(str(spec), Path(root))
    if sha256 is not None:
        _verify(path, sha256.lower(), "you gave")
    return path


def find_here(spec: str | Path, roots: Sequence[str | Path] = ROOTS) -> Path | None:
    """As `find_weights`, but nobody is asked: the path, the name in `roots`, or the hub's cache.

    Args:
        spec: as for `find_weights`.
        roots: the folders of weights, in the order they are looked into.

    Returns:
        None if it is nowhere on this machine.

    Raises:
        FileNotFoundError: `spec` is a folder.
    """
    here = [_local(str(spec), Path(root)) for root in roots]
    here += [_cached(*_hub_address(str(spec), Path(root))) for root in roots]
    return next((path for path in here if path is not None), None)


def _local(spec: str, root: Path) -> Path | None:
    if Path(spec).is_dir():
        raise FileNotFoundError(f"{spec} is a folder; name one file. {list_files(Path(spec))}")
    candidates = [Path(spec), *(root / f"{spec}{suffix}" for suffix in _SUFFIXES)]
    return next((path for path in candidates if path.is_file()), None)


def _from_hub(spec: str, root: Path) -> Path:
    repository, name = _hub_address(spec, root)
    if repository is None:
        raise FileNotFoundError(f"no weights {spec!r}: {_advice(spec, root)}")
    if cached := _cached(repository, name):
        return cached
    if constants.HF_HUB_OFFLINE:
        raise FileNotFoundError(
            f"no weights {spec!r}: {_advice(name, root)} The network was not tried, because "
            "HF_HUB_OFFLINE is set"
        )
    logger.info("fetching %s of https://huggingface.co/%s", name, repository)
    try:
        # Asked first because it does not retry for half a minute where there is no network.
        record = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, name))
        path = Path(huggingface_hub.hf_hub_download(repository, name))
    except _NETWORK_ERRORS as error:
        raise FileNotFoundError(
            f"no weights {spec!r}: {_advice(name, root)} The hub gave no file: "
            f"{type(error).__name__}: {str(error).split(chr(10))[0]}"
        ) from error
    if re.fullmatch("[0-9a-f]{64}", record.etag or ""):
        _verify(path, record.etag, "the hub has on record")
    else:
        logger.warning("the hub has no SHA-256 on record for %s; it was not verified", path)
    return path


def _cached(repository: str | None, name: str) -> Path | None:
    """What was fetched before."""
    cached = huggingface_hub.try_to_load_from_cache(repository, name) if repository else None
    if not isinstance(cached, str):
        return None
    logger.info("weights from the hub's cache: %s", cached)
    return Path(cached)


def _hub_address(spec: str, root: Path) -> tuple[str | None, str]:
    """The repository and the file in it; (None, spec) for a name that the hub is not asked for."""
    if spec.startswith("hf://"):
        owner, _, rest = spec.removeprefix("hf://").partition("/")
        repository, _, name = rest.partition("/")
        if not (owner and repository and name):
            raise ValueError(f"expected hf://owner/repository/file, got {spec!r}")
        return f"{owner}/{repository}", name
    folder, name = Path(spec).parent, Path(spec).name
    name = name if name.endswith(".pth") else f"{name}.pth"
    # A path to somewhere else was meant as that: nobody asked for a download of gigabytes.
    if name in PUBLISHED_FILES and folder in (Path(), root):
        return PUBLISHED_REPOSITORY, name
    return None, spec


def _verify(path: Path, expected: str, origin: str) -> None:
    actual = file_sha256(path)
    if actual != expected:
        raise CheckpointError(
            f"{path} has SHA-256 {actual}, not the {expected} that {origin}: the file is damaged "
            "or another one. Delete it and fetch it again"
        )
    logger.info("%s: SHA-256 verified", path)


def _advice(spec: str, root: Path) -> str:
    name = Path(spec).name
    if name in SWIN_FILES:
        return (
            f"it is the image encoder that pre-training starts from; {list_files(root.absolute())}."
            f" Put the file of https://github.com/microsoft/Swin-Transformer at {root / name}, or "
            f"set MODEL.WEIGHT {SWIN_FILES[name]}/model.safetensors. To evaluate or fine-tune, "
            f"name a GLIP with --weight: {', '.join(PUBLISHED_FILES)}."
        )
    return (
        f"it is neither a path nor in {root}; {list_files(root.absolute())}. Put the file at "
        f"{root / name}, or pass the path of one with --weight. Published files: "
        f"{', '.join(PUBLISHED_FILES)} (https://huggingface.co/{PUBLISHED_REPOSITORY})."
    )
