"""Files in which users say something about classes: YAML or JSON, read without losing a line."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


class WordFileError(ValueError):
    """A file of words that cannot be read, or is of another form."""


def read_word_file(path: str | Path, *, what: str) -> tuple[Any, str]:
    """What a YAML or JSON file says, and its SHA-256 in hex.

    Args:
        path: `.json` is read as JSON, anything else as YAML.
        what: the file is, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        WordFileError: it is neither YAML nor JSON, or the same key stands twice in one place.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} {path} (looked in {Path.cwd()})")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WordFileError(
            f"{path}, a {what}, is not UTF-8 text ({error}); save it as UTF-8"
        ) from error
    try:
        if path.suffix.lower() == ".json":
            said = json.loads(text, object_pairs_hook=_each_once)
        else:
            said = yaml.load(text, _EachOnceLoader)  # a SafeLoader
    except WordFileError as error:
        raise WordFileError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
        raise WordFileError(f"{path} is not a {what}, not even {kind}: {error}") from error
    return said, hashlib.sha256(content).hexdigest()


def spelling(name: str) -> str:
    """What names have in common that differ only in case, underscores and spaces."""
    return " ".join(name.replace("_", " ").casefold().split())


class NameTable:
    """The names of a file, to be found in another case or spelling too.

    Args:
        names: as the file has them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._by_spelling: dict[str, list[str]] = {}
        for name in names:
            self._by_spelling.setdefault(spelling(name), []).append(name)

    def find(self, name: str) -> str | None:
        """The file's own name for a class; None if it has none.

        Raises:
            WordFileError: several names differ from it, and from each other, in case or spaces.
        """
        if name in self._names:
            return name
        alike = self._by_spelling.get(spelling(name), [])
        if len(alike) > 1:
            raise WordFileError(
                f"{name!r} could be any of {', '.join(map(repr, alike))}, which differ in case or "
                "spaces only; keep one of them, or spell it as the class is"
            )
        return alike[0] if alike else None


def quoted(names: Sequence[str], limit: int = 10) -> str:
    """Names for a message."""
    shown = ", ".join(map(repr, names[:limit]))
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping; readers of JSON and YAML keep the last of two equal keys and say nothing."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise WordFileError(f"{key!r} stands twice in the same place; keep one")
        found[key] = value
    return found


class _EachOnceLoader(yaml.SafeLoader):
    """YAML in which no key may stand twice; what is merged in (<<) may be said anew."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _each_once([(key.value, None) for key in keys if key.tag != _MERGE])
        return node
