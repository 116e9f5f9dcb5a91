"""Which files a model's name, folder or file means. Nothing is fetched."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from glipkit.engine.checkpoint import TUNED_BASE, TUNED_MODE
from glipkit.engine.run_folder import RUN
from glipkit.engine.tensor_files import list_files, read_metadata
from glipkit.engine.weights import PUBLISHED_REPOSITORY, find_here
from glipkit.inference.known import DEFAULT_THRESHOLD, KNOWN, SHIPPED, KnownModel
from glipkit.runtime.files import file_sha256

MODELS_VARIABLE = "GLIPKIT_MODELS"  # environment: a folder of weights, looked into before MODEL/

# What a run leaves (`glipkit.programs.training`), the best first; then what a model ships as.
_RUN_FILES = tuple(
    f"{name}.safetensors"
    for name in (
        *("model_best", "model_final_ema", "model_final"),
        *("tuned_best", "tuned_final_ema", "tuned_final", "model"),
    )
)
_PUBLISHED = f"https://huggingface.co/{PUBLISHED_REPOSITORY}"
_CONFIG = "config.yaml"
_YAML = (".yaml", ".yml")
_FILE_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", *_YAML)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a model is made from."""

    name: str
    config: Path | None  # None: to be told from the weights
    weights: Path
    tuned: Path | None = None  # what fine-tuning saved on top of them
    default_threshold: float = DEFAULT_THRESHOLD

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file, by what it is: the answers depend on nothing else of a model."""
        files = {"config": self.config, "weights": self.weights, "tuned": self.tuned}
        return {part: file_sha256(path) for part, path in files.items() if path is not None}


def find_model(
    model: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> ModelFiles:
    """The files that `model` means.

    Args:
        model: a name of `KNOWN`; the folder of a run, with config.yaml and weights; a file of
            weights, with a config.yaml beside it or without; or a YAML file, with `weights`.
        weights: other weights than those that go with `model`, or what was tuned on top of them;
            with the folder of a run that tuned a part, what it was tuned of: a path, or a name in
            the folder of models.

    Raises:
        FileNotFoundError: a file is not on this machine; says which, and where it goes.
        TypeError: `model` is neither text nor a path.
        ValueError: there is no such name, or the two arguments do not go together.
    """
    if not isinstance(model, str | os.PathLike):
        raise TypeError(f"a model is a name, a folder or a file, got {model!r}")
    text = os.fspath(model)
    if (key := known_key(model)) is not None:
        return _known(key, weights)
    path = Path(text).expanduser()
    if text and path.is_dir():  # Path("") is the folder one is in
        return _from_folder(path, weights)
    if path.suffix.lower() in _YAML and path.is_file():
        if weights is None:
            raise ValueError(
                f"{path} describes a model; pass its weights too, glipkit.load({str(path)!r}, "
                "weights=FILE), or a folder with both, its config.yaml beside its weights"
            )
        return _with_base(path.stem, path, _given(weights))
    if path.is_file():
        if weights is not None:
            raise ValueError(f"{path} is a file of weights already; got {weights} as well")
        return _from_file(path)
    _refuse(model, text, path)


def known_key(model: str | os.PathLike[str]) -> str | None:
    """Under which name of `KNOWN` a model goes: "GLIP_T" is "glip-t"; None for a path."""
    if not isinstance(model, str):
        return None
    key = model.lower().replace("_", "-")
    return key if key in KNOWN else None


def model_folders() -> Iterator[Path]:
    """Where weights, vocabularies and text encoders are looked for, in this order."""
    if os.environ.get(MODELS_VARIABLE):
        yield Path(os.environ[MODELS_VARIABLE])
    yield Path("MODEL")


def _known(key: str, weights: str | os.PathLike[str] | None) -> ModelFiles:
    known = KNOWN[key]
    if weights is not None:
        found = _given(weights)
    elif (SHIPPED / known.weights).parent != SHIPPED:  # in a folder of its own
        found = SHIPPED / known.weights
        if not found.is_file():
            raise FileNotFoundError(
                f"{found} is missing, which comes with glipkit; install glipkit again (in a "
                f"checkout: git checkout -- glipkit/models)"
            )
    else:
        found = _find(Path(known.weights).stem)
        if found is None:
            raise FileNotFoundError(_where_to_put(key, known))
    files = _with_base(key, known.config_file, found)
    return replace(files, default_threshold=known.default_threshold)


def _find(name: str | os.PathLike[str]) -> Path | None:
    return find_here(name, tuple(model_folders()))


def _given(weights: str | os.PathLike[str]) -> Path:
    path = _find(Path(weights).expanduser())
    if path is None:
        raise FileNotFoundError(f"no weights {os.fspath(weights)!r}: {_looked_in()}")
    return path


def _looked_in() -> str:
    return "looked into: " + "; ".join(list_files(folder.absolute()) for folder in model_folders())


def _where_to_put(key: str, known: KnownModel) -> str:
    place = next(model_folders()).absolute() / known.weights
    return (
        f"the weights of {key} are not on this machine, and nothing is downloaded here. Fetch "
        f"{known.weights} from {_PUBLISHED} and put it at {place} "
        f"(or into the folder that {MODELS_VARIABLE} names, or pass weights=FILE; {_looked_in()}). "
        "glipkit.load('nano') needs no download"
    )


def _from_folder(folder: Path, weights: str | os.PathLike[str] | None) -> ModelFiles:
    config = folder / _CONFIG
    if not config.is_file():
        raise FileNotFoundError(
            f"{folder} is no folder of a run: it has no {_CONFIG}; {list_files(folder)}"
        )
    name = folder.resolve().name
    present = [folder / each for each in _RUN_FILES if (folder / each).is_file()]
    if weights is not None:
        inside = folder / weights
        if inside.is_file() and not Path(weights).is_absolute():
            return _with_base(name, config, inside)
        given = _given(weights)
        if present and not _is_tuned(given) and _is_tuned(present[0]):
            return ModelFiles(name, config, given, tuned=present[0])
        return _with_base(name, config, given)
    if not present:
        raise FileNotFoundError(
            f"{folder} has no weights: expected one of {', '.join(_RUN_FILES)}; "
            f"{list_files(folder)}. Name the file: weights=FILE"
        )
    return _with_base(name, config, present[0])


def _from_file(path: Path) -> ModelFiles:
    config = path.parent / _CONFIG
    return _with_base(path.stem, config if config.is_file() else None, path)


def _with_base(name: str, beside: Path | None, weights: Path) -> ModelFiles:
    """Weights as they are, or what fine-tuning saved and the weights beneath it."""
    said = read_metadata(weights)
    if TUNED_MODE not in said:
        return ModelFiles(name, beside, weights)
    base = said.get(TUNED_BASE, "")
    if beside is None:
        raise FileNotFoundError(
            f"{weights} holds what was tuned of {base or 'a model'} and needs the {_CONFIG} of its "
            "run beside it"
        )
    found = _find_base(base, weights) if base else None
    if found is None:
        raise FileNotFoundError(
            f"{weights} holds what was tuned of {base or 'weights without a file'}, which is not "
            f"beside it; {_looked_in()}. Put it into one of these folders, or pass the folder of "
            "the run with weights=FILE"
        )
    return ModelFiles(name, beside, found, tuned=weights)


def _is_tuned(weights: Path) -> bool:
    return TUNED_MODE in read_metadata(weights)


def _find_base(name: str, tuned: Path) -> Path | None:
    """What something was tuned of; whether it is the same is for its hash to say."""
    beside, begun = tuned.parent / name, _began_from(tuned.parent)
    if beside.is_file():
        return beside
    if begun is not None and begun.name == name and begun.is_file():
        return begun
    shipped = (SHIPPED / known.weights for known in KNOWN.values())
    return _find(name) or next((p for p in shipped if p.name == name and p.is_file()), None)


def _began_from(folder: Path) -> Path | None:
    """The weights that the run of a folder noted to have started from."""
    try:
        weight = json.loads((folder / RUN).read_bytes())["settings"]["--weight"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is no run, or another program's
    return Path(weight) if isinstance(weight, str) and weight else None


def _refuse(model: str | os.PathLike[str], text: str, path: Path) -> NoReturn:
    """Say what a name or path that means nothing probably should have been."""
    if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
        raise ValueError(f"{text} is an address, and nothing is fetched here; pass a file")
    has_folder = "/" in text or os.sep in text or text.startswith(("~", "."))
    if has_folder or not isinstance(model, str) or text.lower().endswith(_FILE_SUFFIXES):
        published = [key for key, known in KNOWN.items() if known.weights == path.name]
        hint = f"; the published {published[0]} is at {_PUBLISHED}" if published else ""
        raise FileNotFoundError(
            f"no model {path}: there is no such file or folder in {Path.cwd()}{hint}"
        )
    nearest = get_close_matches(text.lower(), KNOWN, n=len(KNOWN), cutoff=0.0)
    raise ValueError(
        f"unknown model {text!r}; known are {', '.join(nearest)}; or pass the folder of a run, or "
        "a file of weights (.pth, .safetensors)"
    )
