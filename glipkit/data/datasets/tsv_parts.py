"""The small files beside the pictures and boxes of a TSV dataset; tsv.py describes them all."""

import json
from pathlib import Path

import numpy as np
import yaml

from glipkit.data.datasets.json_values import is_integer

BACKGROUND = "__background__"
_NEEDED = ("img", "label", "labelmap")
_OPTIONAL = ("hw", "linelist")


def read_parts(path: Path) -> dict[str, Path]:
    """The files that a YAML file names: img, label, labelmap, and hw and linelist if it has them.

    Raises:
        FileNotFoundError: there is no YAML file.
        ValueError: it is no YAML, lacks a file, or is of the kind that mixes several TSV files.
    """
    try:
        said = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    said = said if isinstance(said, dict) else {}
    missing = [part for part in _NEEDED if not said.get(part)]
    if missing:
        raise ValueError(
            f"{path} must name the files {', '.join(_NEEDED)}, but has no "
            f"{' and no '.join(missing)} (keys found: {', '.join(map(str, said)) or 'none'})"
        )
    if said.get("composite"):
        raise ValueError(f"{path} is composite (pictures of several TSV files), which is not read")
    present = (part for part in (*_NEEDED, *_OPTIONAL) if said.get(part))
    return {part: path.parent / str(said[part]) for part in present}


def read_label_map(path: Path) -> dict[int, str]:
    """Class ids and names of a label map, by ascending id, BACKGROUND at 0.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it lists no class, a class or an id twice, or other ids than numbers from 1.
    """
    text = _text(path)
    pairs = _json_pairs(path, text) if path.suffix == ".json" else _line_pairs(text)
    pairs = [pair for pair in pairs if pair != (0, BACKGROUND)]
    sound = all(number > 0 and name.strip() and name != BACKGROUND for number, name in pairs)
    is_once = all(len(set(column)) == len(column) for column in zip(*pairs))
    if not pairs or not sound or not is_once:
        raise ValueError(
            f"{path} must list at least one class, each once, with ids from 1 "
            f"({BACKGROUND} may have 0)"
        )
    return {0: BACKGROUND, **dict(sorted(pairs))}


def read_sizes(path: Path) -> np.ndarray:
    """(rows, 2) int32, height and width in pixels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row says neither "height width" nor JSON with the two.
    """
    sizes = []
    for number, line in enumerate(_lines(_text(path)), start=1):
        try:
            sizes.append(_size(line.split("\t")[-1].strip()))
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(
                f'{path}:{number} must be a key, a tab and "height width", got {line[:80]!r}'
            ) from None
    return np.array(sizes, dtype=np.int32).reshape(-1, 2)


def read_lines(path: Path) -> np.ndarray:
    """(pictures,) int64, rows of the TSV files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no number.
    """
    try:
        return np.array(_lines(_text(path))).astype(np.int64)
    except ValueError:
        raise ValueError(
            f"{path} must hold one row number to a line; lists that choose among several TSV files "
            "(composite: true) are not read"
        ) from None


def _size(said: str) -> tuple[int, int]:
    if not said.startswith(("{", "[")):
        height, width = map(int, said.split())
        return height, width
    content = json.loads(said)
    content = content[0] if isinstance(content, list) else content
    return int(content["height"]), int(content["width"])


def _json_pairs(path: Path, text: str) -> list[tuple[int, str]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    content = content.get("label_to_idx", content) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not all(map(is_integer, content.values())):
        raise ValueError(f'{path} must be like {{"cat": 1, "dog": 2}}')
    return [(number, name) for name, number in content.items()]


def _line_pairs(text: str) -> list[tuple[int, str]]:
    names = [line.split("\t")[0] for line in _lines(text)]
    first = 0 if names[:1] == [BACKGROUND] else 1
    return list(enumerate(names, start=first))


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path.absolute()}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from None
